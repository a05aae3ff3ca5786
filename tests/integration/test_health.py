"""The health table and the metrics: they say what the tables say, to the last entry, and what went on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import psycopg2
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from consumer import worker
from consumer.batch import Limits
from consumer.health import Notes, Seen
from consumer.load import Loader
from consumer.reader import Look
from infamous.prove.proxy import Proxy, Toxic, proxies
from pipeline import failpoint, metrics
from pipeline.event import datetime_of
from pipeline.stream import STREAM, StreamState
from tests.conftest import World
from tests.integration.consuming import batch_of, is_drained, now_ms, until, working
from tests.integration.test_proxy import (
    postgres_socket,
    postgres_through,
    redis_socket,
    redis_through,
)
from tests.integration.test_worker import good, said
from tests.unit.samples import payload, without
from tests.unit.test_metrics import HOST, scraped

SUMS = """
select coalesce(sum(batches), 0) as batches, coalesce(sum(stored), 0) as stored,
       coalesce(sum(duplicates), 0) as duplicates, coalesce(sum(quarantined), 0) as quarantined
from pipeline_health
"""
BY_REASON = """
select key as reason, sum(value::bigint) as entries
from pipeline_health, jsonb_each_text(quarantined_by_reason) group by key
"""
# What README promises whoever scrapes a consumer.
DOCUMENTED = {
    "stored_events_total", "duplicate_events_total", "quarantined_entries_total",
    "claimed_entries_total", "lost_entries_total", "groups_made_total", "unknown_keys_total",
    "produced_entries_total", "undelivered_entries", "pending_entries", "oldest_waiting_seconds",
    "complete_to_timestamp_seconds", "seen_timestamp_seconds", "batch_events_bucket", "batch_seconds_bucket",
    "age_seconds_bucket", "waiting", "waited_seconds_total", "flooded", "beat_timestamp_seconds",
    "away_streams",
}  # fmt: skip
BAD = [b"bad", b"bad", b"worse", b"[]", b"[]", b"[]", without("player"), b"\xff"]


def rows(world: World, query: str, **values: Any) -> list[dict[str, Any]]:
    """What a query answers."""
    with world.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query), values).mappings()]


def health(world: World, process: str = "worker") -> dict[str, Any]:
    """The sums of a consumer's rows, and the last row's facts; empty when it has none."""
    found = rows(
        world, "select * from pipeline_health where process = :p order by minute", p=process
    )
    if not found:
        return {}
    summed = {
        name: sum(row[name] for row in found)
        for name in ("claimed", "groups_made", "lost", "waited_redis_s", "waited_postgres_s")
    }
    return found[-1] | summed


@contextmanager
def looking_often() -> Iterator[None]:
    """Consumers look at the stream, and write a row, all the time."""
    with patch.object(worker, "LOOK_EVERY_S", 0.05):
        yield


def assert_sums_agree(world: World) -> None:
    """What the rows of all consumers say is what the tables hold."""
    (sums,) = rows(world, SUMS)
    assert sums["stored"] == world.count("game_events")
    seen = rows(
        world, "select reason, sum(times_seen) as entries from quarantined_events group by reason"
    )
    by_reason = {row["reason"]: row["entries"] for row in seen}
    assert sums["quarantined"] == sum(by_reason.values())
    assert {row["reason"]: row["entries"] for row in rows(world, BY_REASON)} == by_reason


# --- counts, which are exact


def test_the_sums_are_the_tables_own(world: World) -> None:
    """Good, duplicate and bad entries in many batches of two consumers: each is counted once, by kind."""
    events = good(1000)
    mixed = [*events[:400], *BAD, *events[400:], *BAD, *events[:100]]
    world.source.append(mixed)
    limits = Limits(90, 10**6, 60.0, read=30)
    with working(world, "a", limits), working(world, "b", limits):
        until(lambda: is_drained(world), "the stream to drain")
    (sums,) = rows(world, SUMS)
    assert (sums["stored"], sums["duplicates"], sums["quarantined"]) == (1000, 100, 2 * len(BAD))
    assert sums["batches"] >= len(mixed) // 120
    assert_sums_agree(world)
    world.client.xgroup_destroy(world.source.key, world.source.group)
    with working(world, "c", limits):
        until(lambda: is_drained(world), "everything to be delivered again")
    (sums,) = rows(world, SUMS)
    assert (sums["stored"], sums["duplicates"], sums["quarantined"]) == (1000, 1200, 4 * len(BAD))
    assert_sums_agree(world)


def test_a_batch_the_database_takes_in_parts_is_counted_once(world: World) -> None:
    """The first try is rolled back with its counts; refusals of the database count as those of the batch."""
    with world.engine.begin() as connection:
        connection.execute(text("alter table game_events alter column xp_delta type smallint"))
    raws = [payload(now_ms(), number) for number in range(9)]
    raws.insert(4, payload(now_ms(), 50, xp_delta=40_000))
    loader = Loader(world.database_url, "worker")
    stored = loader.store(batch_of([*raws, raws[0], b"bad"]))
    loader.close()
    assert (stored.rows, stored.duplicates, stored.quarantined) == (9, 1, 2)
    assert rows(world, SUMS) == [{"batches": 1, "stored": 9, "duplicates": 1, "quarantined": 2}]
    assert_sums_agree(world)


def test_a_torn_transaction_leaves_no_count(world: World) -> None:
    """What was not committed was not done: the row of the minute stands and falls with the batch."""
    loader = Loader(world.database_url, "worker")
    batch = batch_of([*good(5), b"bad"])
    torn = patch.object(
        failpoint, "reached", side_effect=psycopg2.OperationalError("server closed")
    )
    with torn, pytest.raises(psycopg2.OperationalError):
        loader.store(batch, Notes(lost=7))
    assert world.count("pipeline_health") == world.count("game_events") == 0
    loader.store(batch, Notes(lost=7))
    loader.close()
    assert rows(world, SUMS) == [{"batches": 1, "stored": 5, "duplicates": 0, "quarantined": 1}]
    assert health(world)["lost"] == 7


def test_a_row_is_written_over_and_again(world: World) -> None:
    """The consumer's own sums replace what it wrote before, twice or once; what it did not look at stays."""
    loader = Loader(world.database_url, "worker")
    at = datetime_of(now_ms())
    seen = Seen(at, 9, 2, 1, at - timedelta(seconds=5), at - timedelta(seconds=5))
    first = Notes(
        batch_rows_max=30, batch_s_sum=0.5, batch_s_max=0.5, age_p50_s=1.0, age_p95_s=2.0,
        age_p99_s=3.0, claimed=1, groups_made=1, lost=2, waited_redis_s=1.5,
        waited_postgres_s=0.25, is_flooded=True, seen=seen,
    )  # fmt: skip
    second = Notes(
        minute_s=first.minute_s, batch_rows_max=30, batch_s_sum=0.75, batch_s_max=0.5, claimed=3,
        groups_made=1, lost=5, waited_redis_s=1.5, waited_postgres_s=0.75,
    )  # fmt: skip
    loader.note(first)
    for _ in range(2):  # as after a COMMIT whose reply was lost
        loader.note(second)
    row = health(world)
    assert (row["batch_rows_max"], row["batch_s_sum"], row["batch_s_max"]) == (30, 0.75, 0.5)
    assert (row["age_p50_s"], row["age_p95_s"], row["age_p99_s"]) == (1.0, 2.0, 3.0)
    assert (row["claimed"], row["groups_made"], row["lost"]) == (3, 1, 5)
    assert (row["waited_redis_s"], row["waited_postgres_s"]) == (1.5, 0.75)
    assert not row["is_flooded"]
    assert (row["added"], row["undelivered"], row["pending"]) == (9, 2, 1)
    assert row["complete_to"] == row["oldest_waiting_at"] == at - timedelta(seconds=5)
    # A look at a drained stream says that nothing waits any longer.
    loader.note(Notes(minute_s=first.minute_s, seen=Seen(at, 9, 0, 0, None, at)))
    loader.close()
    row = health(world)
    assert (row["oldest_waiting_at"], row["complete_to"], row["undelivered"]) == (None, at, 0)
    assert world.count("pipeline_health") == 1


