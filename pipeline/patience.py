"""Waiting for a server: a call flows in, its result flows out, however long the server is away.

One log line says that the wait began and what for, one that it is over. Between them the call is tried
again with growing, jittered pauses, and a request to stop ends the wait at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    stop_never,
    stop_when_event_set,
    wait_random_exponential,
)
from tenacity.nap import sleep_using_event

from pipeline import log

T = TypeVar("T")

# Long enough to spare a server that is starting, short enough to be back within seconds of it.
MAX_PAUSE_S = 5.0


class Observer(Protocol):
    """Whoever wants to know of waits while they last."""

    def tries(self) -> None:
        """A call is about to be made, for the first time or again."""

    def waits(self, server: str) -> None:
        """The server is away: the wait began, or goes on."""

    def is_back(self, server: str) -> None:
        """The wait is over."""


class Unobserved:
    """Nobody wants to know."""

    def tries(self) -> None:
        """Nothing."""

    def waits(self, server: str) -> None:
        """Nothing."""

    def is_back(self, server: str) -> None:
        """Nothing."""


class Stopped(Exception):
    """The process was asked to stop while it waited for a server."""


def wait_for(
    server: str,
    call: Callable[[], T],
    *,
    is_temporary: Callable[[BaseException], bool],
    stop: threading.Event,
    at_most_s: float | None = None,
    observer: Observer = Unobserved(),  # noqa: B008  # it holds nothing
) -> T:
    """Call until it succeeds; raises Stopped, or the call's last error when that is not temporary.

    ``at_most_s`` bounds the wait; None waits for ever, which is what a running process wants.
    """
    logger = log.get("wait")
    began = time.monotonic()

    def attempt() -> T:
        observer.tries()
        return call()

    def before_sleep(state: RetryCallState) -> None:
        observer.waits(server)
        if state.attempt_number == 1:
            error = state.outcome.exception() if state.outcome else None
            what = "full; trying again until it takes more"
            if not _is_full(error):
                what = "away; trying again until it is back"
            logger.warning(f"{server} is {what}", error=first_line(error))

    retrying = Retrying(
        retry=retry_if_exception(is_temporary),
        wait=wait_random_exponential(multiplier=0.1, max=MAX_PAUSE_S),
        stop=stop_when_event_set(stop)
        | (stop_never if at_most_s is None else stop_after_delay(at_most_s)),
        sleep=sleep_using_event(stop),
        before_sleep=before_sleep,
        reraise=True,
    )

    def answered() -> None:
        if retrying.statistics.get("attempt_number", 1) > 1:
            observer.is_back(server)
            logger.info(f"{server} is back", away_s=round(time.monotonic() - began, 1))

    try:
        result = retrying(attempt)
    except Exception as error:
        if not is_temporary(error):
            answered()
        elif stop.is_set():
            raise Stopped from error
        raise
    answered()
    return result


def _is_full(error: BaseException | None) -> bool:
    """Whether the server is there, and has no memory left for more."""
    return "maxmemory" in str(error)


def first_line(error: BaseException | None) -> str:
    """What the error says, without the lines after the first: those may hold a row's values."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .") if lines else type(error).__name__
