"""Replay, release and rollup on real servers, whole, twice, and killed in the middle."""

from __future__ import annotations

import json
import re
import signal
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy import create_engine, pool, text

from consumer.load import Loader
from jobs import missions, sessions
from jobs import rollup as rollups
from jobs.__main__ import replayed
from jobs.backpressure import NobodyReads
from jobs.release import Released, release
from jobs.replay import BrokenOff, Replayed, replay, replay_events
from jobs.rollup import RolledUp, rollup
from jobs.sift import Chosen
from jobs.summary import Summary, of_hour
from pipeline import failpoint
from pipeline.entry import packed_up
from pipeline.event import Event, Reason, encode
from tests import commands
from tests.commands import Command as Job
from tests.conftest import World
from tests.integration.consuming import added, batch_of, is_drained, now_ms, until, working
from tests.unit.samples import chains, payload

HOUR = timedelta(hours=1)


@pytest.fixture
def job(world: World, tmp_path: Path) -> Job:
    """``python -m jobs`` with these arguments, and with more or other variables."""
    return commands.beginning("jobs", cwd=tmp_path, environment=world.environment)


def rows(world: World, query: str, **values: Any) -> list[dict[str, Any]]:
    """What a query answers."""
    with world.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query), values).mappings()]


def change(world: World, statement: str, **values: Any) -> None:
    """Change something in the database."""
    with world.engine.begin() as connection:
        connection.execute(text(statement), values)


def recent(events: int, *, start_ms: int | None = None) -> list[Event]:
    """Healthy events, of a minute ago where nothing else is said."""
    return chains(events, start_ms=now_ms() - 60_000 if start_ms is None else start_ms)


def encoded(events: list[Event]) -> list[bytes]:
    """Events as they go onto the stream."""
    return [encode(event) for event in events]


def settle(world: World) -> None:
    """Let a worker store all that is on the stream."""
    with working(world):
        until(lambda: is_drained(world), "the stream to be read")


# --- replay


def test_a_replay_over_live_events_adds_no_row(world: World) -> None:
    """Again and again, while the consumer runs: each event is sent once a run, and stored once."""
    world.source.append(encoded(recent(200)))
    with working(world):
        until(lambda: is_drained(world), "the events to be stored")
        for times in (1, 2, 3):  # the later runs find what those before them added
            done = replay(world.streams, 0, now_ms(), chunk=30, most_unread=0)
            assert done == Replayed(
                200, 0, is_complete=True, events=200, repeated=200 * (times - 1)
            )
            assert added(world) == 200 * (times + 1)
            until(lambda: is_drained(world), "the replay to be stored")
    assert world.count("game_events") == 200
    assert world.count("quarantined_events") == 0


def test_a_replay_brings_back_rows_that_were_lost(world: World) -> None:
    """What a replay is for: rows that are gone come back as they were, and only those are new."""
    world.source.append(encoded(recent(50)))
    settle(world)
    query = "select id, ts, player, seq, karma_total, details from game_events order by id"
    before = rows(world, query)
    change(world, "delete from game_events where seq > 5")
    assert world.count("game_events") < 50
    replay(world.streams, 0, now_ms())
    settle(world)
    assert rows(world, query) == before


def test_a_replay_keeps_to_its_span_and_leaves_foreign_entries_alone(world: World) -> None:
    """Both ends are included; an entry with other fields is counted and not sent again."""
    source = world.source
    for entry_id, name in (
        ("1999-9", "event"),
        ("2000-0", "event"),
        ("2000-1", "strange"),
        ("2999-7", "event"),
        ("3000-0", "event"),
    ):
        source.client.xadd(source.key, {name: entry_id}, id=entry_id)
    assert replay(world.streams, 2000, 2999) == Replayed(2, 1, is_complete=True)
    sent = [entry.payload for page in source.walk(from_ms=10_000, to_ms=2**60) for entry in page]
    assert sent == [b"2000-0", b"2999-7"]
    assert replay(world.streams, 4000, 9000) == Replayed(0, 0, is_complete=True)
    assert replay(world.streams, 2999, 2000) == Replayed(0, 0, is_complete=True)


