"""Rollups that are right whatever comes late, goes, or comes again; and the check that says so."""

from __future__ import annotations

import json
import random
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest
from alembic import command
from sqlalchemy import create_engine, pool, text
from structlog.testing import capture_logs

from consumer import load, touched
from consumer.load import Loader
from infamous import schema
from infamous.embedded.servers import Servers
from jobs import rollup as rollups
from jobs import tasks
from jobs import touched as touched_hours
from jobs.check import check, mend
from jobs.rollup import RolledUp, roll_up_touched, rollup
from pipeline import failpoint
from pipeline.event import ACTIONS as ACTIONS_OF_GAME
from pipeline.event import RANK_BY_KARMA, Event, encode
from producer.simulate import DAY_MS, history, population
from producer.truth import SESSION_GAP_MS, truth
from tests import commands
from tests.commands import Command as Infamous
from tests.conftest import World, world_of
from tests.integration.consuming import batch_of, until
from tests.integration.recount import TABLES, Row, kept, recount
from tests.unit.samples import payload

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
GAP: Final = timedelta(milliseconds=SESSION_GAP_MS)
MS: Final = timedelta(milliseconds=1)
DAYS: Final = 8
# Whole days, the last of them yesterday.
START: Final = datetime.combine(datetime.now(UTC).date() - DAYS * DAY, time(), UTC)
ACTIONS: Final = (*ACTIONS_OF_GAME, "kill_enemy", "mission_complete")
TOLD: Final = "select hour, touched_at from touched_hours order by hour, touched_at"
WAITING: Final = """
select pid from pg_stat_activity where datname = current_database() and wait_event = 'advisory'
"""


@pytest.fixture
def infamous(world: World, tmp_path: Path) -> Infamous:
    """``infamous rollup`` with these arguments, and with more variables."""
    return commands.beginning("infamous", "rollup", cwd=tmp_path, environment=world.environment)


def rows(world: World, query: str, **values: Any) -> list[Row]:
    """What a query answers."""
    with world.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query), values).mappings()]


def change(world: World, statement: str, **values: Any) -> None:
    """Change something in the database."""
    with world.engine.begin() as connection:
        connection.execute(text(statement), values)


def deed(at: datetime, player: str = "Zeke", number: int = 1, **changes: Any) -> bytes:
    """Something that a player did; ``number`` tells those of one millisecond apart."""
    usual = {"seq": number, "details": {"mission": "M", "playthrough": 1}}
    return payload(round(at.timestamp() * 1000), number, player=player, **(usual | changes))


def store(world: World, payloads: Iterable[bytes], name: str = "test") -> int:
    """Put events into the table through its door; says how many were new."""
    loader = Loader(world.database_url, name)
    stored = loader.store(batch_of(list(payloads)))
    loader.close()
    assert stored.quarantined == 0
    return stored.rows


def remove(world: World, condition: str, **values: Any) -> None:
    """Remove events and tell so, as whoever removes some does it."""
    with world.engine.begin() as connection:
        connection.execute(
            text(
                f"with gone as (delete from game_events where {condition} returning ts)"
                " insert into touched_hours (hour)"
                " select distinct date_bin('1 hour', ts, 'epoch') from gone"
            ),
            values,
        )


def age(world: World, seconds: float = 301) -> None:
    """Let this much time pass since the hours were touched."""
    statement = "update touched_hours set touched_at = touched_at - make_interval(secs => :seconds)"
    change(world, statement, seconds=seconds)


def assert_right(world: World) -> None:
    """All tables hold what a recount of the raw events gives."""
    found, expected = kept(world), recount(world)
    for table in TABLES:
        assert found[table] == expected[table], table


def played(world: World, events: Iterable[bytes]) -> None:
    """Store, and roll up as if the events had come long ago: nothing is left to do."""
    store(world, events)
    age(world)
    roll_up_touched(world.engine)
    assert rows(world, TOLD) == []


# --- whatever comes


def some_life(chance: random.Random, players: int = 6) -> list[bytes]:
    """A few days of play that is full of edges: gaps of exactly half an hour, hours and midnights."""
    deeds = []
    for player in range(players):
        at = START + DAY + chance.randrange(DAY_MS) * MS
        for number in range(1, chance.randrange(40, 90)):
            gap = chance.choice(
                [
                    0 * MS,
                    MS,
                    5 * GAP / 6,
                    GAP - MS,
                    GAP,
                    GAP + MS,
                    HOUR - MS,
                    HOUR,
                    HOUR + MS,
                    7 * HOUR,
                ]
            )
            at += gap
            if at > START + (DAYS - 1) * DAY:
                break
            if chance.random() < 0.3:  # to the edge of an hour, or of a day
                edge = at.replace(minute=0, second=0, microsecond=0) + HOUR
                if chance.random() < 0.3:
                    edge = datetime.combine(at.date() + DAY, time(), UTC)
                at = edge - chance.choice([0, 1]) * MS
            deeds.append(some_deed(chance, at, f"player {player}", number))
    return deeds


