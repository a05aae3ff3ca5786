"""Backpressure: a stream flows in, the moment at which it may take more flows out.

What sends events in bulk, a replay, a release or an import, comes after live events: it waits while many
entries are unread.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from pipeline.stream import Stream

# For so long; where nobody reads, waiting longer helps nobody.
PATIENCE_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.1


class NobodyReads(Exception):
    """The entries on the stream are not read, or not fast enough for more on top of them."""


def wait_for_room(
    source: Stream, most_unread: int, patience_s: float, stop: threading.Event
) -> None:
    """Wait until few enough entries are unread, or until stopped. Raises NobodyReads."""
    deadline = time.monotonic() + patience_s
    # The server's own count will do: one that is too high only makes this wait.
    while (unread := source.state(exact=False).undelivered) > most_unread:
        if time.monotonic() >= deadline:
            raise NobodyReads(
                f"{unread:,} entries have waited unread for {patience_s:g} s: start consumers, or more"
                " of them, and run it again."
            )
        if stop.wait(_LOOK_EVERY_S):
            return
