"""The live game: players and a pace flow in, events flow onto the stream as they fall due.

While Redis is away the game waits in this process; its events, when they go out at last, bear the times
at which they were due.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from pipeline.patience import Observer, Unobserved
from producer.courier import carry, deliver
from producer.outbox import ARRAY_EVENTS, PARCEL_EVENTS, Outbox, Overtaken, Parcel, pack_written
from producer.pace import AS_FAST_AS_IT_GOES, Pace, Round, turn
from producer.simulate import Player, population, write

# At high rates events go out this often at most: a round trip a batch, not a round trip an event.
_MIN_PARCEL_S: Final = 0.02
# Without a rate a parcel is larger, so that the players' states are a small part of it; its events share
# entries, so Redis runs it in a millisecond or two all the same.
_FLOOD_EVENTS: Final = 10_000
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
    told: Callable[[list[bytes]], None],
    observer: Observer = Unobserved(),  # noqa: B008  # it holds nothing
) -> int:
    """Play until ``count`` events were sent or ``stop`` is set; returns how many were.

    ``told`` gets the payloads of each parcel once Redis has them. When another producer has played the
    same players, ``reload`` fetches them anew. Raises Stopped when asked to stop in an outage.
    """
    pace = Pace(rate, time.monotonic())
    sent = 0
    while not stop.is_set() and (count is None or sent < count):
        left = None if count is None else count - sent
        if rate == AS_FAST_AS_IT_GOES:
            parcels = carry(outbox, _flood(players, left), stop, observer)
        else:
            parcels = _in_step(outbox, players, pace, sent, left, stop, observer)
        try:
            for parcel in parcels:
                sent += len(parcel.payloads)
                told(parcel.payloads)
        except Overtaken:
            players = reload()
    return sent


def _in_step(
    outbox: Outbox,
    players: list[Player],
    pace: Pace,
    sent: int,
    left: int | None,
    stop: threading.Event,
    observer: Observer,
) -> Iterator[Parcel]:
    """Deliver events as they fall due. Raises Overtaken, too."""
    end = math.inf if left is None else sent + left
    while not stop.is_set() and sent < end:
        observer.tries()
        due = pace.due_by(time.monotonic())
        if due <= sent:
            wait_s = min(pace.due_s(sent) - time.monotonic(), _LONGEST_WAIT_S)
            stop.wait(max(wait_s, _MIN_PARCEL_S if pace.rate > 1 / _MIN_PARCEL_S else 0.0))
            continue
        last = min(due, sent + PARCEL_EVENTS, end)
        parcel = _due(players, pace, range(sent, int(last)))
        deliver(outbox, parcel, stop, observer)
        sent += len(parcel.payloads)
        yield parcel


def _due(players: list[Player], pace: Pace, numbers: range) -> Parcel:
    # Where the wall clock stands when the pace's clock is at zero; taken anew for every parcel, so
    # that a corrected wall clock is followed.
    offset_s = time.time() - time.monotonic()
    cole, others = players[0], players[1:]
    payloads: list[bytes] = []
    touched: dict[str, Player] = {}
    for number in numbers:
        place = turn(pace, number, len(others))
        player = cole if place is None else others[place]
        payloads.append(write(player, round((pace.due_s(number) + offset_s) * 1000)))
        touched[player.name] = player
    return pack_written(payloads, touched.values())


def _flood(players: list[Player], left: int | None) -> Iterator[Parcel]:
    """Events that are due at the moment at which they are made."""
    turns = Round(players[0], players[1:])
    while left is None or left > 0:
        now_ms = time.time_ns() // 1_000_000
        taken = turns.take(_FLOOD_EVENTS if left is None else min(_FLOOD_EVENTS, left), now_ms)
        payloads = [write(player, now_ms) for player in taken]
        # They go round: after as many turns as there are players nobody new comes.
        yield pack_written(payloads, taken[: len(players)], share=ARRAY_EVENTS)
        left = None if left is None else left - len(taken)
