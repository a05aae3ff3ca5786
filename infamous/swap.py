"""The swap: the shadow's days flow in and stand in the live table's place; what stood there flows out beside.

A day is one transaction, for which the table is locked as short as can be: what takes long is done before.
What was stored in the live table since the build began is taken along, so events may flow all the while.
Under the lock that is what was stored since the last look, and an index made for it alone finds it, without a
look at the day's other rows. It is made while events flow and goes with the day; to keep one all the time
would cost every batch that is stored.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, TextClause, text
from sqlalchemy.exc import OperationalError

from consumer.rows import COLUMNS
from infamous.difference import DayDifference, compare_day
from infamous.shadow import (
    MARGIN,
    PARTS,
    SCHEMA,
    Shadow,
    ShadowError,
    alone,
    drop_schema,
    find,
    midnight,
    stem,
)
from jobs.owner import owner_of_tables
from jobs.progress import Progress, untold
from pipeline import failpoint, lock, log
from pipeline.patience import Stopped
from pipeline.tables import BEFORE_SCHEMA

T = TypeVar("T")

# Where the days stand that were swapped out.
BEFORE: Final = BEFORE_SCHEMA
# Whoever waits for a table makes all who come after wait behind it, consumers too. So it gives way after this
# long, and tries again for as long as the second number says.
LOCK_TIMEOUT_S: Final = 2.0
PATIENCE_S: Final = 300.0
# An index that is made waits for questions that go on, but nobody waits behind it.
INDEX_TIMEOUT_S: Final = 30.0

_COLUMN_LIST: Final = ", ".join((*COLUMNS, "ingested_at"))
# The key is that of ensure_game_events_partitions: no partition is made meanwhile.
TAKE_TURN: Final = text("select pg_advisory_xact_lock(4815162343)")
# All transactions before that one have ended: whatever comes next sees what they stored.
LOOK: Final = text(
    "select now() as at, cast(cast(pg_snapshot_xmin(pg_current_snapshot()) as xid) as text) as first_xid"
)
# There are not many rows to be found, whatever the planner believes; and back to what it believes.
USE_INDEX: Final = "set local enable_seqscan = off"
USE_ANY: Final = "set local enable_seqscan to default"
MARK: Final = text(f"update {SCHEMA}.shadow_days set swapped_at = now() where day = :day")  # noqa: S608
IS_FREE: Final = text("select to_regclass(:table) is null")
INDEXES: Final = text("""
select relname from pg_index join pg_class on pg_class.oid = indexrelid
where indrelid = cast(:table as regclass)
""")


@dataclass(frozen=True)
class SwappedDay:
    """A day that stands in place, or would; in rows."""

    day: date
    rows: int
    # Taken along from the live table.
    copied: int
    # Only in the live table before: they are with the tables that were set aside.
    set_aside: int


@dataclass(frozen=True)
class Swapped:
    """What a swap did, or would do."""

    days: tuple[SwappedDay, ...]
    # Whether no day waits any more; else it was stopped before.
    is_complete: bool


def swap(
    engine: Engine,
    *,
    may_set_aside: bool = False,
    is_dry_run: bool = False,
    patience_s: float = PATIENCE_S,
    tell: Progress = untold,
    stop: threading.Event | None = None,
) -> Swapped:
    """Put the days of the shadow in place, one after the other; when all are, the shadow is dropped.

    Refuses, before anything is changed, where rows of the live table that were stored before the build are
    missing in the shadow, unless it ``may_set_aside`` these. Broken off anywhere, the next swap goes on with
    the days that wait. Raises ShadowError, NotTheOwner.
    """
    stop = stop or threading.Event()
    with alone(engine), _as_owner(engine) as connection:
        shadow = find(connection)
        if not shadow.is_complete:
            raise ShadowError("The shadow is not complete: run its build again, and it goes on.")
        planned = [compare_day(connection, shadow, day) for day in shadow.waiting]
        connection.rollback()
        if is_dry_run:
            return Swapped(tuple(_swapped(day) for day in planned), is_complete=True)
        _require_all_rows(planned, may_set_aside=may_set_aside)
        connection.exec_driver_sql(f"create schema if not exists {BEFORE}")
        connection.commit()
        done: list[SwappedDay] = []
        for day in planned:
            tell(len(done), len(planned))
            if stop.is_set():
                return Swapped(tuple(done), is_complete=False)
            try:
                done.append(_swap_day(engine, connection, shadow, day, patience_s, stop))
            except Stopped:
                return Swapped(tuple(done), is_complete=False)
        tell(len(done), len(planned))
        drop_schema(connection, SCHEMA)
    return Swapped(tuple(done), is_complete=True)


@contextmanager
def _as_owner(engine: Engine, **options: Any) -> Iterator[Connection]:
    """A connection on which what is made belongs to the tables' owner."""
    with engine.connect().execution_options(**options) as connection:
        owner = connection.dialect.identifier_preparer.quote(owner_of_tables(connection))
        connection.exec_driver_sql(f"set role {owner}")
        connection.commit()
        yield connection


