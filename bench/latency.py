"""Latency: a pace flows in; the milliseconds from before XADD until another connection sees the row flow out.

A process of its own sends; this one asks Postgres over and over for the ids of the last moments and notes
when it sees one for the first time. So each value is up to a pause and a query too high, about a
millisecond, and the asking takes a part of the machine from those who are measured. Nothing is subtracted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from bench import crew, readings
from bench.case import Group
from bench.crew import Process
from bench.house import BenchError, House
from bench.readings import Reading
from bench.scale import Scale
from pipeline.event import datetime_of

SECTION: Final = "latency"

# At 1 and 100 events a second; at more, entries wait for the batch before them.
_P50_GOAL_MS: Final = 10.0
_P50_GOAL_UP_TO: Final = 100
_P99_GOAL_MS: Final = 50.0
_PAUSE_S: Final = 0.0005
# A consumer stores in the order of the stream; within a batch, and a millisecond, ids come in any.
_LOOK_BACK_MS: Final = 20
# For the sender to start, and for the last event to arrive.
_PATIENCE_S: Final = 20.0
PREPARE: Final = "prepare seen as select id from game_events where ts >= $1"
SEEN: Final = "execute seen (%s)"


def groups(house: House, scale: Scale) -> Iterator[Group]:
    """One pace after the other, a consumer each."""
    house.keep(0)
    for pace, seconds in scale.latency_s:
        at = f"at {pace:,} events/s"
        p50, p99 = f"p50 {at}", f"p99 {at}"
        goal = _P50_GOAL_MS if pace <= _P50_GOAL_UP_TO else None
        found = (Reading(p50, "ms", goal), Reading(p99, "ms", _P99_GOAL_MS))
        measure = partial(_measured, house, pace, seconds, p50, p99)
        yield Group(readings.cases(measure, found), scale.slow_rounds)


def _measured(house: House, pace: int, seconds: float, p50: str, p99: str) -> Mapping[str, float]:
    waits_ms = sorted(waits(house, pace, max(2, int(pace * seconds))))
    return {p50: quantile(waits_ms, 0.5), p99: quantile(waits_ms, 0.99)}


def quantile(ascending: list[float], share: float) -> float:
    """The value that so great a share of all does not exceed. Pure."""
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))]


def waits(house: House, pace: int, count: int) -> list[float]:
    """How long each event was on its way, in milliseconds."""
    house.empty()
    moments = house.logs / f"moments-{time.monotonic_ns()}"
    arguments = ("--rate", str(pace), "--count", str(count), "--moments", str(moments))
    with (
        crew.consumers(house, 1) as (consumer,),
        crew.working(house, "bench.sender", *arguments) as sender,
    ):
        seen = _seen(house, count, count / pace + _PATIENCE_S, consumer)
        crew.finished(sender, _PATIENCE_S)
    return [(seen[event_id] - sent) / 1e6 for event_id, sent in _moments(moments)]


def _seen(house: House, count: int, at_most_s: float, consumer: Process) -> Mapping[str, int]:
    """When each of so many events was seen first, by id."""
    seen: dict[str, int] = {}
    newest_ms = time.time_ns() // 1_000_000
    deadline_s = time.monotonic() + at_most_s
    with house.connected(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(PREPARE)
        while len(seen) < count:
            cursor.execute(SEEN, (datetime_of(newest_ms - _LOOK_BACK_MS),))
            rows, now = cursor.fetchall(), time.monotonic_ns()
            for (event_id,) in rows:
                if event_id not in seen:
                    seen[event_id] = now
                    newest_ms = max(newest_ms, _ms(event_id))
            if time.monotonic() > deadline_s:
                missing = count - len(seen)
                raise BenchError(f"{missing} of {count} events did not become rows in time.")
            consumer.require_alive()
            time.sleep(_PAUSE_S)
    return seen


def _ms(event_id: str) -> int:
    """A UUIDv7 begins with its time."""
    return int(event_id.replace("-", "")[:12], 16)


def _moments(path: Path) -> list[tuple[str, int]]:
    lines = path.read_text(encoding="ascii").splitlines()
    return [(event_id, int(moment)) for event_id, moment in map(str.split, lines)]
