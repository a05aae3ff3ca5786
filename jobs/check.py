"""Check: raw events and rollups flow in, the hours whose rollups are not what a recount gives flow out.

Everything is compared in one snapshot. What is summed up from raw events is compared with a recount of
them, and what is made from that, with it: where both are right, all is what the raw events say. Left out
are hours that have just changed, which are known to be out of date, and the days they are in. It goes a day
at a time, and so takes little memory however long the history is.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, CursorResult, Engine, text

from jobs import choices, days, items, missions, raw, rollup, sessions, touched
from jobs.progress import Progress, untold
from jobs.summary import HOUR, MORE_MEMORY, Summary, of_day
from pipeline import log

# Waits for no writer and keeps none waiting, but a partition does not vanish under the check. Taken first:
# the snapshot is that of the first question.
LOCK: Final = text("lock table game_events in access share mode")
NOTE: Final = text("""
insert into rollup_checks (checked_at, first_hour, last_hour, hours, wrong)
values (clock_timestamp(), :first_hour, :last_hour, :hours, :wrong)
""")
OF_RAW: Final = (rollup.ROLLUPS, sessions.PARTS, missions.PARTS, choices.CHOICES, items.ITEMS)
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


def mend(
    engine: Engine,
    checked: Checked,
    *,
    stop: threading.Event | None = None,
    tell: Progress = untold,
) -> bool:
    """Take note of a check, and make what was wrong anew, with all else that has changed.

    Answers whether it did. Stopped or killed before, it has left it to the next rollup. ``tell`` is told
    hours.
    """
    if not checked.hours:
        return True
    with engine.begin() as connection:
        found = {
            "first_hour": checked.first_hour,
            "last_hour": checked.last_hour,
            "hours": checked.hours,
            "wrong": len(checked.wrong),
        }
        connection.execute(NOTE, found)
        touched.touch(connection, checked.wrong)
    if not checked.wrong:
        return True
    log.get("rollups").warning(
        "Rollups were not what the raw events say; they are made anew",
        hours=len(checked.wrong),
        first=[f"{hour:%Y-%m-%dT%H:00Z}" for hour in checked.wrong[:_NAMED]],
        tables=list(checked.tables),
    )
    return rollup.roll_up_touched(engine, stop=stop, tell=tell).is_complete


@dataclass
class _Findings:
    """What is known to be out of date, and what is found to be wrong."""

    changed: frozenset[datetime]
    # By table, the hours at which it is wrong.
    wrong: defaultdict[str, set[datetime]] = field(default_factory=lambda: defaultdict(set))

    @property
    def hours(self) -> set[datetime]:
        """All hours at which something is wrong."""
        return set().union(*self.wrong.values())

    def add_day(self, table: str, day: date) -> None:
        """A sum of a day is wrong: its first hour stands for it."""
        self.wrong[table].add(datetime.combine(day, time(), UTC))


def _compare(
    connection: Connection,
    there: list[datetime],
    changed: frozenset[datetime],
    stop: threading.Event,
    tell: Progress,
) -> Checked:
    found = _Findings(changed)
    by_day = {
        day: [hour for hour in hours if hour not in changed]
        for day, hours in groupby(there, key=datetime.date)
    }
    compared: list[datetime] = []
    for number, (day, hours) in enumerate(by_day.items()):
        if stop.is_set():
            break
        tell(number, len(by_day))
        _compare_hours(connection, day, frozenset(hours), found)
        compared += hours
    is_complete = len(compared) == sum(map(len, by_day.values()))
    days = sorted({hour.date() for hour in compared})
    _compare_sums(connection, days, found)
    tell(len(by_day), len(by_day))
    return Checked(
        hours=len(compared),
        left_out=len(changed.intersection(there)),
        first_hour=compared[0] if compared else None,
        last_hour=compared[-1] if compared else None,
        wrong=tuple(sorted(found.hours)),
        tables=tuple(sorted(table for table, hours in found.wrong.items() if hours)),
        is_complete=is_complete,
    )


def _compare_hours(
    connection: Connection, day: date, hours: frozenset[datetime], found: _Findings
) -> None:
    """Compare what is kept of those hours of a day."""
    span = of_day(day)
    for summary in OF_RAW:
        found.wrong[summary.name] |= hours & _hours(connection.execute(summary.differ, span))
    # These are made from others: where those are wrong, nobody knows.
    differing = hours & _hours(connection.execute(rollup.TOTALS.differ, span))
    found.wrong[rollup.TOTALS.name] |= differing - found.wrong[rollup.ROLLUPS.name]
    parts = found.wrong[sessions.PARTS.name]
    mislinked = hours & _hours(connection.execute(sessions.MISLINKED, span))
    parts |= {hour for hour in mislinked if hour - HOUR not in parts}


def _compare_sums(connection: Connection, its_days: list[date], found: _Findings) -> None:
    """Compare what is kept of those days, unless an hour that it is made from is out of date or wrong."""
    hours = found.changed | found.hours
    unsure = {hour.date() for hour in hours}
    unsure_sessions = set[date]().union(*map(sessions.days_of, hours))
    for day in its_days:
        for summary in OF_DAYS:
            if day not in unsure and _is_wrong(connection, summary, day):
                found.add_day(summary.name, day)
        if day not in unsure_sessions and _is_wrong(connection, sessions.DAILY, day):
            found.add_day(sessions.DAILY.name, day)
    # Runs of missions go over days: all those on which one begins or ends, or should.
    for of_run in connection.execute(missions.WRONG_RUNS).scalars():
        first, last = min(of_run), max(of_run)
        if not any(first <= day <= last for day in unsure):
            for day in set(its_days).intersection(of_run):
                found.add_day("mission_runs", day)


def _is_wrong(connection: Connection, summary: Summary, day: date) -> bool:
    return connection.execute(summary.differ, of_day(day)).first() is not None


def _hours(answer: CursorResult[Any]) -> set[datetime]:
    return {hour.astimezone(UTC) for hour in answer.scalars()}
