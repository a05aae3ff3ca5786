"""Check: raw events and rollups flow in, the hours and days whose rollups are not what a recount gives flow out.

Everything is compared in one snapshot. What is summed up from raw events is compared with a recount of them, and
what is made from that, with it: where both are right, all of it is what the raw events say. Left out are hours
that have just changed, which are known to be out of date, and days they are in. A day at a time, so that it
takes little memory however long the history is.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import groupby
from typing import Final

from sqlalchemy import Connection, Engine, text

from jobs import days, missions, raw, rollup, sessions, touched
from jobs.progress import Progress, untold
from jobs.summary import DAY, HOUR, Summary, of_day
from pipeline import log

# Waits for no writer and keeps none waiting, but a partition does not vanish under the check. Taken first:
# the snapshot is that of the first question.
LOCK: Final = text("lock table game_events in access share mode")
# What a sort or a join may take: a day of millions of events is compared at once.
MORE_MEMORY: Final = text("set local work_mem = '64MB'")
NOTE: Final = text("""
insert into rollup_checks (checked_at, first_hour, last_hour, hours, wrong)
values (clock_timestamp(), :first_hour, :last_hour, :hours, :wrong)
""")
OF_HOURS: Final = (rollup.ROLLUPS, rollup.TOTALS, sessions.PARTS, missions.PARTS)
OF_DAYS: Final = (days.ROLLUPS, days.PLAYERS, days.COHORTS, missions.DAILY)
# So many of the wrong hours are named in the log.
_NAMED: Final = 5


@dataclass(frozen=True)
class Checked:
    """What a check found."""

    # The hours that were compared, and how many were left out because they had just changed.
    hours: int
    left_out: int
    first_hour: datetime | None
    last_hour: datetime | None
    # Hours of which some rollup was wrong; of a day of which only a sum was, its first hour.
    wrong: tuple[datetime, ...]
    # The tables that were wrong there.
    tables: tuple[str, ...]
    # Whether all hours were compared; else it was stopped before.
    is_complete: bool


def check(
    engine: Engine,
    from_hour: datetime | None = None,
    to_hour: datetime | None = None,
    *,
    stop: threading.Event | None = None,
    tell: Progress = untold,
) -> Checked:
    """Compare the rollups of all hours whose raw events are there, or of those in a span; change nothing.

    ``tell`` is told days.
    """
    stop = stop or threading.Event()
    patient = engine.execution_options(isolation_level="REPEATABLE READ")
    with patient.connect() as connection, connection.begin():
        connection.execute(LOCK)
        connection.execute(MORE_MEMORY)
        there = [
            hour
            for hour in raw.hours(connection)
            if (from_hour is None or hour + HOUR > from_hour)
            and (to_hour is None or hour < to_hour)
        ]
        changed = frozenset(touched.hours(connection))
        return _compare(connection, there, changed, stop, tell)


def mend(engine: Engine, checked: Checked, *, tell: Progress = untold) -> None:
    """Take note of a check, and make what was wrong anew, with all else that has changed.

    Killed in between, it leaves it to the next rollup.
    """
    if not checked.hours:
        return
    with engine.begin() as connection:
        found = {
            "first_hour": checked.first_hour,
            "last_hour": checked.last_hour,
            "hours": checked.hours,
            "wrong": len(checked.wrong),
        }
        connection.execute(NOTE, found)
        touched.touch(connection, checked.wrong)
    if checked.wrong:
        log.get("rollups").warning(
            "Rollups were not what the raw events say; they are made anew",
            hours=len(checked.wrong),
            first=[f"{hour:%Y-%m-%dT%H:00Z}" for hour in checked.wrong[:_NAMED]],
            tables=list(checked.tables),
        )
        rollup.roll_up_touched(engine, tell=tell)


def _compare(
    connection: Connection,
    there: list[datetime],
    changed: frozenset[datetime],
    stop: threading.Event,
    tell: Progress,
) -> Checked:
    changed_days = frozenset(hour.date() for hour in changed)
    # By table, the hours at which it is wrong.
    wrong: defaultdict[str, set[datetime]] = defaultdict(set)
    compared: list[datetime] = []
    by_day = [(day, list(hours)) for day, hours in groupby(there, key=datetime.date)]
    is_complete = True
    for number, (day, hours) in enumerate(by_day):
        is_complete = not stop.is_set()
        if not is_complete:
            break
        tell(number, len(by_day))
        some = [hour for hour in hours if hour not in changed]
        if some:
            compared += some
            _compare_hours(connection, day, frozenset(some), wrong)
            _compare_sums(connection, day, changed_days, wrong)
    _compare_runs(connection, changed_days, {hour.date() for hour in compared}, wrong)
    tell(len(by_day), len(by_day))
    return Checked(
        hours=len(compared),
        left_out=len(changed.intersection(there)),
        first_hour=compared[0] if compared else None,
        last_hour=compared[-1] if compared else None,
        wrong=tuple(sorted(set().union(*wrong.values()))),
        tables=tuple(sorted(table for table, hours in wrong.items() if hours)),
        is_complete=is_complete,
    )


def _compare_hours(
    connection: Connection,
    day: date,
    hours: frozenset[datetime],
    wrong: defaultdict[str, set[datetime]],
) -> None:
    """Compare what is kept of those hours of a day."""
    span = of_day(day)
    for summary in OF_HOURS:
        wrong[summary.name] |= hours & _hours(connection.execute(summary.differ, span).scalars())
    # A part is said to be continued by what is kept of the hour before: where that is wrong, nobody knows.
    parts = wrong[sessions.PARTS.name]
    mislinked = hours & _hours(connection.execute(sessions.MISLINKED, span).scalars())
    parts |= {hour for hour in mislinked if hour - HOUR not in parts}


def _compare_sums(
    connection: Connection,
    day: date,
    changed_days: frozenset[date],
    wrong: defaultdict[str, set[datetime]],
) -> None:
    """Compare what is kept of a day, unless it may be out of date."""
    for summary in OF_DAYS:
        if day not in changed_days and _is_wrong(connection, summary, day):
            wrong[summary.name].add(_midnight(day))
    # They are of the day before and the day after as well.
    if not changed_days & {day - DAY, day, day + DAY} and _is_wrong(
        connection, sessions.DAILY, day
    ):
        wrong[sessions.DAILY.name].add(_midnight(day))


def _compare_runs(
    connection: Connection,
    changed_days: frozenset[date],
    compared_days: set[date],
    wrong: defaultdict[str, set[datetime]],
) -> None:
    """Compare the runs of missions, which go over days, with the hours that they are made from."""
    for its_days in connection.execute(missions.WRONG_RUNS).scalars():
        if not changed_days.intersection(its_days):
            found = compared_days.intersection(its_days)
            wrong["mission_runs"] |= {_midnight(day) for day in found}


def _is_wrong(connection: Connection, summary: Summary, day: date) -> bool:
    return connection.execute(summary.differ, of_day(day)).first() is not None


def _hours(found: Iterable[datetime]) -> set[datetime]:
    return {hour.astimezone(UTC) for hour in found}


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
