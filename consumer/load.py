"""Load: one batch flows in, one transaction of Postgres flows out. The event table's only door.

Rows go by COPY straight into game_events. Where the primary key finds one that is stored already, the
transaction is begun anew and they go through a temporary table, from which only the new ones are taken, and
so do the next batches until one holds nothing but new rows. Refused entries go into the quarantine in the
same transaction, and which hours have changed is told to the rollups. Storing a batch again changes nothing,
so whoever is not sure whether a COMMIT arrived simply stores it again.

Between two transactions the server keeps nothing for us, so each may be another of its sessions, as behind
PgBouncer. What a transaction needs is said with its BEGIN, in one message.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812  # psycopg2's class names
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extras import execute_values

from consumer.batch import Batch, Refusal
from consumer.cutoff import Cutoff
from consumer.forgotten import without
from consumer.health import Notes
from consumer.rows import COLUMNS, copy_binary
from consumer.touched import HOUR_MS, HOURS_A_DAY, TELL_EVERY_S, Touched
from pipeline import failpoint, partitions
from pipeline.entry import Entry
from pipeline.event import Event, Reason
from pipeline.settings import libpq_url

T = TypeVar("T")

# The quarantine keeps this much of an entry; an event has at most a sixteenth of it.
QUARANTINE_BYTES: Final = 1024 * 1024
_QUARANTINE_ROWS: Final = 500
# Events a transaction where the database refuses some: each may take two attempts of a millisecond.
_PARTS_EVENTS: Final = 1000

# Where a transaction may take longer than this, each tells what it changed: see touched.py.
_LONGEST_S: Final = 240.0

# psycopg2 counts these two among the programming faults: a transaction ended because its owner was
# frozen in the middle of it, and a server that is a standby until a failover is over.
_TEMPORARY_CODES: Final = frozenset({"25P03", "25006"})
_CHECK_VIOLATION: Final = "23514"
_UNIQUE_VIOLATION: Final = "23505"

_COLUMN_LIST: Final = ", ".join(COLUMNS)
CREATE_INCOMING: Final = """
create temporary table incoming (
    id uuid, ts timestamptz, player text, action text, xp_delta integer, karma_delta integer,
    karma_total integer, rank text, energy_source text, seq bigint, details jsonb
) on commit drop
"""
# Asked, not tried: a consumer's role need not be able to read.
MAY_WRITE: Final = """
select bool_and(has_table_privilege(name, 'insert'))
       and has_database_privilege(current_database(), 'temporary')
from unnest(array['game_events', 'quarantined_events', 'pipeline_health', 'touched_hours']) as name
"""
BEGIN: Final = "begin; set local idle_in_transaction_session_timeout = %s"
# A statement that waits for a lock on behalf of a consumer that is gone would wait as long as it likes.
NOTICE_GONE: Final = "set local client_connection_check_interval = '10s'"
COPY_EVENTS: Final = f"copy game_events ({_COLUMN_LIST}) from stdin (format binary)"
COPY_INCOMING: Final = f"copy incoming ({_COLUMN_LIST}) from stdin (format binary)"
# Ordered, so that two batches that hold the same events wait for each other and never deadlock; by ctid
# last, which is the order of the COPY: of two events with one id, the one that came first is kept.
INSERT_EVENTS: Final = f"""
insert into game_events ({_COLUMN_LIST})
select {_COLUMN_LIST} from incoming order by ts, id, ctid
on conflict do nothing
"""  # noqa: S608  # the names are ours
INSERT_QUARANTINE: Final = """
insert into quarantined_events as q
    (sha256, raw, size_bytes, reason, detail, entry_id, times_seen)
values %s
on conflict (sha256) do update set
    times_seen = q.times_seen + excluded.times_seen,
    last_seen_at = now(),
    -- What is an event but for its field is not to be taken for an array when it is released.
    reason = case when excluded.reason = 'bad_array' then q.reason else excluded.reason end,
    detail = case when excluded.reason = 'bad_array' then q.detail else excluded.detail end,
    entry_id = excluded.entry_id,
    -- It was sent again and is refused again: it can be released once more. Of what was fixed these are the
    -- old bytes, which a replay or a sender had once more.
    released_at = case when q.fixed_at is null then null else q.released_at end
