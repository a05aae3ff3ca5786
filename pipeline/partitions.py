"""Partitions of game_events: a day flows in, the span of days that must be there flows out.

The database makes them, with its own function ``ensure_game_events_partitions``.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

# Late events of yesterday come every day, and a week ahead outlives a long weekend without a start.
DAYS_BACK: Final = 1
DAYS_AHEAD: Final = 7
# Makes what is missing of a span of days, as SQLAlchemy takes it; answers how many.
ENSURE: Final = "select ensure_game_events_partitions(:first_day, :last_day)"


def around(today: date) -> tuple[date, date]:
    """The first and the last UTC day that a start prepares; events of others make theirs as they come."""
    return today - timedelta(days=DAYS_BACK), today + timedelta(days=DAYS_AHEAD)
