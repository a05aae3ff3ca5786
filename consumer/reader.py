"""The reader: all streams flow in, one page after another from those that have more flows out.

What was read stays pending on its stream until it is acknowledged there. A stream that is away, because the
node that holds its slot is, keeps nobody from the others: it is left out until a look from a thread beside
finds it back. Only where all are away is that told, by redis-py's error, and who reads waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Final, TypeVar

import redis

from consumer.doorbell import Doorbell
from consumer.rota import Rota, share
from pipeline import stream
from pipeline.entry import Entry
from pipeline.nodes import Elsewhere
from pipeline.stream import Claimed, Stream, StreamState, is_temporary
from pipeline.streams import LAYOUTS, Streams, together

T = TypeVar("T")

# Who has nothing to do looks at a stream of another's so often.
_GLANCE_S: Final = 0.25
# And so often who has: an owner may be there for other streams, and not for this one.
_BUSY_GLANCE_S: Final = 1.0
# A stream that is away is tried so often.
_PROBE_EVERY_S: Final = 1.0
# A consumer that was not heard of for so long has no share.
_SILENT_MS: Final = 30_000


@dataclass(frozen=True)
class Page:
    """Entries of one stream, and what was found gone."""

    key: str = ""
    entries: list[Entry] = field(default_factory=list)
    lost: int = 0
    suspected: int = 0
    # Whether nothing more waits, on any stream, as far as is known.
    is_last: bool = False


@dataclass(frozen=True)
class Look:
    """The streams at a moment."""

    # All that answer, as one; by their keys.
    state: StreamState
    by_key: Mapping[str, StreamState]
    # The keys of the others.
    away: tuple[str, ...]


class Reader:
    """Reads from all streams, under one name."""

    def __init__(self, streams: Streams, name: str) -> None:
        self._streams, self._name = streams, name
        self._rota = Rota([one.key for one in streams.all])
        self._bell = Doorbell()
        # Where each walk through what is pending goes on; the streams that are still to be walked.
        self._walks: dict[str, bytes] | None = None
        # A look at a stream that is away; when each may be looked at again.
        self._probe: tuple[str, Future[None]] | None = None
        self._probe_due_s: dict[str, float] = {}
        # Stored, and not acknowledged because the stream was away.
        self._owed: dict[str, list[bytes]] = {}
        # Streams on which a read may have gone astray: it may still arrive.
        self._astray: set[str] = set()
        self._read_all_due_s = self._glance_due_s = 0.0

    @property
    def away(self) -> tuple[str, ...]:
        """The keys of the streams that cannot be reached."""
        return self._rota.away

    def close(self) -> None:
        """Let go of every line but the streams' own."""
        self._bell.close()

    # --- new entries

    def read(self, count: int) -> Page:
        """The next page. Raises GroupLost, and what redis-py raises where no stream is left to read."""
        self._knock()
        self._see_who_is_back()
        if len(self._rota.keys) > 1:
            self._hear(0.0)
        if time.monotonic() >= self._glance_due_s:
            self._glance()
        while (key := self._rota.next()) is not None:
            found = self._try(key, lambda one: one.read(self._name, count))
            if found is None:
                continue
            if found.is_last:
                self._rota.rest(key, found.last_id)
            is_last = found.is_last and not self._rota.has_more()
            return Page(key, found.entries, found.lost, found.suspected, is_last)
        return Page(is_last=True)

    def wait(self) -> None:
        """Wait, within bounds, until something may have come."""
        is_alone = len(self._rota.own) == len(self._rota.keys)
        self._hear(stream.BLOCK_MS / 1000 if is_alone else _GLANCE_S)
        if self._rota.has_more():
            return
        if not is_alone:
            self._glance()
        now_s = time.monotonic()
        if now_s >= self._read_all_due_s:  # a sign of life, in vain or not
            self._read_all_due_s = now_s + stream.BLOCK_MS / 1000
            for key in self._rota.own:
                self._rota.wake(key)

    def _glance(self) -> None:
        self._glance_due_s = time.monotonic() + _BUSY_GLANCE_S
        self._rota.glance()

    def _hear(self, at_most_s: float) -> None:
        resting = self._rota.own_at_rest()
        lines = {key: (self._streams.by_key(key), after) for key, after in resting.items()}
        for key in self._bell.wait(lines, at_most_s):
            self._rota.wake(key)

    # --- what others left behind

    def claim(self, count: int, *, idle_s: float) -> tuple[str, Claimed] | None:
        """A step of the walk through what is pending on every stream; None at its end. Raises GroupLost."""
        self._knock()
        if self._walks is None:
            self._walks = dict.fromkeys(self._rota.keys, stream.FIRST)
        while self._walks:
            key, start = next(iter(self._walks.items()))
            claimed = None
            if self._is_to_be_asked(key):
                claimed = self._try(key, partial(_claim, self._name, idle_s, count, start))
            if claimed is None or claimed.next_start == stream.FIRST:
                del self._walks[key]
            else:
                self._walks[key] = claimed.next_start
            if claimed is not None and (claimed.entries or claimed.lost):
                return key, claimed
        self._walks = None
        return None

    def bury(self, *, claim_after_s: float) -> int:
        """Remove the names of the dead from every stream; says how many entries were found lost. Raises
        GroupLost.
        """
        found = self._each(lambda one: one.bury(self._name, claim_after_s=claim_after_s))
        return sum(claimed.lost for claimed in found.values())

    # --- the end of entries

    def owe(self, ids: Mapping[str, list[bytes]]) -> None:
        """These entries are stored, by stream."""
        for key, these in ids.items():
            self._owed.setdefault(key, []).extend(these)

    @property
    def owes(self) -> bool:
        """Whether there is anything to acknowledge, on a stream that can be asked."""
        return any(self._is_to_be_asked(key) for key in self._owed)

    @property
    def owed(self) -> int:
        """How many entries are stored and not acknowledged."""
        return sum(map(len, self._owed.values()))

    def ack(self) -> None:
        """Acknowledge what is stored, each where it came from; on a stream that is away, once it is back."""
        self._knock()
        for key in [key for key in self._owed if self._is_to_be_asked(key)]:
            these = self._owed[key]
            if self._try(key, partial(_ack, these)):
                del self._owed[key]

    def leave(self) -> None:
        """Take the name off every group on which nothing can be pending under it.

        A read that went astray may still arrive between the look and the removal, which would drop what it
        got: whoever buries the dead removes the name then.
        """
        self._each(lambda one: None if one.key in self._astray else one.leave(self._name))

    # --- the group, and the others in it

    def refuse_eviction(self) -> None:
        """Raise Evicts where a server would throw a stream away."""
        self._each(Stream.refuse_eviction)

    def ensure_groups(self) -> bool:
        """Create the groups that are missing; says whether there was one."""
        return any(list(self._each(Stream.ensure_group).values()))

    def look(self) -> Look:
        """Look at the streams, for new ones, and at who else reads; share out anew. Raises GroupLost."""
        self._look_for_streams()
        self._each(Stream.vouch)
        is_exact = len(self._rota.keys) == 1
        by_key = self._each(lambda one: one.state(exact=is_exact))
        state = together(by_key.values())
        members = [name for name, one in state.consumers.items() if one.idle_ms < _SILENT_MS]
        self._rota.share_out(share(self._rota.keys, members, self._name))
        return Look(state, by_key, self._rota.away)

    def _look_for_streams(self) -> None:
        if not set(self._rota.away).isdisjoint(self._streams.neighbours(LAYOUTS)):
            return  # the list of layouts is there, and a node that says nothing holds up all the others
        try:
            new = self._streams.look()
        except redis.RedisError as error:
            if not is_temporary(error):
                raise
            return
        self._rota.add(one.key for one in new)
        for one in new:
            if self._is_to_be_asked(one.key):
                self._try(one.key, Stream.ensure_group)

    # --- streams that are away

    def _each(self, call: Callable[[Stream], T]) -> dict[str, T]:
        """What every stream that can be reached answers. Raises what redis-py raises where none can."""
        self._knock()
        found: dict[str, T] = {}
        for key in self._rota.keys:
            if self._is_to_be_asked(key):
                answer = self._try(key, lambda one: (call(one),))
                if answer is not None:
                    found[key] = answer[0]
        return found

    def _knock(self) -> None:
        """Where all are away, see whether one is back, each time another node. Raises what redis-py raises.

        Whoever asked for one of them only would wait for its node, though all others be back.
        """
        if self._rota.is_all_away:
            for key in self._rota.away[:1]:  # the thread beside may have found them back just now
                self._try(key, Stream.ping)

    def _is_to_be_asked(self, key: str) -> bool:
        return key not in self._rota.away or self._rota.is_all_away

    def _try(self, key: str, call: Callable[[Stream], T]) -> T | None:
        """What a stream answers; None where it is away and others are not."""
        try:
            answer = call(self._streams.by_key(key))
        except redis.RedisError as error:
            if not is_temporary(error):
                raise
            self._astray.add(key)
            # Where a slot is on its way, its node is there all the same.
            is_alone = isinstance(error, Elsewhere)
            self._rota.lose([key] if is_alone else self._streams.neighbours(key))
            if self._rota.is_all_away:
                raise
            return None
        if key in self._rota.away:
            self._regain(key)
        return answer

    def _regain(self, key: str) -> None:
        # Those that were there stay at rest: woken again and again, they would keep it from any.
        for one in set(self._rota.away).intersection(self._streams.neighbours(key)):
            self._rota.regain(one)
            self._rota.wake(one)

    def _see_who_is_back(self) -> None:
        """Have streams that are away looked at from the thread beside: it may take long to learn."""
        now_s = time.monotonic()
        if self._probe is not None and self._probe[1].done():
            (key, probe), self._probe = self._probe, None
            there = self._streams.neighbours(key)
            # Also one that answers may be unable to do what is asked of it.
            self._probe_due_s |= dict.fromkeys(there, now_s + _PROBE_EVERY_S)
            if probe.exception() is None:
                self._regain(key)
            else:  # the next look is at another node
                self._rota.lose(one for one in there if one in self._rota.away)
        if self._probe is not None or self._rota.is_all_away:
            return
        due = (one for one in self._rota.away if now_s >= self._probe_due_s.get(one, 0.0))
        for key in islice(due, 1):
            self._probe = key, _beside(self._streams.by_key(key).ping)


def _beside(call: Callable[[], T]) -> Future[T]:
    """Call from another thread, for which the end of the process does not wait."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # whoever asks for the answer gets it
            answer.set_exception(error)

    threading.Thread(target=run, name="probe", daemon=True).start()
    return answer


def _claim(name: str, idle_s: float, count: int, start: bytes, source: Stream) -> Claimed:
    return source.claim(name, idle_s=idle_s, count=count, start=start)


def _ack(ids: list[bytes], source: Stream) -> bool:
    source.ack(ids)
    return True
