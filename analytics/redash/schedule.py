"""How often a query is run: a few words flow in, a Schedule flows out; and back."""

from __future__ import annotations

import re
from typing import Final

from analytics.redash.model import Schedule

_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WORDS: Final = re.compile(
    r"(?P<count>[1-9][0-9]*)(?P<unit>[dhms])"
    rf"(?: on (?P<on>{'|'.join(_DAYS)}))?"
    r"(?: at (?P<at>(?:[01][0-9]|2[0-3]):[0-5][0-9]))?"
    r"(?: until (?P<until>[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])))?"
)
_SPAN: Final = re.compile(r"([1-9][0-9]*)([dhms])")


def read(words: str) -> Schedule | None:
    """What is meant; None where it is not understood."""
    found = _WORDS.fullmatch(words)
    if found is None:
        return None
    every_s = int(found["count"]) * _UNITS[found["unit"]]
    is_days = every_s % _UNITS["d"] == 0
    # Redash looks at the time of day for whole days only, and at the day of the week for whole weeks only.
    if (found["at"] and not is_days) or (found["on"] and every_s % (7 * _UNITS["d"])):
        return None
    return Schedule(every_s, found["at"], found["on"], found["until"])


def written(schedule: Schedule) -> str:
    """The same in words."""
    words = span_written(schedule.every_s)
    for word, value in (("on", schedule.on), ("at", schedule.at), ("until", schedule.until)):
        if value is not None:
            words += f" {word} {value}"
    return words


def span_read(words: str) -> int | None:
    """A span such as 90s or 2d in seconds; None where it is none."""
    found = _SPAN.fullmatch(words)
    return int(found[1]) * _UNITS[found[2]] if found else None


def span_written(seconds: int) -> str:
    """Seconds in the largest unit that they are a whole number of."""
    unit = next(unit for unit, length_s in _UNITS.items() if seconds % length_s == 0)
    return f"{seconds // _UNITS[unit]}{unit}"
