"""Retention on a real database: old days go, whole, whoever reads meanwhile; and nothing else does."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, pool, text

from consumer.load import Loader
from infamous import report, schema
from jobs import retention, tasks
from jobs.check import check
from jobs.owner import NotTheOwner
from jobs.retention import Dropped, drop_old, oldest_kept
from jobs.rollup import roll_up_touched, rollup
from pipeline import partitions
from pipeline.event import Window, encode
from tests import commands
from tests.commands import Command
from tests.conftest import World
from tests.integration.consuming import batch_of, is_drained, now_ms, until, working
from tests.integration.recount import kept
from tests.unit.samples import RETENTION_DAYS, chains, payload

DAY = timedelta(days=1)


def rows(world: World, query: str, **values: Any) -> list[Any]:
    """What a query answers, one value a row."""
    with world.engine.connect() as connection:
        return list(connection.execute(text(query), values).scalars())


def change(world: World, *statements: str) -> None:
    """Change something in the database, each statement on its own."""
    with world.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.execute(text(statement))


def today() -> date:
    """By UTC."""
    return datetime.now(UTC).date()


def name_of(day: date) -> str:
    """A whole day's partition."""
    return f"game_events_{day:%Y%m%d}"


def make_days(world: World, *days: date) -> None:
    """Partitions, and an event in each."""
    loader = Loader(world.database_url, "test")
    for day in days:
        noon_ms = int(datetime.combine(day, time(12), UTC).timestamp() * 1000)
        # Past the window of a consumer: a batch of its own.
        batch = batch_of([])
        batch.events = chains(20, start_ms=noon_ms, seed=day.toordinal())
        loader.store(batch)
    loader.close()


def tables(world: World) -> list[str]:
    """Everything that is called as a partition is, attached or not."""
    return rows(
        world,
        "select relname::text from pg_class where relkind = 'r'"
        " and relnamespace = 'public'::regnamespace and relname like 'game\\_events\\_%' order by 1",
    )


def old_days(count: int) -> list[date]:
    """The newest days that are out of retention, the oldest first."""
    first = oldest_kept(today(), RETENTION_DAYS)
    return [first - DAY * (count - number) for number in range(count)]


@pytest.fixture
def command(world: World, tmp_path: Path) -> Command:
    """``infamous`` with these arguments, and with more or other variables."""
    return commands.beginning("infamous", cwd=tmp_path, environment=world.environment)


def test_old_days_go_and_all_others_stay(world: World) -> None:
    """Partitions out of retention are dropped, in parts or whole; a second run finds nothing to do."""
    first = oldest_kept(today(), RETENTION_DAYS)
    make_days(world, first - DAY, first - 3 * DAY, first, first + DAY)
    busy = f"update pg_class set reltuples = 41e6 where relname = '{name_of(today() - DAY)}'"
    change(world, busy)
    make_days(world, first - 2 * DAY)
    change(world, "analyze game_events")
    before = tables(world)
    parts = [f"{name_of(first - 2 * DAY)}_{hour:02d}" for hour in (0, 6, 12, 18)]
    old = [name_of(first - 3 * DAY), *parts, name_of(first - DAY)]
    plan = drop_old(world.engine, today(), RETENTION_DAYS, is_dry_run=True)
    assert plan.partitions == tuple(old)
    assert tables(world) == before
    told: list[tuple[int, int | None]] = []
    done = drop_old(
        world.engine, today(), RETENTION_DAYS, tell=lambda n, total: told.append((n, total))
    )
    assert done == plan
    assert (done.rows, done.postponed, done.set_aside) == (60, (), ())
    assert done.size_bytes > 60 * 100
    assert (done.remaining, done.first_day) == (11, first)
    assert told == [(number, 6) for number in range(7)]
    assert tables(world) == [name for name in before if name not in old]
    assert world.count("game_events") == 40
    again = drop_old(world.engine, today(), RETENTION_DAYS)
    assert again == Dropped((), 0, 0, (), (), 11, first)


@pytest.mark.parametrize("retention_days", [1, 90])
def test_what_a_consumer_takes_keeps_its_partition(retention_days: int) -> None:
    """At any moment of the day, and a whole day later: a batch may wait for its database so long."""
    for hours in range(24):
        now = datetime(2026, 3, 1, hours, 59, 59, tzinfo=UTC)
        window = Window.at(int(now.timestamp() * 1000), retention_days)
        oldest = datetime.fromtimestamp(window.oldest_ms / 1000, UTC).date()
        assert oldest >= oldest_kept((now + DAY).date(), retention_days)


