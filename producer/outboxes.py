"""The outboxes: parcels flow in, each partition's part of them flows to its stream in a MULTI of its own.

A player keeps to one partition, so no chain depends on two of them. How many partitions there are may change
from one start to the next: whoever opens the outboxes reads how players were left in every other number of
partitions, too, and overtakes whoever still plays them there. The two then take turns, as two producers of
one stream do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import redis

from pipeline.stream import is_temporary
from pipeline.streams import Streams, number_of
from pipeline.tombstone import player_in
from producer.journal import Journal
from producer.outbox import Ledger, Outbox, Overtaken, Parcel
from producer.simulate import Player, dump_player, load_player


def divided(parcel: Parcel, partitions: int) -> dict[int, Parcel]:
    """A parcel's parts by the partition that they go to: the same parts, with the same tokens, every time."""
    names = [player.name for player in parcel.turns]
    if not names:
        # What names no player has no state either; any partition will do.
        names = [player_in(payload) or "" for payload in parcel.payloads]
    numbers = {name: number_of(name, partitions) for name in {*names, *parcel.states}}
    payloads: dict[int, list[bytes]] = defaultdict(list)
    states: dict[int, dict[str, bytes]] = defaultdict(dict)
    for name, payload in zip(names, parcel.payloads, strict=True):
        payloads[numbers[name]].append(payload)
    for name, state in parcel.states.items():
        states[numbers[name]][name] = state
    return {
        number: replace(
            parcel,
            payloads=payloads[number],
            states=states[number],
            turns=(),
            token=b"%b.%d" % (parcel.token, number),
        )
        for number in sorted({*payloads, *states})
    }


def merged(ledgers: Iterable[Ledger]) -> Ledger:
    """What was left behind in several places: of a player, the state in which he played last. Pure."""
    players: dict[str, Player] = {}
    histories = []
    sent = 0
    for ledger in ledgers:
        newer = (player for player in ledger.players.values() if _is_newer(player, players))
        players |= {player.name: player for player in newer}
        sent += ledger.sent
        histories += [] if ledger.history is None else [ledger.history]
    history = next((one for one in histories if one.is_done), next(iter(histories), None))
    return Ledger(players, sent, history)


def _is_newer(player: Player, known: Mapping[str, Player]) -> bool:
    other = known.get(player.name)
    return other is None or (other.seq, other.last_ms) < (player.seq, player.last_ms)


# Of openings by other producers one after the other, so many may come in between.
_TRIES: Final = 3