def some_deed(chance: random.Random, at: datetime, player: str, number: int) -> bytes:
    """Anything that a player may do, told in full, in part or oddly."""
    karma, action = chance.randrange(-100, 101), chance.choice(ACTIONS)
    told: dict[str, Any] = {
        "mission": f"M{chance.randrange(3)}",
        "playthrough": chance.randrange(3),
        "district": chance.choice(["Neon", "Warren", "(other)", ["odd"], None]),
        "side": chance.choice(["good", "evil", "neither", None]),
    }
    for name in ("enemy", "civilian", "ability", "choice", "kind", "level"):
        told[name] = chance.choice([name, f"another {name}", chance.randrange(3), {"n": 1}])
    return deed(
        at,
        player,
        number,
        action=action,
        seq=chance.choice([number, 1000 - number, None]),
        xp_delta=chance.randrange(9),
        karma_delta=chance.randrange(-2, 3),
        karma_total=karma,
        rank=RANK_BY_KARMA[karma],
        energy_source=chance.choice(["car", "person", "x" * 99]) if action == "recharge" else None,
        details=chance.choice([told, told, told, {"mission": "M0"}, {}, None]),
    )


@pytest.mark.parametrize("seed", range(3))
def test_rollups_are_a_recount_whatever_comes_and_goes(world: World, seed: int) -> None:
    """In any order, late, removed and sent again: after each rollup every table is what the events say."""
    chance = random.Random(seed)
    deeds = some_life(chance)
    chance.shuffle(deeds)
    for turn in range(5):
        store(world, deeds[turn::5])
        if turn in {1, 3}:
            remove(world, "hashtext(cast(id as text)) % 4 = :turn", turn=turn)
        if turn == 2:
            remove(world, "player = 'player 1'")
        if chance.random() < 0.5:
            age(world)
        roll_up_touched(world.engine)
        assert_right(world)
    store(world, deeds)
    age(world)
    roll_up_touched(world.engine)
    assert_right(world)
    assert rows(world, TOLD) == []
    assert check(world.engine).wrong == ()
    remove(world, "true")
    roll_up_touched(world.engine)
    assert kept(world) == {table: [] for table in TABLES}


def test_only_hours_that_changed_are_made_anew(world: World) -> None:
    """A late event in an old hour costs that hour and its day, not the history."""
    late = START + 2 * DAY + 5 * HOUR
    played(world, [deed(START + n * HOUR, number=n + 1) for n in range(72)])
    # A mark that a rollup of the hour would wipe out.
    change(world, "update hourly_rollups set karma_delta = 99")
    store(world, [deed(late + 7 * MS, number=99)])
    done = roll_up_touched(world.engine)
    assert (done.hours, done.is_complete) == (1, True)
    unmarked = rows(world, "select hour, events from hourly_rollups where karma_delta <> 99")
    assert unmarked == [{"hour": late, "events": 2}]


def test_a_replay_that_adds_nothing_touches_nothing(world: World) -> None:
    """What is stored already changes no hour, so nothing is made anew for it."""
    deeds = [deed(START + n * HOUR, number=n + 1) for n in range(5)]
    played(world, deeds)
    before = kept(world)
    assert store(world, deeds, "another") == 0
    assert rows(world, TOLD) == []
    assert roll_up_touched(world.engine) == RolledUp(0, 0, 0, is_complete=True)
    assert kept(world) == before


# --- until nothing can be missed


def test_the_rollups_look_back_as_far_as_consumers_are_silent() -> None:
    """A minute in which a consumer does not tell again, and the longest that its transaction takes."""
    assert touched_hours.SETTLED_S == touched.TELL_EVERY_S + load._LONGEST_S


def test_an_hour_is_made_anew_until_it_is_settled(world: World) -> None:
    """A consumer tells of an hour once a minute: what it stores in that minute is in the rollups, too."""
    loader = Loader(world.database_url, "test")
    hour = START + 3 * HOUR
    loader.store(batch_of([deed(hour)]))
    assert roll_up_touched(world.engine).hours == 1
    assert len(rows(world, TOLD)) == 1
    loader.store(batch_of([deed(hour + GAP, number=2)]))  # and says nothing
    loader.close()
    assert len(rows(world, TOLD)) == 1
    age(world, 299)
    assert roll_up_touched(world.engine).hours == 1
    assert_right(world)
    assert len(rows(world, TOLD)) == 1
    age(world, 2)
    assert roll_up_touched(world.engine).hours == 1
    assert rows(world, TOLD) == []
    assert roll_up_touched(world.engine).hours == 0


def test_what_is_told_while_a_rollup_runs_is_not_lost(world: World) -> None:
    """A long transaction may commit in the middle of one, and its time be old: it stays for the next."""
    hour = START + 3 * HOUR
    store(world, [deed(hour)])
    age(world)
    began = datetime.now(UTC) - timedelta(minutes=1)
    late = iter([deed(hour + MS, number=2), deed(hour + 2 * MS, number=3)])

    def meanwhile(point: str) -> None:
        if point != "in_rollup":
            return
        store(world, [next(late)], "another")
        change(
            world, "update touched_hours set touched_at = 'epoch' where touched_at > :at", at=began
        )

    with patch.object(failpoint, "reached", meanwhile):
        # Once in the hour, once in the day. The hour may have seen the first.
        roll_up_touched(world.engine)
    assert len(rows(world, TOLD)) == 2
    roll_up_touched(world.engine)
    assert_right(world)
    assert rows(world, TOLD) == []


