"""The schedule: a moment flows in, the tasks that are due at it flow out, and onto the queue. When is pure.

Of several schedulers one schedules, the others stand by: see lease.py. And a turn of a task has a name made
of the moment it is due at, and the queue takes a name once: where two schedule for an instant, each turn is
enqueued once all the same.

RQ's own cron is not used: it gives jobs neither a name nor a second try nor our serializer, so two of them
run everything twice and a worker that unpickles nothing cannot read what they enqueue; it counts from its own
start, and ends when Redis is away. The lease is in the queue's Redis rather than a lock of Postgres, because
a scheduler has no way into the database, and jobs that need none go on while it is away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import redis
from rq.exceptions import DuplicateJobError

from jobs import tasks
from jobs.lease import Lease
from jobs.queue import enqueue
from pipeline import log, stream
from pipeline.patience import wait_for
from pipeline.pulse import Beating, Pulse

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 24 * _HOUR_S
_BEAT_S: Final = 1.0


@dataclass(frozen=True)
class Entry:
    """A task, how often it is due, and what with."""

    task: Callable[..., Any]
    every_s: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    # It is due so long after each multiple of ``every_s`` since 1970.
    offset_s: int = 0
    # A turn that nobody takes for so long is gone; None: it waits for ever.
    waits_s: int | None = None


# Entries that everybody has stored stay so long on the stream.
KEEP_S: Final = 24 * _HOUR_S

SCHEDULE: Final = (
    Entry(tasks.make_partitions, _HOUR_S),
    Entry(tasks.roll_up, 5 * _MINUTE_S, {"hours": 2}),
    Entry(tasks.trim_stream, _MINUTE_S, {"keep_s": KEEP_S}),
    Entry(tasks.archive_stream, 5 * _MINUTE_S, {"wait_s": _HOUR_S}),
    Entry(tasks.end_long_questions, _MINUTE_S, {"at_most_s": 5 * _MINUTE_S}),
    Entry(tasks.drop_old_partitions, _HOUR_S),
    # When the fewest play, and not at the same time.
    Entry(tasks.check_rollups, _DAY_S, offset_s=3 * _HOUR_S),
    Entry(tasks.prune_health, _DAY_S, offset_s=4 * _HOUR_S),
    # Of the last seven days that are over. Not everybody has who makes them: then none piles up.
    Entry(
        tasks.make_report,
        _DAY_S,
        {"days": 7},
        offset_s=4 * _HOUR_S + 30 * _MINUTE_S,
        waits_s=20 * _HOUR_S,
    ),
)


def turn(entry: Entry, now_s: float) -> int:
    """The moment, in Unix seconds, at which the task was last due."""
    since_offset_s = int(now_s) - entry.offset_s
    return since_offset_s // entry.every_s * entry.every_s + entry.offset_s


def next_s(now_s: float, schedule: tuple[Entry, ...] = SCHEDULE) -> float:
    """The next moment at which anything is due."""
    return min(turn(entry, now_s) + entry.every_s for entry in schedule)


def enqueue_due(
    connection: redis.Redis, now_s: float, schedule: tuple[Entry, ...] = SCHEDULE
) -> list[str]:
    """Put on the queue what is due and is not there yet; returns the names of the turns."""
    made = []
    for entry in schedule:
        job_id = f"{entry.task.__name__}-{turn(entry, now_s)}"
        try:
            enqueue(connection, entry.task, job_id=job_id, waits_s=entry.waits_s, **entry.arguments)
        except DuplicateJobError:
            continue  # another scheduler's, or ours before a restart
        made.append(job_id)
    return made


def keep(
    connection: redis.Redis, stop: threading.Event, pulse: Pulse, told: Callable[[str], None]
) -> None:
    """Keep to the schedule, or stand by while another does, until told to stop.

    Raises Stopped when Redis is away at that moment.
    """
    lease, watcher, logger = Lease(connection), Beating(pulse), log.get("scheduler")
    due_s, stands_by = 0.0, False
    try:
        while not stop.is_set():
            now_s = time.time()
            made = wait_for(
                "Redis",
                partial(_look, connection, lease, now_s, due_s),
                is_temporary=stream.is_temporary,
                stop=stop,
                observer=watcher,
            )
            if (made is None) is not stands_by:
                stands_by = made is None
                logger.info(
                    "Another scheduler is at work; standing by"
                    if stands_by
                    else "The other scheduler is gone; taking over"
                )
            for job_id in made or ():
                told(job_id)
            # Whoever takes over looks at once.
            due_s = 0.0 if stands_by else next_s(now_s)
            pulse.beat()
            stop.wait(_BEAT_S)
    finally:
        lease.give_back()


def _look(connection: redis.Redis, lease: Lease, now_s: float, due_s: float) -> list[str] | None:
    """Enqueue what is due; None where another does."""
    if not lease.take():
        return None
    return enqueue_due(connection, now_s) if now_s >= due_s else []
