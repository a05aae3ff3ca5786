"""The jobs and the command line on a divided stream, on one of another division, and while a part is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from msgspec.structs import replace
from structlog.testing import capture_logs

from infamous import report, shadow, status, trace
from infamous.prove.cluster import Cluster
from infamous.prove.proxy import Toxic, proxies
from infamous.up import console
from infamous.watch import Watcher
from jobs import archive as archives
from jobs import tasks
from jobs import trim as trims
from jobs.archiver import Archived, archive_all
from jobs.backpressure import NobodyReads
from jobs.fix import fix
from jobs.forget import forget, look
from jobs.imports import import_file
from jobs.manifest import partition_of
from jobs.mapping import Plan
from jobs.quarantine import Choice
from jobs.queue import NEEDS_PLAIN
from jobs.release import release
from jobs.remedy import python
from jobs.replay import BrokenOff, replay, replay_events
from jobs.storage import Storage
from jobs.trim import trim, trim_to_fit
from pipeline import stream
from pipeline.entry import Form, array_of, payloads_of
from pipeline.event import Event, Window, datetime_of, encode
from pipeline.stream import ARCHIVE_GROUP, STREAM, Stream
from pipeline.streams import LAYOUTS, Streams, keys
from producer.simulate import COLE
from tests import commands
from tests.conftest import World
from tests.integration.consuming import is_drained, now_ms, until, working
from tests.integration.test_proxy import redis_socket, redis_through
from tests.unit.samples import RETENTION_DAYS, chains

PARTITIONS = 4
FOR_EVER_MS = 2**63
NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture
def streams(world: World) -> Iterator[Streams]:
    """Four streams that are written into, beside the undivided one."""
    with closing(Streams(world.redis_url, PARTITIONS)) as made:
        made.note()
        yield made


@pytest.fixture
def again(world: World) -> Iterator[Streams]:
    """The undivided stream of those who went back to it; nobody told them what there was before."""
    with closing(Streams(world.redis_url)) as made:
        yield made


def recent(events: int, *, seed: int = 1) -> list[Event]:
    """Healthy events of a minute ago, of so many players that each of a few streams has some."""
    made = chains(events, seed=seed, start_ms=now_ms() - 60_000)
    return [replace(one, player=f"Conduit {number % 20}") for number, one in enumerate(made)]


def send(streams: Streams, events: list[Event]) -> None:
    """As our producer does: each to its player's stream."""
    streams.append_entries([(Form.EVENT, encode(event)) for event in events])


def consume(streams: Streams) -> int:
    """Read and acknowledge all there is, of every stream; says how many entries."""
    streams.look()
    count = 0
    for one in streams.all:
        if not one.state().exists:
            continue
        one.ensure_group()
        while page := one.read("reader", 1000).entries:
            one.ack([entry.id for entry in page])
            count += len(page)
    return count


def ids_on(source: Stream) -> list[str]:
    """The ids of the events that are on a stream, in its order."""
    return [
        json.loads(payload)["id"]
        for page in source.walk(from_ms=0, to_ms=FOR_EVER_MS)
        for entry in page
        for payload in payloads_of(entry)
    ]


def ids(events: list[Event]) -> list[str]:
    """Theirs."""
    return [str(event.id) for event in events]


def take_away(streams: Streams, number: int) -> tuple[Stream, redis.Redis]:
    """Let a stream be where nobody listens; returns it, and the client that reached it."""
    lost = streams.written[number]
    client = lost.client
    lost.client = stream.connect(NOBODY)
    return lost, client


def archived(streams: Streams, storage: Storage, **options: Any) -> Archived:
    """Archive what is on all streams."""
    kept = streams.of_group(ARCHIVE_GROUP)
    return archive_all(kept, storage, retention_days=RETENTION_DAYS, **options)


# --- trim


def test_a_trim_passes_over_a_stream_that_is_away(streams: Streams) -> None:
    """The others are trimmed and it is named; when it is back, it is trimmed like them."""
    for one in streams.written:
        one.append([b"x"] * 300)
    consume(streams)
    lost, client = take_away(streams, 2)
    with capture_logs() as logs:
        done = trim(streams, 0)
    assert done.entries >= 600
    assert {*done.away} == {lost.key}
    assert [line["stream"] for line in logs] == [lost.key]
    lost.client = client
    assert trim(streams, 0).entries >= 200


