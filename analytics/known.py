"""Known: a database flows in, the days of which it knows anything flow out."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final

import pandas as pd
from sqlalchemy import Engine

from analytics import period
from analytics.data import query
from analytics.period import Period

_FIRST: Final = "select min(day) as first from daily_cohorts"


def first_day(engine: Engine) -> date | None:
    """The first UTC day that was rolled up; None where none was."""
    first = query(engine, _FIRST)["first"].iloc[0]
    return None if pd.isna(first) else first.date()


def known_period(engine: Engine, days: int) -> Period:
    """So many days up to yesterday, or to today where there is nothing before."""
    return period.latest(days, first_day(engine), datetime.now(UTC).date())
