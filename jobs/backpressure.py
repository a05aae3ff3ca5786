"""Backpressure: streams flow in, the moment at which they may take more flows out.

What sends events in bulk, a replay, a release or an import, comes after live events: it waits while many
entries are unread.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from pipeline.streams import Streams, together

# For so long; where nobody reads, waiting longer helps nobody.
PATIENCE_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.1


class NobodyReads(Exception):
    """The entries on the stream are not read, or not fast enough for more on top of them."""


def wait_for_room(
    streams: Streams, most_unread: int, patience_s: float, stop: threading.Event
) -> None:
    """Wait until few enough entries are unread, or until stopped. Raises NobodyReads, and what redis-py
    raises when one of those that are written into is away.

    What counts is the sum, not the fullest: the same consumers read all of them, so a live event waits for
    what is on the others as well.
    """
    deadline = time.monotonic() + patience_s
    while (unread := _unread(streams)) > most_unread:
        if time.monotonic() >= deadline:
            raise NobodyReads(
                f"{unread:,} entries have waited unread for {patience_s:g} s: start consumers, or more"
                " of them, and run it again."
            )
        if stop.wait(_LOOK_EVERY_S):
            return


def _unread(streams: Streams) -> int:
    # The server's own count will do: one that is too high only makes this wait.
    return together(one.state(exact=False) for one in streams.written).undelivered
