"""A history whose truth is known: a seed flows in; its events, its players and what was meant flow out.

It is large enough for chance to even out. What a test compares with it is a number that a notebook shows, and
the room it leaves is the number's own sampling error.
"""

from __future__ import annotations

import functools
import math
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from analytics.period import Period, ending
from pipeline.event import Event
from producer.simulate import DAY_MS, Player, history, population
from producer.truth import truth
from tests.integration.consuming import now_ms

SEED: Final = 11
PLAYERS: Final = 400
DAYS: Final = 40
START_MS: Final = (now_ms() // DAY_MS - DAYS) * DAY_MS
FIRST: Final = datetime.fromtimestamp(START_MS / 1000, UTC).date()
# Yesterday, whole.
LAST: Final[date] = FIRST + timedelta(days=DAYS - 1)
ALL: Final = Period(FIRST, LAST)
# Days on which nobody played, and others with little to be drawn of.
BEFORE: Final = ending(FIRST - timedelta(days=30), 7)
LITTLE: Final = {
    "nobody": BEFORE,
    "one day": Period(FIRST, FIRST),
    "weeks without any": Period(BEFORE.last, FIRST + timedelta(days=2)),
}
# A right answer is further off than this once in 15,000 times; and a seed is a seed: it is so every time.
SIGMAS: Final = 4.0


@functools.cache
def _played() -> tuple[tuple[Event, ...], tuple[Player, ...]]:
    players = population(SEED, PLAYERS, START_MS, DAYS)
    events = tuple(event for _, event in history(players, START_MS + DAYS * DAY_MS))
    return events, tuple(players)


def events() -> tuple[Event, ...]:
    """All of it, in the order of time."""
    return _played()[0]


def players() -> tuple[Player, ...]:
    """Everyone, as they stand at the end."""
    return _played()[1]


def persona_of() -> dict[str, str]:
    """Each player's persona."""
    return {player.name: player.persona for player in players()}


@functools.cache
def known() -> dict[str, Any]:
    """What the simulator says was planted, and what came of it: see producer/truth.py."""
    return truth(SEED, PLAYERS, START_MS, DAYS)


def share_error(share: float, trials: float) -> float:
    """How far a share of so many trials may lie off by chance."""
    return SIGMAS * math.sqrt(max(share * (1 - share), 1e-9) / trials)
