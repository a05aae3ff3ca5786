"""By way of PgBouncer in transaction mode, with two sessions for all: what works, and what says it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Connection, Engine, TextClause, create_engine, pool, text

from analytics import data
from consumer.load import Loader
from infamous import schema, shadow, swap
from infamous.embedded.servers import Servers
from jobs import retention, tasks, tombstones
from jobs.tombstones import StillWriting
from pipeline import pooled, turn
from pipeline.event import Event, encode
from pipeline.pooled import NeedsSession
from tests import commands
from tests.bouncer import POOL, Bouncer, bounced
from tests.commands import Command
from tests.conftest import World
from tests.integration.consuming import is_drained, now_ms, until, working
from tests.unit.samples import RETENTION_DAYS, chains, without

ADVICE: Final = (
    "needs a session of its own, which a pooler such as PgBouncer does not give: name Postgres itself in"
    " MIGRATOR_DATABASE_URL."
)
# What somebody has set and did not take back; the first ones a client says when it connects.
SET = text("""
select name from pg_settings where source = 'session'
and name not in ('application_name', 'client_encoding', 'DateStyle', 'TimeZone')
""")
LEFT = text("""
select (select count(*) from pg_locks where locktype = 'advisory' and database = (
            select oid from pg_database where datname = current_database()
        )) as locks,
       (select count(*) from pg_class where relpersistence = 't') as tables
""")


@pytest.fixture(scope="module")
def bouncer(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bouncer]:
    """One for all tests here: it has a pool for each database."""
    with bounced(servers.database_url, tmp_path_factory.mktemp("pgbouncer")) as running:
        yield running


@pytest.fixture
def direct(world: World) -> World:
    """The database without it."""
    return world


@pytest.fixture
def shared(bouncer: Bouncer, world: World) -> Iterator[World]:
    """The same by way of it; the test's own looks go directly."""
    url = bouncer.url(world.name)
    engine = create_engine(url, poolclass=pool.NullPool)
    yield replace(world, database_url=url, engine=engine)
    engine.dispose()
    # Nothing of what any test did here may be left for whoever gets the session next.
    for_all = create_engine(url, poolclass=pool.NullPool)
    with ExitStack() as stack:
        sessions = [stack.enter_context(for_all.connect()) for _ in range(POOL)]
        for session in sessions:
            assert session.execute(SET).all() == []
        assert asked(world, LEFT) == (0, 0)


@pytest.fixture
def infamous(shared: World, tmp_path: Path) -> Command:
    """``infamous`` with these arguments, by way of it."""
    return commands.beginning("infamous", cwd=tmp_path, environment=shared.environment)


def recent(count: int, *, seed: int = 1, days_ago: int = 0) -> list[Event]:
    """Healthy events of some minutes, a day or so ago."""
    start_ms = now_ms() - 86_400_000 * days_ago - 600_000
    return chains(count, players=5, seed=seed, start_ms=start_ms)


def store(world: World, events: list[Event]) -> None:
    """Have them stored by a consumer."""
    world.source.append([encode(event) for event in events])
    with working(world):
        until(lambda: is_drained(world), "the events to be stored")


def asked(world: World, question: TextClause) -> tuple[Any, ...]:
    """What Postgres itself answers in one row."""
    with world.looks.connect() as connection:
        return tuple(connection.execute(question).one())


def pid(connection: Connection) -> int:
    """The process of Postgres' that answers."""
    return int(connection.execute(pooled.BACKEND).scalar_one())


# --- what it is


def test_a_pooler_is_known(shared: World, direct: World) -> None:
    """Two clients that stay connected get the same session: who needs one to itself is told so."""
    assert pooled.is_shared(shared.engine)
    assert not pooled.is_shared(direct.engine)


@pytest.mark.parametrize("busy", range(POOL))
def test_a_busy_pooler_is_known(shared: World, busy: int) -> None:
    """Whoever else has some of its sessions, and had the others a moment ago."""
    with ExitStack() as stack:
        for _ in range(busy):
            stack.enter_context(shared.engine.connect()).execute(pooled.BACKEND)
        assert pooled.is_shared(shared.engine)


def test_sessions_of_ones_own_are_enough(
    servers: Servers, bare_world: World, tmp_path: Path
) -> None:
    """A pooler in session mode gives each client one: a migration works there, as it does without."""
    with bounced(servers.database_url, tmp_path, mode="session", sessions=4) as bouncer:
        engine = create_engine(bouncer.url(bare_world.name), poolclass=pool.NullPool)
        assert not pooled.is_shared(engine)
        assert schema.migrate(engine).after == schema.head()


# --- the load path


