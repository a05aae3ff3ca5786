"""Replay: what was sent in a span of the past flows in, the same events flow onto the streams once more.

They come through the same door as live events, so what is stored already is dropped by the primary key,
and what is missing is stored. Broken off anywhere, a replay may simply be run again. What the stream holds
more than once, as it does after a replay, a run sends once: the stream grows by what there is to send, and
never by what was sent again before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import redis

from jobs.backpressure import PATIENCE_S, wait_for_room
from jobs.progress import Progress, untold
from jobs.seen import Seen
from jobs.sift import EVERYTHING, Chosen, Sifted, packed, sifted
from pipeline import failpoint
from pipeline.event import Event, Window
from pipeline.patience import first_line
from pipeline.streams import Streams

# Live events come first: above so many entries that nobody has read yet, a replay waits ...
MOST_UNREAD: Final = 5000
# ... or as many as take so much, where they are large.
_MOST_UNREAD_BYTES: Final = 32 * 1024 * 1024
# ... or as many as carry so many events ...
_MOST_UNREAD_EVENTS: Final = 20_000
# What is that near to the end of its retention may be past it before a consumer reads it.
_EDGE_MS: Final = 10 * 60 * 1000
_ALL_TIMES: Final = Window(0, 2**63)
# So many events of a run are remembered, in 200 MB. What comes after them is sent as often as it is found.
MOST_KNOWN: Final = 10_000_000


class BrokenOff(Exception):
    """Redis went away in the middle of it, or takes no more."""


@dataclass(frozen=True)
class Replayed:
    """What a replay did. ``foreign`` entries are none of ours and were left alone."""

    entries: int
    foreign: int
    # Whether the whole span was walked; else it was stopped before.
    is_complete: bool
    # Events that went with the entries.
    events: int = 0
    # Events that are older than RETENTION_DAYS, left out: consumers would refuse them.
    too_old: int = 0
    # What is no event, left out where some player's or some kind of events were asked for.
    refused: int = 0
    # What was found again after it was sent, and left out.
    repeated: int = 0
    # What was sent when no more could be remembered: some of it perhaps more than once.
    unchecked: int = 0


def replay(
    streams: Streams,
    from_ms: int,
    to_ms: int,
    *,
    chosen: Chosen = EVERYTHING,
    retention_days: int | None = None,
    chunk: int = 250,
    stop: threading.Event | None = None,
    most_unread: int = MOST_UNREAD,
    patience_s: float = PATIENCE_S,
    most_known: int = MOST_KNOWN,
    tell: Progress = untold,
) -> Replayed:
    """Append again what was added in a span of Unix milliseconds, both ends included, each event once.

    Ends at the last entry that is there when it begins. All streams are walked, those of other numbers of
    partitions too; each event goes to its player's stream of today. What was sent is remembered, up to
    ``most_known`` events, and not sent again when another entry of the span, on whichever stream, holds it.
    Before each chunk it waits until at most ``most_unread`` entries are unread; raises NobodyReads when that
    takes longer than ``patience_s``.
    Events older than ``retention_days`` are left out; None: none is too old. ``tell`` is told entries.
    Raises BrokenOff when Redis fails on the way.
    """
    seen = Seen(most_known)

    def pages() -> Iterator[Sifted]:
        streams.look()
        for entries in streams.walk(from_ms=from_ms, to_ms=to_ms, count=chunk):
            yield sifted(entries, chosen, _window(retention_days), seen.is_new)

    done = _replay(streams, pages(), stop, most_unread, patience_s, tell, None)
    return replace(done, unchecked=seen.unchecked)


def replay_events(
    streams: Streams,
    pages: Iterable[Sequence[Event]],
    *,
    retention_days: int | None = None,
    chunk: int = 2500,
    stop: threading.Event | None = None,
    most_unread: int = MOST_UNREAD,
    patience_s: float = PATIENCE_S,
    tell: Progress = untold,
    total: int | None = None,
) -> Replayed:
    """The same for events from elsewhere, many in an entry. ``tell`` is told events, of ``total``."""
    sifted_pages = (
        packed(page[start : start + chunk], _window(retention_days))
        for page in pages
        for start in range(0, len(page), chunk)
    )
    return _replay(streams, sifted_pages, stop, most_unread, patience_s, tell, total)


def _window(retention_days: int | None) -> Window:
    """The times of events that a consumer would take if it read them in a while."""
    if retention_days is None:
        return _ALL_TIMES
    now = Window.at(time.time_ns() // 1_000_000, retention_days)
    return Window(now.oldest_ms + _EDGE_MS, now.newest_ms)


def _replay(
    streams: Streams,
    pages: Iterator[Sifted],
    stop: threading.Event | None,
    most_unread: int,
    patience_s: float,
    tell: Progress,
    total: int | None,
) -> Replayed:
    stop = stop or threading.Event()
    done = Replayed(0, 0, is_complete=True)
    try:
        streams.note()
        for page in pages:
            if page.entries:
                wait_for_room(streams, _room(page, most_unread), patience_s, stop)
            if stop.is_set():
                return replace(done, is_complete=False)
            if page.entries:
                streams.append_entries(page.entries)
            done = _sum(done, page)
            tell(done.events if total is not None else done.entries, total)
            failpoint.reached("in_replay")
    except redis.RedisError as error:
        raise BrokenOff(
            f"Redis failed after {done.entries:,} entries were sent again ({first_line(error)}): see to it,"
            " and run the replay again from the beginning, which adds no row twice."
        ) from error
    return done


def _room(page: Sifted, most_unread: int) -> int:
    """How many entries like these may be unread."""
    count = len(page.entries)
    size_bytes = sum(len(payload) for _, payload in page.entries)
    return min(
        most_unread,
        _MOST_UNREAD_BYTES * count // max(1, size_bytes),
        _MOST_UNREAD_EVENTS * count // max(1, page.events),
    )


def _sum(done: Replayed, page: Sifted) -> Replayed:
    return Replayed(
        entries=done.entries + len(page.entries),
        foreign=done.foreign + page.foreign,
        is_complete=True,
        events=done.events + page.events,
        too_old=done.too_old + page.too_old,
        refused=done.refused + page.refused,
        repeated=done.repeated + page.repeated,
    )