def test_what_was_rolled_up_stays(world: World) -> None:
    """The rollups of a day outlive its raw events, also when they are made anew."""
    (day,) = old_days(1)
    make_days(world, day)
    noon = datetime.combine(day, time(12), UTC)
    hour = timedelta(hours=1)
    rollup(world.engine, noon, noon + hour)
    query = "select count(*) from hourly_rollups"
    before = rows(world, query)
    drop_old(world.engine, today(), RETENTION_DAYS)
    assert rollup(world.engine, noon, noon + hour).without_raw == 1
    assert rows(world, query) == before != [0]


def at_noon(day: date, player: str) -> bytes:
    """Something that a player did."""
    noon_ms = int(datetime.combine(day, time(12), UTC).timestamp() * 1000)
    return payload(noon_ms, sum(player.encode()), player=player)


def drop_by_hand(world: World, day: date) -> None:
    """As somebody does who needs room."""
    change(world, f"drop table {name_of(day)}")


def drop_by_job(world: World, day: date) -> None:
    """As the schedule does."""
    assert drop_old(world.engine, today(), RETENTION_DAYS).partitions == (name_of(day),)


@pytest.mark.parametrize("drop", [drop_by_job, drop_by_hand])
def test_what_was_rolled_up_of_others_stays_when_one_comes_back(
    world: World, command: Command, drop: Callable[[World, date], None]
) -> None:
    """RETENTION_DAYS is raised and one player's old events are sent again: nobody else loses any."""
    (day,) = old_days(1)
    deeds = {player: at_noon(day, player) for player in ("Zeke", "Moya", "Cole")}

    def arrive(*payloads: bytes) -> None:
        world.source.append(list(payloads))
        with working(world, retention_days=RETENTION_DAYS + 30):
            until(lambda: is_drained(world), "them to be stored")
        change(world, "update touched_hours set touched_at = touched_at - interval '301 seconds'")

    arrive(*deeds.values())
    roll_up_touched(world.engine)
    before = kept(world)
    assert [row["events"] for row in before["daily_rollups"]] == [1, 1, 1]
    drop(world, day)
    arrive(deeds["Zeke"])
    assert world.count("game_events") == 1
    done = command("rollup")
    assert done.stdout == (
        "Rolled 0 hours up into 0 rows; 1 hours whose raw events were dropped keep what was rolled up of"
        " them, and events that came since are stored but not counted.\n"
    ), done.stderr
    assert kept(world) == before
    assert rows(world, "select count(*) from touched_hours") == [0]
    # Asked for by hand, and by the check that mends what a recount does not give, as well.
    midnight = datetime.combine(day, time(), UTC)
    assert rollup(world.engine, midnight, midnight + DAY).without_raw == 1
    checked = check(world.engine)
    assert (checked.wrong, checked.hours > 24) == ((), True)
    assert kept(world) == before
    # Of an hour of that day of which nothing was known, all that came is there: it is counted.
    arrive(payload(int(midnight.timestamp() * 1000), 7, player="Late"))
    roll_up_touched(world.engine)
    late = [row["player"] for row in kept(world)["hourly_rollups"] if row["hour"] == midnight]
    assert late == ["Late"]
    # However often it goes and comes.
    drop(world, day)
    arrive(deeds["Moya"])
    roll_up_touched(world.engine)
    events = rows(world, "select events from hourly_rollups order by hour, player")
    assert events == [1, 1, 1, 1]


def test_a_day_that_still_goes_on_is_counted_when_it_comes_back(world: World) -> None:
    """Its partition was dropped by mistake and all of it sent again: what came meanwhile counts as well."""
    begin_ms = now_ms() - 60_000
    known, more = (
        [encode(event) for event in chains(30, seed=seed, start_ms=begin_ms)] for seed in (1, 2)
    )
    loader = Loader(world.database_url, "test")
    loader.store(batch_of(known))
    roll_up_touched(world.engine)
    # Just after midnight some of it is yesterday's.
    for day in {datetime.fromtimestamp(ms / 1000, UTC).date() for ms in (begin_ms, now_ms())}:
        drop_by_hand(world, day)
    loader.store(batch_of(more))
    loader.store(batch_of(known))
    loader.close()
    assert roll_up_touched(world.engine).without_raw == 0
    assert rows(world, "select sum(events)::int from hourly_rollups") == [60]


