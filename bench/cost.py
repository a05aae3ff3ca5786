"""Cost: a consumer with hardly anything to do flows in; its CPU, memory and start-up time flow out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from bench import crew, proc, readings
from bench.case import Case, Group
from bench.house import House
from bench.readings import Reading
from bench.scale import Scale
from bench.workload import HOUR_MS, simulated
from pipeline.event import encode
from pipeline.stream import Stream

SECTION: Final = "cost"

_CPU = Reading("CPU at 1 event/s", "% of a core", 0.5)
_MEMORY = Reading("memory at 1 event/s", "MB", 60.0)
_AT_MOST_S: Final = 30.0
_POLL_S: Final = 0.002
HAS_ROWS: Final = "select exists (select from game_events where ts >= now() - interval '2 hours')"


def groups(house: House, scale: Scale) -> Iterator[Group]:
    """At rest, and at the start."""
    house.keep(0)
    start = Case(
        "start to first row",
        lambda: start_s(house),
        "s",
        goal=0.7,
        higher_is_better=False,
    )
    yield Group((start,), scale.rounds)
    measure = partial(idle, house, scale.idle_s)
    yield Group(readings.cases(measure, (_CPU, _MEMORY)), scale.slow_rounds)


def idle(house: House, seconds: float) -> Mapping[str, float]:
    """A consumer that gets an event a second; its start is not counted."""
    house.empty()
    moments = str(house.logs / "moments-idle")
    # It sends for longer than we look.
    count = str(int(seconds) + 10)
    with (
        crew.consumers(house, 1) as (consumer,),
        crew.working(house, "bench.sender", "--rate", "1", "--count", count, "--moments", moments),
    ):
        crew.wait_until(lambda: _has_rows(house), "An event is stored", [], within_s=_AT_MOST_S)
        cpu_s, begun_s = proc.cpu_s(consumer.pid), time.monotonic()
        time.sleep(seconds)
        share = (proc.cpu_s(consumer.pid) - cpu_s) / (time.monotonic() - begun_s)
        memory_bytes = proc.resident_bytes(consumer.pid)
    return {_CPU.name: 100 * share, _MEMORY.name: memory_bytes / 1e6}


def start_s(house: House) -> float:
    """From the start of the process until the entry that waited for it is a row."""
    house.empty()
    now_ms = time.time_ns() // 1_000_000
    Stream(house.client).append([encode(event) for event in simulated(1, now_ms - HOUR_MS, now_ms)])
    begun_s = time.perf_counter()
    with crew.working(house, "consumer") as consumer:
        crew.wait_until(
            lambda: _has_rows(house),
            "The first row is there",
            [consumer],
            within_s=_AT_MOST_S,
            poll_s=_POLL_S,
        )
        return time.perf_counter() - begun_s


def _has_rows(house: House) -> bool:
    with house.connected(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(HAS_ROWS)
        (found,) = cursor.fetchone() or (False,)
        return bool(found)
