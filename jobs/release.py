"""Release: quarantined entries flow in, their bytes flow onto the stream once more.

They come through the same door as live events and are judged anew: what is an event now becomes a row,
what is still none comes back to its row of the quarantine, whose key is made of the same bytes. Nothing
sends them again by itself: how often a person did stands in the row.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine

from jobs import quarantine
from jobs.backpressure import PATIENCE_S, wait_for_room
from jobs.progress import Progress, untold
from jobs.quarantine import CHUNK, Choice
from jobs.verdict import verdict
from pipeline import failpoint
from pipeline.event import Reason, Window
from pipeline.streams import Streams

# Live events come first: above so many entries that nobody has read yet, a release waits.
MOST_UNREAD: Final = 5000


@dataclass(frozen=True)
class Released:
    """What a release did."""

    entries: int
    # Foreign entries: their raw is all fields of an entry, not bytes that stood in one.
    foreign: int
    # Larger than what the quarantine keeps: the rest of the bytes is gone.
    cut: int
    # Whether it came to the end, or to its limit; else it was stopped before.
    is_complete: bool


@dataclass(frozen=True)
class Foreseen:
    """What a release would do."""

    taken: int
    # What would come back, by reason.
    refused: Mapping[str, int]
    foreign: int
    cut: int
    is_complete: bool


def release(
    engine: Engine,
    streams: Streams,
    *,
    reason: Reason | None = None,
    keys: Sequence[bytes] = (),
    seen_from: datetime | None = None,
    seen_to: datetime | None = None,
    player: str | None = None,
    action: str | None = None,
    limit: int | None = None,
    stop: threading.Event | None = None,
    tell: Progress = untold,
) -> Released:
    """Append what the quarantine holds whole and was not released yet, and mark it as released.

    All but the last three choose some of it, as a ``Choice`` does. Several at once share the work. After a
    crash between appending and marking, the next release appends the same again, which is harmless: the
    second copy of an event is dropped by the primary key, and the second copy of anything else counts once
    more in the same row of the quarantine. Raises NobodyReads.
    """
    choice = Choice(reason, keys, seen_from, seen_to, player, action)
    stop = stop or threading.Event()
    sent = looked_at = 0
    after: bytes | None = b""
    streams.note()
    with engine.connect() as connection:
        with connection.begin():
            there = quarantine.count(connection, choice)
        total = there.whole if limit is None else min(there.whole, limit)
        while after is not None and not stop.is_set() and (limit is None or sent < limit):
            wait_for_room(streams, MOST_UNREAD, PATIENCE_S, stop)
            if stop.is_set():
                break
            most = CHUNK if limit is None else min(CHUNK, limit - sent)
            page = _send_some(connection, streams, choice, after, most)
            sent, looked_at, after = sent + len(page.held), looked_at + page.looked_at, page.last
            tell(sent if limit is not None else looked_at, total)
    is_complete = after is None or sent == limit
    return Released(sent, there.foreign, there.cut, is_complete)


def _send_some(
    connection: Connection, streams: Streams, choice: Choice, after: bytes, most: int
) -> quarantine.Page:
    """Append and mark a chunk in one transaction.

    The rows stay locked from the look to the mark, so that a consumer which refuses the same bytes again
    writes its verdict after the mark, never under it.
    """
    with connection.begin():
        connection.execute(quarantine.LIMIT_IDLE)
        page = quarantine.page(connection, choice, after, most, is_taken=True)
        if page.held:
            streams.append_entries([(one.form, one.raw) for one in page.held])
            failpoint.reached("in_release")
            connection.execute(quarantine.MARK, {"keys": [one.key for one in page.held]})
    return page


def foresee(
    engine: Engine,
    choice: Choice,
    window: Window,
    *,
    limit: int | None = None,
    stop: threading.Event | None = None,
    tell: Progress = untold,
) -> Foreseen:
    """What a release would send, and how much of it would come back by today's rules; changes nothing."""
    stop = stop or threading.Event()
    seen, taken, refused = 0, 0, Counter[str]()
    after: bytes | None = b""
    with engine.connect() as connection:
        there = quarantine.count(connection, choice)
        total = there.whole if limit is None else min(there.whole, limit)
        while after is not None and not stop.is_set() and (limit is None or seen < limit):
            most = CHUNK if limit is None else min(CHUNK, limit - seen)
            page = quarantine.page(connection, choice, after, most)
            for one in page.held:
                answer = verdict(one.form, one.raw, window)
                if answer.reason is None:
                    taken += 1
                else:
                    refused[answer.reason.value] += 1
            seen, after = seen + len(page.held), page.last
            tell(seen, total)
    is_complete = after is None or seen == limit
    return Foreseen(taken, dict(refused), there.foreign, there.cut, is_complete)
