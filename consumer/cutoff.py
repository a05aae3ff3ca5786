"""The cut-off: a connection and a time flow in; a server that does not answer becomes an error.

libpq waits for an answer for ever, and no signal wakes it. Where something between the two swallows what
they say to each other, or the server is frozen, the connection is shut down from beside, so that the call
fails as if the server had closed it.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2.extensions import connection as Connection  # noqa: N812  # psycopg2's class name


@contextmanager
def cut_off_after(seconds: float, connection: Connection) -> Iterator[None]:
    """Shut the connection down when the block takes longer than this."""
    # A descriptor of our own: libpq may close its own, and the number may be another's by then.
    own = socket.socket(fileno=os.dup(connection.fileno()))

    def cut() -> None:
        # It may be closed from the other side already.
        try:
            own.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        own.close()
