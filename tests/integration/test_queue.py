"""The queue: workers run the tasks that are on the list, and nothing that anyone else put there."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from rq import Queue
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from sqlalchemy import text
from structlog.testing import capture_logs

from jobs import lease, schedule, tasks
from jobs.lease import Lease
from jobs.queue import ALLOWED, RETRIES, TIMEOUT_S, AllowedJob, enqueue, queue
from jobs.schedule import Entry, enqueue_due, keep
from jobs.worker import worker
from pipeline.event import encode
from pipeline.pulse import Pulse
from tests.conftest import World
from tests.integration.consuming import is_drained, now_ms, until, working
from tests.unit.samples import chains

# Reports are made by others: see tests/notebooks.
TURNS: Final = sum(entry.task is not tasks.make_report for entry in schedule.SCHEDULE)


@pytest.fixture
def connection(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """RQ's Redis: another database than the stream's."""
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    database = world.client.connection_pool.connection_kwargs["db"]
    client = redis.Redis.from_url(world.redis_url.replace(f"db={database}", "db=0"))
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


def run_all(connection: redis.Redis) -> None:
    """Let a worker run whatever is on the queue."""
    worker(connection, Pulse(), forks=False).work(burst=True)


def poisoned(connection: redis.Redis, function: str, *arguments: Any, **options: Any) -> Job:
    """A job that somebody else put there, in the same form as ours."""
    return Queue("infamous", connection=connection, serializer=JSONSerializer).enqueue(
        function, args=arguments, **options
    )


def test_a_worker_does_the_tasks(
    world: World, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partitions, rollups and a trim, as RQ runs them, do what the same jobs do by hand."""
    monkeypatch.setattr(tasks, "SHORTEST_KEEP_S", 0.0)
    events = [encode(event) for event in chains(60, start_ms=now_ms() - 60_000)]
    with working(world):
        for some in (events[:30], events[30:]):
            world.source.append(some)
            until(lambda: is_drained(world), "the stream to drain")
    done = [
        enqueue(connection, tasks.make_partitions),
        enqueue(connection, tasks.roll_up, hours=2),
        enqueue(connection, tasks.trim_stream, keep_s=0.0),
    ]
    run_all(connection)
    assert [job.get_status() for job in done] == [JobStatus.FINISHED] * 3
    partitions, rolled_up, trimmed = (job.return_value() or {} for job in done)
    assert partitions == {"made": 0, "ahead_days": 7}
    assert world.count("hourly_rollups") == rolled_up["rows"] > 0
    assert trimmed["entries"] == 60 - world.client.xlen(world.source.key) >= 30


@pytest.mark.usefixtures("connection")
def test_a_rollup_takes_up_what_it_missed(world: World) -> None:
    """The first one begins with the first event; after an outage, one begins where the last one ended."""
    hour_ms = 3_600_000
    for days_ago in (3, 1):
        world.source.append(
            [encode(e) for e in chains(40, start_ms=now_ms() - days_ago * 24 * hour_ms)]
        )
    with working(world):
        until(lambda: is_drained(world), "the stream to drain")
    first = tasks.roll_up(hours=2)
    # The day between has no partition, and so no hours.
    assert 72 <= first["hours"] + first["without_raw"] <= 74
    with world.engine.begin() as database:
        database.execute(
            text("delete from hourly_rollups where hour > now() - interval '25 hours'")
        )
        rows = "select max(hour) < now() - interval '24 hours' from hourly_rollups"
        assert database.execute(text(rows)).scalar_one()
    assert tasks.roll_up(hours=2)["hours"] > 24
    assert world.count("hourly_rollups") == first["rows"]
    assert tasks.roll_up(hours=2)["hours"] <= 26


