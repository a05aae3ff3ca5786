"""Retention: today and a number of days flow in, the partitions of older days flow out of the database.

A partition is detached concurrently, which neither an INSERT nor a SELECT waits for, and dropped then. Who
still reads it only postpones that. What was rolled up of its rows stays.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from jobs.owner import owner_of_tables
from jobs.progress import Progress, untold
from pipeline import failpoint, partitions, pooled

# Any number, the same for every run: one drops, the next one comes after it.
_LOCK: Final = 4_815_162_347
# A consumer that had an event in hand when its day went out of the window, or whose clock is behind, still
# finds the partition.
_SPARE_DAYS: Final = 1
# Who reads for longer is not waited for.
_LOCK_TIMEOUT_S: Final = 10
_DROP_TIMEOUT_S: Final = 600
# A lock was not to be had in time, or the statement took too long: Postgres' own codes.
_POSTPONED: Final = frozenset({"55P03", "57014"})

TAKE_TURN: Final = text("select pg_advisory_lock(:lock)")
LIMIT: Final = f"""
set lock_timeout = '{_LOCK_TIMEOUT_S}s'; set statement_timeout = '{_DROP_TIMEOUT_S}s'
"""
# What hangs on the table, and what did: standing alone under the name of a partition, with the same owner.
FIND: Final = text(f"""
select child.relname as name, child.oid::regclass::text as quoted,
       greatest(child.reltuples, 0)::bigint as rows, pg_total_relation_size(child.oid) as size_bytes,
       case when inhrelid is null then 'alone' when inhdetachpending then 'half' else 'attached' end as how
from pg_class parent
join pg_class child on child.relnamespace = parent.relnamespace
left join pg_inherits on inhrelid = child.oid
where parent.oid = 'game_events'::regclass and child.relkind = 'r'
  and child.relname ~ '{partitions.NAME}'
  and (inhparent = parent.oid or inhparent is null and child.relowner = parent.relowner)
order by child.relname
""")  # noqa: S608  # the pattern is ours


class Partition(NamedTuple):
    """A partition, or what was one."""

    name: str
    # As it is written in a statement.
    quoted: str
    # As the planner counted them.
    rows: int
    size_bytes: int
    # "attached", "half" detached, which another detach must wait for, or standing "alone".
    how: str

    @property
    def day(self) -> date:
        """The UTC day whose events it holds, or some hours of it."""
        return datetime.strptime(self.name[12:20], "%Y%m%d").date()  # noqa: DTZ007  # a day, no moment


@dataclass(frozen=True)
class Dropped:
    """What was dropped, or would be. Rows are the planner's estimate."""

    partitions: tuple[str, ...]
    rows: int
    size_bytes: int
    # Old ones that are still there: somebody reads one, and the others wait for it; or it was stopped.
    postponed: tuple[str, ...]
    # Younger than that and detached: somebody did it on purpose, or is about to attach them again.
    set_aside: tuple[str, ...]
    # Partitions that stay attached, and the day of the first.
    remaining: int
    first_day: date | None


def oldest_kept(today: date, retention_days: int) -> date:
    """The first day that is kept: nothing that a consumer takes today, or took yesterday, is older."""
    return today - timedelta(days=retention_days + _SPARE_DAYS)


def drop_old(
    engine: Engine,
    today: date,
    retention_days: int,
    *,
    is_dry_run: bool = False,
    tell: Progress = untold,
    stop: threading.Event | None = None,
) -> Dropped:
    """Drop the partitions of days that are out of retention on the UTC day ``today``.

    Several at once come one after the other. Broken off anywhere, the next one goes on from there: it finds
    what was detached by half, and what was detached and not dropped. Raises NotTheOwner, NeedsSession.
    """
    oldest = oldest_kept(today, retention_days)
    if not is_dry_run:
        pooled.require_session(engine, "Retention")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if is_dry_run:
            return _sorted_out(_find(connection), oldest)
        owner_of_tables(connection)
        connection.execute(TAKE_TURN, {"lock": _LOCK})  # until the connection is closed
        connection.exec_driver_sql(LIMIT)
        found = _find(connection)
        planned = _sorted_out(found, oldest)
        old = [one for one in found if one.name in planned.partitions]
        # While one is detached by half, Postgres detaches no other.
        old.sort(key=lambda one: one.how != "half")
        is_blocked = any(one.how == "half" for one in found if one not in old)
        done: list[Partition] = []
        for one in old:
            tell(len(done), len(old))
            if stop is not None and stop.is_set():
                break
            if is_blocked and one.how == "attached":
                continue
            if _drop(connection, one):
                done.append(one)
            else:
                is_blocked = True
        tell(len(done), len(old))
    return replace(
        planned,
        partitions=tuple(sorted(one.name for one in done)),
        rows=sum(one.rows for one in done),
        size_bytes=sum(one.size_bytes for one in done),
        postponed=tuple(sorted(one.name for one in old if one not in done)),
    )


def _find(connection: Connection) -> list[Partition]:
    return [Partition(*row) for row in connection.execute(FIND)]


def _sorted_out(found: list[Partition], oldest: date) -> Dropped:
    """Which go, which stay and which are left alone."""
    old = [one for one in found if one.day < oldest]
    kept = [one for one in found if one.day >= oldest]
    attached = [one for one in kept if one.how == "attached"]
    return Dropped(
        partitions=tuple(one.name for one in old),
        rows=sum(one.rows for one in old),
        size_bytes=sum(one.size_bytes for one in old),
        postponed=(),
        set_aside=tuple(one.name for one in kept if one.how != "attached"),
        remaining=len(attached),
        first_day=min((one.day for one in attached), default=None),
    )


def _drop(connection: Connection, one: Partition) -> bool:
    """Detach and drop one; False, with nothing lost, where somebody reads it for too long."""
    try:
        if one.how != "alone":
            how = "concurrently" if one.how == "attached" else "finalize"
            connection.exec_driver_sql(
                f"alter table game_events detach partition {one.quoted} {how}"
            )
        failpoint.reached("in_retention")
        connection.exec_driver_sql(f"drop table {one.quoted}")
    except OperationalError as error:
        if getattr(error.orig, "pgcode", None) not in _POSTPONED:
            raise
        return False
    return True
