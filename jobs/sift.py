"""Sift: entries of the past and what was asked for flow in, what of them to send again flows out. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from pipeline.entry import Entry, Form, array_of, packed_up, payloads_of
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
_DIGEST_BYTES: Final = 16


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
    # What was let through before: earlier replays, and senders that were not sure, sent it more than once.
    repeated: int = 0


def all_new(_digest: bytes) -> bool:
    """Nothing was let through before."""
    return True


def sifted(
    entries: Iterable[Entry],
    chosen: Chosen,
    window: Window,
    is_new: Callable[[bytes], bool] = all_new,
) -> Sifted:
    """What of some entries to send again, each event in its own bytes, an array as one of what is left.

    Where everything is asked for, what is no event goes along, to be judged anew. ``is_new`` is asked with
    the digest of whatever would go, and says whether that is the first time. An event's is that of what it
    means: one that came back from the archive, spelled out in another way, is the same. Two under one id that
    differ in anything else both go: which of them is stored, the database says.
    """
    out: list[tuple[Form, bytes]] = []
    events = foreign = too_old = refused = repeated = 0
    for entry in entries:
        if entry.form is Form.FOREIGN:
            foreign += 1
            continue
        payloads, answers = _looked_at(entry, window)
        kept: list[bytes] = []
        for payload, answer in zip(payloads, answers, strict=True):
            if isinstance(answer, Event):
                if not chosen.wants(answer):
                    continue
                if is_new(_digest(_meaning(answer))):
                    kept.append(payload)
                    events += 1
                else:
                    repeated += 1
            elif answer.reason is Reason.TOO_OLD:
                too_old += 1
            elif not chosen.is_all:
                refused += 1
            elif is_new(_digest(answer.reason.encode(), payload)):
                kept.append(payload)
            else:
                repeated += 1
        if len(kept) == len(payloads):
            out.append((entry.form, entry.payload))
        elif kept:
            out.append((entry.form, array_of(kept)))
    return Sifted(out, events, foreign, too_old, refused, repeated)


def _meaning(event: Event) -> bytes:
    """The same bytes for the same event. Its time stands in its id, however else it was written down."""
    return msgspec.json.encode(msgspec.structs.replace(event, ts=None))


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"\0".join(parts), digest_size=_DIGEST_BYTES).digest()


def _looked_at(entry: Entry, window: Window) -> tuple[list[bytes], list[Event | Refused]]:
    """What an entry carries; an array that cannot be taken apart is one thing that is no event."""
    try:
        payloads = payloads_of(entry)
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
