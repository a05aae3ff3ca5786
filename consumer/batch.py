"""A batch: entries flow in by the page, and it says when it is time to store them. Pure: no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pipeline.event import MAX_EVENT_BYTES, Entry, Event, Reason, Refused, Window, decode_all

_FOREIGN: Final = Refused(
    Reason.NOT_AN_EVENT_ENTRY, "the entry has other fields than the one named event"
)


@dataclass(frozen=True)
class Limits:
    """When a batch is full: whichever comes first."""

    rows: int
    bytes: int
    age_s: float
    # Entries asked for at once: past a thousand a longer reply costs more than a second request.
    read: int = 1000


@dataclass(frozen=True)
class Refusal:
    """An entry that goes to the quarantine, and why."""

    entry: Entry
    reason: Reason
    detail: str


@dataclass
class Batch:
    """What was read and is not stored yet.

    ``events[i]`` came as ``sources[i]``. Every id in ``ids`` is acknowledged once the batch is stored.
    """

    limits: Limits
    # What an entry takes, until this batch has seen one: as much as an event may take, or what the batch
    # before this one saw.
    expected_bytes: float = MAX_EVENT_BYTES
    ids: list[bytes] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    sources: list[Entry] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    # Where the refused stood among the ids.
    refused_at: list[int] = field(default_factory=list)
    # Unknown keys of accepted events, by name: the senders' schema drifts from ours.
    drift: Counter[str] = field(default_factory=Counter)
    size_bytes: int = 0
    # The moment the first entry came, on the caller's monotonic clock.
    opened_s: float | None = None

    def take(self, entries: Sequence[Entry], window: Window, now_s: float) -> None:
        """Add entries: each an event if it is one, a refusal if not. Never raises on what they hold."""
        if self.opened_s is None and entries:
            self.opened_s = now_s
        first = len(self.ids)
        self.ids += [entry.id for entry in entries]
        self.size_bytes += sum([len(entry.payload) for entry in entries])
        answers = decode_all([entry.payload for entry in entries], window, self.drift)
        for place, entry in enumerate(entries):
            answer = answers[place] if entry.is_event else _FOREIGN
            if isinstance(answer, Refused):
                self.refusals.append(Refusal(entry, answer.reason, answer.detail))
                self.refused_at.append(first + place)
            else:
                self.events.append(answer)
                self.sources.append(entry)

    def is_due(self, now_s: float, *, is_drained: bool) -> bool:
        """Whether to store now: it is full, or its first entry is old, or nothing more waits."""
        if self.opened_s is None:
            return False
        return (
            is_drained
            or len(self.ids) >= self.limits.rows
            or self.size_bytes >= self.limits.bytes
            or now_s - self.opened_s >= self.limits.age_s
        )

    def room(self, coming: int = 0) -> int:
        """How many entries to ask for, when so many are on their way: fewer when those seen were large.

        Where those fill this batch, it is how many the next one may have.
        """
        rows = self.limits.rows - len(self.ids) - coming
        size_bytes = self.limits.bytes - self.size_bytes - coming * self.mean_bytes()
        if rows <= 0:
            rows = self.limits.rows
        if size_bytes <= 0:
            size_bytes = self.limits.bytes
        return max(1, min(self.limits.read, rows, int(size_bytes / max(self.mean_bytes(), 1.0))))

    def mean_bytes(self) -> float:
        """What an entry of this batch takes."""
        return self.size_bytes / len(self.ids) if self.ids else self.expected_bytes
