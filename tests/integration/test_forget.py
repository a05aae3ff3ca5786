"""Forget, on real servers: nothing of a player stays, nothing of another goes, and nobody comes back."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from consumer.load import Loader
from infamous import schema, shadow, swap
from jobs import archive as archives
from jobs import forget as forgets
from jobs import parquet, tombstones
from jobs import rollup as rollups
from jobs.archiver import archive
from jobs.check import check
from jobs.forget import Forgotten, Traces, forget, look
from jobs.imports import import_file
from jobs.mapping import Plan
from jobs.release import release
from jobs.replay import replay, replay_events
from jobs.storage import Storage
from jobs.summary import HOUR
from pipeline import failpoint
from pipeline.entry import Form, array_of
from pipeline.event import Event, datetime_of, encode
from pipeline.stream import ARCHIVE_GROUP, Stream
from pipeline.tombstone import sha256_of
from tests import commands
from tests.commands import Command
from tests.conftest import World
from tests.integration.consuming import batch_of, is_drained, now_ms, until, working
from tests.unit.samples import RETENTION_DAYS, chains, payload

# Whose rows are one player's, or a sum over all.
ROLLUPS = (
    *(
        "hourly_rollups",
        "session_parts",
        "daily_rollups",
        "player_days",
        "mission_parts",
        "mission_runs",
        "moral_choices",
    ),
    *("hourly_totals", "daily_cohorts", "daily_missions", "daily_sessions", "hourly_items"),
)


@pytest.fixture
def infamous(world: World, tmp_path: Path) -> Command:
    """``infamous`` with these arguments, and with more variables."""
    return commands.beginning("infamous", cwd=tmp_path, environment=world.environment)


def rows(world: World, query: str, **values: Any) -> list[dict[str, Any]]:
    """What a query answers."""
    with world.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query), values).mappings()]


def everything(world: World) -> dict[str, Any]:
    """All that says who the players are, by table."""
    found: dict[str, Any] = {"game_events": rows(world, "select * from game_events order by id")}
    for table in ROLLUPS:
        found[table] = sorted(map(str, rows(world, f"select * from {table}")))
    return found


def fill(world: World, events: list[Event]) -> str:
    """Events alone and in arrays, some refused ones, all of it stored and rolled up; returns who is to go."""
    alone, together = events[:60], [encode(event) for event in events[60:]]
    gone = events[0].player
    world.source.append([encode(event) for event in alone])
    world.source.append_entries(
        [(Form.EVENTS, array_of(together[at : at + 20])) for at in range(0, len(together), 20)]
    )
    world.source.append(
        [
            payload(now_ms(), 1, player=gone, rank="Boss"),
            payload(now_ms(), 2, player="Moya", rank="Boss"),
            b'{"player": "' + gone.encode() + b'", "cut',
        ]
    )
    with working(world):
        until(lambda: is_drained(world), "all to be stored")
    roll_up(world, events)
    return gone


def roll_up(world: World, events: list[Event]) -> None:
    """Sum up the hours of these events."""
    first, last = (datetime_of(event.ts_ms) for event in (events[0], events[-1]))
    rollups.rollup(world.engine, first, last + HOUR)


def recent(events: int = 300) -> list[Event]:
    """Healthy events of the last minutes."""
    return chains(events, start_ms=now_ms() - 120_000)


def test_nothing_of_the_player_stays_and_nothing_of_another_goes(world: World) -> None:
    """In events, rollups, quarantine and stream; arrays that hold others' events are sent without theirs."""
    events = recent()
    gone = fill(world, events)
    others = [event for event in events if event.player != gone]
    before = rows(world, "select * from game_events where player <> :gone order by id", gone=gone)
    there = look(world.engine, world.streams, gone)
    assert there.events == len(events) - len(others)
    assert there.quarantined == 2
    assert there.entries == 20 + 12 + 2
    with working(world):
        done = forget(world.engine, world.streams, gone)
        until(lambda: is_drained(world), "the others' events to be stored again")
    assert done == Forgotten(there, None, 0, is_complete=True)
    assert look(world.engine, world.streams, gone).is_none
    assert rows(world, "select * from game_events order by id") == before
    assert gone.encode() not in b"".join(world.payloads())
    ours = {str(event.id) for event in others}
    assert {json.loads(raw)["id"] for raw in world.payloads() if raw.count(b'"id"')} >= ours
    assert rows(world, "select distinct player from hourly_rollups") != []
    assert not rows(world, "select from hourly_rollups where player = :gone", gone=gone)
    (left,) = rows(world, "select count(*) from quarantined_events")
    assert left["count"] == 1


