"""The days that a notebook or a report is about."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics import period
from analytics.period import BadPeriod, Period

_TODAY = date(2026, 11, 28)
_days = st.integers(1, period.LONGEST_DAYS)
_dates = st.dates(date(2000, 1, 1), date(2100, 1, 1))


@given(_dates, _days)
def test_a_period_is_whole_days(last: date, days: int) -> None:
    """It has as many days as were asked for, ends with the last, and follows the one before without a gap."""
    made = period.ending(last, days)
    assert made.days == days
    assert made.last == last
    assert made.until - made.since == timedelta(days=days)
    assert made.since.tzinfo is UTC
    assert made.before.until == made.since
    assert made.before.days == days


def test_a_day_begins_and_ends_at_midnight_utc() -> None:
    """Nothing of the next day is in it."""
    day = period.ending(_TODAY, 1)
    assert day.since == datetime(2026, 11, 28, tzinfo=UTC)
    assert day.until == datetime(2026, 11, 29, tzinfo=UTC)


@pytest.mark.parametrize("days", [0, -3])
def test_there_is_no_period_of_no_days(days: int) -> None:
    """A slip says so before anything is asked."""
    with pytest.raises(BadPeriod, match="one day at least"):
        period.ending(_TODAY, days)


@pytest.mark.parametrize(
    ("first", "last", "told"),
    [
        (date(2026, 11, 27), date(2026, 11, 27), "27 Nov 2026"),
        (date(2026, 11, 21), date(2026, 11, 27), "21 to 27 Nov 2026"),
        (date(2026, 10, 29), date(2026, 11, 27), "29 Oct to 27 Nov 2026"),
        (date(2025, 11, 28), date(2026, 11, 27), "28 Nov 2025 to 27 Nov 2026"),
    ],
)
def test_a_period_is_told_without_what_goes_without_saying(
    first: date, last: date, told: str
) -> None:
    """As short as it can be, and still one period alone."""
    assert str(Period(first, last)) == told


@pytest.mark.parametrize(
    ("known", "last"),
    [
        (None, _TODAY),
        (_TODAY, _TODAY),
        # A sender's clock may be ahead.
        (_TODAY + timedelta(days=1), _TODAY),
        (_TODAY - timedelta(days=1), _TODAY - timedelta(days=1)),
        (date(2025, 1, 1), _TODAY - timedelta(days=1)),
    ],
)
def test_the_latest_days_are_over_unless_there_are_none(known: date | None, last: date) -> None:
    """Today, of which hours are to come, counts only where it is all there is."""
    assert period.latest(7, known, _TODAY) == period.ending(last, 7)


def test_the_latest_days_go_on_to_this_moment() -> None:
    """Those of a report about the past do not."""
    latest = period.ending(_TODAY - timedelta(days=1), 7)
    assert period.up_to_now(latest, _TODAY) == period.ending(_TODAY, 8)
    for other in (period.ending(_TODAY, 7), period.ending(_TODAY - timedelta(days=2), 7)):
        assert period.up_to_now(other, _TODAY) == other


@given(_days)
def test_days_are_written_as_days_or_weeks(days: int) -> None:
    """In any case, with room around."""
    assert period.days_of(f" {days}D ") == days
    if 7 * days <= period.LONGEST_DAYS:
        assert period.days_of(f"{days}w") == 7 * days


@pytest.mark.parametrize(
    "span",
    [
        "",
        "7",
        "d",
        "0d",
        "07d",
        "-7d",
        "7 d",
        "7h",
        "1.5d",
        "3661d",
        "524w",
        "99999d",
        "７d",
        "7d7d",
    ],
)
def test_what_is_no_number_of_days_is_refused(span: str) -> None:
    """With what would have been one."""
    with pytest.raises(BadPeriod, match="write 7d, or 4w"):
        period.days_of(span)
