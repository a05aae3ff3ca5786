"""Trim on a real stream: what everybody is done with goes, what anybody may still want stays."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from jobs import trim as trims
from jobs.trim import Trimmed, trim, trim_to_fit
from pipeline.event import encode
from pipeline.stream import Holder, Stream
from pipeline.streams import Streams
from tests.conftest import World
from tests.integration.consuming import is_drained, now_ms, until
from tests.unit.samples import chains

# Redis drops whole nodes of a hundred entries.
NODE = 100


@pytest.fixture
def source(world: World) -> Stream:
    """A stream with a group, and nothing on it."""
    world.source.ensure_group()
    return world.source


@pytest.fixture
def streams(world: World) -> Streams:
    """The same, as the only one there is."""
    return world.streams


def group(source: Stream, name: str) -> Stream:
    """Another group that reads the same stream from its beginning."""
    made = Stream(source.client, key=source.key, group=name)
    made.ensure_group()
    return made


def add(source: Stream, entries: int) -> list[bytes]:
    """Entries that carry little; their ids."""
    return source.append([b"%d" % number for number in range(entries)])


def read(source: Stream, entries: int) -> list[bytes]:
    """Let the group's consumer read so many; the ids."""
    return [entry.id for entry in source.read("reader", entries).entries]


def on_stream(source: Stream) -> list[bytes]:
    """The ids that are there."""
    return [entry.id for page in source.walk(from_ms=0, to_ms=2**60) for entry in page]


def owed(source: Stream) -> list[bytes]:
    """What the group gets when its consumer died and another takes everything over and reads on."""
    taken: list[bytes] = []
    claimed = source.claim("heir", idle_s=0, count=100_000)
    assert claimed.lost == 0
    taken += [entry.id for entry in claimed.entries]
    while page := source.read("heir", 10_000).entries:
        taken += [entry.id for entry in page]
    return taken


def test_what_all_have_acknowledged_goes(source: Stream, streams: Streams) -> None:
    """The stream does not grow for ever; at most a node of what may go stays, and again changes nothing."""
    other = group(source, "other")
    ids = add(source, 1050)
    for reader in (source, other):
        reader.ack(read(reader, 2000))
    trimmed = trim(streams, 0)
    assert trimmed.entries >= 1050 - NODE
    assert on_stream(source) == ids[trimmed.entries :]
    assert trim(streams, 0) == Trimmed(0)


def test_what_is_young_stays(source: Stream, streams: Streams) -> None:
    """Acknowledged or not, the last ``keep_s`` are kept for a replay, and older ones are not."""
    for number in range(1, 501):
        source.client.xadd(source.key, {"event": "old"}, id=f"{number}-0")
    ids = add(source, 500)
    source.ack(read(source, 2000))
    assert trim(streams, 3600).entries == 500
    assert on_stream(source) == ids
    assert trim(streams, 3600) == Trimmed(0)


def test_a_paused_consumer_loses_nothing(source: Stream, streams: Streams) -> None:
    """What no consumer of a group has read stays, however much another group is done with."""
    other = group(source, "other")
    ids = add(source, 1000)
    other.ack(read(other, 1000))
    source.ack(read(source, 250))
    assert trim(streams, 0).entries == 200
    assert owed(source) == ids[250:]


def test_what_was_read_and_not_acknowledged_stays(source: Stream, streams: Streams) -> None:
    """One entry in a dead consumer's hands keeps itself, and all after it, on the stream."""
    ids = add(source, 1000)
    read(source, 1000)
    source.ack(ids[:345] + ids[346:])
    assert trim(streams, 0).entries == 300
    assert owed(source) == [ids[345]]


def test_a_group_that_never_read_keeps_everything(source: Stream, streams: Streams) -> None:
    """A group made at the beginning is owed all that is there."""
    other = group(source, "other")
    ids = add(source, 500)
    source.ack(read(source, 500))
    assert trim(streams, 0) == Trimmed(0)
    assert owed(other) == ids