def test_a_long_question_is_waited_for_and_holds_up_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the detach waits for a reader, events are stored and read; when he is done, it goes on."""
    first, second = old_days(2)
    make_days(world, first, second, today())
    done: list[Dropped] = []
    waits = (
        "select 1 from pg_stat_activity where datname = current_database()"
        " and wait_event_type = 'Lock' and query like 'alter table game_events detach%'"
    )
    dropping = threading.Thread(
        target=lambda: done.append(drop_old(world.engine, today(), RETENTION_DAYS))
    )
    monkeypatch.setattr(retention, "LIMIT", "set lock_timeout = '60s'")
    with world.engine.begin() as question:
        question.execute(text("select count(*) from game_events"))
        dropping.start()
        until(lambda: rows(world, waits), "the detach to wait for the question")
        loader = Loader(world.database_url, "test")
        # A partition is made as well, and a reader that comes later does not wait either.
        late = [encode(e) for e in chains(10, seed=5, start_ms=now_ms() - 50 * 86_400_000)]
        assert loader.store(batch_of(late)).rows == 10
        assert world.count("game_events") == 50
        loader.close()
        assert dropping.is_alive()
        assert rows(world, waits)
    dropping.join(30)
    assert done[0].partitions == (name_of(first), name_of(second))


def test_it_gives_way_and_the_next_run_ends_what_it_began(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition that is detached by half does no harm, and is the first to go."""
    first, second = old_days(2)
    make_days(world, first, second)
    monkeypatch.setattr(retention, "LIMIT", "set lock_timeout = '100ms'")
    with world.engine.begin() as question:
        question.execute(text("select count(*) from game_events"))
        for _ in range(2):
            done = drop_old(world.engine, today(), RETENTION_DAYS)
            assert done.partitions == ()
            assert done.postponed == (name_of(first), name_of(second))
        assert rows(world, "select inhdetachpending from pg_inherits order by 1 desc limit 1") == [
            True
        ]
        assert "somebody reads it, so run this again" in report.dropped(done, is_dry_run=False)
    done = drop_old(world.engine, today(), RETENTION_DAYS)
    assert (done.partitions, done.postponed) == ((name_of(first), name_of(second)), ())


def test_a_run_killed_before_the_drop_is_run_again(world: World, command: Command) -> None:
    """What it detached stands alone, is found by its name, and is dropped by the next run."""
    days = old_days(3)
    make_days(world, *days)
    killed = command("retention", FAILPOINT="in_retention:2")
    assert killed.returncode == -signal.SIGKILL
    names = [name_of(day) for day in days]
    assert [name for name in tables(world) if name in names] == names[1:]
    attached = "select count(*) from pg_inherits where inhrelid = cast(:name as regclass)"
    assert rows(world, attached, name=names[1]) == [0]
    assert rows(world, attached, name=names[2]) == [1]
    again = command("retention", "--json")
    assert json.loads(again.stdout)["partitions"] == names[1:]
    assert not set(tables(world)) & set(names)


def test_what_was_detached_on_purpose_is_left_alone(world: World) -> None:
    """A young partition that stands alone is told, not dropped; nor is a table of another name or owner."""
    (old,) = old_days(1)
    young = today() - 5 * DAY
    make_days(world, old, young)
    change(
        world,
        f"alter table game_events detach partition {name_of(young)}",
        "create table game_events_copy (id int)",
        "create role somebody",
        "create table game_events_20200101 (id int)",
        "alter table game_events_20200101 owner to somebody",
    )
    try:
        done = drop_old(world.engine, today(), RETENTION_DAYS)
        assert (done.partitions, done.set_aside) == ((name_of(old),), (name_of(young),))
        assert {name_of(young), "game_events_copy", "game_events_20200101"} <= set(tables(world))
        assert f"the first {name_of(young)}: attach them" in report.dropped(done, is_dry_run=False)
    finally:
        change(world, "drop table game_events_20200101", "drop role somebody")