def test_a_replay_of_no_stream_is_no_error(world: World) -> None:
    """Before the first event there is nothing to send again."""
    assert replay(world.streams, 0, now_ms()) == Replayed(0, 0, is_complete=True)


def test_a_replay_does_not_pile_up_what_nobody_reads(world: World) -> None:
    """Live events come first: with consumers away it stops at the bound, and says what to do."""
    world.source.ensure_group()
    world.source.append([b"%d" % number for number in range(30)])
    with pytest.raises(NobodyReads, match=r"^40 entries .*start consumers") as caught:
        replay(world.streams, 0, now_ms(), chunk=10, most_unread=39, patience_s=0.2)
    assert str(caught.value).endswith(".")
    assert added(world) == 40


def test_a_replay_goes_on_when_the_backlog_is_read(world: World) -> None:
    """It waits for room, not only looks once."""
    world.source.ensure_group()
    world.source.append(encoded(recent(40)))
    done: list[Replayed] = []
    thread = threading.Thread(
        target=lambda: done.append(replay(world.streams, 0, now_ms(), chunk=10, most_unread=45))
    )
    thread.start()
    until(lambda: added(world) == 50, "the replay to fill the room there is")
    settle(world)
    thread.join(10)
    assert done == [Replayed(40, 0, is_complete=True, events=40)]
    assert added(world) == 80


def test_a_replay_stops_when_asked(world: World) -> None:
    """A request to stop ends the wait for room, and the answer says that it is not all."""
    world.source.append([b"%d" % number for number in range(30)])
    stop = threading.Event()
    timer = threading.Timer(0.1, stop.set)
    timer.start()
    done = replay(world.streams, 0, now_ms(), chunk=10, most_unread=39, stop=stop)
    timer.join()
    assert done == Replayed(10, 0, is_complete=False)
    assert added(world) == 40


def test_a_replay_killed_in_the_middle_is_run_again(world: World, job: Job) -> None:
    """Half a replay is harmless, and so is the whole one after it."""
    world.source.append(encoded(recent(1200)))
    settle(world)
    killed = job("replay", "--since", "3600", FAILPOINT="in_replay:2")
    assert killed.returncode == -signal.SIGKILL
    begun = added(world)
    assert 1200 < begun < 2400
    again = job("replay", "--since", "3600", "--json")
    told = json.loads(again.stdout)
    assert (told["entries"], told["events"], told["is_complete"]) == (1200, 1200, True)
    assert told["repeated"] == begun - 1200
    settle(world)
    assert added(world) == begun + 1200
    assert world.count("game_events") == 1200
    assert world.count("quarantined_events") == 0


def test_a_replay_of_a_players_deeds(world: World) -> None:
    """Only what was asked for is sent again, arrays as arrays of it, and only that comes back."""
    events = recent(300)
    world.source.append_entries(packed_up(encoded(events), 100))
    world.source.append([b"bad"])
    settle(world)
    query = "select player, action from game_events order by id"
    player, action = events[0].player, events[0].action
    change(world, "delete from game_events")
    done = replay(world.streams, 0, now_ms(), chosen=Chosen(player, action))
    wanted = [event for event in events if (event.player, event.action) == (player, action)]
    assert (done.events, done.refused, done.entries) == (len(wanted), 1, 3)
    settle(world)
    assert rows(world, query) == [{"player": player, "action": action}] * len(wanted)
    assert world.count("quarantined_events") == 1


def test_what_retention_would_refuse_is_not_sent_again(world: World) -> None:
    """It is stored, or was dropped with its partition: sent again, it would only be quarantined."""
    day_ms = 86_400_000
    old, new = recent(20, start_ms=now_ms() - 2 * day_ms), recent(20)
    world.source.append(encoded(old))
    world.source.append_entries(packed_up(encoded(old[:5] + new), 25))
    done = replay(world.streams, 0, now_ms(), retention_days=1)
    assert (done.entries, done.events, done.too_old) == (1, 20, 25)
    done = replay_events(world.streams, [old, new], retention_days=1)
    assert (done.entries, done.events, done.too_old) == (1, 20, 20)


