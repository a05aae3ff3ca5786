"""Players: who comes, comes back and stays: a database flows in, frames and findings flow out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats
from sqlalchemy import Engine

from analytics import words
from analytics.ask import ask
from analytics.data import query
from analytics.frames import HERO, VILLAIN
from analytics.period import Period
from analytics.shares import with_share

# So many days without a sign of somebody count as having left.
AWAY_DAYS: Final = 14
# Fewer than so many at risk, and a step of the survival curve says more of chance than of players.
FEWEST: Final = 10

_LIFETIMES: Final = """
with played as (
    select player, first_day, day,
           lead(day) over (partition by player order by day) as next_day,
           first_value(rank) over (partition by player order by day) as rank
    from player_days
    where day <= :last and first_day between :first and :last - :away_days
), stays as (
    select player, first_day, min(rank) as rank,
           -- Whoever is away for so many days after a day has left on it, whether or not back later.
           min(day) filter (where coalesce(next_day, :last + 1) - day > :away_days) as left_on
    from played
    group by player, first_day
)
select case when rank in ('Guardian', 'Champion', 'Hero') then 'hero'
            when rank in ('Thug', 'Outlaw', 'Infamous') then 'villain'
            else 'neutral' end as side,
       player,
       coalesce(left_on, :last - :away_days) - first_day as days,
       left_on is not null as has_left
from stays
order by first_day, player
"""


def actives(engine: Engine, period: Period) -> pd.DataFrame:
    """Active players a day, oldest first: ``day``, ``active_players``, ``new_players``,
    ``returning_players``, and those of 7 and of 30 days up to it.
    """
    return ask(engine, "daily_actives", period).sort_values("day", ignore_index=True)


def cohorts(engine: Engine, period: Period) -> pd.DataFrame:
    """Classic retention by day of arrival: ``cohort``, ``days_since`` 1 to 30, ``players`` who came,
    ``active_players`` of them on exactly that day; days that are over alone.
    """
    return ask(engine, "retention", period)


def return_curve(engine: Engine, period: Period) -> pd.DataFrame:
    """Classic retention of everyone: ``days_since`` 0 to 30, ``players`` whose day of that number lies in
    the period, ``active_players`` of them, their ``share``, and its interval ``low`` to ``high``: see
    :func:`analytics.shares.with_share`.
    """
    return with_share(ask(engine, "retention_curve", period), "active_players", "players")


def lifetimes(engine: Engine, period: Period) -> pd.DataFrame:
    """How long each player who came in the period stayed: ``player``, ``side`` by the rank at the end of the
    first day, ``days`` from the first day to the one before AWAY_DAYS without a sign, and ``has_left``: where
    that is false the player was there up to ``days`` at least.

    Those who came too late to be missed yet are not in it.
    """
    first, last = period.first, period.last
    return query(engine, _LIFETIMES, first=first, last=last, away_days=AWAY_DAYS)


def survival(lifetimes: pd.DataFrame) -> pd.DataFrame:
    """Kaplan and Meier's estimate: ``days``, the ``share`` still there after them, its 95 % interval ``low``
    to ``high``, and how many were ``at_risk``; from day 0 up to where FEWEST are.

    Source: scipy's ecdf of censored data, with Greenwood's variance on the log-log scale.
    """
    columns = {
        "days": "int64",
        "share": "float64",
        "low": "float64",
        "high": "float64",
        "at_risk": "int64",
    }
    if lifetimes.empty or not lifetimes["has_left"].any():
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})
    days = lifetimes["days"].to_numpy(dtype="float64")
    curve = stats.ecdf(_censored(lifetimes)).sf
    with warnings.catch_warnings():
        # Where nobody, or everybody, has left: there is no interval then.
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = curve.confidence_interval(0.95, method="log-log")
    at_risk = len(days) - np.searchsorted(np.sort(days), curve.quantiles)
    made = pd.DataFrame(
        {
            "days": curve.quantiles.astype("int64"),
            "share": curve.probabilities,
            "low": np.nan_to_num(interval.low.probabilities, nan=0.0),
            "high": np.nan_to_num(interval.high.probabilities, nan=1.0),
            "at_risk": at_risk,
        }
    )
    return made[made["at_risk"] >= FEWEST].reset_index(drop=True)


@dataclass(frozen=True)
class Retention:
    """How many come back: shares of 1, None where no such day is over."""

    day_1: float | None
    day_7: float | None
    day_30: float | None

    @property
    def finding(self) -> str:
        """In a sentence."""
        if self.day_1 is None:
            return "No newcomer's second day lies in these days"
        told = f"{words.sentence(words.percent(self.day_1))} come back on the next day"
        if self.day_7 is None:
            return told
        told += f", {words.percent(self.day_7)} a week later"
        return (
            told if self.day_30 is None else f"{told}, {words.percent(self.day_30)} after 30 days"
        )


def retention(curve: pd.DataFrame) -> Retention:
    """The three numbers of the trade, of a :func:`return_curve`."""
    share = curve.set_index("days_since")["share"]

    def on(day: int) -> float | None:
        return float(share[day]) if day in share.index and not pd.isna(share[day]) else None

    return Retention(on(1), on(7), on(30))


@dataclass(frozen=True)
class Stay:
    """How long players stay: the day by which half have left, None where that many have not."""

    half_left: int | None
    # Whoever stays longer, heroes or villains, where that is more than chance.
    longer: str | None

    @property
    def finding(self) -> str:
        """In a sentence."""
        if self.half_left is None:
            told = "Fewer than half have left so far"
        else:
            told = f"Half have left after {words.counted(self.half_left, 'day')}"
        return told if self.longer is None else f"{told}; {self.longer} stay longer"


def stay(lifetimes: pd.DataFrame) -> Stay:
    """What :func:`lifetimes` say. Sides differ where a log-rank test gives a p-value below 0.05."""
    curve = survival(lifetimes)
    half = curve[curve["share"] <= 0.5]
    samples = {side: _censored(lifetimes[lifetimes["side"] == side]) for side in (HERO, VILLAIN)}
    longer = None
    if all(sample.num_censored() < len(sample) for sample in samples.values()):
        test = stats.logrank(samples[HERO], samples[VILLAIN])
        if test.pvalue < 0.05:
            # More leave than would if both were alike: they are the ones who go.
            longer = "heroes" if test.statistic < 0 else "villains"
    return Stay(None if half.empty else int(half["days"].iloc[0]) + 1, longer)


def _censored(lifetimes: pd.DataFrame) -> stats.CensoredData:
    days = lifetimes["days"].to_numpy(dtype="float64")
    has_left = lifetimes["has_left"].to_numpy(dtype="bool")
    return stats.CensoredData(uncensored=days[has_left], right=days[~has_left])
