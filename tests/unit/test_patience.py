"""Waiting for a server: what is tried again, what is said, and what ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from pipeline.patience import Stopped, first_line, wait_for


class AwayError(Exception):
    """A server that is away."""


class BrokenError(Exception):
    """A call that no waiting helps."""


def is_away(error: BaseException) -> bool:
    """Whether waiting helps."""
    return isinstance(error, AwayError)


def fails(times: int, error: Exception) -> Callable[[], str]:
    """A call that fails so often and then succeeds."""
    left = [times]

    def call() -> str:
        if left[0]:
            left[0] -= 1
            raise error
        return "done"

    return call


def test_a_call_that_succeeds_is_not_talked_about() -> None:
    """The log of a healthy process holds no word about waiting."""
    with capture_logs() as logs:
        assert wait_for("Redis", lambda: 7, is_temporary=is_away, stop=threading.Event()) == 7
    assert logs == []


@pytest.mark.parametrize("failures", [1, 4])
def test_one_line_when_the_wait_begins_and_one_when_it_ends(failures: int) -> None:
    """However often it tries, an outage is two lines: who is away and why, and that it is back."""
    call = fails(failures, AwayError("connection refused\nrow (secret)"))
    with capture_logs() as logs:
        assert wait_for("Redis", call, is_temporary=is_away, stop=threading.Event()) == "done"
    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("warning", "Redis is away; trying again until it is back"),
        ("info", "Redis is back"),
    ]
    assert logs[0]["error"] == "connection refused"


@pytest.mark.parametrize("failures", [1, 2])
def test_other_errors_are_raised_at_once(failures: int) -> None:
    """Only what is_temporary names is waited for."""
    with capture_logs() as logs, pytest.raises(BrokenError):
        wait_for(
            "Redis",
            fails(failures, BrokenError("no")),
            is_temporary=is_away,
            stop=threading.Event(),
        )
    assert logs == []


def test_an_error_that_turns_final_ends_the_wait() -> None:
    """A server that comes back with a refusal is not waited for any longer."""
    errors = iter([AwayError("away"), BrokenError("no such role")])

    def call() -> None:
        raise next(errors)

    with capture_logs(), pytest.raises(BrokenError, match="no such role"):
        wait_for("Postgres", call, is_temporary=is_away, stop=threading.Event())


def test_stop_ends_the_wait_at_once() -> None:
    """A process asked to stop in an outage does not sit out its pause, however long that is."""
    stop = threading.Event()
    tries = 0

    def call() -> None:
        nonlocal tries
        tries += 1
        if tries == 6:  # by now the pauses take seconds
            threading.Timer(0.05, stop.set).start()
        raise AwayError

    began_s = time.monotonic()
    with capture_logs(), pytest.raises(Stopped) as caught:
        wait_for("Redis", call, is_temporary=is_away, stop=stop)
    assert isinstance(caught.value.__cause__, AwayError)
    assert time.monotonic() - began_s < 15


def test_stop_does_not_cut_off_a_call_that_succeeds() -> None:
    """Draining at the end uses the same calls: a stop alone is no reason to give up."""
    stop = threading.Event()
    stop.set()
    assert wait_for("Redis", lambda: 7, is_temporary=is_away, stop=stop) == 7


def test_stop_leaves_other_errors_what_they_are() -> None:
    """A failure that is not about waiting is not called a stop."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(BrokenError):
        wait_for("Redis", fails(1, BrokenError()), is_temporary=is_away, stop=stop)


def test_the_wait_can_be_bounded() -> None:
    """A process that starts gives up after a while, with the server's own words."""
    with capture_logs(), pytest.raises(AwayError, match="refused"):
        wait_for(
            "Redis",
            fails(10**9, AwayError("refused")),
            is_temporary=is_away,
            stop=threading.Event(),
            at_most_s=0.3,
        )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (AwayError("one\ntwo"), "one"),
        (AwayError("  \n one"), "one"),
        (AwayError(), "AwayError"),
        (None, "None"),
    ],
)
def test_first_line(error: BaseException | None, line: str) -> None:
    """Later lines of Postgres' messages hold values of rows: they are never repeated."""
    assert first_line(error) == line


class Watching:
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def tries(self) -> None:
        """A call is about to be made."""
        self.told.append("tries")

    def waits(self, server: str) -> None:
        """The wait began, or goes on."""
        self.told.append(f"waits {server}")

    def is_back(self, server: str) -> None:
        """The wait is over."""
        self.told.append(f"{server} is back")


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_an_observer_is_told_as_it_happens(failures: int) -> None:
    """Before each try, after each failure, and once at the end of a wait: no wait, no end of one."""
    watching = Watching()
    with capture_logs():
        wait_for(
            "Redis",
            fails(failures, AwayError("away")),
            is_temporary=is_away,
            stop=threading.Event(),
            observer=watching,
        )
    waited = ["tries", "waits Redis"] * failures
    assert watching.told == [*waited, "tries", *(["Redis is back"] if failures else [])]


def test_a_server_that_answers_with_a_refusal_is_back_too() -> None:
    """The group that is gone after an outage is an answer: whoever counts the wait sees it end."""
    errors = iter([AwayError("away"), BrokenError("no such group")])

    def call() -> None:
        raise next(errors)

    watching = Watching()
    with capture_logs(), pytest.raises(BrokenError):
        wait_for(
            "Redis",
            call,
            is_temporary=is_away,
            stop=threading.Event(),
            observer=watching,
        )
    assert watching.told == ["tries", "waits Redis", "tries", "Redis is back"]


def test_an_observer_that_fails_ends_the_wait() -> None:
    """A liveness file that cannot be touched is an error of its own, and no outage of the server."""

    class Failing(Watching):
        def tries(self) -> None:
            raise PermissionError("alive")

    with capture_logs() as logs, pytest.raises(PermissionError):
        wait_for(
            "Redis",
            lambda: 7,
            is_temporary=is_away,
            stop=threading.Event(),
            observer=Failing(),
        )
    assert logs == []