def test_an_hour_without_raw_events_is_not_told_for_ever(world: World) -> None:
    """Its partition was dropped: what is kept of it stays, and nothing is left to do."""
    played(world, [deed(START), deed(START + 2 * DAY, number=2)])
    before = kept(world)
    store(world, [deed(START + MS, number=3)])
    age(world)
    change(world, f"drop table game_events_{START:%Y%m%d}")
    assert roll_up_touched(world.engine) == RolledUp(0, 0, 1, is_complete=True)
    assert kept(world) == before
    assert rows(world, TOLD) == []


def test_a_moment_that_was_told_counts_for_its_hour(world: World) -> None:
    """Whoever tells may not be careful: there are no rollups of half hours."""
    store(world, [deed(START + HOUR)])
    change(world, "truncate touched_hours")
    at = START + HOUR + 17 * MS
    change(world, "insert into touched_hours values (:at, 'epoch')", at=at)
    assert roll_up_touched(world.engine).hours == 1
    assert_right(world)
    assert rows(world, TOLD) == []


# --- what goes


def test_a_run_whose_events_are_removed_goes_with_them(world: World) -> None:
    """Its beginning moves to what is left of it, its end is taken back; without events there is no run."""
    played(
        world,
        [
            deed(START),
            deed(START + DAY, number=2),
            deed(START + 2 * DAY, number=3, action="mission_complete"),
            deed(START + 4 * DAY, number=4, action="mission_complete"),
        ],
    )
    runs = "select started_on, completed_on from mission_runs"
    day = [(START + n * DAY).date() for n in range(5)]
    for seq, left in (
        (0, [(day[0], day[2])]),
        (1, [(day[1], day[2])]),
        (3, [(day[1], day[4])]),
        (4, [(day[1], None)]),
        (2, []),
    ):
        remove(world, "seq = :seq", seq=seq)
        roll_up_touched(world.engine)
        assert [tuple(row.values()) for row in rows(world, runs)] == left
        assert_right(world)


def test_a_run_whose_events_left_with_retention_stays(world: World) -> None:
    """Of a run over three days the first is dropped, and events of the second are removed."""
    played(
        world,
        [
            deed(START),
            deed(START + DAY, number=2),
            deed(START + 2 * DAY, number=3, action="mission_complete"),
        ],
    )
    change(world, f"drop table game_events_{START:%Y%m%d}")
    for seq, completed in ((2, (START + 2 * DAY).date()), (3, None)):
        remove(world, "seq = :seq", seq=seq)
        roll_up_touched(world.engine)
        runs = rows(world, "select started_on, completed_on from mission_runs")
        assert runs == [{"started_on": START.date(), "completed_on": completed}]
    missions = rows(world, "select day, runs_started, runs_completed from daily_missions")
    assert [tuple(row.values()) for row in missions] == [(START.date(), 1, 0)]


def test_a_player_can_be_taken_out_of_what_is_kept(world: World) -> None:
    """Without raw events, what is kept by hour is all there is: what is made from it follows it."""
    played(
        world,
        [
            deed(START + n * GAP, who, 2 * n + number)
            for n in range(60)
            for number, who in enumerate(("Zeke", "Moya"), start=1)
        ],
    )
    recounted = recount(world)
    change(world, f"drop table game_events_{START:%Y%m%d}")
    with world.engine.begin() as connection:
        for table in ("hourly_rollups", "session_parts", "mission_parts"):
            connection.execute(text(f"delete from {table} where player = 'Zeke'"))
        connection.execute(text("delete from game_events where player = 'Zeke'"))
        connection.execute(
            text("insert into touched_hours select distinct hour, now() from hourly_totals")
        )
    roll_up_touched(world.engine)
    found = kept(world)
    for table in ("daily_rollups", "player_days", "mission_runs", "session_parts"):
        assert found[table] == [row for row in recounted[table] if row["player"] != "Zeke"]
    for before, after in zip(recounted["hourly_totals"], found["hourly_totals"], strict=True):
        assert after["events"] == before["events"] / 2
    for before, after in zip(recounted["daily_sessions"], found["daily_sessions"], strict=True):
        assert (after["sessions"], after["players"]) == (before["sessions"] / 2, 1)
    assert [row["players"] for row in found["daily_cohorts"]] == [1, 1]


