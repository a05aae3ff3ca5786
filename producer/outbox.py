"""The outbox: events and the states of those who caused them flow in, one MULTI carries both to Redis.

The state a player is in and the events that led there change together or not at all, so a crash never
forks a karma chain. Each parcel bears a token that is stored with it: when the reply to EXEC is lost, the
token tells whether the parcel arrived, and it is sent again, with the same event ids, only if it did not.
The same token shows when another producer plays the same players.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec
import redis

from pipeline import log
from pipeline.entry import packed_up
from pipeline.event import Event, encode
from pipeline.stream import Stream
from pipeline.transaction import Transaction
from producer.journal import Journal
from producer.simulate import Player, dump_player, load_player

# Events a MULTI carries: enough to hide the round trip, few enough not to hold Redis up.
PARCEL_EVENTS: Final = 500
# Events an entry carries where nobody waits for each: the entry costs Redis, and whoever reads it, about as
# much as one with a single event.
ARRAY_EVENTS: Final = 100
# Notes of who took a stream over, by the number of partitions that his players are in.
_OPENED: Final = b"opened:"


class BadState(Exception):
    """Another than a producer has written where producers keep their players."""


class Overtaken(Exception):
    """Another producer has played the same players on: take up their state and go on from there."""


@dataclass(frozen=True)
class History:
    """The span of the past that is played once, before the live game; Unix milliseconds."""

    start_ms: int
    until_ms: int
    is_done: bool


@dataclass(frozen=True)
class Ledger:
    """What producers before this one left behind."""

    players: Mapping[str, Player]
    # Events that ever reached the stream through an outbox.
    sent: int
    history: History | None


@dataclass(frozen=True)
class Parcel:
    """What goes to Redis in one transaction."""

    payloads: list[bytes]
    states: dict[str, bytes]
    # Events that share an entry of the stream.
    share: int = 1
    history: History | None = None
    # When the last of its players last did something; Unix milliseconds.
    at_ms: int = 0
    # Whose event each of the payloads is, where that is known without reading it.
    turns: Sequence[Player] = ()
    token: bytes = field(default_factory=lambda: uuid.uuid4().hex.encode())


class Sender(Protocol):
    """A way to the stream, or to all of its partitions."""

    @property
    def partitions(self) -> int:
        """Into how many streams it sends."""

    def open(self) -> Ledger:
        """Read what is there; from now on any other producer's parcel is noticed."""

    def start(self, parcel: Parcel) -> None:
        """Begin to send a parcel; a hint only, ``send`` must follow. Raises JournalError."""

    def send(self, parcel: Parcel) -> None:
        """Send what has not arrived of a parcel. May be repeated; raises Overtaken and JournalError."""


def pack(
    events: Iterable[Event], players: Iterable[Player], history: History | None = None
) -> Parcel:
    """A parcel of events and the players they left in their present state."""
    return pack_written([encode(event) for event in events], players, history)


def pack_written(
    payloads: list[bytes],
    players: Iterable[Player],
    history: History | None = None,
    *,
    share: int = 1,
    turns: Sequence[Player] = (),
) -> Parcel:
    """The same of events that are written down already, of which so many may share an entry."""
    states: dict[str, bytes] = {}
    at_ms = 0
    for player in players:
        states[player.name] = dump_player(player)
        at_ms = max(at_ms, player.last_ms)
    return Parcel(payloads, states, share, history, at_ms, turns)


def _nothing() -> None:
    pass