def test_a_young_one_that_is_detached_by_half_is_not_ended(world: World) -> None:
    """Somebody is at it: the others wait until he is done, and are told as postponed."""
    (old,) = old_days(1)
    make_days(world, old, today())
    with world.engine.begin() as question:
        question.execute(text("select count(*) from game_events"))
        half = f"alter table game_events detach partition {name_of(today())} concurrently"
        with pytest.raises(Exception, match="lock timeout"):
            change(world, "set lock_timeout = '100ms'", half)
    done = drop_old(world.engine, today(), RETENTION_DAYS)
    assert (done.partitions, done.postponed) == ((), (name_of(old),))
    assert done.set_aside == (name_of(today()),)
    # Whose events come meanwhile waits: the function says what is wrong, and makes no other.
    with pytest.raises(Exception, match="is detached: attach it again"):
        rows(world, partitions.ENSURE, first_day=today(), last_day=today())
    change(world, f"alter table game_events detach partition {name_of(today())} finalize")
    assert drop_old(world.engine, today(), RETENTION_DAYS).partitions == (name_of(old),)


def test_two_at_once_come_one_after_the_other(world: World) -> None:
    """Each partition is dropped once, and neither run fails."""
    days = old_days(6)
    make_days(world, *days)
    done: list[Dropped] = []
    threads = [
        threading.Thread(
            target=lambda: done.append(drop_old(world.engine, today(), RETENTION_DAYS))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(name for one in done for name in one.partitions) == [name_of(d) for d in days]
    assert len(done) == 3


def test_it_stops_when_asked(world: World) -> None:
    """Nothing is begun after a request to stop, and what is left is told."""
    (day,) = old_days(1)
    make_days(world, day)
    stop = threading.Event()
    stop.set()
    done = drop_old(world.engine, today(), RETENTION_DAYS, stop=stop)
    assert (done.partitions, done.postponed) == ((), (name_of(day),))


# --- by whom


def url_of(world: World, role: str) -> str:
    """The database as this role reaches it."""
    change(world, f"alter role {role} login password 'for this test'")
    url = make_url(world.database_url).set(username=role, password="for this test")  # noqa: S106
    return url.render_as_string(hide_password=False)


def test_the_migrator_may_and_the_jobs_may_not(
    bare_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task works with the URL of who may change the schema; without it, it says which to name."""
    schema.migrate(bare_world.engine)
    (day,) = old_days(1)
    make_days(bare_world, day)
    jobs_url = url_of(bare_world, "infamous_jobs")
    engine = create_engine(jobs_url, poolclass=pool.NullPool)
    assert drop_old(engine, today(), RETENTION_DAYS, is_dry_run=True).partitions == (name_of(day),)
    with pytest.raises(NotTheOwner, match=r"^The role infamous_jobs may not .*MIGRATOR_DATABASE_"):
        drop_old(engine, today(), RETENTION_DAYS)
    monkeypatch.setenv("DATABASE_URL", jobs_url)
    with pytest.raises(NotTheOwner):
        tasks.drop_old_partitions()
    monkeypatch.setenv("MIGRATOR_DATABASE_URL", url_of(bare_world, "infamous_migrator"))
    done = tasks.drop_old_partitions()
    assert (done["dropped"], done["postponed"]) == ((name_of(day),), ())


def test_the_command_says_what_it_did(world: World, command: Command) -> None:
    """A dry run, the run and the next one, each in a sentence; and whoever may not is told whom to name."""
    days = old_days(2)
    make_days(world, *days)
    change(world, "analyze game_events")
    span = f" 2 partitions, {name_of(days[0])} to {name_of(days[1])}: about 40 rows, "
    dry = command("retention", "--dry-run")
    assert dry.stdout.startswith("Would drop" + span), dry.stderr
    done = command("retention")
    assert done.stdout.startswith("Dropped" + span)
    assert f"9 stay, from {today() - DAY} on.\n" in done.stdout
    assert command("retention").stdout.startswith("Dropped 0 partitions; 9 stay")
    denied = command("retention", MIGRATOR_DATABASE_URL=url_of(world, "infamous_jobs"))
    assert denied.returncode == 1
    assert "may not change the tables" in denied.stderr
    assert "Traceback" not in denied.stderr
