"""The archive on real servers: whole, twice, by several, killed, altered, full, and changed."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import pandas as pd
import pytest
from msgspec.structs import replace
from sqlalchemy import text

from jobs import archive as archives
from jobs import archiver, tasks, tombstones
from jobs.archive import manifests, read, rewrite, verify
from jobs.archiver import Archived, archive
from jobs.manifest import Damaged
from jobs.storage import Storage, StorageError
from jobs.trim import trim
from pipeline import failpoint
from pipeline.entry import Form, array_of, packed_up
from pipeline.event import Event, Reason, encode
from pipeline.settings import SettingsError
from pipeline.stream import ARCHIVE_GROUP, Stream
from tests import commands
from tests.conftest import World
from tests.integration.consuming import now_ms, until
from tests.unit.samples import RETENTION_DAYS, chains, payload

DAY_MS = 86_400_000
FOR_EVER_MS = 2**63
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A folder that is not there yet."""
    return Storage(str(tmp_path / "an archive" / "of games"))


@pytest.fixture
def source(world: World) -> Stream:
    """The stream, with the archive's place on it."""
    return Stream(world.client, key=world.source.key, group=ARCHIVE_GROUP)


@pytest.fixture
def command(world: World, storage: Storage, tmp_path: Path) -> Command:
    """``infamous`` with these arguments, on this world and archive."""

    def run(
        *arguments: str,
        variables: Mapping[str, str] = MappingProxyType({}),
        first: Callable[[], None] = commands.nothing,
    ) -> subprocess.CompletedProcess[str]:
        return commands.run(
            "infamous",
            *arguments,
            cwd=tmp_path,
            environment={
                **os.environ,
                **world.environment,
                "ARCHIVE_URL": storage.url,
                **variables,
            },
            first=first,
        )

    return run


def archived(source: Stream, storage: Storage, **options: Any) -> Archived:
    """Archive what is there."""
    return archive(source, storage, retention_days=RETENTION_DAYS, **options)


def recent(events: int, *, seed: int = 1, ago_ms: int = 60_000) -> list[Event]:
    """Healthy events of a while ago."""
    return chains(events, seed=seed, start_ms=now_ms() - ago_ms)


def encoded(events: list[Event]) -> list[bytes]:
    """As they go onto the stream."""
    return [encode(event) for event in events]


def meant(events: list[Event]) -> list[Event]:
    """The events as the archive gives them back, in the order of their ids."""
    return sorted((replace(event, ts=None) for event in events), key=lambda event: event.id)


def in_archive(storage: Storage) -> list[Event]:
    """All events, in the order of their ids."""
    pages = read(storage, 0, FOR_EVER_MS)
    return sorted((event for page in pages for event in page), key=lambda event: event.id)


def refused_in(storage: Storage) -> list[dict[str, Any]]:
    """All rows of what is no event."""
    return [
        row
        for batch in manifests(storage)
        for file in batch.files
        if file.kind == "refused"
        for row in archives.table_of(storage, file).to_pylist()
    ]


def is_whole(storage: Storage) -> bool:
    """Whether every file is as it was written, and none is there besides."""
    found = verify(storage)
    return found.faults == () and found.left_over == ()


# --- what goes in


def test_what_passes_is_kept(source: Stream, storage: Storage) -> None:
    """Alone or in arrays: every event once, with the entry that brought it, and counts that say so."""
    events = recent(250)
    payloads = encoded(events)
    source.append(payloads[:30])
    source.append_entries(packed_up(payloads[30:], 100))
    done = archived(source, storage)
    assert (done.entries, done.events, done.refused, done.is_complete) == (33, 250, 0, True)
    assert in_archive(storage) == meant(events)
    (batch,) = manifests(storage)
    span = source.span()
    assert (batch.first_entry, batch.last_entry) == span
    assert (batch.entries, sum(file.rows for file in batch.files)) == (33, 250)
    assert is_whole(storage)
    assert archived(source, storage) == Archived()


def test_what_is_no_event_is_kept_as_it_came(source: Stream, storage: Storage) -> None:
    """To the byte, with the reason: alone, out of an array, an array that is none, and another's entry."""
    good, old = encoded(recent(2))
    source.append([b"\0\xff bad", payload(now_ms() - 200 * DAY_MS, ts=None)])
    source.append_entries([(Form.EVENTS, array_of([good, b"1", old])), (Form.EVENTS, b"[")])
    source.client.xadd(source.key, {"a": "b"})
    done = archived(source, storage)
    assert (done.entries, done.events, done.refused) == (5, 2, 5)
    rows = refused_in(storage)
    assert {(row["form"], row["reason"]) for row in rows} == {
        ("event", Reason.NOT_JSON),
        ("event", Reason.TOO_OLD),
        ("events", Reason.BAD_ARRAY),
        ("foreign", Reason.NOT_AN_EVENT_ENTRY),
        ("event", Reason.NOT_AN_OBJECT),
    }
    assert {row["payload"] for row in rows} >= {b"\0\xff bad", b"1", b"["}


