"""Touched: what consumers tell of hours that have changed flows in, which hours to make anew flows out.

Whoever stores or removes events writes the hour into ``touched_hours`` in the same transaction, but a
consumer says the same only once a minute (consumer/touched.py). So a row stands for whatever is committed
until 300 s after its ``touched_at``: 60 s in which the consumer is silent, and the 240 s that a transaction
takes at most. No event is missed, because

- a row that is younger than that stays, and the hour is made anew once more by the next rollup;
- one that is older is removed, but only by a rollup that read it first and made its hour afterwards, and so
  saw all that the row stands for. What is removed are the very rows that were read: one that becomes
  visible in between, old as its time may be, stays for the next rollup;
- it is removed in the transaction that sums up the day, the last of all. A rollup that is killed before
  has removed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from sqlalchemy import Connection, text

from jobs.summary import of_day

# consumer.touched.TELL_EVERY_S and what consumer.load takes a transaction to last at most.
SETTLED_S: Final = 300.0

# Whoever may add events may write anything here: what no event can be of stays, and stops nobody.
HOURS: Final = text("""
select distinct hour from touched_hours
where hour >= 'epoch' and hour < clock_timestamp() + interval '1 year' order by hour
""")
# The server's clock, which wrote the times.
READ: Final = text("""
select cast(ctid as text) as place, cast(xmin as text) as writer, hour,
       touched_at < clock_timestamp() - make_interval(secs => :settled_s) as is_settled
from touched_hours where hour >= :begin and hour < :end
""")
# A place is used again once its row is gone, but by another transaction.
REMOVE: Final = text("""
delete from touched_hours kept
using unnest(cast(:places as text[]), cast(:writers as text[])) as read (place, writer)
where kept.ctid = cast(read.place as tid) and cast(kept.xmin as text) = read.writer
""")
# As if long ago: once will do.
TOUCH: Final = text("""
insert into touched_hours (hour, touched_at)
select hour, timestamptz 'epoch' from unnest(cast(:hours as timestamptz[])) as hour
""")


@dataclass(frozen=True)
class Told:
    """A row of ``touched_hours``, as it was read."""

    # Where the row is, and the transaction that wrote it: the two together are no other row's.
    place: str
    writer: str
    hour: datetime
    # Whether all that it stands for was committed before it was read.
    is_settled: bool


def hours(connection: Connection) -> list[datetime]:
    """The hours of which something was told, each once, in order."""
    return sorted({_begin(hour) for hour in connection.execute(HOURS).scalars()})


def read(connection: Connection, day: date) -> list[Told]:
    """What was told of the hours of a UTC day. Its own transaction, or at the beginning of one."""
    values: dict[str, object] = {**of_day(day), "settled_s": SETTLED_S}
    return [
        Told(row.place, row.writer, _begin(row.hour), row.is_settled)
        for row in connection.execute(READ, values)
    ]


def remove(connection: Connection, told: Iterable[Told]) -> None:
    """Remove those of them that are settled, once their hours and their day were made."""
    settled = [row for row in told if row.is_settled]
    if settled:
        values = {
            "places": [row.place for row in settled],
            "writers": [row.writer for row in settled],
        }
        connection.execute(REMOVE, values)


def touch(connection: Connection, hours: Iterable[datetime]) -> None:
    """Have the next rollup make these hours anew."""
    connection.execute(TOUCH, {"hours": list(hours)})


def _begin(moment: datetime) -> datetime:
    """The beginning of the UTC hour, should somebody have told of a moment in it."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
