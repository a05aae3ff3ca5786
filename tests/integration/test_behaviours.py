"""What the consumer sees that nobody tells it: floods, losses, dead names, servers that evict or hang."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, cast
from unittest.mock import patch

import psycopg2
import pytest
import redis
from psycopg2 import errors
from sqlalchemy import text
from structlog.testing import capture_logs

import consumer.__main__
from consumer import load, worker
from consumer.batch import Limits
from consumer.cutoff import Cutoff
from consumer.load import Loader
from consumer.worker import Flooded
from infamous.embedded.servers import Servers
from infamous.prove.proxy import Toxic, proxies
from pipeline import log, stream
from pipeline.entry import Form
from pipeline.settings import libpq_url
from pipeline.stream import FIRST, Claimed, Evicts, GroupLost, Stream
from tests.conftest import World
from tests.integration.consuming import batch_of, is_drained, until, working
from tests.integration.test_proxy import postgres_socket, postgres_through
from tests.integration.test_stream import LOSSES, numbered, payloads
from tests.integration.test_worker import good, said


@pytest.fixture
def bare(servers: Servers) -> Iterator[Stream]:
    """A stream that is not there yet, in the database that no world uses."""
    made = Stream(stream.connect(servers.redis_url))
    made.client.flushdb()
    yield made
    made.client.flushdb()
    made.client.close()


@pytest.fixture
def source(bare: Stream) -> Stream:
    """A stream whose group is there and to which nothing was added."""
    bare.ensure_group()
    return bare


def asked(world: World, query: str) -> list[Any]:
    """What a query answers, one value a row."""
    with world.engine.connect() as connection:
        return list(connection.execute(text(query)).scalars())


def bad(entries: int) -> list[bytes]:
    """Payloads that are no events, each different."""
    return [b"bad %d" % number for number in range(entries)]


# --- floods


def test_a_flood_is_told_once_while_good_events_go_on(world: World) -> None:
    """One error line and no stop; the events in between are rows; that it is over is one line, too."""
    is_flooded = "select is_flooded from pipeline_health order by minute desc limit 1"
    with (
        capture_logs() as logs,
        patch.object(worker, "LOOK_EVERY_S", 0.05),
        working(world, limits=Limits(500, 10**6, 0.2)) as working_one,
    ):

        def flooded() -> float:
            metrics: list[Any] = list(working_one.tally.metrics())
            return next(cast("float", one.value) for one in metrics if one.name == "flooded")

        assert flooded() == 0.0
        events = good(11_000)
        for start in range(0, 900, 300):
            world.source.append([*bad(150), *events[start : start + 300]])
        until(lambda: world.count("game_events") == 900, "the events among the bad entries")
        until(lambda: asked(world, is_flooded) == [True], "the alarm in the table")
        assert flooded() == 1.0
        world.source.append(events[900:])
        until(lambda: said(logs, "flood of bad entries is over"), "the end of the flood")
        until(lambda: asked(world, is_flooded)[:1] == [False], "the alarm's end in the table")
        assert flooded() == 0.0
    assert [line["log_level"] for line in said(logs, "flood")] == ["error", "info"]
    assert world.count("game_events") == 11_000
    assert asked(world, "select sum(times_seen) from quarantined_events") == [450]


def test_a_limit_stops_the_consumer_before_the_batch_is_acknowledged(world: World) -> None:
    """Nothing of the batch that went over the limit is stored or acknowledged; the one before it is."""
    world.source.append([*bad(5), *good(95), *good(95, seed=2), b"one too many"])
    with (
        pytest.raises(Flooded),
        working(world, limits=Limits(100, 10**6, 60.0), quarantine_limit=5) as first,
    ):
        until(lambda: first.tally.flood.recent == 6, "the batch that goes over it")
    assert world.source.state().pending == 96
    assert (world.count("game_events"), world.count("quarantined_events")) == (95, 5)
    with working(world, name="second", claim_after_s=0.05):
        until(lambda: is_drained(world), "a consumer without a limit to take over")
    assert (world.count("game_events"), world.count("quarantined_events")) == (190, 6)


# --- entries trimmed before they were read


def behind(source: Stream, count: int = 100, consumer: str = "a") -> tuple[list[bytes], int]:
    """What a read hands over, and what it says was lost."""
    delivered = source.read(consumer, count)
    return payloads(delivered.entries), delivered.lost


def keep(source: Stream, entries: int) -> None:
    """Trim as a producer with MAXLEN does, without asking any group."""
    source.client.xtrim(source.key, maxlen=entries, approximate=False)


def read_by_group(source: Stream) -> int | None:
    """How many entries the server says the group has read."""
    (group,) = source.client.xinfo_groups(source.key)
    return cast("int | None", group["entries-read"])


def test_without_a_loss_it_is_a_read(source: Stream) -> None:
    """Entries come in order, each once; nothing is lost, and nothing is no error."""
    assert behind(source) == ([], 0)
    source.append(numbered(5))
    assert behind(source, 3) == (numbered(3), 0)
    assert behind(source, 3, "b") == (numbered(2, 3), 0)
    assert behind(source) == ([], 0)
    assert source.state().pending == 5


@pytest.mark.usefixtures("redis_7")
def test_a_stream_trimmed_in_part_is_told_once(source: Stream) -> None:
    """What was trimmed between the last read and the first entry left is counted, by one reader once."""
    source.append(numbered(10))
    assert behind(source, 3) == (numbered(3), 0)
    keep(source, 4)
    assert behind(source, 2) == (numbered(2, 6), 3)
    assert behind(source, 1, "b") == (numbered(1, 8), 0)
    assert behind(source) == (numbered(1, 9), 0)
    assert behind(source) == ([], 0)


@pytest.mark.usefixtures("redis_7")
def test_a_stream_trimmed_whole_is_told_once(source: Stream) -> None:
    """Also where nothing is left to read, the loss is noticed; and the next one is counted by itself."""
    source.append(numbered(10))
    behind(source, 3)
    keep(source, 0)
    assert behind(source) == ([], 7)
    assert behind(source, consumer="b") == ([], 0)
    source.append(numbered(2))
    assert behind(source) == (numbered(2), 0)
    source.append(numbered(9))
    keep(source, 2)
    assert behind(source) == (numbered(2, 7), 7)


@pytest.mark.usefixtures("redis_7")
def test_a_loss_before_anything_was_read_is_told(source: Stream) -> None:
    """The group was there from the beginning: all that came and went was owed to it."""
    source.append(numbered(5))
    keep(source, 2)
    assert behind(source) == (numbered(2, 3), 3)


@pytest.mark.usefixtures("redis_7")
@pytest.mark.parametrize("left", [0, 4])
def test_a_new_group_does_not_miss_what_was_gone(bare: Stream, left: int) -> None:
    """A group made on a stream that was trimmed before has lost nothing; what goes later, it has."""
    bare.append(numbered(10))
    keep(bare, left)
    assert bare.ensure_group()
    assert behind(bare) == (numbered(left, 10 - left), 0)
    assert behind(bare) == ([], 0)
    bare.append(numbered(6))
    keep(bare, 1)
    assert behind(bare) == (numbered(1, 5), 5)


@pytest.mark.parametrize("left", [0, 4, 10])
def test_a_group_made_again_is_no_alarm(source: Stream, left: int) -> None:
    """Destroyed and made again it reads what is left once more, and cries over nothing."""
    source.append(numbered(10))
    behind(source)
    keep(source, left)
    source.client.xgroup_destroy(source.key, source.group)
    assert source.ensure_group()
    assert behind(source) == (numbered(left, 10 - left), 0)
    assert behind(source) == ([], 0)


@pytest.mark.parametrize("read", [150, 200, 250])
def test_trimming_what_is_acknowledged_is_no_alarm(source: Stream, read: int) -> None:
    """Our own trim leaves what is owed, wherever it cuts: no reader calls that a loss."""
    ids = source.append(numbered(300))
    behind(source, read)
    source.ack(ids[:read])
    assert source.trim(keep_s=0) >= 100
    assert behind(source, 300) == (numbered(300 - read, read), 0)
    assert behind(source) == ([], 0)


@pytest.mark.usefixtures("redis_7")
def test_a_loss_is_not_told_again_after_a_trim(source: Stream) -> None:
    """A consumer that never catches up reads past a gap once, whatever is trimmed behind it later."""
    source.append(numbered(700))
    behind(source, 50)
    keep(source, 500)
    assert behind(source, 100)[1] == 150
    for _ in range(3):
        pending = source.client.xpending_range(source.key, source.group, "-", "+", 1000)
        source.ack([cast("bytes", one["message_id"]) for one in pending])
        source.trim(keep_s=0)
        entries, lost = behind(source, 100)
        assert (len(entries), lost) == (100, 0)


def miscount(source: Stream, last: bytes, read: int) -> None:
    """Have the server believe that the group has read so many, as after a crash."""
    source.client.execute_command(  # type: ignore[no-untyped-call]
        "XGROUP", "SETID", source.key, source.group, last, "ENTRIESREAD", read
    )
    assert read_by_group(source) == read


@pytest.mark.usefixtures("redis_7")
@pytest.mark.parametrize("wrong", [0, 3, 50])
@pytest.mark.parametrize("left", [0, 10])
def test_a_wrong_count_is_mended_and_no_alarm(source: Stream, wrong: int, left: int) -> None:
    """After a crash the server may have counted wrong: that is no loss, and the next loss is right."""
    ids = source.append(numbered(10))
    behind(source)
    source.ack(ids)
    keep(source, left)
    miscount(source, ids[-1], wrong)
    assert behind(source) == ([], 0)
    assert read_by_group(source) == 10
    source.append(numbered(5, 10))
    keep(source, 2)
    assert behind(source) == (numbered(2, 13), 3)


@pytest.mark.usefixtures("redis_7")
def test_a_wrong_count_of_a_consumer_that_is_behind_is_no_alarm(source: Stream) -> None:
    """As long as the stream reaches back to what was read, nothing between can be missing."""
    ids = source.append(numbered(10))
    behind(source, 5)
    keep(source, 8)
    miscount(source, ids[4], 1)
    assert behind(source) == (numbered(5, 5), 0)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_read_of_a_consumer_that_is_behind_tells_a_lost_group(source: Stream, loss: str) -> None:
    """It says GroupLost as a plain read does, not an error of some server."""
    source.append(numbered(3))
    behind(source, 2)
    LOSSES[loss](source)
    with pytest.raises(GroupLost):
        source.read("a", 10)


def test_a_read_of_a_key_of_another_kind_is_an_error(bare: Stream) -> None:
    """What making the group again cannot mend is raised as it is."""
    bare.client.set(bare.key, "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        bare.read("a", 10)


def test_where_the_server_does_not_count_nothing_is_claimed_to_be_lost() -> None:
    """Redis before 7 tells neither how much was added nor how much was read: no guess is made of it."""
    info = {"length": 0, "last-generated-id": b"9-0", "first-entry": None}
    group = {"name": b"postgres", "last-delivered-id": b"3-0"}
    assert stream._gap(info, group) == 0
    assert stream._gap(info | {"entries-added": 9}, group | {"entries-read": None}) == 0
    assert stream._gap(info | {"entries-added": 9}, group | {"entries-read": 3}) == 6


@pytest.mark.usefixtures("redis_7")
def test_what_a_consumer_never_saw_is_told(world: World) -> None:
    """A loss is an error in the log, a number in the metrics and one in the table; the rest is stored."""
    world.source.ensure_group()
    world.source.append(good(10))
    keep(world.source, 4)
    with capture_logs() as logs, working(world) as working_one:
        until(lambda: is_drained(world), "what is left to be stored")
    lines = said(logs, "they are lost here")
    assert [(line["entries"], line["log_level"]) for line in lines] == [(6, "error")]
    assert working_one.tally.lost == 6
    assert (world.count("game_events"), asked(world, "select sum(lost) from pipeline_health")) == (
        4,
        [6],
    )


@pytest.mark.usefixtures("redis_7")
def test_a_loss_under_a_waiting_reader_is_told(world: World) -> None:
    """A sender that adds and trims in one breath is quicker than a reader that waits for it."""
    with capture_logs() as logs, working(world) as working_one:
        until(lambda: world.client.info("clients")["blocked_clients"], "the reader to wait")
        with world.client.pipeline(transaction=True) as pipe:
            for payload in good(50):
                pipe.xadd(world.source.key, {Form.EVENT.value: payload})
            pipe.xtrim(world.source.key, maxlen=5, approximate=False)
            pipe.execute()
        until(lambda: world.count("game_events") == 5, "what is left to be stored")
        until(lambda: working_one.tally.lost == 45, "the loss to be noticed", at_most_s=5)
    assert len(said(logs, "they are lost here")) == 1


# --- the names of the dead


def silent(source: Stream, name: str, idle_s: float) -> None:
    """Wait until a consumer has been silent for so long."""

    def is_silent() -> bool:
        consumers = source.client.xinfo_consumers(source.key, source.group)
        return any(
            one["name"].decode() == name and one["idle"] >= idle_s * 1000 for one in consumers
        )

    until(is_silent, f"{name} to be silent")


@pytest.mark.usefixtures("redis_7_2")
def test_the_names_of_the_dead_are_removed(source: Stream) -> None:
    """Who holds nothing and has been silent long enough is off the list: it does not grow for ever."""
    ids = source.append(numbered(2))
    for name in ("dead", "gone"):
        source.read(name, 1)
    source.ack(ids)
    for name in ("dead", "gone"):
        silent(source, name, 4 * 0.05)
    source.read("alive", 1)
    assert source.bury("heir", claim_after_s=60.0) == Claimed([], 0, FIRST)
    assert set(source.state().consumers) == {"dead", "gone", "alive"}
    source.bury("heir", claim_after_s=0.05)
    assert not {"dead", "gone"} & set(source.state().consumers)


@pytest.mark.usefixtures("redis_7_2")
def test_who_holds_something_or_reads_or_asks_is_not_removed(source: Stream) -> None:
    """The pending entries of the dead are claimed first; the recently heard and the caller stay."""
    source.append(numbered(1))
    source.read("holder", 1)
    source.read("caller", 1)
    silent(source, "caller", 4 * 0.1)
    source.read("recent", 1)
    source.bury("caller", claim_after_s=0.1)
    state = source.state()
    assert set(state.consumers) == {"holder", "caller", "recent"}
    assert state.consumers["holder"].entries == 1


@contextmanager
def judged_silent(*names: str) -> Iterator[None]:
    """The look found these silent; what they did since, it does not know."""
    with patch.object(Stream, "_silent", return_value=list(names)):
        yield


def test_who_wakes_up_between_the_look_and_the_removal_loses_nothing(source: Stream) -> None:
    """A consumer that was paused, not dead, reads in that moment: its entries live on under the caller."""
    ids = source.append(numbered(5))
    source.read("paused", 3)
    with judged_silent("paused"):
        source.bury("heir", claim_after_s=0.05)
    state = source.state()
    assert {name: one.entries for name, one in state.consumers.items()} == {"heir": 3}
    # It knows nothing of this, and stores and acknowledges what it holds.
    source.ack(ids[:1])
    assert source.state().pending == 2
    assert payloads(source.read("paused", 1).entries) == numbered(1, 3)
    assert payloads(source.claim("heir", idle_s=0, count=10).entries) == numbered(3, 1)


def test_a_long_pending_list_is_taken_over_whole(source: Stream) -> None:
    """Not a page of it: whatever is left out would be dropped with the name."""
    source.append(numbered(3000))
    source.read("paused", 3000)
    with judged_silent("paused"):
        source.bury("heir", claim_after_s=0.05)
    assert source.state().consumers["heir"].entries == 3000


@pytest.mark.usefixtures("redis_7_2")
def test_too_much_to_take_over_is_left_for_another_time(source: Stream) -> None:
    """Redis is busy for as long as that takes: a backlog is worked off before names are removed."""
    source.append(numbered(4))
    source.ack([entry.id for entry in source.read("dead", 1).entries])
    source.read("busy", 3)
    silent(source, "dead", 4 * 0.01)
    with patch.object(stream, "_MAX_PENDING", 2):
        source.bury("heir", claim_after_s=0.01)
    assert set(source.state().consumers) == {"dead", "busy"}
    with patch.object(stream, "_MAX_PENDING", 3):
        source.bury("heir", claim_after_s=0.01)
    assert source.state().consumers.keys() == {"busy", "heir"} or (
        set(source.state().consumers) == {"heir"}
    )


@pytest.mark.usefixtures("redis_7")
def test_what_was_trimmed_while_pending_is_counted_when_names_go(source: Stream) -> None:
    """The takeover finds it gone, takes it off the list, and tells how much it was."""
    source.append(numbered(5))
    source.read("paused", 5)
    keep(source, 3)
    with judged_silent("paused"):
        assert source.bury("heir", claim_after_s=0.05).lost == 2
    assert source.state().pending == 3


@pytest.mark.parametrize("loss", ["DEL", "FLUSHDB", "XGROUP DESTROY"])
def test_without_a_group_there_are_no_names(source: Stream, loss: str) -> None:
    """Nothing to remove is no error; a group that goes between the look and the removal is told."""
    LOSSES[loss](source)
    assert source.bury("heir", claim_after_s=0.05) == Claimed([], 0, FIRST)
    with judged_silent("dead"), pytest.raises(GroupLost):
        source.bury("heir", claim_after_s=0.05)


def test_a_worker_removes_the_names_it_finds(world: World) -> None:
    """After a week of restarts the group has the names of those who live, and no others."""
    world.source.ensure_group()
    world.source.append(good(20))
    for number in range(5):
        world.source.read(f"dead-{number}", 2)
    with working(world, claim_after_s=0.05):
        until(lambda: set(world.source.state().consumers) == {"worker"}, "the names to go")
        until(lambda: is_drained(world), "what they held to be stored")
    assert world.count("game_events") == 20


# --- a Redis that evicts


@contextmanager
def policy(client: redis.Redis, name: str) -> Iterator[None]:
    """Another maxmemory-policy for the length of a block."""
    before = client.config_get("maxmemory-policy")["maxmemory-policy"]
    client.config_set("maxmemory-policy", name)
    try:
        yield
    finally:
        client.config_set("maxmemory-policy", str(before))


@pytest.mark.parametrize("name", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_a_redis_that_evicts_is_refused(bare: Stream, name: str) -> None:
    """It would throw the stream away one day, all of it. The sentence says what to do."""
    with policy(bare.client, name), pytest.raises(Evicts) as caught:
        bare.refuse_eviction()
    sentence = str(caught.value)
    assert f"maxmemory-policy {name}" in sentence
    assert "CONFIG SET maxmemory-policy noeviction" in sentence
    assert sentence.endswith(".")


def test_a_redis_that_refuses_writes_when_full_is_taken(bare: Stream) -> None:
    """Full, it makes the producer wait, and that is all."""
    with policy(bare.client, "noeviction"):
        bare.refuse_eviction()


# --- a Postgres that says nothing


def held() -> tuple[int, int]:
    """Threads and descriptors of this process."""
    return threading.active_count(), len(os.listdir("/dev/fd"))  # noqa: PTH208


def test_a_server_that_swallows_everything_is_cut_off(world: World) -> None:
    """Within the time a server may take, the wait is a temporary error; then it goes on."""
    events, silent_s = good(30), 0.8
    with proxies(postgres_socket(world.database_url)) as (proxy,):
        at_first = held()
        loader = Loader(postgres_through(proxy, world.database_url), "test", silent_s=silent_s)
        assert loader.store(batch_of(events[:10])).rows == 10
        with proxy.imposed(Toxic.BLACK_HOLE):
            began_s = time.monotonic()
            with pytest.raises(psycopg2.Error) as caught:
                loader.store(batch_of(events[10:20]))
            assert silent_s <= time.monotonic() - began_s < silent_s + 3
        assert load.is_temporary(caught.value)
        assert loader.store(batch_of(events)).rows == 20
        loader.close()
        until(lambda: held() == at_first, "every thread and descriptor to be given back")


def test_a_store_that_is_answered_leaves_nothing_behind(world: World) -> None:
    """A thousand batches a minute: what one of them left would be the end of the process in a day."""
    at_first = held()
    loader = Loader(world.database_url, "test")
    loader.store(batch_of(good(1)))
    connected, threads = held(), threading.enumerate()
    for _ in range(20):
        loader.store(batch_of(good(1)))
    assert held() == connected
    assert threading.enumerate() == threads  # not so much as another thread in place of the first
    loader.close()
    assert held() == at_first
    for _ in range(20):  # as often as a server goes away and comes back
        loader.store(batch_of([]))
        loader.close()
    assert held() == at_first


def test_a_store_that_is_slow_is_not_cut_off(world: World) -> None:
    """How soon a frozen consumer's work is taken over says nothing of how long a healthy server takes."""
    loader = Loader(world.database_url, "test", frozen_s=0.2)
    loader.store(batch_of([]))
    with world.engine.connect() as other:
        other.execute(text("lock table game_events"))
        release = threading.Timer(1.2, other.rollback)
        release.start()
        began_s = time.monotonic()
        assert loader.store(batch_of(good(1))).rows == 1
        assert time.monotonic() - began_s > 0.8
        release.join()
    loader.close()


