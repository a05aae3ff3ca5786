"""The dashboards' questions, asked of rolled-up histories: what they answer is what was played."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import pytest
from alembic import command
from sqlalchemy import text

from consumer.load import Loader
from infamous import schema
from jobs import days
from jobs.rollup import RolledUp, rollup
from pipeline.event import Event, encode
from producer.simulate import DAY_MS, history, population
from producer.truth import truth
from tests.conftest import World
from tests.integration.consuming import batch_of, now_ms, until
from tests.integration.dashboards import ask
from tests.unit.samples import payload

QUESTIONS: Final = ("daily_actives", "retention", "mission_funnel", "hourly_rates")
SEED: Final = 7
PLAYERS: Final = 60
DAYS: Final = 10
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
# The last whole day of the history is yesterday.
START_MS: Final = (now_ms() // DAY_MS - DAYS) * DAY_MS
START: Final = datetime.fromtimestamp(START_MS / 1000, UTC)
END: Final = START + DAYS * DAY

# What the tables that are summed up by day should hold, asked of the events themselves.
COHORTS: Final = """
with active as (select distinct (ts at time zone 'UTC')::date as day, player from game_events),
     known as (select *, min(day) over (partition by player) as first_day from active)
select day, first_day, count(*) as players from known group by 1, 2 order by 1, 2
"""
MISSIONS: Final = """
with runs as (
    select player, details ->> 'mission' as mission, details ->> 'playthrough' as playthrough,
           min(ts at time zone 'UTC')::date as started_on,
           min(ts at time zone 'UTC') filter (where action = 'mission_complete')::date as completed_on
    from game_events group by 1, 2, 3
)
select day, mission, count(*) filter (where day = started_on and is_start) as runs_started,
       count(*) filter (where not is_start) as runs_completed,
       count(*) filter (where is_start and playthrough = '1') as players_started,
       count(*) filter (where not is_start and playthrough = '1') as players_completed
from runs
cross join lateral (values (started_on, true), (completed_on, false)) as step (day, is_start)
where day is not null group by 1, 2 order by 1, 2
"""
KEPT_COHORTS: Final = "select * from daily_cohorts order by day, first_day"
KEPT_MISSIONS: Final = "select * from daily_missions order by day, mission"
TABLES: Final = (
    "hourly_totals", "session_parts", "mission_parts", "player_days", "daily_rollups", "daily_cohorts",
    "mission_runs", "daily_missions", "daily_sessions", "moral_choices", "hourly_items",
)  # fmt: skip


@pytest.fixture(scope="module")
def played() -> list[Event]:
    """Ten days of sixty players."""
    players = population(SEED, PLAYERS, START_MS, DAYS)
    return [event for _, event in history(players, START_MS + DAYS * DAY_MS)]


@pytest.fixture(scope="module")
def few(played: list[Event]) -> list[Event]:
    """The same days of eight of them, who come back often."""
    days_of: defaultdict[str, set[date]] = defaultdict(set)
    for event in played:
        days_of[event.player].add(day_of(event))
    names = sorted(days_of, key=lambda name: (-len(days_of[name]), name))[:8]
    return [event for event in played if event.player in names]


@pytest.fixture(scope="module")
def realised() -> dict[str, Any]:
    """What is known of them."""
    found: dict[str, Any] = truth(SEED, PLAYERS, START_MS, DAYS)["realised"]
    return found


def rows(world: World, query: str) -> list[dict[str, Any]]:
    """What a query answers."""
    with world.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query)).mappings()]


def kept(world: World) -> dict[str, list[dict[str, Any]]]:
    """All that the dashboards' tables hold."""
    return {
        table: sorted(rows(world, f"select * from {table}"), key=lambda row: str([*row.values()]))
        for table in TABLES
    }


def change(world: World, statement: str) -> None:
    """Change something in the database."""
    with world.engine.begin() as connection:
        connection.execute(text(statement))


def store(world: World, events: Iterable[Event]) -> None:
    """Put events into the table."""
    store_raw(world, [encode(event) for event in events])


def store_raw(world: World, payloads: list[bytes]) -> None:
    """Put events into the table as their senders wrote them, each of them."""
    loader = Loader(world.database_url, "test")
    stored = loader.store(batch_of(payloads))
    loader.close()
    assert stored.quarantined == 0


def assert_kept(world: World) -> None:
    """What is kept of days is what the events say."""
    assert rows(world, KEPT_COHORTS) == rows(world, COHORTS)
    assert rows(world, KEPT_MISSIONS) == rows(world, MISSIONS)


