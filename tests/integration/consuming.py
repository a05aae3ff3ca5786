"""A consumer inside the test's process, and waiting for what it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from consumer.batch import Batch, Limits
from consumer.load import Loader
from consumer.reader import Reader
from consumer.tally import Tally
from consumer.worker import Worker
from pipeline import stream
from pipeline.entry import Entry
from pipeline.event import Window
from pipeline.streams import Streams
from tests.conftest import World
from tests.unit.samples import RETENTION_DAYS

LIMITS = Limits(rows=1000, bytes=1_000_000, age_s=0.2)


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def until(condition: Callable[[], object], what: str, *, at_most_s: float = 30.0) -> None:
    """Wait until it holds; fails with what was waited for."""
    pause = threading.Event()
    deadline = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {at_most_s:g} s in vain for {what}"
        pause.wait(0.01)


def batch_of(payloads: list[bytes]) -> Batch:
    """A batch as the worker fills it."""
    batch = Batch(LIMITS)
    window = Window.at(now_ms(), RETENTION_DAYS)
    for number, payload in enumerate(payloads):
        batch.take([Entry(b"%d-0" % (number + 1), payload)], window, 0.0)
    return batch


@contextmanager
def working(
    world: World,
    name: str = "worker",
    limits: Limits = LIMITS,
    database_url: str | None = None,
    partitions: int = 1,
    **options: Any,
) -> Iterator[Worker]:
    """A worker in a thread, stopped at the end of the block; whatever ended it is raised here."""
    stop = threading.Event()
    streams = Streams(world.redis_url, partitions)
    source = Reader(streams, name)
    loader = Loader(database_url or world.database_url, name)
    settings: dict[str, Any] = {"claim_after_s": 60.0, "retention_days": RETENTION_DAYS} | options
    worker = Worker(source, loader, Tally(name), name, limits, stop=stop, **settings)
    ended: list[BaseException] = []

    def run() -> None:
        try:
            worker.run()
        except BaseException as error:  # raised again below
            ended.append(error)

    thread = threading.Thread(target=run, name=name)
    source.ensure_groups()
    # A stop is seen when a blocked read returns: a tenth of a second is less to wait for than one.
    with patch.object(stream, "BLOCK_MS", 100):
        thread.start()
        try:
            yield worker
        finally:
            stop.set()
            thread.join(30)
            loader.close()
            source.close()
            streams.close()
    assert not thread.is_alive()
    if ended:
        raise ended[0]


def added(world: World) -> int:
    """Entries ever added to a stream of which none has gone: before Redis 7, those are all there are."""
    state = world.source.state()
    return state.entries if state.added is None else state.added


def is_drained(world: World) -> bool:
    """Whether all that is on the stream was read and acknowledged."""
    state = world.source.state()
    return state.group_exists and state.undelivered == 0 and state.pending == 0
