"""The stream on a real server: reading, claiming, losing the group, and what onlookers are told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest
import redis

from consumer.doorbell import Doorbell
from infamous.embedded.servers import Servers
from pipeline import stream
from pipeline.entry import Entry, Form
from pipeline.stream import FIRST, GroupLost, Pending, Stream, StreamState
from tests.integration.consuming import now_ms, until


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """The database that no world uses: these tests need no Postgres beside it."""
    return servers.redis_url


@pytest.fixture
def bare(redis_url: str) -> Iterator[Stream]:
    """A stream that is not there yet."""
    made = Stream(stream.connect(redis_url))
    made.client.flushdb()
    yield made
    made.client.flushdb()
    made.client.close()


@pytest.fixture
def source(bare: Stream) -> Stream:
    """A stream whose group is there and to which nothing was added."""
    bare.ensure_group()
    return bare


def numbered(count: int, first: int = 0) -> list[bytes]:
    """Payloads that tell their number."""
    return [b"%d" % number for number in range(first, first + count)]


def payloads(entries: list[Entry]) -> list[bytes]:
    """What entries carry."""
    return [entry.payload for entry in entries]


def test_what_is_appended_is_read_once_and_in_order(source: Stream) -> None:
    """Two readers share the entries: each is read by one of them, in the order of adding."""
    ids = source.append(numbered(10))
    first, second = source.read("a", 4).entries, source.read("b", 100).entries
    assert payloads(first) == numbered(4)
    assert payloads(second) == numbered(6, 4)
    assert [entry.id for entry in first + second] == ids
    assert source.read("a", 100).entries == []


@pytest.mark.parametrize("raw", [b"", b"\0\xff\r\n", b"x" * 300_000])
def test_bytes_come_through_as_they_are(source: Stream, raw: bytes) -> None:
    """What is no event must reach the quarantine byte for byte."""
    source.append([raw])
    (entry,) = source.read("a", 1).entries
    assert (entry.payload, entry.form) == (raw, Form.EVENT)


def test_appending_nothing_adds_nothing(source: Stream) -> None:
    """An empty parcel is no error."""
    assert source.append([]) == []
    assert source.state().entries == 0


def test_a_wait_ends_when_an_entry_comes(source: Stream, redis_url: str) -> None:
    """A lone event is read when it comes, not when the wait is over; what is there ends it at once."""
    rung: list[set[str]] = []
    other, bell = Stream(stream.connect(redis_url)), Doorbell()

    def wait() -> None:
        rung.append(bell.wait({other.key: (other, b"0-0")}, 4.0))

    with patch.object(stream, "BLOCK_MS", 4000):
        for is_there in (False, True):
            thread = threading.Thread(target=wait)
            thread.start()
            if not is_there:
                until(lambda: source.client.info("clients")["blocked_clients"], "it to wait")
                assert not rung
                source.append([b"1"])
            thread.join(3.5)
            assert rung.pop() == {other.key}
    bell.close()
    other.client.close()


@pytest.mark.parametrize(
    "fields",
    [
        {b"a": b"b"},
        {b"event": b"{}", b"more": b"1"},
        {b"Event": b"{}"},
        {b"": b""},
        {b"\xff\0": b"\x80", b"x": b""},
    ],
)
def test_foreign_entries_are_handed_on_whole(source: Stream, fields: dict[bytes, bytes]) -> None:
    """An entry with other fields is marked as such and keeps every byte of them."""
    source.client.xadd(source.key, dict(fields))  # type: ignore[arg-type]
    (entry,) = source.read("a", 1).entries
    assert entry.form is Form.FOREIGN
    flat = [value.encode("latin-1") for value in json.loads(entry.payload)]
    assert flat == [part for pair in fields.items() for part in pair]


def test_the_field_given_twice_is_foreign(source: Stream) -> None:
    """Two events in one entry are not one event: neither is picked."""
    source._run("XADD", source.key, "*", "event", "1", "event", "2")
    (entry,) = source.read("a", 1).entries
    assert (entry.form, json.loads(entry.payload)) == (Form.FOREIGN, ["event", "1", "event", "2"])


def test_only_the_acknowledged_leave_the_pending_list(source: Stream) -> None:
    """What was read stays owed until it is acknowledged; acknowledging again, or nothing, is harmless."""
    source.append(numbered(2500))
    read = source.read("a", 2500).entries
    source.ack([entry.id for entry in read[:2300]])
    source.ack([entry.id for entry in read[:10]])
    source.ack([])
    assert source.state().pending == 200


# --- the group


def test_the_group_begins_at_the_beginning(bare: Stream) -> None:
    """A group that is made late owes its consumers what is on the stream already."""
    bare.append(numbered(3))
    assert bare.ensure_group()
    assert not bare.ensure_group()
    assert payloads(bare.read("a", 10).entries) == numbered(3)
    assert not bare.ensure_group()
    assert bare.read("a", 10).entries == []


LOSSES: dict[str, Callable[[Stream], object]] = {
    "DEL": lambda source: source.client.delete(source.key),
    "FLUSHDB": lambda source: source.client.flushdb(),
    "XGROUP DESTROY": lambda source: source.client.xgroup_destroy(source.key, source.group),
    "a new stream": lambda source: (source.client.delete(source.key), source.append([b"new"])),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("is_empty", [False, True])
def test_a_lost_group_is_told_and_can_be_made_again(
    source: Stream, loss: str, is_empty: bool
) -> None:
    """Read and claim say GroupLost, not an error of some server; ack and leave are harmless then."""
    if not is_empty:
        source.append(numbered(3))
        source.read("a", 2)
    LOSSES[loss](source)
    with pytest.raises(GroupLost):
        source.read("a", 10)
    with pytest.raises(GroupLost):
        source.claim("a", idle_s=0, count=10)
    source.ack([b"1-1"])
    source.leave("a")
    assert source.ensure_group()
    source.append([b"after"])
    assert payloads(source.read("a", 10).entries)[-1] == b"after"


@pytest.mark.parametrize("loss", ["DEL", "FLUSHDB", "XGROUP DESTROY"])
def test_a_wait_outlives_the_loss(source: Stream, redis_url: str, loss: str) -> None:
    """A consumer that waits for news when the group goes is not ended by it; its next read tells."""
    other, bell = Stream(stream.connect(redis_url)), Doorbell()
    with patch.object(stream, "BLOCK_MS", 500):
        thread = threading.Thread(target=lambda: bell.wait({"it": (other, b"0-0")}, 1.0))
        thread.start()
        until(lambda: source.client.info("clients")["blocked_clients"], "it to wait")
        LOSSES[loss](source)
        thread.join(3.5)
    assert not thread.is_alive()
    with pytest.raises(GroupLost):
        other.read("a", 10)
    bell.close()
    other.client.close()


def test_a_key_of_another_kind_is_no_lost_group(bare: Stream) -> None:
    """What waiting or making a group cannot mend is raised as it is."""
    bare.client.set(bare.key, "x")
    for call in (
        bare.ensure_group,
        lambda: bare.read("a", 1),
        lambda: bare.append([b"1"]),
    ):
        with pytest.raises(redis.ResponseError, match="WRONGTYPE") as caught:
            call()
        assert not stream.is_temporary(caught.value)


# --- claiming


def test_what_a_dead_consumer_held_is_taken_over(source: Stream) -> None:
    """After the idle time another consumer gets the entries, and only after it."""
    source.append(numbered(5))
    read = source.read("dead", 3).entries
    fresh = source.claim("heir", idle_s=60, count=10)
    assert (fresh.entries, fresh.lost) == ([], 0)
    taken = source.claim("heir", idle_s=0, count=10)
    assert taken.entries == read
    assert taken.next_start == FIRST
    assert source.state().consumers == {"dead": _pending(0), "heir": _pending(3)}


class _Any(int):
    """Equal to any number: an idle time is not known beforehand."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int)

    __hash__ = int.__hash__


