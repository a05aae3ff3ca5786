"""The cut-off: a connection and a time flow in; a server that does not answer becomes an error.

libpq waits for an answer for ever, and no signal wakes it. Where something between the two swallows what
they say to each other, or the server is frozen, the connection is shut down from beside, so that the call
fails as if the server had closed it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from psycopg2.extensions import connection as Connection  # noqa: N812  # psycopg2's class name


class Cutoff:
    """Shuts a connection down when a block takes too long. Blocks come one after the other.

    One thread looks after all of them, from the first block until ``close``.
    """

    def __init__(self, silent_s: float) -> None:
        """``silent_s``: how long a block may take."""
        self._silent_s = silent_s
        self._changed = threading.Condition()
        # When the present block has taken too long; None between blocks.
        self._deadline_s: float | None = None
        self._connection: Connection | None = None
        self._own: socket.socket | None = None
        self._watcher: threading.Thread | None = None
        self._is_closed = False

    @contextmanager
    def guard(self, connection: Connection) -> Iterator[None]:
        """Shut the connection down when the block lasts too long, and never after it."""
        if connection is not self._connection or self._watcher is None:
            self._watch_over(connection)
        # The watcher need not be told: it looks again before any block that begins now can be late.
        with self._changed:
            self._deadline_s = time.monotonic() + self._silent_s
        try:
            yield
        finally:
            with self._changed:
                self._deadline_s = None

    def close(self) -> None:
        """Give the thread and the descriptor back; the next block takes new ones."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        self._let_go()

    def _watch_over(self, connection: Connection) -> None:
        self._let_go()
        # A descriptor of our own: libpq may close its own, and the number may be another's by then.
        own = socket.socket(fileno=os.dup(connection.fileno()))
        with self._changed:
            self._connection, self._own = connection, own
        if self._watcher is None:
            self._is_closed = False
            watcher = threading.Thread(target=self._watch, name="cutoff", daemon=True)
            watcher.start()
            self._watcher = watcher

    def _let_go(self) -> None:
        with self._changed:
            own, self._connection, self._own = self._own, None, None
        if own is not None:
            own.close()

    def _watch(self) -> None:
        # Held while it shuts down, so that no block ends in between and leaves a connection to be used.
        with self._changed:
            while not self._is_closed:
                now_s = time.monotonic()
                if self._deadline_s is not None and self._deadline_s <= now_s:
                    self._cut()
                    self._deadline_s = None
                # No block that begins later is late earlier than this.
                until_s = self._deadline_s or now_s + self._silent_s
                self._changed.wait(until_s - now_s)

    def _cut(self) -> None:
        if self._own is not None:
            # It may be closed from the other side already.
            with suppress(OSError):
                self._own.shutdown(socket.SHUT_RDWR)