@pytest.mark.parametrize(
    ("claim_after_s", "silent_s"), [("0.05", 60.0), ("15", 60.0), ("20", 80.0)]
)
def test_a_consumer_gives_a_server_a_minute_or_more(
    claim_after_s: str, silent_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times as long as a takeover waits, and a minute where that is less."""
    monkeypatch.setenv("REDIS_URL", "redis://h")
    monkeypatch.setenv("DATABASE_URL", "postgresql://h/d")
    monkeypatch.setenv("CLAIM_AFTER_S", claim_after_s)
    with (
        patch.object(log, "configure"),
        patch.object(load, "Loader", side_effect=SystemExit) as made,
        pytest.raises(SystemExit),
    ):
        consumer.__main__.main()
    assert made.call_args.kwargs == {"frozen_s": float(claim_after_s), "silent_s": silent_s}


def test_the_cut_leaves_another_connection_alone(world: World) -> None:
    """Closed and opened anew within the time, the number is another's: only the first one is shut down."""
    dsn = libpq_url(world.database_url)
    first = psycopg2.connect(dsn)
    with closing(Cutoff(0.1)) as cutoff, cutoff.guard(first):
        number = first.fileno()
        first.close()
        second = psycopg2.connect(dsn)
        assert second.fileno() == number
        with second.cursor() as cursor:
            cursor.execute("select pg_sleep(0.3)")
            cursor.execute("select 7")
            assert cursor.fetchone() == (7,)
    second.close()


def test_a_block_that_ended_is_not_cut_off(world: World) -> None:
    """The time counts within a block, from its own beginning; a connection at rest may rest for ever."""
    silent_s = 0.4
    connection = psycopg2.connect(libpq_url(world.database_url))
    connection.autocommit = True
    with closing(Cutoff(silent_s)) as cutoff, connection.cursor() as cursor:
        for pause_s in (0.0, 1.5 * silent_s, 0.7 * silent_s):
            threading.Event().wait(pause_s)
            with cutoff.guard(connection):
                cursor.execute("select pg_sleep(%s)", (0.7 * silent_s,))
        began_s = time.monotonic()
        with pytest.raises(psycopg2.OperationalError), cutoff.guard(connection):
            cursor.execute("select pg_sleep(10)")
        assert silent_s <= time.monotonic() - began_s < silent_s + 3
    connection.close()


def test_a_block_that_ends_while_it_is_cut_off_waits_for_that(world: World) -> None:
    """Whoever is out of the block has a connection that is cut, or one that stays: never one in between."""
    connection = psycopg2.connect(libpq_url(world.database_url))
    is_cutting, has_ended = threading.Event(), threading.Event()
    ended_first: list[bool] = []

    def cut(_: Cutoff) -> None:
        is_cutting.set()
        ended_first.append(has_ended.wait(0.2))

    with patch.object(Cutoff, "_cut", cut), closing(Cutoff(0.05)) as cutoff:
        with cutoff.guard(connection):
            assert is_cutting.wait(10)
        has_ended.set()
    assert ended_first == [False]
    connection.close()


# --- errors that go away by themselves


@pytest.mark.parametrize(
    ("code", "is_temporary"),
    [
        ("40P01", True),  # deadlock detected
        ("40001", True),  # serialization failure
        ("25P03", True),  # idle in transaction for too long
        ("25006", True),  # read-only: a standby, until the failover is over
        ("57P01", True),  # the administrator's shutdown
        ("53100", True),  # the disk is full
        ("42P01", False),  # no such table
        ("22003", False),  # a value out of range
    ],
)
def test_which_errors_of_postgres_are_temporary(code: str, is_temporary: bool) -> None:
    """What the same batch survives when it is stored again is waited for, and nothing else."""

    class Coded(errors.lookup(code)):  # type: ignore[misc]
        pgcode = code

    assert load.is_temporary(Coded()) is is_temporary


def test_a_deadlock_is_tried_again(world: World) -> None:
    """Somebody's hand locks the rows the other way round: the batch is stored again, and counted once."""
    quarantined = "select sha256 from quarantined_events order by sha256"
    world.source.append([b"bad 1", b"bad 2"])
    with working(world, name="first"):
        until(lambda: is_drained(world), "both to be quarantined")
    keys = asked(world, quarantined)
    touch = text("update quarantined_events set released_at = now() where sha256 = :key")
    with capture_logs() as logs, world.engine.connect() as other:
        # The loader notices first, after its second, and is the one that is rolled back.
        other.execute(text("set deadlock_timeout = '60s'"))
        other.commit()
        other.execute(touch, {"key": keys[1]})
        world.source.append([b"bad 1", b"bad 2"])
        with working(world, name="second"):
            until(lambda: waits_for_a_lock(world), "the loader to wait for the second row")
            other.execute(touch, {"key": keys[0]})
            other.commit()
            until(lambda: is_drained(world), "the batch to be stored again")
    assert "deadlock detected" in [line.get("error") for line in logs]
    assert asked(world, "select times_seen from quarantined_events") == [2, 2]
    assert asked(world, "select sum(quarantined) from pipeline_health") == [4]


def waits_for_a_lock(world: World) -> bool:
    """Whether a consumer stands in a queue."""
    query = (
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and application_name like 'infamous consumer%' and wait_event_type = 'Lock'"
    )
    return asked(world, query) == [1]