"""
TOUCH_HOURS: Final = """
insert into touched_hours (hour) select to_timestamp(number * 3600) from unnest(%s) as number
"""
FORGOTTEN: Final = "select player_sha256, number from forgotten_players"
ENSURE_PARTITIONS: Final = "select ensure_game_events_partitions(%s, %s)"
# Counts of the batch are added to the row: with the transaction that stores it they stand or fall together,
# so their sums are the tables' own. The rest are the consumer's own sums of the minute, and written over it.
ADD_HEALTH: Final = """
insert into pipeline_health as h
    (minute, process, batches, stored, duplicates, quarantined, quarantined_by_reason,
     batch_rows_max, batch_s_sum, batch_s_max, age_p50_s, age_p95_s, age_p99_s,
     claimed, groups_made, lost, waited_redis_s, waited_postgres_s, is_flooded,
     seen_at, added, undelivered, pending, oldest_waiting_at, complete_to, forgotten)
values
    (%(minute)s, %(process)s, %(batches)s, %(stored)s, %(duplicates)s,
     %(quarantined)s, %(quarantined_by_reason)s,
     %(batch_rows_max)s, %(batch_s_sum)s, %(batch_s_max)s, %(age_p50_s)s, %(age_p95_s)s, %(age_p99_s)s,
     %(claimed)s, %(groups_made)s, %(lost)s, %(waited_redis_s)s, %(waited_postgres_s)s, %(is_flooded)s,
     %(seen_at)s, %(added)s, %(undelivered)s, %(pending)s, %(oldest_waiting_at)s, %(complete_to)s,
     %(forgotten)s)
on conflict (minute, process) do update set
    batches = h.batches + excluded.batches,
    stored = h.stored + excluded.stored,
    duplicates = h.duplicates + excluded.duplicates,
    quarantined = h.quarantined + excluded.quarantined,
    quarantined_by_reason = (
        select coalesce(jsonb_object_agg(reason, entries), '{}'::jsonb)
        from (
            select key as reason, sum(value::bigint) as entries
            from (
                select * from jsonb_each_text(h.quarantined_by_reason)
                union all
                select * from jsonb_each_text(excluded.quarantined_by_reason)
            ) as both_parts
            group by key
        ) as summed
    ),
    batch_rows_max = excluded.batch_rows_max,
    batch_s_sum = excluded.batch_s_sum,
    batch_s_max = excluded.batch_s_max,
    age_p50_s = coalesce(excluded.age_p50_s, h.age_p50_s),
    age_p95_s = coalesce(excluded.age_p95_s, h.age_p95_s),
    age_p99_s = coalesce(excluded.age_p99_s, h.age_p99_s),
    claimed = excluded.claimed,
    groups_made = excluded.groups_made,
    lost = excluded.lost,
    waited_redis_s = excluded.waited_redis_s,
    waited_postgres_s = excluded.waited_postgres_s,
    is_flooded = excluded.is_flooded,
    seen_at = coalesce(excluded.seen_at, h.seen_at),
    added = coalesce(excluded.added, h.added),
    undelivered = coalesce(excluded.undelivered, h.undelivered),
    pending = coalesce(excluded.pending, h.pending),
    -- Null says something here: nothing waited when the stream was looked at.
    oldest_waiting_at = case when excluded.seen_at is null then h.oldest_waiting_at
                             else excluded.oldest_waiting_at end,
    complete_to = coalesce(excluded.complete_to, h.complete_to),
    forgotten = h.forgotten + excluded.forgotten,
    updated_at = now()