@pytest.mark.usefixtures("connection")
def test_a_rollup_that_takes_too_long_goes_on_in_the_next_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended by the queue in the middle of a day, it would begin with the same hour for ever."""
    start_ms = now_ms() - 20 * 24 * 3_600_000
    world.source.append([encode(e) for e in chains(40, start_ms=start_ms)])
    with working(world):
        until(lambda: is_drained(world), "the stream to drain")
    with monkeypatch.context() as patched:
        patched.setattr(tasks, "MOST_ROLLING_S", 0.0)
        assert not tasks.roll_up(hours=2)["is_complete"]
    assert tasks.roll_up(hours=2)["is_complete"]


def test_what_is_not_on_the_list_is_not_run(connection: redis.Redis, tmp_path: Path) -> None:
    """A job that names os.system, or anything of ours that is no task, fails without running."""
    mark = tmp_path / "was here"
    jobs = [
        poisoned(connection, "os.system", f"touch '{mark}'"),
        poisoned(connection, "jobs.tasks._engine"),
        poisoned(connection, "pathlib.Path.touch", str(mark)),
    ]
    run_all(connection)
    for job in jobs:
        assert job.get_status() is JobStatus.FAILED
        result = job.latest_result()
        assert result is not None
        assert "is no task of this pipeline" in (result.exc_string or "")
    assert not mark.exists()


def strange(*_: object) -> None:
    """A callback that somebody else thought of."""
    CALLED.append(1)


CALLED: list[int] = []


@pytest.mark.parametrize("kind", ["success", "failure", "stopped"])
def test_callbacks_are_not_called(connection: redis.Redis, kind: str) -> None:
    """An allowed task does not take a stranger's callback along: neither is run."""
    job = enqueue(connection, tasks.make_partitions)
    connection.hset(job.key, f"{kind}_callback_name", f"{__name__}.strange")
    run_all(connection)
    assert job.get_status() is JobStatus.FAILED
    assert CALLED == []


def test_webhooks_are_not_sent(connection: redis.Redis) -> None:
    """A job does not choose an address that the worker calls from inside the network."""
    with socket.create_server(("127.0.0.1", 0)) as ear:
        ear.settimeout(0)
        url = f"http://127.0.0.1:{ear.getsockname()[1]}/"
        job = enqueue(connection, tasks.make_partitions)
        connection.hset(job.key, "webhooks", json.dumps([{"url": url, "job_status": "finished"}]))
        run_all(connection)
        assert job.get_status() is JobStatus.FINISHED
        with pytest.raises(BlockingIOError):
            ear.accept()


def test_nothing_is_unpickled(connection: redis.Redis, tmp_path: Path) -> None:
    """A job whose data is a pickle that runs a command when it is read is refused unread."""
    mark = tmp_path / "was here"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch '{mark}'",)

    job = enqueue(connection, tasks.make_partitions)
    connection.hset(
        job.key, "data", pickle.dumps(("jobs.tasks.make_partitions", None, (Bomb(),), {}))
    )
    run_all(connection)
    assert job.get_status() is JobStatus.FAILED
    assert not mark.exists()


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        (tasks.trim_stream, {"keep_s": 0.0}),
        (tasks.trim_stream, {"keep_s": float("nan")}),
        (tasks.roll_up, {"hours": 10**9}),
        (tasks.roll_up, {"hours": -1}),
        (tasks.end_long_questions, {"at_most_s": 0}),
    ],
)
def test_a_task_is_done_within_reason(
    world: World, connection: redis.Redis, task: Callable[..., Any], arguments: dict[str, Any]
) -> None:
    """Arguments are whoever's who could reach the queue: the history is not theirs to drop."""
    events = [encode(event) for event in chains(10, start_ms=now_ms() - 60_000)]
    world.source.append(events)
    with working(world):
        until(lambda: is_drained(world), "the stream to drain")
    job = enqueue(connection, task, **arguments)
    run_all(connection)
    assert job.get_status() is JobStatus.FAILED
    assert world.client.xlen(world.source.key) == len(events)


def test_a_job_runs_once(connection: redis.Redis) -> None:
    """However often its hash says, and as long as ours may, not as it says."""
    job = enqueue(connection, tasks.make_partitions)
    steered: dict[Any, Any] = {
        "repeats_left": 5,
        "repeat_intervals": "[0]",
        "retries_left": 5,
        "timeout": -1,
    }
    connection.hset(job.key, mapping=steered)
    run_all(connection)
    assert queue(connection).count == 0
    read = AllowedJob.fetch(job.id, connection, JSONSerializer)
    assert (read.repeats_left, read.retries_left) == (None, RETRIES)
    assert read.timeout == TIMEOUT_S
    assert queue(connection).finished_job_registry.count == 1


@pytest.mark.parametrize("forks", [True, False])
def test_a_job_runs_in_a_process_of_its_own_or_in_this_one(
    connection: redis.Redis, monkeypatch: pytest.MonkeyPatch, forks: bool
) -> None:
    """As it was asked for: without a fork nothing is to be loaded and left again with every job."""
    monkeypatch.setitem(ALLOWED, "jobs.tasks.make_partitions", os.getpid)
    job = enqueue(connection, tasks.make_partitions)
    worker(connection, Pulse(), forks=forks).work(burst=True)
    assert (job.return_value() == os.getpid()) is not forks


