"""Spans of the past: what is asked for, and what is still to be played."""

from __future__ import annotations

import pytest

from producer.history import DAY_MS, BadDays, check_days, parse_days, planned
from producer.outbox import History, Ledger
from producer.simulate import population
from tests.unit.samples import NOW_MS


@pytest.mark.parametrize(
    ("text", "days"), [("0", 0), ("0d", 0), ("30d", 30), ("30", 30), (" 7d ", 7), ("007", 7)]
)
def test_days_are_understood(text: str, days: int) -> None:
    """Days, with or without the letter."""
    assert parse_days(text) == days


@pytest.mark.parametrize(
    "text",
    ["", "d", "-1", "-1d", "1.5d", "30h", "30 d", "1e3", "+3", "thirty", "\N{ARABIC-INDIC DIGIT ONE}",
     "1_0", "9999999d", "30d30d", "30d\n1"],
)  # fmt: skip
def test_other_spans_get_a_sentence(text: str) -> None:
    """What is no span of days is named, with what to write instead."""
    with pytest.raises(BadDays, match="give days, as in 30d") as caught:
        parse_days(text)
    assert str(caught.value).endswith(".")


def test_history_stays_within_retention() -> None:
    """The first events of a longer one would be refused as too old; one day less is fine."""
    check_days(88, 90)
    check_days(0, 1)
    for days in (89, 90, 91, 999_999):
        with pytest.raises(BadDays, match="give at most 88d, or raise RETENTION_DAYS"):
            check_days(days, 90)


def test_the_plan_starts_at_midnight_and_ends_now() -> None:
    """Whole UTC days before today's, so that retention by day means what analysts mean by it."""
    plan = planned(Ledger({}, 0, None), 30, NOW_MS, 90)
    assert plan is not None
    assert plan.start_ms % DAY_MS == 0
    assert NOW_MS - plan.start_ms == 30 * DAY_MS + NOW_MS % DAY_MS
    assert (plan.until_ms, plan.is_done) == (NOW_MS, False)


@pytest.mark.parametrize("days", [0, 30])
def test_a_history_broken_off_goes_on_and_a_finished_one_is_over(days: int) -> None:
    """What was begun is ended as it was planned, whatever is asked for now; no past is played twice."""
    players = {player.name: player for player in population(1, 3, NOW_MS, 0)}
    begun = History(NOW_MS - 80 * DAY_MS, NOW_MS - DAY_MS, is_done=False)
    done = History(5, 10, is_done=True)
    assert planned(Ledger(players, 9, begun), days, NOW_MS, 90) == begun
    assert planned(Ledger(players, 9, done), days, NOW_MS, 90) is None


def test_the_rest_of_a_history_that_became_too_old_is_let_go() -> None:
    """Events from before the window would be refused and leave gaps in chains that look like losses."""
    begun = History(NOW_MS - 90 * DAY_MS, NOW_MS - 60 * DAY_MS, is_done=False)
    assert planned(Ledger({}, 9, begun), 30, NOW_MS, 90) is None


def test_there_is_no_past_once_live_events_were_sent() -> None:
    """Players that have played live have a chain that a made-up past would fork."""
    players = {player.name: player for player in population(1, 3, NOW_MS, 0)}
    assert planned(Ledger(players, 9, None), 30, NOW_MS, 90) is None
    assert planned(Ledger({}, 0, None), 0, NOW_MS, 90) is None
