"""Scaling: numbers of consumers and of streams flow in, rates and how evenly they share the work flow out.

The streams are on a Redis Cluster of three masters, each with a replica, and all of it is on this machine:
what is seen is what more streams cost and how fairly they are shared, and only with more cores what they
bring. Everybody has heard of everybody when the clock starts; at that moment streams with all entries are
renamed to those that are read.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

from bench import crew, readings
from bench.case import Case, Group
from bench.crew import Process
from bench.house import House
from bench.latency import quantile
from bench.readings import Reading
from bench.scale import Scale
from bench.workload import HOUR_MS, Workload, clean, simulated
from infamous.prove import cluster
from infamous.prove.cluster import Cluster
from pipeline.event import Event, encode
from pipeline.stream import GROUP, Stream
from pipeline.streams import Streams

SECTION: Final = "streams"
CONSUMERS: Final = (1, 2, 4)
STREAMS: Final = (1, 4, 16)

_AT_MOST_S: Final = 300.0
_READY_S: Final = 60.0
_PIPELINE: Final = 1000
_TRUNCATE: Final = "truncate game_events, quarantined_events, pipeline_health"
# Who has written down a look by now has heard of all that were there when it began.
_HAVE_LOOKED: Final = """
select count(distinct process) from pipeline_health where updated_at > to_timestamp(%s)
"""
_SHARES: Final = "select sum(stored + duplicates) from pipeline_health group by process"
_SEEN: Final = "select 1 from game_events where ts = to_timestamp(%s) and id = %s"


@dataclass(frozen=True)
class _Place:
    """Where it is measured."""

    house: House
    nodes: Cluster
    workload: Workload

    def settings(self, streams: int) -> Mapping[str, str]:
        """What a consumer needs to find it."""
        return {"REDIS_URL": self.nodes.url, "STREAM_PARTITIONS": str(streams)}


def groups(house: House, scale: Scale) -> Iterator[Group]:
    """Every number of consumers over every number of streams, then a flood beside a quiet stream."""
    house.keep(0)
    with cluster.running(house.home / "cluster") as nodes:
        workload = clean("streams", scale.events, house.until_ms)
        place = _Place(house, nodes, workload)
        cases: list[Case] = []
        for streams in STREAMS:
            for consumers in CONSUMERS:
                cases += _cases(place, consumers, streams)
        yield Group(tuple(cases), scale.slow_rounds)
        yield Group(tuple(_flood_cases(place)), scale.slow_rounds)


def name(consumers: int, streams: int) -> str:
    """How a case is called."""
    ones = "consumer" if consumers == 1 else "consumers"
    return f"{consumers} {ones}, {streams} {'stream' if streams == 1 else 'streams'}"


def _cases(place: _Place, consumers: int, streams: int) -> tuple[Case, ...]:
    called = name(consumers, streams)
    least = f"{called}, the least of even shares"
    limit = None if (consumers, streams) == (1, 1) else name(1, 1)
    found = [Reading(called, "events/s", limit=limit, higher_is_better=True)]
    if consumers > 1:
        found.append(Reading(least, "", higher_is_better=True))
    measure = partial(_drained, place, consumers, streams, called, least)
    return readings.cases(measure, found)


def _drained(
    place: _Place, consumers: int, streams: int, called: str, least: str
) -> Mapping[str, float]:
    house = place.house
    with closing(Streams(place.nodes.url, streams)) as there:
        _stage(place, there)
        with _consuming(place, consumers, streams) as processes:
            begun_s = time.perf_counter()
            _open(there)
            crew.wait_until(
                lambda: _is_done(there), "Everything is stored", processes, within_s=_AT_MOST_S
            )
            took_s = time.perf_counter() - begun_s
        with house.connected() as connection, connection.cursor() as cursor:
            cursor.execute(_SHARES)
            shares = [float(stored) for (stored,) in cursor.fetchall()]
        _clear(there)
    even = place.workload.carried / consumers
    return {called: place.workload.carried / took_s, least: min(shares) / even}


def _stage(place: _Place, there: Streams) -> None:
    """Have each stream's entries, and its group, beside it."""
    _clear(there)
    parts: dict[str, list[tuple[bytes, ...]]] = {one.key: [] for one in there.written}
    for event, fields in zip(place.workload.events, place.workload.entries, strict=True):
        parts[there.of(event.player).key].append(fields)
    for one in there.written:
        _lay(one, parts[one.key])
    _empty(place.house)


