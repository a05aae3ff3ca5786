"""The stream: every Redis Streams command of the project, and the names of keys and groups.

Payloads flow in through ``append``; entries flow out through ``read`` and ``claim`` and stay pending
until ``ack``. Nothing here retries: redis-py's own retries are off, because a repeated XADD whose first
reply was lost is a second entry. Who waits, and how, is the caller's affair (patience.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline import failpoint
from pipeline.event import Entry
from pipeline.settings import SettingsError

STREAM: Final = "game-events"
# The hash tag keeps the producers' state in the stream's slot, so both change in one transaction.
PLAYERS: Final = "{game-events}:players"
PRODUCER: Final = "{game-events}:producer"
GROUP: Final = "postgres"
FIELD: Final = b"event"

# Where a walk through the pending list begins, and what Redis answers when it is at the end.
FIRST: Final = b"0-0"

# A blocked read returns this often, so that a request to stop is seen.
BLOCK_MS: Final = 1000
# Longer than any blocked read: a server that says nothing for this long is away.
_SOCKET_TIMEOUT_S: Final = 5.0
# Exact counting stops here; beyond it a number is marked as an estimate.
_COUNT_LIMIT: Final = 20_000
# Refusals that end by themselves or by an operator's hand; by their first word.
_TEMPORARY: Final = frozenset(
    {
        "OOM",
        "MISCONF",
        "LOADING",
        "READONLY",
        "NOREPLICAS",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "MASTERDOWN",
        "BUSY",
    }
)


def connect(url: str) -> redis.Redis:
    """A client that opens its connection at the first command, never retries, and yields bytes.

    Raises SettingsError when the URL has an option that redis-py does not know.
    """
    try:
        client = redis.Redis.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=_SOCKET_TIMEOUT_S,
            socket_connect_timeout=5.0,
        )
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # opens nothing, and sees every option
    except (TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise SettingsError(f"REDIS_URL has an option that cannot be used: {reason}.") from None
    # redis-py turns each reply into tuples and dicts; read and claim take it as it comes.
    for command in ("XREADGROUP", "XAUTOCLAIM", "XRANGE", "XREVRANGE"):
        client.set_response_callback(command, _as_is)
    return client


def _as_is(reply: Any, **_: Any) -> Any:
    return reply


def is_temporary(error: BaseException) -> bool:
    """Whether waiting helps: the server is away, loading, out of memory or disk, or not the master."""
    if isinstance(error, redis.AuthenticationError):
        return False
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return True
    # redis-py cuts the first word off the errors it has a class for.
    if isinstance(error, redis.exceptions.OutOfMemoryError | redis.exceptions.ReadOnlyError):
        return True
    # In a pipeline the server's words come after the command, which redis-py quotes.
    words = str(error).rpartition(" of pipeline caused error: ")[2]
    return isinstance(error, redis.ResponseError) and words.split(" ", 1)[0] in _TEMPORARY


def _is_group_lost(error: redis.ResponseError) -> bool:
    return str(error).startswith(("NOGROUP", "UNBLOCKED"))


class GroupLost(Exception):
    """The stream or its consumer group was deleted."""


@dataclass(frozen=True)
class Claimed:
    """What XAUTOCLAIM handed over, and what it found gone."""

    entries: list[Entry]
    # Entries that were delivered, never acknowledged, and trimmed or deleted from the stream since.
    lost: int
    next_start: bytes


@dataclass(frozen=True)
class Pending:
    """What one consumer has read and not acknowledged."""

    entries: int
    idle_ms: int


@dataclass(frozen=True)
class Found:
    """An entry that was looked for."""

    entry_id: str
    added_ms: int
    # Who has read it and not acknowledged it; None when nobody has.
    consumer: str | None
    # Whether it was never delivered to the group; else it is pending or acknowledged.
    is_undelivered: bool


@dataclass(frozen=True)
class StreamState:
    """The stream at a moment, as ``infamous status`` shows it."""

    exists: bool = False
    entries: int = 0
    # Entries ever added; None where the server does not count them (Redis before 7).
    added: int | None = None
    last_id: str = "0-0"
    group_exists: bool = False
    undelivered: int = 0
    # Whether ``undelivered`` is the server's own count, which a restart can leave wrong, not ours.
    undelivered_is_estimate: bool = False
    pending: int = 0
    consumers: Mapping[str, Pending] = field(default_factory=dict)
    # Unix milliseconds at which the oldest entry that is not acknowledged was added.
    oldest_waiting_ms: int | None = None


class Stream:
    """One stream and its consumer group."""

    def __init__(self, client: redis.Redis, *, key: str = STREAM, group: str = GROUP) -> None:
        self.client = client
        self.key = key
        self.group = group

    def _run(self, *command: Any) -> Any:
        return self.client.execute_command(*command)  # type: ignore[no-untyped-call]

    # --- producers

    def append(self, payloads: Iterable[bytes]) -> list[bytes]:
        """Add one entry for each payload, atomically; returns the entry ids."""
        with self.client.pipeline(transaction=True) as pipe:
            self.queue(pipe, payloads)
            return cast("list[bytes]", pipe.execute())

    def queue(self, pipe: redis.client.Pipeline, payloads: Iterable[bytes]) -> None:
        """The same into a transaction of the caller's."""
        for payload in payloads:
            pipe.execute_command("XADD", self.key, "*", FIELD, payload)  # type: ignore[no-untyped-call]

    # --- consumers

    def ensure_group(self) -> bool:
        """Create the group at the stream's beginning if it is missing; says whether it did."""
        try:
            self.client.xgroup_create(self.key, self.group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if str(error).startswith("BUSYGROUP"):
                return False
            raise
        return True

    def read(self, consumer: str, count: int, *, block_ms: int | None = BLOCK_MS) -> list[Entry]:
        """Up to ``count`` entries nobody has read; blocks up to ``block_ms`` when there are none.

        ``block_ms`` None does not block. Raises GroupLost.
        """
        block: tuple[Any, ...] = () if block_ms is None else ("BLOCK", block_ms)
        try:
            reply = self._run(
                "XREADGROUP", "GROUP", self.group, consumer, "COUNT", count, *block,
                "STREAMS", self.key, ">",
            )  # fmt: skip
        except redis.ResponseError as error:
            if _is_group_lost(error):
                raise GroupLost from error
            raise
        return [] if not reply else [_entry(raw) for raw in reply[0][1]]

    def claim(self, consumer: str, *, idle_s: float, count: int, start: bytes = FIRST) -> Claimed:
        """Take over entries that were read and not acknowledged for ``idle_s``. Raises GroupLost."""
        try:
            reply = self._run(
                "XAUTOCLAIM", self.key, self.group, consumer, int(idle_s * 1000), start,
                "COUNT", count,
            )  # fmt: skip
        except redis.ResponseError as error:
            if _is_group_lost(error):
                raise GroupLost from error
            raise
        found = [raw for raw in reply[1] if raw is not None and raw[1] is not None]
        # From version 7 a third element lists deleted entries, which are off the pending list then.
        lost = len(reply[2]) if len(reply) > 2 else 0
        if len(found) < len(reply[1]):
            lost += self._drop_deleted(consumer, count)
        return Claimed([_entry(raw) for raw in found], lost, reply[0])

    def _drop_deleted(self, consumer: str, count: int) -> int:
        """Acknowledge what is pending here and deleted: version 6.2 hands it over as nil, again and
        again, without an id."""
        pending = self.client.xpending_range(
            self.key, self.group, min="-", max="+", count=count, consumername=consumer
        )
        ids = [cast("bytes", one["message_id"]) for one in pending]
        deleted = [id_ for id_ in ids if not self._run("XRANGE", self.key, id_, id_)]
        self.ack(deleted)
        return len(deleted)

    def ack(self, ids: Sequence[bytes]) -> None:
        """Take entries off the pending list. The count Redis answers proves nothing: it is dropped."""
        for start in range(0, len(ids), 1000):
            self._run("XACK", self.key, self.group, *ids[start : start + 1000])

    def leave(self, consumer: str) -> None:
        """Remove this consumer's own name, unless entries are pending under it: those would be lost."""
        try:
            if not self.client.xpending_range(
                self.key, self.group, min="-", max="+", count=1, consumername=consumer
            ):
                self.client.xgroup_delconsumer(self.key, self.group, consumer)
        except redis.ResponseError as error:
            if not _is_group_lost(error):
                raise

    # --- those who go back in time, and those who cut it off

    def walk(self, *, from_ms: int, to_ms: int, count: int = 500) -> Iterator[list[Entry]]:
        """Entries added in a span of Unix milliseconds, both ends included, up to ``count`` at once.

        Ends at the last entry that is there when it begins, so whoever appends what it yields does not
        go on for ever.
        """
        newest = self._run("XREVRANGE", self.key, "+", "-", "COUNT", 1)
        if not newest:
            return
        last = min(_order(_text(newest[0][0])), (to_ms, 2**64 - 1))
        start, end = str(max(from_ms, 0)), "{}-{}".format(*last)
        while page := self._run("XRANGE", self.key, start, end, "COUNT", count):
            yield [_entry(raw) for raw in page]
            start = f"({_text(page[-1][0])}"

    def trim(self, *, keep_s: float) -> int:
        """Drop entries older than ``keep_s`` that every group has read and acknowledged; says how many.

        What a group has not read, or what is pending, stays however old it is. A stream that no group
        reads is left alone. Whole nodes of the stream are dropped, a hundred entries each, so that many
        of the oldest may stay.
        """
        oldest = self._oldest_needed(keep_s)
        if oldest is None:
            return 0
        trimmed = 0
        # About ten thousand at once, which is Redis' own bound: nobody waits for long.
        while dropped := cast("int", self._run("XTRIM", self.key, "MINID", "~", oldest)):
            trimmed += dropped
            failpoint.reached("in_trim")
        return trimmed

    def _oldest_needed(self, keep_s: float) -> str | None:
        """The first entry that a group, or whoever asked to keep so much, may still want."""
        try:
            groups = [_text(group["name"]) for group in self.client.xinfo_groups(self.key)]
            with self.client.pipeline(transaction=True) as pipe:
                pipe.time()
                pipe.xinfo_groups(self.key)
                for name in groups:
                    pipe.xpending(self.key, name)
                (seconds, micros), infos, *pending = pipe.execute()
        except redis.ResponseError as error:
            if "no such key" in str(error) or "NOGROUP" in str(error):
                return None
            raise
        if not groups or {_text(info["name"]) for info in infos} != set(groups):
            return None  # one came or went just now: the next trim knows it
        needed = [(max(0, seconds * 1000 + micros // 1000 - int(keep_s * 1000)), 0)]
        for info in infos:
            ms, number = _order(_text(info["last-delivered-id"]))
            needed.append((ms, number + 1))
        needed += [_order(_text(one["min"])) for one in pending if one["pending"]]
        return "{}-{}".format(*min(needed))

    # --- onlookers

    def state(self, *, exact: bool = True) -> StreamState:
        """The stream, its group and what waits in it, all at one moment.

        ``exact`` counts what was not read yet by reading it, within bounds. Without it a backlog is
        the server's own estimate, at no cost; whether anything waits at all is exact in any case.
        """
        with self.client.pipeline(transaction=True) as pipe:
            pipe.xinfo_stream(self.key)
            pipe.xinfo_groups(self.key)
            pipe.xpending(self.key, self.group)
            pipe.xinfo_consumers(self.key, self.group)
            info, groups, pending, consumers = pipe.execute(raise_on_error=False)
        if isinstance(info, redis.ResponseError) and "no such key" in str(info):
            return StreamState()
        for reply in (info, groups):
            if isinstance(reply, Exception):
                raise reply
        last_id = _text(info["last-generated-id"])
        entries, added = int(info["length"]), info.get("entries-added")
        group = next((g for g in groups if _text(g["name"]) == self.group), None)
        if group is None:
            return StreamState(
                exists=True, entries=entries, added=added, last_id=last_id, undelivered=entries,
                oldest_waiting_ms=self._first_id_after("-"),
            )  # fmt: skip
        delivered = _text(group["last-delivered-id"])
        lag = group.get("lag")
        if delivered == last_id:
            undelivered, is_estimate = 0, False
        elif exact or lag is None:
            estimate = entries if lag is None else int(lag)
            undelivered, is_estimate = self._count(delivered, last_id, estimate)
        else:
            undelivered, is_estimate = max(1, int(lag)), True
        waiting = [_id_ms(_text(pending["min"]))] if pending["pending"] else []
        if undelivered:
            first = self._first_id_after(f"({delivered}")
            waiting += [] if first is None else [first]
        return StreamState(
            exists=True, entries=entries, added=added, last_id=last_id, group_exists=True,
            undelivered=undelivered, undelivered_is_estimate=is_estimate,
            pending=int(pending["pending"]),
            consumers={
                _text(c["name"]): Pending(int(c["pending"]), int(c["idle"])) for c in consumers
            },
            oldest_waiting_ms=min(waiting, default=None),
        )  # fmt: skip

    def find(self, needle: bytes, *, since_ms: int) -> Found | None:
        """The first entry added since then that holds these bytes; reads every entry up to it."""
        start = str(max(since_ms, 0))
        while page := self._run("XRANGE", self.key, start, "+", "COUNT", 5000):
            for entry_id, fields in page:
                if any(needle in value for value in fields):
                    return self._found(_text(entry_id))
            start = f"({_text(page[-1][0])}"
        return None

    def _found(self, entry_id: str) -> Found:
        groups = {_text(g["name"]): g for g in self.client.xinfo_groups(self.key)}
        group = groups.get(self.group)
        if group is None or _order(entry_id) > _order(_text(group["last-delivered-id"])):
            return Found(entry_id, _id_ms(entry_id), None, is_undelivered=True)
        pending = self.client.xpending_range(
            self.key, self.group, min=entry_id, max=entry_id, count=1
        )
        consumer = _text(cast("bytes", pending[0]["consumer"])) if pending else None
        return Found(entry_id, _id_ms(entry_id), consumer, is_undelivered=False)

    def _count(self, after: str, last: str, estimate: int) -> tuple[int, bool]:
        """Entries after one up to another, and whether that is only the estimate, at least what was
        counted. XINFO's lag can be wrong after a restart (redis #10569), so it is the last resort.
        """
        start, counted = f"({after}", 0
        while counted < _COUNT_LIMIT:
            page = self._run("XRANGE", self.key, start, last, "COUNT", 5000)
            counted += len(page)
            if len(page) < 5000:
                return counted, False
            start = f"({_text(page[-1][0])}"
        return max(counted, estimate), True

    def _first_id_after(self, start: str) -> int | None:
        page = self._run("XRANGE", self.key, start, "+", "COUNT", 1)
        return _id_ms(_text(page[0][0])) if page else None


def _entry(raw: Sequence[Any]) -> Entry:
    entry_id, fields = raw
    # A read of the own pending list shows a deleted entry's id with no fields; ``read`` never does.
    if len(fields) == 2 and fields[0] == FIELD:
        return Entry(entry_id, fields[1])
    return Entry(entry_id, _all_fields(fields), is_event=False)


def _all_fields(fields: Sequence[bytes]) -> bytes:
    """Fields and values of a foreign entry as one JSON array; Latin-1 keeps every byte apart."""
    return json.dumps([f.decode("latin-1") for f in fields]).encode()


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _order(entry_id: str) -> tuple[int, int]:
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number or 0)


def _id_ms(entry_id: str) -> int:
    return int(entry_id.split("-", 1)[0])
