"""The flood: which events were refused flows in, whether bad ones flood the stream flows out. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

WINDOW: Final = 10_000
# One in a hundred. A thousand in a row, wherever they stand, are more than that, too.
ALARM: Final = 100


class Flood:
    """Counts the refused among the last ten thousand events."""

    window: Final = WINDOW

    def __init__(self) -> None:
        self._seen = 0
        self._refused: deque[int] = deque()

    def add(self, events: int, refused: Iterable[int]) -> None:
        """A batch of so many events, of which those at these places, in ascending order, were refused."""
        self._refused.extend(self._seen + place for place in refused)
        self._seen += events
        while self._refused and self._refused[0] < self._seen - WINDOW:
            self._refused.popleft()

    def add_late(self, refused: int) -> None:
        """So many more of the last batch were refused than it knew of: by the database."""
        self._refused.extend([self._seen - 1] * refused)

    @property
    def recent(self) -> int:
        """The refused among the last ten thousand."""
        return len(self._refused)

    @property
    def is_on(self) -> bool:
        """Whether this is no longer a stray bad entry but a sender gone wrong."""
        return self.recent > ALARM
