"""Processes under watch: what they serve, the file that shows they live, and what they refuse to go on with.

Most of the time of a test is Python's start, so the processes of a test start together.
"""

from __future__ import annotations

import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from pipeline.event import encode
from tests.acceptance.processes import Launcher, Process, Result, wait_until
from tests.conftest import World
from tests.integration.consuming import is_drained, now_ms
from tests.unit.samples import chains
from tests.unit.test_metrics import scraped

CONSUMER, PRODUCER = ("consumer",), ("producer", "--rate", "20", "--players", "5")


def asked(world: World, query: str) -> Any:
    """The one value a query answers."""
    with world.engine.connect() as connection:
        return connection.execute(text(query)).scalar_one()


def metrics_port(process: Process) -> int:
    """The port it says it serves metrics on."""

    def found() -> re.Match[str] | None:
        return re.search(r"http://127\.0\.0\.1:(\d+)/metrics", process.err())

    wait_until(lambda: found() is not None, "it says where its metrics are")
    match = found()
    assert match
    return int(match[1])


def listens(process: Process) -> bool:
    """Whether a TCP socket of the process waits for connections."""
    own = set()
    for number in Path(f"/proc/{process.pid}/fd").iterdir():
        target = str(number.readlink())
        if target.startswith("socket:["):
            own.add(target.removeprefix("socket:[").removesuffix("]"))
    waiting = set()
    for family in ("tcp", "tcp6"):
        table = Path(f"/proc/{process.pid}/net/{family}")
        lines = table.read_text(encoding="ascii").splitlines()[1:] if table.exists() else []
        waiting |= {line.split()[9] for line in lines if line.split()[3] == "0A"}
    return bool(own & waiting)


def sentences(result: Result) -> list[str]:
    """What it says outside its log."""
    logged = (" [warning", " [info", " [error")
    return [
        line
        for line in result.err.splitlines()
        if line.strip() and not any(mark in line for mark in logged)
    ]


def assert_refused(result: Result, code: int, *words: str) -> None:
    """One sentence with these words, the exit code, and no traceback."""
    assert result.code == code, result.text
    assert "Traceback" not in result.err, result.text
    (sentence,) = sentences(result)
    assert sentence.endswith("."), sentence
    for word in words:
        assert word in sentence, sentence


# --- metrics


def test_each_process_serves_its_numbers(launch: Launcher, world: World) -> None:
    """What was sent is what was stored, by their own numbers and by the table; without a port, no door."""
    environment = world.environment | {"METRICS_PORT": "0"}
    consumer = launch.fork(*CONSUMER, environment=environment)
    producer = launch.fork(*PRODUCER, "--count", "40", environment=environment)
    closed = [
        launch.fork(*command, environment=world.environment)
        for command in (CONSUMER, ("producer", "--rate", "0.1", "--players", "5"))
    ]
    sent = scraped(metrics_port(producer))
    assert 0 <= sent["infamous_sent_events_total", ()] <= 40
    assert sent["infamous_waiting", (("server", "Redis"),)] == 0
    assert sent["infamous_beat_timestamp_seconds", ()] > 0
    assert producer.wait(20).code == 0
    for process, words in zip(closed, ("Consuming", "Playing"), strict=True):
        wait_until(lambda p=process, w=words: w in p.err(), "it works")  # type: ignore[misc]
        assert not listens(process)
        assert "Serving metrics" not in process.err()
    assert listens(consumer)
    assert closed[1].end().code == closed[0].end().code == 0
    wait_until(lambda: is_drained(world), "the stream is drained")
    port = metrics_port(consumer)
    stored = scraped(port)["infamous_stored_events_total", ()]
    counted = asked(world, "select sum(stored) from pipeline_health")
    assert 0 <= stored <= counted == world.count("game_events") >= 40
    assert consumer.end().code == 0
    with socket.create_server(("127.0.0.1", port)):
        pass  # given back


def test_a_port_that_is_taken_is_told(launch: Launcher, world: World) -> None:
    """Nobody finds out from an empty dashboard: exit 2 and a sentence, before anything is done."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        environment = world.environment | {"METRICS_PORT": port}
        started = [launch.fork(*c, environment=environment) for c in (CONSUMER, PRODUCER)]
        for process in started:
            assert_refused(process.wait(20), 2, f"METRICS_PORT={port} ", "it is taken")
    assert not world.source.state().exists


# --- the file that shows that it lives


def mtime(path: Path) -> int:
    """When it was touched last; 0 when it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def beat(paths: list[Path]) -> None:
    """Wait until each of the files is touched anew."""
    before = [mtime(path) for path in paths]
    wait_until(
        lambda: all(mtime(path) > then for path, then in zip(paths, before, strict=True)),
        "the files are touched",
    )


