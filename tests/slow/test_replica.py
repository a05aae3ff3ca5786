"""A real replica that streams: who reads there, how far it is behind, and a question that it breaks off."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy import Engine, create_engine, pool, text

from analytics import data, replica
from analytics.replica import Cancelled, Replica
from analytics.report.freshness import freshness
from infamous import caught_up, lab
from infamous.commands import lab as labs
from infamous.commands import report as reports
from infamous.embedded.servers import Servers
from jobs import tasks
from pipeline.event import encode
from tests import commands
from tests.conftest import World
from tests.integration.consuming import is_drained, now_ms, until, working
from tests.standby import Standby, following
from tests.unit.samples import chains

WHERE = "select pg_is_in_recovery() as is_replica"


@pytest.fixture(scope="module")
def standby(
    servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Standby]:
    """One for all tests here. The template is copied with the rest, rather than followed."""
    assert template
    with following(servers.database_url, tmp_path_factory.mktemp("standby")) as running:
        yield running


@pytest.fixture
def reader(standby: Standby, world: World) -> Iterator[Engine]:
    """The test's database there, up to date."""
    engine = create_engine(standby.url(world.name), poolclass=pool.NullPool)
    everything = create_engine(standby.url("postgres"), poolclass=pool.NullPool)
    # As a server that is to keep its data has it; ours for tests let what is committed wait to be written.
    with world.engine.begin() as connection:
        connection.execute(text(f"alter database {world.name} set synchronous_commit = local"))
    wait(world, everything)
    yield engine
    with everything.connect() as connection:
        connection.execute(text("select pg_wal_replay_resume()"))
    engine.dispose()
    everything.dispose()