class Outbox:
    """The one way of this producer to one stream. Nothing here waits or retries.

    A ``journal`` is told of each parcel's events before they are first sent, and when Redis has them.
    """

    partitions: Final = 1

    def __init__(
        self,
        stream: Stream,
        journal: Journal | None = None,
        at_a_loss: Callable[[], None] = _nothing,
    ) -> None:
        """``at_a_loss`` is called before what Redis has lost is written again."""
        self._stream = stream
        self._journal = journal
        self._at_a_loss = at_a_loss
        self._openings: dict[bytes, bytes] = {}
        # The parcel that was noted last: it may be sent again, and is one attempt all the same.
        self._noted: bytes | None = None
        # The parcel that is on its way: Redis was not asked yet what became of it.
        self._under_way: tuple[bytes, Transaction] | None = None
        self._name = uuid.uuid4().hex.encode()
        self._token: bytes | None = None
        # What Redis holds for us, should it lose it: those who have not played since count as well.
        self._states: dict[str, bytes] = {}
        self._sent = 0
        self._history: History | None = None

    def open(self) -> Ledger:
        """Read what is there; from now on any other producer's parcel is noticed."""
        return self._open({})

    def take_over(self, partitions: int) -> Ledger:
        """The same, and any other producer finds that it is overtaken.

        It is told by whom: by one whose players are in so many partitions. See ``openings``.
        """
        mark = uuid.uuid4().hex.encode()
        name = _OPENED + str(partitions).encode()
        ledger = self._open({b"token": mark, b"producer": self._name, name: mark})
        self._token = mark
        return ledger

    def others(self, partitions: int) -> dict[bytes, bytes]:
        """Who took it over last, by the number of partitions, those of this number left out.

        It is as it was when this was opened.
        """
        own = _OPENED + str(partitions).encode()
        return {name: mark for name, mark in self._openings.items() if name != own}

    def is_taken_over(self, partitions: int) -> bool:
        """Whether since then a producer whose players are in another number of partitions took it over."""
        before = self.others(partitions)
        notes: dict[bytes, bytes] = self._stream.client.hgetall(self._stream.producer_key)  # type: ignore[assignment]
        self._openings = _openings(notes)
        return self.others(partitions) != before

    def _open(self, ours: Mapping[Any, Any]) -> Ledger:
        self._give_up()
        with self._stream.client.pipeline(transaction=True) as pipe:
            pipe.type(self._stream.key)
            pipe.hgetall(self._stream.producer_key)
            pipe.hgetall(self._stream.players_key)
            if ours:
                pipe.hset(self._stream.producer_key, mapping=dict(ours))
            kind, notes, states, *_ = pipe.execute()
        if kind not in (b"none", b"stream"):
            # In a MULTI the other commands would take effect without the XADD.
            raise redis.ResponseError(
                f"its key {self._stream.key} is no stream but a {kind.decode()}:"
                " name another database in REDIS_URL"
            )
        self._token, self._openings = notes.get(b"token"), _openings(notes)
        try:
            self._states = {name.decode(): state for name, state in states.items()}
            self._sent = int(notes.get(b"sent", 0))
            self._history = _history(notes)
        except (ValueError, KeyError) as error:
            raise BadState(
                f"What Redis holds in {self._stream.producer_key} and {self._stream.players_key} was not"
                f" written by a producer ({error}): remove both keys, and the players begin anew."
            ) from None
        players = {
            name: _loaded(self._stream.players_key, name, state)
            for name, state in self._states.items()
        }
        return Ledger(players, self._sent, self._history)

    def adopt(self, states: Mapping[str, bytes]) -> None:
        """Remember players who were found elsewhere, should Redis lose them: they play here from now on."""
        self._states |= states

    def start(self, parcel: Parcel) -> None:
        """Begin to send a parcel and leave Redis at it: the caller makes the next one meanwhile.

        A hint only: ``send`` must follow, tells what became of the parcel, and begins anew where this
        failed. Raises JournalError as ``send`` does.
        """
        self._note(parcel)
        with suppress(redis.RedisError, Overtaken):
            self._begin(parcel)

    def send(self, parcel: Parcel) -> None:
        """Send a parcel, or find that it arrived before. May be repeated; raises Overtaken.

        Raises JournalError, too: the parcel was not sent then, or it is, and nobody knows.
        """
        self._note(parcel)
        is_sent = False
        while not is_sent:
            if self._under_way is None or self._under_way[0] != parcel.token:
                self._begin(parcel)
            if self._under_way is None:
                break  # an earlier attempt arrived
            with self._under_way[1] as transaction:
                self._under_way = None
                # The key changed: another producer, or our own earlier attempt that was long on its way.
                with suppress(redis.WatchError):
                    transaction.finish()
                    is_sent = True
        self._arrived(parcel)

    def _begin(self, parcel: Parcel) -> None:
        """Put a parcel under way, unless it arrived before."""
        self._give_up()
        transaction = Transaction(self._stream.client)
        try:
            key, replicas = self._stream.producer_key, self._stream.replicas
            stored, producer = transaction.watch(key, "token", "producer")
            if stored == parcel.token:
                if replicas:
                    # Replicas take what is written in its order: with this they have the parcel.
                    again = ("HSET", key, "token", parcel.token)
                    transaction.begin(b"", 0, again, replicas=replicas)
                    self._under_way = parcel.token, transaction
                return
            states, history = parcel.states, parcel.history
            if stored != self._token:
                is_lost = stored is None or producer == self._name
                if not is_lost:
                    raise Overtaken
                # Emptied, or set back to an earlier parcel of ours: what we remember is newer, and its
                # events may be stored already.
                self._at_a_loss()
                states = self._states | states
                history = history or self._history
                log.get("producer").warning(
                    "Redis has lost the players; their states are written again from memory"
                )
            notes: dict[str, bytes | int] = {
                "token": parcel.token,
                "producer": self._name,
                "sent": self._sent + len(parcel.payloads),
                **_notes(history),
            }
            hashes = [("HSET", key, *_items(notes))]
            if states:
                hashes.append(("HSET", self._stream.players_key, *_items(states)))
            entries = packed_up(parcel.payloads, parcel.share)
            packed = self._stream.packed(entries)
            transaction.begin(packed, len(entries), *hashes, replicas=replicas)
            self._under_way = parcel.token, transaction
        finally:
            if self._under_way is None:
                transaction.close()

    def _give_up(self) -> None:
        """Ask no more what became of the parcel under way."""
        if self._under_way is not None:
            self._under_way[1].close()
            self._under_way = None

    def _arrived(self, parcel: Parcel) -> None:
        if self._token != parcel.token:
            self._sent += len(parcel.payloads)
        self._token = parcel.token
        self._states |= parcel.states
        self._history = parcel.history or self._history
        if self._journal is not None and parcel.payloads:
            self._journal.acknowledged(parcel.token)

    def _note(self, parcel: Parcel) -> None:
        if self._journal is not None and parcel.payloads and self._noted != parcel.token:
            self._journal.tried(parcel.token, parcel.payloads)
            self._noted = parcel.token


def _loaded(key: str, name: str, state: bytes) -> Player:
    try:
        return load_player(state)
    except msgspec.MsgspecError as error:
        raise BadState(
            f"What the hash {key} in Redis holds of {name!r:.80} is no player's state ({error}):"
            " remove that field, and the player begins anew."
        ) from None


def _items(mapping: Mapping[str, bytes | int]) -> list[Any]:
    return [item for pair in mapping.items() for item in pair]


def _notes(history: History | None) -> dict[str, int]:
    if history is None:
        return {}
    return {
        "history_start_ms": history.start_ms,
        "history_until_ms": history.until_ms,
        "history_is_done": int(history.is_done),
    }


def _openings(notes: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    return {name: mark for name, mark in notes.items() if name.startswith(_OPENED)}


def _history(notes: Mapping[bytes, bytes]) -> History | None:
    if b"history_start_ms" not in notes:
        return None
    return History(
        int(notes[b"history_start_ms"]),
        int(notes[b"history_until_ms"]),
        notes[b"history_is_done"] == b"1",
    )