def test_without_a_group_nothing_goes(world: World) -> None:
    """A stream nobody reads yet waits for its first reader; no stream at all is no error."""
    assert trim(world.streams, 0) == Trimmed(0)
    ids = add(world.source, 500)
    assert trim(world.streams, 0) == Trimmed(0)
    world.source.ensure_group()
    assert owed(world.source) == ids


def test_a_deleted_entry_that_is_pending_does_no_harm(source: Stream, streams: Streams) -> None:
    """Somebody's XDEL leaves an id on the pending list: trimming stops there and forgets nothing."""
    ids = add(source, 500)
    read(source, 500)
    source.ack(ids[:200] + ids[201:])
    source.client.xdel(source.key, ids[200])
    assert trim(streams, 0).entries == 200
    assert source.state().pending == 1


@pytest.mark.parametrize("seed", range(4))
def test_no_group_ever_misses_an_entry(source: Stream, streams: Streams, seed: int) -> None:
    """Two groups that read and acknowledge by chance, trims in between: each gets every entry."""
    chance = random.Random(seed)
    groups = {"postgres": source, "other": group(source, "other")}
    added: list[bytes] = []
    pending: dict[str, list[bytes]] = {name: [] for name in groups}
    acknowledged: dict[str, list[bytes]] = {name: [] for name in groups}
    trimmed = 0
    for _ in range(30):
        added += add(source, chance.randrange(300))
        for name, reader in groups.items():
            pending[name] += read(reader, chance.randrange(1, 400))
            if chance.random() < 0.3:
                chance.shuffle(pending[name])
            done = chance.randrange(len(pending[name]) + 1)
            reader.ack(pending[name][:done])
            acknowledged[name] += pending[name][:done]
            del pending[name][:done]
        trimmed += trim(streams, 0).entries
    assert on_stream(source) == added[trimmed:]
    for name, reader in groups.items():
        assert sorted(acknowledged[name] + owed(reader)) == sorted(added)
        reader.ack(added)
    assert trim(streams, 0).entries + trimmed >= len(added) - NODE


def test_groups_called_as_they_like_are_reckoned_with(source: Stream, streams: Streams) -> None:
    """A foreign group whose name is no text stops neither trim nor reader, and loses nothing."""
    add(source, 300)
    source.client.xgroup_create(source.key, b"\xff\xfe", id="0")
    source.ack(read(source, 300))
    assert trim(streams, 0) == Trimmed(0)
    assert source.state().undelivered == 0
    assert source.find(b"7", since_ms=0) is not None
    source.client.xgroup_destroy(source.key, b"\xff\xfe")
    assert trim(streams, 0).entries >= 300 - NODE


def test_the_last_number_of_a_millisecond(source: Stream, streams: Streams) -> None:
    """An id that ends in the largest number has a successor in the next millisecond."""
    source.client.xadd(source.key, {"event": "x"}, id=f"5-{2**64 - 1}")
    source.ack(read(source, 1))
    assert trim(streams, 0).entries in {0, 1}


