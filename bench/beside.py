"""The peers beside us: the same events flow in; how many rows a second others make of them flows out.

Each peer queues all events by its own means before its worker starts; the clock runs from the first row that
is seen to the last, so that no start-up counts. Job queues work with as many processes as the machine has
cores; RQ, which forks for every job, with one.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench import crew, ingest
from bench.case import Case, Group
from bench.crew import Process
from bench.house import BenchError, House
from bench.scale import Scale
from bench.workload import HOUR_MS, simulated
from pipeline.event import encode

SECTION: Final = "peers"
PYTHON: Final = Path(__file__).resolve().parent / ".venv" / "bin" / "python"
OURS: Final = "one consumer"

_RATE: Final = "events/s"
_AT_MOST_S: Final = 300.0
_POLL_S: Final = 0.01
_CORES: Final = str(os.cpu_count() or 1)
COUNT: Final = "select count(*) from game_events"


@dataclass(frozen=True)
class Peer:
    """Who does the same work."""

    name: str
    module: str
    worker: tuple[str, ...]
    # Slow ones get only so great a part of the events: one in so many.
    one_in: int = 1


PEERS: Final = (
    Peer(
        "redis-py + session.add_all",
        "bench.peers.session_loop",
        ("bench.peers.session_loop", "work"),
    ),
    Peer(
        "FastStream batches + SQLAlchemy",
        "bench.peers.faststream_batch",
        ("bench.peers.faststream_batch", "work"),
    ),
    Peer(
        "taskiq, a task an event",
        "bench.peers.taskiq_jobs",
        (
            *("taskiq", "worker", "bench.peers.taskiq_jobs:broker"),
            *("--workers", _CORES, "--log-level", "WARNING"),
        ),
        one_in=2,
    ),
    Peer(
        "Celery, a task an event",
        "bench.peers.celery_jobs",
        ("celery", "-A", "bench.peers.celery_jobs", "worker", "-c", _CORES, "-l", "WARNING"),
        one_in=2,
    ),
    Peer("RQ, a job an event", "bench.peers.rq_jobs", ("bench.peers.rq_jobs", "work"), one_in=100),
)


def groups(house: House, scale: Scale) -> Iterator[Group]:
    """We and they, with the same events."""
    house.keep(0)
    events = scale.peer_events
    ours = Case(OURS, lambda: ingest.load_rate(house, events, 1), _RATE)
    theirs = [
        Case(peer.name, partial(peer_rate, house, peer, events // peer.one_in), _RATE, OURS)
        for peer in PEERS
    ]
    yield Group((ours, *theirs), scale.slow_rounds)
    house.forget_workloads()


def require_installed() -> None:
    """Raise BenchError where the peers' environment is missing."""
    if not PYTHON.exists():
        raise BenchError(
            "The peers are not installed: run `python3 -m venv bench/.venv` and"
            " `bench/.venv/bin/python -m pip install -r bench/requirements-peers.txt`, then try again."
        )


def peer_rate(house: House, peer: Peer, events: int) -> float:
    """Rows a second from the first that is seen to the last."""
    path = house.logs / "payloads"
    payloads = map(encode, simulated(events, house.until_ms - HOUR_MS, house.until_ms))
    path.write_bytes(b"".join(payload + b"\n" for payload in payloads))
    house.empty()
    before = set(house.client.keys())
    python = str(PYTHON)
    crew.finished(crew.start(house, peer.module, "fill", str(path), python=python), _AT_MOST_S)
    worker = crew.start(house, *peer.worker, python=python)
    try:
        return _watched(house, worker, events)
    finally:
        _end(worker)
        left = set(house.client.keys()) - before
        if left:
            house.client.delete(*left)


def _watched(house: House, worker: Process, events: int) -> float:
    first_s, first = 0.0, 0
    deadline_s = time.monotonic() + _AT_MOST_S
    with house.connected(autocommit=True) as connection, connection.cursor() as cursor:
        while True:
            cursor.execute(COUNT)
            (rows,) = cursor.fetchone() or (0,)
            now_s = time.monotonic()
            if rows and not first:
                first_s, first = now_s, rows
            if rows >= events:
                break
            worker.require_alive()
            if now_s > deadline_s:
                raise BenchError(f"{worker.name} stored {rows:,} of {events:,} events in time.")
            time.sleep(_POLL_S)
    if first == events:
        raise BenchError(f"{worker.name} stored all events at once: give it more of them.")
    return (events - first) / (now_s - first_s)


def _end(worker: Process) -> None:
    """Whatever it has not stored is of no interest, and it may have children."""
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.popen.wait()
