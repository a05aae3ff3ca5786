"""The stream: every Redis Streams command of the project, and the names of keys and groups.

Payloads flow in through ``append``; entries flow out through ``read`` and ``claim`` and stay pending
until ``ack``. Nothing here retries: redis-py's own retries are off, because a repeated XADD whose first
reply was lost is a second entry. Who waits, and how, is the caller's affair (patience.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, cast

import redis

from pipeline import failpoint
from pipeline.entry import MAX_ARRAY_BYTES, Entry, Form
from pipeline.nodes import Nodes
from pipeline.transaction import NotReplicated, Transaction

STREAM: Final = "game-events"
GROUP: Final = "postgres"
# The archive's place on the stream: it keeps a bookmark, and reads by range.
ARCHIVE_GROUP: Final = "archive"

# Where a walk through the pending list begins, and what Redis answers when it is at the end.
FIRST: Final = b"0-0"

# A read that is blocked until there is more returns this often, so that a request to stop is seen.
BLOCK_MS: Final = 1000
# The second part of an entry's id goes up to this.
MAX_NUMBER: Final = 2**64 - 1
# Exact counting stops here; beyond it a number is marked as an estimate.
_COUNT_LIMIT: Final = 20_000
_COUNT_LIMIT_BYTES: Final = 16 * 1024 * 1024
# A page of entries that is read at once to be looked through.
_PAGE_BYTES: Final = 8 * 1024 * 1024
# Small ones are read so many at once, for behind them there may be large ones.
_PAGE_ENTRIES: Final = 250
# Pending entries that one consumer takes over at once when it removes the names of dead ones.
_MAX_PENDING: Final = 50_000
# Refusals that end by themselves or by an operator's hand; by redis-py's class, and by their first word.
_TEMPORARY_KINDS: Final = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    NotReplicated,
)
_TEMPORARY: Final = frozenset(
    {
        "OOM",
        "MISCONF",
        "LOADING",
        "READONLY",
        "NOREPLICAS",
        "BUSY",
    }
)


def connect(url: str) -> redis.Redis:
    """A client for the undivided stream; see ``client_of``."""
    return client_of(Nodes(url), STREAM)


def client_of(nodes: Nodes, key: str) -> redis.Redis:
    """A client that opens its connection, to whichever node holds the key, at the first command.

    It never retries, and yields bytes.
    """
    client = nodes.client(key)
    # redis-py turns each reply into tuples and dicts; read and claim take it as it comes.
    for command in ("XREADGROUP", "XREAD", "XAUTOCLAIM", "XRANGE", "XREVRANGE"):
        client.set_response_callback(command, _as_is)
    return client


def _as_is(reply: Any, **_: Any) -> Any:
    return reply


def is_temporary(error: BaseException) -> bool:
    """Whether waiting helps: the server is away, loading, out of memory or disk, or not the master."""
    if isinstance(error, redis.AuthenticationError):
        return False
    # A connection that breaks after WATCH is told as a WatchError.
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | redis.WatchError):
        return True
    # redis-py cuts the first word off the errors it has a class for.
    if isinstance(error, _TEMPORARY_KINDS):
        return True
    return isinstance(error, redis.ResponseError) and _words(error).split(" ", 1)[0] in _TEMPORARY


def _words(error: BaseException) -> str:
    """The server's words; in a pipeline they come after the command, which redis-py quotes.

    What forbids an EXEC though all commands before it were taken is told behind words about the EXEC.
    """
    words = str(error).rpartition(" of pipeline caused error: ")[2]
    return words.rpartition("Transaction discarded because of: ")[2]


def _is_group_lost(error: redis.ResponseError) -> bool:
    return _words(error).startswith(("NOGROUP", "UNBLOCKED"))


def _is_key_lost(error: redis.ResponseError) -> bool:
    return "no such key" in _words(error)


class GroupLost(Exception):
    """The stream or its consumer group was deleted."""


class Evicts(Exception):
    """Redis would throw the stream away when its memory is full."""


class Counted(Enum):
    """Who saw to it that a gap is told once."""

    BY_ITSELF = "the server"
    BY_US = "this consumer"
    BY_ANOTHER = "another consumer"


@dataclass(frozen=True)
class Delivered:
    """What a read handed over, and what it found gone."""

    entries: list[Entry]
    # Entries that were trimmed from the stream before anyone read them.
    lost: int = 0
    # The same where a crash of the server may have spoiled its count: so many at most, perhaps none.
    suspected: int = 0
    # The newest entry's id at that moment: where to wait for more.
    last_id: bytes = b""

    @property
    def is_last(self) -> bool:
        """Whether nothing more waited at that moment."""
        return not self.entries or self.entries[-1].id == self.last_id


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
    # The moment of all this by the server's clock, in Unix milliseconds.
    at_ms: int = field(default=0, compare=False)

    @property
    def complete_to_ms(self) -> int:
        """Whatever was added before this moment is acknowledged, so it is stored or quarantined."""
        return self.at_ms if self.oldest_waiting_ms is None else self.oldest_waiting_ms


@dataclass(frozen=True)
class Memory:
    """What the server uses, and what it may; None where it may use all there is."""

    used_bytes: int
    limit_bytes: int | None

    @property
    def share(self) -> float:
        """How much of what it may use is used, 0 to 1; 0 where there is no limit."""
        return self.used_bytes / self.limit_bytes if self.limit_bytes else 0.0


@dataclass(frozen=True)
class Holder:
    """The group that is furthest behind: no entry that it wants is trimmed from the stream."""

    # As its owner calls it, which may be anything.
    group: str
    # Entries from the first that it has not acknowledged up to the newest; whether that is an estimate.
    entries: int
    is_estimate: bool
    # When the first of them was added, in Unix milliseconds, and the moment of all this.
    since_ms: int
    at_ms: int

    @property
    def since_s(self) -> float:
        """For how long the first of them has waited, in seconds."""
        return max(0.0, (self.at_ms - self.since_ms) / 1000)


class Stream:
    """One stream and its consumer group."""

    def __init__(
        self, client: redis.Redis, *, key: str = STREAM, group: str = GROUP, replicas: int = 0
    ) -> None:
        """``replicas`` must have what is appended, or it was not appended."""
        self.client = client
        self.key = key
        self.group = group
        self.replicas = replicas

    def beside(self, name: str) -> str:
        """A key in this stream's slot, so that both change in one transaction."""
        return f"{self.key}:{name}" if "{" in self.key else f"{{{self.key}}}:{name}"

    @property
    def players_key(self) -> str:
        """The hash of the states in which our producer left those who play here."""
        return self.beside("players")

    @property
    def producer_key(self) -> str:
        """The hash of what our producer notes of itself."""
        return self.beside("producer")

    def _run(self, *command: Any) -> Any:
        return self.client.execute_command(*command)  # type: ignore[no-untyped-call]

    # --- producers

    def append(self, payloads: Iterable[bytes]) -> list[bytes]:
        """Add one entry for each event, atomically; returns the entry ids."""
        return self.append_entries([(Form.EVENT, payload) for payload in payloads])

    def append_entries(self, entries: Sequence[tuple[Form, bytes]]) -> list[bytes]:
        """Add entries of either form, atomically; returns their ids.

        Raises NotReplicated: they were added, and may be lost when the master is.
        """
        with Transaction(self.client) as transaction:
            transaction.begin(self.packed(entries), len(entries), replicas=self.replicas)
            return transaction.finish()

    def packed(self, entries: Iterable[tuple[Form, bytes]]) -> bytes:
        """The same as it goes over the wire, for a Transaction of the caller's."""
        one, many = self._start(Form.EVENT), self._start(Form.EVENTS)
        return b"".join(
            [
                b"%b%d\r\n%b\r\n" % (one if form is Form.EVENT else many, len(value), value)
                for form, value in entries
            ]
        )

    def _start(self, form: Form) -> bytes:
        """An XADD up to the length of the value."""
        key, name = self.key.encode(), form.value
        words = len(key), key, len(name), name
        return b"*5\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$1\r\n*\r\n$%d\r\n%b\r\n$" % words

    # --- consumers

    def refuse_eviction(self) -> None:
        """Raise Evicts unless the server refuses writes, rather than drop keys, when it is full.

        The stream is one key: evicting it loses every event that waits.
        """
        policy = self.client.info("memory").get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise Evicts(
                f"Redis evicts keys when its memory is full (maxmemory-policy {policy}), and the stream"
                " is one of them: run `CONFIG SET maxmemory-policy noeviction`, or name another Redis."
            )

    def memory(self) -> Memory:
        """How much memory the server uses, of how much."""
        memory = self.client.info("memory")
        return Memory(int(memory["used_memory"]), int(memory.get("maxmemory") or 0) or None)

    def memory_share(self) -> float:
        """How much of the memory that the server may use is used, 0 to 1; 0 where it may use all."""
        return self.memory().share

    def ensure_group(self) -> bool:
        """Create the group at the stream's beginning if it is missing; says whether it did."""
        if not self._make_group():
            return False
        with suppress(redis.RedisError):  # without it a loss is a suspicion until all was delivered
            self.client.set(self._vouched_key, _run_id(self.client))
        return True

    def _make_group(self) -> bool:
        # Looked for first: a server that is full refuses to make a group, though it be there.
        if self._has_group():
            return False
        try:
            try:
                # What left the stream before there was a group is not missed by it.
                self._create_group(entries_read=self._removed())
            except redis.ResponseError as error:
                if "BUSYGROUP" in _words(error):
                    raise
                self._create_group(entries_read=None)  # a server before 7 counts nothing
        except redis.ResponseError as error:
            if _words(error).startswith("BUSYGROUP"):
                return False
            raise
        return True

    def _has_group(self) -> bool:
        try:
            self._own(self.client.xinfo_groups(self.key))
        except GroupLost:
            return False
        except redis.ResponseError as error:
            if _is_key_lost(error):
                return False
            raise
        return True

    def _create_group(self, entries_read: int | None) -> None:
        self.client.xgroup_create(
            self.key, self.group, id="0", mkstream=True, entries_read=entries_read
        )

    def _removed(self) -> int | None:
        """Entries that were added and are gone; None where the server does not count."""
        try:
            info = self.client.xinfo_stream(self.key)
        except redis.ResponseError as error:
            if _is_key_lost(error):
                return 0
            raise
        added = info.get("entries-added")
        return None if added is None else int(added) - int(info["length"])

    def read(self, consumer: str, count: int) -> Delivered:
        """Up to ``count`` entries nobody has read, now; sees what was lost to the group.

        A reader passes over what was trimmed before it was read without a word, so what the group has
        read and what the stream still holds are compared in the moment of the read; a blocking read could
        not do that. Redis before 7 counts neither. Raises GroupLost.
        """

        def ask(pipe: redis.client.Pipeline) -> None:
            # As they come: to make dictionaries of every part takes longer than all the rest.
            pipe.execute_command("XINFO", "STREAM", self.key)  # type: ignore[no-untyped-call]
            pipe.execute_command("XINFO", "GROUPS", self.key)  # type: ignore[no-untyped-call]
            pipe.execute_command(  # type: ignore[no-untyped-call]
                "XREADGROUP", "GROUP", self.group, consumer, "COUNT", count,
                "STREAMS", self.key, ">",
            )  # fmt: skip

        # One after the other, a gap that opens between the two looks may be missed, and none is made up.
        info, groups, reply = self._together(ask)
        for answer in (reply, info, groups):
            if isinstance(answer, redis.ResponseError) and _is_group_lost(answer):
                raise GroupLost from answer
            if isinstance(answer, Exception):
                raise answer
        info, group = _pairs(info), self._own(_pairs(raw) for raw in groups)
        entries = _entries(reply[0][1]) if reply else []
        gap, is_certain = _gap(info, group), True
        # What was read is in hand now: that the books cannot be put right must not take it away.
        with suppress(redis.RedisError, GroupLost):
            if gap:
                is_certain = self._counts_since_start()
                if self._count_in(info, group, len(entries), gap) is Counted.BY_ANOTHER:
                    gap = 0
            elif not entries and info.get("entries-added") != group.get("entries-read"):
                # All was delivered: a count that says otherwise is a crashed server's (redis #10569).
                self._count_in(info, group, 0, 0)
        lost, suspected = (gap, 0) if is_certain else (0, gap)
        return Delivered(entries, lost, suspected, info["last-generated-id"])

    def _together(self, ask: Callable[[redis.client.Pipeline], None]) -> list[Any]:
        """What the server answers to several commands at one moment, errors among the answers.

        A full Redis of some versions, 6.2 and 7.0 among them, takes no transaction, whatever is in it: there,
        one after the other. Else nobody could read what is to be stored and trimmed, and it would stay full.
        """
        try:
            with self.client.pipeline(transaction=True) as pipe:
                ask(pipe)
                return pipe.execute(raise_on_error=False)
        except redis.exceptions.OutOfMemoryError:
            with self.client.pipeline(transaction=False) as pipe:
                ask(pipe)
                return pipe.execute(raise_on_error=False)

    def ping(self) -> None:
        """Ask whoever holds the stream for nothing of it. Raises what redis-py raises."""
        self._run("XRANGE", self.key, "0-1", "0-1")

    def vouch(self) -> None:
        """Where all was delivered, write down that this run of the server counts right.

        A crash can spoil what a group is said to have read, so a gap that is found before all was
        delivered once more is a suspicion only. Raises GroupLost.
        """
        try:
            info = self.client.xinfo_stream(self.key)
            group = self._own(self.client.xinfo_groups(self.key))
        except redis.ResponseError as error:
            if _is_key_lost(error):
                raise GroupLost from error
            raise
        if info.get("entries-added") == group.get("entries-read") is not None:
            run = _run_id(self.client)
            if self.client.get(self._vouched_key) != run:
                with suppress(redis.exceptions.OutOfMemoryError):  # another time
                    self.client.set(self._vouched_key, run)

    def _counts_since_start(self) -> bool:
        return self.client.get(self._vouched_key) == _run_id(self.client)

    @property
    def _vouched_key(self) -> str:
        return self.beside(f"{self.group}:counts")

    def _count_in(
        self, info: Mapping[str, Any], group: Mapping[str, Any], entries: int, gap: int
    ) -> Counted:
        """Let the group count as read what it passed over, so that nobody tells it again.

        Some versions pass over a gap in their count as well, some do not.
        """
        if info.get("entries-added") is None:
            return Counted.BY_ITSELF
        if not entries:
            return self._count_all_in(info)
        read = int(group["entries-read"]) + entries + gap
        now = self._own(self.client.xinfo_groups(self.key))
        if int(now["entries-read"] or 0) >= read:
            return Counted.BY_ITSELF
        with self.client.pipeline(transaction=True) as pipe:
            pipe.xinfo_groups(self.key)
            self._set_count(pipe, now["last-delivered-id"], read)
            groups, _ = pipe.execute()
        newest = self._own(groups)["last-delivered-id"]
        if newest != now["last-delivered-id"]:
            # Another read in between, and was set back for an instant; at worst it reads that twice.
            self._set_count(self.client, newest, read)
        return Counted.BY_US

    def _count_all_in(self, info: Mapping[str, Any]) -> Counted:
        """The same where nothing is left to read. The server decides who of several was first."""
        with self.client.pipeline(transaction=True) as pipe:
            pipe.watch(self.key)  # type: ignore[no-untyped-call]
            if pipe.xinfo_stream(self.key)["last-generated-id"] != info["last-generated-id"]:
                return Counted.BY_ANOTHER  # something came: its reader sees what was passed over
            pipe.multi()
            pipe.xinfo_groups(self.key)
            self._set_count(pipe, info["last-generated-id"], int(info["entries-added"]))
            groups, _ = pipe.execute()
        was_right = self._own(groups)["entries-read"] == info["entries-added"]
        return Counted.BY_ANOTHER if was_right else Counted.BY_US

    def _set_count(
        self, client: redis.Redis, last_delivered: bytes | str, entries_read: int
    ) -> None:
        client.execute_command(  # type: ignore[no-untyped-call]
            "XGROUP", "SETID", self.key, self.group, last_delivered, "ENTRIESREAD", entries_read
        )

    def _own(self, groups: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
        for group in groups:
            # Other people's groups are called as they like, and need be no text.
            if group["name"] in {self.group, self.group.encode()}:
                return group
        raise GroupLost

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
        return Claimed(_entries(found), lost, reply[0])

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

    def bury(self, consumer: str, *, claim_after_s: float) -> Claimed:
        """Remove the names of the dead: those that hold nothing and have long been silent.

        One that is not dead but was paused may read in this very moment, and removing a name drops what
        is pending under it. So whatever is pending is taken over in the same transaction, as if it had
        been claimed; its holders store and acknowledge it all the same.
        """
        names = self._silent(consumer, claim_after_s)
        if not names:
            return Claimed([], 0, FIRST)
        with self.client.pipeline(transaction=True) as pipe:
            pipe.execute_command(  # type: ignore[no-untyped-call]
                "XAUTOCLAIM", self.key, self.group, consumer, 0, FIRST,
                "COUNT", 10 * _MAX_PENDING, "JUSTID",
            )  # fmt: skip
            for name in names:
                pipe.execute_command(  # type: ignore[no-untyped-call]
                    "XGROUP", "DELCONSUMER", self.key, self.group, name
                )
            try:
                claimed, *_ = pipe.execute()
            except redis.exceptions.OutOfMemoryError:
                return Claimed([], 0, FIRST)  # see _together; the names can wait
            except redis.ResponseError as error:
                if _is_group_lost(error) or _is_key_lost(error):
                    raise GroupLost from error
                raise
        return Claimed([], len(claimed[2]) if len(claimed) > 2 else 0, FIRST)

    def _silent(self, consumer: str, claim_after_s: float) -> list[str]:
        try:
            consumers = self.client.xinfo_consumers(self.key, self.group)
        except redis.ResponseError as error:
            if _is_group_lost(error) or _is_key_lost(error):
                return []
            raise
        if sum(int(one["pending"]) for one in consumers) > _MAX_PENDING:
            return []  # too much to take over at once: another time
        # Before 7.2, which says "inactive", reading in vain does not count as a sign of life.
        factor = 4 if any("inactive" in one for one in consumers) else 240
        return [
            name
            for one in consumers
            if (name := _text(one["name"])) != consumer
            and not one["pending"]
            and one["idle"] >= factor * claim_after_s * 1000
        ]

    # --- a group that keeps a bookmark: nothing is pending in it, and a trim keeps what is behind it

    def bookmark(self) -> str:
        """The id of the entry up to which this group has come; the group is made where it is missing.

        It begins at the stream's beginning.
        """
        self._make_group()
        group = self._own(self.client.xinfo_groups(self.key))
        return _text(group["last-delivered-id"])

    def move_bookmark(self, entry_id: str, passed: int) -> None:
        """Say that this group has come to this entry, and passed so many since the bookmark.

        Never back. Two at once may still set it back, by as much as one of them was behind: whoever goes by
        a bookmark must take what it has done already for done. Raises GroupLost.
        """
        try:
            info = self.client.xinfo_stream(self.key)
            group = self._own(self.client.xinfo_groups(self.key))
            if order(entry_id) <= order(_text(group["last-delivered-id"])):
                return
            added, read = info.get("entries-added"), group.get("entries-read")
            if _text(info["last-generated-id"]) == entry_id and added is not None:
                self._set_count(self.client, entry_id, int(added))
            elif read is not None:
                self._set_count(self.client, entry_id, int(read) + passed)
            else:  # a server before 7, or one that has lost count
                self._run("XGROUP", "SETID", self.key, self.group, entry_id)
        except redis.ResponseError as error:
            if _is_group_lost(error) or _is_key_lost(error):
                raise GroupLost from error
            raise

    def drop_group(self) -> bool:
        """Forget the group and what it has read, so that no trim waits for it; says whether there was one."""
        try:
            return bool(self.client.xgroup_destroy(self.key, self.group))
        except redis.ResponseError as error:
            if _is_key_lost(error) or "requires the key to exist" in _words(error):
                return False
            raise

    # --- those who go back in time, and those who cut it off

    def walk(
        self, *, from_ms: int, to_ms: int, count: int = _PAGE_ENTRIES
    ) -> Iterator[list[Entry]]:
        """Entries added in a span of Unix milliseconds, both ends included, up to ``count`` at once, fewer
        where they are large.

        Ends at the last entry that is there when it begins, so whoever appends what it yields does not
        go on for ever.
        """
        span = self.span()
        if span is None:
            return
        last = min(order(span[1]), (to_ms, MAX_NUMBER))
        for page in self._pages(str(max(from_ms, 0)), "{}-{}".format(*last), count):
            yield _entries(page)

    def walk_on(self, after: str, to: str, *, count: int = _PAGE_ENTRIES) -> Iterator[list[Entry]]:
        """The same for what was added after an entry, up to another, which is included."""
        for page in self._pages(f"({after}", to, count):
            yield _entries(page)

    def span(self) -> tuple[str, str] | None:
        """The ids of the first and the last entry that are there; None where there are none."""
        first = self._run("XRANGE", self.key, "-", "+", "COUNT", 1)
        last = self._run("XREVRANGE", self.key, "+", "-", "COUNT", 1)
        return (_text(first[0][0]), _text(last[0][0])) if first and last else None

    def _pages(self, start: str, end: str, count: int) -> Iterator[Sequence[Any]]:
        """Entries as Redis answers them, up to ``count`` at once, or about as many as fill a page."""
        ask = min(count, _PAGE_BYTES // MAX_ARRAY_BYTES)
        while page := self._run("XRANGE", self.key, start, end, "COUNT", ask):
            yield page
            size_bytes = sum(len(value) for _, fields in page for value in fields)
            ask = max(1, min(count, _PAGE_BYTES * len(page) // max(1, size_bytes)))
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

    def delete(self, ids: Sequence[bytes]) -> int:
        """Delete entries that the group has read and acknowledged; says how many were there.

        Their bytes stay in the server's files until it writes those anew.
        """
        deleted = 0
        for start in range(0, len(ids), 1000):
            deleted += self._run("XDEL", self.key, *ids[start : start + 1000])
        return deleted

    def last(self) -> bytes:
        """The newest entry's id; 0-0 where there is none."""
        newest = self._run("XREVRANGE", self.key, "+", "-", "COUNT", 1)
        return newest[0][0] if newest else FIRST

    def done_to(self) -> bytes:
        """The last entry up to which the group has read and acknowledged all; 0-0 where there is none."""

        def ask(pipe: redis.client.Pipeline) -> None:
            pipe.xinfo_groups(self.key)
            pipe.xpending(self.key, self.group)

        groups, pending = self._together(ask)
        for answer in (groups, pending):
            if isinstance(answer, redis.ResponseError) and (
                _is_key_lost(answer) or _is_group_lost(answer)
            ):
                return FIRST
            if isinstance(answer, Exception):
                raise answer
        if pending["pending"]:
            return "{}-{}".format(*_before(order(_text(pending["min"])))).encode()
        return cast("bytes", self._own(groups)["last-delivered-id"])

    def forget_player(self, player: str) -> bool:
        """Drop what our producer keeps of a player's game; says whether it kept anything."""
        return bool(self.client.hdel(self.players_key, player))

    def produced(self) -> int:
        """Events our producers ever put on this stream."""
        return int(self.client.hget(self.producer_key, "sent") or 0)

    def knows_player(self, player: str) -> bool:
        """Whether our producer keeps anything of this player's game."""
        return bool(self.client.hexists(self.players_key, player))

    def _oldest_needed(self, keep_s: float) -> str | None:
        """The first entry that a group, or whoever asked to keep so much, may still want."""
        found = self._needed()
        if found is None:
            return None
        at_ms, needed = found
        young = (max(0, at_ms - int(keep_s * 1000)), 0)
        return "{}-{}".format(*min(young, *(first for first, _ in needed.values())))

    def holder(self) -> Holder | None:
        """The group that is furthest behind; None where all groups are done with all there is."""
        found = self._needed()
        if found is None:
            return None
        at_ms, needed = found
        newest = self._run("XREVRANGE", self.key, "+", "-", "COUNT", 1)
        name, (first, is_done) = min(needed.items(), key=lambda item: item[1])
        done = first if is_done else _before(first)
        if not newest or done >= order(_text(newest[0][0])):
            return None
        begin = "{}-{}".format(*done)
        entries, is_estimate = self._count(
            begin, _text(newest[0][0]), int(self.client.xlen(self.key))
        )
        since_ms = self._first_id_after(f"({begin}")
        return Holder(
            _text(name), entries, is_estimate, at_ms if since_ms is None else since_ms, at_ms
        )

    def _needed(self) -> tuple[int, dict[bytes, tuple[tuple[int, int], bool]]] | None:
        """The server's time in milliseconds, and by group the first entry that must stay for it, and whether
        it is done with that one: the last that was delivered, where none is pending.

        None where there is no group, or one came or went in this moment.
        """
        try:
            # Other people's groups are called as they like: their names stay bytes.
            groups = [group["name"] for group in self.client.xinfo_groups(self.key)]

            def ask(pipe: redis.client.Pipeline) -> None:
                pipe.time()
                # Before what is pending: what is read in between counts as not read.
                pipe.xinfo_groups(self.key)
                for name in groups:
                    pipe.xpending(self.key, name)

            answers = self._together(ask)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            (seconds, micros), infos, *pending = answers
        except redis.ResponseError as error:
            if _is_key_lost(error) or _is_group_lost(error):
                return None
            raise
        if not groups or {info["name"] for info in infos} != set(groups):
            return None  # one came or went just now: the next trim knows it
        # The last that was delivered stays: as long as the stream reaches back to it, nobody can take
        # what was trimmed here for what was trimmed unread.
        needed = {info["name"]: (order(_text(info["last-delivered-id"])), True) for info in infos}
        for name, one in zip(groups, pending, strict=True):
            if one["pending"]:
                needed[name] = min(needed[name], (order(_text(one["min"])), False))
        return seconds * 1000 + micros // 1000, needed

    # --- onlookers

    def state(self, *, exact: bool = True) -> StreamState:
        """The stream, its group and what waits in it, all at one moment.

        ``exact`` counts what was not read yet by reading it, within bounds. Without it a backlog is
        the server's own estimate, at no cost; whether anything waits at all is exact in any case.
        """

        def ask(pipe: redis.client.Pipeline) -> None:
            pipe.time()
            pipe.xinfo_stream(self.key)
            pipe.xinfo_groups(self.key)
            pipe.xpending(self.key, self.group)
            pipe.xinfo_consumers(self.key, self.group)

        now, info, groups, pending, consumers = self._together(ask)
        at_ms = 0 if isinstance(now, Exception) else now[0] * 1000 + now[1] // 1000
        if isinstance(info, redis.ResponseError) and _is_key_lost(info):
            return StreamState(at_ms=at_ms)
        for reply in (now, info, groups):
            if isinstance(reply, Exception):
                raise reply
        last_id = _text(info["last-generated-id"])
        entries, added = int(info["length"]), info.get("entries-added")
        group: Mapping[str, Any] | None = None
        with suppress(GroupLost):
            group = self._own(groups)
        if group is None:
            first = self._first_id_after("-")
            return StreamState(
                exists=True, entries=entries, added=added, last_id=last_id, undelivered=entries,
                oldest_waiting_ms=None if first is None else min(first, at_ms), at_ms=at_ms,
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
            next_ms = self._first_id_after(f"({delivered}")
            waiting += [] if next_ms is None else [next_ms]
        return StreamState(
            exists=True, entries=entries, added=added, last_id=last_id, group_exists=True,
            undelivered=undelivered, undelivered_is_estimate=is_estimate,
            pending=int(pending["pending"]),
            consumers={
                _text(c["name"]): Pending(int(c["pending"]), int(c["idle"])) for c in consumers
            },
            # Senders may choose ids of the far future, which have waited for no time at all.
            oldest_waiting_ms=min([*waiting, at_ms]) if waiting else None, at_ms=at_ms,
        )  # fmt: skip

    def find(self, needle: bytes, *, since_ms: int) -> Found | None:
        """The first entry added since then that holds these bytes; reads every entry up to it."""
        for page in self._pages(str(max(since_ms, 0)), "+", _PAGE_ENTRIES):
            for entry_id, fields in page:
                if any(needle in value for value in fields):
                    return self._found(_text(entry_id))
        return None

    def _found(self, entry_id: str) -> Found:
        group: Mapping[str, Any] | None = None
        with suppress(GroupLost):
            group = self._own(self.client.xinfo_groups(self.key))
        if group is None or order(entry_id) > order(_text(group["last-delivered-id"])):
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
        counted = size_bytes = 0
        for page in self._pages(f"({after}", last, _PAGE_ENTRIES):
            counted += len(page)
            size_bytes += sum(len(value) for _, fields in page for value in fields)
            if counted >= _COUNT_LIMIT or size_bytes >= _COUNT_LIMIT_BYTES:
                return max(counted, estimate), True
        return counted, False

    def _first_id_after(self, start: str) -> int | None:
        page = self._run("XRANGE", self.key, start, "+", "COUNT", 1)
        return _id_ms(_text(page[0][0])) if page else None


def _gap(info: Mapping[str, Any], group: Mapping[str, Any]) -> int:
    """Entries that are gone from the stream and were never delivered to the group, by its own count."""
    added, read = info.get("entries-added"), group.get("entries-read")
    delivered = order(_text(group["last-delivered-id"]))
    first = info.get("first-entry")
    if added is None or read is None:
        return 0
    if delivered == order(_text(info["last-generated-id"])):
        return 0  # all was delivered; a count that says otherwise is wrong
    if first and order(_text(first[0])) <= delivered:
        return 0  # the stream reaches back to what was read
    return max(0, int(added) - int(info["length"]) - int(read))


def _pairs(raw: Sequence[Any]) -> dict[str, Any]:
    """Names and values that Redis sends one after the other."""
    return {_text(raw[place]): raw[place + 1] for place in range(0, len(raw), 2)}


def _run_id(client: redis.Redis) -> bytes:
    """What the server calls its present run: another after every start."""
    return str(client.info("server")["run_id"]).encode()


# Of an entry with one field.
_FORMS: Final = {form.value: form for form in (Form.EVENT, Form.EVENTS)}


def _entries(raw: Iterable[Any]) -> list[Entry]:
    # A read of the own pending list shows a deleted entry's id with no fields; ``read`` never does.
    return [
        Entry(entry_id, fields[1], _FORMS[fields[0]])
        if len(fields) == 2 and fields[0] in _FORMS
        else Entry(entry_id, _all_fields(fields), Form.FOREIGN)
        for entry_id, fields in raw
    ]


def _all_fields(fields: Sequence[bytes]) -> bytes:
    """Fields and values of a foreign entry as one JSON array; Latin-1 keeps every byte apart."""
    return json.dumps([f.decode("latin-1") for f in fields]).encode()


def _text(value: bytes | str) -> str:
    # Other people's groups and consumers are called as they like.
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def order(entry_id: str) -> tuple[int, int]:
    """The two numbers of an entry's id, by which entries of a stream are in order."""
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number or 0)


def is_after(one: bytes, other: bytes) -> bool:
    """Whether an entry's id is later than another's."""
    return order(_text(one)) > order(_text(other))


def _before(order: tuple[int, int]) -> tuple[int, int]:
    """The id right before one."""
    ms, number = order
    return (ms, number - 1) if number else (max(0, ms - 1), MAX_NUMBER if ms else 0)


def _id_ms(entry_id: str) -> int:
    return int(entry_id.split("-", 1)[0])