def test_the_rest_is_as_if_they_had_never_played(world: World) -> None:
    """Rollups of all players count only those who are left."""
    events = recent()
    gone = fill(world, events)
    with working(world):
        forget(world.engine, world.streams, gone)
        until(lambda: is_drained(world), "the others' events to be stored again")
    with world.engine.begin() as connection:  # what consumers told counts as changed for minutes
        connection.execute(text("delete from touched_hours"))
    checked = check(world.engine)
    assert checked.hours > 0
    assert not checked.wrong
    (cohort,) = rows(
        world, "select sum(players) as players from daily_cohorts where day = first_day"
    )
    assert cohort["players"] == len({e.player for e in events} - {gone})


def test_hours_without_raw_events_lose_them_too(world: World) -> None:
    """What is summed up of days that have left retention counts those who are left."""
    events = recent()
    gone = fill(world, events)
    world.client.delete(world.source.key)
    for day in {datetime_of(event.ts_ms).date() for event in events}:
        with world.engine.begin() as connection:
            connection.execute(text(f"drop table game_events_{day:%Y%m%d}"))
    with world.engine.begin() as connection:
        connection.execute(text("delete from touched_hours"))
    before = rows(
        world, "select sum(events) as events from hourly_rollups where player <> :gone", gone=gone
    )
    done = forget(world.engine, world.streams, gone)
    assert (done.removed.events, done.is_complete) == (0, True)
    assert done.removed.rollups > 0
    for table in ("hourly_rollups", "hourly_totals", "daily_rollups"):
        assert rows(world, f"select sum(events) as events from {table}") == before, table
    (cohort,) = rows(
        world, "select sum(players) as players from daily_cohorts where day = first_day"
    )
    assert cohort["players"] == len({e.player for e in events} - {gone})


def test_nobody_brings_them_back(world: World) -> None:
    """A replay of all there is, a release, and a sender that had an event late: no row comes of it."""
    events = recent()
    gone = fill(world, events)
    late = next(event for event in events if event.player == gone)
    with working(world):
        forget(world.engine, world.streams, gone)
        replay(world.streams, 0, 2**62)
        release(world.engine, world.streams)
        world.source.append([encode(late), payload(now_ms(), 9, player=gone, rank="Boss")])
        until(lambda: is_drained(world), "all of it to be judged")
    assert not rows(world, "select from game_events where player = :gone", gone=gone)
    raws = b"".join(bytes(row["raw"]) for row in rows(world, "select raw from quarantined_events"))
    assert gone.encode() not in raws


def archived(world: World, storage: Storage) -> None:
    """Archive what is on the stream."""
    source = Stream(world.client, key=world.source.key, group=ARCHIVE_GROUP)
    with tombstones.known(world.engine) as is_forgotten:
        archive(source, storage, retention_days=RETENTION_DAYS, is_forgotten=is_forgotten)


def bytes_of(storage: Storage) -> bytes:
    """All that stands in the archive's rows."""
    return b"".join(
        str(archives.table_of(storage, file).to_pylist()).encode()
        for batch in archives.manifests(storage)
        for file in batch.files
    )


def test_the_archive_and_what_comes_from_elsewhere_bring_nobody_back(
    world: World, tmp_path: Path
) -> None:
    """Its files are written anew without them; a replay from it, and an import, have no row of theirs."""
    events, storage = recent(), Storage(str(tmp_path / "archive"))
    gone = fill(world, events)
    archived(world, storage)
    others = [event for event in events if event.player != gone]
    with working(world):
        there = look(world.engine, world.streams, gone, storage=storage)
        assert there.archived == len(events) - len(others) + 2
        done = forget(world.engine, world.streams, gone, storage=storage)
        assert done.removed == there
        assert gone.encode() not in bytes_of(storage)
        assert not archives.verify(storage).faults
        pages = list(archives.read(storage, 0, 2**62))
        assert sum(map(len, pages)) == len(others)
        replay_events(world.streams, pages)
        file = tmp_path / "late.jsonl"
        file.write_bytes(b"\n".join(encode(event) for event in events))
        imported = import_file(world.engine, world.streams, file, Plan(), RETENTION_DAYS)
        assert (imported.sent, imported.forgotten) == (len(others), len(events) - len(others))
        until(lambda: is_drained(world), "all of it to be judged")
    archived(world, storage)
    assert gone.encode() not in bytes_of(storage)
    assert look(world.engine, world.streams, gone, storage=storage).is_none
    assert len(rows(world, "select from game_events")) == len(others)


