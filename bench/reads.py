"""Reads: the dashboards' questions flow in; how long each takes, and what that costs consumers, flow out.

All of redash_queries/ are asked in turn with their defaults, over and over, on a connection of their own
while two consumers work at full speed. The table holds a month as the game plays it, and its rollups are
made.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from statistics import median
from typing import Final

import psycopg2

from analytics.redash import folder
from analytics.redash.render import rendered
from bench import crew, drain, ingest, readings
from bench.case import Case, Group
from bench.house import House
from bench.readings import Reading
from bench.scale import Scale
from bench.workload import PLAYERS
from jobs.rollup import rollup
from pipeline.event import datetime_of

SECTION: Final = "reads"

_GOAL_MS: Final = 150.0
_CONSUMERS: Final = 2
_DAYS: Final = timedelta(days=31)


def groups(house: House, scale: Scale) -> Iterator[Group]:
    """Ingest alone, then with the questions, then what was read off of those."""
    questions = load()
    house.keep_month(scale.read_rows)
    until = datetime_of(house.until_ms)
    rollup(house.engine, until - _DAYS, until)
    with house.connected(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("vacuum analyze")
    alone = "two consumers, nobody asks"
    asked = Reading("two consumers, questions asked", "events/s", 0.8, alone, higher_is_better=True)
    found = [asked]
    for name in questions:
        found += [
            Reading(f"{name}, {what}", "ms", _GOAL_MS, higher_is_better=False)
            for what in ("median", "slowest")
        ]
    measure = partial(asking, house, scale.events, questions, asked.name)
    limit = Case(alone, lambda: ingest.load_rate(house, scale.events, _CONSUMERS), "events/s")
    yield Group((limit, *readings.cases(measure, found)), scale.rounds)
    house.keep(0)
    house.forget_workloads()


def load() -> Mapping[str, str]:
    """The questions by name, as Redash asks them."""
    return {key: rendered(query) for key, query in folder.read(folder.OURS).queries.items()}


def asking(
    house: House, events: int, questions: Mapping[str, str], rate_name: str
) -> Mapping[str, float]:
    """The rate of ingest meanwhile, and each question's milliseconds."""
    workload = house.clean(events, players=PLAYERS)
    house.empty()
    drain.stage(house, workload)
    with crew.consumers(house, _CONSUMERS) as consumers, _asked(house, questions) as spent_ms:
        rate = events / drain.seconds(house, consumers)
    told = {rate_name: rate}
    for name in questions:
        told |= {f"{name}, median": median(spent_ms[name]), f"{name}, slowest": max(spent_ms[name])}
    return told


@contextmanager
def _asked(house: House, questions: Mapping[str, str]) -> Iterator[Mapping[str, list[float]]]:
    """Ask all in turn for as long as this lasts, each at least once; by name, what they took."""
    spent_ms: dict[str, list[float]] = defaultdict(list)
    failed: list[psycopg2.Error] = []
    stop = threading.Event()

    def ask() -> None:
        try:
            with house.connected(autocommit=True) as connection, connection.cursor() as cursor:
                # Looked at last: a drain may be over before this is connected.
                while True:
                    for name, question in questions.items():
                        begun_s = time.perf_counter()
                        cursor.execute(question)
                        cursor.fetchall()
                        spent_ms[name].append(1000 * (time.perf_counter() - begun_s))
                    if stop.is_set():
                        return
        except psycopg2.Error as error:
            failed.append(error)

    # Started after every process was: the kernel ties their lives to the thread that starts them.
    asker = threading.Thread(target=ask, name="asker")
    asker.start()
    try:
        yield spent_ms
    finally:
        stop.set()
        asker.join()
    if failed:
        raise failed[0]