def test_a_replay_knows_what_came_back_from_the_archive(world: World) -> None:
    """Spelled out anew and in arrays, it is the same event, and goes once; more than can be remembered is
    told."""
    events = recent(300)
    world.source.append(encoded(events))
    settle(world)
    replay_events(world.streams, [events])
    settle(world)
    done = replay(world.streams, 0, now_ms())
    assert (done.events, done.repeated, done.unchecked) == (300, 300, 0)
    settle(world)
    bounded = replay(world.streams, 0, now_ms(), most_known=200)
    assert (bounded.events, bounded.repeated, bounded.unchecked) == (500, 400, 300)
    assert "the last 300 were too many" in replayed(bounded)
    settle(world)
    assert (world.count("game_events"), world.count("quarantined_events")) == (300, 0)


def test_a_replay_of_events_from_elsewhere(world: World) -> None:
    """Twice over live events: packed into few entries, through the same door, without one more row."""
    events = recent(1000)
    told: list[tuple[int, int | None]] = []
    world.source.append(encoded(events[:500]))
    with working(world):
        until(lambda: is_drained(world), "the events to be stored")
        for _ in range(2):
            told.clear()
            done = replay_events(
                world.streams,
                [events[:700], events[700:]],
                chunk=300,
                most_unread=0,
                tell=lambda *at: told.append(at),
                total=1000,
            )
            assert done == Replayed(10, 0, is_complete=True, events=1000)
            assert told == [(300, 1000), (600, 1000), (700, 1000), (1000, 1000)]
            until(lambda: is_drained(world), "the replay to be stored")
    assert world.count("game_events") == 1000
    assert world.count("quarantined_events") == 0


def test_a_replay_leaves_room_for_live_events(world: World) -> None:
    """Entries of a hundred events count for what they carry: with nobody reading, it stops soon."""
    world.source.ensure_group()
    events = chains(40_000, start_ms=now_ms() - 60_000)
    with pytest.raises(NobodyReads):
        replay_events(world.streams, [events], patience_s=0.2)
    assert 200 <= added(world) <= 250


def test_a_redis_that_takes_no_more_breaks_a_replay_off(world: World) -> None:
    """A sentence that says what to do; run again once there is room, it is complete."""
    world.source.append(encoded(recent(100)))
    world.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(BrokenOff, match="run the replay again") as caught:
            replay(world.streams, 0, now_ms())
        assert str(caught.value).startswith("Redis failed after 0 entries")
        assert added(world) == 100
    finally:
        world.client.config_set("maxmemory", 0)
    assert replay(world.streams, 0, now_ms()).events == 100


@pytest.fixture
def infamous(world: World, tmp_path: Path) -> Job:
    """``infamous replay`` with these arguments, and an archive."""
    return commands.beginning(
        "infamous",
        cwd=tmp_path,
        environment=world.environment | {"ARCHIVE_URL": str(tmp_path / "archive")},
    )


