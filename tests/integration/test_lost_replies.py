"""What a server did and could not say: a lost request or reply costs time, never an event, and never makes
two of one.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from unittest.mock import patch

import psycopg2
import pytest
import redis
from structlog.testing import capture_logs

from consumer import load
from consumer.batch import Limits
from consumer.load import Loader
from infamous.prove.proxy import Proxy, Toxic, proxies
from pipeline import nodes, stream
from pipeline.event import encode
from pipeline.patience import wait_for
from pipeline.stream import Stream
from producer.outbox import Outbox, Parcel, pack
from producer.simulate import population, step
from tests.conftest import PRODUCER, World
from tests.integration.consuming import batch_of, is_drained, now_ms, until, working
from tests.integration.test_proxy import (
    postgres_socket,
    postgres_through,
    redis_socket,
    redis_through,
)
from tests.unit.samples import chains

DROPS = [Toxic.DROP_REQUEST, Toxic.DROP_REPLY]


@pytest.fixture
def to_redis(world: World) -> Iterator[Proxy]:
    """A proxy before Redis."""
    with proxies(redis_socket(world.redis_url)) as (made,):
        yield made


@pytest.fixture
def to_postgres(world: World) -> Iterator[Proxy]:
    """A proxy before Postgres."""
    with proxies(postgres_socket(world.database_url)) as (made,):
        yield made


@pytest.fixture
def far(world: World, to_redis: Proxy) -> World:
    """The world as one sees it whose Redis is behind the proxy."""
    return replace(world, redis_url=redis_through(to_redis, world.redis_url))


@pytest.fixture
def loader(world: World, to_postgres: Proxy) -> Iterator[Loader]:
    """A loader whose Postgres is behind the proxy; it is connected."""
    made = Loader(postgres_through(to_postgres, world.database_url), "far", silent_s=1.0)
    made.store(batch_of([]))
    yield made
    made.close()


@pytest.fixture
def outbox(far: World) -> Iterator[Outbox]:
    """An outbox whose Redis is behind the proxy; it is open."""
    client = stream.connect(far.redis_url)
    made = Outbox(Stream(client))
    made.open()
    yield made
    client.close()


def good(events: int) -> list[bytes]:
    """Payloads of healthy events."""
    return [encode(event) for event in chains(events, start_ms=now_ms() - 60_000)]


def has(word: bytes) -> Callable[[bytes], bool]:
    """Picks what a client sends by a word in it."""
    return lambda chunk: word in chunk


# --- COMMIT


def test_the_reply_to_commit_is_lost(world: World, to_postgres: Proxy, loader: Loader) -> None:
    """The rows are there although the loader was told nothing; storing the batch again adds none."""
    batch = batch_of([*good(50), b"bad"])
    to_postgres.impose(Toxic.DROP_REPLY, when=has(b"commit"))
    with pytest.raises(psycopg2.Error) as caught:
        loader.store(batch)
    to_postgres.lift()
    assert load.is_temporary(caught.value)
    assert to_postgres.hits[Toxic.DROP_REPLY] == 1
    assert (world.count("game_events"), world.count("quarantined_events")) == (50, 1)
    again = loader.store(batch)
    assert (again.rows, again.duplicates, again.quarantined) == (0, 50, 1)
    assert (world.count("game_events"), world.count("quarantined_events")) == (50, 1)


def test_commit_itself_is_lost(world: World, to_postgres: Proxy, loader: Loader) -> None:
    """Nothing is there, and storing the batch again stores all of it."""
    batch = batch_of([*good(50), b"bad"])
    to_postgres.impose(Toxic.DROP_REQUEST, when=has(b"commit"))
    with pytest.raises(psycopg2.Error) as caught:
        loader.store(batch)
    to_postgres.lift()
    assert load.is_temporary(caught.value)
    assert to_postgres.hits[Toxic.DROP_REQUEST] == 1
    assert (world.count("game_events"), world.count("quarantined_events")) == (0, 0)
    again = loader.store(batch)
    assert (again.rows, again.duplicates, again.quarantined) == (50, 0, 1)
    assert (world.count("game_events"), world.count("quarantined_events")) == (50, 1)


def test_a_postgres_that_says_nothing_is_given_up(
    world: World, to_postgres: Proxy, loader: Loader
) -> None:
    """The loader does not wait for ever, and stores the batch once when the line is good again."""
    batch = batch_of(good(50))
    rescue = threading.Timer(20, to_postgres.lift)  # no signal ends a wait in libpq
    rescue.start()
    began_s = time.monotonic()
    to_postgres.impose(Toxic.BLACK_HOLE)
    with pytest.raises(psycopg2.Error) as caught:
        loader.store(batch)
    assert time.monotonic() - began_s < 15
    rescue.cancel()
    rescue.join()
    to_postgres.lift()
    assert load.is_temporary(caught.value)
    assert to_postgres.hits[Toxic.BLACK_HOLE] > 0
    assert loader.store(batch).rows == world.count("game_events") == 50


# --- XACK, XREADGROUP and XAUTOCLAIM


@pytest.mark.parametrize("drop", DROPS)
def test_xack_is_lost(world: World, far: World, to_redis: Proxy, drop: Toxic) -> None:
    """It is sent again until it is answered, also when everything was acknowledged the first time."""
    world.source.append(good(100))
    to_redis.impose(drop, when=has(b"XACK"))
    with capture_logs(), working(far) as worker:
        until(lambda: to_redis.hits[drop] >= 2, "XACK to be lost twice")
        assert world.source.state().pending == (100 if drop is Toxic.DROP_REQUEST else 0)
        to_redis.lift()
        until(lambda: is_drained(world), "the acknowledgement")
        world.source.append(good(7))
        until(lambda: world.count("game_events") == 107, "the worker to go on")
        until(lambda: is_drained(world), "the stream to drain")
    assert (worker.tally.rows, worker.tally.duplicates) == (107, 0)


@pytest.mark.parametrize("drop", DROPS)
def test_xreadgroup_is_lost(world: World, far: World, to_redis: Proxy, drop: Toxic) -> None:
    """What was handed out and did not arrive is claimed later; what was not handed out is read."""
    world.source.append(good(3))  # as many as a worker reads at first, before it knows their size
    to_redis.impose(drop, when=has(b"XREADGROUP"))
    with capture_logs() as logs, working(far, claim_after_s=0.3) as worker:
        until(lambda: to_redis.hits[drop] >= 2, "XREADGROUP to be lost twice")
        assert world.source.state().pending == (0 if drop is Toxic.DROP_REQUEST else 3)
        assert world.count("game_events") == 0
        to_redis.lift()
        until(lambda: is_drained(world), "the stream to drain")
    assert world.count("game_events") == 3
    assert (worker.tally.rows, worker.tally.duplicates) == (3, 0)
    took_over = [line["entries"] for line in logs if "Took over" in line["event"]]
    assert sum(took_over) == (0 if drop is Toxic.DROP_REQUEST else 3)


@pytest.mark.parametrize("drop", DROPS)
def test_xautoclaim_is_lost(world: World, far: World, to_redis: Proxy, drop: Toxic) -> None:
    """A takeover that nobody heard of is made again, when the entries have been idle once more."""
    world.source.ensure_group()
    world.source.append(good(10))
    world.source.read("dead", 10)
    to_redis.impose(drop, when=has(b"XAUTOCLAIM"))
    with capture_logs(), working(far, claim_after_s=0.3) as worker:
        until(lambda: to_redis.hits[drop] >= 2, "XAUTOCLAIM to be lost twice")
        to_redis.lift()
        until(lambda: is_drained(world), "the takeover")
    assert world.count("game_events") == 10
    assert (worker.tally.rows, worker.tally.duplicates) == (10, 0)


def test_a_redis_that_says_nothing_is_given_up(world: World, far: World, to_redis: Proxy) -> None:
    """The worker notices by a timeout, comes back, and stores what was handed out into the dark."""
    world.source.append(good(20))
    with (
        patch.object(nodes, "_SOCKET_TIMEOUT_S", 1.5),  # longer than a blocked read, as in earnest
        capture_logs() as logs,
        working(far, claim_after_s=0.3) as worker,
    ):
        until(lambda: is_drained(world), "the first events")
        with to_redis.imposed(Toxic.BLACK_HOLE):
            world.source.append(good(30))
            until(lambda: any("Redis is away" in line["event"] for line in logs), "the timeout")
        until(lambda: world.count("game_events") == 50, "the rest")
        until(lambda: is_drained(world), "the stream to drain")
    assert to_redis.hits[Toxic.BLACK_HOLE] > 0
    assert any("Redis is back" in line["event"] for line in logs)
    assert (worker.tally.rows, worker.tally.duplicates) == (50, 0)


# --- EXEC


def send(outbox: Outbox, parcel: Parcel) -> None:
    """Send it as a producer does, however often that takes."""
    with capture_logs():
        wait_for(
            "Redis",
            lambda: outbox.send(parcel),
            is_temporary=stream.is_temporary,
            stop=threading.Event(),
        )


@pytest.mark.parametrize("drop", DROPS)
def test_exec_is_lost(world: World, to_redis: Proxy, outbox: Outbox, drop: Toxic) -> None:
    """What did not arrive is sent again; what did is recognised, and not so much as sent again."""
    players = population(7, 2, now_ms(), 0)
    parcel = pack([step(players[n % 2], now_ms() + n) for n in range(6)], players)
    seen: list[bytes] = []

    def is_first(chunk: bytes) -> bool:
        if b"EXEC" in chunk:
            seen.append(chunk)
        return seen == [chunk]

    with to_redis.imposed(drop, when=is_first):
        send(outbox, parcel)
    assert to_redis.hits[drop] == 1
    assert len(seen) == (2 if drop is Toxic.DROP_REQUEST else 1)
    assert world.payloads() == parcel.payloads
    after = pack([step(players[0], now_ms() + 6)], players)
    send(outbox, after)
    assert world.payloads() == parcel.payloads + after.payloads
    assert world.client.hget(PRODUCER, "sent") == b"7"


def test_every_exec_is_lost(world: World, to_redis: Proxy, outbox: Outbox) -> None:
    """A line that swallows every EXEC is an outage: one attempt a call, and whoever waits sets the pace."""
    players = population(7, 2, now_ms(), 0)
    parcel = pack([step(players[0], now_ms())], players)
    with to_redis.imposed(Toxic.DROP_REQUEST, when=lambda chunk: b"EXEC" in chunk):
        with pytest.raises(redis.RedisError) as caught:
            outbox.send(parcel)
        assert to_redis.hits[Toxic.DROP_REQUEST] == 1
    assert stream.is_temporary(caught.value)
    send(outbox, parcel)
    assert world.payloads() == parcel.payloads


@pytest.mark.parametrize("drop", DROPS)
def test_a_large_parcel_is_lost(world: World, to_redis: Proxy, outbox: Outbox, drop: Toxic) -> None:
    """The same when it is lost from its beginning, while most of it is still to be sent."""
    players = population(7, 2, now_ms(), 0)
    parcel = pack([step(players[n % 2], now_ms() + n) for n in range(500)], players)
    with to_redis.imposed(drop, when=lambda chunk: b"MULTI" in chunk and not to_redis.hits[drop]):
        send(outbox, parcel)
    assert to_redis.hits[drop] == 1
    assert world.payloads() == parcel.payloads
    assert world.client.hget(PRODUCER, "sent") == b"500"


# --- all of it


@pytest.mark.parametrize("drop", DROPS)
def test_a_worker_on_bad_lines(
    world: World, far: World, to_redis: Proxy, to_postgres: Proxy, drop: Toxic
) -> None:
    """Whatever is lost, of either server: every event is one row, every bad entry is in quarantine."""
    world.source.append([*good(300), *[b"bad %d" % number for number in range(20)]])
    database_url = postgres_through(to_postgres, world.database_url)
    limits = Limits(100, 10**6, 0.1, read=50)
    with (
        capture_logs(),
        working(far, limits=limits, database_url=database_url, claim_after_s=0.3),
    ):
        to_redis.impose(drop, share=0.05, dice=random.Random(1))
        to_postgres.impose(drop, share=0.05, dice=random.Random(1))
        until(lambda: is_drained(world), "the stream to drain")
        assert to_redis.hits[drop] > 0
        assert to_postgres.hits[drop] > 0
        to_redis.lift()
        to_postgres.lift()
        world.source.append(good(1))
        until(lambda: world.count("game_events") == 301, "the worker to be back")
        until(lambda: is_drained(world), "the stream to drain")
    assert world.count("game_events") == 301
    assert world.count("quarantined_events") == 20