def test_the_row_is_of_the_utc_minute_wherever_the_session_is(world: World) -> None:
    """A database in a time zone of odd minutes has the same minutes as all others."""
    (name,) = (row["name"] for row in rows(world, "select current_database() as name"))
    with world.engine.begin() as connection:
        connection.execute(text(f"alter database {name} set timezone = 'Asia/Kathmandu'"))
    loader = Loader(world.database_url, "worker")
    loader.note(Notes())
    loader.close()
    query = """
        select minute = date_trunc('minute', minute, 'UTC') as is_whole,
               updated_at - minute between '0' and '1 minute' as is_now
        from pipeline_health
    """
    assert rows(world, query) == [{"is_whole": True, "is_now": True}]


# --- what a consumer sees of itself


def test_batches_and_ages_are_sane(world: World) -> None:
    """The largest batch is no larger than allowed, no percentile is below another, none is from nowhere."""
    world.source.append(good(1000))
    with looking_often(), working(world, limits=Limits(100, 10**6, 60.0)):
        until(lambda: is_drained(world), "the stream to drain")
        until(lambda: health(world).get("age_p50_s"), "the ages to be written")
    row = health(world)
    assert row["batch_rows_max"] == 100
    assert 0 < row["batch_s_max"] <= row["batch_s_sum"] < 60
    assert 0 < row["age_p50_s"] <= row["age_p95_s"] <= row["age_p99_s"] < 60