def hour_of(event: Event) -> datetime:
    """The beginning of the hour in which it happened."""
    return datetime.fromtimestamp(event.ts_ms // 3_600_000 * 3600, UTC)


def day_of(event: Event) -> date:
    """The UTC day on which it happened."""
    return hour_of(event).date()


def deed(at: datetime, player: str, seq: int, **details: Any) -> bytes:
    """A kill, with details as a sender of its own may write them."""
    return payload(int(at.timestamp() * 1000), seq, player=player, seq=seq, details=details)


# --- equal to the truth


def test_the_questions_answer_what_was_played(
    world: World, played: list[Event], realised: dict[str, Any]
) -> None:
    """Every number the dashboards show is the one that the simulator knows, to the last player."""
    store(world, played)
    rollup(world.engine, START, END)

    actives = sorted(ask(world, "daily_actives"), key=itemgetter("day"))[-DAYS:]
    assert [row["day"] for row in actives] == [(START + n * DAY).date() for n in range(DAYS)]
    assert [row["active_players"] for row in actives] == realised["active_players_by_day"]
    assert [row["new_players"] for row in actives] == realised["arrivals_by_day"]
    assert all(
        row["new_players"] + row["returning_players"] == row["active_players"] for row in actives
    )

    assert [
        {"day": r["days_since"], "eligible": r["players"], "active": r["active_players"]}
        for r in ask(world, "retention_curve")
    ] == [
        {key: row[key] for key in ("day", "eligible", "active")}
        for row in realised["retention"]["all"]
    ]
    assert {row["cohort"]: row["players"] for row in ask(world, "retention")} == {
        (START + day * DAY).date(): count
        # Those who came on the last day have had no other yet.
        for day, count in enumerate(realised["arrivals_by_day"][:-1])
        if count
    }

    funnel = {row["mission"]: row for row in ask(world, "mission_funnel")}
    played_missions = [row for row in realised["missions"] if row["started"]]
    assert {name: (row["runs_started"], row["runs_completed"]) for name, row in funnel.items()} == {
        row["mission"]: (row["started"], row["completed"]) for row in played_missions
    }
    # The missions come one after the other, so the funnel shows them in the order of the game.
    begun = [row["players_started"] for row in funnel.values()]
    assert begun == sorted(begun, reverse=True)
    assert begun[0] == realised["players"]["total"]

    last = max(map(hour_of, played))
    sums: defaultdict[tuple[datetime, str], Counter[str]] = defaultdict(Counter)
    for event in played:
        if hour_of(event) > last - 7 * DAY:
            of_hour = sums[hour_of(event), event.action]
            of_hour.update(events=1, xp_delta=event.xp_delta, karma_delta=event.karma_delta)
    rates = {(row.pop("hour"), row.pop("action")): row for row in ask(world, "hourly_rates")}
    assert len(rates) == 7 * 24 * len(realised["events_by_action"])
    assert {key: row for key, row in rates.items() if row["events"]} == sums
    assert not any(any(row.values()) for key, row in rates.items() if key not in sums)


def test_nothing_is_no_error(world: World) -> None:
    """Before the first rollup the dashboards are empty, not broken."""
    assert [ask(world, question) for question in QUESTIONS] == [[]] * 4


def test_a_question_is_about_the_last_days(world: World) -> None:
    """What is older than a month, or a week for hours, drops out; retention waits for a day to be over."""
    now = datetime.fromtimestamp(now_ms() / 1000, UTC)
    times = [now - 45 * DAY, now - 29 * DAY, now - 2 * DAY, now - timedelta(seconds=1)]
    # A midnight may have passed in that second.
    store_raw(world, [deed(at, "Zeke", n, mission="M") for n, at in enumerate(times, start=1)])
    store_raw(world, [deed(times[2], "Moya", 1)])
    for at in times:
        rollup(world.engine, at, at + timedelta(milliseconds=1))
    today = times[-1].date()

    actives = {row["day"]: row for row in ask(world, "daily_actives")}
    assert list(actives) == [today - n * DAY for n in (*range(1, 30), 0)]
    assert {day for day, row in actives.items() if row["active_players"]} == {
        at.date() for at in times if at.date() > today - 30 * DAY
    }
    new = {day for day, row in actives.items() if row["new_players"]}
    assert new == {times[2].date()}
    (retention,) = ask(world, "retention")  # Zeke came before that
    assert (retention["cohort"], retention["days_since"]) == (times[2].date(), 1)
    assert ask(world, "mission_funnel") == []
    hours = [row["hour"] for row in ask(world, "hourly_rates")]
    last = times[-1].replace(minute=0, second=0, microsecond=0)
    assert hours == [last - n * HOUR for n in range(7 * 24 - 1, -1, -1)]


# --- whatever the order, and however often


def test_the_order_of_rollups_does_not_matter(world: World, few: list[Event]) -> None:
    """Backwards, in pieces and over again: the tables end as if all had been rolled up in one go."""
    store(world, few)
    rollup(world.engine, START, END)
    assert_kept(world)
    whole = kept(world)
    rollup(world.engine, START, END)
    assert kept(world) == whole
    for table in TABLES:
        change(world, f"truncate {table}")
    for day in reversed(range(DAYS)):
        noon = START + day * DAY + 17 * HOUR
        rollup(world.engine, noon, START + (day + 1) * DAY)
        rollup(world.engine, START + day * DAY, noon)
    assert kept(world) == whole


def test_late_events_move_first_days(world: World, few: list[Event]) -> None:
    """A player's first day and a run's beginning go back to where the late events put them."""
    late = [event for event in few if day_of(event) < (START + 5 * DAY).date()]
    store(world, [event for event in few if event not in late])
    rollup(world.engine, START, END)
    assert_kept(world)
    before = kept(world)
    assert late
    # The last ones first, and each hour by itself: the first days move back step by step.
    for hour in sorted({hour_of(event) for event in late}, reverse=True):
        store(world, [event for event in late if hour_of(event) == hour])
        rollup(world.engine, hour, hour + HOUR)
    assert_kept(world)
    assert kept(world) != before
    new = {row["day"]: row["new_players"] for row in ask(world, "daily_actives")}
    first_days = Counter(
        min(day_of(e) for e in few if e.player == p) for p in {e.player for e in few}
    )
    assert Counter(new) == first_days


def test_a_late_completion_counts_on_its_own_day(world: World) -> None:
    """A run begun on one day and completed on another is one run, whichever is rolled up first."""
    done = payload(
        int((START + DAY).timestamp() * 1000), 2, player="Zeke", seq=2, action="mission_complete",
        details={"mission": "M", "playthrough": 1},
    )  # fmt: skip
    first, second = START.date(), (START + DAY).date()
    counts = "select day, runs_started, runs_completed from daily_missions order by day"
    store_raw(world, [done])
    rollup(world.engine, START, END)
    assert [tuple(row.values()) for row in rows(world, counts)] == [(second, 1, 1)]
    store_raw(world, [deed(START + HOUR, "Zeke", 1, mission="M", playthrough=1)])
    rollup(world.engine, START, END)
    assert [tuple(row.values()) for row in rows(world, counts)] == [(first, 1, 0), (second, 0, 1)]


def test_players_that_are_gone_are_not_counted(world: World, few: list[Event]) -> None:
    """Where a day is made anew without a player, the player's first day is the next one it played."""
    store(world, few)
    rollup(world.engine, START, END)
    first = min(day_of(event) for event in few)
    change(world, f"delete from game_events where (ts at time zone 'UTC')::date = '{first}'")
    begin = datetime.combine(first, time(), UTC)
    rollup(world.engine, begin, begin + DAY)  # the later days are left as they are
    assert rows(world, KEPT_COHORTS) == rows(world, COHORTS)
    assert first not in {row["day"] for row in kept(world)["player_days"]}


def test_days_whose_raw_events_are_gone_are_kept(world: World, few: list[Event]) -> None:
    """Retention drops partitions; the answers about those days stay, also when rolled up again."""
    store(world, few)
    rollup(world.engine, START, END)
    before = kept(world)
    for day in (0, 1, 2, 3):
        change(world, f"drop table if exists game_events_{START + day * DAY:%Y%m%d}")
    done = rollup(world.engine, START, END)
    assert done.without_raw >= 24
    assert kept(world) == before


def test_details_may_be_anything(world: World) -> None:
    """A sender's own details neither stop a rollup nor are lost: a long name is cut, none is no run."""
    long = "".join(chr(0x4E00 + n * 7) for n in range(1300))  # more than an index takes
    strange: list[dict[str, Any]] = [
        {}, {"mission": None}, {"mission": long}, {"mission": "M", "playthrough": long}, {"mission": 7},
        {"mission": ["a"], "playthrough": {"b": 1}}, {"mission": "M"}, {"mission": "M", "playthrough": 2},
    ]  # fmt: skip
    store_raw(world, [deed(START, "Zeke", n, **more) for n, more in enumerate(strange, start=1)])
    store_raw(world, [payload(START_MS, 99, player="Moya", details=None)])
    assert rollup(world.engine, START, START + HOUR).rows == 2
    found = {
        (row["mission"], row["playthrough"]) for row in rows(world, "select * from mission_runs")
    }
    assert found == {
        (long[:64], "1"), ("M", long[:64]), ("7", "1"), ('["a"]', '{"b": 1}'), ("M", "1"), ("M", "2"),
    }  # fmt: skip


# --- several at once, and broken off


def test_rollups_at_the_same_time_end_right(world: World, few: list[Event]) -> None:
    """Three that share hours and days wait for each other, and none fails."""
    store(world, few)
    done: list[RolledUp] = []
    failed: list[BaseException] = []
    start = threading.Barrier(3)

    def work(begin: datetime, end: datetime) -> None:
        try:
            start.wait(10)
            done.append(rollup(world.engine, begin, end))
        except BaseException as error:  # told below
            failed.append(error)

    spans = [(START, END), (START + 3 * DAY + 5 * HOUR, END), (START, START + 6 * DAY + 20 * HOUR)]
    threads = [threading.Thread(target=work, args=span) for span in spans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(done) == 3
    assert_kept(world)


def test_a_day_waits_for_another_that_is_being_summed_up(world: World) -> None:
    """Days reach into each other's counts: one rollup at a time has them in hand."""
    store_raw(world, [deed(START, "Zeke", 1, mission="M")])
    thread = threading.Thread(target=rollup, args=(world.engine, START, START + HOUR), daemon=True)
    waiting = """
    select pid from pg_stat_activity where datname = current_database() and wait_event = 'advisory'
    """
    with world.engine.begin() as other:
        other.execute(days.LOCK_DAYS, {"lock": days.LOCK})
        thread.start()
        until(lambda: rows(world, waiting), "the rollup to wait")
        assert world.count("hourly_totals") == 1
        assert world.count("daily_cohorts") == 0
    thread.join(10)
    assert world.count("daily_cohorts") == world.count("daily_missions") == 1


def test_a_day_killed_in_the_middle_is_summed_up_again(world: World, tmp_path: Path) -> None:
    """Cohorts and missions change together or not at all; the next run makes up for it."""

    def job(**variables: str) -> int:
        return subprocess.run(
            [sys.executable, "-m", "jobs", "rollup", "--hours", "2"],
            cwd=tmp_path,
            env={**os.environ, **world.environment, **variables},
            capture_output=True,
            check=False,
            timeout=60,
        ).returncode

    at = datetime.fromtimestamp(now_ms() / 1000, UTC)
    store_raw(world, [deed(at, "Zeke", 1, mission="M", playthrough=1)])
    # Two hours, and the day or two they are in: the last time the point is passed, it is in a day.
    times = 3 if (at - HOUR).date() == at.date() else 4
    assert job(FAILPOINT=f"in_rollup:{times}") == -signal.SIGKILL
    assert world.count("hourly_totals") == 1
    assert world.count("daily_cohorts") == world.count("daily_missions") == 0
    assert job() == 0
    assert world.count("daily_cohorts") == world.count("daily_missions") == 1
    assert_kept(world)


def test_a_rollup_that_stops_sums_up_the_day_it_is_in(world: World) -> None:
    """What is rolled up by the hour is in the answers by the day, however the rollup ended."""

    class Soon(threading.Event):
        """Set at the second look."""

        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            return self.looks > 1

    store_raw(world, [deed(START + n * HOUR, f"player {n}", 1) for n in range(3)])
    done = rollup(world.engine, START, END, stop=Soon())
    assert done == RolledUp(1, 1, 0, is_complete=False)
    assert rows(world, "select players from daily_cohorts") == [{"players": 1}]


# --- a database from before these tables


def test_older_rollups_are_taken_over(world: World, few: list[Event]) -> None:
    """What was rolled up before the migration answers the questions after it, without the raw events."""
    store(world, few)
    rollup(world.engine, START, END)
    before = kept(world)
    config = schema._config(world.engine)
    command.downgrade(config, "0003")
    command.upgrade(config, "head")
    after = kept(world)
    assert after["mission_runs"] == after["daily_missions"] == []
    for table in ("hourly_totals", "daily_cohorts"):
        assert after[table] == before[table]
    # Nobody knew of karma then.
    unknown = {"karma_total": None, "rank": None}
    assert [row | unknown for row in before["player_days"]] == after["player_days"]
    rollup(world.engine, START, END)
    assert kept(world) == before
