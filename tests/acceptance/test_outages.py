"""Servers that go away, hang, or are full: the pipeline waits, says so once, and loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from infamous.embedded import binaries
from pipeline import stream
from pipeline.streams import Streams
from tests.acceptance.processes import (
    Launcher,
    Process,
    assert_nothing_left,
    assert_whole,
    facts_of,
    looking_into,
    processes_of,
    wait_until,
)
from tests.conftest import World

PLAYERS = ("--players", "20")


def server_pid(home: Path, name: str) -> int:
    """The pid of an embedded server, as the keeper tells."""
    state = json.loads((home / "servers.json").read_text(encoding="utf-8"))
    return int(state[name]["pid"])


def lines_with(process: Process, words: str) -> list[str]:
    """Lines of its log that hold these words."""
    return [line for line in process.err().splitlines() if words in line]


@pytest.mark.parametrize(
    ("name", "title"), [("postgres", "Postgres"), ("redis", "Redis")], ids=["postgres", "redis"]
)
def test_a_server_killed_and_frozen_under_the_pipeline(
    launch: Launcher, ready_home: Path, name: str, title: str
) -> None:
    """kill -9 of an embedded server, then a long freeze: one line for each end, everything arrives."""
    home = ready_home
    environment = {"INFAMOUS_HOME": str(home), "CLAIM_AFTER_S": "2"}
    producer = launch.start(
        "infamous", "produce", "--rate", "50", *PLAYERS, environment=environment
    )
    consumer = launch.start("infamous", "consume", environment=environment)
    # Who talks to which server: the producer knows only Redis.
    waiters = [consumer] if name == "postgres" else [producer, consumer]
    with looking_into(home) as (streams, engine):

        def more_rows(number: int) -> None:
            before = facts_of(streams, engine).rows
            wait_until(
                lambda: facts_of(streams, engine).rows >= before + number, "rows are stored", 30
            )

        wait_until(lambda: "Consuming" in consumer.err(), "the consumer consumes")
        more_rows(50)
        os.kill(server_pid(home, name), signal.SIGKILL)
        for process in waiters:
            wait_until(lambda p=process: len(lines_with(p, f"{title} is back")) == 1, "back", 20)  # type: ignore[misc]
        more_rows(50)
        for process in waiters:
            assert len(lines_with(process, f"{title} is away")) == 1, process.shown()

        frozen = [pid for pid in processes_of(home) if is_of(pid, name)]
        assert frozen
        send(signal.SIGSTOP, frozen)
        try:
            if name == "redis":
                for process in waiters:
                    wait_until(
                        lambda p=process: len(lines_with(p, "Redis is away")) == 2,  # type: ignore[misc]
                        "the freeze is noticed",
                        20,
                    )
            else:
                before = streams.state().added or 0
                wait_until(
                    lambda: (streams.state().added or 0) > before + 100, "it goes on meanwhile", 10
                )
        finally:
            send(signal.SIGCONT, frozen)
        more_rows(100)
        for process in waiters:
            away, back = (lines_with(process, f"{title} is {word}") for word in ("away", "back"))
            assert len(away) == len(back), process.shown()
        done = producer.end()
        assert done.code == 0, done.text
        wait_until(lambda: facts_of(streams, engine).is_drained, "it is drained")
        facts = facts_of(streams, engine)
        assert_whole(facts)
        assert f"sent={facts.produced}" in done.err
        ended = consumer.end()
        assert ended.code == 0, ended.text
        for result in (done, ended):
            assert "Traceback" not in result.err
    assert_nothing_left(home, within_s=5)


def send(number: signal.Signals, pids: list[int]) -> None:
    """Signal them all; some of a server's processes come and go."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def is_of(pid: int, name: str) -> bool:
    """Whether a process belongs to that embedded server; the keeper and Python do not."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0", 1)[0]
    except OSError:  # it ended meanwhile
        return False
    return b"postgres" in command if name == "postgres" else b"server" in command


def start_redis(folder: Path) -> subprocess.Popen[bytes]:
    """A Redis of the test's own, which nobody restarts; waits until it answers."""
    program = binaries.redis(None, ()).path
    options = {"port": "0", "unixsocket": "r.sock", "dir": str(folder), "appendonly": "yes"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen([program, *words], cwd=folder, stdout=subprocess.DEVNULL)
    client = stream.connect(f"unix://{folder}/r.sock")
    wait_until(lambda: answers(client), "Redis answers")
    client.close()
    return process


def answers(client: redis.Redis) -> bool:
    """Whether the server is there."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_a_stop_while_redis_is_gone_ends_in_order(
    world: World, launch: Launcher, home: Path
) -> None:
    """SIGTERM in an outage: producer and consumer end with 0 within 10 s; the next ones go on."""
    home.mkdir()
    server = start_redis(home)
    try:
        streams = Streams(f"unix://{home}/r.sock")
        environment = world.environment | {"REDIS_URL": f"unix://{home}/r.sock"}
        produce = ("producer", "--rate", "50", *PLAYERS)
        processes = [
            launch.fork(*produce, environment=environment),
            launch.fork("consumer", environment=environment),
        ]
        wait_until(lambda: world.count("game_events") > 20, "rows are stored")
        server.kill()
        server.wait(10)
        for process in processes:
            wait_until(lambda p=process: "Redis is away" in p.err(), "it waits for Redis")  # type: ignore[misc]
        results = [process.end(within_s=10) for process in processes]
        for result in results:
            assert result.code == 0, result.text
            assert "Traceback" not in result.err
        server = start_redis(home)
        heir = launch.fork("consumer", environment=environment | {"CLAIM_AFTER_S": "1"})
        again = launch.run(*produce, "--count", "50", environment=environment)
        assert again.code == 0, again.text
        wait_until(lambda: facts_of(streams, world.engine).is_drained, "it is drained")
        assert_whole(facts_of(streams, world.engine))
        assert heir.end().code == 0
        streams.close()
    finally:
        server.kill()
        server.wait(10)


@contextmanager
def refusing_writes(client: redis.Redis, name: str, value: str) -> Iterator[None]:
    """A Redis that takes no more writes for as long as the block lasts."""
    client.config_set(name, value)
    try:
        yield
    finally:
        client.config_set(name, 0)


def test_a_redis_that_refuses_writes_is_waited_for(world: World, launch: Launcher) -> None:
    """Without enough replicas, as on a full disk, Redis refuses: nobody dies and nothing is skipped."""
    consumer = launch.fork("consumer", environment=world.environment)
    producer = launch.fork("producer", "--rate", "200", *PLAYERS, environment=world.environment)
    wait_until(lambda: world.count("game_events") > 50, "rows are stored")
    with refusing_writes(world.client, "min-replicas-to-write", "1"):
        for process in (producer, consumer):
            wait_until(
                lambda p=process: lines_with(p, "Redis is away") != [] or not p.lives,  # type: ignore[misc]
                "it waits",
            )
            assert process.lives, process.shown()
            assert "NOREPLICAS" in lines_with(process, "Redis is away")[0]
    for process in (producer, consumer):
        wait_until(lambda p=process: lines_with(p, "Redis is back") != [], "it goes on")  # type: ignore[misc]
    done = producer.end()
    assert done.code == 0, done.text
    wait_until(lambda: facts_of(world.streams, world.engine).is_drained, "it is drained")
    assert_whole(facts_of(world.streams, world.engine))
    assert consumer.end().code == 0


def test_a_full_redis_holds_the_producer_up_and_skips_nothing(
    world: World, launch: Launcher
) -> None:
    """Out of memory: the producer says it once and waits; the consumer drains; nothing is skipped."""
    consumer = launch.fork("consumer", environment=world.environment)
    producer = launch.fork("producer", "--rate", "200", *PLAYERS, environment=world.environment)
    wait_until(lambda: world.count("game_events") > 100, "rows are stored")
    with refusing_writes(world.client, "maxmemory", "1mb"):
        wait_until(lambda: lines_with(producer, "Redis is full") != [], "the producer waits")
        state = world.source.state()
        wait_until(lambda: world.source.state().undelivered == 0, "what is there is drained")
        wait_until(lambda: world.source.state().pending == 0, "what is there is drained")
        assert world.source.state().added == state.added, "it went on adding"
        assert lines_with(consumer, "is away") == []
        assert producer.lives
    wait_until(lambda: lines_with(producer, "Redis is back") != [], "the producer goes on")
    before = world.count("game_events")
    wait_until(lambda: world.count("game_events") > before + 200, "rows are stored again")
    done = producer.end()
    assert done.code == 0, done.text
    assert len(lines_with(producer, "Redis is full")) == 1
    assert "OOM" in lines_with(producer, "Redis is full")[0] or "memory" in done.err
    wait_until(lambda: facts_of(world.streams, world.engine).is_drained, "it is drained")
    assert_whole(facts_of(world.streams, world.engine))
    assert consumer.end().code == 0


def test_up_lives_through_a_dead_server(launch: Launcher, ready_home: Path) -> None:
    """``up`` shows that a server is away, goes on when it is back, and accounts for every event."""
    home = ready_home
    process = launch.start(
        *("infamous", "up", "--history", "0", "--rate", "50", *PLAYERS),
        environment={"INFAMOUS_HOME": str(home)},
    )
    wait_until(lambda: "rows" in process.out(), "it is live")
    for name in ("postgres", "redis"):
        former = server_pid(home, name)
        os.kill(former, signal.SIGKILL)
        wait_until(lambda n=name, f=former: has_successor(home, n, f), "it is back", 20)  # type: ignore[misc]
    # Its log need not tell: who was waiting for the one server may never notice that the other was away.
    with looking_into(home) as (streams, engine):
        before = facts_of(streams, engine).rows
        wait_until(lambda: facts_of(streams, engine).rows > before + 100, "the consumers go on")
    stopped = process.end()
    assert stopped.code == 0, stopped.text
    assert stopped.out.strip().endswith("nothing waits."), stopped.text
    assert_nothing_left(home)
    with looking_into(home) as (streams, engine):
        assert_whole(facts_of(streams, engine))


def has_successor(home: Path, name: str, former: int) -> bool:
    """Whether the keeper tells of a new process of the server."""
    try:
        return server_pid(home, name) != former
    except (KeyError, FileNotFoundError):
        return False


def test_a_password_is_never_shown(world: World, launch: Launcher) -> None:
    """Neither a log nor a complaint of any command holds the password of a URL, however it is written."""
    postgres, host = world.database_url, world.redis_url.split("://", 1)[1]
    pairs = (
        (postgres.replace("infamous@/", "infamous:s3cr3t-pw@/"), world.redis_url),
        (f"{postgres}&password=s3cr3t-pw", world.redis_url),
        (postgres, f"unix://:s3cr3t-pw@{host}"),
        (postgres, f"{world.redis_url}&password=s3cr3t-pw"),
    )
    processes = [
        launch.fork(
            *command,
            environment={"DATABASE_URL": database, "REDIS_URL": redis, "CONNECT_TIMEOUT_S": "1"},
        )
        for database, redis in pairs
        for command in (("producer", "--count", "1"), ("infamous", "status"), ("consumer",))
    ]
    for process in processes:
        wait_until(lambda p=process: p.err() + p.out() != "", "it says something")  # type: ignore[misc]
        if process.lives and process in processes[2::3]:
            process.send(signal.SIGTERM)
        result = process.wait(10)
        assert "s3cr3t-pw" not in result.text, result.text
        assert "Traceback" not in result.err, result.text