def test_an_archive_that_is_being_written_is_waited_for(world: World, tmp_path: Path) -> None:
    """Who began to archive before the tombstone stood may write their events after it."""
    events, storage = recent(), Storage(str(tmp_path / "archive"))
    gone = fill(world, events)
    done: list[Forgotten] = []
    forgetting = threading.Thread(
        target=lambda: done.append(forget(world.engine, world.streams, gone, storage=storage))
    )
    with working(world), tombstones.known(world.engine) as is_forgotten:
        assert not is_forgotten(gone)
        forgetting.start()
        # All but the archive is done.
        until(lambda: look(world.engine, world.streams, gone).entries == 0, "the stream")
        source = Stream(world.client, key=world.source.key, group=ARCHIVE_GROUP)
        world.source.append([encode(event) for event in events])
        archive(source, storage, retention_days=RETENTION_DAYS, is_forgotten=is_forgotten)
        assert gone.encode() in bytes_of(storage)
        assert forgetting.is_alive()
    forgetting.join(30)
    assert done
    assert gone.encode() not in bytes_of(storage)


class Waiting(Storage):
    """A storage on which the first manifest is written anew when it may."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.waits, self.may = threading.Event(), threading.Event()

    def put(self, name: str, data: bytes) -> None:
        """Wait, and write a file."""
        if name.startswith("manifests/"):
            self.waits.set()
            assert self.may.wait(30)
        super().put(name, data)


def test_two_at_once_do_not_undo_what_the_other_erases(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote a manifest last would bring back what the other had taken out of its files."""
    events, storage = recent(), Waiting(str(tmp_path / "archive"))
    one = fill(world, events)
    other = next(event.player for event in events if event.player != one)
    archived(world, storage)
    forgetting = threading.Thread(
        target=forget, args=(world.engine, world.streams, one), kwargs={"storage": storage}
    )
    with working(world):
        forgetting.start()
        assert storage.waits.wait(30)
        with monkeypatch.context() as patched:
            patched.setattr(forgets, "ARCHIVING_S", 0.0)
            with pytest.raises(tombstones.StillWriting):
                forget(world.engine, world.streams, other, storage=Storage(storage.url))
        storage.may.set()
        forgetting.join(30)
        assert forget(world.engine, world.streams, other, storage=storage).is_complete
    assert not {one.encode(), other.encode()} & {*bytes_of(storage).split(b"'")}
    found = archives.verify(storage)
    assert (found.faults, found.left_over) == ((), ())


@pytest.mark.parametrize(
    ("command", "point"), [("forget", "in_rewrite:2"), ("archive", "in_archive:1")]
)
def test_files_that_a_killed_run_left_go_as_well(
    world: World, tmp_path: Path, infamous: Command, command: str, point: str
) -> None:
    """No manifest names them, but whoever reads the folder as it is reads them."""
    events, storage = recent(), Storage(str(tmp_path / "archive"))
    gone = fill(world, events)
    arguments = ("archive", "run")
    if command == "forget":
        archived(world, storage)
        arguments = ("forget", gone)
    with working(world):
        killed = infamous(*arguments, ARCHIVE_URL=storage.url, **{failpoint.VARIABLE: point})
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert gone in players_in_folder(storage)
        assert forget(world.engine, world.streams, gone, storage=storage).is_complete
    archived(world, storage)
    assert players_in_folder(storage) == {event.player for event in events} - {gone}


def players_in_folder(storage: Storage) -> set[str]:
    """Whose events are in any file, as one finds them who knows nothing of manifests."""
    paths = [path for path in archives.all_files(storage) if path.startswith("events/")]
    return set().union(*(parquet.players(parquet.read(storage.get(path))) for path in paths))


def test_an_archive_that_is_not_named_is_missed(
    world: World, infamous: Command, tmp_path: Path
) -> None:
    """It would keep the player, and nothing would be said of it."""
    events = recent()
    gone = fill(world, events)
    archived(world, Storage(str(tmp_path / "archive")))
    mistyped = {"ARCHIVE_URL": str(tmp_path / "mistyped")}
    for done in (infamous("forget", gone), infamous("forget", gone, **mistyped)):
        assert done.returncode == 1
        assert "no archive where ARCHIVE_URL says" in done.stderr
    assert not rows(world, "select from forgotten_players")


