"""Summary: the question what a rollup table should hold of a span flows in, the statements that make the span
anew, and that find where it is wrong, flow out. Pure.

Both are made of the same question: whatever a rollup would write now is what a check expects to find.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from sqlalchemy import TextClause, text

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
# What a sort or a join may take in this transaction: an hour, or a day, of millions of events is counted at
# once. With less the planner sorts, which takes twice as long as to hash.
MORE_MEMORY: Final = text("set local work_mem = '64MB'")
# A span is named twice, by its moments and by its days. Both ends of it are named, so that Postgres looks
# into the partitions of that span alone.
_WHERE: Final = {
    "hour": "hour >= :begin and hour < :end",
    "day": "day >= :day and day < :next_day",
}

Span = Mapping[str, datetime | date]


@dataclass(frozen=True)
class Summary:
    """A table of rollups. Its primary key is ``by`` with the ``keys``; ``values`` are its other columns."""

    name: str
    # What a span of it is made of: "hour" or "day".
    by: str
    keys: tuple[str, ...]
    values: tuple[str, ...]
    # What the rows of a span should be: by, then keys, then values.
    count: str

    @property
    def forget(self) -> TextClause:
        """Removes the rows of a span."""
        return text(f"delete from {self.name} where {_WHERE[self.by]}")  # noqa: S608  # the names are ours

    @property
    def note(self) -> TextClause:
        """Counts the rows of a span and writes them."""
        columns = ", ".join((self.by, *self.keys, *self.values))
        return text(f"insert into {self.name} ({columns}) {self.count}")

    @property
    def differ(self) -> TextClause:
        """Answers those hours, or days, of a span whose rows are not what they should be."""
        counted = ", ".join(f"counted.{value}" for value in self.values)
        kept = ", ".join(f"kept.{value}" for value in self.values)
        return text(f"""
            with counted as ({self.count}), kept as (
                select * from {self.name} where {_WHERE[self.by]}
            )
            select distinct {self.by}
            from counted full join kept using ({", ".join((self.by, *self.keys))})
            where ({counted}) is distinct from ({kept})
        """)  # noqa: S608


def of_hour(hour: datetime) -> Span:
    """The span of an hour, as it begins."""
    return {"begin": hour, "end": hour + HOUR}


def of_day(day: date) -> Span:
    """The span of a UTC day."""
    midnight = datetime.combine(day, time(), UTC)
    return {"begin": midnight, "end": midnight + DAY, "day": day, "next_day": day + DAY}


def from_day(day: date) -> Span:
    """The span of a UTC day and all that come after it; of days only."""
    return {"day": day, "next_day": date.max}
