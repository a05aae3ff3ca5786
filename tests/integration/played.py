"""A history for the dashboards' tests: a seed flows in, its events and plain counts of them flow out.

It knows nothing of the rollups and the SQL that it is compared with.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, TypeVar

from pipeline.event import Event
from producer import game
from producer.simulate import DAY_MS, HOUR_MS, MINUTE_MS, history, population
from producer.truth import truth
from tests.integration.consuming import now_ms

SEED: Final = 7
PLAYERS: Final = 50
DAYS: Final = 24
DAY: Final = timedelta(days=1)
# The last whole day of the history is yesterday.
START_MS: Final = (now_ms() // DAY_MS - DAYS) * DAY_MS
FIRST: Final = datetime.fromtimestamp(START_MS / 1000, UTC).date()
LAST: Final = FIRST + (DAYS - 1) * DAY
ALL: Final = "90"  # days, more than were played
GAME: Final = tuple(mission.name for mission in game.MISSIONS)
_SIDE: Final = {
    "Infamous": "villain", "Outlaw": "villain", "Thug": "villain", "Neutral": "neutral",
    "Guardian": "hero", "Champion": "hero", "Hero": "hero",
}  # fmt: skip

Details = dict[str, Any]


@functools.cache
def events() -> tuple[Event, ...]:
    """All of it, in the order of time."""
    players = population(SEED, PLAYERS, START_MS, DAYS)
    return tuple(event for _, event in history(players, START_MS + DAYS * DAY_MS))


@functools.cache
def realised() -> Details:
    """What the simulator knows of it."""
    found: Details = truth(SEED, PLAYERS, START_MS, DAYS)["realised"]
    return found


def details(event: Event) -> Details:
    """What the event says beyond its columns."""
    assert event.details is not None
    found: Details = json.loads(bytes(event.details))
    return found


def day_of(event: Event) -> date:
    """The UTC day on which it happened."""
    return _day(event.ts_ms)


def _day(ts_ms: int) -> date:
    return FIRST + timedelta(days=(ts_ms - START_MS) // DAY_MS)


def between(first: date, last: date) -> list[Event]:
    """What happened from one day to another, both included."""
    return [event for day, of in _by_day().items() if first <= day <= last for event in of]


@functools.cache
def _by_day() -> dict[date, list[Event]]:
    return grouped(events(), day_of)


T = TypeVar("T")


def grouped(things: Iterable[T], key: Callable[[T], Any]) -> dict[Any, list[T]]:
    """Things by what they have in common."""
    found: defaultdict[Any, list[T]] = defaultdict(list)
    for thing in things:
        found[key(thing)].append(thing)
    return dict(found)


def side_of(rank: str) -> str:
    """The side that a rank is on."""
    return _SIDE[rank]


@functools.cache
def sides(until: date) -> dict[str, str]:
    """Each player's side by the rank of its last event up to a day."""
    return {event.player: side_of(event.rank) for event in between(FIRST, until)}


def is_of(side: str, player: str, until: date) -> bool:
    """Whether a player is of a side, or everyone is."""
    return side in {"everyone", sides(until)[player]}


@functools.cache
def active_days(until: date = LAST) -> dict[str, set[date]]:
    """The days up to one on which each player did anything."""
    found = grouped(between(FIRST, until), lambda event: event.player)
    return {player: {day_of(event) for event in of} for player, of in found.items()}


@dataclass(frozen=True)
class Run:
    """A mission played once by a player: up to its completion, or so far."""

    player: str
    mission: str
    playthrough: int
    events: tuple[Event, ...]

    @property
    def is_completed(self) -> bool:
        """Whether it came to its end."""
        return self.events[-1].action == "mission_complete"

    @property
    def begun_on(self) -> date:
        """The day of its first event."""
        return day_of(self.events[0])

    def completed_on(self, until: date = LAST) -> date | None:
        """The day of its completion, if that was up to a day."""
        last = day_of(self.events[-1])
        return last if self.is_completed and last <= until else None

    def count(self, action: str) -> int:
        """How many events of a kind it has."""
        return sum(event.action == action for event in self.events)

    @property
    def hours_played(self) -> float:
        """All of half an hour or less; of a longer one what lies within an hour of the clock."""
        first, last = self.events[0].ts_ms, self.events[-1].ts_ms
        if last - first <= 30 * MINUTE_MS:
            return (last - first) / HOUR_MS
        by_hour = grouped(self.events, lambda event: event.ts_ms // HOUR_MS)
        return sum(of[-1].ts_ms - of[0].ts_ms for of in by_hour.values()) / HOUR_MS


@functools.cache
def runs() -> tuple[Run, ...]:
    """All runs, in the order in which they began."""
    found = grouped(
        events(), lambda e: (e.player, details(e)["mission"], details(e)["playthrough"])
    )
    return tuple(
        Run(player, mission, playthrough, tuple(of))
        for (player, mission, playthrough), of in found.items()
    )