def test_a_task_that_fails_is_run_once_more(
    connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was away for an instant costs no turn; one that stays away is not called for ever."""

    def fail(*, times: int) -> None:
        if connection.incr("runs") <= times:
            raise ConnectionError("away")

    for times, outcome in ((1, JobStatus.FINISHED), (9, JobStatus.FAILED)):
        connection.delete("runs")
        monkeypatch.setitem(ALLOWED, "jobs.tasks.make_partitions", partial(fail, times=times))
        job = enqueue(connection, tasks.make_partitions)
        run_all(connection)
        assert connection.get("runs") == b"%d" % (1 + RETRIES)
        assert job.get_status() is outcome


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "garbage"),
        ("created_at", "garbage"),
        ("timeout", "garbage"),
        ("dependency_ids", "garbage"),
        ("origin", b"\xff"),
        (None, "a job\nwith an end of a line"),
    ],
)
def test_a_job_that_cannot_be_read_harms_nobody(
    connection: redis.Redis, field: str | None, value: str | bytes
) -> None:
    """A worker leaves it out, says so, and goes on with the next."""
    if field is None:
        connection.rpush("rq:queue:infamous", value)
    else:
        bad = enqueue(connection, tasks.make_partitions)
        connection.hset(bad.key, field, value)
    good = enqueue(connection, tasks.make_partitions)
    laborer = worker(connection, Pulse(), forks=False)
    with capture_logs() as lines:
        laborer.work(burst=True)
        laborer.run_maintenance_tasks()  # type: ignore[no-untyped-call]
    assert good.get_status() is JobStatus.FINISHED
    assert any("cannot be read is left out" in line["event"] for line in lines)
    assert connection.lrange("rq:queue:infamous:intermediate", 0, -1) == []


def test_two_schedulers_enqueue_a_turn_once(connection: redis.Redis) -> None:
    """Whoever comes second finds the turn there, before it ran as well as after."""
    now_s = time.time()
    first = enqueue_due(connection, now_s)
    assert len(first) == len(schedule.SCHEDULE)
    assert enqueue_due(connection, now_s) == []
    run_all(connection)
    assert enqueue_due(connection, now_s) == []
    assert queue(connection).count == 0


def test_the_scheduler_keeps_time(connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """It enqueues at once what is due, then turn after turn, and stops when told to."""
    every_second = (Entry(tasks.make_partitions, 1),)
    monkeypatch.setattr(
        schedule, "enqueue_due", lambda c, now_s: enqueue_due(c, now_s, every_second)
    )
    monkeypatch.setattr(schedule, "next_s", lambda now_s: schedule.turn(every_second[0], now_s) + 1)
    stop, told = threading.Event(), []

    def tell(name: str) -> None:
        told.append(name)
        if len(told) == 3:
            stop.set()

    keep(connection, stop, Pulse(), tell)
    turns = [int(name.rpartition("-")[2]) for name in told]
    assert turns == sorted(set(turns))
    assert turns[-1] - turns[0] <= 4


def test_a_lease_is_one_schedulers_until_it_runs_out(connection: redis.Redis) -> None:
    """Renewed it stays; who was frozen for too long finds that another has it, and takes nothing away."""
    first, second = Lease(connection), Lease(connection)
    for _ in range(2):
        assert (first.take(), second.take()) == (True, False)
    assert 0 < connection.pttl(lease.KEY) <= lease.LEASE_S * 1000
    connection.delete(lease.KEY)
    assert (second.take(), first.take()) == (True, False)
    first.give_back()
    assert not first.take()
    second.give_back()
    assert first.take()


@contextmanager
def process(world: World, command: str, tmp_path: Path, **variables: str) -> Iterator[Any]:
    """``python -m jobs work`` or ``schedule``, with a liveness file."""
    database = world.client.connection_pool.connection_kwargs["db"]
    environment = {
        **os.environ,
        **world.environment,
        "RQ_REDIS_URL": world.redis_url.replace(f"db={database}", "db=0"),
        "LIVENESS_FILE": str(tmp_path / f"{command}.alive"),
        **variables,
    }
    with (tmp_path / f"{command}.log").open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "jobs", command],
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


def test_the_two_processes_work_together(
    world: World, connection: redis.Redis, tmp_path: Path
) -> None:
    """`schedule` puts what is due on the queue, `work` does it; both beat, log a line, and end at SIGTERM."""
    with (
        process(world, "schedule", tmp_path, LOG_LEVEL="debug") as scheduler,
        process(world, "work", tmp_path, LOG_FORMAT="json") as laborer,
    ):
        jobs = queue(connection)
        until(
            lambda: jobs.finished_job_registry.count == TURNS,
            "the jobs to be done",
        )
        assert (tmp_path / "schedule.alive").exists()
        assert (tmp_path / "work.alive").exists()
        for child in (scheduler, laborer):
            child.send_signal(signal.SIGTERM)
        assert scheduler.wait(20) == 0
        assert laborer.wait(20) == 0
    lines = (tmp_path / "work.log").read_text().splitlines()
    assert all(json.loads(line)["event"] for line in lines)
    assert "A job is due" in (tmp_path / "schedule.log").read_text()


def test_of_two_schedulers_one_schedules_and_the_other_takes_over(
    world: World, connection: redis.Redis, tmp_path: Path
) -> None:
    """Started at once, they have each turn run once; when the one at work is killed, the other goes on."""
    homes = [tmp_path / "first", tmp_path / "second"]
    for home in homes:
        home.mkdir()

    def said(home: Path, words: str) -> int:
        return (home / "schedule.log").read_text().count(words)

    with (
        process(world, "work", tmp_path),
        process(world, "schedule", homes[0], LOG_LEVEL="debug") as first,
        process(world, "schedule", homes[1], LOG_LEVEL="debug") as second,
    ):
        jobs = queue(connection)
        until(
            lambda: jobs.finished_job_registry.count >= TURNS,
            "the jobs to be done",
        )
        until(lambda: any(said(home, "standing by") for home in homes), "the other to stand by")
        due = [said(home, "A job is due") for home in homes]
        at_work = due.index(max(due))
        assert min(due) == 0
        for job_id in jobs.finished_job_registry.get_job_ids():
            job = jobs.fetch_job(job_id)
            assert job is not None
            assert len(job.results()) == 1
        (first, second)[at_work].kill()
        # A turn that the killed one did not come to.
        turn = f"make_partitions-{schedule.turn(schedule.SCHEDULE[0], time.time())}"
        AllowedJob.fetch(turn, connection, JSONSerializer).delete()
        heir = homes[1 - at_work]
        until(lambda: said(heir, "taking over") == 1, "the other to take over")
        until(lambda: jobs.fetch_job(turn), "the turn to be enqueued")
        assert said(heir, "standing by") == 1


def test_rq_s_own_worker_can_be_used(world: World, connection: redis.Redis, tmp_path: Path) -> None:
    """`rq worker` with our job class and serializer does the tasks, and refuses the rest as well."""
    good = enqueue(connection, tasks.make_partitions)
    bad = poisoned(connection, "os.system", "true")
    database = world.client.connection_pool.connection_kwargs["db"]
    subprocess.run(
        [
            *(sys.executable, "-m", "rq.cli", "worker", "--burst", "infamous"),
            *("--job-class", "jobs.queue.AllowedJob"),
            *("--serializer", "rq.serializers.JSONSerializer"),
        ],
        env={
            **os.environ,
            **world.environment,
            "RQ_REDIS_URL": world.redis_url.replace(f"db={database}", "db=0"),
        },
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert good.get_status() is JobStatus.FINISHED
    assert bad.get_status() is JobStatus.FAILED
    assert isinstance(queue(connection).fetch_job(good.id), AllowedJob)


def test_a_worker_outlives_a_redis_that_is_full(
    world: World, connection: redis.Redis, tmp_path: Path
) -> None:
    """It cannot even register, nor can a job that trims be put on the queue: it trims, and goes on."""
    limit = world.client.config_get("maxmemory")["maxmemory"]
    old_ms = now_ms() - 2 * 86_400_000
    for number in range(250):
        world.client.xadd(world.source.key, {"event": b"old"}, id=f"{old_ms}-{number + 1}")
    world.client.xgroup_create(world.source.key, world.source.group, id="$")
    world.client.config_set("maxmemory", "1")
    try:
        with process(world, "work", tmp_path) as laborer:
            until(lambda: world.client.xlen(world.source.key) < 250, "the stream to be trimmed")
            assert laborer.poll() is None
            world.client.config_set("maxmemory", str(limit))
            job = enqueue(connection, tasks.prune_health)
            until(lambda: job.get_status(refresh=True) == "finished", "the job to be done")
            laborer.send_signal(signal.SIGTERM)
            assert laborer.wait(20) == 0
    finally:
        world.client.config_set("maxmemory", str(limit))