def _pending(entries: int) -> Pending:
    return Pending(entries, _Any(0))


def test_a_claim_walks_the_pending_list_in_steps(source: Stream) -> None:
    """A long pending list is taken over page by page, each entry once, until the walk is back at 0-0."""
    source.append(numbered(250))
    source.read("dead", 250)
    taken: list[bytes] = []
    start, steps = FIRST, 0
    while steps == 0 or start != FIRST:
        claimed = source.claim("heir", idle_s=0, count=100, start=start)
        taken += payloads(claimed.entries)
        start, steps = claimed.next_start, steps + 1
    assert taken == numbered(250)
    assert steps == 3


@pytest.mark.parametrize("how", ["XDEL", "XTRIM"])
def test_entries_deleted_while_pending_are_counted_as_lost(source: Stream, how: str) -> None:
    """What was trimmed before it was stored is told once, leaves the pending list, and hides nothing."""
    ids = source.append(numbered(5))
    source.read("dead", 5)
    if how == "XDEL":
        source.client.xdel(source.key, *ids[:2])
    else:
        source.client.xtrim(source.key, minid=ids[2].decode(), approximate=False)
    claimed = source.claim("heir", idle_s=0, count=10)
    assert (claimed.lost, payloads(claimed.entries)) == (2, numbered(3, 2))
    assert source.claim("heir", idle_s=0, count=10).lost == 0
    assert source.state().pending == 3