def test_memory_that_runs_short_shortens_what_is_kept(
    source: Stream, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Redis refuses events, what all have stored goes, oldest first; what any may want stays."""
    monkeypatch.setattr(trims, "_SHORTEST_S", 0.001)  # all of it is a moment old
    client = source.client
    source.append([b"x" * 1000] * 20_000)
    ids = read(source, 15_000)
    source.ack(ids)
    assert trim_to_fit(streams, 86_400, 0.5).entries == 0  # there is room
    used = int(client.info("memory")["used_memory"])
    client.config_set("maxmemory", int(used * 1.5))
    try:
        assert trim_to_fit(streams, 86_400, 0.9).entries == 0
        trimmed = trim_to_fit(streams, 86_400, 0.4).entries
        assert source.memory_share() < 0.67
    finally:
        client.config_set("maxmemory", 0)
    assert 10_000 < trimmed <= 15_000
    assert len(owed(source)) == 5000


# --- who holds the trim back


def test_the_slowest_group_is_named(source: Stream) -> None:
    """By what it has not acknowledged: unread entries, one in the hands of a consumer, or nothing."""
    assert source.holder() is None  # no entries
    other = group(source, "other")
    ids = add(source, 500)
    other.ack(read(other, 100))
    source.ack(read(source, 200))
    found = source.holder()
    assert found is not None
    assert (found.group, found.entries, found.is_estimate) == ("other", 400, False)
    assert found.since_ms == int(ids[100].split(b"-")[0])
    assert 0 <= found.since_s < 60
    other.ack(read(other, 400))
    assert owner(source.holder()) == ("postgres", 300)
    read(source, 300)
    source.ack(ids[:499])
    assert owner(source.holder()) == ("postgres", 1)  # the very last, which is pending
    source.ack(ids)
    assert source.holder() is None


def owner(found: Holder | None) -> tuple[str, int] | None:
    """Whose it is, and how many entries."""
    return None if found is None else (found.group, found.entries)


@contextmanager
def limited(source: Stream, factor: float) -> Iterator[None]:
    """Redis may use so many times what it uses now."""
    client = source.client
    # What an old server keeps for a connection that sent much it gives back when it feels like it.
    client.connection_pool.disconnect()
    before = client.config_get("maxmemory")["maxmemory"] or 0
    client.config_set("maxmemory", int(int(client.info("memory")["used_memory"]) * factor))
    try:
        yield
    finally:
        client.config_set("maxmemory", before)


def test_without_a_group_nobody_holds_anything(world: World) -> None:
    """No stream, and a stream that nobody reads yet, are no error."""
    assert world.source.holder() is None
    add(world.source, 3)
    assert world.source.holder() is None


def test_a_full_memory_is_told_with_who_fills_it(
    source: Stream, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing more can be trimmed the warning names the group, whatever it is called."""
    monkeypatch.setattr(trims, "_SHORTEST_S", 0.001)
    client = source.client
    source.append([b"x" * 1000] * 5000)
    client.xgroup_create(source.key, b"\x1b[2J\xff", id="0")
    source.ack(read(source, 5000))
    with limited(source, 1.1), capture_logs() as logs:
        done = trim_to_fit(streams, 86_400, 0.5)
        client.xgroup_destroy(source.key, b"\x1b[2J\xff")
        trim_to_fit(streams, 86_400, 0.0)
    assert done.entries == 0
    assert 0.85 < done.memory_share < 1.0
    held, free = logs
    assert held["log_level"] == free["log_level"] == "warning"
    assert "at 100 % it refuses events" in held["event"]
    assert (held["group"], held["entries"]) == (r"\x1b[2J\\xff", 5000)
    assert held["memory"].endswith("%")
    assert "no group holds entries back" in free["event"]


def test_a_frozen_consumer_loses_nothing_when_memory_is_full(
    world: World, source: Stream, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen with a backlog, trimmed as hard as a full memory asks for, and thawed: every event is a row."""
    monkeypatch.setattr(trims, "_SHORTEST_S", 0.001)
    events = [encode(event) for event in chains(4000, start_ms=now_ms() - 60_000)]
    consumer = subprocess.Popen(
        [sys.executable, "-P", "-m", "consumer"],
        env={**os.environ, **world.environment, "CLAIM_AFTER_S": "60"},
        stderr=subprocess.DEVNULL,
    )
    try:
        source.append(events[:1000])
        until(lambda: is_drained(world), "the first to be stored")
        consumer.send_signal(signal.SIGSTOP)
        source.append(events[1000:])
        with limited(source, 1.1):
            done = trim_to_fit(streams, 86_400, 0.5)
        assert done.entries > 0
        assert source.state().entries >= 3000
        found = source.holder()
        assert found is not None
        assert (found.group, found.entries) == ("postgres", 3000)
        consumer.send_signal(signal.SIGCONT)
        until(lambda: is_drained(world), "the rest to be stored")
        assert world.count("game_events") == 4000
        assert world.count("quarantined_events") == 0
    finally:
        consumer.send_signal(signal.SIGCONT)
        consumer.terminate()
        assert consumer.wait(20) == 0
