"""The verdict: bytes of the quarantine flow in, what today's rules say of them flows out. Pure.

The rules are those of the consumer. Only the database may still refuse what they let through.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.entry import Entry, Form, payloads_of
from pipeline.event import Event, Reason, Refused, Window, decode_all


@dataclass(frozen=True)
class Verdict:
    """What the rules say. ``events`` is how many there are in the bytes where all is well, else 0."""

    events: int
    # Both None where all is well.
    reason: Reason | None = None
    detail: str | None = None

    @property
    def is_taken(self) -> bool:
        """Whether all of it would be taken."""
        return self.reason is None


def verdict(form: Form, raw: bytes, window: Window) -> Verdict:
    """Judge the value of an entry. Of an array, each event must be one."""
    try:
        return _of_all(decode_all(payloads_of(Entry(b"", raw, form)), window))
    except Refused as refused:
        return Verdict(0, refused.reason, refused.detail)


def _of_all(answers: Sequence[Event | Refused]) -> Verdict:
    for number, answer in enumerate(answers, 1):
        if isinstance(answer, Refused):
            where = "" if len(answers) == 1 else f"event {number} of {len(answers)}: "
            return Verdict(0, answer.reason, f"{where}{answer.detail}")
    return Verdict(len(answers))


def parsed(raw: bytes) -> object:
    """What the bytes say as JSON, NaN and Infinity included; None where they are no JSON."""
    try:
        return json.loads(raw.decode())
    except (
        ValueError,
        RecursionError,
    ):  # bad UTF-8 and integers of thousands of digits are ValueErrors
        return None