-- Asked in the same breath: whether a player was forgotten since this consumer last looked who was.
returning (select coalesce(max(number), 0) from forgotten_players)
"""


@dataclass(frozen=True)
class Stored:
    """What became of a batch. ``duplicates`` were in the table, or in the batch, already."""

    rows: int
    duplicates: int
    # What was refused, here or by the batch, by reason.
    refused: Mapping[str, int]
    # Events, and what should have been some, of players who are forgotten: dropped.
    forgotten: int = 0

    @property
    def quarantined(self) -> int:
        """Entries that went to the quarantine."""
        return sum(self.refused.values())

    def and_(self, other: Stored) -> Stored:
        """This and what was stored after it."""
        refused = Counter(self.refused) + Counter(other.refused)
        return Stored(
            self.rows + other.rows,
            self.duplicates + other.duplicates,
            refused,
            self.forgotten + other.forgotten,
        )


class SchemaError(Exception):
    """The tables are missing or not ours to write: run `infamous migrate`, or check the role."""


class _Forgot(Exception):
    """A player was forgotten since we last looked."""


def is_temporary(error: BaseException) -> bool:
    """Whether waiting helps: the server is away, starting, out of disk, read-only, or dropped us."""
    if isinstance(error, psycopg2.Error) and (
        error.pgcode in _TEMPORARY_CODES
        # Detached or dropped in the moment between the look for it and the insert: the next look tells.
        or _is_without_partition(error)
    ):
        return True
    return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)


def _is_about_a_row(error: psycopg2.Error) -> bool:
    """Classes 22 (data), 23 (integrity) and 54 (too complex): a row's fault, not the server's."""
    if _is_without_partition(error):
        return False
    return isinstance(error, psycopg2.DataError) or (error.pgcode or "")[:2] in {"22", "23", "54"}


def _is_duplicate(error: psycopg2.Error) -> bool:
    return error.pgcode == _UNIQUE_VIOLATION


def _is_without_partition(error: psycopg2.Error) -> bool:
    """Whether there is no partition for a row: Postgres calls it a broken check without a name."""
    return error.pgcode == _CHECK_VIOLATION and error.diag.constraint_name is None


class Loader:
    """A connection to Postgres that stores batches. It opens at the first call, and again after an
    error; every call may raise an error for which ``is_temporary`` holds, and may then be repeated.
    """

    def __init__(
        self, database_url: str, name: str, *, frozen_s: float = 15.0, silent_s: float = 60.0
    ) -> None:
        """``frozen_s``: a transaction left idle for so long is rolled back by the server, because
        another consumer that took the batch over would wait for it as long as this one is frozen.
        ``silent_s``: where a transaction takes longer, the server counts as away.
        """
        self._cutoff = Cutoff(silent_s)
        self._dsn = libpq_url(database_url)
        self._frozen_ms = min(max(1, int(frozen_s * 1000)), 2**31 - 1)
        # How a transaction begins on the connection.
        self._begin = ""
        self._name = name
        self._connection: Connection | None = None
        self._days: set[int] = set()
        self._touched = Touched(TELL_EVERY_S if silent_s <= _LONGEST_S else 0.0)
        # What the transaction at hand tells.
        self._telling: list[int] = []
        # Hashes of the names that are forgotten, and the number of the newest of them.
        self._forgotten: frozenset[bytes] = frozenset()
        self._forgotten_number = 0
        # Whether the batch before this one held nothing that was stored already.
        self._expects_new = True

    def store(self, batch: Batch, notes: Notes | None = None, rows: bytes | None = None) -> Stored:
        """Store the batch whole: afterwards each entry is a row, was one before, or is quarantined; but for
        those of players who are forgotten, which are dropped.

        The health table's row of the minute is written with it. ``rows`` is ``rows_of`` the batch, where
        it was made ahead.
        """
        notes = notes or Notes()
        while True:
            kept = without(batch, self._forgotten) if self._forgotten else batch
            kept_rows = rows_of(kept) if rows is None or kept is not batch else rows
            try:
                return self._store_kept(kept, notes, kept_rows)
            except _Forgot:
                pass
            self._look_who_is_forgotten()

    def _store_kept(self, batch: Batch, notes: Notes, rows: bytes) -> Stored:
        is_in_parts, has_made_partitions = False, False
        while True:
            # Each further attempt is made outside the handler of the one before: see _insert_in_parts.
            try:
                if is_in_parts:
                    return self._store_in_parts(batch, notes)
                return self._transaction(
                    lambda cursor: self._store(cursor, batch, rows, notes),
                    is_staged=bool(batch.events) and not self._expects_new,
                )
            except psycopg2.Error as error:
                if _is_without_partition(error) and not has_made_partitions:
                    has_made_partitions = True
                elif _is_duplicate(error) and self._expects_new:
                    self._expects_new = False
                elif _is_about_a_row(error) and not is_in_parts:
                    is_in_parts = True  # one row spoils a COPY: look for it
                else:
                    raise

    def note(self, notes: Notes) -> None:
        """Write the health table's row when there is no batch to write it with."""
        self._transaction(lambda cursor: self._add_health(cursor, None, notes))

    def prepare(self, now: datetime) -> None:
        """Make the partitions around now, and see that the tables are there."""
        span = partitions.around(now.astimezone(UTC).date())

        def look(cursor: Cursor) -> None:
            cursor.execute(ENSURE_PARTITIONS, span)
            cursor.execute(MAY_WRITE)
            (may_write,) = cursor.fetchone() or (False,)
            if not may_write:
                raise SchemaError("this role may not write to the tables")

        self._transaction(look)

    def close(self) -> None:
        """Drop the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._cutoff.close()

    def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            connection = psycopg2.connect(
                self._dsn,
                application_name=f"infamous consumer {self._name}",
                connect_timeout=5,
                # A peer that vanished without a word is noticed within half a minute.
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=30_000,
            )
            connection.autocommit = True  # BEGIN and COMMIT are ours to say: see _begun
            with self._cutoff.guard(connection):
                self._begin = _beginning(connection, BEGIN % self._frozen_ms)
            self._connection = connection
        return self._connection

    def _transaction(self, work: Callable[[Cursor], T], *, is_staged: bool = False) -> T:
        """``is_staged``: there is a table for rows of which some may be stored already."""
        self._telling, began_s = [], time.monotonic()
        try:
            connection = self._open()
            # In the same message: a batch costs no further way to the server and back.
            begin = f"{self._begin}; {CREATE_INCOMING}" if is_staged else self._begin
            with self._cutoff.guard(connection), _begun(connection, begin) as cursor:
                done = work(cursor)
        except _Forgot:
            self._days.clear()  # those that it made were undone with it
            raise
        except psycopg2.ProgrammingError as error:
            if error.pgcode is None:  # not the server's word: libpq does not understand the URL
                raise
            raise SchemaError(str(error).splitlines()[0]) from error
        except psycopg2.Error as error:
            # A partition was dropped or detached since it was made; or was made, and that undone just now.
            self._days.clear()
            if is_temporary(error) and not _is_without_partition(error):
                self.close()
            raise
        self._touched.told(self._telling, began_s)
        return done

    def _store(self, cursor: Cursor, batch: Batch, rows: bytes, notes: Notes) -> Stored:
        hours = _hours(batch.events)
        self._ensure_partitions(cursor, hours)
        new = len(batch.events)
        if new and self._expects_new:
            _copy(cursor, COPY_EVENTS, rows)
        elif new:
            new = _insert_new(cursor, rows)
        self._touch(cursor, hours if new else set())
        stored = Stored(new, len(batch.events) - new, _by_reason(batch.refusals), batch.forgotten)
        self._settle(cursor, stored, batch.refusals, notes)
        self._expects_new = stored.duplicates == 0
        return stored

    def _store_in_parts(self, batch: Batch, notes: Notes) -> Stored:
        """Store what the database refuses some of, in transactions that end in time all the same."""
        stored = Stored(0, 0, {})
        for first in range(0, max(1, len(batch.events)), _PARTS_EVENTS):
            part = replace(
                batch,
                events=batch.events[first : first + _PARTS_EVENTS],
                sources=batch.sources[first : first + _PARTS_EVENTS],
                refusals=[] if first else batch.refusals,
                forgotten=0 if first else batch.forgotten,
            )
            store = partial(self._store_part, part, notes)
            stored = stored.and_(self._transaction(store, is_staged=True))
        return stored

    def _store_part(self, part: Batch, notes: Notes, cursor: Cursor) -> Stored:
        hours = _hours(part.events)
        self._ensure_partitions(cursor, hours)
        rows, more = _insert_in_parts(cursor, part.events, part.sources)
        self._touch(cursor, hours if rows else set())
        refusals = [*part.refusals, *more]
        duplicates = len(part.events) - rows - len(more)
        stored = Stored(rows, duplicates, _by_reason(refusals), part.forgotten)
        self._settle(cursor, stored, refusals, notes)
        return stored

    def _settle(
        self, cursor: Cursor, stored: Stored, refusals: Sequence[Refusal], notes: Notes
    ) -> None:
        """What else belongs to a transaction, once its rows are in."""
        _quarantine(cursor, refusals)
        self._add_health(cursor, stored, notes)
        failpoint.reached("before_commit")

    def _add_health(self, cursor: Cursor, stored: Stored | None, notes: Notes) -> None:
        done = stored or Stored(0, 0, {})
        counts = {
            "process": self._name,
            "batches": 0 if stored is None else 1,
            "stored": done.rows,
            "duplicates": done.duplicates,
            "quarantined": done.quarantined,
            "quarantined_by_reason": json.dumps(done.refused),
            "forgotten": done.forgotten,
        }
        cursor.execute(ADD_HEALTH, counts | notes.columns())
        (newest,) = cursor.fetchone() or (0,)
        if stored is not None and newest != self._forgotten_number:
            raise _Forgot  # and nothing of this transaction is kept

    def _look_who_is_forgotten(self) -> None:
        def look(cursor: Cursor) -> None:
            cursor.execute(FORGOTTEN)
            found = cursor.fetchall()
            self._forgotten = frozenset(bytes(sha256) for sha256, _ in found)
            self._forgotten_number = max((number for _, number in found), default=0)

        self._transaction(look)

    def _touch(self, cursor: Cursor, hours: AbstractSet[int]) -> None:
        """Tell the rollups that these hours have changed, where it was not told of late."""
        self._telling = self._touched.due(hours, time.monotonic())
        if self._telling:
            cursor.execute(TOUCH_HOURS, (self._telling,))

    def _ensure_partitions(self, cursor: Cursor, hours: AbstractSet[int]) -> None:
        for day in sorted({hour // HOURS_A_DAY for hour in hours} - self._days):
            date = datetime.fromtimestamp(day * 86_400, UTC).date()
            cursor.execute(ENSURE_PARTITIONS, (date, date))
            self._days.add(day)


def _beginning(connection: Connection, begin: str) -> str:
    """How a transaction begins there, which notices that we are gone where the server can tell."""
    noticing = f"{begin}; {NOTICE_GONE}"
    try:
        with _begun(connection, noticing):
            return noticing
    except psycopg2.DataError:  # a platform on which it cannot
        return begin


@contextmanager
def _begun(connection: Connection, begin: str) -> Iterator[Cursor]:
    """One transaction: committed where the block ends well, else undone."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(begin)
            yield cursor
        except BaseException:
            try:
                cursor.execute("rollback")
            except psycopg2.Error:  # what ended the connection has been raised, and is what counts
                connection.close()
            raise
        cursor.execute("commit")


