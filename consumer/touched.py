"""Touched: hours of stored events flow in, those whose rollups are to be told so flow out. Pure: no clock.

Rollups are made anew for the hours that have changed. A consumer says which these are, in the transaction
that changes them; of the same hour not with every batch, but once in a while.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

HOUR_MS: Final = 3_600_000
HOURS_A_DAY: Final = 24
# That an hour has changed is told once in so long. The rollups know: jobs/touched.py looks at an hour again
# until nothing was told of it for longer.
TELL_EVERY_S: Final = 60.0


class Touched:
    """What was told, and when. Hours are numbers counted from 1970, in UTC."""

    def __init__(self, every_s: float = TELL_EVERY_S) -> None:
        """``every_s`` 0: with every batch."""
        self._every_s = every_s
        self._told_s: dict[int, float] = {}

    def due(self, hours: Iterable[int], now_s: float) -> list[int]:
        """Those of which nothing was told of late."""
        recent_s = now_s - self._every_s
        return sorted(hour for hour in hours if self._told_s.get(hour, recent_s) <= recent_s)

    def told(self, hours: Iterable[int], now_s: float) -> None:
        """Remember that these were told, at the moment their transaction began."""
        recent_s = now_s - self._every_s
        told_s = dict.fromkeys(hours, now_s)
        if told_s:
            still = {hour: at_s for hour, at_s in self._told_s.items() if at_s > recent_s}
            self._told_s = still | told_s
