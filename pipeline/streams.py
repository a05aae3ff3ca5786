"""The streams: a URL and a number of partitions flow in, all streams of the pipeline, as one, flow out.

With one partition there is one stream, ``game-events``. With N there are ``game-events:{0}`` to
``game-events:{N-1}``, each in a slot of its own, so that a Redis Cluster may have them on as many nodes; a
player keeps to one of them. How many there are may change while events flow: whoever writes into a number of
partitions notes that number, and whoever reads, reads those of every number that was noted.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Generic, TypeVar, cast
from zlib import crc32

import redis

from pipeline.entry import Entry, Form, packed_up, split
from pipeline.event import Refused
from pipeline.nodes import Address, Nodes
from pipeline.patience import first_line
from pipeline.stream import (
    FIRST,
    GROUP,
    MAX_NUMBER,
    STREAM,
    Found,
    Holder,
    Memory,
    Pending,
    Stream,
    StreamState,
    client_of,
    is_temporary,
    order,
)
from pipeline.tombstone import player_in

T = TypeVar("T")

# The numbers of partitions that were ever written into.
LAYOUTS: Final = "game-events:layouts"
# As the setting says: a note of more is a mistake of whoever made it.
_MOST_PARTITIONS: Final = 256
# Events that share an entry, where entries are divided by player and put together again.
_EVENTS_AN_ENTRY: Final = 100


def keys(partitions: int) -> tuple[str, ...]:
    """The streams' names."""
    if partitions == 1:
        return (STREAM,)
    return tuple(f"{STREAM}:{{{number}}}" for number in range(partitions))


def number_of(player: str, partitions: int) -> int:
    """The partition of a player."""
    return crc32(player.encode("utf-8", "surrogatepass")) % partitions


def divided(
    entries: Iterable[tuple[Form, bytes]], partitions: int
) -> dict[int, list[tuple[Form, bytes]]]:
    """Entries by the partition that they belong on; an array is divided by player.

    What names no player goes where its bytes say, so that the same goes to the same again.
    """
    found: dict[int, list[tuple[Form, bytes]]] = defaultdict(list)
    # Out of arrays, and in none yet: a piece of each array by itself would make many small ones of a few.
    loose: dict[int, list[bytes]] = defaultdict(list)

    def add(number: int, entry: tuple[Form, bytes]) -> None:
        found[number] += [*packed_up(loose.pop(number, []), _EVENTS_AN_ENTRY), entry]

    for form, value in entries:
        if form is not Form.EVENTS or partitions == 1:
            add(_number(value, partitions), (form, value))
            continue
        try:
            payloads = split(value)
        except Refused:
            add(_number(value, partitions), (form, value))
            continue
        for payload in payloads:
            loose[_number(payload, partitions)].append(payload)
    for number, payloads in loose.items():
        found[number] += packed_up(payloads, _EVENTS_AN_ENTRY)
    return found


def _number(payload: bytes, partitions: int) -> int:
    if partitions == 1:
        return 0
    player = player_in(payload)
    return crc32(payload) % partitions if player is None else number_of(player, partitions)


@dataclass(frozen=True)
class Answers(Generic[T]):
    """What was asked of every stream, by its key: answers, and of those that are away, why."""

    found: Mapping[str, T]
    away: Mapping[str, redis.RedisError]

    def whole(self) -> dict[str, T]:
        """All answers. Raises what the first of those that are away was found to be."""
        for error in self.away.values():
            raise error
        return dict(self.found)

    def some(self) -> dict[str, T]:
        """Those there are. Raises the same where all are away."""
        return dict(self.found) or self.whole()

    @property
    def reasons(self) -> dict[str, str]:
        """Why those that are away are, for people."""
        return {key: first_line(error) for key, error in self.away.items()}


