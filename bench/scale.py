"""The scale: quick or full flows in, how much of everything is measured flows out. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

_ROW_BYTES: Final = 400
# An event goes through both servers' logs many times over.
_LOGGED_BYTES: Final = 10_000


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    # Rounds of what takes long and has no limit to be compared with.
    slow_rounds: int
    # Events that a drain begins with.
    events: int
    # Events that are simulated and sent, which is fast.
    sent_events: int
    # Rows that are there already; the first is none.
    growth_rows: tuple[int, ...]
    # Whether the hot path is measured on a table that holds rows, too: so many; 0 for not at all.
    grown_rows: int
    # Rows under the questions of the dashboard.
    read_rows: int
    # By events a second, how many seconds of them.
    latency_s: tuple[tuple[int, float], ...]
    idle_s: float
    # Events of each job queue and framework that is measured beside us.
    peer_events: int

    @property
    def disk_bytes(self) -> int:
        """What the servers' files may come to: the rows with their index, and both servers' logs."""
        rows = max(*self.growth_rows, self.grown_rows, self.read_rows)
        return _ROW_BYTES * rows + _LOGGED_BYTES * self.events


FULL: Final = Scale(
    rounds=5,
    slow_rounds=3,
    events=200_000,
    sent_events=500_000,
    growth_rows=(0, 5_000_000, 20_000_000),
    grown_rows=5_000_000,
    read_rows=10_000_000,
    latency_s=((1, 20.0), (100, 5.0), (1000, 5.0)),
    idle_s=20.0,
    peer_events=20_000,
)
QUICK: Final = Scale(
    rounds=3,
    slow_rounds=1,
    events=40_000,
    sent_events=100_000,
    growth_rows=(0, 100_000),
    grown_rows=0,
    read_rows=100_000,
    latency_s=((1, 3.0), (100, 2.0), (1000, 2.0)),
    idle_s=4.0,
    peer_events=6_000,
)


def tiny(scale: Scale, events: int) -> Scale:
    """So few that nothing but whether it works can be seen."""
    return replace(
        scale,
        events=events,
        sent_events=events,
        growth_rows=(0, events),
        read_rows=events,
        latency_s=((10, 0.5),),
        idle_s=0.5,
        peer_events=events,
    )