@pytest.mark.usefixtures("redis_7")
def test_an_idle_consumer_writes_its_row(world: World) -> None:
    """No news is not the same as no consumer: it looks, and says that nothing waits."""
    with looking_often(), working(world):
        until(lambda: world.count("pipeline_health"), "a row")
        row = health(world)
    assert (row["batches"], row["stored"], row["age_p50_s"]) == (0, 0, None)
    assert (row["added"], row["undelivered"], row["pending"]) == (0, 0, 0)
    assert row["oldest_waiting_at"] is None
    assert row["complete_to"] == row["seen_at"]
    assert abs(row["seen_at"] - datetime_of(now_ms())) < timedelta(seconds=30)


def test_what_another_holds_is_not_complete(world: World) -> None:
    """Complete to the moment the first entry was added that somebody has read and not stored."""
    world.source.ensure_group()
    (held,) = world.source.append(good(1))
    world.source.read("other", 1)
    until(lambda: now_ms() > int(held.split(b"-")[0]), "the next millisecond")
    world.source.append(good(10, seed=2))
    with looking_often(), working(world):
        until(lambda: world.count("game_events") == 10, "the others to be stored")
        until(lambda: health(world).get("pending") == 1, "a look at it")
        row = health(world)
        held_at = datetime_of(int(held.split(b"-")[0]))
        assert row["complete_to"] == row["oldest_waiting_at"] == held_at
        world.source.ack([held])
        until(lambda: health(world)["pending"] == 0, "the next look")
        row = health(world)
    assert (row["oldest_waiting_at"], row["complete_to"]) == (None, row["seen_at"])


def test_takeovers_losses_and_lost_groups_are_written(world: World) -> None:
    """What the log says once stays in the table, in the row of the consumer that saw it."""
    world.source.ensure_group()
    ids = world.source.append(good(10))
    world.source.read("dead", 10)
    world.client.xtrim(world.source.key, minid=ids[4].decode(), approximate=False)
    with looking_often(), working(world, claim_after_s=0.1):
        until(lambda: health(world).get("claimed") == 6, "the takeover")
        assert health(world)["lost"] == 4
        world.client.xgroup_destroy(world.source.key, world.source.group)
        until(lambda: health(world)["groups_made"] == 1, "the group to be made again")
    row = health(world)
    assert (row["claimed"], row["lost"], row["groups_made"]) == (6, 4, 1)


@pytest.fixture
def line(world: World, request: pytest.FixtureRequest) -> Iterator[tuple[str, Proxy, World]]:
    """A server's name, the proxy before it, and the world as one sees it through that."""
    name: str = request.param
    place = (
        redis_socket(world.redis_url) if name == "Redis" else postgres_socket(world.database_url)
    )
    with proxies(place) as (proxy,):
        if name == "Redis":
            yield name, proxy, replace(world, redis_url=redis_through(proxy, world.redis_url))
        else:
            far = postgres_through(proxy, world.database_url)
            yield name, proxy, replace(world, database_url=far)


@pytest.mark.parametrize("line", ["Redis", "Postgres"], indirect=True)
def test_a_wait_for_a_server_is_written(line: tuple[str, Proxy, World]) -> None:
    """How long it waited for which server is in the table once it has waited, not only in the log."""
    name, proxy, world = line
    with capture_logs() as logs, looking_often(), working(world) as working_one:
        world.source.append(good(5))
        until(lambda: is_drained(world), "the first events")
        with proxy.imposed(Toxic.RESET):
            world.source.append(good(5, seed=2))
            until(lambda: said(logs, f"{name} is away"), "the outage to be noticed")
            threading.Event().wait(0.3)
        until(lambda: world.count("game_events") == 10, "the rest to be stored")
        column = f"waited_{name.lower()}_s"
        until(lambda: health(world)[column] >= 0.25, "the wait to be written", at_most_s=10)
        waiting = {one.name: one for one in working_one.tally.metrics()}["waiting"]
        assert waiting.value == {"Redis": 0.0, "Postgres": 0.0}  # type: ignore[union-attr]


@pytest.mark.parametrize("line", ["Redis"], indirect=True)
def test_a_wait_that_ends_without_the_group_has_ended(line: tuple[str, Proxy, World]) -> None:
    """A Redis that comes back empty is back: nobody is told for ever that the consumer still waits."""
    _, proxy, world = line
    with capture_logs() as logs, working(world) as working_one:
        world.source.append(good(5))
        until(lambda: is_drained(world), "the first events")
        with proxy.imposed(Toxic.RESET):
            until(lambda: said(logs, "Redis is away"), "the outage to be noticed")
            world.client.flushdb()
        until(lambda: said(logs, "group was gone"), "the group to be made again")
        world.source.append(good(5, seed=2))
        until(lambda: world.count("game_events") == 10, "the rest to be stored")
        waiting = {one.name: one for one in working_one.tally.metrics()}["waiting"]
        assert waiting.value == {"Redis": 0.0, "Postgres": 0.0}  # type: ignore[union-attr]