def _lay(one: Stream, entries: Iterable[tuple[bytes, ...]]) -> None:
    rest = iter(entries)
    while page := list(islice(rest, _PIPELINE)):
        pipeline: Any = one.client.pipeline(transaction=False)
        for fields in page:
            pipeline.execute_command("XADD", _ready(one), "*", *fields)
        pipeline.execute()
    one.client.xgroup_create(_ready(one), GROUP, id="0", mkstream=True)


def _empty(house: House) -> None:
    with house.connected(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(_TRUNCATE)
        cursor.execute("checkpoint")


def _ready(one: Stream) -> str:
    return one.beside("ready")


def _open(there: Streams) -> None:
    for one in there.written:
        one.client.rename(_ready(one), one.key)


def _is_done(there: Streams) -> bool:
    states = [one.state(exact=False) for one in there.written]
    return not any(state.undelivered + state.pending for state in states)


def _clear(there: Streams) -> None:
    for one in there.all:
        one.client.delete(one.key, _ready(one))


@contextmanager
def _consuming(place: _Place, consumers: int, streams: int) -> Iterator[list[Process]]:
    """So many consumers that wait, and know of each other."""

    def have_looked(since_s: float) -> bool:
        with place.house.connected() as connection, connection.cursor() as cursor:
            cursor.execute(_HAVE_LOOKED, (since_s,))
            row = cursor.fetchone()
        return row == (consumers,)

    with crew.working_many(place.house, consumers, place.settings(streams)) as started:
        for what in ("The consumers are there", "The consumers have met"):
            since_s = 0.0 if what.endswith("there") else time.time()
            is_so = partial(have_looked, since_s)
            crew.wait_until(is_so, what, started, within_s=_READY_S, poll_s=0.1)
        yield started


# --- a flood


def _flood_cases(place: _Place) -> Iterator[Case]:
    for streams in (1, STREAMS[1]):
        beside = "on the same stream" if streams == 1 else "on another of 4 streams"
        called = f"p50 of a lone event, a flood {beside}"
        yield Case(called, partial(_beside_a_flood, place, streams), "ms", higher_is_better=False)


def _beside_a_flood(place: _Place, streams: int) -> float:
    """From before XADD until its row is seen, while one stream is flooded; one event after the other."""
    house = place.house
    lone = simulated(10_000, house.until_ms - 2 * HOUR_MS, house.until_ms - HOUR_MS, seed=9)
    waits_ms: list[float] = []
    with closing(Streams(place.nodes.url, streams)) as there:
        _clear(there)
        flooded, quiet = there.written[0], there.written[-1]
        _lay(flooded, place.workload.entries)
        _empty(house)
        with (
            _consuming(place, 1, streams) as processes,
            house.connected(autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            flooded.client.rename(_ready(flooded), flooded.key)
            while not waits_ms or flooded.state(exact=False).undelivered:
                event = next(lone)
                begun_s = time.perf_counter()
                quiet.append([encode(event)])
                crew.wait_until(
                    partial(_is_row, cursor, event), "It is stored", processes,
                    within_s=_AT_MOST_S, poll_s=0.001,
                )  # fmt: skip
                waits_ms.append((time.perf_counter() - begun_s) * 1000)
        _clear(there)
    return quantile(sorted(waits_ms), 0.5)


def _is_row(cursor: Any, event: Event) -> bool:
    cursor.execute(_SEEN, ((event.id.int >> 80) / 1000, str(event.id)))
    return cursor.fetchone() is not None
