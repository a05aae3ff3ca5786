"""The report as a command and as a nightly job: made, stopped, killed, and refused in a sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
import redis
from rq.job import JobStatus
from sqlalchemy import text

from analytics.report import make as making
from analytics.report import shelf
from analytics.report.make import NOTEBOOKS
from jobs import schedule, tasks
from jobs.queue import REPORTS, enqueue, queue
from jobs.schedule import enqueue_due
from jobs.worker import worker
from pipeline.pulse import Pulse
from tests.conftest import World
from tests.integration import dashboards
from tests.integration.consuming import now_ms, until
from tests.integration.test_roles import url_of
from tests.notebooks import pages, planted
from tests.unit.samples import chains

COUNT = len(list(NOTEBOOKS.glob("*.ipynb")))


@pytest.fixture
def connection(planted_world: World) -> Iterator[redis.Redis]:
    """RQ's Redis: another database than the stream's."""
    database = planted_world.client.connection_pool.connection_kwargs["db"]
    client = redis.Redis.from_url(planted_world.redis_url.replace(f"db={database}", "db=0"))
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def environment(planted_world: World, connection: redis.Redis, tmp_path: Path) -> dict[str, str]:
    """Who makes reports: a reader of the database, with a folder for them."""
    database = planted_world.client.connection_pool.connection_kwargs["db"]
    assert connection.ping()
    return {
        "DATABASE_URL": url_of(planted_world, "infamous_bi"),
        "REDIS_URL": planted_world.redis_url,
        "RQ_REDIS_URL": planted_world.redis_url.replace(f"db={database}", "db=0"),
        "REPORT_DIR": str(tmp_path / "reports"),
    }


@contextmanager
def process(
    *command: str, environment: dict[str, str], folder: Path
) -> Iterator[subprocess.Popen[str]]:
    """``python -m`` this; it is ended at last."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", *command],
        env={**os.environ, **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()


def shelf_of(environment: dict[str, str]) -> list[str]:
    """The files on the shelf."""
    folder = Path(environment["REPORT_DIR"])
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# --- the job


@pytest.mark.parametrize("forks", [True, False])
def test_a_worker_of_reports_makes_one(
    connection: redis.Redis,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    forks: bool,
) -> None:
    """As a reader of the database, of seven whole days; the queue of all else stays as it is."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    report = enqueue(connection, tasks.make_report, days=7)
    other = enqueue(connection, tasks.roll_up, hours=2)
    worker(connection, Pulse(), forks=forks, queue_name=REPORTS).work(burst=True)
    assert report.get_status() is JobStatus.FINISHED
    assert other.get_status() is JobStatus.QUEUED
    result = report.return_value() or {}
    assert (result["notebooks"], result["failed"]) == (COUNT, [])
    assert shelf_of(environment) == ["latest.html", Path(result["path"]).name]
    assert (report.get_meta()["done"], report.get_meta()["total"]) == (COUNT, COUNT)


def test_the_nightly_turn_is_in_a_queue_of_its_own_and_does_not_wait_for_ever(
    connection: redis.Redis,
) -> None:
    """A worker that has no notebooks never sees it; where nobody has any, nothing piles up."""
    made = enqueue_due(connection, time.time())
    (turn,) = [name for name in made if name.startswith("make_report")]
    assert queue(connection, REPORTS).job_ids == [turn]
    assert turn not in queue(connection).job_ids
    (entry,) = [entry for entry in schedule.SCHEDULE if entry.task is tasks.make_report]
    assert entry.waits_s is not None
    assert 0 < connection.ttl(f"rq:job:{turn}") <= entry.waits_s < entry.every_s
    others = [name for name in made if name != turn]
    assert all(connection.ttl(f"rq:job:{name}") == -1 for name in others)


def test_a_turn_that_nobody_took_is_passed_over(
    connection: redis.Redis, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it has expired, the worker goes on with the next."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    old = enqueue(connection, tasks.make_report, waits_s=3600, days=7)
    connection.delete(old.key)  # as it is after an hour
    new = enqueue(connection, tasks.make_report, days=0)
    worker(connection, Pulse(), forks=False, queue_name=REPORTS).work(burst=True)
    assert new.get_status() is JobStatus.FAILED
    result = new.latest_result()
    assert result is not None
    assert "days must be 1 to 3660, not 0." in (result.exc_string or "")
    assert queue(connection, REPORTS).count == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_report_that_is_broken_off_leaves_no_page_and_no_kernel(
    connection: redis.Redis, environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    """Killed in the middle, or asked to stop; the next worker makes it from the beginning."""
    job = enqueue(connection, tasks.make_report, days=7)
    command = ("jobs", "work", "--no-fork", "--reports")
    environment |= {"TMPDIR": str(tmp_path)}
    with process(*command, environment=environment, folder=tmp_path) as laborer:
        until(lambda: pages.kernels(laborer.pid), "a kernel to run")
        kernels = pages.kernels(laborer.pid)
        laborer.send_signal(number)
        code = laborer.wait(300)
    until(lambda: not any(map(pages.lives, kernels)), "the kernels to end")
    assert shelf_of(environment) == []
    if number is signal.SIGKILL:
        # Nobody was left to say so: RQ finds out when the worker's last sign of life is old.
        assert job.get_status() is JobStatus.STARTED
        enqueue(connection, tasks.make_report, days=7)
    else:
        assert code == 0
        assert pages.rooms(tmp_path) == []
        assert job.get_status() is JobStatus.QUEUED
    with process(*command, environment=environment, folder=tmp_path) as laborer:
        until(lambda: "latest.html" in shelf_of(environment), "a report to be made", at_most_s=300)
        laborer.send_signal(signal.SIGTERM)
        laborer.wait(300)


def test_a_stop_that_comes_too_late_for_a_report_is_not_forgotten(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that is made is made, and the worker that was asked to stop meanwhile is told so."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def put(folder: Path, page: str, at: datetime, keep: int) -> Path:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(folder, page, at, keep)

    real = shelf.put
    monkeypatch.setattr(shelf, "put", put)
    monkeypatch.setattr(making, "NOTEBOOKS", Path(environment["REPORT_DIR"]))  # none
    told: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    try:
        done = tasks.make_report(7)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert told == [signal.SIGTERM]
    assert Path(done["path"]).exists()


# --- the command


def report(
    world: World, folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """``infamous report`` with these arguments."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "infamous", "report", *arguments],
        env={**os.environ, **world.environment, "REPORT_DIR": str(folder / "reports"), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_rolls_up_and_makes_a_page(world: World, tmp_path: Path) -> None:
    """Without any worker: events of a moment ago are on it; it prints the path, and where it may, JSON."""
    dashboards.store(world, chains(70, start_ms=now_ms() - 60_000))
    told = report(world, tmp_path)
    assert told.returncode == 0, told.stderr
    path, summary = told.stdout.splitlines()
    assert "Traceback" not in told.stderr
    page = Path(path).read_text(encoding="utf-8")
    assert Path(path).parent == tmp_path / "reports"
    assert '<dd class="value">70</dd>' in page
    assert summary.startswith("7 days, ")
    told = report(world, tmp_path, "--since", "2w", "--json", "--out", "elsewhere")
    assert told.returncode == 0, told.stderr
    made = json.loads(told.stdout)
    assert Path(made["path"]).parent == tmp_path / "elsewhere"
    assert [one["failure"] for one in made["notebooks"]] == [None] * COUNT
    assert all(one["peak_bytes"] > 0 and one["seconds"] > 0 for one in made["notebooks"])


def test_a_page_on_which_a_notebook_failed_is_no_success(world: World, tmp_path: Path) -> None:
    """A script sees it by the exit code, a person in the notebook's place; the others are there."""
    with world.engine.begin() as connection:
        connection.execute(text("revoke select on moral_choices from infamous_bi"))
    told = report(world, tmp_path)
    assert told.returncode == 1, told.stderr
    assert "Traceback" not in told.stderr
    path, summary, *failed = told.stdout.splitlines()
    assert summary.startswith("7 days, ")
    assert any(line.startswith("04_karma.ipynb: It failed: ") for line in failed)
    page = Path(path).read_text(encoding="utf-8")
    # In the list of contents, and in its place.
    assert page.count("It failed: ") == 2 * len(failed) < 2 * COUNT


def test_a_reader_makes_a_page_of_what_others_rolled_up(
    planted_world: World, environment: dict[str, str], tmp_path: Path
) -> None:
    """Who may not write leaves the rollups to those who may, without a word."""
    told = report(planted_world, tmp_path, **environment)
    assert told.returncode == 0, told.stderr
    assert str(planted.ALL.last.year) in told.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--since", "0d"), 2, "0d is no number of whole days: write 7d, or 4w, up to 3660d.\n"),
        (("--since", "5h"), 2, "5h is no number of whole days: write 7d, or 4w, up to 3660d.\n"),
        (("--out", "file/x"), 1, "file/x: Not a directory.\n"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(
    world: World, tmp_path: Path, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    """A period that is none, and a folder that is none."""
    (tmp_path / "file").touch()
    told = report(world, tmp_path, *arguments)
    assert (told.returncode, told.stdout) == (code, "")
    assert told.stderr.endswith(sentence)
    assert len(told.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [("infamous", "report"), ("infamous", "worker", "--reports")])
def test_without_the_packages_it_says_how_to_get_them(
    world: World, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """An installation of the pipeline alone, as the extras `analytics` and `embedded` give it."""
    hides = "import importlib.util as u, runpy, sys; find = u.find_spec\n"
    hides += "u.find_spec = lambda name, *a: None if name == 'nbclient' else find(name, *a)\n"
    hides += f"sys.argv = {list(command)!r}; runpy.run_module('infamous', run_name='__main__')"
    told = subprocess.run(
        [sys.executable, "-P", "-c", hides],
        env={**os.environ, **world.environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == (
        "What makes reports is not installed here (nbclient): run `make report`, or install the extra"
        " `notebooks`.\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_leaves_nothing(
    planted_world: World, environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM: a sentence, no page, no kernel, no file."""
    environment |= {"DATABASE_URL": planted_world.database_url, "TMPDIR": str(tmp_path)}
    with process("infamous", "report", environment=environment, folder=tmp_path) as command:
        until(lambda: pages.kernels(command.pid), "a kernel to run")
        kernels = pages.kernels(command.pid)
        command.send_signal(number)
        out, err = command.communicate(timeout=60)
    assert command.returncode == 1
    assert out == ""
    assert err.splitlines()[-1] == "It was stopped: no report was made."
    assert not any(map(pages.lives, kernels))
    assert pages.rooms(tmp_path) == []
    assert shelf_of(environment) == []
