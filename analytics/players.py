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
from analytics.period import Period

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
    the period, ``active_players`` of them, their ``share``, and its 95 % interval ``low`` to ``high``.

    Source: Wilson's interval, which stays between 0 and 1.
    """
    curve = ask(engine, "retention_curve", period)
    interval = [
        _wilson(int(active), int(players))
        for active, players in zip(curve["active_players"], curve["players"], strict=True)
    ]
    low, high = zip(*interval, strict=True) if interval else ((), ())
    share = curve["active_players"] / curve["players"].where(curve["players"] > 0)
    return curve.assign(share=share.astype("float64"), low=low, high=high)


def _wilson(successes: int, trials: int) -> tuple[float, float]:
    if not trials:
        return np.nan, np.nan
    interval = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


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
    has_left = lifetimes["has_left"].to_numpy(dtype="bool")
    sample = stats.CensoredData(uncensored=days[has_left], right=days[~has_left])
    curve = stats.ecdf(sample).sf
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
            return "Nobody's second day is over yet"
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


def median_days(curve: pd.DataFrame) -> int | None:
    """The day after which half have left, of a :func:`survival`; None where that many have not."""
    half = curve[curve["share"] <= 0.5]
    return None if half.empty else int(half["days"].iloc[0])
