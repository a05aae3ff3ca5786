"""The worker: jobs of the queue flow in, each runs in a process of its own, what it did flows back to RQ.

RQ does all of it; here it is told what it may run, to look for jobs of killed workers, and to beat.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

import redis
from redis.client import Pipeline
from rq import Queue, SimpleWorker, Worker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker

from jobs.queue import NAME, AllowedJob, queue
from pipeline import log
from pipeline.patience import first_line
from pipeline.pulse import Pulse

_LOGGERS: Final = ("rq.worker", "rq.job")
# How often a worker looks for jobs whose worker was killed.
_MAINTENANCE_S: Final = 60
# An idle worker beats once in so long less a quarter; one with a job, twice a minute.
_TTL_S: Final = 60


class _Beats(BaseWorker):
    """A worker whose life shows in the pulse as well as in RQ's own books."""

    pulse: Pulse = Pulse()
    # A Redis that is away is tried again so often at least.
    max_connection_wait_time = 5.0

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        super().heartbeat(timeout, pipeline)
        self.pulse.beat()


class _BeatsForking(_Beats, Worker):
    """The same, running each job in a process of its own."""


class _BeatsHere(_Beats, SimpleWorker):
    """The same, running all jobs in this one."""


def worker(
    connection: redis.Redis,
    pulse: Pulse,
    name: str | None = None,
    *,
    forks: bool = True,
    queue_name: str = NAME,
) -> BaseWorker:
    """Who runs a queue's jobs; ``forks`` False: all of them in this process."""
    kind: type[_Beats] = _BeatsForking if forks else _BeatsHere
    options: dict[str, Any] = {
        "connection": connection,
        "serializer": JSONSerializer,
        "job_class": AllowedJob,
        "queue_class": Queue,
        "maintenance_interval": _MAINTENANCE_S,
        "worker_ttl": _TTL_S,
    }
    made = kind([queue(connection, queue_name)], name=name, **options)
    made.pulse = pulse
    made.push_exc_handler(_tell)  # type: ignore[no-untyped-call]
    log.adopt(*_LOGGERS)
    return made


def _tell(job: Job, kind: type[BaseException], error: BaseException, _: TracebackType) -> bool:
    """Why a job failed, in a line; RQ keeps all of it with the job."""
    log.get("worker").error(
        "A job failed", job=job.id, error=f"{kind.__name__}: {first_line(error)}"[:200]
    )
    return True
