"""Rollup: hours of raw events flow in, one row an hour, player and action flows out, and totals of it.

An hour is always made anew as a whole, in one transaction, so a rollup may be broken off or repeated at
any point. Events that come late are in it when their hour is rolled up again. When the hours of a day
are made, the day is summed up from them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

from sqlalchemy import Connection, Engine, text

from jobs import days
from pipeline import failpoint

HOUR: Final = timedelta(hours=1)
# Any number, the same for every rollup; the second key is the hour.
_LOCK: Final = 481_516_234

LOCK_HOUR: Final = text("select pg_advisory_xact_lock(:lock, :hour_number)")
FORGET: Final = text("delete from hourly_rollups where hour = :hour")
# Both ends are named, so that Postgres looks into the one partition of that day.
SUM_UP: Final = text("""
insert into hourly_rollups (hour, player, action, events, xp_delta, karma_delta)
select :hour, player, action, count(*), sum(xp_delta), sum(karma_delta)
from game_events where ts >= :hour and ts < :next_hour
group by player, action
""")
FORGET_TOTALS: Final = text("delete from hourly_totals where hour = :hour")
TOTAL: Final = text("""
insert into hourly_totals (hour, action, events, xp_delta, karma_delta)
select hour, action, sum(events), sum(xp_delta), sum(karma_delta)
from hourly_rollups where hour = :hour
group by hour, action
""")
HAS_RAW: Final = text("""
select exists (
    select from pg_inherits join pg_class partition on partition.oid = inhrelid
    where inhparent = 'game_events'::regclass and relname = :partition
)
""")


@dataclass(frozen=True)
class RolledUp:
    """What a rollup did."""

    hours: int
    rows: int
    # Hours whose raw events were dropped with their partition: what was rolled up of them is kept.
    without_raw: int
    # Whether all hours were rolled up; else it was stopped before.
    is_complete: bool


def rollup(
    engine: Engine,
    from_hour: datetime,
    to_hour: datetime,
    *,
    stop: threading.Event | None = None,
) -> RolledUp:
    """Make the rollups of each UTC hour anew that begins from one time on and before another, and then
    those of the days these hours are in.

    Both times are aware; the first is taken back to the beginning of its hour. Several at once wait for
    each other, hour by hour and day by day. Asked to stop, it still sums up the day it is in.
    """
    done = rows = without_raw = 0
    is_complete = True
    with engine.connect() as connection:
        for day, its_hours in groupby(hours(from_hour, to_hour), key=datetime.date):
            made: list[datetime] = []
            for hour in its_hours:
                is_complete = stop is None or not stop.is_set()
                if not is_complete:
                    break
                count = _roll_up(connection, hour)
                if count is None:
                    without_raw += 1
                else:
                    rows += count
                    made.append(hour)
            if made:
                days.sum_up(connection, day, made[0], made[-1] + HOUR)
                done += len(made)
            if not is_complete:
                break
    return RolledUp(done, rows, without_raw, is_complete)


def hours(from_hour: datetime, to_hour: datetime) -> list[datetime]:
    """The beginnings of the UTC hours from the one that holds a time up to before another."""
    hour = from_hour.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    found = []
    while hour < to_hour:
        found.append(hour)
        hour += HOUR
    return found


def _roll_up(connection: Connection, hour: datetime) -> int | None:
    """Make an hour's rows anew and say how many; None, and no change, where its raw events are gone."""
    span = {"hour": hour, "next_hour": hour + HOUR}
    with connection.begin() as transaction:
        number = int(hour.timestamp()) // 3600
        connection.execute(LOCK_HOUR, {"lock": _LOCK, "hour_number": number})
        connection.execute(FORGET, span)
        failpoint.reached("in_rollup")
        rows = connection.execute(SUM_UP, span).rowcount
        connection.execute(FORGET_TOTALS, span)
        connection.execute(TOTAL, span)
        # Asked last: a partition that is there now was there when its rows were summed up.
        partition = {"partition": f"game_events_{hour:%Y%m%d}"}
        if not connection.execute(HAS_RAW, partition).scalar_one():
            transaction.rollback()
            return None
    return rows