def test_partitions_may_be_parts_of_a_day(world: World) -> None:
    """Of each hour by itself it is known whether its raw events are there: the kept ones stay."""
    at = START - 20 * DAY
    name = f"game_events_{at:%Y%m%d}"
    for first in (0, 6):
        span = f"from ('{at + first * HOUR}') to ('{at + (first + 6) * HOUR}')"
        change(
            world,
            f"create table {name}_{first:02d} partition of game_events for values {span}",
        )
    with world.engine.begin() as connection:
        for number, hour in enumerate((5, 6), start=1):
            connection.execute(
                text("""
                    insert into game_events (id, ts, player, action, xp_delta, karma_delta, karma_total, rank)
                    values (gen_random_uuid(), :at, 'Zeke', 'kill_enemy', :number, 0, 0, 'Neutral')
                """),
                {"at": at + hour * HOUR, "number": number},
            )
    rollup(world.engine, at, at + 12 * HOUR)
    assert_right(world)
    change(world, f"drop table {name}_00")
    change(world, "delete from game_events")
    assert rollup(world.engine, at, at + 12 * HOUR) == RolledUp(6, 0, 6, is_complete=True)
    assert [row["hour"] for row in kept(world)["hourly_rollups"]] == [at + 5 * HOUR]


def test_a_partition_that_is_being_detached_counts_as_gone(world: World) -> None:
    """Questions pass it over already: its hours would look empty."""
    played(world, [deed(START), deed(START + DAY, number=2)])
    before = kept(world)
    name = f"game_events_{START:%Y%m%d}"
    # What a detach leaves that was broken off between its two transactions.
    change(
        world,
        "update pg_inherits set inhdetachpending = true where inhrelid = cast(:name as regclass)",
        name=name,
    )
    assert rollup(world.engine, START, START + HOUR).without_raw == 1
    assert kept(world) == before
    assert check(world.engine).first_hour == START + DAY


# --- sessions


def test_a_session_ends_after_half_an_hour(world: World) -> None:
    """Exactly half an hour apart is the same session, a millisecond more is another, also over midnight."""
    midnight = START + DAY
    played(
        world,
        [
            deed(midnight - GAP, "a", 1),
            deed(midnight, "a", 2),
            deed(midnight - GAP - MS, "b", 3),
            deed(midnight, "b", 4),
            deed(midnight - MS, "c", 5),
            deed(midnight + GAP - MS, "c", 6),
        ],
    )
    sessions = rows(world, "select day, sessions, seconds_sum from daily_sessions order by day")
    first = {"day": START.date(), "sessions": 3, "seconds_sum": 2 * GAP.total_seconds()}
    assert sessions == [first, {"day": midnight.date(), "sessions": 1, "seconds_sum": 0.0}]
    assert_right(world)


def test_an_event_between_two_sessions_makes_them_one(world: World) -> None:
    """A late event in one hour reaches into the next one and the next day; and its removal does."""
    midnight = START + DAY
    ends = [deed(midnight - 50 * MS * 60_000), deed(midnight + 9 * MS * 60_000, number=2)]
    played(world, ends)
    sessions = "select sum(sessions) as sessions, sum(seconds_sum) as seconds from daily_sessions"
    assert rows(world, sessions) == [{"sessions": 2, "seconds": 0.0}]
    played(world, [deed(midnight - 20 * MS * 60_000, number=3)])
    assert rows(world, sessions) == [{"sessions": 1, "seconds": 59 * 60.0}]
    assert_right(world)
    remove(world, "seq = 3")
    roll_up_touched(world.engine)
    assert rows(world, sessions) == [{"sessions": 2, "seconds": 0.0}]
    assert_right(world)


def test_a_player_who_never_stops_is_followed_for_two_days(world: World) -> None:
    """One session for ever: it began once, and is counted to the end of the day after."""
    every = timedelta(minutes=20)
    steps = 5 * DAY // every
    played(world, [deed(START + HOUR + n * every, "Cole", n + 1) for n in range(steps)])
    assert_right(world)
    found = kept(world)["daily_sessions"]
    assert [(row["day"], row["sessions"]) for row in found] == [(START.date(), 1)]
    assert found[0]["seconds_sum"] == (2 * DAY - HOUR - every).total_seconds()