def test_a_replay_from_the_archive_reaches_further_back(world: World, infamous: Job) -> None:
    """The stream has forgotten, the table was emptied: the archive brings back every row as it was."""
    events = recent(250)
    world.source.append_entries(packed_up(encoded(events), 100))
    settle(world)
    query = "select id, ts, player, seq, karma_total, details from game_events order by id"
    before = rows(world, query)
    assert infamous("archive", "run").returncode == 0
    world.client.xtrim(world.source.key, maxlen=0, approximate=False)
    change(world, "truncate game_events")
    gone = infamous("replay", "--from", "1h")
    assert (gone.returncode, gone.stderr) == (0, "")
    assert "There was nothing to send: the stream is empty; the archive holds events from" in (
        gone.stdout
    )
    killed = infamous("replay", "--from", "1h", "--source", "archive", FAILPOINT="in_replay")
    assert killed.returncode == -signal.SIGKILL
    for _ in range(2):
        done = infamous("replay", "--from", "1h", "--source", "archive", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert (told["entries"], told["events"], told["note"]) == (3, 250, None)
        settle(world)
        assert rows(world, query) == before
    assert world.count("quarantined_events") == 0
    some = infamous("replay", "--from", "1h", "--source", "archive", "--player", events[0].player)
    assert some.stdout.startswith("Sent 1 entries again, with ")
    none = infamous("replay", "--from", "30d", "--to", "20d", "--source", "archive")
    assert "There was nothing to send: the stream holds what was added from" in none.stdout
    wrong = infamous("replay", "--from", "1h", "--action", "fly")
    assert wrong.returncode == 2
    assert "fly is no action" in wrong.stderr


def test_a_replay_from_an_altered_archive_sends_nothing(
    world: World, infamous: Job, tmp_path: Path
) -> None:
    """The sentence names the file, and not one event was sent."""
    world.source.append(encoded(recent(50)))
    assert infamous("archive", "run").returncode == 0
    (path,) = (tmp_path / "archive" / "events").rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    ended = infamous("replay", "--from", "1h", "--source", "archive")
    assert ended.returncode == 1
    assert re.search(
        rf"{path.name} of the archive does not match its manifest: .*\.$", ended.stderr
    )
    assert "Traceback" not in ended.stderr
    assert added(world) == 50


def test_a_replay_says_how_far_back_the_stream_reaches(world: World, infamous: Job) -> None:
    """Part of what was asked for is gone: what is there is sent, and the rest is not passed over."""
    world.source.append(encoded(recent(10)))
    world.client.xtrim(world.source.key, maxlen=6, approximate=False)
    settle(world)
    done = infamous("replay", "--from", "2h")
    assert done.stdout.startswith("Sent 6 entries again, with 6 events in them. The stream reaches")
    assert "--source archive" in done.stdout


# --- release


def refuse_by_the_database(world: World, events: list[Event]) -> None:
    """Let a constraint that should not be there put some of these into the quarantine; drop it then."""
    change(world, "alter table game_events add constraint mistake check (seq <> 2)")
    loader = Loader(world.database_url, "test")
    loader.store(batch_of(encoded(events)))
    loader.close()
    change(world, "alter table game_events drop constraint mistake")


def quarantined(world: World) -> list[dict[str, Any]]:
    """The quarantine, by key."""
    return rows(world, "select * from quarantined_events order by sha256")


def test_what_is_good_now_becomes_rows(world: World) -> None:
    """Events refused by a mistake are released once, and stored; a second release finds nothing."""
    refuse_by_the_database(world, recent(20))
    assert (world.count("game_events"), world.count("quarantined_events")) == (17, 3)
    assert release(world.engine, world.streams) == Released(3, 0, 0, is_complete=True)
    assert all(row["released_at"] is not None for row in quarantined(world))
    settle(world)
    assert world.count("game_events") == 20
    assert [row["times_seen"] for row in quarantined(world)] == [1, 1, 1]
    assert release(world.engine, world.streams) == Released(0, 0, 0, is_complete=True)
    assert added(world) == 3


def test_what_is_still_bad_comes_back_to_its_row(world: World) -> None:
    """The quarantine does not grow, and one release sends each row once, however fast it comes back."""
    bad = [b"bad %d" % number for number in range(60)]
    world.source.append(bad)
    with working(world):
        until(lambda: world.count("quarantined_events") == 60, "the bad ones to be refused")
        assert release(world.engine, world.streams) == Released(60, 0, 0, is_complete=True)
        until(lambda: is_drained(world), "them to come back")
    assert [row["times_seen"] for row in quarantined(world)] == [2] * 60
    # Refused since it was sent: it may be released once more.
    assert [row["released_at"] for row in quarantined(world)] == [None] * 60
    assert {bytes(row["raw"]) for row in quarantined(world)} == set(bad)


def test_what_is_not_whole_or_not_ours_stays(world: World) -> None:
    """A cut entry and a foreign one cannot be sent as they came: they are counted, never touched."""
    world.source.client.xadd(world.source.key, {"a": "b"})
    world.source.append([b"x" * (1024 * 1024 + 1), b"bad"])
    settle(world)
    before = quarantined(world)
    assert len(before) == 3
    only = release(world.engine, world.streams, reason=Reason.NOT_AN_EVENT_ENTRY)
    assert only == Released(0, 1, 0, is_complete=True)
    assert quarantined(world) == before
    assert release(world.engine, world.streams) == Released(1, 1, 1, is_complete=True)
    released = [row["reason"] for row in quarantined(world) if row["released_at"] is not None]
    assert released == ["not_json"]
    assert added(world) == 4


def test_bytes_are_released_as_they_came(world: World) -> None:
    """What stood in the field stands in it again, byte for byte."""
    raws = [b"", b"\0\xff\r\n", b"{" * 70_000, b'{"id": 1}']
    world.source.append(raws)
    settle(world)
    release(world.engine, world.streams)
    sent = [entry.payload for page in world.source.walk(from_ms=0, to_ms=2**60) for entry in page]
    assert sorted(sent[4:]) == sorted(raws)


def test_a_release_keeps_to_its_reason_and_its_limit(world: World) -> None:
    """An operator may try with a few of one kind first."""
    world.source.append([b"bad %d" % number for number in range(60)])
    world.source.append([payload(now_ms(), v=9)])
    settle(world)
    by_version = release(world.engine, world.streams, reason=Reason.UNKNOWN_VERSION)
    assert by_version == Released(1, 0, 0, is_complete=True)
    assert release(world.engine, world.streams, limit=55) == Released(55, 0, 0, is_complete=True)
    assert release(world.engine, world.streams, limit=55) == Released(5, 0, 0, is_complete=True)
    assert added(world) == 122


def test_two_releases_share_the_work(world: World) -> None:
    """What one has in its hands the other leaves alone, without waiting: nothing is sent twice."""
    world.source.append([b"bad %d" % number for number in range(60)])
    settle(world)
    half = [row["sha256"] for row in quarantined(world)[::2]]
    with world.engine.begin() as another:
        another.execute(
            text("select from quarantined_events where sha256 = any(:keys) for update"),
            {"keys": half},
        )
        # Should it wait after all, it does not wait for ever.
        impatient = create_engine(
            world.database_url,
            poolclass=pool.NullPool,
            connect_args={"options": "-c lock_timeout=5s"},
        )
        assert release(impatient, world.streams) == Released(30, 0, 0, is_complete=True)
    assert release(world.engine, world.streams) == Released(30, 0, 0, is_complete=True)
    assert added(world) == 120


def test_a_verdict_on_released_bytes_comes_after_the_mark(world: World) -> None:
    """From the look to the mark a row is locked, so that the mark never covers a newer verdict."""
    world.source.append([b"bad"])
    settle(world)
    free = "select sha256 from quarantined_events for update skip locked"
    seen: list[int] = []
    with patch.object(failpoint, "reached", lambda _: seen.append(len(rows(world, free)))):
        release(world.engine, world.streams)
    assert seen == [0]
    assert len(rows(world, free)) == 1


def test_a_release_stops_when_asked(world: World) -> None:
    """Nothing is begun after a request to stop."""
    world.source.append([b"bad"])
    settle(world)
    stop = threading.Event()
    stop.set()
    assert release(world.engine, world.streams, stop=stop) == Released(0, 0, 0, is_complete=False)
    assert added(world) == 1


def test_a_release_killed_before_the_mark_is_run_again(world: World, job: Job) -> None:
    """Sent twice, marked once, stored once: a crash between the two costs a second entry, no more."""
    refuse_by_the_database(world, recent(20))
    killed = job("release", FAILPOINT="in_release")
    assert killed.returncode == -signal.SIGKILL
    assert added(world) == 3
    assert [row["released_at"] for row in quarantined(world)] == [None] * 3
    again = job("release", "--reason", "database", "--json")
    assert json.loads(again.stdout) == {"entries": 3, "foreign": 0, "cut": 0, "is_complete": True}
    settle(world)
    assert added(world) == 6
    assert world.count("game_events") == 20
    assert [row["times_seen"] for row in quarantined(world)] == [1, 1, 1]


# --- rollup

ROLLUPS = "select * from hourly_rollups order by hour, player, action"
SUMS = """
select date_trunc('hour', ts) as hour, player, action, count(*) as events,
       sum(xp_delta) as xp_delta, sum(karma_delta) as karma_delta
from game_events group by 1, 2, 3 order by 1, 2, 3
"""
WAITING = """
select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
"""


def this_hour() -> datetime:
    """When the current hour began."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def at(hour: datetime, events: int, *, seed: int = 1) -> list[Event]:
    """Healthy events from a time on."""
    return chains(events, seed=seed, start_ms=int(hour.timestamp() * 1000))


def store(world: World, events: list[Event]) -> None:
    """Put events into the table."""
    loader = Loader(world.database_url, "test")
    loader.store(batch_of(encoded(events)))
    loader.close()


def test_a_rollup_sums_up_whole_hours(world: World) -> None:
    """Each event counts in its own hour, also at the very edge; twice changes nothing."""
    hour = this_hour() - 30 * HOUR
    for begin in (hour - HOUR, hour, hour + HOUR - timedelta(milliseconds=50), hour + 2 * HOUR):
        store(world, at(begin, 100, seed=begin.hour))
    done = rollup(world.engine, hour - HOUR, hour + 3 * HOUR)
    sums = rows(world, SUMS)
    assert done == RolledUp(4, len(sums), 0, is_complete=True)
    assert len({row["hour"] for row in sums}) == 4
    assert rows(world, ROLLUPS) == sums
    assert rollup(world.engine, hour - HOUR, hour + 3 * HOUR) == done
    assert rows(world, ROLLUPS) == sums


def test_a_rollup_follows_late_events_and_touches_no_other_hour(world: World) -> None:
    """An hour that is rolled up again is made anew; its neighbours stay as they were made."""
    hour = this_hour() - 5 * HOUR
    for begin in (hour, hour + HOUR):
        store(world, at(begin, 50))
    rollup(world.engine, hour, hour + 2 * HOUR)
    for begin in (hour, hour + HOUR):
        store(world, at(begin + HOUR / 2, 50, seed=2))
    rollup(world.engine, hour + HOUR / 4, hour + HOUR)
    totals = "select hour, sum(events) as events from hourly_rollups group by 1 order by 1"
    assert rows(world, totals) == [
        {"hour": hour, "events": 100},
        {"hour": hour + HOUR, "events": 50},
    ]
    change(world, "delete from game_events")
    rollup(world.engine, hour, hour + 2 * HOUR)
    assert world.count("hourly_rollups") == 0


def test_hours_whose_raw_events_are_gone_keep_their_rollups(world: World) -> None:
    """Retention drops a day's partition: rolling it up again must not wipe out what is left of it."""
    hour = this_hour() - 48 * HOUR
    store(world, at(hour, 50))
    rollup(world.engine, hour, hour + HOUR)
    before = rows(world, ROLLUPS)
    assert before
    change(world, f"drop table game_events_{hour:%Y%m%d}")
    assert rollup(world.engine, hour, hour + HOUR) == RolledUp(0, 0, 1, is_complete=True)
    assert rows(world, ROLLUPS) == before


@pytest.mark.parametrize("summary", [rollups.ROLLUPS, sessions.PARTS, missions.PARTS])
def test_a_rollup_reads_one_partition(world: World, summary: Summary) -> None:
    """An hour costs a day's partition at most, however long the history is."""
    hour = this_hour()
    with world.engine.connect() as connection:
        plan = connection.execute(text(f"explain {summary.count}"), of_hour(hour)).scalars().all()
    partitions = set(re.findall(r"game_events_\d{8}", "\n".join(plan)))
    assert partitions == {f"game_events_{hour:%Y%m%d}"}


def test_two_rollups_of_an_hour_wait_for_each_other(world: World) -> None:
    """The second comes after the first has committed: no deadlock, no error, nothing doubled."""
    hour = this_hour() - HOUR
    store(world, at(hour, 50))
    done: list[RolledUp] = []
    thread = threading.Thread(
        target=lambda: done.append(rollup(world.engine, hour, hour + HOUR)), daemon=True
    )
    with world.engine.begin() as first:
        key = {"lock": rollups._LOCK, "number": int(hour.timestamp()) // 3600}
        first.execute(rollups.LOCK_HOURS, key)
        first.execute(rollups.ROLLUPS.note, of_hour(hour))
        thread.start()
        until(lambda: rows(world, WAITING), "the second to wait")
    thread.join(10)
    sums = rows(world, SUMS)
    assert done == [RolledUp(1, len(sums), 0, is_complete=True)]
    assert rows(world, ROLLUPS) == sums


def test_a_rollup_killed_in_the_middle_is_run_again(world: World, job: Job) -> None:
    """Whoever reads meanwhile sees the hour as it was, never half of it or none."""
    hour = this_hour() - 2 * HOUR
    store(world, at(hour, 50))
    rollup(world.engine, hour, hour + HOUR)
    before = rows(world, ROLLUPS)
    store(world, at(hour + HOUR / 2, 50, seed=2))
    killed = job("rollup", "--hours", "3", FAILPOINT="in_rollup")
    assert killed.returncode == -signal.SIGKILL
    assert rows(world, ROLLUPS) == before
    again = job("rollup", "--hours", "4", "--json")
    sums = rows(world, SUMS)
    assert json.loads(again.stdout)["rows"] == len(sums)
    assert rows(world, ROLLUPS) == sums != before


def test_a_rollup_stops_when_asked(world: World) -> None:
    """The answer says that it is not all."""
    stop = threading.Event()
    stop.set()
    hour = this_hour()
    assert rollup(world.engine, hour, hour + HOUR, stop=stop) == RolledUp(
        0, 0, 0, is_complete=False
    )


def test_hours_are_those_of_utc() -> None:
    """A half-hour zone does not move the edges, and an empty span has no hours."""
    india = datetime.fromisoformat("2026-03-01T12:10:00+05:30")
    ten = datetime(2026, 3, 1, 6, tzinfo=UTC)
    assert rollups.hours(india, india + HOUR) == [ten, ten + HOUR]
    assert rollups.hours(ten, ten + HOUR) == [ten]
    assert rollups.hours(ten, ten) == []


# --- the command line


def test_a_trim_killed_in_the_middle_is_run_again(world: World, job: Job) -> None:
    """Between two rounds of dropping there is a stream as good as any."""
    source = world.source
    source.ensure_group()
    for _ in range(12):
        source.append([b""] * 1000)
    while page := source.read("reader", 5000).entries:
        source.ack([entry.id for entry in page])
    ids = source.append([b"unread"])
    killed = job("trim", "--keep", "0", FAILPOINT="in_trim")
    assert killed.returncode == -signal.SIGKILL
    assert 100 < source.state().entries < 12_001
    again = job("trim", "--keep", "0")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.startswith("Trimmed ")
    assert source.state().entries <= 101
    assert [entry.id for entry in source.read("reader", 10).entries] == ids
    # What was read last is kept until more is read: now the node before it goes, and no more.
    assert json.loads(job("trim", "--keep", "0", "--json").stdout)["entries"] <= 100
    assert json.loads(job("trim", "--keep", "0", "--json").stdout) == {
        "entries": 0,
        "away": {},
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("replay", "--since", "60"), "Sent 0 entries again, with 0 events in them."),
        (("release",), "Released 0 entries; 0 foreign and 0 cut ones cannot be released."),
    ],
)
def test_a_job_says_what_it_did(job: Job, arguments: tuple[str, ...], words: str) -> None:
    """One line for people, also when there was nothing to do."""
    done = job(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{words}\n", "")


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "words"),
    [
        (("trim",), {"REDIS_URL": ""}, 2, "REDIS_URL must name a server"),
        (("rollup",), {"DATABASE_URL": ""}, 2, "DATABASE_URL must name a server"),
        (("trim",), {"BATCH_ROWS": "many"}, 2, "BATCH_ROWS=many cannot be used"),
        (("trim",), {"REDIS_URL": "redis://:secret@127.0.0.1:1/0"}, 1, "Redis at redis://@127"),
        (("rollup",), {"DATABASE_URL": "postgresql://a:secret@127.0.0.1:1/b"}, 1, "Postgres at"),
        (("release", "--reason", "boredom"), {}, 2, "boredom"),
        (("replay", "--since", "-1"), {}, 2, "--since"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(
    job: Job, arguments: tuple[str, ...], variables: dict[str, str], code: int, words: str
) -> None:
    """No traceback and no password: what to do, and an exit code that says whose fault it is."""
    ended = job(*arguments, CONNECT_TIMEOUT_S="0.1", **variables)
    assert ended.returncode == code, ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stderr
    assert ended.stdout == ""


def test_a_database_without_tables_is_told(world: World, job: Job) -> None:
    """The sentence names the command that makes them."""
    change(world, "drop table hourly_rollups")
    ended = job("rollup")
    assert ended.returncode == 1
    assert "run `infamous migrate`" in ended.stderr
    assert "Traceback" not in ended.stderr
