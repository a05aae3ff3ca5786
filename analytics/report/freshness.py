"""Freshness: a database flows in, how far its data reach flows out, and in which sentences to say so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pandas as pd
from sqlalchemy import Engine

from analytics import known, replica, words
from analytics.ask import ask
from analytics.data import query
from analytics.period import Period
from analytics.replica import Replica

_HOUR: Final = timedelta(hours=1)
# As old as this, the newest event says that something, or everybody, stands still.
_OLD: Final = timedelta(days=1)
# What has been behind for so long has not caught up a moment later: the bound of the dashboards' alert.
_LATE: Final = timedelta(minutes=5)
_REACHED: Final = """
select (select ts from game_events order by ts limit 1) as oldest_event,
       (select ts from game_events order by ts desc limit 1) as newest_event,
       (select max(hour) from hourly_totals) as newest_rollup
"""


@dataclass(frozen=True)
class Freshness:
    """How far the data reach at a moment; None is not known, or not there."""

    at: datetime
    oldest_event: datetime | None = None
    newest_event: datetime | None = None
    # The end of the newest hour that was rolled up.
    rolled_up_to: datetime | None = None
    # Whatever was sent before it is stored or quarantined.
    complete_to: datetime | None = None
    # The first that was rolled up.
    first_day: date | None = None
    # Where all of this was read; None: in the database that is written to.
    replica: Replica | None = None

    @property
    def awaits_hours(self) -> int:
        """Hours, the newest event's included, of which nothing is in the rollups yet."""
        if self.newest_event is None or self.oldest_event is None:
            return 0
        begin = self.rolled_up_to or self.oldest_event
        if self.newest_event < begin:
            return 0
        return int((_hour(self.newest_event) - _hour(begin)) / _HOUR) + 1

    @property
    def has_whole_days(self) -> bool:
        """Whether the days before today are rolled up, as far as their events are there.

        Rollups are made in the order of time: where one is of today, those before it are made.
        """
        if self.newest_event is None:
            return True
        today = self.at.replace(hour=0, minute=0, second=0, microsecond=0)
        return self.rolled_up_to is not None and (
            self.rolled_up_to > today or self.rolled_up_to > self.newest_event
        )

    def facts(self) -> list[str]:
        """How far the data reach, in sentences."""
        told = []
        if self.newest_event is not None:
            told.append(f"The newest event is of {_moment(self.newest_event)}.")
        if self.rolled_up_to is not None:
            told.append(
                f"The newest rollup is of the hour from {_moment(self.rolled_up_to - _HOUR)}."
            )
        if self.complete_to is not None and self.at - self.complete_to <= _LATE:
            told.append(f"All that was sent before {_moment(self.complete_to)} is stored.")
        if self.oldest_event is not None:
            told.append(f"Raw events are kept since {self.oldest_event:%-d %b %Y}.")
        if self.replica is not None and not self.replica.is_late:
            told.append(f"All of it is read from a replica, which {self.replica.told()}.")
        return told

    def warnings(self, period: Period) -> list[str]:
        """What to know before reading anything of this period, in sentences."""
        told = []
        if self.replica is not None and self.replica.is_late:
            told.append(f"All of it is read from a replica, which {self.replica.told()}.")
        if self.newest_event is None and self.rolled_up_to is None:
            return [*told, "There is no event yet: what follows shows what there will be."]
        if self.newest_event is None:
            told.append("No raw event is kept any more: what follows is of rollups alone.")
        elif self.at - self.newest_event >= _OLD:
            age = words.counted((self.at - self.newest_event).days, "day")
            told.append(
                f"The newest event is {age} old: since then nobody played, or what they did has not come in."
            )
        if self.first_day is not None and self.first_day > period.first:
            told.append(f"Nothing is known of the days before {self.first_day:%-d %b %Y}.")
        if self.awaits_hours and (self.rolled_up_to is None or self.rolled_up_to < period.until):
            hours = words.counted(self.awaits_hours, "hour")
            told.append(
                f"{hours} of events are not rolled up yet, and missing from most of what follows."
            )
        if self.complete_to is not None and self.at - self.complete_to > _LATE:
            told.append(
                f"Nobody has said since {_moment(self.complete_to)} that all that was sent is stored."
            )
        return told


def freshness(engine: Engine) -> Freshness:
    """How far the data reach now."""
    # First: what is read after it is of that moment or a later one.
    seen = replica.look(engine)
    row = query(engine, _REACHED).iloc[0]
    rollup = _known(row["newest_rollup"])
    return Freshness(
        at=datetime.now(UTC),
        oldest_event=_known(row["oldest_event"]),
        newest_event=_known(row["newest_event"]),
        rolled_up_to=None if rollup is None else rollup + _HOUR,
        complete_to=_known(ask(engine, "live_delay")["complete_to"].iloc[0]),
        first_day=known.first_day(engine),
        replica=seen,
    )


def _known(value: Any) -> datetime | None:
    if pd.isna(value):
        return None
    moment: datetime = value.to_pydatetime()
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _moment(moment: datetime) -> str:
    return f"{moment:%-d %b %Y, %H:%M} UTC"
