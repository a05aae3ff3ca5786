"""Sift: entries of the past and what was asked for flow in, what of them to send again flows out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from pipeline.entry import Entry, Form, array_of, packed_up, split
from pipeline.event import (
    MAX_EVENT_BYTES,
    Event,
    Reason,
    Refused,
    Window,
    decode_all,
    encode,
)

# Of events that were taken out of the archive: as many as our own producer puts into an entry.
EVENTS_AN_ENTRY: Final = 100


@dataclass(frozen=True)
class Chosen:
    """Whose events, and of what kind; None means all."""

    player: str | None = None
    action: str | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self.player is None and self.action is None

    def wants(self, event: Event) -> bool:
        """Whether an event is one of these."""
        return self.player in {None, event.player} and self.action in {None, event.action}


EVERYTHING: Final = Chosen()


@dataclass(frozen=True)
class Sifted:
    """What to send again, and what not."""

    entries: list[tuple[Form, bytes]]
    # Events that go with them.
    events: int = 0
    # Entries that are none of ours.
    foreign: int = 0
    # Events that are older than what consumers take: they would be refused, though they are stored.
    too_old: int = 0
    # What is no event, and so is of no player and no action that was asked for.
    refused: int = 0


def sifted(entries: Iterable[Entry], chosen: Chosen, window: Window) -> Sifted:
    """What of some entries to send again, each event in its own bytes, an array as one of what is left.

    Where everything is asked for, what is no event goes along, to be judged anew.
    """
    out: list[tuple[Form, bytes]] = []
    events = foreign = too_old = refused = 0
    for entry in entries:
        if entry.form is Form.FOREIGN:
            foreign += 1
            continue
        payloads, answers = _looked_at(entry, window)
        kept: list[bytes] = []
        for payload, answer in zip(payloads, answers, strict=True):
            if isinstance(answer, Event):
                if chosen.wants(answer):
                    kept.append(payload)
                    events += 1
            elif answer.reason is Reason.TOO_OLD:
                too_old += 1
            elif chosen.is_all:
                kept.append(payload)
            else:
                refused += 1
        if len(kept) == len(payloads):
            out.append((entry.form, entry.payload))
        elif kept:
            out.append((entry.form, array_of(kept)))
    return Sifted(out, events, foreign, too_old, refused)


def _looked_at(entry: Entry, window: Window) -> tuple[list[bytes], list[Event | Refused]]:
    """What an entry carries; an array that cannot be taken apart is one thing that is no event."""
    try:
        payloads = [entry.payload] if entry.form is Form.EVENT else split(entry.payload)
    except Refused as refused:
        return [entry.payload], [refused]
    return payloads, decode_all(payloads, window)


def packed(events: Sequence[Event], window: Window) -> Sifted:
    """Entries that carry these events, in their order."""
    fresh = [event for event in events if event.ts_ms >= window.oldest_ms]
    entries = packed_up([_written(event) for event in fresh], EVENTS_AN_ENTRY)
    return Sifted(entries, len(fresh), too_old=len(events) - len(fresh))


def _written(event: Event) -> bytes:
    """The event as it goes onto the stream; one that would be too large with its time goes without."""
    payload = encode(event)
    return payload if len(payload) <= MAX_EVENT_BYTES else msgspec.json.encode(event)