def _swapped(day: DayDifference) -> SwappedDay:
    return SwappedDay(day.day, day.shadow + day.to_copy, day.to_copy, day.only_live)


def _require_all_rows(planned: list[DayDifference], *, may_set_aside: bool) -> None:
    lacking = [day for day in planned if day.only_live]
    if lacking and not may_set_aside:
        raise ShadowError(
            f"{sum(day.only_live for day in lacking):,} rows of the live table are not in the shadow, the"
            f" first of them of {lacking[0].day}: look at `infamous shadow diff`, and swap with --set-aside"
            " if they may go."
        )


class _Prepared(NamedTuple):
    """What was done before the lock."""

    # When it began, and the first transaction of which it may have seen nothing.
    at: datetime
    first_xid: str
    # Rows that were copied and removed.
    copied: int
    forgotten: int


def _swap_day(
    engine: Engine,
    connection: Connection,
    shadow: Shadow,
    day: DayDifference,
    patience_s: float,
    stop: threading.Event,
) -> SwappedDay:
    """Swap a day, or give way and try again. Raises Stopped, ShadowError."""
    prepared = _prepare(connection, shadow, day.day)
    names = [name for name, _ in _parts(connection, shadow.live, day.day)]
    connection.rollback()

    def put() -> SwappedDay:
        try:
            return _put_in_place(connection, shadow, day, prepared)
        except OperationalError:
            connection.rollback()
            raise

    with _as_owner(engine, isolation_level="AUTOCOMMIT") as apart:
        apart.exec_driver_sql(f"set lock_timeout = '{INDEX_TIMEOUT_S:g}s'")
        for name in names:
            _patiently(partial(_index, apart, shadow.live, name), day.day, patience_s, stop)
    return _patiently(put, day.day, patience_s, stop)


def _prepare(connection: Connection, shadow: Shadow, day: date) -> _Prepared:
    """What takes long: copy what was stored meanwhile, and prove where each partition belongs."""
    with connection.begin():
        prepared_at, first_xid = connection.execute(LOOK).one()
        copied = _copy(connection, shadow, day, shadow.newer_than)
        forgotten = _forget(connection, shadow, day, shadow.newer_than)
        for name, bounds in _parts(connection, SCHEMA, day):
            begin, end = (piece.split("'")[1] for piece in bounds.split(" TO "))
            # With it, attaching need not look at every row while the table is locked.
            connection.exec_driver_sql(
                f"alter table {SCHEMA}.{name} drop constraint if exists swap_bounds,"
                f" add constraint swap_bounds check (ts >= '{begin}' and ts < '{end}')"
            )
    return _Prepared(prepared_at, first_xid, copied, forgotten)


def _index(connection: Connection, live: str, name: str) -> None:
    """Let rows of a partition be found by when they were stored; one that was half made is made anew.

    It knows of ranges of pages which times are in them. Pages that are filled later it does not know, and
    they are looked at: those are the ones that are asked for.
    """
    connection.exec_driver_sql(f"drop index concurrently if exists {live}.{_index_of(name)}")
    connection.exec_driver_sql(
        f"create index concurrently {_index_of(name)} on {live}.{name} using brin (ingested_at)"
    )


def _index_of(name: str) -> str:
    return f"{name}_swap"


def _put_in_place(
    connection: Connection,
    shadow: Shadow,
    day: DayDifference,
    prepared: _Prepared,
) -> SwappedDay:
    """One transaction: afterwards the day's rows are the shadow's, and the last that came."""
    live = shadow.live
    with connection.begin():
        connection.exec_driver_sql(f"set local lock_timeout = '{LOCK_TIMEOUT_S:g}s'")
        connection.execute(TAKE_TURN)
        connection.exec_driver_sql(f"lock table {live}.game_events in access exclusive mode")
        names = [name for name, _ in _parts(connection, live, day.day)]
        copied = prepared.copied + sum(
            _copy_since(connection, f"{live}.{name}", prepared) for name in names
        )
        # Twice: who was forgotten a moment before what is copied was stored.
        late = _forget(connection, shadow, day.day, prepared.at - 2 * MARGIN)
        forgotten = prepared.forgotten + late
        for name in names:
            connection.exec_driver_sql(
                f"alter table {live}.game_events detach partition {live}.{name};"
                f" drop index if exists {live}.{_index_of(name)}"
            )
            _set_aside(connection, live, name)
        for name, bounds in _parts(connection, SCHEMA, day.day):
            connection.exec_driver_sql(
                f"alter table {SCHEMA}.game_events detach partition {SCHEMA}.{name};"
                f" alter table {SCHEMA}.{name} set schema {live};"
                f" alter table {live}.game_events attach partition {live}.{name} {bounds};"
                f" alter table {live}.{name} drop constraint swap_bounds"
            )
        connection.execute(_count_again(live), _span(day.day))
        connection.execute(_touch(live), {"begin": midnight(day.day)})
        connection.execute(MARK, {"day": day.day})
        failpoint.reached("in_swap")
    return SwappedDay(day.day, day.shadow + copied - forgotten, copied, day.only_live)


