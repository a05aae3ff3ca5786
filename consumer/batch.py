"""A batch: entries flow in by the page, the events they carry are looked at, and it says when it is time to
store them. Pure: no clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, cast

from pipeline.entry import MAX_ARRAY_BYTES, Entry, Form, unpacked
from pipeline.event import Event, Reason, Refused, Window, decode_all


@dataclass(frozen=True)
class Limits:
    """When a batch is full: whichever comes first."""

    rows: int
    bytes: int
    age_s: float
    # Events asked for at once: past a thousand a longer reply costs more than a second request.
    read: int = 1000


@dataclass(frozen=True)
class Mean:
    """What an entry carries on average."""

    bytes: float
    events: float


# Who asked for a thousand events, after many that came alone, may get a thousand arrays.
_ARRAYS: Final = 10
# Before any was seen: the most that one of ours may take.
_UNSEEN: Final = Mean(MAX_ARRAY_BYTES, 1.0)


def handfuls(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """The entries of a page, as many as may be looked at before it is asked whether a batch is full."""
    arrays = [place for place, entry in enumerate(entries) if entry.form is Form.EVENTS]
    for first, end in pairwise([0, *arrays[_ARRAYS::_ARRAYS], len(entries)]):
        yield entries[first:end]


@dataclass(frozen=True)
class Refusal:
    """What goes to the quarantine, and why: an event that is none, or a whole entry."""

    entry: Entry
    reason: Reason
    detail: str


@dataclass
class Batch:
    """What was read and is not stored yet.

    ``events[i]`` came as ``sources[i]``. Every id in ``ids`` is acknowledged once the batch is stored.
    """

    limits: Limits
    # What an entry carries until this batch has seen one: what those of the batch before this one did.
    expected: Mean = _UNSEEN
    ids: list[bytes] = field(default_factory=list)
    # The same by the stream that they came from.
    by_key: dict[str, list[bytes]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    sources: list[Entry] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    # How many events were looked at before each of the refused.
    refused_at: list[int] = field(default_factory=list)
    # Unknown keys of accepted events, by name: the senders' schema drifts from ours.
    drift: Counter[str] = field(default_factory=Counter)
    # Events, and what should have been some, of forgotten players: they were taken out again.
    forgotten: int = 0
    size_bytes: int = 0
    # The moment the first entry came, on the caller's monotonic clock.
    opened_s: float | None = None

    @property
    def taken(self) -> int:
        """Events, and what should have been some, that came so far."""
        return len(self.events) + len(self.refusals)

    def take(self, entries: Sequence[Entry], window: Window, now_s: float, key: str = "") -> None:
        """Add entries of a stream: each event if it is one, a refusal if not. Never raises on what they
        hold.
        """
        if self.opened_s is None and entries:
            self.opened_s = now_s
        ids = [entry.id for entry in entries]
        self.ids += ids
        if ids:
            self.by_key.setdefault(key, []).extend(ids)
        self.size_bytes += sum([len(entry.payload) for entry in entries])
        if any(entry.form is not Form.EVENT for entry in entries):
            entries, none = unpacked(entries)
            for entry, why in none:
                self._refuse(entry, why)
        answers = decode_all([entry.payload for entry in entries], window, self.drift)
        done = 0
        # Few are refused: all between two of them are taken at once.
        for place in [place for place, one in enumerate(answers) if type(one) is Refused]:
            self._accept(entries[done:place], answers[done:place])
            self._refuse(entries[place], cast("Refused", answers[place]))
            done = place + 1
        self._accept(entries[done:], answers[done:])

    def _accept(self, entries: Sequence[Entry], events: Sequence[Event | Refused]) -> None:
        self.events += cast("Sequence[Event]", events)
        self.sources += entries

    def _refuse(self, entry: Entry, refused: Refused) -> None:
        self.refused_at.append(self.taken)
        self.refusals.append(Refusal(entry, refused.reason, refused.detail))

    def is_due(self, now_s: float, *, is_drained: bool) -> bool:
        """Whether to store now: it is full, or its first entry is old, or nothing more waits."""
        if self.opened_s is None:
            return False
        return (
            is_drained
            or self.taken >= self.limits.rows
            or self.size_bytes >= self.limits.bytes
            or now_s - self.opened_s >= self.limits.age_s
        )

    def room(self, coming: int = 0) -> int:
        """How many entries to ask for, when so many are on their way: fewer when those seen were large.

        Where those fill this batch, it is how many the next one may have.
        """
        one = self.mean()
        rows = self.limits.rows - self.taken - coming * one.events
        size_bytes = self.limits.bytes - self.size_bytes - coming * one.bytes
        if rows <= 0:
            rows = self.limits.rows
        if size_bytes <= 0:
            size_bytes = self.limits.bytes
        return max(1, int(min(min(self.limits.read, rows) / one.events, size_bytes / one.bytes)))

    def mean(self) -> Mean:
        """What an entry of this batch carries."""
        if not self.ids:
            return self.expected
        return Mean(max(self.size_bytes / len(self.ids), 1.0), max(self.taken / len(self.ids), 1.0))