def test_foreign_entries_are_claimed_as_such(source: Stream) -> None:
    """A takeover tells a foreign entry from an event as a read does."""
    source.client.xadd(source.key, {"a": "b"})
    source.read("dead", 1)
    (entry,) = source.claim("heir", idle_s=0, count=1).entries
    assert (entry.form, json.loads(entry.payload)) == (Form.FOREIGN, ["a", "b"])


def test_a_consumer_leaves_unless_entries_are_pending_under_its_name(source: Stream) -> None:
    """Removing a name drops its pending entries for good, so that waits until there are none."""
    source.append(numbered(2))
    read = source.read("a", 1).entries + source.read("b", 1).entries
    source.ack([read[1].id])
    source.leave("a")
    source.leave("b")
    source.leave("never seen")
    assert set(source.state().consumers) == {"a"}
    assert source.state().pending == 1


# --- what onlookers are told


def test_state_without_a_stream(bare: Stream) -> None:
    """Before the first event there is nothing, and no error."""
    assert bare.state() == StreamState()


@pytest.mark.usefixtures("redis_7")
def test_state_without_a_group(bare: Stream) -> None:
    """Without a group everything waits, since the first entry came."""
    ids = bare.append(numbered(3))
    state = bare.state()
    assert (state.exists, state.group_exists, state.entries, state.added) == (True, False, 3, 3)
    assert (state.undelivered, state.pending) == (3, 0)
    assert state.oldest_waiting_ms == _ms(ids[0])


def _ms(entry_id: bytes) -> int:
    return int(entry_id.split(b"-")[0])


def test_state_of_an_empty_stream_with_a_group(source: Stream) -> None:
    """A consumer that came before the producer: nothing waits."""
    state = source.state()
    assert (state.exists, state.group_exists, state.entries) == (True, True, 0)
    assert (state.undelivered, state.pending, state.oldest_waiting_ms) == (0, 0, None)


@pytest.mark.usefixtures("redis_7")
def test_state_follows_reading_and_acknowledging(source: Stream) -> None:
    """Undelivered becomes pending becomes done; the oldest that waits is the oldest of both."""
    ids = [source.append([raw])[0] for raw in numbered(4)]
    assert (source.state().undelivered, source.state().oldest_waiting_ms) == (4, _ms(ids[0]))
    source.read("a", 1)
    source.read("b", 2)
    state = source.state()
    assert (state.undelivered, state.pending) == (1, 3)
    assert state.consumers == {"a": _pending(1), "b": _pending(2)}
    assert state.oldest_waiting_ms == _ms(ids[0])
    source.ack(ids[:2])
    assert source.state().oldest_waiting_ms == _ms(ids[2])
    source.ack(ids[2:3])
    assert source.state().oldest_waiting_ms == _ms(ids[3])
    source.read("a", 1)
    source.ack(ids[3:])
    state = source.state()
    assert (state.undelivered, state.pending, state.oldest_waiting_ms) == (0, 0, None)
    assert (state.entries, state.added, state.last_id) == (4, 4, ids[3].decode())


@pytest.mark.parametrize("deleted", [(5,), (9,), (3, 4, 5, 6, 7, 8, 9), (0, 9), (6, 7)])
def test_undelivered_is_exact_after_deletions(source: Stream, deleted: tuple[int, ...]) -> None:
    """The server's own lag is unknown or wrong after XDEL: the count is not."""
    ids = source.append(numbered(10))
    source.read("a", 3)
    source.client.xdel(source.key, *(ids[number] for number in deleted))
    state = source.state()
    assert state.undelivered == 7 - len([number for number in deleted if number >= 3])
    assert not state.undelivered_is_estimate


@pytest.mark.parametrize("at", [0, 4, 9])
def test_undelivered_is_exact_for_a_group_made_mid_stream(bare: Stream, at: int) -> None:
    """Somebody else may have made the group anywhere: what comes after its place waits."""
    ids = bare.append(numbered(10))
    bare.client.xgroup_create(bare.key, bare.group, id=ids[at].decode())
    assert bare.state().undelivered == 9 - at


@pytest.mark.parametrize(
    ("entries", "is_estimate"), [(4999, False), (5000, False), (5001, False), (20_001, True)]
)
def test_undelivered_is_counted_up_to_a_limit(
    source: Stream, entries: int, is_estimate: bool
) -> None:
    """A page's edge changes nothing; beyond the limit the number is marked as the server's own."""
    source.append([b""] * entries)
    state = source.state()
    assert (state.undelivered, state.undelivered_is_estimate) == (entries, is_estimate)


