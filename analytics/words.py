"""Words: numbers flow in, what a person reads of them flows out. Pure; a number that is missing is a dash."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Final, cast

DASH: Final = "–"
# Not one that ends a sentence, nor one between digits.
_POINT_IN_WORD: Final = re.compile(r"\.(?![ \d]|$)|(?<!\d)\.(?=\d)")
# Seconds in a unit, the largest first.
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"), (0.001, "ms"))


def is_missing(value: object) -> bool:
    """Whether there is no such number: None, NaN, pandas' NA, or one without end."""
    try:
        return not math.isfinite(cast("float", value))
    except TypeError:  # asked without pandas: commands that show no frame have none
        return True


def whole(value: float | None) -> str:
    """``12,345``."""
    return number(value, 0)


def number(value: float | None, digits: int = 1) -> str:
    """``12.3``."""
    return DASH if is_missing(value) else f"{value:z,.{digits}f}"


def percent(share: float | None, digits: int = 0) -> str:
    """``42%`` of 0.42; of some that are hardly any ``under 1%``, and of nearly all ``over 99%``."""
    if share is None or is_missing(share):
        return DASH
    told = f"{100 * share:z.{digits}f}%"
    least = 10.0**-digits
    if 0 < share < 1 and float(told[:-1]) in (0, 100):
        return f"under {least:.{digits}f}%" if share < 0.5 else f"over {100 - least:.{digits}f}%"
    return told


def counted(value: float | None, thing: str, things: str | None = None) -> str:
    """``1 player``, ``12 players``."""
    told = whole(value)
    return f"{told} {thing if told == '1' else things or thing + 's'}"


def lasting(seconds: float | None) -> str:
    """``4 ms``, ``14 min``, ``3.5 h``, ``2 d``: in the largest unit of which it is one at least."""
    if seconds is None or is_missing(seconds):
        return DASH
    if not seconds:
        return "0 s"
    for (size, unit), (smaller, _) in itertools.pairwise(_UNITS):
        # 59.7 s would be called 60.
        if round(seconds / smaller) * smaller >= size:
            return f"{_short(seconds / size)} {unit}"
    size, unit = _UNITS[-1]
    return f"{_short(seconds / size)} {unit}"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value < 9.95 else f"{value:,.0f}"


def signed(value: float | None) -> str:
    """``+12``, ``−3``, ``0``."""
    if value is None or is_missing(value):
        return DASH
    return f"{value:+,.0f}".replace("-", "−") if round(value) else "0"


def name(text: str, most: int = 28) -> str:
    """What a sender calls somebody or something, on one line, without what cannot be seen, and cut."""
    spaced = "".join(c if c.isprintable() else " " * c.isspace() for c in text)
    seen = " ".join(spaced.split()) or DASH
    return seen if len(seen) <= most else f"{seen[: most - 1]}…"


def literal(text: str) -> str:
    """The same text in Markdown, in which nothing of it is markup, mathematics, HTML or an address."""
    escaped = "".join(
        c if c.isalnum() or c in " ,;:%." or ord(c) > 127 else f"&#{ord(c)};" for c in text
    )
    # A full stop or a decimal point is none of these; within words it may make an address.
    return _POINT_IN_WORD.sub("&#46;", escaped)


def sentence(text: str) -> str:
    """The same, begun with a capital letter."""
    return text[:1].upper() + text[1:]


def listed(things: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(things) < 2:
        return "".join(things)
    return f"{', '.join(things[:-1])} and {things[-1]}"
