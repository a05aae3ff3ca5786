"""The pace of the live game: a rate flows in, the moment of each event and its player's turn flow out.

Pure. Event number n is due at n / rate seconds after the start, whatever happened to those before it, so
the clock does not drift and nothing is skipped after an outage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """``rate`` events a second, from ``start_s`` on the caller's clock."""

    rate: float
    start_s: float

    def due_s(self, number: int) -> float:
        """When event ``number``, counted from 0, is due."""
        return self.start_s + number / self.rate

    def due_by(self, now_s: float) -> int:
        """How many events are due at ``now_s``, those sent already included."""
        if now_s < self.start_s:
            return 0
        return math.floor((now_s - self.start_s) * self.rate) + 1

    def is_first_of_its_second(self, number: int) -> bool:
        """Whether it is the first event due in its second: that one is Cole's."""
        if number == 0:
            return True
        return math.floor(number / self.rate) != math.floor((number - 1) / self.rate)


def turn(pace: Pace, number: int, others: int) -> int | None:
    """Whose event it is: None for Cole, else the place of another player, 0 to ``others`` - 1.

    Cole plays one event a second; what the rate leaves above that goes round the others.
    """
    if others == 0 or pace.is_first_of_its_second(number):
        return None
    coles_before = math.floor((number - 1) / pace.rate) + 1
    return (number - coles_before) % others