@pytest.fixture
def read_there(
    standby: Standby,
    world: World,
    reader: Engine,  # noqa: ARG001  # it is there by then
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The settings of who writes to the one and reads from the other."""
    url = standby.url(world.name)
    for name, value in {**world.environment, "READ_DATABASE_URL": url}.items():
        monkeypatch.setenv(name, value)
    return url


def wait(world: World, reader: Engine) -> None:
    """Wait until all that is in the world now is there, too."""
    until(lambda: behind(world, reader).has_all, "the replica to have it")


def behind(world: World, reader: Engine) -> Replica:
    """What is seen of the replica by who knows the primary as well."""
    seen = caught_up.look(world.engine, reader)
    assert seen.replica is not None, seen.trouble
    return seen.replica


def store(world: World, count: int = 100) -> None:
    """Have events stored on the primary."""
    events = chains(count, start_ms=now_ms() - 60_000, seed=count)
    world.source.append([encode(event) for event in events])
    with working(world):
        until(lambda: is_drained(world), "the events to be stored")


@contextmanager
def paused(reader: Engine) -> Iterator[None]:
    """A replica that receives and does not replay."""
    with reader.begin() as connection:
        connection.execute(text("select pg_wal_replay_pause()"))
    state = text("select pg_get_wal_replay_pause_state()")
    until(lambda: one(reader, state) == "paused", "the pause")
    yield
    with reader.begin() as connection:
        connection.execute(text("select pg_wal_replay_resume()"))


def one(engine: Engine, question: Any) -> Any:
    """The one value that a question answers."""
    with engine.connect() as connection:
        return connection.execute(question).scalar_one()


def looked(reader: Engine, **how: Any) -> Replica:
    """What is seen of the replica."""
    seen = replica.look(reader, **how)
    assert seen is not None
    return seen


# --- how far it is behind


def test_a_primary_is_no_replica(world: World) -> None:
    """Who reads where is written is not behind, and is not told of a delay."""
    assert replica.look(world.engine) is None
    assert caught_up.look(world.engine, world.engine).replica is None
    assert freshness(world.engine).replica is None


def test_a_quiet_replica_is_not_behind(world: World, reader: Engine) -> None:
    """With all that was written it is up to date, by its own account too, and however long nothing comes."""
    store(world)
    wait(world, reader)
    assert (looked(reader).has_all, looked(reader).delay_s) == (True, 0.0)
    assert one(reader, text("select count(*) from game_events")) == 100


def test_a_paused_replay_shows_a_delay(world: World, reader: Engine) -> None:
    """It grows while what was received is not replayed, and is gone when it is."""
    store(world)
    wait(world, reader)
    with paused(reader):
        store(world, 50)
        until(lambda: not looked(reader, patience_s=0).has_all, "something to be received")
        first = looked(reader, patience_s=0).delay_s or 0
        until(lambda: (looked(reader, patience_s=0).delay_s or 0) > first + 0.2, "it to grow")
        assert not behind(world, reader).has_all
        reached = freshness(reader)
        assert reached.replica is not None
        assert reached.replica.told().endswith("s behind")
        assert reached.replica.told() in reached.facts()[-1]
    wait(world, reader)
    assert looked(reader).delay_s == 0


def test_the_reader_may_ask(standby: Standby, world: World, reader: Engine) -> None:
    """What says how far it is behind is open to infamous_bi, which may do little else."""
    wait(world, reader)
    assert looked(data.reader(standby.url(world.name))).has_all


def test_what_is_written_is_waited_for(world: World, reader: Engine) -> None:
    """A report that rolls up on the primary finds that on the replica; one that stands still is given up."""
    stop = threading.Event()
    for count in (10, 20, 30):
        store(world, count)
        caught_up.wait(world.engine, reader, stop)
        assert looked(reader, patience_s=0).has_all
    with paused(reader), patch.object(caught_up, "PATIENCE_S", 0.1):
        store(world, 40)
        caught_up.wait(world.engine, reader, stop)
        assert not behind(world, reader).has_all


def test_the_status_shows_it(
    standby: Standby, world: World, reader: Engine, tmp_path: Path
) -> None:
    """Only where another database is named to be read; one that is away is told, and the rest is shown."""
    infamous = commands.beginning("infamous", cwd=tmp_path, environment=world.environment)
    wait(world, reader)

    def shown(*arguments: str, **variables: str) -> str:
        done = infamous("status", *arguments, **variables)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert "replica" not in json.loads(shown("--json"))
    url = standby.url(world.name)
    caught_up_now = {"is_replica": True, "is_caught_up": True, "delay_s": 0.0, "trouble": None}
    # A busy machine may take longer than the moment that a look waits.
    until(
        lambda: json.loads(shown("--json", READ_DATABASE_URL=url))["replica"] == caught_up_now,
        "the status to show it",
    )
    away = url.replace("run", "away")
    assert "does not answer" in shown(READ_DATABASE_URL=away)


# --- who reads there


def test_notebooks_read_there(read_there: str) -> None:
    """Whatever is asked is asked of the replica, and only read."""
    assert read_there
    assert data.query(data.connect(), WHERE)["is_replica"].tolist() == [True]


def test_the_lab_is_led_there(read_there: str) -> None:
    """JupyterLab is given that address, so notebooks need not know of it."""
    with (
        patch.object(lab, "running", side_effect=lab.LabError) as running,
        pytest.raises(lab.LabError),
    ):
        labs.open_lab(port=8888, browser=False)
    assert running.call_args.args[1] == read_there


def test_reports_are_read_there(read_there: str, world: World, tmp_path: Path) -> None:
    """By hand and from the queue: the page says so, and has what was rolled up on the primary just now."""
    store(world)
    with patch("analytics.report.make.run", return_value=[]) as ran:
        reports.make(since="7d", out=tmp_path, browser=False, as_json=True)
        page = (tmp_path / "latest.html").read_text(encoding="utf-8")
        with patch.dict("os.environ", REPORT_DIR=str(tmp_path)):
            tasks.make_report(7)
    assert [call.args[1] for call in ran.call_args_list] == [read_there] * 2
    assert "read from a replica, which has all there is." in page
    assert "not rolled up yet" not in page


def test_who_knows_the_replica_alone_reads(
    read_there: str, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A machine that is given nothing but what it may read makes a report of what others rolled up."""
    monkeypatch.delenv("DATABASE_URL")
    store(world)
    with patch("analytics.report.make.run", return_value=[]) as ran:
        reports.make(since="7d", out=tmp_path, browser=False, as_json=True)
    assert ran.call_args.args[1] == read_there


# --- what it breaks off


def test_a_question_that_is_broken_off_says_what_to_do(
    standby: Standby, world: World, reader: Engine
) -> None:
    """What the primary did cannot wait for ever: who asked reads a sentence, not a state of SQL."""
    store(world)
    wait(world, reader)
    told: list[BaseException] = []

    def ask() -> None:
        try:
            data.query(
                data.reader(standby.url(world.name)), "select pg_sleep(30) from game_events limit 1"
            )
        except Cancelled as error:
            told.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    sleeps = text(
        "select exists (select from pg_stat_activity where wait_event = 'PgSleep'"
        " and datname = current_database())"
    )
    until(lambda: one(reader, sleeps), "the question to be asked")
    with world.engine.begin() as connection:
        connection.execute(text("lock table game_events in access exclusive mode"))
    asking.join(20)
    assert not asking.is_alive()
    assert [str(error) for error in told] == [str(Cancelled())]
    assert "max_standby_streaming_delay" in str(told[0])
    assert "hot_standby_feedback" in str(told[0])
