"""Forget: a player's name flows in, all that is theirs flows out of the tables, the streams and the archive.

First a tombstone is set up, from which consumers know that what comes of this player from now on is dropped:
by a replay, a release, an import, or a sender that had it late. Then what is there is taken away, place by
place. Broken off anywhere, it is simply run again: what is gone already is not there any more.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from types import ModuleType
from typing import Final

from psycopg2.errors import InvalidSchemaName, UndefinedTable
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from jobs import days, rollup, tombstones
from jobs.mentions import Kept, Looked, Name
from jobs.progress import Progress, untold
from jobs.quarantine import Held
from jobs.seen import Seen
from jobs.storage import Storage
from jobs.tombstones import StillWriting
from pipeline import failpoint, lock, partitions, tables
from pipeline.entry import Entry, Form
from pipeline.stream import Stream, is_after
from pipeline.streams import Streams
from pipeline.tombstone import sha256_of

# What of theirs still waits to be stored is waited for so long.
PATIENCE_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.2
# Longer than a turn of the archiver takes.
ARCHIVING_S: Final = 900.0
# A consumer is waited for so long at a time, since others wait behind whoever waits for a table ...
_LOCK_TIMEOUT: Final = "2s"
# ... and again for so long.
_LOCK_PATIENCE_S: Final = 60.0
_CHUNK: Final = 200
# Of what may be theirs, so much is counted once though it is in several places.
_MOST_UNSURE: Final = 1_000_000
_FOR_EVER_MS: Final = 2**63

# Tables of which rows are one player's; what sums up all players is made anew from them. So are hourly_items
# from the raw events; where those are gone, its counts stay as they are: there is no name in them.
_ROLLUPS: Final = (
    "hourly_rollups",
    "session_parts",
    "daily_rollups",
    "player_days",
    "mission_parts",
    "mission_runs",
    "moral_choices",
)

# One after the other: where a higher number were seen before a lower one, nobody would look for that one.
IN_ORDER: Final = text("lock table forgotten_players in share row exclusive mode")
SET_TOMBSTONE: Final = text("""
insert into forgotten_players (player_sha256, pseudonym) values (:sha256, :pseudonym)
on conflict (player_sha256) do update set pseudonym = coalesce(forgotten_players.pseudonym, :pseudonym)
returning pseudonym
""")
CLOSE: Final = text("update forgotten_players set pseudonym = null where player_sha256 = :sha256")
# Consumers that began to store before the tombstone stood have ended when this is granted; those that begin
# after it see the tombstone.
LIMIT_LOCK: Final = text(f"set local lock_timeout = '{_LOCK_TIMEOUT}'")
BARRIER: Final = "lock table {} in share row exclusive mode"
ERASE: Final = text("""
with gone as (
    delete from game_events where player = any(:players) returning ts
), told as (
    insert into touched_hours (hour) select distinct date_trunc('hour', ts, 'UTC') from gone
)
select count(*) from gone
""")
RENAME: Final = text("""
with renamed as (
    update game_events set player = :pseudonym where player = :player returning ts
), told as (
    insert into touched_hours (hour) select distinct date_trunc('hour', ts, 'UTC') from renamed
)
select count(*) from renamed
""")
# Of those of which the raw events are gone, what is summed up of all players is summed up again.
TOUCH: Final = text("""
insert into touched_hours (hour, touched_at)
select distinct hour, timestamptz 'epoch' from (
    select hour from hourly_rollups where player = any(:players)
    union select hour from session_parts where player = any(:players)
    union select hour from mission_parts where player = any(:players)
) as theirs
""")
REFUSED: Final = text("""
select sha256, raw, reason from quarantined_events where sha256 > :after order by sha256 limit :count
""")
DROP_REFUSED: Final = text("delete from quarantined_events where sha256 = any(:keys)")
# Tables of events that stand beside the live one: a shadow, what a swap took out, and partitions that were
# detached and may be attached again.
BESIDE: Final = text(f"""
select format('%I.%I', nspname, beside.relname) as name
from pg_class beside join pg_namespace on pg_namespace.oid = beside.relnamespace
join pg_class live on live.oid = 'game_events'::regclass
where beside.relkind in ('r', 'p') and not beside.relispartition
  and (nspname in (:shadow, :before) and beside.relname like 'game\\_events%'
       or beside.relnamespace = live.relnamespace and beside.relowner = live.relowner
          and beside.relname ~ '{partitions.NAME}')
