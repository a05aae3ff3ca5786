"""Roles: each part of the pipeline can do its work as its own role, and nothing else."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import errors
from psycopg2.extensions import connection as Connection  # noqa: N812  # psycopg2's class name
from sqlalchemy import create_engine, make_url, pool, text

from consumer.load import Loader, SchemaError
from infamous import logins, schema
from infamous.logins import ROLES
from jobs import tasks, tombstones
from jobs.check import check, mend
from jobs.release import Released, release
from jobs.rollup import roll_up_touched, rollup
from pipeline.event import encode
from pipeline.settings import SettingsError, libpq_url
from tests.conftest import World
from tests.integration.consuming import batch_of, is_drained, now_ms, until, working
from tests.unit.samples import chains

READ = (
    *("game_events", "pipeline_health", "hourly_rollups", "daily_cohorts", "daily_missions"),
    *("moral_choices", "hourly_items"),
)


@pytest.fixture
def world(world: World) -> World:
    """A database that was told itself who may do what in it: of the database that is not copied."""
    schema.migrate(world.engine)
    return world


def url_of(world: World, role: str) -> str:
    """The database as this role reaches it."""
    with world.engine.begin() as connection:
        connection.execute(text(f"alter role {role} login password 'for this test'"))
    url = make_url(world.database_url).set(username=role, password="for this test")  # noqa: S106
    return url.render_as_string(hide_password=False)


@contextmanager
def session(world: World, role: str) -> Iterator[Connection]:
    """A session of this role, each statement on its own."""
    connection = psycopg2.connect(libpq_url(url_of(world, role)))
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()


def refused(connection: Connection, statement: str) -> None:
    """The server must say that this is not allowed."""
    with connection.cursor() as cursor, pytest.raises(errors.InsufficientPrivilege):
        cursor.execute(statement)


def test_a_consumer_works_as_the_writer(world: World) -> None:
    """New events, duplicates, bad ones and a day without a partition: all of it with the writer's rights."""
    events = [encode(event) for event in chains(50, start_ms=now_ms() - 40 * 86_400_000)]
    world.source.append([*events, b"bad"])
    url = url_of(world, "infamous_writer")
    loader = Loader(url, "test")
    loader.prepare(datetime.now(UTC))
    loader.close()
    with working(world, database_url=url):
        until(lambda: is_drained(world), "the stream to drain")
        world.source.append(
            [
                *events,
                *[encode(event) for event in chains(30, seed=2, start_ms=now_ms() - 60_000)],
                b"bad",
                b"worse",
            ]
        )
        until(lambda: is_drained(world), "the stream to drain")
    assert world.count("game_events") == 80
    assert world.count("quarantined_events") == 2
    assert world.count("pipeline_health") >= 1


@pytest.mark.parametrize(
    "statement",
    [
        "select player from game_events",
        "select raw from quarantined_events",
        "copy game_events to stdout",
        "delete from game_events",
        "update game_events set karma_total = 100",
        "truncate game_events",
        "delete from quarantined_events",
        "drop table game_events",
        "create table mine (id int)",
        "alter table game_events drop constraint game_events_player_check",
        "select lo_create(0)",
        "select pg_read_file('/etc/passwd')",
        "set role infamous_owner",
        "select * from hourly_rollups",
    ],
)
def test_a_writer_only_adds(world: World, statement: str) -> None:
    """A consumer that was taken over can neither read what is stored nor take anything away."""
    with session(world, "infamous_writer") as connection:
        refused(connection, statement)


def test_a_partition_is_written_through_its_table_alone(world: World) -> None:
    """Past the table, what is checked there would not be."""
    today = datetime.now(UTC)
    with session(world, "infamous_writer") as connection, connection.cursor() as cursor:
        cursor.execute("select ensure_game_events_partitions(%s, %s)", (today.date(), today.date()))
        refused(connection, f"insert into game_events_{today:%Y%m%d} select from game_events")
        # A table of the same name that is the writer's own changes nothing for the function.
        cursor.execute("create temporary table game_events (id int)")
        cursor.execute("select ensure_game_events_partitions('2026-01-01', '2026-01-02')")
        cursor.execute("select 'game_events_20260101'::regclass::oid::regclass::text")
        assert cursor.fetchone() == ("game_events_20260101",)


