"""Replay: a span of the stream's past flows in, the same payloads flow onto the stream once more.

They come through the same door as live events, so what is stored already is dropped by the primary key,
and what is missing is stored. Broken off anywhere, a replay may simply be run again.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from jobs.room import PATIENCE_S, wait_for_room
from pipeline import failpoint
from pipeline.entry import Form
from pipeline.stream import Stream

# Live events come first: above so many entries that nobody has read yet, a replay waits ...
MOST_UNREAD: Final = 5000
# ... or as many as take so much, where they are large.
_MOST_UNREAD_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True)
class Replayed:
    """What a replay did. ``foreign`` entries are none of ours and were left alone."""

    entries: int
    foreign: int
    # Whether the whole span was walked; else it was stopped before.
    is_complete: bool


def replay(
    source: Stream,
    from_ms: int,
    to_ms: int,
    *,
    chunk: int = 250,
    stop: threading.Event | None = None,
    most_unread: int = MOST_UNREAD,
    patience_s: float = PATIENCE_S,
) -> Replayed:
    """Append again what was added in a span of Unix milliseconds, both ends included.

    Ends at the last entry that is there when it begins. Before each chunk it waits until at most
    ``most_unread`` entries are unread; raises NobodyReads when that takes longer than ``patience_s``.
    """
    stop = stop or threading.Event()
    sent = foreign = 0
    for entries in source.walk(from_ms=from_ms, to_ms=to_ms, count=chunk):
        size_bytes = sum(len(entry.payload) for entry in entries)
        room = min(most_unread, _MOST_UNREAD_BYTES * len(entries) // max(1, size_bytes))
        wait_for_room(source, room, patience_s, stop)
        if stop.is_set():
            return Replayed(sent, foreign, is_complete=False)
        ours = [(entry.form, entry.payload) for entry in entries if entry.form is not Form.FOREIGN]
        source.append_entries(ours)
        sent += len(ours)
        foreign += len(entries) - len(ours)
        failpoint.reached("in_replay")
    return Replayed(sent, foreign, is_complete=True)
