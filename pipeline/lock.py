"""The lock: work that needs a lock others may hold flows in, what it gave flows out, once the lock was had.

Whoever waits for a table makes all who come after wait behind it, consumers too. So the work waits for a
moment only, by a lock_timeout of its own, gives way, and is tried again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from psycopg2.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy.exc import OperationalError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    stop_when_event_set,
    wait_random,
)
from tenacity.nap import sleep_using_event

from pipeline.patience import Stopped

T = TypeVar("T")

# Two that gave way to each other do not come back at the same moment.
_PAUSE: Final = wait_random(1, 3)


def is_locked_out(error: BaseException) -> bool:
    """Whether a lock was not to be had in time, or only by two who would have waited for each other."""
    return isinstance(error, OperationalError) and isinstance(
        error.orig, LockNotAvailable | DeadlockDetected
    )


def patiently(
    work: Callable[[], T],
    *,
    at_most_s: float,
    stop: threading.Event | None = None,
    tell: Callable[[], None] = lambda: None,
) -> T:
    """Do it, or give way and do it again for so long; ``tell`` is called at the first time it gave way.

    Work that gave way must have left nothing. Raises Stopped, or the last error: one that ``is_locked_out``
    where the time was up.
    """
    stop = stop or threading.Event()

    def before_sleep(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            tell()

    retrying = Retrying(
        retry=retry_if_exception(is_locked_out),
        wait=_PAUSE,
        stop=stop_when_event_set(stop) | stop_after_delay(at_most_s),
        sleep=sleep_using_event(stop),
        before_sleep=before_sleep,
        reraise=True,
    )
    try:
        return retrying(work)
    except OperationalError as error:
        if is_locked_out(error) and stop.is_set():
            raise Stopped from error
        raise
