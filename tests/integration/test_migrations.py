"""Migrations on a real database: up, checked, down and up again, also by several at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from consumer.load import Loader
from infamous import schema
from infamous.schema import Locked, Migrated, NewerSchema
from pipeline import partitions
from pipeline.event import ACTIONS, KARMA_MAX, KARMA_MIN, RANK_BY_KARMA, encode
from pipeline.tables import metadata
from tests.conftest import World
from tests.integration.consuming import batch_of, is_drained, now_ms, until, working
from tests.unit.samples import chains

ROOT = Path(__file__).resolve().parents[2]
HEAD = schema.head()


def rows(world: World, query: str, **values: Any) -> list[Any]:
    """What a query answers, one value a row."""
    with world.engine.begin() as connection:
        return list(connection.execute(text(query), values).scalars())


def objects(world: World) -> list[str]:
    """Everything in the database that a migration can have made."""
    return rows(
        world,
        """
        select cast(relkind as text) || ' ' || relname from pg_class
        where relnamespace = 'public'::regnamespace
        union all
        select 'function ' || proname from pg_proc where pronamespace = 'public'::regnamespace
        union all
        select 'type ' || typname from pg_type where typnamespace = 'public'::regnamespace
        order by 1
        """,
    )


def store_some(world: World) -> None:
    """Put rows and a refusal in, and so partitions of several days."""
    loader = Loader(world.database_url, "test")
    raws = [
        encode(event)
        for days in (0, 5, 30)
        for event in chains(5, start_ms=now_ms() - days * 86_400_000 - 60_000)
    ]
    loader.store(batch_of([*raws, b"bad"]))
    loader.close()


def alembic(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The library's own command line, as a developer runs it in the project's folder."""
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env={**os.environ, **world.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_up_check_down_up(bare_world: World) -> None:
    """Each step works on what the one before left, with rows and partitions present."""
    config = schema._config(bare_world.engine)
    empty = objects(bare_world)
    made = schema.migrate(bare_world.engine)
    assert made == Migrated(None, HEAD, partitions.DAYS_BACK + partitions.DAYS_AHEAD + 1)
    store_some(bare_world)
    command.check(config)
    command.downgrade(config, "base")
    left = [name for name in objects(bare_world) if "alembic_version" not in name]
    assert left == empty
    assert schema.revision(bare_world.engine) is None
    assert schema.migrate(bare_world.engine).after == HEAD
    command.check(config)
    store_some(bare_world)
    assert bare_world.count("game_events") == 15


def test_check_sees_a_difference(world: World) -> None:
    """The check that passes above is one that can fail."""
    with world.engine.begin() as connection:
        connection.execute(text("alter table game_events drop column seq"))
    with pytest.raises(CommandError, match="New upgrade operations detected"):
        command.check(schema._config(world.engine))


def test_migrating_again_changes_nothing(world: World) -> None:
    """The second run finds everything there, rows included."""
    store_some(world)
    before = objects(world)
    assert schema.migrate(world.engine) == Migrated(HEAD, HEAD, 0)
    assert objects(world) == before
    assert world.count("game_events") == 15


def test_four_at_once_all_succeed(bare_world: World) -> None:
    """Processes that start together wait for each other; each ends with the schema in place."""
    program = (
        "import sys; from sqlalchemy import create_engine; from infamous import schema;"
        "sys.stdin.readline();"
        "print(schema.migrate(create_engine(sys.argv[1])).after)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, bare_world.database_url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [(*process.communicate(timeout=60), process.returncode) for process in processes]
    assert ends == [(f"{HEAD}\n", "", 0)] * 4
    query = "select count(*) from pg_inherits where inhparent = 'game_events'::regclass"
    assert rows(bare_world, query) == [9]


def test_a_newer_database_is_refused(world: World) -> None:
    """A version that does not know the schema leaves it alone, and says what to do."""
    with world.engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    before = objects(world)
    with pytest.raises(NewerSchema, match=r"revision 9999.*update the code") as caught:
        schema.migrate(world.engine)
    assert str(caught.value).endswith(".")
    assert objects(world) == before
    assert schema.revision(world.engine) == "9999"


def test_the_command_line_works_too(bare_world: World) -> None:
    """``python -m alembic`` with DATABASE_URL does what ``infamous migrate`` does."""
    for arguments, words in (
        (("upgrade", "head"), ""),
        (("current",), f"{HEAD} (head)"),
        (("check",), "No new upgrade operations detected"),
        (("downgrade", "base"), ""),
    ):
        ended = alembic(bare_world, *arguments)
        assert ended.returncode == 0, ended.stderr
        assert words in ended.stdout + ended.stderr
    assert schema.revision(bare_world.engine) is None


def test_without_a_database_the_command_line_says_so(tmp_path: Path) -> None:
    """No address, no traceback: a sentence."""
    ended = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "current"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "DATABASE_URL"}
        | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stderr.strip() == (
        "DATABASE_URL is not set: name a database, or use `infamous migrate`."
    )


# --- what is in the schema


def test_every_column_has_a_comment(world: World) -> None:
    """Who opens the tables in Redash or psql reads what each column means."""
    silent = rows(
        world,
        """
        select relname || '.' || attname from pg_attribute join pg_class on pg_class.oid = attrelid
        where relname = any(:tables) and attnum > 0 and not attisdropped
          and col_description(attrelid, attnum) is null
        """,
        tables=list(metadata.tables),
    )
    assert silent == []
    assert all(table.comment for table in metadata.tables.values())


def test_partitions_carry_the_comments(world: World) -> None:
    """A partition looks like its table, comments, checks and key included."""
    (name,) = rows(world, "select min(inhrelid::regclass::text) from pg_inherits")
    described = """
        select count(*) from pg_attribute where attrelid = cast(:table as regclass) and attnum > 0
        and col_description(attrelid, attnum) is not null
    """
    checks = "select count(*) from pg_constraint where conrelid = cast(:table as regclass)"
    for query in (described, checks):
        assert rows(world, query, table=name) == rows(world, query, table="game_events")


def expression(world: World, name: str) -> str:
    """A CHECK constraint's condition."""
    (found,) = rows(
        world,
        "select pg_get_expr(conbin, conrelid) from pg_constraint"
        " where conrelid = 'game_events'::regclass and conname = :name",
        name=f"game_events_{name}_check",
    )
    return str(found)


def test_the_rank_check_is_the_tables_in_event_py(world: World) -> None:
    """The database calls each karma by the same name as the code, and no other."""
    condition = expression(world, "rank")
    ranks = sorted(set(RANK_BY_KARMA.values()))
    with world.engine.connect() as connection:
        found = connection.execute(
            text(
                "select karma_total, rank from generate_series(cast(:low as int), :high)"
                " as k (karma_total), unnest(cast(:ranks as text[])) as r (rank)"
                f" where {condition}"
            ),
            {"low": KARMA_MIN, "high": KARMA_MAX, "ranks": ranks},
        ).all()
    assert {row.karma_total: row.rank for row in found} == RANK_BY_KARMA
    assert len(found) == len(RANK_BY_KARMA)


def test_the_action_check_is_the_list_in_event_py(world: World) -> None:
    """The database takes the actions that the code takes."""
    condition = expression(world, "action")
    candidates = [*ACTIONS, "", "fly", "KILL_ENEMY", "kill_enemy "]
    query = f"select action from unnest(cast(:all as text[])) as a (action) where {condition}"
    assert rows(world, query, all=candidates) == list(ACTIONS)


@pytest.mark.parametrize(
    "change",
    [
        "player = ''",
        "player = repeat('x', 65)",
        "action = 'fly'",
        "xp_delta = -1",
        "karma_total = 101, rank = 'Hero'",
        "karma_total = -101, rank = 'Infamous'",
        "rank = 'Hero'",
        "energy_source = 'car'",
        "seq = 0",
        "player = null",
        "rank = null",
    ],
)
def test_the_database_repeats_the_cheap_rules(world: World, change: str) -> None:
    """Whoever writes past the loader is refused by the table itself."""
    loader = Loader(world.database_url, "test")
    event = next(
        event for event in chains(200, start_ms=now_ms() - 60_000)
        if event.action == "kill_enemy" and event.rank == "Neutral"
    )  # fmt: skip
    assert loader.store(batch_of([encode(event)])).rows == 1
    loader.close()
    with pytest.raises(IntegrityError), world.engine.begin() as connection:
        connection.execute(text(f"update game_events set {change}"))


# --- the partitions' function


def ensure(world: World, first: date, last: date) -> int:
    """Make partitions; says how many were made."""
    (made,) = rows(world, "select ensure_game_events_partitions(:a, :b)", a=first, b=last)
    return int(made)


def test_partitions_are_made_once(world: World) -> None:
    """Asked again for days that are there, the function makes the missing ones alone."""
    day = date(2024, 2, 27)
    assert ensure(world, day, day + timedelta(days=3)) == 4  # over a 29 February
    assert ensure(world, day, day + timedelta(days=3)) == 0
    assert ensure(world, day - timedelta(days=1), day + timedelta(days=4)) == 2
    assert ensure(world, day, day - timedelta(days=1)) == 0


def test_partitions_meet_at_utc_midnight_wherever_the_session_is(world: World) -> None:
    """No gap and no overlap between days, in any time zone, on the days its clocks change included."""
    with world.engine.begin() as connection:
        connection.execute(text("set local timezone = 'America/New_York'"))
        connection.execute(text("select ensure_game_events_partitions('2025-03-08', '2025-03-10')"))
    bounds = rows(
        world,
        "select pg_get_expr(relpartbound, oid) from pg_class"
        " where relname like 'game\\_events\\_202503%' and relkind = 'r' order by relname",
    )
    zone = datetime(2025, 3, 8, tzinfo=UTC).strftime("%z")[:3]
    expected = [
        f"FOR VALUES FROM ('2025-03-{day:02d} 00:00:00{zone}')"
        f" TO ('2025-03-{day + 1:02d} 00:00:00{zone}')"
        for day in (8, 9, 10)
    ]
    assert bounds == expected


def test_partitions_made_at_the_same_time(world: World) -> None:
    """Consumers that need the same days at once make each of them once, and none fails."""
    first, made, failed = date(2024, 5, 1), list[int](), list[BaseException]()
    start = threading.Barrier(4)

    def work(offset: int) -> None:
        try:
            start.wait(10)
            day = first + timedelta(days=offset)
            made.append(ensure(world, day, day + timedelta(days=9)))
        except BaseException as error:  # told below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sum(made) == 13


def test_making_partitions_waits_for_no_reader_or_writer(world: World) -> None:
    """Neither a long query nor an open insert holds up the days ahead, and they are not held up."""
    store_some(world)
    with world.engine.begin() as reader, world.engine.begin() as writer:
        reader.execute(text("select * from game_events"))
        writer.execute(text("update game_events set details = null"))
        with world.engine.begin() as maker:
            maker.execute(text("set local lock_timeout = '2s'"))
            maker.execute(text("select ensure_game_events_partitions('2024-05-01', '2024-05-03')"))
            reader.execute(text("set local lock_timeout = '2s'"))
            reader.execute(text("select * from game_events limit 1"))
            writer.execute(text("set local lock_timeout = '2s'"))
            writer.execute(text("update game_events set details = '{}'"))


def give_back(connection: Connection) -> None:
    """As before the first migration that knows roles: everything is the superuser's."""
    function = "ensure_game_events_partitions(date, date)"
    connection.execute(text("alter table game_events owner to current_user"))
    connection.execute(text(f"alter function {function} owner to current_user"))


def test_a_migration_gives_way_to_whoever_comes_after(world: World) -> None:
    """While a long question keeps it from a table, events are stored all the same; then it ends."""
    with world.engine.begin() as connection:
        give_back(connection)
    done: list[Migrated] = []
    migration = threading.Thread(target=lambda: done.append(schema.migrate(world.engine)))
    with world.engine.begin() as question:
        question.execute(text("select count(*) from game_events"))
        migration.start()
        until(
            lambda: bool(rows(world, "select 1 from pg_locks where not granted")),
            "the migration to wait for the table",
        )
        store_some(world)
        assert world.count("game_events") > 0
        assert not done
    migration.join(60)
    assert done
    owner = "select tableowner from pg_tables where tablename = 'game_events'"
    assert rows(world, owner) == ["infamous_owner"]


def test_a_revision_that_takes_long_keeps_no_consumer_waiting(bare_world: World) -> None:
    """What an earlier one had to lock, a table that every batch writes to, is free again by then."""
    world = bare_world
    command.upgrade(schema._config(world.engine), "0005")
    migration = threading.Thread(target=schema.migrate, args=(world.engine,))
    with world.engine.begin() as another:
        another.execute(text("lock table mission_runs in access exclusive mode"))
        migration.start()
        version = "select 1 from alembic_version where version_num = '0009'"
        until(lambda: bool(rows(world, version)), "the revisions before the long one", at_most_s=10)
        with world.engine.begin() as consumer:
            consumer.execute(text("set local lock_timeout = '2s'"))
            consumer.execute(
                text("insert into pipeline_health (minute, process) values (now(), 'x')")
            )
    migration.join(60)
    assert rows(world, "select version_num from alembic_version") == [HEAD]


def test_a_migration_that_cannot_have_a_table_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changes nothing, and tells what to do in a sentence."""
    limits = {"lock_timeout_s": 0.1, "patience_s": 0.0}
    original = schema._config

    def hasty(engine: Engine) -> Config:
        config = original(engine)
        config.attributes.update(limits)
        return config

    monkeypatch.setattr(schema, "_config", hasty)
    with world.engine.begin() as connection:
        give_back(connection)
    with world.engine.begin() as question:
        question.execute(text("select count(*) from game_events"))
        with pytest.raises(Locked, match="so it was not: end it"):
            schema.migrate(world.engine)


def test_the_version_before_stores_events_on_this_schema(world: World, tmp_path: Path) -> None:
    """An upgrade migrates first: the consumers of the version before the newest migration go on meanwhile."""
    newest = f"alembic/versions/{HEAD}*"
    before = git("log", "--diff-filter=A", "--format=%H^", "-1", "--", newest)
    if before is None:
        pytest.skip("the version before is in the history, and this is no clone with it")
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", before, "consumer", "pipeline"],
        capture_output=True,
        check=True,
    )
    subprocess.run(["tar", "-x", "-C", str(tmp_path)], input=archive.stdout, check=True)
    events = [encode(event) for event in chains(300, start_ms=now_ms() - 60_000)]
    world.source.append([*events, b"bad"])
    former = subprocess.Popen(
        [sys.executable, "-m", "consumer"],
        cwd=tmp_path,
        env={**os.environ, **world.environment, "PYTHONPATH": str(tmp_path)},
    )
    try:
        until(lambda: world.count("game_events") == 300, "the rows of the version before")
        until(lambda: world.count("quarantined_events") == 1, "its refusal")
        # The next version joins it, and they share the work.
        with working(world):
            world.source.append(
                [encode(e) for e in chains(300, seed=2, start_ms=now_ms() - 60_000)]
            )
            until(lambda: is_drained(world), "the stream to drain")
        assert world.count("game_events") == 600
    finally:
        former.terminate()
        assert former.wait(20) == 0


def git(*arguments: str) -> str | None:
    """What git says; None where it says nothing, or there is no such history."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        )
        said = done.stdout.strip()
        if said:
            subprocess.run(
                ["git", "-C", str(ROOT), "rev-parse", "--quiet", "--verify", said],
                capture_output=True,
                check=True,
            )
    except (OSError, subprocess.CalledProcessError):
        return None
    return said or None