def test_a_writer_brings_a_day_back_of_which_rollups_are_kept(world: World) -> None:
    """Whoever makes the partition may not read those, and they are known to be kept all the same."""
    day = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=40)
    with world.engine.begin() as connection:
        connection.execute(
            text("insert into hourly_totals values (:hour, 'recharge', 1, 0, 0)"), {"hour": day}
        )
    loader = Loader(url_of(world, "infamous_writer"), "test")
    events = chains(5, start_ms=int(day.timestamp() * 1000))
    assert loader.store(batch_of([encode(event) for event in events])).rows == 5
    loader.close()
    jobs = create_engine(url_of(world, "infamous_jobs"), poolclass=pool.NullPool)
    assert rollup(jobs, day, day + timedelta(hours=1)).without_raw == 1


def test_a_consumer_with_another_role_says_so(world: World) -> None:
    """Whoever gave it the wrong password learns that at the start, not at the first event."""
    loader = Loader(url_of(world, "infamous_jobs"), "test")
    with pytest.raises(SchemaError, match=r"permission denied|may not write"):
        loader.prepare(datetime.now(UTC))
    loader.close()


def test_dashboards_read(world: World) -> None:
    """What dashboards and notebooks are made of is there for their role, and the counts of the quarantine."""
    with session(world, "infamous_bi") as connection, connection.cursor() as cursor:
        for table in READ:
            cursor.execute(f"select count(*) from {table}")
        cursor.execute("select reason, sum(times_seen) from quarantined_events group by reason")


@pytest.mark.parametrize(
    "statement",
    [
        "insert into game_events (id, ts) values (gen_random_uuid(), now())",
        "update hourly_rollups set events = 0",
        "delete from game_events",
        "truncate daily_cohorts",
        "create table mine (id int)",
        "create temporary table mine (id int)",
        "drop table game_events",
        "select raw from quarantined_events",
        "select * from quarantined_events",
        "select detail from quarantined_events",
        "select lo_create(0)",
        "select lo_from_bytea(0, 'x')",
        "select lo_import('/etc/passwd')",
        "select ensure_game_events_partitions('2026-01-01', '2026-01-01')",
        "copy (select 1) to program 'true'",
        "copy (select 1) to '/tmp/x'",
        "select pg_read_file('/etc/passwd')",
        "select rolpassword from pg_authid",
        "set role infamous_writer",
        "set role infamous_owner",
        "alter role infamous_bi connection limit -1",
    ],
)
def test_dashboards_read_and_nothing_else(world: World, statement: str) -> None:
    """Also after the settings that a session may change were changed: the grants are the guard."""
    with session(world, "infamous_bi") as connection:
        with connection.cursor() as cursor:
            cursor.execute("set default_transaction_read_only = off")
            cursor.execute("set statement_timeout = 0")
        refused(connection, statement)