def test_the_file_is_touched_while_the_loop_turns(
    launch: Launcher, world: World, tmp_path: Path
) -> None:
    """It grows old when the process hangs, young again when it goes on, and is gone when it ended."""
    files = [tmp_path / "consumer", tmp_path / "producer"]
    started = [
        launch.fork(*command, environment=world.environment | {"LIVENESS_FILE": str(path)})
        for command, path in zip((CONSUMER, ("producer", "--rate", "0.01")), files, strict=True)
    ]
    beat(files)
    beat(files)
    for process in started:
        process.send(signal.SIGSTOP)
    frozen = [mtime(path) for path in files]
    threading.Event().wait(2.5)
    assert [mtime(path) for path in files] == frozen
    for process in started:
        process.send(signal.SIGCONT)
    beat(files)
    for process in started:
        assert process.end().code == 0, process.shown()
    assert [path.exists() for path in files] == [False, False]


def test_waiting_for_a_server_is_no_hanging(launch: Launcher, world: World, tmp_path: Path) -> None:
    """Whoever restarts what hangs must not restart what waits: that would never be there when needed."""
    nowhere = {
        "redis": {"REDIS_URL": "redis://127.0.0.1:1"},
        "postgres": {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"},
    }
    cases = [(CONSUMER, "redis"), (CONSUMER, "postgres"), (PRODUCER, "redis")]
    files, started = [], []
    for number, (command, missing) in enumerate(cases):
        files.append(tmp_path / str(number))
        environment = world.environment | nowhere[missing] | {"LIVENESS_FILE": str(files[-1])}
        started.append(launch.fork(*command, environment=environment))
    for process in started:
        wait_until(lambda p=process: "is away" in p.err(), "it waits")  # type: ignore[misc]
    beat(files)
    for process, path in zip(started, files, strict=True):
        ended = process.end()
        assert (ended.code, path.exists()) == (0, False), ended.text
        assert "Traceback" not in ended.err


def test_a_file_that_cannot_be_touched_is_told(
    launch: Launcher, world: World, tmp_path: Path
) -> None:
    """A wrong path is a sentence at the start, not a process that is killed every minute."""
    environment = world.environment | {"LIVENESS_FILE": str(tmp_path / "no such folder" / "x")}
    started = [launch.fork(*c, environment=environment) for c in (CONSUMER, PRODUCER)]
    for process in started:
        assert_refused(process.wait(20), 2, "LIVENESS_FILE=", "No such file or directory")


# --- what they do not go on with


@contextmanager
def policy(world: World, name: str) -> Iterator[None]:
    """Another maxmemory-policy for the length of a block."""
    before = world.client.config_get("maxmemory-policy")["maxmemory-policy"]
    world.client.config_set("maxmemory-policy", name)
    try:
        yield
    finally:
        world.client.config_set("maxmemory-policy", str(before))


def test_a_redis_that_evicts_is_refused(launch: Launcher, world: World) -> None:
    """Neither sends to it nor reads from it: one day it would drop the stream with all that waits."""
    with policy(world, "allkeys-lru"):
        started = [launch.fork(*c, environment=world.environment) for c in (CONSUMER, PRODUCER)]
        for process in started:
            assert_refused(process.wait(20), 1, "allkeys-lru", "noeviction")
    assert not world.source.state().exists


@pytest.mark.parametrize("limit", ["3", None])
def test_too_many_bad_entries_stop_a_consumer_that_has_a_limit(
    launch: Launcher, world: World, limit: str | None
) -> None:
    """With a limit: exit 1, a sentence, and all of the batch still owed. Without one it goes on."""
    events = [encode(event) for event in chains(50, start_ms=now_ms() - 60_000)]
    world.source.append([*events, *(b"bad %d" % number for number in range(4))])
    more = {} if limit is None else {"QUARANTINE_LIMIT": limit}
    consumer = launch.fork(*CONSUMER, environment=world.environment | more)
    if limit is not None:
        assert_refused(consumer.wait(20), 1, "More than 3 of", "QUARANTINE_LIMIT")
        assert world.count("game_events") == world.count("quarantined_events") == 0
        assert world.source.state().pending == 54
        return
    wait_until(lambda: is_drained(world), "it goes on")
    assert consumer.lives
    assert (world.count("game_events"), world.count("quarantined_events")) == (50, 4)
    assert consumer.end().code == 0
