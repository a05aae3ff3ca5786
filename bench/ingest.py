"""The hot path: stream to table, on an empty table and on one that holds rows; rates flow out.

The limit is what Postgres takes of the same rows, made ready before the clock starts, by binary COPY on one
connection, with as many rows a transaction as a consumer stores at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bench import drain
from bench.case import Case, Group
from bench.house import House, chunks, copy_all
from bench.scale import Scale
from bench.workload import PLAYERS
from producer.outbox import ARRAY_EVENTS

SECTION: Final = "hot path"
_RATE: Final = "events/s"


def groups(house: House, scale: Scale) -> Iterator[Group]:
    """On an empty table, then on a grown one."""
    house.keep(0)
    yield Group(cases(house, scale.events), scale.rounds)
    if scale.grown_rows:
        house.keep(scale.grown_rows)
        at = f", {scale.grown_rows:,} rows before"
        yield Group(cases(house, scale.events, at), scale.rounds)
        house.keep(0)
    house.forget_workloads()


def cases(house: House, events: int, at: str = "") -> tuple[Case, ...]:
    """Raw COPY and what is compared with it; ``at`` is added to each name."""
    limit, one = f"raw COPY{at}", f"one consumer{at}"
    shared = f", {ARRAY_EVENTS} events an entry{at}"
    return (
        Case(limit, lambda: copy_rate(house, events), _RATE),
        Case(one, lambda: load_rate(house, events, 1), _RATE, limit, 0.45),
        Case(f"two consumers{at}", lambda: load_rate(house, events, 2), _RATE, limit, 0.60),
        Case(f"one consumer{shared}", lambda: shared_rate(house, events, 1), _RATE, limit, 0.45),
        Case(f"two consumers{shared}", lambda: shared_rate(house, events, 2), _RATE, limit, 0.60),
        Case(f"every row there already{at}", lambda: again_rate(house, events), _RATE, one, 0.45),
        Case(f"1 % refused{at}", lambda: refused_rate(house, events), _RATE, one, 0.9),
    )


def copy_rate(house: House, events: int) -> float:
    """Rows a second by COPY alone."""
    ready = list(chunks(house.clean(events, players=PLAYERS).events))
    house.empty()
    return events / copy_all(house, ready)


def load_rate(house: House, events: int, consumers: int, players: int = PLAYERS) -> float:
    """Events a second when none is stored yet."""
    workload = house.clean(events, players=players)
    house.empty()
    return drain.rate(house, workload, consumers)


def shared_rate(house: House, events: int, consumers: int) -> float:
    """Events a second when many share an entry, as many as our own producer puts into one."""
    workload = house.clean(events, players=PLAYERS, share=ARRAY_EVENTS)
    house.empty()
    return drain.rate(house, workload, consumers)


def again_rate(house: House, events: int) -> float:
    """Events a second when all are stored already."""
    workload = house.clean(events, players=PLAYERS)
    house.empty()
    copy_all(house, chunks(workload.events))
    return drain.rate(house, workload, 1)


def refused_rate(house: House, events: int) -> float:
    """Events a second when one in a hundred is refused."""
    workload = house.partly_refused(events, players=PLAYERS)
    house.empty()
    return drain.rate(house, workload, 1)