def test_several_consumers_store_everything_once(shared: World) -> None:
    """More consumers than sessions, entries sent twice, refused ones between them: each is stored once."""
    events = recent(3000)
    raws = [encode(event) for event in events]
    sent = [raw for number, raw in enumerate(raws) for raw in (raw, b"bad %d" % (number // 100))]
    with ExitStack() as stack:
        for number in range(POOL + 2):
            stack.enter_context(working(shared, name=f"worker-{number}"))
        shared.source.append(sent)
        shared.source.append(raws[::2])
        until(lambda: is_drained(shared), "all to be stored")
    assert shared.count("game_events") == len(events)
    assert shared.count("quarantined_events") == 30
    sums = text("select sum(stored), sum(duplicates), sum(quarantined) from pipeline_health")
    assert asked(shared, sums) == (3000, 1500, 3000)


def test_what_the_database_refuses_is_found(shared: World, direct: World) -> None:
    """The halving of a batch, with its savepoints and its table, is one session's from end to end."""
    with direct.engine.begin() as connection:
        connection.execute(text("alter table game_events add constraint picky check (seq <> 7)"))
    store(shared, recent(200))
    assert (shared.count("game_events"), shared.count("quarantined_events")) == (195, 5)


def test_consumers_live_through_sessions_that_end(shared: World) -> None:
    """A Postgres that ends its sessions under the pool is waited for, and nothing is lost or doubled."""
    end = text("""
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()
    """)
    events = recent(2000)
    with working(shared, name="one"), working(shared, name="two"):
        for first in range(0, len(events), 400):
            shared.source.append([encode(event) for event in events[first : first + 400]])
            with shared.looks.connect() as connection:
                connection.execute(end)
        until(lambda: is_drained(shared), "all to be stored")
    assert shared.count("game_events") == len(events)


def test_a_transaction_says_its_own_limits(shared: World) -> None:
    """A frozen consumer's is rolled back by the server, whichever session it has, and no other's is."""

    def limits(cursor: Any) -> tuple[str, ...]:
        cursor.execute(
            "select current_setting('idle_in_transaction_session_timeout'),"
            " current_setting('client_connection_check_interval')"
        )
        found: tuple[str, ...] = cursor.fetchone()
        return found

    with closing(Loader(shared.database_url, "worker", frozen_s=7)) as loader:
        assert loader._transaction(limits) == ("7s", "10s")


# --- the steady jobs


def steady() -> dict[str, Callable[[], Any]]:
    """What the schedule has done, but for what changes the schema and what makes a report."""
    return {
        "make_partitions": tasks.make_partitions,
        "roll_up": lambda: tasks.roll_up(48),
        "check_rollups": tasks.check_rollups,
        "prune_health": tasks.prune_health,
        "trim_stream": lambda: tasks.trim_stream(3600.0),
        "archive_stream": tasks.archive_stream,
        "end_long_questions": lambda: tasks.end_long_questions(60.0),
    }


def test_the_steady_jobs_are_all_there() -> None:
    """A job that is new is tried here, or named among those that go to Postgres itself."""
    assert {task.__name__ for task in tasks.ALL} == {
        *steady(),
        "drop_old_partitions",
        "make_report",
    }


def test_each_steady_job_works(
    shared: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a session for itself and one more, every one does its work."""
    for name, value in shared.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ARCHIVE_URL", str(tmp_path / "archive"))
    store(shared, recent(500, days_ago=1))
    done = {name: task() for name, task in steady().items()}
    assert done["make_partitions"]["ahead_days"] == 7
    assert (done["roll_up"]["is_complete"], done["roll_up"]["rows"] > 0) == (True, True)
    assert done["check_rollups"]["wrong"] == 0 < done["check_rollups"]["hours"]
    assert done["archive_stream"]["events"] == 500
    assert done["end_long_questions"] == {"ended": 0}


def test_what_people_run_works(infamous: Command, shared: World, tmp_path: Path) -> None:
    """Import, replay, archive, quarantine, rollup, audit, status, trace and forget, one after the other."""
    events = recent(300)
    store(shared, events[:200])
    shared.source.append([b"bad", without("seq", ms=now_ms(), rank="Nobody")])
    file = tmp_path / "more.jsonl"
    file.write_bytes(b"\n".join(encode(event) for event in events))
    variables = {"ARCHIVE_URL": str(tmp_path / "archive"), "RETENTION_DAYS": str(RETENTION_DAYS)}

    def ran(*arguments: str) -> str:
        done = infamous(*arguments, **variables)
        assert (done.returncode, done.stderr) == (0, ""), arguments
        return done.stdout

    with working(shared):
        ran("import", str(file))
        until(lambda: is_drained(shared), "the import to be stored")
        ran("archive", "run")
        ran("replay", "--from", "2h")
        ran("replay", "--from", "2h", "--source", "archive")
        ran(
            "quarantine", "fix", "--reason", "bad_rank", "--python", '{**event, "rank": "Guardian"}'
        )
        ran("quarantine", "release")
        until(lambda: is_drained(shared), "what was sent again to be stored")
        ran("rollup")
        ran("rollup", "--check")
        ran("audit")
        assert json.loads(ran("status", "--json"))["rows"] == len(events) + 1
        ran("trace", str(events[0].id))
        ran("forget", events[0].player)
    assert shared.count("game_events") == 4 * len(events) // 5 + 1


def test_notebooks_read_by_way_of_it(shared: World) -> None:
    """As reader, in parts and whole: the role and the cursor are the transaction's."""
    store(shared, recent(300))
    engine = data.reader(shared.database_url)
    assert data.query(engine, "select count(*) as n from game_events")["n"].iloc[0] == 300
    parts = data.chunks(engine, "select id from game_events", 100)
    assert [len(part) for part in parts if len(part)] == [100, 100, 100]
    with pytest.raises(Exception, match=r"read-only transaction|permission denied"):
        data.query(engine, "delete from game_events returning id")


# --- turns


def test_one_has_the_turn(shared: World, direct: World) -> None:
    """By way of the pooler and past it: who comes second is told, and has it when the first is gone."""
    with tombstones.alone(shared.engine):
        for engine in (shared.engine, direct.engine):
            with pytest.raises(StillWriting), tombstones.alone(engine, patience_s=0):
                pass
    with tombstones.alone(direct.engine, patience_s=0), turn.taken(shared.engine, 7) as is_ours:
        assert is_ours


def test_a_turn_outlasts_the_limits_on_idleness(shared: World, direct: World) -> None:
    """Where the server ends who is idle in a transaction, a long erasure is not taken for that."""
    with direct.engine.begin() as connection:
        connection.execute(
            text(f"alter database {direct.name} set idle_in_transaction_session_timeout = '100ms'")
        )
    with turn.taken(shared.engine, 7) as is_ours, direct.engine.connect() as idle:
        assert is_ours
        gone = text(f"select not exists (select from pg_stat_activity where pid = {pid(idle)})")
        until(lambda: asked(shared, gone) == (True,), "who is idle to be ended")
        with turn.taken(direct.engine, 7) as is_theirs:
            assert not is_theirs
        idle.invalidate()


def test_a_turn_keeps_nothing_from_being_cleaned_up(shared: World) -> None:
    """However long it lasts, it has no snapshot that vacuum would have to spare."""
    held = text("""
    select count(*), count(backend_xmin), count(backend_xid) from pg_stat_activity
    where datname = current_database() and state = 'idle in transaction'
    """)
    with turn.taken(shared.engine, 7):
        assert asked(shared, held) == (1, 0, 0)


# --- what needs a session


def refused(engine: Engine) -> dict[str, Callable[[], Any]]:
    """What changes the schema."""
    today = datetime.now(UTC).date()
    return {
        "migrate": lambda: schema.migrate(engine),
        "retention": lambda: retention.drop_old(engine, today, RETENTION_DAYS),
        "build": lambda: shadow.build(engine, [], today, today, retention_days=RETENTION_DAYS),
        "swap": lambda: swap.swap(engine),
        "drop": lambda: shadow.drop(engine, shadow.SCHEMA),
    }


@pytest.mark.parametrize("what", ["migrate", "retention", "build", "swap", "drop"])
def test_what_needs_a_session_says_so(shared: World, what: str) -> None:
    """It changes nothing, and says in a sentence what to set."""
    with pytest.raises(NeedsSession, match="MIGRATOR_DATABASE_URL") as told:
        refused(shared.engine)[what]()
    assert str(told.value).endswith(ADVICE)


def test_the_commands_go_to_postgres_itself(infamous: Command, direct: World) -> None:
    """By way of the pooler they end with the sentence; with MIGRATOR_DATABASE_URL they do their work."""
    for command in (("migrate",), ("retention",)):
        done = infamous(*command)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.strip().endswith(ADVICE)
        assert infamous(*command, MIGRATOR_DATABASE_URL=direct.database_url).returncode == 0


def test_the_job_that_drops_days_says_so(shared: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule whose worker knows the pooler alone fails with the advice, not with a lock left behind."""
    monkeypatch.setenv("DATABASE_URL", shared.database_url)
    with pytest.raises(NeedsSession, match="MIGRATOR_DATABASE_URL"):
        tasks.drop_old_partitions()