def test_another_place_of_the_archive_is_told(
    world: World, infamous: Command, tmp_path: Path
) -> None:
    """Where ARCHIVE_URL was changed, and part of the archive is where it pointed before."""
    events = recent()
    gone = fill(world, events)
    here, there = (Storage(str(tmp_path / name)) for name in ("here", "there"))
    archived(world, here)
    with working(world):
        done = infamous("forget", gone, ARCHIVE_URL=here.url)
        assert "another place" not in done.stdout
        world.source.append([encode(event) for event in events[1:3]])
        archived(world, there)
        done = infamous("forget", events[1].player, ARCHIVE_URL=here.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "in another place, which was named before: name that in" in done.stdout


def test_a_pseudonym_reaches_the_archive(world: World, tmp_path: Path) -> None:
    """What is rebuilt from it goes by the same name as the table."""
    events, storage = recent(), Storage(str(tmp_path / "archive"))
    gone = fill(world, events)
    archived(world, storage)
    with working(world):
        done = forget(world.engine, world.streams, gone, storage=storage, keep_as_pseudonym=True)
    assert done.pseudonym is not None
    players = {event.player for page in archives.read(storage, 0, 2**62) for event in page}
    assert players == {event.player for event in events} - {gone} | {done.pseudonym}
    assert gone.encode() not in bytes_of(storage)


def test_days_that_stand_beside_are_cleared_too(bare_world: World) -> None:
    """A shadow, and what a swap set aside, hold events as the table does."""
    world = bare_world
    schema.migrate(
        world.engine
    )  # what its owner may do in a database is not copied with its tables
    events = recent()
    gone = fill(world, events)
    theirs = sum(event.player == gone for event in events)
    first, last = (datetime_of(event.ts_ms).date() for event in (events[0], events[-1]))
    shadow.build(
        world.engine, shadow.pages(world.streams, first), first, last, retention_days=RETENTION_DAYS
    )
    assert look(world.engine, world.streams, gone).beside == theirs
    swap.swap(world.engine)
    assert look(world.engine, world.streams, gone).beside == theirs  # the days that were set aside
    with working(world):
        assert forget(world.engine, world.streams, gone).removed.beside == theirs
    assert look(world.engine, world.streams, gone).is_none


def test_a_pseudonym_keeps_the_events_and_nothing_else(world: World) -> None:
    """The chain of their events stays whole under a name that says nothing."""
    events = recent()
    gone = fill(world, events)
    of_them = "select ts, seq, karma_total from game_events where player = :player order by seq"
    before = rows(world, of_them, player=gone)
    with working(world):
        done = forget(world.engine, world.streams, gone, keep_as_pseudonym=True)
        until(lambda: is_drained(world), "the others' events to be stored again")
    assert done.pseudonym is not None
    assert rows(world, of_them, player=done.pseudonym) == before
    assert look(world.engine, world.streams, gone).is_none
    (stone,) = rows(world, "select pseudonym from forgotten_players")
    assert (
        stone["pseudonym"] is None
    )  # once all of it is done, nothing leads from the one to the other


def test_what_waits_to_be_stored_is_told(world: World) -> None:
    """An entry that no consumer has read must not be deleted: it would count as lost."""
    events = recent()
    gone = events[0].player
    world.source.ensure_group()
    world.source.append([encode(event) for event in events])
    done = forget(world.engine, world.streams, gone, patience_s=0.3)
    assert (done.is_complete, done.removed.entries) == (False, 0)
    assert done.waiting == look(world.engine, world.streams, gone).entries == 100
    with working(world):
        again = forget(world.engine, world.streams, gone)
    assert (again.is_complete, again.removed.entries) == (True, 100)
    assert not rows(world, "select from game_events where player = :gone", gone=gone)


def test_a_consumer_in_mid_batch_does_not_slip_through(world: World) -> None:
    """What it stored before it could see the tombstone is waited for, and removed."""
    (event,) = recent(1)
    stored, may_commit = threading.Event(), threading.Event()

    def store() -> None:
        with world.engine.begin() as connection:
            connection.execute(
                text(
                    "insert into game_events"
                    " (id, ts, player, action, xp_delta, karma_delta, karma_total, rank)"
                    " values (:id, :ts, :player, 'kill_enemy', 5, 0, 0, 'Neutral')"
                ),
                {"id": event.id, "ts": datetime_of(event.ts_ms), "player": event.player},
            )
            stored.set()
            assert may_commit.wait(30)

    with world.engine.begin() as connection:
        day = datetime_of(event.ts_ms).date()
        connection.execute(text("select ensure_game_events_partitions(:d, :d)"), {"d": day})
    storing = threading.Thread(target=store)
    storing.start()
    assert stored.wait(30)
    done: list[Forgotten] = []
    forgetting = threading.Thread(
        target=lambda: done.append(forget(world.engine, world.streams, event.player))
    )
    forgetting.start()
    waits = "select count(*) from pg_locks where not granted and relation = 'game_events'::regclass"
    until(lambda: rows(world, waits)[0]["count"], "forget to wait for the consumer")
    may_commit.set()
    for thread in (storing, forgetting):
        thread.join(30)
    assert done[0].removed.events == 1
    assert not rows(world, "select from game_events")


def test_who_builds_a_shadow_in_mid_batch_does_not_slip_through(bare_world: World) -> None:
    """A shadow is stored into by a loader as the table is, and is waited for as well."""
    world = bare_world
    schema.migrate(world.engine)
    events = recent()
    gone = fill(world, events)
    first, last = (datetime_of(event.ts_ms).date() for event in (events[0], events[-1]))
    shadow.build(world.engine, [], first, last, retention_days=RETENTION_DAYS)
    copy = "insert into infamous_shadow.game_events select * from game_events"
    waits = """
    select 1 from pg_locks where not granted and relation = 'infamous_shadow.game_events'::regclass
    """
    done: list[Forgotten] = []
    forgetting = threading.Thread(
        target=lambda: done.append(forget(world.engine, world.streams, gone))
    )
    with working(world):
        with world.engine.begin() as building:
            building.execute(text(copy))
            forgetting.start()
            until(lambda: rows(world, waits), "forget to wait for the build")
        forgetting.join(30)
    assert done[0].removed.beside == 100
    assert look(world.engine, world.streams, gone).is_none


@pytest.mark.parametrize("is_dry_run", [False, True])
def test_a_shadow_that_is_dropped_meanwhile_is_no_fault_of_the_tables(
    bare_world: World, *, is_dry_run: bool
) -> None:
    """Whoever was about to look into it is told to run it again, and then it is done."""
    world = bare_world
    schema.migrate(world.engine)
    events = recent()
    gone = fill(world, events)
    first, last = (datetime_of(event.ts_ms).date() for event in (events[0], events[-1]))
    shadow.build(world.engine, [], first, last, retention_days=RETENTION_DAYS)
    waits = """
    select 1 from pg_locks where not granted and relation = 'infamous_shadow.game_events'::regclass
    """
    failed: list[BaseException] = []

    def run() -> None:
        try:
            (look if is_dry_run else forget)(world.engine, world.streams, gone)
        except BaseException as error:  # looked at below
            failed.append(error)

    forgetting = threading.Thread(target=run)
    with working(world):
        with world.engine.begin() as dropping:
            dropping.execute(text("drop schema infamous_shadow cascade"))
            forgetting.start()
            until(lambda: rows(world, waits), "it to wait for the shadow")
        forgetting.join(30)
        (error,) = failed
        assert isinstance(error, tombstones.StillWriting)
        assert str(error).endswith("went while they were looked into: run it again.")
        assert forget(world.engine, world.streams, gone).is_complete


def test_tables_that_were_never_made_are_another_matter(bare_world: World) -> None:
    """The advice to migrate is right where nothing was migrated."""
    with pytest.raises(ProgrammingError):
        look(bare_world.engine, bare_world.streams, "Zeke")


def test_a_day_that_was_detached_is_cleared_too(world: World) -> None:
    """Its events would come back with it when it is attached again."""
    events = recent()
    gone = fill(world, events)
    day = datetime_of(events[0].ts_ms).date()
    name = f"game_events_{day:%Y%m%d}"
    with world.engine.begin() as connection:
        connection.execute(text(f"alter table game_events detach partition {name}"))
    assert look(world.engine, world.streams, gone).beside == 100
    assert forget(world.engine, world.streams, gone).removed.beside == 100
    assert not rows(world, f"select from {name} where player = :gone", gone=gone)


def test_what_nobody_can_tell_whose_it_is_stays_and_is_told(
    world: World, infamous: Command, tmp_path: Path
) -> None:
    """Erased is what names them, however it is spelled; not what a longer name holds; the rest is counted."""
    storage = Storage(str(tmp_path / "archive"))
    theirs = [b'{"player": "\\u0043ole", "cut', b'{"player": "Cole", "xp_delta": NaN']
    others = [b'{"player": "Coleman", "cut', payload(now_ms(), 3, player="Nicole", rank="Boss")]
    doubtful = [b'{"player": "Cole MacGrath", "cut', b"\xff\xfe\0"]
    world.source.append([*theirs, *others, *doubtful])
    with working(world):
        until(lambda: is_drained(world), "all to be refused")
        archived(world, storage)
        there = look(world.engine, world.streams, "Cole", storage=storage)
        assert there == Traces(quarantined=2, entries=2, archived=2, unsure=2)
        planned = infamous("forget", "Cole", "--dry-run", ARCHIVE_URL=storage.url)
        assert "         2  refused entries that cannot be read" in planned.stdout
        done = infamous("forget", "Cole", ARCHIVE_URL=storage.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing is left" in done.stdout
    assert "Left are 2 refused entries that cannot be read" in done.stdout
    left = look(world.engine, world.streams, "Cole", storage=storage)
    assert left == Traces(unsure=2)
    kept = {bytes(row["raw"]) for row in rows(world, "select raw from quarantined_events")}
    assert kept == {*others, *doubtful} == {*world.payloads()}


def test_tombstones_stand_in_the_order_of_their_numbers(world: World) -> None:
    """A consumer looks who is forgotten when the highest number has changed, and a lower one that is seen
    later would never be looked for."""
    one, *_, other = recent()
    waits = "select 1 from pg_locks where not granted and relation = 'forgotten_players'::regclass"
    forgetting = threading.Thread(target=forget, args=(world.engine, world.streams, other.player))
    loader = Loader(world.database_url, "test")
    with world.engine.begin() as connection:
        connection.execute(text("lock table forgotten_players in row exclusive mode"))
        connection.execute(
            forgets.SET_TOMBSTONE, {"sha256": sha256_of(one.player), "pseudonym": None}
        )
        forgetting.start()
        until(lambda: rows(world, waits) or not forgetting.is_alive(), "the other to wait")
        loader.store(batch_of([encode(other)]))
    forgetting.join(30)
    assert loader.store(batch_of([encode(one), encode(other)])).rows == 0
    loader.close()


@pytest.mark.parametrize("point", ["in_forget:1", "in_forget:2", "in_forget:3"])
def test_killed_anywhere_it_is_run_again(world: World, infamous: Command, point: str) -> None:
    """Nothing of another player is lost on the way, and the second run completes the first."""
    events = recent()
    gone = fill(world, events)
    before = rows(world, "select * from game_events where player <> :gone order by id", gone=gone)
    with working(world):
        killed = infamous("forget", gone, **{failpoint.VARIABLE: point})
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        done = infamous("forget", gone)
        assert done.returncode == 0, done.stdout + done.stderr
        until(lambda: is_drained(world), "the others' events to be stored again")
    assert "Nothing is left" in done.stdout
    assert look(world.engine, world.streams, gone) == Traces()
    assert rows(world, "select * from game_events order by id") == before


def test_a_dry_run_changes_nothing(world: World, infamous: Command) -> None:
    """It says what a run would remove, and that is what the run removes."""
    events = recent()
    gone = fill(world, events)
    before, payloads = everything(world), world.payloads()
    planned = infamous("forget", gone, "--dry-run", "--json")
    assert planned.returncode == 0, planned.stderr
    assert everything(world) == before
    assert world.payloads() == payloads
    assert not rows(world, "select from forgotten_players")
    with working(world):
        done = infamous("forget", gone, "--json", BACKUP_DAYS="30")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["removed"] == json.loads(planned.stdout)
    assert any(one.startswith("backups made before now: until 20") for one in told["out_of_reach"])


def test_two_players_are_erased_from_the_archive_one_after_the_other(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, each would write its file from one that holds the other still, and the last would stay."""
    events, storage = recent(), Storage(str(tmp_path / "archive"))
    world.source.append([encode(event) for event in events])
    archived(world, storage)
    gone = events[0].player
    with working(world):
        until(lambda: is_drained(world), "the events to be stored")
        monkeypatch.setattr("jobs.forget.ARCHIVING_S", 0.5)
        with (
            tombstones.alone(world.engine),
            pytest.raises(tombstones.StillWriting, match="run it again"),
        ):
            forget(world.engine, world.streams, gone, storage=storage)
        assert gone.encode() in bytes_of(storage)
        assert forget(world.engine, world.streams, gone, storage=storage).removed.archived
    assert gone.encode() not in bytes_of(storage)
