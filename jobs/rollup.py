"""Rollup: hours of raw events flow in, one row an hour, player and action flows out, and what is made of it.

An hour is always made anew as a whole, with its totals, sessions and missions, in one transaction, so a
rollup may be broken off or repeated at any point. When the hours of a day are made, the day is summed up
from them. Which hours have changed, because events came late or were removed, is told by whoever changed
them: see touched.py. Of an hour whose raw events were dropped, what was rolled up stays as it is, whatever
comes of it later: see raw.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

from sqlalchemy import Connection, Engine, text

from jobs import choices, days, items, missions, raw, sessions, touched
from jobs.progress import Progress, untold
from jobs.summary import HOUR, MORE_MEMORY, Summary, of_hour
from pipeline import failpoint

# Any number, the same for every rollup; the second key is the hour.
_LOCK: Final = 481_516_234

# An hour's sessions say which of the next hour's go on from them: whoever makes an hour has the next in hand
# as well, in this order, and reads the one before while nobody else has that.
LOCK_HOURS: Final = text("""
select pg_advisory_xact_lock(:lock, number) from generate_series(:number, :number + 1) as number
""")
ROLLUPS: Final = Summary(
    "hourly_rollups",
    "hour",
    ("player", "action"),
    ("events", "xp_delta", "karma_delta"),
    """
    select date_bin('1 hour', ts, 'epoch') as hour, player, action, count(*) as events,
           sum(xp_delta) as xp_delta, sum(karma_delta) as karma_delta
    from game_events where ts >= :begin and ts < :end
    group by 1, 2, 3
    """,
)
TOTALS: Final = Summary(
    "hourly_totals",
    "hour",
    ("action",),
    ("events", "xp_delta", "karma_delta"),
    """
    select hour, action, sum(events)::bigint as events, sum(xp_delta)::bigint as xp_delta,
           sum(karma_delta)::bigint as karma_delta
    from hourly_rollups where hour >= :begin and hour < :end
    group by hour, action
    """,
)

# The newest hour that was rolled up, and the first event.
ROLLED_UP: Final = text("""
select (select max(hour) from hourly_rollups), (select ts from game_events order by ts limit 1)
""")


@dataclass(frozen=True)
class RolledUp:
    """What a rollup did."""

    hours: int
    rows: int
    # Hours whose raw events were dropped with their partition: what was rolled up of them is kept, also where
    # some of them came again.
    without_raw: int
    # Whether all hours were rolled up; else it was stopped before.
    is_complete: bool


def rollup(
    engine: Engine,
    from_hour: datetime,
    to_hour: datetime,
    *,
    stop: threading.Event | None = None,
    tell: Progress = untold,
) -> RolledUp:
    """Make the rollups of each UTC hour anew that begins from one time on and before another, and then
    those of the days these hours are in.

    Both times are aware; the first is taken back to the beginning of its hour. Several at once wait for
    each other, hour by hour and day by day. Asked to stop, it still sums up the day it is in. ``tell`` is
    told hours.
    """
    wanted = hours(from_hour, to_hour)
    return _roll_up_all(engine, wanted, wanted, stop or threading.Event(), tell)


def roll_up_touched(
    engine: Engine,
    also: Iterable[datetime] = (),
    *,
    stop: threading.Event | None = None,
    tell: Progress = untold,
) -> RolledUp:
    """The same for the hours of which events were stored or removed since they were made, and for others.

    An hour that changed in the last five minutes counts as changed still. ``also`` holds beginnings of
    UTC hours.
    """
    also = list(also)
    wanted = sorted({*planned(engine), *also})
    return _roll_up_all(engine, wanted, also, stop or threading.Event(), tell)


def planned(engine: Engine) -> list[datetime]:
    """The hours that ``roll_up_touched`` would make anew now."""
    with engine.connect() as connection, connection.begin():
        return touched.hours(connection)


def hours(from_hour: datetime, to_hour: datetime) -> list[datetime]:
    """The beginnings of the UTC hours from the one that holds a time up to before another."""
    hour = from_hour.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    found = []
    while hour < to_hour:
        found.append(hour)
        hour += HOUR
    return found


def lately(engine: Engine, count: int) -> list[datetime]:
    """The last so many hours, up to the current one; and all since the newest that was rolled up, or since
    the first event where none was.
    """
    now = datetime.now(UTC)
    wanted = now - timedelta(hours=count - 1)
    with engine.connect() as connection:
        newest, first = connection.execute(ROLLED_UP).one()
    return hours(min(wanted, newest or first or wanted), now)


def _roll_up_all(
    engine: Engine,
    wanted: Iterable[datetime],
    always: Iterable[datetime],
    stop: threading.Event,
    tell: Progress,
) -> RolledUp:
    """Make the wanted hours anew, in order, but for those that another rollup has made meanwhile."""
    wanted, always = list(wanted), frozenset(always)
    done = rows = without_raw = 0
    is_complete = True
    with engine.connect() as connection:
        for day, its_hours in groupby(wanted, key=datetime.date):
            with connection.begin():
                told = touched.read(connection, day)
            made: list[datetime] = []
            for hour in its_hours:
                if hour not in always and all(row.hour != hour for row in told):
                    continue
                is_complete = not stop.is_set()
                if not is_complete:
                    break
                count = _roll_up(connection, hour)
                made.append(hour)
                if count is None:
                    without_raw += 1
                else:
                    done, rows = done + 1, rows + count
                tell(done + without_raw, len(wanted))
            if made:
                days.sum_up(connection, day, made, [row for row in told if row.hour in made])
            if not is_complete:
                break
    return RolledUp(done, rows, without_raw, is_complete)


def _roll_up(connection: Connection, hour: datetime) -> int | None:
    """Make an hour anew and say how many rows it has; None where its raw events are gone, all or some.

    What was rolled up of those is kept, and what is made from it is made anew: somebody may have taken a
    player out of it.
    """
    span = of_hour(hour)
    with connection.begin():
        number = int(hour.timestamp()) // 3600
        connection.execute(LOCK_HOURS, {"lock": _LOCK, "number": number})
        connection.execute(MORE_MEMORY)
        rows = _count(connection, hour)
        connection.execute(TOTALS.forget, span)
        connection.execute(TOTALS.note, span)
        sessions.link(connection, hour)
    return rows


def _count(connection: Connection, hour: datetime) -> int | None:
    """Count the raw events of an hour anew, or leave all as it was where they are gone."""
    span = of_hour(hour)
    with connection.begin_nested() as attempt:
        connection.execute(ROLLUPS.forget, span)
        failpoint.reached("in_rollup")
        rows = connection.execute(ROLLUPS.note, span).rowcount
        sessions.make(connection, hour)
        missions.make(connection, hour)
        choices.make(connection, hour)
        items.make(connection, hour)
        # Asked last: a partition that is there now was there when its events were counted.
        if not raw.has_hour(connection, hour):
            attempt.rollback()
            return None
    return rows