class Streams:
    """All partitions and their consumer group. Those of one server, or of nodes that come and go."""

    def __init__(
        self, url: str, partitions: int = 1, *, group: str = GROUP, replicas: int = 0
    ) -> None:
        """``partitions`` are written into; nothing is connected before the first command."""
        self._nodes, self._group, self._replicas = Nodes(url), group, replicas
        self._layouts = client_of(self._nodes, LAYOUTS)
        self._by_key: dict[str, Stream] = {}
        self._opening = threading.Lock()
        self.written = tuple(self._stream(key) for key in keys(partitions))
        # The undivided one is always read: other senders may not have heard of partitions yet.
        self._stream(STREAM)

    def _stream(self, key: str) -> Stream:
        with self._opening:
            if key not in self._by_key:
                client = client_of(self._nodes, key)
                made = Stream(client, key=key, group=self._group, replicas=self._replicas)
                self._by_key = self._by_key | {key: made}
            return self._by_key[key]

    @property
    def all(self) -> tuple[Stream, ...]:
        """Those that are written into, then those that are read beside them."""
        return tuple(self._by_key.values())

    def of(self, player: str) -> Stream:
        """The stream of a player."""
        return self.written[number_of(player, len(self.written))]

    def is_cluster(self) -> bool:
        """Whether the streams may be on several nodes. Raises what redis-py raises."""
        return self._nodes.is_cluster()

    def node_of(self, source: Stream) -> str:
        """Host and port of the node that holds a stream, for people. Raises what redis-py raises."""
        return "{}:{}".format(*self._nodes.holder(source.key))

    def neighbours(self, key: str) -> list[str]:
        """The streams on the node that holds this one, as far as is known: they come and go together."""
        return self._nodes.neighbours(self._by_key, key)

    def by_key(self, key: str) -> Stream:
        """One of them."""
        return self._by_key[key]

    def of_group(self, group: str) -> Streams:
        """The same streams as another group reads them."""
        other = Streams.__new__(Streams)
        other._nodes, other._group, other._replicas = self._nodes, group, self._replicas
        other._layouts, other._opening = self._layouts, threading.Lock()
        other._by_key = {
            one.key: Stream(one.client, key=one.key, group=group, replicas=one.replicas)
            for one in self.all
        }
        other.written = tuple(other._by_key[one.key] for one in self.written)
        return other

    def close(self) -> None:
        """Close every connection."""
        for client in (self._layouts, *(one.client for one in self.all)):
            client.close()

    # --- how many there are

    def note(self) -> None:
        """Say into how many partitions this process writes, before it does."""
        if len(self.written) > 1:
            self._layouts.sadd(LAYOUTS, len(self.written))

    def look(self) -> tuple[Stream, ...]:
        """Look for streams that others write into; returns those that were not known before.

        What is noted and can be no number of partitions is passed over.
        """
        known = set(self._by_key)
        try:
            layouts = self._layouts.smembers(LAYOUTS)
        except redis.exceptions.NoPermissionError:
            if len(self.written) > 1:
                raise
            return ()  # rules of a time before partitions: whoever wrote into some has other ones
        for noted in layouts:
            partitions = int(noted) if noted.isdigit() else 0
            if 1 <= partitions <= _MOST_PARTITIONS:
                for key in keys(partitions):
                    self._stream(key)
        return tuple(one for one in self.all if one.key not in known)

    # --- all of them, one after the other

    def ask(self, call: Callable[[Stream], T]) -> Answers[T]:
        """Ask every stream the same; one that is away keeps nobody from the others.

        A node that says nothing is waited for once, not by each of its streams.
        """
        found: dict[str, T] = {}
        away: dict[str, redis.RedisError] = {}
        # None: nobody said who holds which slots.
        silent: dict[Address | None, redis.TimeoutError] = {}
        for one in self.all:
            node = None
            try:
                if None not in silent:
                    node = self._nodes.holder(one.key)
                if node in silent:
                    away[one.key] = silent[node]
                else:
                    found[one.key] = call(one)
            except redis.RedisError as error:
                if not is_temporary(error):
                    raise
                away[one.key] = error
                if isinstance(error, redis.TimeoutError):
                    silent[node] = error
        return Answers(found, away)

    def look_and_ask(self, call: Callable[[Stream], T]) -> Answers[T]:
        """Look for streams of others, and ask them all the same.

        Where the list of layouts is away, that is told as a stream that is; those that are known are asked.
        """
        unlisted: dict[str, redis.RedisError] = {}
        try:
            self.look()
        except redis.RedisError as error:
            if not is_temporary(error):
                raise
            unlisted[LAYOUTS] = error
        answers = self.ask(call)
        return Answers(answers.found, {**answers.away, **unlisted})

    def first(self, call: Callable[[Stream], T]) -> T:
        """What the first of them answers that is not away. Raises what redis-py raises where all are."""
        failure: redis.RedisError | None = None
        for one in self.all:
            try:
                return call(one)
            except redis.RedisError as error:
                if not is_temporary(error):
                    raise
                failure = failure or error
        raise cast("redis.RedisError", failure)

    def ping(self) -> None:
        """Raises what redis-py raises where none of them answers."""
        self.first(lambda one: one.client.ping())

    def append_entries(self, entries: Iterable[tuple[Form, bytes]]) -> list[bytes]:
        """Add entries of either form, each to its player's stream, atomically by stream; returns their ids.

        What raises in between may have added some.
        """
        pieces = divided(entries, len(self.written))
        return list(
            chain.from_iterable(
                self.written[number].append_entries(piece) for number, piece in pieces.items()
            )
        )

    def walk(self, *, from_ms: int, to_ms: int, count: int = 250) -> Iterator[list[Entry]]:
        """Entries added in a span of Unix milliseconds to any of them, stream by stream; see Stream.walk.

        Of each up to the last entry that is there when the first is yielded: what is sent again meanwhile
        may go to a stream that comes later.
        """
        ends = [(one, one.last().decode()) for one in self.all]
        before = f"{from_ms - 1}-{MAX_NUMBER}" if from_ms > 0 else FIRST.decode()
        for one, last in ends:
            end = min(last, f"{to_ms}-{MAX_NUMBER}", key=order)
            if order(before) < order(end):
                yield from one.walk_on(before, end, count=count)

    def state(self, *, exact: bool = True) -> StreamState:
        """All of them as one. Raises what redis-py raises when one is away: see ``ask``."""
        return together(self.ask(lambda one: one.state(exact=exact)).whole().values())

    def refuse_eviction(self) -> None:
        """Raise Evicts where a server would throw a stream away. One that is away is asked another time."""
        self.ask(Stream.refuse_eviction).some()

    def memory(self) -> Memory:
        """That of the node whose memory runs shortest; those that are away are left out, unless all are."""
        return shortest(self.ask(Stream.memory).some().values())

    def holder(self) -> Holder | None:
        """The group that is furthest behind on any of them that answers."""
        return furthest_behind(self.ask(Stream.holder).found.values())

    def produced(self) -> int:
        """Events our producers ever put on any of them."""
        return sum(self.ask(Stream.produced).whole().values())

    def find(self, needle: bytes, *, since_ms: int) -> tuple[Stream, Found] | None:
        """The first entry found that holds these bytes, and its stream; see Stream.find."""
        for one in self.all:
            found = one.find(needle, since_ms=since_ms)
            if found is not None:
                return one, found
        return None

    def forget_player(self, player: str) -> bool:
        """Drop what our producer keeps of a player's game; says whether it kept anything."""
        return any(list(self.ask(lambda one: one.forget_player(player)).whole().values()))

    def knows_player(self, player: str) -> bool:
        """Whether our producer keeps anything of this player's game."""
        return any(self.ask(lambda one: one.knows_player(player)).whole().values())


