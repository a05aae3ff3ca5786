"""Stopping: SIGTERM and Ctrl-C flow in, an event that the loops look at flows out.

Whoever asks a process to stop gets it to stop. A call to a server that hangs cannot be interrupted; some
seconds after the signal the process ends in the middle of it, which loses nothing: what was not committed
is rolled back by the server, and what was not acknowledged is delivered again.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pipeline import log

# Under the ten seconds that container engines wait before they kill.
GRACE_S: Final = 8.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Saying goodbye may itself hang, on a full pipe.
_LAST_WORDS_S: Final = 0.5


def _say_nothing() -> None:
    pass


@contextmanager
def on_signals(
    grace_s: float = GRACE_S, at_the_end: Callable[[], None] = _say_nothing
) -> Iterator[threading.Event]:
    """An event that SIGTERM, SIGINT and SIGHUP set while this lasts. Main thread only.

    Where this still lasts ``grace_s`` after the signal, the process ends, with ``at_the_end`` called
    from another thread to leave the terminal as it was.
    """
    stop, left = threading.Event(), threading.Event()
    asked, ask = os.pipe()
    os.set_blocking(ask, False)

    def last_words() -> None:
        at_the_end()
        log.get("stop").warning(
            "A server did not answer in time; stopped in the middle of a call to it, which loses nothing"
        )

    def watch() -> None:
        while (numbers := os.read(asked, 1)) and numbers[0] not in _SIGNALS:
            pass
        if not numbers:  # the other end was closed: nobody asked
            return
        stop.set()
        if not left.wait(grace_s):
            farewell = threading.Thread(target=last_words, daemon=True)
            farewell.start()
            farewell.join(_LAST_WORDS_S)
            os._exit(0)

    # Python runs a handler between two steps of Python code, so never while libpq waits for an answer.
    # The byte in the pipe comes at once, and the thread that waits for it depends on nobody. The handler
    # does nothing: an event that it set would wait for its own lock, for ever, where the signal came in the
    # middle of a wait for that event.
    watcher = threading.Thread(target=watch, name="stop", daemon=True)
    former_fd = signal.set_wakeup_fd(ask, warn_on_full_buffer=False)
    former = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    watcher.start()
    try:
        yield stop
    finally:
        left.set()
        for number, handler in former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(former_fd)
        os.close(ask)
        watcher.join()
        os.close(asked)
