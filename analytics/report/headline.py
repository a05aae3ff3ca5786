"""Headline: a database and a period flow in, its numbers beside those of the period before flow out.

They come from rollups, by whole UTC days. Whether more is better is the reader's to say: fewer sessions may
be a holiday, and more heroes a matter of taste.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import pandas as pd
from sqlalchemy import Engine

from analytics import known, words
from analytics.ask import ask
from analytics.data import query
from analytics.period import Period

# From so many times on, a percentage says less than how many times it is.
_MANY_TIMES: Final = 10
_SMALL: Final = 10
_COUNTED: Final = """
select
    (select count(distinct player) from player_days where day between :first and :last) as active,
    (select sum(players) from daily_cohorts
     where day between :first and :last and day = first_day) as new,
    (select sum(sessions) from daily_sessions where day between :first and :last) as sessions,
    (select sum(seconds_sum) / 3600 from daily_sessions
     where day between :first and :last) as hours,
    (select sum(events) from hourly_totals where hour >= :since and hour < :until) as events,
    (select sum(xp_delta) from hourly_totals
     where hour >= :since and hour < :until and action <> 'ability_upgrade') as xp,
    (select sum(runs_completed) from daily_missions
     where day between :first and :last) as missions
"""


@dataclass(frozen=True)
class Number:
    """One of them, with the same of the period before; None is not known."""

    label: str
    # What is counted.
    note: str
    value: float | None
    before: float | None
    # A share of 1; else a count.
    is_share: bool = False

    @property
    def shown(self) -> str:
        """The value, for people."""
        return self._said(self.value)

    @property
    def change(self) -> str:
        """How it changed, in a few words that say from what; nothing where there is no value."""
        value, before = self.value, self.before
        if value is None:
            return ""
        if before is None:
            return "not known before"
        said = self._said(before)
        if self.is_share:
            points = round(100 * value) - round(100 * before)
            if not points:
                return "as before"
            return f"{_way(points)} {words.counted(abs(points), 'point')} from {said}"
        if said == self.shown:
            return "as before"
        if not before or not value:
            return f"{_way(value - before)} from {said}"
        times = value / before
        if times >= _MANY_TIMES:
            return f"{times:,.0f} times the {said} before"
        percent = round(100 * (times - 1))
        if not percent:
            return f"hardly changed from {said}"
        amount = "over 99" if percent <= -100 else f"{abs(percent):,}"
        return f"{_way(percent)} {amount}% from {said}"

    def _said(self, value: float | None) -> str:
        if self.is_share:
            return words.percent(value)
        # Of three hours and a half the half is something.
        is_small = value is not None and value < _SMALL and value % 1 != 0
        return words.number(value) if is_small else words.whole(value)


@dataclass(frozen=True)
class Headline:
    """The numbers, and the period they are compared with; None where not all of it is known."""

    numbers: tuple[Number, ...]
    compared: Period | None


def headline(engine: Engine, period: Period) -> Headline:
    """The numbers of the period, and of as many days before it where all of those are known."""
    first = known.first_day(engine)
    before = comparable(period, first)
    return Headline(
        numbers(_values(engine, period), None if before is None else _values(engine, before)),
        before,
    )


def comparable(period: Period, first_known: date | None) -> Period | None:
    """The period before, where its days are known from the first on: half of it would be no comparison."""
    before = period.before
    return before if first_known is not None and first_known <= before.first else None


def numbers(values: dict[str, Any], before: dict[str, Any] | None) -> tuple[Number, ...]:
    """Each of them, in the order of the page."""

    def one(label: str, key: str, note: str, *, is_share: bool = False) -> Number:
        return Number(label, note, values.get(key), (before or {}).get(key), is_share)

    return (
        one("Active players", "active", "who did anything in these days"),
        one("New players", "new", "of those, on their first day"),
        one("Return on the next day", "day_1", "of newcomers, classic day-1 retention", is_share=True),
        one("Sessions", "sessions", "a pause of over 30 minutes ends one"),
        one("Hours played", "hours", "from each session’s first event to its last"),
        one("Events", "events", "everything that players did"),
        one("Missions completed", "missions", "first times and replays"),
        one("XP earned", "xp", "without what upgrades cost"),
        one("Heroes", "heroes", "of active players, by their last karma", is_share=True),
    )  # fmt: skip


def _values(engine: Engine, period: Period) -> dict[str, float | None]:
    days = {"first": period.first, "last": period.last}
    moments = {"since": period.since, "until": period.until}
    counted = query(engine, _COUNTED, **days, **moments).iloc[0]
    # No row to sum up is none of them, of a period whose days are known.
    found: dict[str, float | None] = {
        str(name): 0.0 if pd.isna(value) else float(value) for name, value in counted.items()
    }
    curve = ask(engine, "retention_curve", period).set_index("days_since")
    found["day_1"] = _share(curve.loc[1, "active_players"], curve.loc[1, "players"])
    karma = ask(engine, "karma_totals", period).iloc[0]
    found["heroes"] = _share(karma["hero_players"], karma["players"])
    return found


def _share(part: Any, whole: Any) -> float | None:
    if pd.isna(part) or pd.isna(whole) or not whole:
        return None
    return float(part) / float(whole)


def _way(change: float) -> str:
    return "up" if change > 0 else "down"