def shortest(memories: Iterable[Memory]) -> Memory:
    """That of the node whose memory runs shortest. Pure."""
    return max(memories, key=lambda one: (one.share, one.used_bytes))


def furthest_behind(holders: Iterable[Holder | None]) -> Holder | None:
    """The group that is furthest behind on any stream. Pure."""
    there = [one for one in holders if one is not None]
    return min(there, key=lambda one: one.since_ms, default=None)


def together(states: Iterable[StreamState]) -> StreamState:
    """What several streams are as one. Pure."""
    each: Sequence[StreamState] = tuple(states)
    if len(each) == 1:
        return each[0]
    there = [one for one in each if one.exists]
    oldest = [one.oldest_waiting_ms for one in there if one.oldest_waiting_ms is not None]
    consumers: dict[str, Pending] = {}
    for one in there:
        for name, pending in one.consumers.items():
            before = consumers.get(name, Pending(0, pending.idle_ms))
            idle_ms = min(before.idle_ms, pending.idle_ms)
            consumers[name] = Pending(before.entries + pending.entries, idle_ms)
    added: int | None = 0
    for one in there:
        added = None if added is None or one.added is None else added + one.added
    return StreamState(
        exists=bool(there),
        entries=sum(one.entries for one in there),
        added=added if there else None,
        last_id=max((one.last_id for one in there), key=order, default="0-0"),
        group_exists=any(one.group_exists for one in there),
        undelivered=sum(one.undelivered for one in there),
        undelivered_is_estimate=any(one.undelivered_is_estimate for one in there),
        pending=sum(one.pending for one in there),
        consumers=consumers,
        oldest_waiting_ms=min(oldest, default=None),
        # By the clock that is furthest behind: nothing is said to be complete too early.
        at_ms=min((one.at_ms for one in each), default=0),
    )