def _copy(connection: Connection, shadow: Shadow, day: date, newer_than: datetime) -> int:
    """Take along what was stored in the live table since then; says how many rows were missing."""
    copy = text(f"""
        insert into {SCHEMA}.game_events ({_COLUMN_LIST})
        select {_COLUMN_LIST} from {shadow.live}.game_events
        where ts >= :begin and ts < :end and ingested_at >= :newer_than
        on conflict do nothing
    """)  # noqa: S608  # the names are ours
    return connection.execute(copy, _span(day) | {"newer_than": newer_than}).rowcount


def _copy_since(connection: Connection, part: str, prepared: _Prepared) -> int:
    """Take along what was stored in a partition since it was prepared for; says how many rows."""
    copy = text(f"""
        insert into {SCHEMA}.game_events ({_COLUMN_LIST})
        select {_COLUMN_LIST} from {part}
        where ingested_at >= :newer_than and age(xmin) <= age(cast(:first_xid as xid))
        on conflict do nothing
    """)  # noqa: S608  # the names are ours
    values = {"newer_than": prepared.at - MARGIN, "first_xid": prepared.first_xid}
    connection.exec_driver_sql(USE_INDEX)
    copied = connection.execute(copy, values).rowcount
    connection.exec_driver_sql(USE_ANY)
    return copied


def _forget(connection: Connection, shadow: Shadow, day: date, newer_than: datetime) -> int:
    """Remove what is of players who were forgotten since then; says how many rows."""
    span = _span(day) | {"newer_than": newer_than}
    late = f"from {shadow.live}.forgotten_players where forgotten_at >= :newer_than"
    # Nearly always there is none, and then no row need be looked at.
    if not connection.execute(text(f"select exists (select {late})"), span).scalar_one():
        return 0
    forget = text(f"""
        delete from {SCHEMA}.game_events where ts >= :begin and ts < :end
        and sha256(convert_to(player, 'UTF8')) in (select player_sha256 {late})
    """)  # noqa: S608  # the names are ours
    return connection.execute(forget, span).rowcount


def _set_aside(connection: Connection, live: str, name: str) -> None:
    """Move a partition of the live table away under a name that nobody takes for one; drop an empty one."""
    is_empty = text(f"select not exists (select from {live}.{name})")  # noqa: S608  # ours
    if connection.execute(is_empty).scalar_one():
        connection.exec_driver_sql(f"drop table {live}.{name}")
        return
    aside = f"game_events_before_{name.removeprefix('game_events_')}"
    number, free = 1, aside
    # It may have been swapped before.
    while not connection.execute(IS_FREE, {"table": f"{BEFORE}.{free}"}).scalar_one():
        number += 1
        free = f"{aside}_{number}"
    # Indexes move along with their table, and their names must be free as well.
    for index in connection.execute(INDEXES, {"table": f"{live}.{name}"}).scalars().all():
        connection.exec_driver_sql(
            f"alter index {live}.{index} rename to {free}{index.removeprefix(name)}"
        )
    connection.exec_driver_sql(
        f"alter table {live}.{name} rename to {free}; alter table {live}.{free} set schema {BEFORE}"
    )


def _count_again(live: str) -> TextClause:
    """The day is whole, though its raw events were dropped once."""
    return text(f"delete from {live}.kept_hours where hour >= :begin and hour < :end")  # noqa: S608  # ours


def _touch(live: str) -> Any:
    """All hours of the day have changed: rollups are made anew."""
    return text(f"""
        insert into {live}.touched_hours (hour)
        select generate_series(
            cast(:begin as timestamptz), cast(:begin as timestamptz) + interval '23 hours', interval '1 hour'
        )
    """)  # the name is ours


def _parts(connection: Connection, schema: str, day: date) -> list[tuple[str, str]]:
    """Names and bounds of what hangs on a schema's table for a day."""
    found = connection.execute(PARTS, {"table": f"{schema}.game_events", "stem": stem(day)})
    return [(row.name, row.bounds) for row in found]


def _span(day: date) -> dict[str, datetime]:
    return {"begin": midnight(day), "end": midnight(day + timedelta(days=1))}


def _patiently(work: Callable[[], T], day: date, patience_s: float, stop: threading.Event) -> T:
    """Do it, or give way and try again. Raises Stopped, and ShadowError where it was in vain."""
    try:
        return lock.patiently(work, at_most_s=patience_s, stop=stop, tell=_tell)
    except OperationalError as error:
        if not lock.is_locked_out(error):
            raise
        raise ShadowError(
            f"Another session has held the table for minutes, so {day} and what follows were not swapped:"
            " end it (pg_stat_activity shows the transactions that are open), and swap again."
        ) from error


def _tell() -> None:
    log.get("swap").warning("Another session holds the table; trying again until it lets go")
