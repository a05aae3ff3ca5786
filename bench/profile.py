"""Where the time goes: a drain flows in; CPU of each process, and of each step of a consumer, flows out.

The steps are timed one after the other through the functions that the consumer calls; there they overlap.
"""

from __future__ import annotations

import gc
import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Final

import psycopg2

from bench import crew, drain, proc, readings
from bench.case import Group
from bench.house import House
from bench.readings import Reading
from bench.scale import Scale
from bench.workload import BATCH_ROWS, PLAYERS
from consumer import load
from consumer.batch import Batch, Limits
from pipeline import stream
from pipeline.event import Window
from pipeline.stream import STREAM, Stream
from producer.outbox import ARRAY_EVENTS

SECTION: Final = "where the time goes"

_EACH: Final = "µs/event"
_RETENTION_DAYS: Final = 90
_PROCESSES: Final = ("CPU of the consumer", "CPU of Redis", "CPU of its Postgres backend")
_STEPS: Final = ("read", "decode", "make rows", "COPY", "COMMIT", "acknowledge")
BACKENDS: Final = """
select pid from pg_stat_activity where application_name like 'infamous consumer %'
"""


def groups(house: House, scale: Scale) -> Iterator[Group]:
    """By process, then by step; with an event an entry, and with many."""
    house.keep(0)
    for share in (1, ARRAY_EVENTS):
        where = f", {share} events an entry" if share > 1 else ""
        for measure, names in ((by_process, _PROCESSES), (by_step, _STEPS)):
            named = partial(_named, where, measure, house, scale.events, share)
            found = [Reading(name + where, _EACH) for name in names]
            yield Group(readings.cases(named, found), scale.slow_rounds)
    house.forget_workloads()


def _named(
    where: str, measure: Callable[..., Mapping[str, float]], *arguments: object
) -> Mapping[str, float]:
    return {name + where: value for name, value in measure(*arguments).items()}


def by_process(house: House, events: int, share: int = 1) -> Mapping[str, float]:
    """CPU that each of the three takes for an event, in microseconds, where so many share an entry."""
    workload = house.clean(events, players=PLAYERS, share=share)
    house.empty()
    drain.stage(house, workload)
    with crew.consumers(house, 1) as (consumer,):
        with house.connected() as connection, connection.cursor() as cursor:
            cursor.execute(BACKENDS)
            ((backend,),) = cursor.fetchall()
        pids = (consumer.pid, int(house.client.info("server")["process_id"]), backend)
        before = [proc.cpu_s(pid) for pid in pids]
        drain.seconds(house, [consumer])
        after = [proc.cpu_s(pid) for pid in pids]
    return {
        name: 1e6 * (end - begin) / events
        for name, begin, end in zip(_PROCESSES, before, after, strict=True)
    }


def by_step(house: House, events: int, share: int = 1) -> Mapping[str, float]:
    """How long each step takes for an event, in microseconds, where so many share an entry."""
    workload = house.clean(events, players=PLAYERS, share=share)
    house.empty()
    house.client.copy(workload.name, STREAM, replace=True)
    spent_s: dict[str, float] = defaultdict(float)
    # Nor does a consumer stop to look for cycles, and it would look through the bench's own events.
    gc.collect()
    gc.freeze()
    limits = Limits(BATCH_ROWS, 2**30, 1e9)
    client = stream.connect(house.redis_url)
    connection = psycopg2.connect(house.database_url)
    with closing(client), closing(connection), connection.cursor() as cursor:
        source = Stream(client)
        for _ in range(0, events, BATCH_ROWS):
            batch, clock = Batch(limits), _Clock(spent_s)
            while batch.taken < min(BATCH_ROWS, events):
                page = source.read("bench", batch.room())
                clock.spent("read")
                if not page.entries:
                    break
                window = Window.at(time.time_ns() // 1_000_000, _RETENTION_DAYS)
                batch.take(page.entries, window, 0.0)
                clock.spent("decode")
            rows = load.rows_of(batch)
            clock.spent("make rows")
            cursor.copy_expert(load.COPY_EVENTS, io.BytesIO(rows), size=len(rows))
            clock.spent("COPY")
            connection.commit()
            clock.spent("COMMIT")
            source.ack(batch.ids)
            clock.spent("acknowledge")
    return {name: 1e6 * spent_s[name] / events for name in _STEPS}


class _Clock:
    """Adds the time since it was last asked to a step."""

    def __init__(self, spent_s: dict[str, float]) -> None:
        self._spent_s, self._since_s = spent_s, time.perf_counter()

    def spent(self, step: str) -> None:
        now_s = time.perf_counter()
        self._spent_s[step] += now_s - self._since_s
        self._since_s = now_s