@pytest.mark.parametrize("seed", [7, 11])
def test_sessions_are_those_that_were_planted(world: World, seed: int) -> None:
    """As many as the simulator knows, and of the same mean and median length."""
    start_ms, size = round(START.timestamp() * 1000), 40
    lived: list[Event] = [
        event
        for _, event in history(population(seed, size, start_ms, DAYS), start_ms + DAYS * DAY_MS)
    ]
    store(world, [encode(event) for event in lived])
    roll_up_touched(world.engine)
    planted = truth(seed, size, start_ms, DAYS)["realised"]["sessions"]
    days = rows(world, "select * from daily_sessions order by day")
    assert sum(row["sessions"] for row in days) == planted["count"] > 50
    assert_right(world)
    lengths = sorted(
        (end - begin).total_seconds() for begin, end in sessions_of(kept(world)["session_parts"])
    )
    count = len(lengths)
    assert round(sum(lengths) / count, 3) == planted["mean_length_s"]
    middle = (lengths[(count - 1) // 2] + lengths[count // 2]) / 2
    assert round(middle, 3) == planted["median_length_s"]
    # Nobody of these plays for two days on end, so the days' sums are of whole sessions.
    assert round(sum(row["seconds_sum"] for row in days) / count, 3) == planted["mean_length_s"]


def sessions_of(parts: list[Row]) -> Iterator[tuple[datetime, datetime]]:
    """Sessions put together from their parts."""
    by_player = sorted(parts, key=lambda part: (part["player"], part["started_at"]))
    begin = end = None
    for part in by_player:
        if part["is_continued"]:
            end = part["ended_at"]
            continue
        if begin is not None and end is not None:
            yield begin, end
        begin, end = part["started_at"], part["ended_at"]
    if begin is not None and end is not None:
        yield begin, end


# --- several at once, and broken off


def test_many_rollups_at_once_end_right(world: World) -> None:
    """Hours in every order, neighbours at the same time: no deadlock, no error, and no wrong session."""
    store(world, some_life(random.Random(5)))
    hours = sorted({row["hour"] for row in rows(world, TOLD)})
    failed: list[BaseException] = []
    start = threading.Barrier(5)

    def work(seed: int) -> None:
        try:
            start.wait(10)
            if seed == 0:
                roll_up_touched(world.engine)
            for hour in random.Random(seed).sample(hours, 25):
                rollup(world.engine, hour, hour + HOUR)
        except BaseException as error:  # told below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert_right(world)


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[threading.Thread]:
    """Something that goes on meanwhile, and comes to an end afterwards."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_an_hour_waits_for_its_neighbours(world: World, offset: int) -> None:
    """While one is made, those before and after it are not: what they say of each other would be old."""
    hour = START + 5 * HOUR
    played(world, [deed(hour + n * GAP, number=n + 9) for n in range(-4, 4) if n])
    other = hour + offset * HOUR
    number = int(hour.timestamp()) // 3600
    with world.engine.begin() as first:
        first.execute(rollups.LOCK_HOURS, {"lock": rollups._LOCK, "number": number})
        with in_thread(lambda: rollup(world.engine, other, other + HOUR)):
            until(lambda: rows(world, WAITING), "the other to wait")
            # Two hours away, nobody does.
            assert rollup(world.engine, hour + 2 * HOUR, hour + 3 * HOUR).hours == 1
            first.commit()
    assert_right(world)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_rollup_killed_anywhere_is_run_again(
    world: World, infamous: Infamous, times: int
) -> None:
    """In the first hour, in the second, in their day: what has changed is known until all of it is done."""
    store(world, [deed(START + HOUR), deed(START + HOUR + GAP + MS * 2_000_000, number=2)])
    age(world)
    killed = infamous(FAILPOINT=f"in_rollup:{times}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(rows(world, TOLD)) == 2
    assert world.count("hourly_totals") == times - 1
    assert world.count("daily_sessions") == 0
    again = infamous()
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == ("Rolled 2 hours up into 2 rows.\n")
    assert_right(world)
    assert rows(world, TOLD) == []


def test_a_rollup_that_is_stopped_leaves_the_rest_for_the_next(world: World) -> None:
    """What is done is done for good; what is not is still known to be out of date."""

    class Soon(threading.Event):
        """Set at the third look."""

        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            return self.looks > 2

    store(world, [deed(START + n * HOUR, number=n + 1) for n in range(5)])
    age(world)
    told: list[tuple[int, int | None]] = []
    done = roll_up_touched(world.engine, stop=Soon(), tell=lambda *some: told.append(some))
    assert done == RolledUp(2, 2, 0, is_complete=False)
    assert told == [(1, 5), (2, 5)]
    assert [row["hour"] for row in rows(world, TOLD)] == [START + n * HOUR for n in (2, 3, 4)]
    assert roll_up_touched(world.engine).hours == 3
    assert_right(world)


# --- the check

ERRORS: Final = {
    "hourly_rollups": "update hourly_rollups set xp_delta = xp_delta + 1 where hour = :hour",
    "hourly_totals": "delete from hourly_totals where hour = :hour",
    "session_parts": "update session_parts set ended_at = ended_at + interval '1 s' where hour = :hour",
    "mission_parts": "update mission_parts set kills = kills + 1 where hour = :hour",
    "daily_rollups": "insert into daily_rollups values (:day, 'Nobody', 'recharge', 1, 1, 1)",
    "player_days": "update player_days set first_day = first_day - 1 where day = :day",
    "daily_cohorts": "update daily_cohorts set players = players + 1 where day = :day",
    "mission_runs": "update mission_runs set completed_on = null where started_on = :day",
    "daily_missions": "delete from daily_missions where day = :day",
    "daily_sessions": "update daily_sessions set seconds_p90 = seconds_p90 + 1 where day = :day",
    "moral_choices": "update moral_choices set side = null where hour = :hour",
    "hourly_items": "update hourly_items set subject = 'Nobody' where hour = :hour",
}


LIVED: Final = START + 2 * DAY + 12 * HOUR


@pytest.fixture(scope="module")
def lived_database(servers: Servers, template: str) -> Iterator[str]:
    """A database in which three days of play are rolled up."""
    deeds = [
        deed(
            START + DAY + n * timedelta(minutes=25) + (player * n % 7) * GAP / 3,
            f"player {player}",
            number=n + 1,
            action={9: "mission_complete", 7: "moral_choice"}.get(n % 10, "kill_enemy"),
            details={"mission": f"M{n // 10 % 4}", "playthrough": n // 40},
        )
        for player in range(4)
        for n in range(170)
    ]
    with world_of(servers, template) as world:
        played(world, deeds)
        assert_right(world)
        world.looks.dispose()  # a database that is copied has no sessions
        yield world.name


@pytest.fixture
def world(request: pytest.FixtureRequest, servers: Servers, template: str) -> Iterator[World]:
    """As everywhere; for a test that asks for ``lived``, a copy of that database."""
    is_lived = "lived" in request.fixturenames
    source = request.getfixturevalue("lived_database") if is_lived else template
    with world_of(servers, source) as made:
        yield made


@pytest.fixture
def lived() -> datetime:
    """Has the test begin after three days of play; the hour in the middle of them."""
    return LIVED


def test_there_is_an_error_for_every_table() -> None:
    """None is left out of the check."""
    assert set(ERRORS) == set(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_the_check_finds_what_is_wrong_and_mends_it(
    world: World, lived: datetime, table: str
) -> None:
    """An error in any table is found where it is, told, and gone afterwards."""
    before = kept(world)
    change_values = {"hour": lived} if ":hour" in ERRORS[table] else {"day": lived.date()}
    change(world, ERRORS[table], **change_values)
    assert kept(world) != before
    checked = check(world.engine)
    assert table in checked.tables
    if "hour" in change_values:
        assert (checked.wrong, checked.tables) == ((lived,), (table,))
    else:
        assert lived.replace(hour=0) in checked.wrong
    assert kept(world) != before
    with capture_logs() as lines:
        assert mend(world.engine, checked)
    assert [line["log_level"] for line in lines] == ["warning"]
    assert table in lines[0]["tables"]
    assert kept(world) == before
    (noted,) = rows(world, "select hours, wrong, first_hour, last_hour from rollup_checks")
    assert noted == {
        "hours": checked.hours,
        "wrong": len(checked.wrong),
        "first_hour": checked.first_hour,
        "last_hour": checked.last_hour,
    }
    assert check(world.engine).wrong == ()
    assert rows(world, TOLD) == []


@pytest.mark.parametrize(
    "error",
    [
        "update session_parts set is_continued = not is_continued where hour = :hour",
        "delete from session_parts where hour = :hour",
        "delete from hourly_rollups where hour = :hour",
        "insert into hourly_rollups values (:hour, 'Nobody', 'recharge', 1, 1, 1)",
        "delete from game_events where ts >= :hour and ts < :hour + interval '1 hour'",
        "delete from mission_parts where hour = :hour",
        "update session_parts set karma_total = null where hour = :hour",
        "delete from moral_choices where hour = :hour",
        "update hourly_items set xp_delta = 0 where hour = :hour",
    ],
)
def test_the_check_finds_an_hour_that_is_wrong(world: World, lived: datetime, error: str) -> None:
    """More or less than the raw events say, and events that went without a word: that hour, and no other."""
    change(world, error, hour=lived)
    checked = check(world.engine)
    assert checked.wrong == (lived,)
    mend(world.engine, checked)
    assert_right(world)


@pytest.mark.parametrize(
    "error",
    [
        "insert into player_days values (:day, 'Nobody', :day, 1, 0, 0)",
        "update player_days set events = events + 1 where day = :day",
        "update player_days set karma_total = null where day = :day",
        "update player_days set rank = 'Hero' where day = :day",
        "delete from player_days where day = :day",
        "insert into mission_runs (player, mission, playthrough, started_on, started_at, ended_at)"
        " values ('Nobody', 'M', '1', :day, :day, :day)",
        "update mission_runs set kills = kills + 1 where started_on = :day",
        "update mission_runs set recharges = null where completed_on = :day",
        "update mission_runs set started_at = started_at + interval '1 s' where started_on = :day",
        "update mission_runs set started_on = started_on - 1 where started_on = :day",
        "delete from mission_runs where started_on = :day",
        "insert into daily_cohorts values (:day, '2020-01-01', 1)",
        "delete from daily_sessions where day = :day",
        "delete from daily_rollups where day = :day",
    ],
)
def test_the_check_finds_a_day_that_is_wrong(world: World, lived: datetime, error: str) -> None:
    """The same of what is kept by day."""
    change(world, error, day=lived.date())
    checked = check(world.engine)
    assert lived.date() in {hour.date() for hour in checked.wrong}
    mend(world.engine, checked)
    assert_right(world)


def test_the_check_leaves_out_what_has_just_changed(world: World, lived: datetime) -> None:
    """A rollup that is not there yet is no error; once it could be there, it is compared."""
    before = check(world.engine)
    store(world, [deed(lived, "player 1", 999, details={"mission": "New"})])
    checked = check(world.engine)
    assert (checked.wrong, checked.left_out) == ((), 1)
    assert checked.hours == before.hours - 1
    change(world, "truncate touched_hours")
    checked = check(world.engine)
    assert (checked.left_out, lived in checked.wrong) == (0, True)


def test_the_check_keeps_to_what_is_there(world: World, lived: datetime) -> None:
    """Days whose partition was dropped are neither compared nor changed; their neighbours are right."""
    change(world, f"drop table game_events_{START + DAY:%Y%m%d}")
    before = kept(world)
    checked = check(world.engine)
    assert checked.wrong == ()
    assert checked.first_hour == START + 2 * DAY
    mend(world.engine, checked)
    assert kept(world) == before
    some = check(world.engine, lived - HOUR / 2, lived + HOUR)
    assert (some.hours, some.first_hour, some.last_hour) == (2, lived - HOUR, lived)


def test_the_check_sees_one_moment(world: World, lived: datetime) -> None:
    """What is stored and rolled up while it runs is not in it, on either side: no false alarm."""
    days: list[int] = []

    def meanwhile(day: int, _: int | None) -> None:
        if not days:
            store(world, [deed(lived, "somebody", 500), deed(START + 5 * DAY, "somebody", 501)])
        elif len(days) == 3:
            roll_up_touched(world.engine)
        days.append(day)

    assert check(world.engine, tell=meanwhile).wrong == ()
    assert len(days) > 4
    assert_right(world)


def test_a_partition_stays_while_it_is_compared(world: World, lived: datetime) -> None:
    """One that vanished in the middle would look like rollups without events."""
    impatient = create_engine(
        world.database_url,
        poolclass=pool.NullPool,
        connect_args={"options": "-c lock_timeout=100ms"},
    )
    refused: list[str] = []

    def meanwhile(_done: int, _total: int | None) -> None:
        try:
            with impatient.begin() as connection:
                connection.execute(text(f"drop table game_events_{lived:%Y%m%d}"))
        except Exception as error:  # told below
            refused.append(str(error))

    assert check(world.engine, tell=meanwhile).wrong == ()
    assert refused
    assert all("lock timeout" in error for error in refused)


def test_a_check_that_is_stopped_says_so(world: World, lived: datetime) -> None:
    """Nothing is begun after a request to stop, and what was not compared is not said to be right."""
    assert lived > START
    stop = threading.Event()
    stop.set()
    checked = check(world.engine, stop=stop)
    assert (checked.hours, checked.is_complete) == (0, False)
    assert mend(world.engine, checked)
    assert world.count("rollup_checks") == 0


def test_what_a_check_found_is_mended_though_it_was_killed(
    world: World, lived: datetime, infamous: Infamous
) -> None:
    """Found errors are told before they are mended, so that the next rollup does it."""
    before = kept(world)
    change(world, ERRORS["hourly_totals"], hour=lived)
    killed = infamous("--check", FAILPOINT="in_rollup")
    assert killed.returncode == -signal.SIGKILL
    assert world.count("rollup_checks") == 1
    assert kept(world) != before
    roll_up_touched(world.engine)
    assert kept(world) == before


# --- the tasks


def test_the_task_checks_and_mends(
    world: World, lived: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As RQ runs it at night: plain values, and all is right afterwards."""
    monkeypatch.setenv("DATABASE_URL", world.database_url)
    change(world, ERRORS["daily_missions"], day=lived.date())
    done = tasks.check_rollups()
    assert json.loads(json.dumps(done)) == done
    assert (done["wrong"], done["tables"], done["left_out"]) == (1, ["daily_missions"], 0)
    assert_right(world)
    assert tasks.check_rollups()["wrong"] == 0
    assert world.count("rollup_checks") == 2


def test_old_notes_go_with_the_raw_events(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is older than the events are kept is dropped, a minute younger stays."""
    monkeypatch.setenv("DATABASE_URL", world.database_url)
    monkeypatch.setenv("RETENTION_DAYS", "30")
    for minutes in (-1, 1):
        ago = "now() - interval '30 days' + make_interval(mins => :minutes)"
        change(
            world,
            f"insert into pipeline_health (minute, process) values ({ago}, 'a')",
            minutes=minutes,
        )
        change(
            world,
            f"insert into rollup_checks values ({ago}, now(), now(), 1, 0)",
            minutes=minutes,
        )
    assert tasks.prune_health() == {"minutes": 1, "checks": 1}
    assert tasks.prune_health() == {"minutes": 0, "checks": 0}
    assert (world.count("pipeline_health"), world.count("rollup_checks")) == (1, 1)


# --- a database from before


def _days(row: Row) -> set[date]:
    """The days that a row is about, of a run the first."""
    return {
        value.date() if isinstance(value, datetime) else value
        for name in ("hour", "day", "started_on")
        if (value := row.get(name)) is not None
    }


def test_runs_from_before_are_taken_over(world: World) -> None:
    """What was known before the migration is known after it, without the raw events too, and no more."""
    played(
        world,
        [
            deed(START + 5 * HOUR),
            deed(START + DAY + 5 * HOUR, number=2),
            deed(START + 2 * DAY + 5 * HOUR, number=3, action="mission_complete"),
            deed(START + DAY, "Moya", 4),
        ],
    )
    change(world, f"drop table game_events_{START:%Y%m%d}")
    before = kept(world)
    config = schema._config(world.engine)
    command.downgrade(config, "0008")
    command.upgrade(config, "head")
    roll_up_touched(world.engine)
    after = kept(world)
    # Of the day that is gone it is not known in which hour.
    hours: dict[str, Any] = {"hour": START, "started_at": START, "ended_at": START}
    unknown: dict[str, dict[str, Any]] = {
        "session_parts": {"karma_total": None},
        "player_days": {"karma_total": None, "rank": None},
        "mission_parts": hours | {"events": None, "kills": None, "recharges": None},
        "mission_runs": {"started_at": START, "events": None, "kills": None, "recharges": None},
    }
    for table in TABLES:
        known = [
            row | unknown.get(table, {}) if START.date() in _days(row) else row
            for row in before[table]
            if table not in {"moral_choices", "hourly_items"} or row["hour"] >= START + DAY
        ]
        assert after[table] == known, table
    assert rows(world, TOLD) == []
    assert check(world.engine).wrong == ()


# --- the command line


def test_the_command_says_what_it_would_do_and_does_it(world: World, infamous: Infamous) -> None:
    """A dry run changes nothing; without a span, what has changed is made anew."""
    store(world, [deed(START + n * HOUR, number=n + 1) for n in (1, 4)])
    age(world)
    dry = infamous("--dry-run")
    day = f"{START:%Y-%m-%d}"
    assert (dry.returncode, dry.stderr) == (0, "")
    assert dry.stdout == f"2 hours would be made anew: {day} 01:00, {day} 04:00 (UTC).\n"
    assert world.count("hourly_rollups") == 0
    listed = json.loads(infamous("--dry-run", "--json").stdout)
    assert listed == {"hours": [(START + n * HOUR).isoformat() for n in (1, 4)]}
    done = infamous("--json")
    assert json.loads(done.stdout) == {
        "hours": 2, "rows": 2, "without_raw": 0, "is_complete": True,
    }  # fmt: skip
    assert_right(world)
    assert infamous("--dry-run").stdout == "0 hours would be made anew.\n"


def test_the_command_makes_a_span_anew(world: World, infamous: Infamous) -> None:
    """From one moment and before another, whether anything has changed or not."""
    played(world, [deed(START + n * HOUR, number=n + 1) for n in range(4)])
    change(world, "delete from hourly_rollups")
    span = ("--from", (START + HOUR).isoformat(), "--to", (START + 3 * HOUR).isoformat())
    assert infamous(*span, "--dry-run").stdout.startswith("2 hours would be made anew: ")
    done = infamous(*span)
    assert done.stdout == "Rolled 2 hours up into 2 rows.\n"
    hours = rows(world, "select hour from hourly_rollups order by hour")
    assert [row["hour"] for row in hours] == [START + HOUR, START + 2 * HOUR]


def test_the_command_checks(world: World, lived: datetime, infamous: Infamous) -> None:
    """Wrong and left as it is: 1; mended, or all right: 0. What it found is said each time."""
    change(world, ERRORS["hourly_rollups"], hour=lived)
    dry = infamous("--check", "--dry-run")
    assert dry.returncode == 1
    assert dry.stderr == ""
    compared, wrong, advice = dry.stdout.splitlines()
    assert compared.startswith("Compared ")
    assert wrong.startswith(f"1 hour is wrong, in hourly_rollups: {lived:%Y-%m-%d %H:00} (UTC).")
    assert advice == "The same without --dry-run makes that anew."
    assert world.count("rollup_checks") == 0
    mended = infamous("--check", "--json", LOG_FORMAT="json")
    assert mended.returncode == 0
    found = json.loads(mended.stdout)
    assert (found["wrong"], found["tables"]) == ([lived.isoformat()], ["hourly_rollups"])
    assert found["is_mended"]
    assert "not what the raw events say" in json.loads(mended.stderr)["event"]
    assert_right(world)
    again = infamous("--check", "--from", lived.isoformat(), "--to", (lived + HOUR).isoformat())
    hour = f"{lived:%Y-%m-%d %H:00}"
    assert again.stdout == (
        f"Compared 1 hour with the raw events, {hour} to {hour} (UTC).\nNo rollup is wrong.\n"
    )
    assert again.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to", "2h"), "--to needs --from"),
        (("--from", "1h", "--to", "2h"), "--from is later than --to"),
        (("--from", "99999999d"), "give a shorter span"),
        (("--from", "yesterday"), "yesterday is not understood"),
    ],
)
def test_bad_arguments_are_told(infamous: Infamous, arguments: tuple[str, ...], words: str) -> None:
    """A sentence and exit code 2, before anything is touched."""
    ended = infamous(*arguments)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_hour_that_no_event_can_be_of_stops_nobody(world: World) -> None:
    """A consumer's role may tell anything, and it is not to be trusted further than with events."""
    at = START + HOUR
    store(world, [deed(at)])
    with world.engine.begin() as connection:
        connection.execute(text("set local role infamous_writer"))
        for hour in ("infinity", "-infinity", "9999-12-31 23:00+00", "4713-01-01 00:00+00 BC"):
            connection.execute(
                text("insert into touched_hours (hour) values (cast(:hour as timestamptz))"),
                {"hour": hour},
            )
    assert roll_up_touched(world.engine).hours == 1
    assert not check(world.engine).wrong
