"""The live game: players and a pace flow in, events flow onto the stream as they fall due.

While Redis is away the game waits in this process; its events, when they go out at last, bear the times
at which they were due.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from pipeline import stream
from pipeline.event import Event
from pipeline.patience import Observer, Unobserved, wait_for
from producer.outbox import PARCEL_EVENTS, Outbox, Overtaken, pack
from producer.pace import Pace, turn
from producer.simulate import Player, population, step

# At high rates events go out this often at most: a round trip a batch, not a round trip an event.
_MIN_PARCEL_S: Final = 0.02
# At low rates the loop turns all the same, so that whoever watches it sees it alive.
_LONGEST_WAIT_S: Final = 1.0


def cast_of(stored: Mapping[str, Player], seed: int, size: int, now_ms: int) -> list[Player]:
    """The players of the live game, Cole first: as they were left, or new. Who quit stays away."""
    players = [stored.get(p.name, p) for p in population(seed, size, now_ms, 0)]
    return [players[0], *(player for player in players[1:] if not player.gone)]


def play(
    outbox: Outbox,
    players: list[Player],
    rate: float,
    *,
    count: int | None,
    stop: threading.Event,
    reload: Callable[[], list[Player]],
    told: Callable[[list[Event]], None],
    observer: Observer = Unobserved(),  # noqa: B008  # it holds nothing
) -> int:
    """Play until ``count`` events were sent or ``stop`` is set; returns how many were.

    ``told`` gets the events of each parcel once Redis has them. When another producer has played the
    same players, ``reload`` fetches them anew. Raises Stopped when asked to stop in an outage.
    """
    pace = Pace(rate, time.monotonic())
    sent = 0
    while not stop.is_set() and (count is None or sent < count):
        observer.tries()
        due = pace.due_by(time.monotonic())
        if due <= sent:
            wait_s = min(pace.due_s(sent) - time.monotonic(), _LONGEST_WAIT_S)
            stop.wait(max(wait_s, _MIN_PARCEL_S if rate > 1 / _MIN_PARCEL_S else 0.0))
            continue
        last = min(due, sent + PARCEL_EVENTS)
        numbers = range(sent, last if count is None else min(last, count))
        try:
            events = _send(outbox, players, pace, numbers, stop, observer)
        except Overtaken:
            players = reload()
            continue
        sent += len(events)
        told(events)
    return sent


def _send(
    outbox: Outbox,
    players: list[Player],
    pace: Pace,
    numbers: range,
    stop: threading.Event,
    observer: Observer,
) -> list[Event]:
    # Where the wall clock stands when the pace's clock is at zero; taken anew for every parcel, so
    # that a corrected wall clock is followed.
    offset_s = time.time() - time.monotonic()
    cole, others = players[0], players[1:]
    events: list[Event] = []
    touched: dict[str, Player] = {}
    for number in numbers:
        place = turn(pace, number, len(others))
        player = cole if place is None else others[place]
        events.append(step(player, round((pace.due_s(number) + offset_s) * 1000)))
        touched[player.name] = player
    parcel = pack(events, touched.values())
    wait_for(
        "Redis",
        lambda: outbox.send(parcel),
        is_temporary=stream.is_temporary,
        stop=stop,
        observer=observer,
    )
    return events
