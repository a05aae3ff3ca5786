"""Words: numbers flow in, what a person reads of them flows out. Pure; a number that is missing is a dash."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

DASH: Final = "–"
_STEPS: Final = ((86_400, "d"), (3600, "h"), (60, "min"))


def is_missing(value: float | None) -> bool:
    """Whether there is no such number: None, NaN, or pandas' NA."""
    return value is None or value != value or not math.isfinite(value)  # noqa: PLR0124  # NaN


def whole(value: float | None) -> str:
    """``12,345``."""
    return DASH if is_missing(value) else f"{value:,.0f}"


def number(value: float | None, digits: int = 1) -> str:
    """``12.3``."""
    return DASH if is_missing(value) else f"{value:,.{digits}f}"


def percent(share: float | None, digits: int = 0) -> str:
    """``42%`` of 0.42."""
    return DASH if is_missing(share) else f"{100 * (share or 0):.{digits}f}%"


def counted(value: float, thing: str, things: str | None = None) -> str:
    """``1 player``, ``12 players``."""
    return f"{value:,.0f} {thing if value == 1 else things or thing + 's'}"


def lasting(seconds: float | None) -> str:
    """``14 min``, ``3.5 h``, ``2 d``; under a minute in seconds."""
    if seconds is None or is_missing(seconds):
        return DASH
    for size, unit in _STEPS:
        if seconds >= size:
            value = seconds / size
            return (
                f"{value:.0f} {unit}" if value >= 10 or value % 1 < 0.05 else f"{value:.1f} {unit}"
            )
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def signed(value: float | None) -> str:
    """``+12``, ``−3``, ``0``."""
    if value is None or is_missing(value):
        return DASH
    return f"{value:+,.0f}".replace("-", "−") if round(value) else "0"


def name(text: str, most: int = 32) -> str:
    """What a sender calls somebody or something, on one line, without what cannot be seen, and cut."""
    seen = " ".join("".join(c if c.isprintable() else " " for c in text).split()) or DASH
    return seen if len(seen) <= most else f"{seen[: most - 1]}…"


def literal(text: str) -> str:
    """The same text in Markdown, in which nothing of it is markup, mathematics or HTML."""
    return "".join(
        c if c.isalnum() or c in " ,;:%" or ord(c) > 127 else f"&#{ord(c)};" for c in text
    )


def listed(things: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(things) < 2:
        return "".join(things)
    return f"{', '.join(things[:-1])} and {things[-1]}"