def test_jobs_work_as_their_role(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rollups, their check, pruning, release and the archive need no more than it has."""
    events = chains(50, start_ms=now_ms() - 60_000)
    world.source.append([*[encode(event) for event in events], b"bad"])
    with working(world):
        until(lambda: is_drained(world), "the stream to drain")
    engine = create_engine(url_of(world, "infamous_jobs"), poolclass=pool.NullPool)
    now = datetime.now(UTC)
    rollup(engine, now - timedelta(hours=1), now)
    with tombstones.known(engine) as is_forgotten:
        assert not is_forgotten("Zeke")
    assert world.count("hourly_rollups") > 0
    assert roll_up_touched(engine).hours > 0
    with world.engine.begin() as connection:
        connection.execute(text("truncate touched_hours"))
        connection.execute(text("delete from daily_missions"))
    checked = check(engine)
    assert checked.tables == ("daily_missions",)
    assert mend(engine, checked)
    monkeypatch.setenv("DATABASE_URL", url_of(world, "infamous_jobs"))
    assert tasks.prune_health() == {"minutes": 0, "checks": 0}
    assert release(engine, world.streams) == Released(1, 0, 0, is_complete=True)
    with session(world, "infamous_jobs") as connection:
        for statement in (
            "delete from game_events",
            "delete from quarantined_events",
            "update quarantined_events set raw = ''",
            "drop table hourly_rollups",
            "create table mine (id int)",
        ):
            refused(connection, statement)


def test_the_migrator_changes_the_schema_as_its_owner(bare_world: World) -> None:
    """What it makes belongs to the owner, whoever migrated first; a second run changes nothing."""
    schema.migrate(bare_world.engine)
    engine = create_engine(url_of(bare_world, "infamous_migrator"), poolclass=pool.NullPool)
    schema.migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("create table later (id int)"))
        owners = connection.execute(
            text("select distinct tableowner from pg_tables where schemaname = current_schema()")
        ).scalars()
        assert list(owners) == ["infamous_owner"]


def login_url(world: World, role: str, password: str) -> str:
    """The database as this role would reach it with this password."""
    url = make_url(world.database_url).set(username=role, password=password)
    return url.render_as_string(hide_password=False)


def test_a_url_is_all_it_takes_to_let_a_role_log_in(world: World, tmp_path: Path) -> None:
    """`migrate --login FILE` gives the role the URL's password; the server sees its verifier only."""
    urls = [login_url(world, role, "it's a % secret") for role in sorted(ROLES)]
    files = [tmp_path / str(number) for number in range(len(urls))]
    for path, url in zip(files, urls, strict=True):
        path.write_text(f"{url}\n")
    subprocess.run(
        [
            *(sys.executable, "-P", "-m", "infamous", "migrate"),
            *itertools.chain.from_iterable(("--login", str(path)) for path in files),
        ],
        env={**os.environ, **world.environment},
        check=True,
        timeout=60,
    )
    with world.engine.connect() as connection:
        stored = connection.execute(
            text("select rolname, rolpassword from pg_authid where rolname like 'infamous\\_%'")
        )
        verifiers = {row.rolname: row.rolpassword for row in stored}
    assert {role: verifiers[role][:13] for role in ROLES} == dict.fromkeys(ROLES, "SCRAM-SHA-256")
    assert verifiers["infamous_owner"] is None


@pytest.mark.parametrize(
    ("role", "password", "why"),
    [
        ("postgres", "x", "postgres is no role of this pipeline"),
        ("infamous_owner", "x", "infamous_owner is no role of this pipeline"),
        ("infamous_bi", "", "has no password"),
    ],
)
def test_a_url_that_is_none_of_ours_changes_nothing(
    world: World, role: str, password: str, why: str
) -> None:
    """A URL of the superuser, or without a password, is refused before any role is touched."""
    good = login_url(world, "infamous_writer", "good")
    with pytest.raises(SettingsError, match=why):
        logins.allow(world.engine, [good, login_url(world, role, password)])
    with world.engine.connect() as connection:
        count = "select count(*) from pg_authid where rolname = 'infamous_writer' and rolpassword like '%'"
        before = connection.execute(text(count)).scalar_one()
    logins.allow(world.engine, [good])
    with world.engine.connect() as connection:
        assert connection.execute(text(count)).scalar_one() == 1 >= before


def test_a_dashboard_holds_no_lock_that_others_wait_for(world: World) -> None:
    """Advisory locks are how migrations, rollups and new partitions take turns: readers have none."""
    with session(world, "infamous_bi") as connection:
        for function in (
            *("pg_advisory_lock(1)", "pg_advisory_xact_lock(1, 2)", "pg_advisory_lock_shared(1)"),
            *("pg_try_advisory_lock(1)", "pg_try_advisory_xact_lock_shared(1)"),
        ):
            refused(connection, f"select {function}")
    with session(world, "infamous_jobs") as connection, connection.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(1), pg_advisory_unlock(1)")


def test_jobs_end_a_question_that_goes_on_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dashboard may lift its own time limit; the job that looks for it may end it, and nobody else."""
    monkeypatch.setenv("DATABASE_URL", url_of(world, "infamous_jobs"))
    monkeypatch.setattr(tasks, "SHORTEST_QUESTION_S", 0.0)
    with session(world, "infamous_bi") as patient, session(world, "infamous_writer") as busy:
        for connection in (patient, busy):
            connection.autocommit = False
            with connection.cursor() as cursor:
                cursor.execute("set statement_timeout = 0; select 1")
        assert tasks.end_long_questions(at_most_s=3600) == {"ended": 0}
        assert tasks.end_long_questions(at_most_s=0) == {"ended": 1}
        with busy.cursor() as cursor:
            cursor.execute("select 1")
        with patient.cursor() as cursor, pytest.raises(psycopg2.OperationalError):
            cursor.execute("select 1")


def test_who_may_not_grant_is_told(world: World) -> None:
    """A migration by another than a superuser brings the schema up to date, and says what it left."""
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "infamous", "migrate"],
        env={
            **os.environ,
            **world.environment,
            "DATABASE_URL": url_of(world, "infamous_migrator"),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "The schema is at revision" in ran.stdout
    assert "were left as they are (permission denied" in ran.stderr