def test_a_file_a_day(source: Stream, storage: Storage) -> None:
    """An event is found under the UTC day on which it happened."""
    for days in (3, 1):
        source.append(encoded(recent(20, seed=days, ago_ms=days * DAY_MS)))
    archived(source, storage)
    (batch,) = manifests(storage)
    assert len(batch.files) >= 2
    for file in batch.files:
        table = archives.table_of(storage, file)
        assert {moment.date() for moment in table["ts"].to_pylist()} == {file.day}
    (first, *_, last) = archives.days(manifests(storage))
    assert (last.day - first.day).days == 2


def test_batches_are_bounded(source: Stream, storage: Storage) -> None:
    """However much waits, no more than a batch of it is in memory; together they are all of it."""
    events = recent(1000)
    source.append_entries(packed_up(encoded(events), 10))
    done = archived(source, storage, max_events=250)
    assert done.events == 1000
    found = manifests(storage)
    assert 1 < len(found) <= 4
    assert sum(one.entries for one in found) == 100
    assert in_archive(storage) == meant(events)


def test_little_waits_for_company(source: Stream, storage: Storage) -> None:
    """A file for a handful of events every five minutes would be a hundred thousand a year."""
    source.append(encoded(recent(10)))
    assert archived(source, storage, wait_s=3600) == Archived()
    assert manifests(storage) == []
    source.client.xadd(source.key, {"event": "x"})
    assert archived(source, storage, wait_s=0.000_1).entries == 11


def test_it_ends_in_time(source: Stream, storage: Storage) -> None:
    """Other jobs wait for the worker: after its time, or a request to stop, it begins no other batch."""
    source.append(encoded(recent(10)))
    assert archived(source, storage, at_most_s=0) == Archived(is_complete=False)
    stop = threading.Event()
    stop.set()
    assert archived(source, storage, stop=stop) == Archived(is_complete=False)
    assert archived(source, storage).events == 10


def test_no_stream_is_no_error(source: Stream, storage: Storage) -> None:
    """Before the first event the archive has its place on the stream, and nothing is lost to it."""
    assert archived(source, storage) == Archived()
    source.append(encoded(recent(10)))
    assert archived(source, storage).events == 10


def test_forgotten_players_are_not_archived(source: Stream, storage: Storage) -> None:
    """Whoever was erased does not come back through the archive, nor does what was refused of them."""
    (event, other) = recent(2)
    source.append([encode(event), encode(other), payload(player=event.player, rank="King")])
    done = archived(source, storage, is_forgotten=lambda player: player == event.player)
    assert (done.events, done.forgotten, done.refused) == (1, 2, 0)
    assert in_archive(storage) == meant([other])


# --- twice, and what is there already


def test_a_replay_does_not_make_it_grow(source: Stream, storage: Storage) -> None:
    """An event that passes again, in whatever entry, is in the archive already."""
    payloads = encoded(recent(300))
    source.append(payloads)
    archived(source, storage)
    before = storage.names("")
    source.append_entries(packed_up(payloads, 100))
    done = archived(source, storage)
    assert (done.entries, done.events, done.known, done.files) == (3, 0, 300, 0)
    assert storage.names("") == before
    new = recent(40, seed=9)
    source.append(payloads[:30] + encoded(new) + encoded(new))
    done = archived(source, storage)
    assert (done.events, done.known) == (40, 70)
    assert len(in_archive(storage)) == 340


def test_a_group_that_was_destroyed_archives_nothing_twice(
    source: Stream, storage: Storage
) -> None:
    """It begins at the beginning, where everything is in the archive: rows stay unique."""
    source.append([*encoded(recent(100)), b"bad", b"bad"])
    archived(source, storage)
    before = storage.names("")
    assert source.drop_group()
    source.append(encoded(recent(10, seed=2)))
    done = archived(source, storage)
    assert (done.events, done.known, done.refused) == (10, 100, 0)
    assert len(storage.names("")) == len(before) + 2
    assert len(in_archive(storage)) == 110
    assert len(refused_in(storage)) == 2


def test_a_stream_that_gives_an_id_twice_loses_nothing(source: Stream, storage: Storage) -> None:
    """A replica that was made the master, or a new stream, has other events under ids that are known."""
    first, second = recent(2)
    source.client.xadd(source.key, {"event": encode(first)}, id="5-1")
    archived(source, storage)
    source.client.delete(source.key)
    source.client.xadd(source.key, {"event": encode(second)}, id="5-1")
    assert archived(source, storage).events == 1
    assert in_archive(storage) == meant([first, second])
    assert is_whole(storage)


def test_two_at_once_do_no_harm(world: World, source: Stream, storage: Storage) -> None:
    """Both run all the time on a stream that grows: every event is archived once, every file is whole."""
    events = recent(2000)
    payloads = encoded(events)
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        own = Stream(world.client, key=source.key, group=ARCHIVE_GROUP)
        try:
            while not stop.is_set():
                archived(own, storage, max_events=300)
            archived(own, storage)
        except BaseException as error:  # raised below
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for start in range(0, 2000, 50):
        source.append(payloads[start : start + 50])
    until(lambda: failures or source.state().undelivered == 0, "all to be archived")
    stop.set()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert in_archive(storage) == meant(events)
    assert sum(day.events for day in archives.days(manifests(storage))) == 2000
    assert is_whole(storage)


