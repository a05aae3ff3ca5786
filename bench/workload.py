"""The workload: a seed and a size flow in, simulated events and the entries that carry them flow out. Pure.

Events are spread evenly over the hour before a moment, in the order of their time, and dealt to the
players in turn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from infamous.prove.poison import made
from pipeline.entry import packed_up
from pipeline.event import Event, Reason, encode
from producer.simulate import history, population, step

HOUR_MS: Final = 3_600_000
PLAYERS: Final = 1000
# As many rows as a consumer stores at once (settings.py).
BATCH_ROWS: Final = 5000

DAY_MS: Final = 24 * HOUR_MS

_REFUSED_EVERY: Final = 100
# What a player of the game does in so many days, at the least.
_EVENTS_A_DAY: Final = 20
# What only a database with one more constraint refuses is an event like any other here.
_REASONS: Final = tuple(reason for reason in Reason if reason is not Reason.DATABASE)


@dataclass(frozen=True)
class Workload:
    """Entries that a consumer has to deal with."""

    name: str
    # Without those that are to be refused.
    events: Sequence[Event]
    # Names and values in turn, as XADD takes them.
    entries: Sequence[tuple[bytes, ...]]
    # Events, and what is to be refused, in all of them.
    carried: int


def clean(
    name: str, count: int, until_ms: int, *, players: int = PLAYERS, share: int = 1
) -> Workload:
    """Nothing but events, all different; so many share an entry."""
    events = list(simulated(count, until_ms - HOUR_MS, until_ms, players=players))
    packed = packed_up([encode(event) for event in events], share)
    return Workload(name, events, [(form.value, value) for form, value in packed], count)


def partly_refused(name: str, clean_one: Workload, until_ms: int) -> Workload:
    """The same, but every hundredth is an entry to be refused, for each reason in its turn."""
    rng = random.Random(1)  # noqa: S311  # nothing secret
    events, entries = [], []
    for number, (event, entry) in enumerate(zip(clean_one.events, clean_one.entries, strict=True)):
        if number % _REFUSED_EVERY:
            events.append(event)
            entries.append(entry)
        else:
            turn, place = divmod(number // _REFUSED_EVERY, len(_REASONS))
            entries.append(made(_REASONS[place], turn, rng, until_ms).fields)
    return Workload(name, events, entries, len(entries))


def simulated(
    count: int, from_ms: int, to_ms: int, *, players: int = PLAYERS, seed: int = 1
) -> Iterator[Event]:
    """So many events of the game, spread evenly over a time."""
    cast = population(seed, players, from_ms, 0)
    for number in range(count):
        yield step(cast[number % players], from_ms + number * (to_ms - from_ms) // count)


def played(rows: int, days: int, to_ms: int) -> Iterator[Event]:
    """So many events of the days before a moment as the game plays them: players come and leave."""
    from_ms = to_ms - days * DAY_MS
    cast = population(1, rows // (days * _EVENTS_A_DAY) + 1, from_ms, days)
    return islice((event for _, event in history(cast, to_ms)), rows)