def test_a_full_redis_is_drained(world: World) -> None:
    """It takes nothing more, in some versions no transaction either: what it holds is stored and trimmed."""
    world.source.ensure_group()
    world.client.delete(world.source._vouched_key)
    world.source.append(good(500))
    world.client.config_set("maxmemory", 1)
    try:
        # Started now, and still at work when it has looked around.
        with looking_often(), working(world, limits=Limits(100, 10**6, 60.0, read=50)):
            until(lambda: is_drained(world), "the stream to drain")
            before = health(world)["seen_at"]
            until(lambda: health(world)["seen_at"] != before, "another look")
        assert world.source.trim(keep_s=0.0) > 0
    finally:
        world.client.config_set("maxmemory", 0)
    assert world.count("game_events") == 500


# --- metrics


@pytest.mark.usefixtures("redis_7")
def test_the_metrics_are_the_tables_own(world: World) -> None:
    """In a calm run every documented name is there, and its number is the one in the tables."""
    events = good(500)
    world.source.append([*events, *BAD, *events[:50], payload(now_ms(), 999, combo=1)])
    with (
        looking_often(),
        working(world, limits=Limits(100, 10**6, 60.0)) as working_one,
        metrics.served(HOST, 0, working_one.tally.metrics) as port,
    ):
        until(lambda: is_drained(world), "the stream to drain")
        until(lambda: health(world)["pending"] == 0 == health(world)["undelivered"], "a look")
        assert port
        found = scraped(port)
    named = {name.removeprefix("infamous_") for name, _ in found if name.startswith("infamous_")}
    missing = {name for name in named if not name.endswith(("_count", "_sum"))} ^ DOCUMENTED
    assert missing == set()
    (sums,) = rows(world, SUMS)
    assert found["infamous_stored_events_total", ()] == sums["stored"] == 501
    assert found["infamous_duplicate_events_total", ()] == sums["duplicates"] == 50
    refused = {row["reason"]: row["entries"] for row in rows(world, BY_REASON)}
    for reason, entries in refused.items():
        assert found["infamous_quarantined_entries_total", (("reason", reason),)] == entries
    assert found["infamous_batch_events_count", ()] == sums["batches"]
    assert found["infamous_batch_events_sum", ()] == 559
    assert found["infamous_age_seconds_count", ()] == 559
    assert found["infamous_unknown_keys_total", ()] == 1
    assert found["infamous_produced_entries_total", ()] == 559
    assert found["infamous_pending_entries", ()] == found["infamous_undelivered_entries", ()] == 0
    assert found["infamous_oldest_waiting_seconds", ()] == 0
    assert abs(found["infamous_complete_to_timestamp_seconds", ()] - now_ms() / 1000) < 30
    assert abs(found["infamous_beat_timestamp_seconds", ()] - now_ms() / 1000) < 30
    assert found["infamous_flooded", ()] == found["infamous_lost_entries_total", ()] == 0


def test_scrapes_while_it_works_do_no_harm(world: World) -> None:
    """Somebody who scrapes without a pause gets an answer each time, and the consumer its work done."""
    world.source.append([*good(3000), *BAD])
    with (
        working(world, limits=Limits(50, 10**6, 60.0)) as working_one,
        metrics.served(HOST, 0, working_one.tally.metrics) as port,
    ):
        assert port
        stored = [0.0]
        while not is_drained(world):
            stored.append(scraped(port)["infamous_stored_events_total", ()])
    assert stored == sorted(stored)
    assert world.count("game_events") == 3000
    assert_sums_agree(world)


def test_the_oldest_that_waits_is_told_in_seconds(world: World) -> None:
    """A stream that stands still is seen by the age of what waits in it, also while nobody looks."""
    oldest_ms = now_ms() - 60_000
    state = StreamState(
        exists=True, undelivered=3, oldest_waiting_ms=oldest_ms, at_ms=oldest_ms + 5
    )
    with working(world) as working_one:
        working_one.tally.saw(Look(state, {STREAM: state}, ()))
        told = {one.name: one for one in working_one.tally.metrics()}
    assert 60 <= told["oldest_waiting_seconds"].value < 90  # type: ignore[union-attr,operator]
    assert told["complete_to_timestamp_seconds"].value == oldest_ms / 1000  # type: ignore[union-attr]
