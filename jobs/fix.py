"""A fix: quarantined entries and a remedy flow in, what the remedy makes events of flows onto the stream.

What it makes is judged before it is sent. What is still no event stays where it is, and so does what the
remedy fails on; that it was tried stands in the row, and nothing tries again by itself.

The old bytes stay on the stream until it is trimmed: a replay sends them once more, and so may a sender. They
are counted as seen again then, but what was fixed stays fixed, and waits for nobody.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Engine

from jobs import quarantine
from jobs.backpressure import PATIENCE_S, wait_for_room
from jobs.progress import Progress, untold
from jobs.quarantine import CHUNK, Choice, Held
from jobs.remedy import Remedy, Threw, form_of
from jobs.verdict import parsed, verdict
from pipeline import failpoint
from pipeline.event import Window
from pipeline.streams import Streams

# Live events come first: above so many entries that nobody has read yet, a fix waits.
MOST_UNREAD: Final = 5000
# What is counted under this failed in the expression; no reason for refusing an event is called so.
THREW: Final = "expression_failed"
_SAMPLES: Final = 3


@dataclass(frozen=True)
class Trial:
    """What a remedy makes of an entry."""

    held: Held
    # None where it failed.
    made: bytes | None
    # Why there is no event: a reason code, or ``THREW``; None where there is one.
    reason: str | None
    detail: str | None

    @property
    def ids(self) -> tuple[str | None, str | None]:
        """The event's id before and after; None where the bytes say none."""
        return _id(self.held.raw), _id(self.made)


@dataclass(frozen=True)
class Fixed:
    """What a fix did."""

    entries: int
    # What stayed, by reason, and of each the first: the key, and why in words.
    left: Mapping[str, int]
    samples: Mapping[str, Sequence[tuple[bytes, str]]]
    # Larger than what the quarantine keeps: the rest of the bytes is gone, so they were not tried.
    cut: int
    # Whether it came to the end, or to its limit; else it was stopped before.
    is_complete: bool


@dataclass
class _Books:
    """What was done so far."""

    entries: int = 0
    left: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[tuple[bytes, str]]] = field(default_factory=dict)

    def note(self, trial: Trial) -> None:
        if trial.reason is None:
            self.entries += 1
            return
        self.left[trial.reason] += 1
        kept = self.samples.setdefault(trial.reason, [])
        if len(kept) < _SAMPLES:
            kept.append((trial.held.key, trial.detail or ""))


def attempt(held: Held, remedy: Remedy, window: Window) -> Trial:
    """Try a remedy on an entry and judge what comes out, as a consumer would; changes nothing."""
    try:
        made = remedy(held.raw)
    except Threw as threw:
        return Trial(held, None, THREW, str(threw))
    answer = verdict(form_of(made), made, window)
    reason = None if answer.reason is None else answer.reason.value
    return Trial(held, made, reason, answer.detail)


def rehearse(
    engine: Engine, choice: Choice, remedy: Remedy, window: Window, most: int
) -> tuple[list[Trial], int]:
    """What a fix would do with some, and how many it would try in all; changes nothing.

    The order is that of the keys, which are hashes: whatever is chosen, these are some of it at random.
    """
    trials: list[Trial] = []
    after: bytes | None = b""
    with engine.connect() as connection:
        there = quarantine.count(connection, choice)
        while after is not None and len(trials) < most:
            some = min(CHUNK, most - len(trials))
            page = quarantine.page(connection, choice, after, some, takes_foreign=True)
            connection.rollback()  # not open while the remedy takes its time
            trials += [attempt(one, remedy, window) for one in page.held]
            after = page.last
    return trials, there.whole + there.foreign


def fix(
    engine: Engine,
    streams: Streams,
    choice: Choice,
    remedy: Remedy,
    window: Window,
    *,
    limit: int | None = None,
    stop: threading.Event | None = None,
    tell: Progress = untold,
) -> Fixed:
    """Send what the remedy makes events of, and mark those entries as released; try at most ``limit``.

    After a crash between appending and marking, the next fix appends the same again, which the primary key
    drops: the same bytes give the same id. Raises NobodyReads.
    """
    stop = stop or threading.Event()
    books, tried = _Books(), 0
    after: bytes | None = b""
    streams.note()
    with engine.connect() as connection:
        with connection.begin():
            there = quarantine.count(connection, choice)
        whole = there.whole + there.foreign
        total = whole if limit is None else min(whole, limit)
        while after is not None and not stop.is_set() and (limit is None or tried < limit):
            most = CHUNK if limit is None else min(CHUNK, limit - tried)
            with connection.begin():
                page = quarantine.page(connection, choice, after, most, takes_foreign=True)
            trials = [attempt(one, remedy, window) for one in page.held if not stop.is_set()]
            wait_for_room(streams, MOST_UNREAD, PATIENCE_S, stop)
            if stop.is_set():
                break
            _send_some(connection, streams, trials, books)
            tried, after = tried + len(trials), page.last
            tell(tried, total)
    is_complete = after is None or tried == limit
    return Fixed(books.entries, dict(books.left), books.samples, there.cut, is_complete)


def _send_some(
    connection: Connection, streams: Streams, trials: Sequence[Trial], books: _Books
) -> None:
    """Append and mark a chunk in one transaction; what another has in its hands is left to it.

    The rows were looked at without a lock, for a remedy may take its time; but what is under a key never
    changes, so what was made of it still holds.
    """
    with connection.begin():
        connection.execute(quarantine.LIMIT_IDLE)
        wanted = {"keys": [trial.held.key for trial in trials]}
        free = set(map(bytes, connection.execute(quarantine.TAKE_AGAIN, wanted).scalars()))
        ours = [trial for trial in trials if trial.held.key in free]
        sent = [one for one in ours if one.made is not None and one.reason is None]
        if sent:
            streams.append_entries([(form_of(one.made or b""), one.made or b"") for one in sent])
            failpoint.reached("in_fix")
            for mark, is_other in ((quarantine.MARK_FIXED, True), (quarantine.MARK, False)):
                # What was sent as it was, for it is an event by now, may be refused by the database.
                keys = [one.held.key for one in sent if (one.made != one.held.raw) is is_other]
                connection.execute(mark, {"keys": keys})
        left = [one.held.key for one in ours if one.reason is not None]
        if left:
            connection.execute(quarantine.TRIED, {"keys": left})
    for trial in ours:
        books.note(trial)


def _id(raw: bytes | None) -> str | None:
    value: Any = None if raw is None else parsed(raw)
    return str(value["id"])[:80] if isinstance(value, dict) and "id" in value else None