def test_other_groups_are_not_ours(source: Stream) -> None:
    """What another group reads is no part of our state."""
    source.client.xgroup_create(source.key, "other", id="0")
    source.append(numbered(3))
    Stream(source.client, group="other").read("x", 2)
    state = source.state()
    assert (state.undelivered, state.pending, dict(state.consumers)) == (3, 0, {})


def test_find_tells_where_an_entry_is(source: Stream) -> None:
    """Waiting, read by somebody, acknowledged, or not there at all."""
    needle, since_ms = b"b" * 36, now_ms() - 60_000
    assert source.find(needle, since_ms=since_ms) is None
    (entry_id,) = source.append([b'{"id":"%s"}' % needle])
    source.append(numbered(2))
    found = source.find(needle, since_ms=since_ms)
    assert found is not None
    assert (found.entry_id, found.added_ms) == (entry_id.decode(), _ms(entry_id))
    assert (found.is_undelivered, found.consumer) == (True, None)
    source.read("a", 1)
    found = source.find(needle, since_ms=since_ms)
    assert found is not None
    assert (found.is_undelivered, found.consumer) == (False, "a")
    source.ack([entry_id])
    found = source.find(needle, since_ms=since_ms)
    assert found is not None
    assert (found.is_undelivered, found.consumer) == (False, None)
    assert source.find(needle, since_ms=now_ms() + 60_000) is None
    source.client.xdel(source.key, entry_id)
    assert source.find(needle, since_ms=0) is None


def test_find_looks_past_the_first_page_and_without_a_group(bare: Stream) -> None:
    """The whole stream is searched, foreign entries included, whether or not it was ever consumed."""
    bare.append([b"x"] * 5001)
    bare.client.xadd(bare.key, {"a": "needle"})
    found = bare.find(b"needle", since_ms=-5)
    assert found is not None
    assert (found.is_undelivered, found.consumer) == (True, None)


# --- the client


def test_the_client_opens_late_and_never_retries() -> None:
    """A client for a server that is away is made without a word; its first command fails once."""
    client = stream.connect("redis://127.0.0.1:1/0")
    with pytest.raises(redis.ConnectionError) as caught:
        client.ping()
    assert stream.is_temporary(caught.value)
    client.close()


@pytest.mark.parametrize(
    ("error", "is_temporary"),
    [
        (redis.ConnectionError("gone"), True),
        (redis.TimeoutError("slow"), True),
        (redis.WatchError("A ConnectionError occurred while watching one or more keys"), True),
        (redis.exceptions.BusyLoadingError("loading"), True),
        (redis.exceptions.OutOfMemoryError("command not allowed"), True),
        (redis.exceptions.ReadOnlyError("replica"), True),
        (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"), True),
        (redis.ResponseError("NOREPLICAS Not enough good replicas to write."), True),
        (redis.exceptions.ClusterDownError("The cluster is down"), True),
        (redis.ResponseError("WRONGTYPE Operation against a key"), False),
        (redis.ResponseError("ERR unknown command"), False),
        (redis.exceptions.NoPermissionError("no permissions"), False),
        (redis.exceptions.AuthenticationError("WRONGPASS"), False),
        (ValueError("MISCONF"), False),
    ],
)
def test_what_is_temporary(error: Exception, is_temporary: bool) -> None:
    """An outage is waited for; a wrong password or a programming fault is not."""
    assert stream.is_temporary(error) is is_temporary


def test_out_of_memory_is_temporary(bare: Stream) -> None:
    """A full server refuses writes in words that are recognised, and takes them again later."""
    before = bare.client.config_get("maxmemory")["maxmemory"]
    bare.client.config_set("maxmemory", "1")
    try:
        with pytest.raises(redis.RedisError) as caught:
            bare.append([b"x"])
    finally:
        bare.client.config_set("maxmemory", str(before))
    assert stream.is_temporary(caught.value)
    assert len(bare.append([b"x"])) == 1


def test_a_redis_that_fills_up_within_a_transaction_is_waited_for(source: Stream) -> None:
    """EXEC is refused in other words than a command is, and a producer must not end for it."""
    client, limit = source.client, source.client.config_get("maxmemory")["maxmemory"]
    with redis.Redis(
        connection_pool=client.connection_pool, single_connection_client=True
    ) as single:
        single.execute_command("MULTI")
        single.execute_command("XADD", source.key, "*", "event", "x")
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(redis.ResponseError) as caught:
                single.execute_command("EXEC")
        finally:
            client.config_set("maxmemory", str(limit))
    assert stream.is_temporary(caught.value)
    assert source.state().entries == 0
