"""The live game: players and a pace flow in, events flow onto the stream as they fall due.

While Redis is away the game waits in this process; its events, when they go out at last, bear the times
at which they were due. Where only some of several partitions are away, only their players wait.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Final

from pipeline.patience import Observer, Stopped, Unobserved
from producer.courier import carry, deliver
from producer.lanes import Lanes
from producer.outbox import ARRAY_EVENTS, PARCEL_EVENTS, Overtaken, Parcel, Sender, pack_written
from producer.outboxes import Outboxes
from producer.pace import AS_FAST_AS_IT_GOES, Pace, Round, turn
from producer.simulate import Player, population, write

# At high rates events go out this often at most: a round trip a batch, not a round trip an event.
_MIN_PARCEL_S: Final = 0.02
# Without a rate a parcel is larger, so that the players' states are a small part of it; its events share
# entries, so Redis runs it in a millisecond or two all the same.
_FLOOD_EVENTS: Final = 10_000
# At low rates the loop turns all the same, so that whoever watches it sees it alive.
_LONGEST_WAIT_S: Final = 1.0
# A part may arrive, or a request to stop come, in a wait for the next event.
_LOOK_S: Final = 0.1
# Time for what is on its way when it is asked to stop.
_STOP_S: Final = 1.0


def cast_of(stored: Mapping[str, Player], seed: int, size: int, now_ms: int) -> list[Player]:
    """The players of the live game, Cole first: as they were left, or new. Who quit stays away."""
    players = [stored.get(p.name, p) for p in population(seed, size, now_ms, 0)]
    return [players[0], *(player for player in players[1:] if not player.gone)]


def replaced(
    players: Sequence[Player], anew: Sequence[Player], is_anew: Callable[[str], bool]
) -> list[Player]:
    """The cast, in which some were taken up anew and the others play on as they are."""
    former = {player.name: player for player in players}
    return [
        player if is_anew(player.name) else former[player.name]
        for player in anew
        if is_anew(player.name) or player.name in former
    ]


def play(
    outbox: Sender,
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
    if isinstance(outbox, Outboxes) and outbox.partitions > 1:
        game = Divided(outbox, players, rate, count, stop, reload, told, observer)
        return game.play()
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
    outbox: Sender,
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


def _due(players: Sequence[Player], pace: Pace, numbers: range) -> Parcel:
    # Where the wall clock stands when the pace's clock is at zero; taken anew for every parcel, so
    # that a corrected wall clock is followed.
    offset_s = time.time() - time.monotonic()
    cole, others = players[0], players[1:]
    payloads: list[bytes] = []
    turns: list[Player] = []
    for number in numbers:
        place = turn(pace, number, len(others))
        player = cole if place is None else others[place]
        payloads.append(write(player, round((pace.due_s(number) + offset_s) * 1000)))
        turns.append(player)
    touched = {player.name: player for player in turns}
    return pack_written(payloads, touched.values(), turns=turns)


def _flood(players: list[Player], left: int | None) -> Iterator[Parcel]:
    """Events that are due at the moment at which they are made."""
    turns = Round(players[0], players[1:])
    while left is None or left > 0:
        yield _flooded(turns, len(players), left)
        left = None if left is None else left - min(left, _FLOOD_EVENTS)


def _flooded(turns: Round[Player], size: int, left: int | None) -> Parcel:
    now_ms = time.time_ns() // 1_000_000
    taken = turns.take(_FLOOD_EVENTS if left is None else min(_FLOOD_EVENTS, left), now_ms)
    payloads = [write(player, now_ms) for player in taken]
    # They go round: after as many turns as there are players nobody new comes.
    return pack_written(payloads, taken[:size], share=ARRAY_EVENTS, turns=taken)


class Divided:
    """A live game whose players are in several partitions, each of which may be away by itself.

    Who is out of it is replaced: the first of those who are at hand takes Cole's turns, and the rate is kept.
    """

    def __init__(
        self,
        outboxes: Outboxes,
        players: list[Player],
        rate: float,
        count: int | None,
        stop: threading.Event,
        reload: Callable[[], list[Player]],
        told: Callable[[list[bytes]], None],
        observer: Observer,
    ) -> None:
        self._outboxes, self._players = outboxes, players
        self._count, self._stop, self._reload, self._told = count, stop, reload, told
        self._pace = Pace(rate, time.monotonic())
        self._lanes = Lanes(outboxes, observer)
        self._is_flood = rate == AS_FAST_AS_IT_GOES
        self._sent = 0
        self._out: frozenset[int] = frozenset()
        self._gather()

    def play(self) -> int:
        """The game; see ``play``."""
        with closing(self._lanes) as lanes:
            while not self._stop.is_set() and self._sent != self._count:
                self._play_on()
            if self._stop.is_set():
                lanes.hurry()
                end_s = time.monotonic() + _STOP_S
                while lanes.under_way and time.monotonic() < end_s:
                    self._wait(_MIN_PARCEL_S)
                if lanes.under_way:
                    raise Stopped from lanes.error
        return self._sent

    def _play_on(self) -> None:
        """Send a parcel, if anybody is at hand and it is time for one, and wait for what happens."""
        if self._outboxes.is_moved:
            # All of them are taken up anew: whoever plays in other partitions may have played any.
            if self._lanes.is_idle:
                self._lanes.retaken()
                self._players = self._reload()
                self._gather()
            else:
                self._wait(_LONGEST_WAIT_S)
            return
        self._take_up()
        made = self._sent + self._lanes.under_way
        left = None if self._count is None else self._count - made
        if not self._at_hand or left == 0:
            self._wait(_LONGEST_WAIT_S)
            return
        if not self._is_flood and self._pace.due_by(time.monotonic()) <= made:
            least_s = _MIN_PARCEL_S if self._pace.rate > 1 / _MIN_PARCEL_S else 0.0
            self._wait(max(self._pace.due_s(made) - time.monotonic(), least_s))
            return
        self._lanes.send(self._parcel(made, left))
        # A flood makes a parcel while the one before is on its way.
        ahead = 1 if self._is_flood else 0
        while not self._lanes.has_room(ahead) and not self._stop.is_set():
            self._wait(_MIN_PARCEL_S)

    def _parcel(self, made: int, left: int | None) -> Parcel:
        if self._is_flood:
            return _flooded(self._turns, len(self._at_hand), left)
        events = min(PARCEL_EVENTS * self._outboxes.partitions, _FLOOD_EVENTS)
        last = min(self._pace.due_by(time.monotonic()), made + events)
        return _due(
            self._at_hand,
            self._pace,
            range(made, last if left is None else min(last, made + left)),
        )

    def _wait(self, at_most_s: float) -> None:
        self._lanes.wait(min(at_most_s, _LOOK_S))
        for part in self._lanes.arrived():
            self._sent += len(part.payloads)
            self._told(part.payloads)

    def _take_up(self) -> None:
        """See who is at hand, and how those were left whom another producer has played."""
        retaken = self._lanes.retaken()
        if retaken:
            self._players = replaced(
                self._players,
                self._reload(),
                lambda name: self._outboxes.number_of(name) in retaken,
            )
        if retaken or self._out != self._lanes.out:
            self._gather()

    def _gather(self) -> None:
        self._out = self._lanes.out
        self._at_hand = self._players
        if self._out:
            number_of = self._outboxes.number_of
            self._at_hand = [p for p in self._players if number_of(p.name) not in self._out]
        if self._at_hand:
            self._turns = Round(self._at_hand[0], self._at_hand[1:])