def test_who_looks_before_the_first_has_written_does_not_write_it_again(
    source: Stream, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another archives the same entries between the look at what is there and the choice of a name."""
    events = recent(20)
    source.append(encoded(events))
    look, done = archiver._Known.fresh, list[None]()

    def overtaken(*arguments: Any) -> Any:
        found = look(*arguments)
        if not done:
            done.append(None)
            assert archived(source, storage).events == 20
        return found

    monkeypatch.setattr(archiver._Known, "fresh", overtaken)
    assert archived(source, storage).events == 0
    assert in_archive(storage) == meant(events)
    assert is_whole(storage)


def test_who_comes_second_leaves_the_first_ones_batch(
    source: Stream, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another archives the same entries, and more, between our files and our manifest: its batch stays."""
    events = recent(20)
    source.append(encoded(events[:10]))
    calls: list[str] = []

    def another(point: str) -> None:
        calls.append(point)
        if len(calls) == 1:
            source.append(encoded(events[10:]))
            archived(Stream(source.client, group=ARCHIVE_GROUP), storage)

    monkeypatch.setattr(failpoint, "reached", another)
    assert archived(source, storage).events == 0
    assert len(calls) == 5
    assert in_archive(storage) == meant(events)
    assert is_whole(storage)
    assert archived(source, storage) == Archived()


# --- the bookmark


def test_a_trim_waits_for_the_archive(world: World, source: Stream, storage: Storage) -> None:
    """What is not archived stays on the stream, however full it is; then it goes."""
    world.source.ensure_group()
    source.bookmark()
    for seed in range(10):
        world.source.append(encoded(recent(100, seed=seed)))
    ids = [entry.id for entry in world.source.read("reader", 5000).entries]
    world.source.ack(ids)
    assert trim(world.streams, 0).entries == 0
    archived(source, storage)
    assert trim(world.streams, 0).entries >= 900
    assert len(in_archive(storage)) == 1000


@pytest.mark.usefixtures("redis_7")
def test_the_bookmark_counts(source: Stream, storage: Storage) -> None:
    """How far behind it is can be asked of Redis; nothing is pending, and it never goes back."""
    assert source.bookmark() == "0-0"
    ids = [one.decode() for one in source.append([b"x"] * 10)]
    source.move_bookmark(ids[3], 4)
    (group,) = source.client.xinfo_groups(source.key)
    assert (group["pending"], group["entries-read"], group["lag"]) == (0, 4, 6)
    source.move_bookmark(ids[1], 1)
    assert source.bookmark() == ids[3]
    archived(source, storage)
    (group,) = source.client.xinfo_groups(source.key)
    assert (group["last-delivered-id"].decode(), group["lag"]) == (ids[-1], 0)


@pytest.mark.usefixtures("redis_7")
def test_it_goes_on_when_redis_is_full(source: Stream, storage: Storage) -> None:
    """What is archived can be trimmed: a full Redis must not keep the archive from making room."""
    source.bookmark()
    source.append(encoded(recent(100)))
    source.client.config_set("maxmemory", 1)
    try:
        assert archived(source, storage).events == 100
        assert source.state().undelivered == 0
    finally:
        source.client.config_set("maxmemory", 0)


# --- what comes out


def test_a_span_is_by_the_time_of_the_event(source: Stream, storage: Storage) -> None:
    """Both ends are included, however late an event came; a player and an action narrow it down."""
    events = recent(50)
    source.append(encoded(events[25:]))
    archived(source, storage)
    source.append(encoded(events[:25]))
    archived(source, storage)
    span = (events[10].ts_ms, events[39].ts_ms)

    def found(**chosen: Any) -> list[Event]:
        pages = read(storage, *span, **chosen)
        return sorted((event for page in pages for event in page), key=lambda event: event.id)

    assert found() == meant(events[10:40])
    player, action = events[12].player, events[12].action
    wanted = [one for one in events[10:40] if (one.player, one.action) == (player, action)]
    assert found(player=player, action=action) == meant(wanted)
    assert list(read(storage, 0, 1000)) == []


@pytest.mark.parametrize("harm", ["cut", "altered", "gone"])
def test_a_file_that_was_harmed_is_noticed_before_anything_is_sent(
    source: Stream, storage: Storage, harm: str
) -> None:
    """Not a single event comes out of an archive of which a needed file is not as it was written."""
    for days in (2, 1):
        source.append(encoded(recent(20, seed=days, ago_ms=days * DAY_MS)))
        archived(source, storage)
    path = manifests(storage)[-1].files[-1].path
    data = bytearray(storage.get(path))
    if harm == "cut":
        storage.put(path, bytes(data[:-10]))
    elif harm == "altered":
        data[len(data) // 2] ^= 1
        storage.put(path, bytes(data))
    else:
        storage.delete(path)
    with pytest.raises(Damaged, match=path) as caught:
        next(read(storage, 0, FOR_EVER_MS))
    assert str(caught.value).endswith(".")
    (fault,) = verify(storage).faults
    assert fault == str(caught.value)
    # What does not need that file can still be had.
    assert list(read(storage, 0, now_ms() - 36 * 3_600_000))
    # And the archive goes on.
    source.append(encoded(recent(5, seed=7)))
    assert archived(source, storage).events == 5


def test_a_file_that_is_written_anew_meanwhile_is_not_harmed(
    source: Stream, storage: Storage
) -> None:
    """Whoever reads while a player is erased is told to do it again, and not to look for a backup."""
    events = recent(20)
    source.append(encoded(events))
    archived(source, storage)
    before = manifests(storage)
    rewrite(storage, without(events[0].player))
    with pytest.raises(Damaged, match=r"changed while it was read.*: run it again\.$"):
        next(read(storage, 0, FOR_EVER_MS, found=before))
    assert list(read(storage, 0, FOR_EVER_MS))


@pytest.mark.parametrize("text_", [b"", b"{}", b"\xff", b'{"version": 2}'])
def test_a_manifest_that_was_harmed_is_noticed(
    source: Stream, storage: Storage, text_: bytes
) -> None:
    """The sentence names it."""
    source.append(encoded(recent(5)))
    archived(source, storage)
    (path,) = storage.names("manifests")
    storage.put(path, text_)
    with pytest.raises(Damaged, match=path):
        manifests(storage)
    # The archive goes on, and what has passed before it counts as new.
    source.append(encoded(recent(5, seed=7)))
    assert archived(source, storage).events == 5
    assert verify(storage).faults == (
        f"The manifest {path} of the archive was cut or altered: bring it back as it was, from a backup.",
    )


def test_a_manifest_that_is_gone_is_noticed(source: Stream, storage: Storage) -> None:
    """Without it nobody reads its files, and a replay would send less than there was without a word."""
    for seed in (1, 2):
        source.append(encoded(recent(5, seed=seed)))
        archived(source, storage)
    (path, _) = storage.names("manifests")
    storage.delete(path)
    (fault,) = verify(storage).faults
    assert path in fault
    assert fault.endswith(".")


def harmed(source: Stream, storage: Storage, number: int) -> list[Event]:
    """An archive of three days, a batch each, of which the manifest of that number is gone; its events."""
    events = [recent(20, seed=days, ago_ms=days * DAY_MS) for days in (3, 2, 1)]
    for some in events:
        source.append(encoded(some))
        archived(source, storage)
    storage.delete(storage.names("manifests")[number - 1])
    return [event for some in events for event in some]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_replay_notices_a_manifest_that_is_gone(
    source: Stream, storage: Storage, command: Command, number: int
) -> None:
    """Before it sends anything, be it the last: a sentence, unless what is asked for is of other days."""
    events = harmed(source, storage, number)
    added = source.state().added
    for arguments in (("replay", "--from", "10d"), ("shadow", "build", *shadow_days())):
        done = command(*arguments, "--source", "archive")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"The manifest manifests/partition=0/{number:08d}.json of the archive is gone" in (
            done.stderr
        )
        assert done.stderr.endswith("with `infamous archive mend`.\n")
    assert source.state().added == added
    assert f"0000000{number}.json is gone" in command("archive", "list").stdout
    forgotten = command("forget", events[0].player, "--dry-run")
    assert "is gone" in forgotten.stderr
    lost = events[20 * (number - 1) : 20 * number]
    first_ms, end_ms = (ms // DAY_MS * DAY_MS for ms in (lost[0].ts_ms, lost[-1].ts_ms + DAY_MS))
    pages = [*read(storage, 0, first_ms - 1), *read(storage, end_ms, FOR_EVER_MS)]
    others = [event for event in events if not first_ms <= event.ts_ms < end_ms]
    assert len(others) == 40
    assert sum(map(len, pages)) == 40
    # The archive goes on, and leaves the number and the files of what is gone alone.
    more = recent(5, seed=9)
    source.append(encoded([*lost, *more]))
    assert archived(source, storage).events == 5
    assert len(pd.read_parquet(Path(storage.url) / "events")) == 65
    assert command("archive", "mend", "--dry-run", "--json").returncode == 0
    assert len(manifests(storage)) == 3
    killed = command("archive", "mend", variables={"FAILPOINT": "in_archive"})
    assert killed.returncode == -signal.SIGKILL
    mended = json.loads(command("archive", "mend", "--json").stdout)
    assert (mended["manifests"], mended["rows"], mended["given_up"]) == (1, 20, [])
    assert in_archive(storage) == meant([*events, *more])
    assert is_whole(storage)
    assert command("archive", "mend").stdout == "No manifest is gone: nothing was changed.\n"


def shadow_days() -> tuple[str, ...]:
    """The days of the last ten days, as a shadow is asked for."""
    today = datetime.now(UTC).date()
    return ("--from", str(today - timedelta(days=10)), "--to", str(today))


def test_what_is_gone_for_good_is_given_up(
    source: Stream, storage: Storage, command: Command
) -> None:
    """Neither the manifest nor its files: a replay refuses all spans until a person says so, once."""
    events = harmed(source, storage, 2)
    for path in archives.all_files(storage):
        if "/00000002-" in path:
            storage.delete(path)
    with pytest.raises(Damaged, match="is gone"):
        next(read(storage, now_ms() - 1000, FOR_EVER_MS))
    assert verify(storage).faults != ()
    done = json.loads(command("archive", "mend", "--json").stdout)
    assert (done["files"], done["given_up"]) == (0, ["manifests/partition=0/00000002.json"])
    assert in_archive(storage) == meant([*events[:20], *events[40:]])
    assert is_whole(storage)


def test_a_file_that_was_altered_is_not_named_anew(source: Stream, storage: Storage) -> None:
    """Its name says what was in it."""
    harmed(source, storage, 2)
    (path, *_) = [path for path in archives.all_files(storage) if "/00000002-" in path]
    data = bytearray(storage.get(path))
    data[len(data) // 2] ^= 1
    storage.put(path, bytes(data))
    with pytest.raises(Damaged, match="was cut or altered"):
        archives.mend(storage)
    assert len(manifests(storage)) == 2


def test_another_archive_is_given_what_it_lacks(
    source: Stream, storage: Storage, command: Command, tmp_path: Path
) -> None:
    """Somebody changed ARCHIVE_URL, and back: each goes on where it was, and says what is not there."""
    events = recent(60)
    other = Storage(str(tmp_path / "other"))
    source.append(encoded(events[:20]))
    archived(source, storage)
    source.append(encoded(events[20:40]))
    assert archived(source, other).events == 40
    source.append(encoded(events[40:50]))
    done = archived(source, storage)
    assert (done.events, done.known) == (30, 0)
    assert in_archive(storage) == meant(events[:50])
    listed = json.loads(command("archive", "list", "--json").stdout)
    assert (listed["gaps"], listed["missing"]) == ([], [])
    # Now what the other lacks is gone from the stream.
    source.client.xtrim(source.key, maxlen=0, approximate=False)
    (*_, last) = source.append(encoded(events[50:]))
    at_other = {"ARCHIVE_URL": other.url}
    ran = command("archive", "run", variables=at_other)
    assert ran.returncode == 0
    assert "This place lacks what another archived" in ran.stderr
    assert in_archive(other) == meant([*events[:40], *events[50:]])
    (gap,) = json.loads(command("archive", "list", "--json", variables=at_other).stdout)["gaps"]
    assert gap["before"] < last.decode()
    shown = command("archive", "list", variables=at_other).stdout
    assert "is not all here: another place archived it" in " ".join(shown.split())
    assert "lacks" not in command("archive", "run", variables=at_other).stderr
    # An empty stream is no reason to forget it.
    source.client.xtrim(source.key, maxlen=0, approximate=False)
    for _ in range(2):
        assert archived(source, storage) == Archived()
    listed = json.loads(command("archive", "list", "--json").stdout)
    assert len(listed["gaps"]) == 1


def test_a_place_brought_back_from_a_backup_is_given_what_it_lacks(
    source: Stream, storage: Storage
) -> None:
    """Its bookmark had come further: what is on the stream still, it has again."""
    events = recent(40)
    source.append(encoded(events[:20]))
    archived(source, storage)
    backup = Path(storage.url).with_name("backup")
    shutil.copytree(storage.url, backup)
    source.append(encoded(events[20:]))
    archived(source, storage)
    assert archived(source, Storage(str(backup))).events == 20
    assert in_archive(Storage(str(backup))) == meant(events)


def test_an_archive_of_a_version_before_goes_on(source: Stream, storage: Storage) -> None:
    """It did not write down how far it had come: what follows its last manifest is looked through again."""
    events = recent(40)
    source.append(encoded(events[:20]))
    archived(source, storage)
    storage.delete("position/partition=0.json")
    source.append(encoded(events[20:]))
    assert archived(source, storage).events == 20
    assert in_archive(storage) == meant(events)
    storage.put("position/partition=0.json", b"{")
    source.append(encoded(recent(5, seed=2)))
    with pytest.raises(Damaged, match=r"position/partition=0.json .*: remove it"):
        in_archive(storage)
    assert archived(source, storage).events == 5
    assert len(in_archive(storage)) == 45


def test_another_place_gets_all_that_the_stream_still_has(
    source: Stream, storage: Storage, tmp_path: Path
) -> None:
    """The bookmark says what was put somewhere: not that it is here, where nothing is."""
    events = recent(30)
    source.append(encoded(events[:20]))
    archived(source, storage)
    source.append(encoded(events[20:]))
    other = Storage(str(tmp_path / "other"))
    assert archived(source, other).events == 30
    assert in_archive(other) == meant(events)
    assert source.state().undelivered == 0
    assert archived(source, other) == Archived()


def test_a_manifest_cannot_name_a_file_that_is_none_of_ours(
    source: Stream, storage: Storage
) -> None:
    """What is read, and removed, is in the archive's own folders."""
    source.append(encoded(recent(5)))
    archived(source, storage)
    (path,) = storage.names("manifests")
    for other in (b"../../secret.parquet", b"/etc/passwd"):
        own = storage.get(path)
        name = json.loads(own)["files"][0]["path"].encode()
        storage.put(path, own.replace(name, other))
        with pytest.raises(Damaged):
            manifests(storage)
        storage.put(path, own)


def test_pandas_and_duckdb_read_it_as_it_is(source: Stream, storage: Storage) -> None:
    """No code of ours is needed: folders by day, and columns of the types one expects."""
    events = [*recent(50, ago_ms=2 * DAY_MS), *recent(50, seed=2)]
    source.append([*encoded(events), b"bad"])
    archived(source, storage)
    root = Path(storage.url)
    frame = pd.read_parquet(root / "events")
    assert len(frame) == 100
    assert set(frame["xp_delta"]) == {event.xp_delta for event in events}
    assert str(frame["ts"].dt.tz) == "UTC"
    assert frame["day"].nunique() >= 2
    query = f"""
        select count(*), sum(xp_delta), min(ts) = max(ts), count(distinct day),
               count(json_extract(details, '$'))
        from read_parquet('{root}/events/*/*/*.parquet', hive_partitioning = true)
    """
    rows, xp, is_one_moment, days, details = duckdb.connect().execute(query).fetchall()[0]
    assert (rows, xp, is_one_moment) == (100, sum(event.xp_delta for event in events), False)
    assert days >= 2
    assert details == sum(event.details_json is not None for event in events)
    query = f"select payload, reason from read_parquet('{root}/refused/**/*.parquet')"
    refused = duckdb.connect().execute(query).fetchall()
    assert refused == [(b"bad", "not_json")]


# --- where it is kept


@pytest.fixture(params=["folder", "memory"])
def any_shelf(
    request: pytest.FixtureRequest, storage: Storage, tmp_path: Path
) -> Iterator[Storage]:
    """A folder, and what stands for an object store."""
    if request.param == "folder":
        yield storage
        return
    store = Storage(f"memory://archive/{tmp_path.name}")
    yield store
    for name in store.names(""):
        store.delete(name)


def test_a_store_is_as_good_as_a_folder(source: Stream, any_shelf: Storage) -> None:
    """Written, listed, read, changed and left alone through an address that fsspec knows."""
    events = recent(100)
    source.append(encoded(events))
    assert archived(source, any_shelf).events == 100
    assert in_archive(any_shelf) == meant(events)
    assert source.drop_group()
    assert archived(source, any_shelf).known == 100
    rewrite(any_shelf, lambda table: table.slice(0, 0))
    assert in_archive(any_shelf) == []
    assert is_whole(any_shelf)


def test_a_shelf_keeps_what_is_put_on_it(any_shelf: Storage) -> None:
    """Written over, made once, listed by folder, removed twice."""
    any_shelf.put("a/b", b"1")
    any_shelf.put("a/b", b"2")
    assert any_shelf.get("a/b") == b"2"
    assert any_shelf.create("a/c", b"3")
    assert not any_shelf.create("a/c", b"4")
    assert any_shelf.get_all(["a/b", "a/c"]) == {"a/b": b"2", "a/c": b"3"}
    assert any_shelf.names("a") == ["a/b", "a/c"]
    assert any_shelf.names("nowhere") == []
    any_shelf.delete("a/b")
    any_shelf.delete("a/b")
    assert not any_shelf.exists("a/b")
    any_shelf.delete("a/c")


def test_what_a_killed_writer_left_is_tidied_up(storage: Storage) -> None:
    """It never had a name that anybody looks at, and is gone an hour later; what is young may be in use."""
    storage.put("a", b"1")
    parts = Path(storage.url) / ".parts"
    for name in ("old", "young"):
        (parts / name).touch()
    os.utime(parts / "old", (1, 1))
    storage.tidy()
    assert [path.name for path in parts.iterdir()] == ["young"]


@pytest.mark.parametrize(
    ("url", "words"),
    [("warehouse://a/b", "warehouse"), ("s3://bucket/a", "s3fs"), ("gs://bucket/a", "gcsfs")],
)
def test_a_place_that_is_not_known_is_told(url: str, words: str) -> None:
    """A setting that cannot be used, in a sentence that says which one."""
    with pytest.raises(SettingsError, match=words) as caught:
        Storage(url)
    assert str(caught.value).startswith("ARCHIVE_URL")
    assert str(caught.value).endswith(".")


def test_a_place_that_cannot_be_written_is_told(source: Stream, tmp_path: Path) -> None:
    """A file where a folder should be: nothing is done, and once it is put right, all of it is."""
    (tmp_path / "file").write_text("mine")
    source.append(encoded(recent(5)))
    with pytest.raises(StorageError, match=r"cannot be read \(.*\): name a folder in ARCHIVE_URL"):
        archived(source, Storage(str(tmp_path / "file" / "archive")))
    assert source.state().undelivered == 5
    assert archived(source, Storage(str(tmp_path / "archive"))).events == 5


@pytest.mark.parametrize("below", ["", "archive"])
def test_a_file_is_no_empty_archive(tmp_path: Path, below: str) -> None:
    """A place that cannot be looked into is told: whoever is forgotten may be in what lies elsewhere."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="name a folder in ARCHIVE_URL"):
        manifests(Storage(str(tmp_path / "file" / below)))


# --- killed, and full


@pytest.mark.parametrize("at", ["in_archive:1", "in_archive:2", "in_archive:3"])
def test_a_run_killed_in_the_middle_is_run_again(
    source: Stream, storage: Storage, command: Command, at: str
) -> None:
    """Before the manifest, the position and the bookmark: nothing is lost, doubled, or left over."""
    events = recent(100)
    source.append([*encoded(events[:60]), b"bad"])
    killed = command("archive", "run", variables={"FAILPOINT": at})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert source.state().undelivered == 61
    source.append(encoded(events[60:]))
    again = command("archive", "run", "--json")
    assert again.returncode == 0, again.stderr
    assert in_archive(storage) == meant(events)
    assert len(refused_in(storage)) == 1
    assert is_whole(storage)
    assert source.state().undelivered == 0
    assert len(pd.read_parquet(Path(storage.url) / "events")) == 100


def test_what_was_refused_is_not_archived_twice_either(
    source: Stream, storage: Storage, command: Command
) -> None:
    """Though what has foreign fields is refused before an event that came earlier."""
    source.append([b"no event"])
    source.client.xadd(source.key, {"not": "ours"})
    killed = command("archive", "run", variables={"FAILPOINT": "in_archive:2"})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert archived(source, storage).refused == 0
    assert len(refused_in(storage)) == 2


def limit_files() -> None:
    """What a full disk does to a file that grows, without filling the machine's."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def test_a_disk_that_takes_no_more(source: Stream, storage: Storage, command: Command) -> None:
    """A sentence, nothing half done, and running it again, once there is room, completes it."""
    events = recent(1500)
    source.append(encoded(events))
    full = command("archive", "run", first=limit_files)
    assert full.returncode == 1
    assert "cannot be written (File too large)" in full.stderr
    assert "Traceback" not in full.stderr
    assert full.stderr.count("\n") == 1
    assert storage.names("") == []
    assert command("archive", "run").returncode == 0
    assert in_archive(storage) == meant(events)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, *, but_pages: int) -> Path:
    """Let a file take all room of a disk but for some pages; returns the file."""
    ballast, room = disk / "ballast", os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, (room.f_bavail - but_pages) * room.f_frsize)
    return ballast


def test_a_disk_that_fills_up_anywhere(source: Stream, small_disk: Path, command: Command) -> None:
    """At the rows, the manifest, the position: a sentence, whole files, and all of it once there is room."""
    storage, events, full = Storage(str(small_disk / "archive")), list[Event](), list[bool]()
    assert archived(source, storage) == Archived()
    for pages in range(10):
        more = [*recent(30, seed=2 * pages), *recent(30, seed=2 * pages + 1, ago_ms=2 * DAY_MS)]
        events += more
        source.append(encoded(more))
        ballast = fill(small_disk, but_pages=pages)
        is_full = True
        with suppress(StorageError):
            archived(source, storage)
            is_full = False
        full.append(is_full)
        assert is_full or is_whole(storage)
        ballast.unlink()
        archived(source, storage)
        assert in_archive(storage) == meant(events)
        assert is_whole(storage)
    assert full == sorted(full, reverse=True)
    assert 3 <= sum(full) < len(full)
    # On the command line, and where only what is there already is asked for.
    at_disk = {"ARCHIVE_URL": storage.url}
    source.append(encoded(recent(5, seed=99)))
    ballast = fill(small_disk, but_pages=0)
    done = command("archive", "run", variables=at_disk)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "(No space left on device): make room there, and run it again." in done.stderr
    done = command("replay", "--from", "10d", "--source", "archive", "--json", variables=at_disk)
    assert (done.returncode, json.loads(done.stdout)["events"]) == (0, len(events)), done.stderr
    assert "is left out" in done.stderr
    ballast.unlink()


# --- changed


def without(player: str) -> Callable[[Any], Any]:
    """A change that takes out a player's events."""

    def change(table: Any) -> Any:
        if "player" not in table.column_names:
            return table
        return table.filter([one != player for one in table["player"].to_pylist()])

    return change


def test_a_change_goes_through_every_file(source: Stream, storage: Storage) -> None:
    """What is taken out is in no file any more, and a file of nothing else is gone."""
    events = recent(100)
    player = events[0].player
    source.append(encoded([event for event in events if event.player == player]))
    archived(source, storage)
    source.append([*encoded([event for event in events if event.player != player]), b"bad"])
    archived(source, storage)
    gone = sum(event.player == player for event in events)
    done = rewrite(storage, without(player))
    assert done.rows_removed == gone
    assert in_archive(storage) == meant([event for event in events if event.player != player])
    assert len(refused_in(storage)) == 1
    assert is_whole(storage)
    assert rewrite(storage, without(player)) == archives.Rewritten(0, 0)
    for path in Path(storage.url).rglob("*.parquet"):
        if "events" in path.parts:
            assert player not in set(pd.read_parquet(path)["player"])


REWRITE = """
import sys
from jobs.archive import rewrite
from jobs.storage import Storage
rewrite(Storage(sys.argv[1]), lambda t: t.filter([one % 2 == 0 for one in t["seq"].to_pylist()]))
"""


@pytest.mark.parametrize("at", ["in_rewrite:1", "in_rewrite:2", "in_rewrite:3"])
def test_a_change_killed_in_the_middle_is_run_again(
    source: Stream, storage: Storage, at: str
) -> None:
    """At each moment the archive is whole, with the old rows or the new ones; in the end nothing is left."""
    events = recent(60)
    for start in (0, 30):
        source.append(encoded(events[start : start + 30]))
        archived(source, storage)

    def run(**variables: str) -> int:
        return subprocess.run(
            [sys.executable, "-c", REWRITE, storage.url],
            env={**os.environ, **variables},
            check=False,
            timeout=60,
        ).returncode

    assert run(FAILPOINT=at) == -signal.SIGKILL
    assert verify(storage).faults == ()
    assert len(in_archive(storage)) in {60, 45}
    assert run() == 0
    assert in_archive(storage) == meant([event for event in events if (event.seq or 0) % 2 == 0])
    assert is_whole(storage)


# --- as a task, and on the command line


def test_the_task_archives_where_there_is_an_archive(
    world: World, source: Stream, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ARCHIVE_URL it does nothing, and the stream keeps nothing for it."""
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    events = recent(20)
    with world.engine.begin() as connection:
        statement = "insert into forgotten_players (player_sha256) values (sha256(:name))"
        connection.execute(text(statement), {"name": events[0].player.encode()})
    source.append(encoded(events))
    assert tasks.archive_stream() == {}
    assert source.client.xinfo_groups(source.key) == []
    monkeypatch.setenv("ARCHIVE_URL", storage.url)
    assert tasks.archive_stream(wait_s=3600) == {}
    done = tasks.archive_stream()
    kept = [event for event in events if event.player != events[0].player]
    assert (done["events"], done["forgotten"]) == (len(kept), 20 - len(kept))
    assert in_archive(storage) == meant(kept)
    with pytest.raises(ValueError, match="wait_s must be"):
        tasks.archive_stream(wait_s=-1)


def test_the_task_leaves_it_to_another_who_writes(
    world: World, source: Stream, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that look for what is there already before either has written would both write the same."""
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ARCHIVE_URL", storage.url)
    source.append(encoded(recent(20)))
    with tombstones.known(world.engine):
        assert tasks.archive_stream() == {"is_postponed": True}
    assert tasks.archive_stream()["events"] == 20


def test_the_command_line(source: Stream, storage: Storage, command: Command) -> None:
    """Run, list, verify and leave say what they did, for people and for scripts."""
    source.append([*encoded(recent(20)), b"bad"])
    behind = json.loads(command("archive", "list", "--json").stdout)
    assert (behind["events"], behind["has_bookmark"], behind["behind_entries"]) == (0, False, None)
    ran = command("archive", "run")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("Archived 20 events and 1 that are none, of 21 entries, in ")
    source.append(encoded(recent(5, seed=2)))
    listed = json.loads(command("archive", "list", "--json").stdout)
    assert (listed["events"], listed["refused"], listed["behind_entries"]) == (20, 1, 5)
    assert sum(day["events"] for day in listed["days"]) == 20
    shown = command("archive", "list").stdout
    assert "5 entries of the stream are not archived yet" in shown
    assert listed["days"][-1]["day"] in shown
    verified = command("archive", "verify")
    assert (verified.returncode, verified.stdout.count("no fault")) == (0, 1)
    storage.put(manifests(storage)[0].files[0].path, b"")
    verified = command("archive", "verify")
    assert verified.returncode == 1
    assert "does not match its manifest" in verified.stdout
    tried = json.loads(command("archive", "leave", "--dry-run", "--json").stdout)
    assert tried == {"left": True, "unarchived": 5, "dry_run": True}
    assert source.state().group_exists
    assert "5 entries are not archived" in command("archive", "leave").stdout
    assert not source.state().group_exists
    assert "nothing was changed" in command("archive", "leave").stdout


def test_without_an_archive_the_command_line_says_what_to_do(command: Command) -> None:
    """Two servers are named and no archive: the sentence names the setting."""
    for words in (("run",), ("list",), ("verify",)):
        ended = command("archive", *words, variables={"ARCHIVE_URL": ""})
        assert ended.returncode == 2
        assert "ARCHIVE_URL" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_replay_lacks_nothing_that_is_not_archived_yet(
    source: Stream, storage: Storage, command: Command
) -> None:
    """Whoever emptied the table gets the last hour back, too, which a small batch waits for."""
    source.append(encoded(recent(20)))
    archived(source, storage)
    source.append(encoded(recent(5, seed=2)))
    done = command("replay", "--from", "2d", "--source", "archive", "--json")
    assert (done.returncode, json.loads(done.stdout)["events"]) == (0, 25), done.stderr
    # Where the archive takes nothing, what is in it can be had all the same, and that is told.
    source.append(encoded(recent(1, seed=3)))
    done = command("replay", "--from", "2d", "--source", "archive", "--json", first=limit_files)
    assert (done.returncode, json.loads(done.stdout)["events"]) == (0, 25), done.stderr
    assert "is left out" in done.stderr


def test_bytes_that_are_no_text_are_bad_arguments(command: Command) -> None:
    """A name that no server takes is told before anything is begun."""
    for words in (("replay", "--from", "2h", "--player"), ("forget",)):
        done = command(*words, "a\udcff")
        assert done.returncode == 2
        assert "no UTF-8 text" in done.stderr
        assert "Traceback" not in done.stderr
