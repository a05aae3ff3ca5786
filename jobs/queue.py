"""The queue: a task of ours and plain arguments flow in, a job that can be nothing else flows out to RQ.

A job is a hash in Redis, and whoever can write there chooses what a worker does. So nothing in it is
unpickled, and its function is looked up in our list, never imported by the name it gives.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import redis
from rq import Queue, Retry
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from jobs import tasks
from pipeline import log
from pipeline.patience import first_line
from pipeline.settings import SettingsError

NAME: Final = "infamous"
# Reports wait by themselves: whoever makes them has notebooks installed, and may only read.
REPORTS: Final = "infamous-reports"
# Longer than any of them takes; a job that takes longer was given up by its database or its Redis.
TIMEOUT_S: Final = 900
# A task that fails, or whose worker is killed, is run again so often, at once; then its next turn comes.
RETRIES: Final = 1
_RESULT_TTL_S: Final = 86_400
_FAILURE_TTL_S: Final = 7 * 86_400
# What results tell of how things are: no deed.
_STATES: Final = frozenset({"memory_share", "ahead_days"})

ALLOWED: Final[dict[str, Callable[..., Any]]] = {
    f"{task.__module__}.{task.__name__}": task for task in tasks.ALL
}


NEEDS_PLAIN: Final = (
    "RQ, which runs the jobs, needs a plain Redis of its own, and the one it is given is a Redis Cluster:"
    " name another in RQ_REDIS_URL."
)


class NotAllowed(Exception):
    """The job names something that is no task of ours."""


class AllowedJob(Job):
    """A job that can be nothing but one of the tasks, once."""

    @classmethod
    def fetch(
        cls,
        id: str,  # noqa: A002  # RQ's name for it
        connection: redis.Redis | None = None,
        serializer: Any = None,
    ) -> Job:
        """The job; one that cannot be read counts as none, for it would end every worker."""
        try:
            return super().fetch(id, connection, serializer)
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
            why = f"{type(error).__name__}: {first_line(error)}"
            log.get("worker").error(
                "A job that cannot be read is left out", job=repr(id)[:80], error=why[:200]
            )
            raise NoSuchJobError(f"{id!r:.80} cannot be read.") from None

    def restore(self, raw_data: Any) -> None:
        """What Redis holds of it; how often and how long it runs is ours to say."""
        super().restore(raw_data)
        self.retries_left = min(self.retries_left or 0, RETRIES)
        self.retry_intervals = self.repeats_left = None
        self.rate_limit_key = self.rate_limit_concurrency = None
        self._dependency_ids = []
        self.timeout, self.ttl = TIMEOUT_S, None
        self.result_ttl, self.failure_ttl = _RESULT_TTL_S, _FAILURE_TTL_S

    def perform(self) -> Any:
        """Run it, and say in a line what it did; where it did nothing, to those who want to know it all."""
        began_s = time.monotonic()
        result = super().perform()
        took_s = round(time.monotonic() - began_s, 3)
        did = not isinstance(result, dict) or any(result[key] for key in result.keys() - _STATES)
        say = log.get("worker").info if did else log.get("worker").debug
        say("Job done", job=self.id, took_s=took_s, result=result)
        return result

    @property
    def func(self) -> Callable[..., Any]:
        """The task, from the list."""
        name = self.func_name
        if name not in ALLOWED or self.instance is not None or self._has_callbacks:
            raise NotAllowed(f"{name} is no task of this pipeline: it was not run.")
        return ALLOWED[name]

    @property
    def _has_callbacks(self) -> bool:
        names = (
            self._success_callback_name,
            self._failure_callback_name,
            self._stopped_callback_name,
        )
        return any(names)

    @property
    def success_callback(self) -> None:
        """None: ours have none, and another's is not called."""

    @property
    def failure_callback(self) -> None:
        """None, as well."""

    @property
    def stopped_callback(self) -> None:
        """None, as well."""

    def send_webhooks(self, status: str | JobStatus, *, exc_string: str | None = None) -> None:
        """None: a job does not choose whom a worker calls."""


def require_plain(connection: redis.Redis) -> None:
    """Raise SettingsError where it is a node of a Redis Cluster, and what redis-py raises where it is away.

    A job and the queues that it is on are several keys, which RQ changes together.
    """
    try:
        is_cluster = connection.info("cluster").get("cluster_enabled")
    except redis.exceptions.NoPermissionError:
        return  # whoever runs a cluster lets its users know
    if is_cluster:
        raise SettingsError(NEEDS_PLAIN)


def queue(connection: redis.Redis, name: str = NAME) -> Queue:
    """Where jobs wait."""
    return Queue(
        name,
        connection=connection,
        serializer=JSONSerializer,
        job_class=AllowedJob,
        default_timeout=TIMEOUT_S,
    )


def enqueue(
    connection: redis.Redis,
    task: Callable[..., Any],
    *,
    job_id: str | None = None,
    waits_s: int | None = None,
    **arguments: Any,
) -> Job:
    """Have a worker run a task with these arguments; raises DuplicateJobError where that id waits.

    A job that nobody takes within ``waits_s`` is gone; None: it waits for ever.
    """
    return queue(connection, REPORTS if task is tasks.make_report else NAME).enqueue(
        task,
        kwargs=arguments,
        job_id=job_id,
        unique=job_id is not None,
        retry=Retry(max=RETRIES),
        ttl=waits_s,
        result_ttl=_RESULT_TTL_S,
        failure_ttl=_FAILURE_TTL_S,
    )
