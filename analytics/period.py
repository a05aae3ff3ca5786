"""Period: a number of days flows in, the UTC days that notebooks and reports are about flow out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

# Variables that tell a notebook how many days it is about, and the last of them (ISO 8601).
DAYS: Final = "INFAMOUS_DAYS"
UNTIL: Final = "INFAMOUS_UNTIL"

LONGEST_DAYS: Final = 3660
_UNITS: Final = {"d": 1, "w": 7}
_SPAN: Final = re.compile(r"([1-9][0-9]{0,3})([dw])")


class BadPeriod(Exception):
    """It is no number of days."""


@dataclass(frozen=True)
class Period:
    """Whole UTC days, the first and the last included; today, as a last day, as far as it has come."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise BadPeriod("A period has one day at least.")

    @property
    def days(self) -> int:
        """How many."""
        return (self.last - self.first).days + 1

    @property
    def since(self) -> datetime:
        """The moment it begins."""
        return datetime.combine(self.first, time(), UTC)

    @property
    def until(self) -> datetime:
        """The moment it has ended."""
        return datetime.combine(self.last + timedelta(days=1), time(), UTC)

    @property
    def before(self) -> Period:
        """As many days before it."""
        return ending(self.first - timedelta(days=1), self.days)

    def __str__(self) -> str:
        """For people: ``21 to 27 Nov 2026``."""
        first, last = self.first, self.last
        if first == last:
            return f"{last:%-d %b %Y}"
        if first.year != last.year:
            return f"{first:%-d %b %Y} to {last:%-d %b %Y}"
        if first.month != last.month:
            return f"{first:%-d %b} to {last:%-d %b %Y}"
        return f"{first.day} to {last:%-d %b %Y}"

    def _repr_markdown_(self) -> str:
        """For notebooks."""
        return f"{self}, UTC"


def ending(last: date, days: int) -> Period:
    """So many days, the last of which is this. Raises BadPeriod where there are none."""
    return Period(last - timedelta(days=days - 1), last)


def latest(days: int, first_known: date | None, today: date) -> Period:
    """So many whole days up to yesterday; where nothing is known of a day before today, up to today."""
    is_new = first_known is None or first_known >= today
    return ending(today if is_new else today - timedelta(days=1), days)


def up_to_now(period: Period, today: date) -> Period:
    """The same days, and today where they end the day before."""
    is_latest = period.last == today - timedelta(days=1)
    return Period(period.first, today) if is_latest else period


def days_of(span: str) -> int:
    """``7d`` and ``1w`` are seven days. Raises BadPeriod."""
    found = _SPAN.fullmatch(span.strip().lower())
    days = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 1 <= days <= LONGEST_DAYS:
        raise BadPeriod(
            f"{span} is no number of whole days: write 7d, or 4w, up to {LONGEST_DAYS}d."
        )
    return days