class _Wire(io.BytesIO):
    """The bytes of a COPY."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            failpoint.reached("mid_copy")
        return super().read(size)


def _hours(events: Sequence[Event]) -> set[int]:
    return {(event.id.int >> 80) // HOUR_MS for event in events}


def _by_reason(refusals: Sequence[Refusal]) -> Counter[str]:
    return Counter(refusal.reason.value for refusal in refusals)


def rows_of(batch: Batch) -> bytes:
    """The batch's rows as the bytes of a COPY, in the order of the primary key.

    In order, so that two batches that hold the same events wait for each other and never deadlock.
    """
    return copy_binary(sorted(batch.events, key=_key))


def _key(event: Event) -> int:
    return event.id.int  # its first bits are the time


def _copy(cursor: Cursor, statement: str, rows: bytes) -> None:
    # In one piece: between two pieces the reading thread would have to let this one go on.
    cursor.copy_expert(statement, _Wire(rows), size=len(rows))


def _insert_new(cursor: Cursor, rows: bytes) -> int:
    """Store the rows that are not stored yet; returns how many were not."""
    _copy(cursor, COPY_INCOMING, rows)
    cursor.execute(INSERT_EVENTS)
    return cursor.rowcount


def _insert_in_parts(
    cursor: Cursor, events: Sequence[Event], sources: Sequence[Entry]
) -> tuple[int, list[Refusal]]:
    """Store events of which some are refused by the database: halve until those stand alone."""
    cursor.execute("savepoint part")
    try:
        rows = _insert_new(cursor, copy_binary(events))
    except psycopg2.Error as error:
        if not _is_about_a_row(error):
            raise
        code = error.pgcode
    else:
        cursor.execute("truncate incoming; release savepoint part")
        return rows, []
    # Out of the handler: while an error is being handled, psycopg2 prints it, the row's values and all,
    # when the connection breaks during the next COPY.
    # What an attempt leaves behind, rows that nobody sees and a savepoint, the next ones would have to pass.
    cursor.execute("rollback to savepoint part; release savepoint part; truncate incoming")
    if len(events) == 1:
        # The server's message holds the row's values: only its code is kept.
        detail = f"Postgres refused the row with SQLSTATE {code}"
        return 0, [Refusal(sources[0], Reason.DATABASE, detail)]
    half = len(events) // 2
    rows, refusals = _insert_in_parts(cursor, events[:half], sources[:half])
    more_rows, more_refusals = _insert_in_parts(cursor, events[half:], sources[half:])
    return rows + more_rows, refusals + more_refusals


def _quarantine(cursor: Cursor, refusals: Sequence[Refusal]) -> None:
    """Store refused entries, the same bytes once, in the order of their keys against deadlocks."""
    seen: dict[bytes, int] = {}
    last: dict[bytes, Refusal] = {}
    for refusal in refusals:
        key = hashlib.sha256(refusal.entry.payload).digest()
        seen[key] = seen.get(key, 0) + 1
        last[key] = refusal
    values = [
        (
            key,
            last[key].entry.payload[:QUARANTINE_BYTES],
            len(last[key].entry.payload),
            last[key].reason.value,
            last[key].detail,
            last[key].entry.id.decode(),
            seen[key],
        )
        for key in sorted(seen)
    ]
    if values:
        # As many a statement as fit: each may hold a megabyte, which is sent as two of text.
        largest = max(len(raw) for _, raw, *_ in values)
        page_size = max(1, min(_QUARANTINE_ROWS, 10 * QUARANTINE_BYTES // max(1, largest)))
        execute_values(cursor, INSERT_QUARANTINE, values, page_size=page_size)
        failpoint.reached("in_quarantine")