order by 1
""")  # noqa: S608  # the pattern is ours
# How the server calls one of them that is not there any more.
_OF_DAYS: Final = re.compile(
    rf'"({tables.SHADOW_SCHEMA}|{tables.BEFORE_SCHEMA}|[^"]*game_events_\d{{8}})[".]'
)
COUNT_EVENTS: Final = text("select count(*) from game_events where player = :player")


@dataclass(frozen=True)
class Traces:
    """What there is of a player, by place."""

    events: int = 0
    # Events in a shadow, and in days that a swap set aside.
    beside: int = 0
    quarantined: int = 0
    # Rows of rollups.
    rollups: int = 0
    # Entries of the stream that hold anything of theirs, and are stored.
    entries: int = 0
    # Rows of the archive.
    archived: int = 0
    # Whether our producer keeps their game.
    has_game: bool = False
    # What was refused, each once wherever it is, and nobody can tell whether it is theirs: it stays.
    unsure: int = 0

    @property
    def is_none(self) -> bool:
        """Whether there is nothing that is theirs for sure."""
        return not any(count for place, count in asdict(self).items() if place != "unsure")


@dataclass(frozen=True)
class Forgotten:
    """What a run did."""

    removed: Traces
    # The name that their events go by now; None where they were erased.
    pseudonym: str | None
    # Entries of theirs that no consumer has stored yet: while they wait, they cannot be taken away.
    waiting: int
    # Whether it came to the end; else it was stopped before.
    is_complete: bool


def look(
    engine: Engine, streams: Streams, player: str, *, storage: Storage | None = None
) -> Traces:
    """What a run would remove, or give another name. Changes nothing. ``storage``: where the archive is.

    Raises StillWriting, and what the archive raises.
    """
    with _run_again_where_tables_went():
        return _look(engine, streams, player, storage)


def _look(engine: Engine, streams: Streams, player: str, storage: Storage | None) -> Traces:
    name, unsure = Name(player), Seen(_MOST_UNSURE)
    entries = quarantined = 0

    def note(payloads: Iterable[bytes]) -> None:
        for payload in payloads:
            unsure.is_new(hashlib.sha256(payload).digest())

    streams.look()
    for page in streams.walk(from_ms=0, to_ms=_FOR_EVER_MS):
        for looked in map(name.look_at, page):
            entries += looked.kept is not Kept.ALL
            note(looked.unsure)
    for chunk in _refused(engine, name):
        for key, looked in chunk.items():
            quarantined += looked.kept is not Kept.ALL
            if looked.unsure:
                unsure.is_new(key)
    note(() if storage is None else _erasure().unsure(storage, name))
    with engine.connect() as connection:
        return Traces(
            events=connection.execute(COUNT_EVENTS, {"player": player}).scalar_one(),
            beside=sum(_count(connection, table, player) for table in _beside(connection)),
            quarantined=quarantined,
            rollups=sum(_count(connection, table, player) for table in _ROLLUPS),
            entries=entries,
            archived=0 if storage is None else _erasure().count(storage, [player]),
            has_game=streams.knows_player(player),
            unsure=unsure.remembered + unsure.unchecked,
        )


def forget(
    engine: Engine,
    streams: Streams,
    player: str,
    *,
    storage: Storage | None = None,
    keep_as_pseudonym: bool = False,
    tell: Progress = untold,
    stop: threading.Event | None = None,
    patience_s: float = PATIENCE_S,
) -> Forgotten:
    """Remove everything of a player, or have their events go by a name that nobody can trace back.

    ``engine`` connects as a role that may delete, ``storage`` is where the archive is. What was refused, and
    what is on any stream, is removed in either case. Waits ``patience_s`` for consumers to store what of
    theirs is there. Raises StillWriting, what the archive raises, and what redis-py raises when a stream is
    away: run again, it goes on.
    """
    stop = stop or threading.Event()
    name, sha256 = Name(player), sha256_of(player)
    chosen = _set_tombstone(engine, sha256, keep_as_pseudonym=keep_as_pseudonym)
    pseudonym = chosen if keep_as_pseudonym else None
    # Where a run that renamed them was broken off, some go by that name.
    names = [player] if chosen is None else [player, chosen]
    failpoint.reached("in_forget")
    with _run_again_where_tables_went():
        _wait_for_those_before(engine)
    streams.look()
    waiting, entries = _clear_streams(streams, name, tell, stop, patience_s)
    has_game = streams.forget_player(player)
    failpoint.reached("in_forget")
    archived = 0
    if storage is not None:
        with tombstones.alone(engine, ARCHIVING_S, stop):
            archived = _erasure().erase(storage, names, pseudonym)
        failpoint.reached("in_forget")
    with _run_again_where_tables_went(), engine.connect() as connection:
        events, beside, rollups = _clear_tables(connection, names, pseudonym)
    quarantined = 0
    for chunk in _refused(engine, name):
        keys = [key for key, looked in chunk.items() if looked.kept is not Kept.ALL]
        with engine.begin() as connection:
            quarantined += connection.execute(DROP_REFUSED, {"keys": keys}).rowcount
    rollup.roll_up_touched(engine, stop=stop)
    removed = Traces(events, beside, quarantined, rollups, entries, archived, has_game)
    is_complete = not waiting and not stop.is_set()
    if is_complete:
        with engine.begin() as connection:
            connection.execute(CLOSE, {"sha256": sha256})
    return Forgotten(removed, pseudonym, waiting, is_complete)


def _erasure() -> ModuleType:
    """Where there is no archive, the 60 MB that it takes to read one are not loaded."""
    from jobs import erasure  # noqa: PLC0415

    return erasure


def _set_tombstone(engine: Engine, sha256: bytes, *, keep_as_pseudonym: bool) -> str | None:
    """Set it up, and say by which name their events go, or some of them since a run that was broken off."""
    pseudonym = f"forgotten-{secrets.token_hex(8)}" if keep_as_pseudonym else None
    with engine.begin() as connection:
        connection.execute(IN_ORDER)
        values = {"sha256": sha256, "pseudonym": pseudonym}
        chosen: str | None = connection.execute(SET_TOMBSTONE, values).scalar_one()
    return chosen


def _wait_for_those_before(engine: Engine) -> None:
    """Wait until every consumer, and who builds a shadow, knows of the tombstone, or will before it stores
    anything. Raises StillWriting.
    """
    try:
        lock.patiently(partial(_be_alone_for_a_moment, engine), at_most_s=_LOCK_PATIENCE_S)
    except OperationalError as error:
        if not lock.is_locked_out(error):
            raise
        raise StillWriting(
            f"Another session has written to the tables for {_LOCK_PATIENCE_S:g} s without a pause"
            " (pg_stat_activity shows the transactions that are open): run it again when it has ended."
        ) from error


@contextmanager
def _run_again_where_tables_went() -> Iterator[None]:
    """Say so where a table of days beside the live one, which was there a moment ago, is dropped or swapped.
    Raises StillWriting."""
    try:
        yield
    except ProgrammingError as error:
        is_gone = isinstance(error.orig, UndefinedTable | InvalidSchemaName)
        if not is_gone or _OF_DAYS.search(str(error.orig)) is None:
            raise
        raise StillWriting(
            "A shadow, or days that a swap or retention took out of the table, went while they were looked"
            " into: run it again."
        ) from error


def _be_alone_for_a_moment(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(LIMIT_LOCK)
        names = ["only game_events", "quarantined_events"]
        names += [f"only {name}" for name in _beside(connection)]
        connection.execute(text(BARRIER.format(", ".join(names))))


# --- the streams


def _clear_streams(
    streams: Streams, name: Name, tell: Progress, stop: threading.Event, patience_s: float
) -> tuple[int, int]:
    """Take their entries away; returns how many still wait to be stored, and how many are gone.

    They may be on any: under another number of partitions they were sent to another.
    """
    _wait_for_consumers(streams, stop, patience_s)
    waiting = deleted = 0
    for source in streams.all:
        before = deleted

        def tell_all(count: int, total: int | None, before: int = before) -> None:
            tell(before + count, total)

        still_waiting, gone = _clear_stream(source, name, tell_all, stop)
        waiting, deleted = waiting + still_waiting, deleted + gone
    return waiting, deleted


def _clear_stream(
    source: Stream, name: Name, tell: Progress, stop: threading.Event
) -> tuple[int, int]:
    """Of an array that holds events of others these are sent again, without theirs, to the same stream."""
    waiting = deleted = 0
    for entry, kept in _theirs(source, name):
        if stop.is_set():
            break
        if is_after(entry.id, source.done_to()):
            waiting += 1
            continue
        if isinstance(kept, bytes):
            source.append_entries([(Form.EVENTS, kept)])
            failpoint.reached("in_forget")
        deleted += source.delete([entry.id])
        tell(deleted, None)
    return waiting, deleted


def _theirs(source: Stream, name: Name) -> Iterator[tuple[Entry, Kept | bytes]]:
    """Entries that hold anything of theirs, and what stays of each."""
    for page in source.walk(from_ms=0, to_ms=_FOR_EVER_MS):
        for entry in page:
            kept = name.without(entry)
            if kept is not Kept.ALL:
                yield entry, kept


def _wait_for_consumers(streams: Streams, stop: threading.Event, patience_s: float) -> None:
    """Wait until what is on the streams now is stored, or the patience ends."""
    ends, deadline = [(one, one.last()) for one in streams.all], time.monotonic() + patience_s
    while time.monotonic() < deadline:
        ends = [(one, last) for one, last in ends if is_after(last, one.done_to())]
        if not ends or stop.wait(_LOOK_EVERY_S):
            return


# --- the tables


def _clear_tables(
    connection: Connection, players: list[str], pseudonym: str | None
) -> tuple[int, int, int]:
    """Erase or rename in one transaction; returns how many events, here and beside, and rows of rollups."""
    values = {"players": players, "player": players[0], "pseudonym": pseudonym}
    with connection.begin():
        connection.execute(days.LOCK_DAYS, {"lock": days.LOCK})
        events: int = connection.execute(
            ERASE if pseudonym is None else RENAME, values
        ).scalar_one()
        connection.execute(TOUCH, values)
        beside = sum(_clear(connection, table, values) for table in _beside(connection))
        rollups = sum(_clear(connection, table, values) for table in _ROLLUPS)
    return events, beside, rollups


def _beside(connection: Connection) -> list[str]:
    schemas = {"shadow": tables.SHADOW_SCHEMA, "before": tables.BEFORE_SCHEMA}
    return list(connection.execute(BESIDE, schemas).scalars())


def _clear(connection: Connection, table: str, values: Mapping[str, object]) -> int:
    """Erase or rename in a table; returns how many rows."""
    statement = (
        f"delete from {table} where player = any(:players)"  # noqa: S608  # the names are ours
        if values["pseudonym"] is None
        else f"update {table} set player = :pseudonym where player = :player"  # noqa: S608
    )
    return connection.execute(text(statement), values).rowcount


def _count(connection: Connection, table: str, player: str) -> int:
    statement = f"select count(*) from {table} where player = :player"  # noqa: S608  # the names are ours
    count: int = connection.execute(text(statement), {"player": player}).scalar_one()
    return count


def _refused(engine: Engine, name: Name) -> Iterator[dict[bytes, Looked]]:
    """What is in the quarantine by key, some at a time, and what would stay of each."""
    after = b""
    while True:
        with engine.begin() as connection:
            rows = connection.execute(REFUSED, {"after": after, "count": _CHUNK}).all()
        if not rows:
            return
        after = bytes(rows[-1].sha256)
        held = [Held(bytes(row.sha256), bytes(row.raw), row.reason) for row in rows]
        yield {one.key: name.look_at(Entry(b"", one.raw, one.form)) for one in held}
