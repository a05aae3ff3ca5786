"""The pace of the live game: a rate flows in, the moment of each event and its player's turn flow out.

Pure. Event number n is due at n / rate seconds after the start, whatever happened to those before it, so
the clock does not drift and nothing is skipped after an outage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final, Generic, TypeVar

T = TypeVar("T")

# A rate that no clock holds back: an event is due as soon as Redis has room for it.
AS_FAST_AS_IT_GOES: Final = math.inf


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


class Round(Generic[T]):
    """Turns where no rate is kept: the first event of each second is Cole's, the rest goes round."""

    def __init__(self, cole: T, others: Sequence[T]) -> None:
        self._cole = cole
        self._others = cycle(others or [cole])
        self._second: int | None = None

    def take(self, count: int, now_ms: int) -> list[T]:
        """Who plays the next ``count`` events, all of them due now."""
        taken: list[T] = []
        if count and now_ms // 1000 != self._second:
            self._second = now_ms // 1000
            taken.append(self._cole)
        taken += islice(self._others, count - len(taken))
        return taken