class Outboxes:
    """The one way of this producer to all partitions. Nothing here waits or retries.

    ``retake`` and ``send_part`` may be called from several threads, for a partition from one at a time.
    """

    def __init__(self, streams: Streams, journal: Journal | None = None) -> None:
        self._streams = streams
        # A Redis that has lost the players may have lost the number of partitions as well.
        self._outboxes = tuple(
            Outbox(one, journal, at_a_loss=streams.note) for one in streams.written
        )
        # Players who were found elsewhere and may not have played here since, by partition.
        self._adopted: dict[int, dict[str, bytes]] = defaultdict(dict)
        # The players of partitions in which we were overtaken, as they were found there.
        self._retaken: dict[int, Mapping[str, Player]] = {}
        # Whether somebody plays the same players in another number of partitions.
        self.is_moved = False
        # The parcel that was begun last, what of it has not arrived, and whether a part was overtaken.
        self._token: bytes | None = None
        self._left: dict[int, Parcel] = {}
        self._is_overtaken = False

    @property
    def partitions(self) -> int:
        """Into how many streams it sends."""
        return len(self._outboxes)

    def number_of(self, player: str) -> int:
        """The partition of a player."""
        return number_of(player, self.partitions)

    # --- what others left behind

    def open(self) -> Ledger:
        """Read what is there, in every number of partitions that was ever written into.

        From now on any other producer's parcel is noticed, and any other producer notices ours. No part may
        be on its way. Raises what redis-py raises when one of the streams is away.
        """
        self._streams.note()
        for _ in range(_TRIES):
            found = self._open_all()
            if found is not None:
                return self._adopt(found)
        raise redis.WatchError("another producer takes up the same players at the same moment")

    def _open_all(self) -> list[Ledger] | None:
        """The ledgers of all streams, ours first; None where another producer came in between.

        Two whose players are in different numbers of partitions write into different streams. Each takes
        over all streams of both, and sees afterwards whether the other did meanwhile. Of two that do so at
        the same time at least one finds the other, and begins anew; who has found nobody is overtaken, should
        the other come later, before his next event.
        """
        self._streams.look()
        beside = [Outbox(one) for one in self._streams.all if one not in self._streams.written]
        each = [*self._outboxes, *beside]
        if len(each) == 1:
            # Nobody ever played in partitions.
            ledgers = [self._outboxes[0].open()]
        else:
            ledgers = [outbox.take_over(self.partitions) for outbox in each]
            if any(outbox.is_taken_over(self.partitions) for outbox in each):
                return None
        return None if self._streams.look() else ledgers

    def _adopt(self, ledgers: list[Ledger]) -> Ledger:
        """Have each outbox remember those of its players who were found elsewhere."""
        ledger = merged(ledgers)
        self._adopted, self._retaken = defaultdict(dict), {}
        for name, player in ledger.players.items():
            number = self.number_of(name)
            if ledgers[number].players.get(name) is not player:
                self._adopted[number][name] = dump_player(player)
        for number, states in self._adopted.items():
            self._outboxes[number].adopt(states)
        self._is_overtaken = self.is_moved = False
        return ledger

    def retake(self, number: int) -> None:
        """Read anew how another producer left the players of a partition; see ``players_anew``."""
        outbox = self._outboxes[number]
        before = outbox.others(self.partitions)
        found = outbox.open()
        if outbox.others(self.partitions) != before:
            self.is_moved = True
            return
        adopted = {name: load_player(state) for name, state in self._adopted[number].items()}
        found = merged([found, Ledger(adopted, 0, None)])
        outbox.adopt(
            {
                name: self._adopted[number][name]
                for name, player in adopted.items()
                if found.players[name] is player
            }
        )
        self._retaken[number] = found.players

    def players_anew(self) -> Mapping[str, Player]:
        """Those of every partition that was ever retaken, each as it was found then.

        All players, where somebody plays them in another number of partitions, and where there is but one:
        raises what ``open`` does then, and no part may be on its way.
        """
        if self.is_moved or self.partitions == 1:
            return self.open().players
        return {
            name: player
            for players in tuple(self._retaken.values())
            for name, player in players.items()
        }

    # --- parcels

    def start(self, parcel: Parcel) -> None:
        """Begin to send a parcel; a hint only, as with Outbox."""
        if self.partitions == 1:
            self._outboxes[0].start(parcel)
            return
        for number, part in self._missing(parcel).items():
            self._outboxes[number].start(part)

    def send(self, parcel: Parcel) -> None:
        """Send what has not arrived of a parcel. May be repeated; raises Overtaken and JournalError.

        One partition that is away does not keep a part from another. Overtaken is raised when nothing is on
        its way any more: the other parts have arrived.
        """
        if self.partitions == 1:
            self._outboxes[0].send(parcel)
            return
        away: redis.RedisError | None = None
        missing = self._missing(parcel)
        for number, part in tuple(missing.items()):
            try:
                self._outboxes[number].send(part)
            except Overtaken:
                self._is_overtaken = True
            except redis.RedisError as error:
                if not is_temporary(error):
                    raise
                away = away or error
                continue
            del missing[number]
        if away is not None:
            raise away
        if self._is_overtaken:
            raise Overtaken

    def send_part(self, number: int, part: Parcel) -> None:
        """Send one of the parts of a parcel that was divided. Raises what Outbox.send does."""
        self._outboxes[number].send(part)

    def _missing(self, parcel: Parcel) -> dict[int, Parcel]:
        if self._token != parcel.token:
            self._token, self._left = parcel.token, divided(parcel, self.partitions)
            self._is_overtaken = False
        return self._left