def test_a_trim_ends_where_all_are_away() -> None:
    """A job that can do nothing fails, as it does with one stream."""
    with closing(Streams(NOBODY, 3)) as streams, pytest.raises(redis.ConnectionError):
        trim(streams, 0)


def test_the_streams_of_a_full_node_are_trimmed(
    world: World, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of one server share its memory: what may go of each goes, and a warning says who holds the rest."""
    monkeypatch.setattr(trims, "_SHORTEST_S", 0.001)
    for one in streams.written:
        one.append([b"x" * 1000] * 1500)
    consume(streams)
    held = streams.written[1]
    held.client.xgroup_create(held.key, "idle", id="0")
    client = world.client
    before = client.config_get("maxmemory")["maxmemory"] or 0
    client.config_set("maxmemory", int(int(client.info("memory")["used_memory"]) * 1.1))
    try:
        with capture_logs() as logs:
            done = trim_to_fit(streams, 86_400, 0.01)
    finally:
        client.config_set("maxmemory", before)
    left = [one.state().entries for one in streams.written if one is not held]
    assert max(left) <= 100
    assert held.state().entries == 1500
    assert (done.entries, done.away) == (4500 - sum(left), {})
    (line,) = logs
    assert (line["group"], line["stream"]) == ("idle", held.key)


# --- the archive


def test_each_stream_has_a_partition_of_the_archive(streams: Streams, tmp_path: Path) -> None:
    """Named after its stream, with a position of its own; what reads the archive reads all of them."""
    events, undivided = recent(200), recent(30, seed=2)
    storage = Storage(str(tmp_path))
    send(streams, events)
    streams.all[-1].append([encode(event) for event in undivided])
    told: list[tuple[int, int | None]] = []
    done = archived(streams, storage, tell=lambda *far: told.append(far))
    assert (done.entries, done.events, done.away, done.is_complete) == (230, 230, {}, True)
    assert told[-1] == (230, 230)
    assert archives.partitions(storage) == [0, 1, 2, 3, 4]
    for one in streams.all:
        here = archives.position(storage, partition_of(one.key))
        assert here is not None
        assert here.entry == one.last().decode()
    read = [str(one.id) for page in archives.read(storage, 0, FOR_EVER_MS) for one in page]
    assert sorted(read) == sorted(ids([*events, *undivided]))
    found = archives.verify(storage)
    assert (found.rows, found.faults, found.left_over) == (230, (), ())
    assert archived(streams, storage).entries == 0


def test_a_stream_that_is_away_is_archived_later(streams: Streams, tmp_path: Path) -> None:
    """The others are archived and it is named; when it is back, nothing of it is missing."""
    events, storage = recent(200), Storage(str(tmp_path))
    send(streams, events)
    lost, client = take_away(streams, 0)
    with capture_logs() as logs:
        done = archived(streams, storage)
    assert {*done.away} == {lost.key}
    assert 0 < done.events < 200
    assert [line["stream"] for line in logs] == [lost.key]
    lost.client = client
    assert done.events + archived(streams, storage).events == 200
    assert archives.gaps(storage) == []


def test_a_run_that_must_end_begins_with_the_stream_that_waits_longest(
    streams: Streams, tmp_path: Path
) -> None:
    """Else the last of them would wait for as long as there is enough to do on the first."""
    streams.written[3].append([b"first"])
    until(lambda: now_ms() > int(streams.written[3].last().split(b"-")[0]), "the clock to go on")
    streams.written[0].append([b"second"])
    storage = Storage(str(tmp_path))
    seen: list[int] = []

    class Stop:
        def is_set(self) -> bool:
            seen.append(len(archives.partitions(storage)))
            return len(seen) > 1

    done = archived(streams, storage, stop=Stop())
    assert not done.is_complete
    assert archives.partitions(storage) == [partition_of(streams.written[3].key)]


def test_a_manifest_of_any_partition_is_missed_and_mended(streams: Streams, tmp_path: Path) -> None:
    """Its files are told from those of another partition, whose batches have the same numbers."""
    storage = Storage(str(tmp_path))
    send(streams, recent(200))
    archived(streams, storage)
    (tmp_path / "manifests" / "partition=3" / "00000001.json").unlink()
    assert archives.missing(storage) == ["manifests/partition=3/00000001.json"]
    assert len(archives.verify(storage).faults) == 1
    assert archives.mend(storage).manifests == 1
    found = archives.verify(storage)
    assert (found.rows, found.faults) == (200, ())


def test_an_event_in_two_partitions_is_restored_once(
    world: World, streams: Streams, again: Streams, tmp_path: Path
) -> None:
    """It was archived from its stream of four, and again when it was replayed onto the undivided one."""
    events, storage = recent(200), Storage(str(tmp_path))
    send(streams, events)
    archived(streams, storage)
    replay(again, 0, FOR_EVER_MS)
    assert archived(again, storage).events == 200
    assert archives.verify(storage).rows == 400
    world.client.delete(STREAM)
    done = replay_events(again, archives.read(storage, 0, FOR_EVER_MS))
    assert done.events == 200
    assert sorted(ids_on(world.source)) == sorted(ids(events))


# --- what is sent again


def test_a_replay_walks_all_streams_and_sends_to_those_of_today(
    world: World, streams: Streams, again: Streams
) -> None:
    """From four to one and back: each event goes once, to where its player is now."""
    events = recent(200)
    send(streams, events)
    done = replay(again, 0, FOR_EVER_MS)
    assert (done.events, done.repeated) == (200, 0)
    assert sorted(ids_on(world.source)) == sorted(ids(events))
    before = [len(ids_on(one)) for one in streams.written]
    done = replay(streams, 0, FOR_EVER_MS)
    assert (done.events, done.repeated) == (200, 200)
    for one, count in zip(streams.written, before, strict=True):
        found = ids_on(one)
        assert sorted(found[:count]) == sorted(found[count:])
        theirs = {str(event.id) for event in events if streams.of(event.player) is one}
        assert {*found} == theirs


def test_arrays_are_divided_into_arrays(streams: Streams, world: World) -> None:
    """Out of an archive, or out of old arrays, each player's part goes to their stream, many in an entry."""
    events = recent(1000)
    done = replay_events(streams, [events])
    assert done.events == 1000
    assert sum(len(ids_on(one)) for one in streams.written) == 1000
    # Ten arrays of a hundred, and of each stream a piece that is not full.
    assert streams.state().entries <= 10 + PARTITIONS
    assert world.client.smembers(LAYOUTS) == {b"4"}


def test_room_is_what_is_unread_on_all_that_are_written_into(streams: Streams) -> None:
    """A live event waits behind all of it, for the same consumers read the streams."""
    for one in streams.written:
        one.append([b"x"] * 20)
    with pytest.raises(NobodyReads, match="80 entries"):
        replay(streams, 0, FOR_EVER_MS, most_unread=70, patience_s=0.1)
    consume(streams)
    assert replay(streams, 0, FOR_EVER_MS, most_unread=70, patience_s=5).entries == 1


def test_a_replay_that_lacks_a_stream_says_so(streams: Streams) -> None:
    """It cannot be whole, so it ends with what to do, in a sentence."""
    send(streams, recent(50))
    take_away(streams, 1)
    with pytest.raises(BrokenOff, match="run the replay again from the beginning"):
        replay(streams, 0, FOR_EVER_MS)


def test_what_was_refused_and_what_is_imported_goes_to_its_players_stream(
    world: World, streams: Streams, tmp_path: Path
) -> None:
    """A release, a fix and an import write as our producer does."""
    good = recent(40)
    bad = [encode(event).replace(b'"rank":', b'"rang":') for event in good[:20]]
    world.source.append([*bad, b"bad"])
    with working(world):
        until(lambda: is_drained(world), "all to be refused")
    assert release(world.engine, streams, limit=1).entries == 1
    remedy = python('{("rank" if key == "rang" else key): event[key] for key in event}')
    window = Window.at(now_ms(), RETENTION_DAYS)
    fixed = fix(world.engine, streams, Choice(), remedy, window).entries
    assert fixed >= 19
    file = tmp_path / "foreign.jsonl"
    file.write_bytes(b"\n".join(encode(event) for event in good[20:]))
    assert import_file(world.engine, streams, file, Plan(), RETENTION_DAYS).sent == 20
    for event in good[20:]:
        assert str(event.id) in ids_on(streams.of(event.player))
    sent = [
        json.loads(payload)
        for one in streams.written
        for page in one.walk(from_ms=0, to_ms=FOR_EVER_MS)
        for entry in page
        for payload in payloads_of(entry)
        if payload != b"bad"
    ]
    assert len(sent) >= 39


# --- forget


def test_a_player_is_forgotten_on_every_stream(
    world: World, streams: Streams, again: Streams, tmp_path: Path
) -> None:
    """On those of a division that nobody writes into any more as well, in the archive, and in our producer's
    books; what shared an array with theirs stays on its stream.
    """
    events, storage = recent(200), Storage(str(tmp_path))
    gone = events[0].player
    theirs = [event for event in events if event.player == gone]
    other = next(event for event in events if event.player != gone)
    send(streams, events)
    mixed = streams.written[0]
    mixed.append_entries([(Form.EVENTS, array_of([encode(theirs[0]), encode(other)]))])
    again.append_entries([(Form.EVENT, encode(theirs[0]))])
    for one in (streams.of(gone), world.source):
        one.client.hset(one.players_key, gone, "a game")
    consume(streams)
    archived(again, storage)
    assert {*archives.partitions(storage)} == {0, 1, 2, 3, 4}
    there = look(world.engine, again, gone, storage=storage)
    assert (there.entries, there.has_game) == (len(theirs) + 2, True)
    assert there.archived >= len(theirs)
    done = forget(world.engine, again, gone, storage=storage, patience_s=5)
    assert done.removed.entries == there.entries
    assert done.removed.archived == there.archived
    consume(streams)
    assert look(world.engine, again, gone, storage=storage).is_none
    assert not streams.knows_player(gone)
    assert ids_on(mixed)[-1] == str(other.id)
    assert sum(len(ids_on(one)) for one in streams.all) == len(events) - len(theirs) + 1
    found = archives.verify(storage)
    assert (found.faults, found.left_over) == ((), ())


def test_nobody_is_forgotten_by_halves(world: World, streams: Streams) -> None:
    """While a stream is away the run ends with an error, and the tombstone stands for what comes."""
    send(streams, recent(50))
    consume(streams)
    take_away(streams, 3)
    with pytest.raises(redis.ConnectionError):
        forget(world.engine, streams, "Zeke", patience_s=1)
    assert world.count("forgotten_players") == 1


# --- what looks


def test_the_status_sums_up_and_tells_each_stream(
    world: World, streams: Streams, again: Streams
) -> None:
    """The numbers are of all streams, those of an old division too, and a row says where each stands."""
    send(streams, recent(100))
    consume(streams)
    streams.written[2].append([b"x", b"y"])
    world.source.append([b"z"])
    now = status.status(again, world.engine)
    assert (now.stream.entries, now.stream.undelivered) == (103, 3)
    assert [part.key for part in now.parts] == [STREAM, *keys(PARTITIONS)]
    assert [part.state.undelivered for part in now.parts] == [1, 0, 0, 2, 0]
    assert now.complete_to is not None
    told = status.as_json(now)["streams"]
    assert [one["entries"] for one in told] == [part.state.entries for part in now.parts]
    assert {one["node"] for one in told} == {one["away"] for one in told} == {None}
    text_of = shown(now)
    assert "game-events:{2}: " in text_of
    assert "2 undelivered" in text_of


def test_one_stream_has_no_rows_of_its_own(world: World) -> None:
    """With an undivided stream the status is what it always was."""
    world.source.append([b"x"])
    now = status.status(world.streams, world.engine)
    assert [part.key for part in now.parts] == [STREAM]
    assert STREAM not in shown(now)


def test_nothing_is_said_to_be_complete_while_a_stream_is_away(
    world: World, streams: Streams
) -> None:
    """What waits on it may be older than all that is known; the rest is told, with the reason."""
    send(streams, recent(100))
    consume(streams)
    lost, _ = take_away(streams, 1)
    now = status.status(streams, world.engine)
    assert now.complete_to is None
    assert [part.key for part in now.away] == [lost.key]
    assert 0 < now.stream.entries < 100
    told = next(one for one in status.as_json(now)["streams"] if one["key"] == lost.key)
    assert (told["entries"], told["oldest_waiting_s"]) == (None, None)
    assert "127.0.0.1:1" in told["away"]
    text_of = shown(now)
    assert f"unknown while {lost.key} is away" in text_of
    assert f"{lost.key} is away: " in text_of


def shown(now: status.Status) -> str:
    """The status as it is printed."""
    terminal = console()
    with terminal.capture() as captured:
        terminal.print(report.status(now))
    return captured.get()


def test_a_trace_says_which_stream_an_entry_is_on(
    world: World, streams: Streams, again: Streams
) -> None:
    """On an old division, too; and where one is away, that nobody can say whether it is there."""
    events = recent(50)
    send(streams, events)
    event = events[7]
    found = trace.trace(again, world.engine, event.id)
    assert found.stream == streams.of(event.player).key
    assert f"on the stream {found.stream} as entry" in report.trace(found)
    assert report.trace_json(found)["stream"]["key"] == found.stream
    lost, _ = take_away(streams, streams.written.index(streams.of(event.player)))
    unknown = trace.trace(streams, world.engine, event.id)
    assert not unknown.is_found
    assert f"whether it is on {lost.key}, which is away" in report.trace(unknown)


def test_the_view_and_a_shadow_see_all_streams(
    world: World, streams: Streams, again: Streams
) -> None:
    """Old divisions are part of what waits, and of what a day is built anew from."""
    events = recent(60)
    send(streams, events)
    assert Watcher(again, world.engine, COLE, events=5).look().state.undelivered == 60
    today = (events[0].ts_ms // 86_400_000) * 86_400
    day = datetime_of(today * 1000).date()
    assert sum(len(page) for page in shadow.pages(again, day)) == 60


# --- the command line


def test_the_commands_know_how_many_there_are(
    world: World, streams: Streams, tmp_path: Path
) -> None:
    """STREAM_PARTITIONS reaches trim, replay, archive, status and forget, and so does what was noted."""
    events = recent(120)
    send(streams, events)
    consume(streams)
    environment = world.environment | {
        "ARCHIVE_URL": str(tmp_path / "archive"),
        "STREAM_PARTITIONS": str(PARTITIONS),
    }
    infamous = commands.beginning("infamous", cwd=tmp_path, environment=environment)
    job = commands.beginning("jobs", cwd=tmp_path, environment=environment)
    done = infamous("archive", "run", "--json")
    assert json.loads(done.stdout)["events"] == 120, done.stderr
    listed = json.loads(infamous("archive", "list", "--json").stdout)
    assert (listed["events"], listed["behind_entries"], listed["gaps"]) == (120, 0, [])
    replayed = json.loads(infamous("replay", "--from", "1h", "--json").stdout)
    assert (replayed["events"], replayed["note"]) == (120, None)
    assert json.loads(infamous("status", "--json").stdout)["entries"] == 240
    assert "game-events" not in job("trim", "--keep", "0").stdout  # none is away
    consume(streams)
    forgotten = infamous("forget", events[0].player, "--json")
    assert forgotten.returncode == 0, forgotten.stdout + forgotten.stderr
    left = infamous("archive", "leave")
    assert "does not wait" in left.stdout
    assert not streams.of_group(ARCHIVE_GROUP).state().group_exists


def test_the_tasks_tell_what_is_away(
    world: World, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job's result names it; nothing is named where all is well."""
    monkeypatch.setenv("REDIS_URL", world.redis_url)
    monkeypatch.setenv("STREAM_PARTITIONS", str(PARTITIONS))
    send(streams, recent(10))
    consume(streams)
    assert tasks.trim_stream(3600)["away"] == {}


# --- a server that is silent


def test_a_silent_server_is_waited_for_once(world: World) -> None:
    """Not once by each stream of it: a job would wait for longer than it may take."""
    with proxies(redis_socket(world.redis_url)) as (proxy,):
        url = f"{redis_through(proxy, world.redis_url)}&socket_timeout=0.3"
        with closing(Streams(url, 16)) as streams:
            asked: list[str] = []

            def ask(one: Stream) -> None:
                asked.append(one.key)
                one.client.ping()

            assert len(streams.ask(ask).whole()) == len(asked) == 17
            asked.clear()
            proxy.impose(Toxic.BLACK_HOLE)
            answers = streams.ask(ask)
            assert (len(answers.found), len(answers.away), len(asked)) == (0, 17, 1)


# --- a Redis Cluster


def test_a_shard_that_is_down_stops_no_other(
    world: World, cluster: Cluster, tmp_path: Path
) -> None:
    """Its streams are named, with all others done; the status says so and ends as for other troubles."""
    url = cluster.url
    with closing(Streams(url, 8)) as streams:
        streams.note()
        events = recent(200)
        send(streams, events)
        consume(streams)
        by_node: dict[str, list[str]] = {}
        for one in streams.written:
            by_node.setdefault(str(streams.node_of(one)), []).append(one.key)
        assert len(by_node) == 3
        lost_node = str(streams.node_of(streams.written[0]))
        master = cluster.master_of(streams.written[0].key)
        for replica in cluster.replicas_of(master):
            replica.kill()
        master.kill()
        lost = {*by_node[lost_node]}
        done = trim_to_fit(streams, 3600, 1.0)
        assert lost <= {*done.away}
        assert {*done.away} <= {*lost, STREAM, LAYOUTS}
        kept = archived(streams, Storage(str(tmp_path / "archive")))
        assert lost <= {*kept.away}
        there = [event for event in events if streams.of(event.player).key not in lost]
        assert kept.events == len(there)
        environment = world.environment | {"REDIS_URL": cluster.url, "STREAM_PARTITIONS": "8"}
        infamous = commands.beginning("infamous", cwd=tmp_path, environment=environment)
        told = infamous("status", "--json")
        assert told.returncode == 1, told.stdout + told.stderr
        facts = json.loads(told.stdout)
        assert facts["complete_to"] is None
        assert lost <= {one["key"] for one in facts["streams"] if one["away"]}
        nodes = {one["node"] for one in facts["streams"] if not one["away"]}
        assert nodes <= {*by_node} - {lost_node}
        assert nodes


def test_only_the_streams_of_a_full_node_are_trimmed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of another node is not theirs: what is there stays for a replay."""
    monkeypatch.setattr(trims, "_SHORTEST_S", 0.001)
    with closing(Streams(cluster.url, 8)) as streams:
        for one in streams.written:
            one.append([b"x" * 1000] * 500)
        consume(streams)
        full = streams.node_of(streams.written[0])
        node = cluster.master_of(streams.written[0].key)
        before = node.client.config_get("maxmemory")["maxmemory"] or 0
        used = int(node.client.info("memory")["used_memory"])
        node.client.config_set("maxmemory", int(used * 1.2))
        try:
            with capture_logs() as logs:
                done = trim_to_fit(streams, 86_400, 0.5)
        finally:
            node.client.config_set("maxmemory", before)
        assert 0.5 < done.memory_share < 0.9
        for one in streams.written:
            count = one.state().entries
            assert count <= 100 if streams.node_of(one) == full else count == 500
        assert [line["node"] for line in logs] == [full]


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("jobs", ("work",)), ("jobs", ("schedule",)), ("infamous", ("up", "--history", "0"))],
)
def test_rq_is_not_put_on_a_cluster(
    world: World, cluster: Cluster, tmp_path: Path, module: str, arguments: tuple[str, ...]
) -> None:
    """It is told before anything starts, in a sentence that says what to set."""
    environment = world.environment | {"REDIS_URL": cluster.url}
    run = commands.beginning(module, cwd=tmp_path, environment=environment)
    done = run(*arguments)
    assert (done.returncode, done.stderr.strip()) == (2, NEEDS_PLAIN)
