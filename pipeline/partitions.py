"""Partitions of game_events: a day flows in, the span of days that must be there flows out.

The database makes them, with its own function ``ensure_game_events_partitions``. One is called
game_events_20261125; where a day is cut in parts, game_events_20261125_06, by the hour it begins with.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta
from typing import Final

# Late events of yesterday come every day, and a week ahead outlives a long weekend without a start.
DAYS_BACK: Final = 1
DAYS_AHEAD: Final = 7
# With fewer days ahead somebody should look why no more are made.
FEWEST_AHEAD: Final = 3
# Makes what is missing of a span of days, as SQLAlchemy takes it; answers how many.
ENSURE: Final = "select ensure_game_events_partitions(:first_day, :last_day)"
# A partition's name, in SQL and in Python.
NAME: Final = "^game_events_[0-9]{8}(_[0-9]{2})?$"
# A row a UTC day that has any: the day, and how many they are.
DAYS: Final = f"""
select to_date(substring(child.relname from 13 for 8), 'YYYYMMDD') as day, count(*) as partitions
from pg_inherits join pg_class child on child.oid = inhrelid
where inhparent = 'game_events'::regclass and child.relname ~ '{NAME}'
group by 1 order by 1
"""  # noqa: S608  # the pattern is ours


def around(today: date) -> tuple[date, date]:
    """The first and the last UTC day that a start prepares; events of others make theirs as they come."""
    return today - timedelta(days=DAYS_BACK), today + timedelta(days=DAYS_AHEAD)


def ahead(days: Collection[date], today: date) -> int:
    """How many days after today have partitions, up to the first that has none."""
    count = 0
    while today + timedelta(days=count + 1) in days:
        count += 1
    return count
