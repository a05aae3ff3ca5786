"""Players and their return, held against what was planted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from sqlalchemy import Engine

from analytics import players
from analytics.plots import players as plots
from analytics.plots import style
from producer.simulate import COLE, DAY_MS, PLANTED, Persona
from tests.notebooks import planted


def test_who_is_back_on_the_nth_day_is_what_was_counted(engine: Engine) -> None:
    """The curve of everyone, day by day, is what the simulator counted of its own players."""
    curve = players.return_curve(engine, planted.ALL).set_index("days_since")
    for row in planted.known()["realised"]["retention"]["all"]:
        here = curve.loc[row["day"]]
        assert (here["players"], here["active_players"]) == (row["eligible"], row["active"])


def _stays(chance: Callable[[int], float], days: int) -> list[float]:
    """The planted probability of still being there after each day: nobody is gone before ``AWAY_DAYS``
    without a sign, and whether they play on a day is a draw of its own.
    """
    # By how many days ago the last sign was; the last place is for who has left, by the day of it.
    since = [1.0] + [0.0] * players.AWAY_DAYS
    left = [0.0] * (days + players.AWAY_DAYS + 1)
    for day in range(1, days + players.AWAY_DAYS + 1):
        plays = chance(day)
        left[day - players.AWAY_DAYS] += (
            since[-2] * (1 - plays) if day >= players.AWAY_DAYS else 0.0
        )
        since = [sum(since[:-1]) * plays] + [share * (1 - plays) for share in since[:-1]]
    gone = list(itertools.accumulate(left))
    return [1 - share for share in gone[: days + 1]]


@pytest.mark.parametrize("persona", ["hero", "villain"])
def test_how_long_a_persona_stays_is_what_was_planted(engine: Engine, persona: Persona) -> None:
    """The survival curve of heroes and of villains runs where their planted return says, within its error.

    Those who give up at the spike are of another persona.
    """
    of = planted.persona_of()
    found = players.lifetimes(engine, planted.ALL)
    found = found[found["player"].map(of).eq(persona) & found["player"].ne(COLE)]
    curve = players.survival(found)
    assert len(curve) > 10
    expected = _stays(PLANTED.personas[persona].active_on, int(curve["days"].max()))
    for day, share, at_risk in curve[["days", "share", "at_risk"]].to_numpy():
        right = expected[int(day)]
        error = math.sqrt(max(right * (1 - right), 0.01) / at_risk)
        assert share == pytest.approx(right, abs=planted.SIGMAS * error), day


def test_who_came_too_late_to_be_missed_is_not_counted(engine: Engine) -> None:
    """Everyone in the survival curve could be seen to leave, and nobody who could is left out."""
    last = planted.START_MS + (planted.DAYS - players.AWAY_DAYS) * DAY_MS
    could = {p.name for p in planted.players() if p.seq and p.day0_ms < last}
    assert set(players.lifetimes(engine, planted.ALL)["player"]) == could


def _stays_of(side: str, days: list[int]) -> pd.DataFrame:
    """Players of a side who left after so many days."""
    return pd.DataFrame({"side": side, "days": days, "has_left": True})


@pytest.mark.parametrize(("longer", "shorter"), [("hero", "villain"), ("villain", "hero")])
def test_a_side_that_stays_longer_is_named(longer: str, shorter: str) -> None:
    """It is named when that is more than chance, and is the right one of the two."""
    both = [_stays_of(longer, list(range(20, 60))), _stays_of(shorter, list(range(40)))]
    found = players.stay(pd.concat(both))
    assert found.longer == {"hero": "heroes", "villain": "villains"}[longer]
    assert found.finding == f"Half have left after 30 days; {found.longer} stay longer"


def test_a_difference_that_may_be_chance_is_not_told() -> None:
    """Two sides that leave alike are not told apart, whatever their medians."""
    both = [_stays_of("hero", [3, 9, 14, 30]), _stays_of("villain", [2, 8, 15, 31])]
    assert players.stay(pd.concat(both)).longer is None


def test_nobody_gone_is_no_curve() -> None:
    """Where nobody has left there is no curve, and the finding says so."""
    here = pd.DataFrame({"side": ["hero"], "days": [5], "has_left": [False]})
    assert players.survival(here).empty
    assert players.stay(here).finding == "Fewer than half have left so far"


def _title(axes: Axes) -> str:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return style.title_of(figure)


def _days(counts: list[tuple[int, int]]) -> pd.DataFrame:
    """Returning and new players of days up to one."""
    days = pd.date_range(end="2026-11-27", periods=len(counts)).astype("datetime64[s]")
    returning, new = zip(*counts, strict=True) if counts else ((), ())
    active = [sum(both) for both in counts]
    return pd.DataFrame(
        {"day": days, "active_players": active, "returning_players": returning, "new_players": new}
    )


@pytest.mark.parametrize(
    ("counts", "title", "bars"),
    [
        ([(3, 1), (1, 0), (0, 7)], "4.0 players a day, at most 7 on 27 Nov", 3),
        ([(1, 0)] * 30, "1 player a day, at most 1 on 29 Oct", 30),
        # 57 whole sevens; the odd day before them is in the mean, and in no bar.
        ([(9, 1)] * 399 + [(200, 0)], "10.5 players a day, at most 200 on 27 Nov 2026", 57),
    ],
)
def test_days_are_told_and_drawn_as_they_were(
    counts: list[tuple[int, int]], title: str, bars: int
) -> None:
    """The title's mean and peak are those of the days, however many; long histories go by seven days."""
    axes = plots.daily_actives(_days(counts))
    assert _title(axes) == title
    assert len(axes.patches) == 2 * bars


def test_no_days_draw_no_bars() -> None:
    """Nothing is no error, and says so."""
    assert _title(plots.daily_actives(_days([]))) == "Nobody played"
    assert _title(plots.daily_actives(_days([(0, 0)]))) == "Nobody played"


def test_small_cohorts_are_put_together_by_week() -> None:
    """A row of two players says nothing: seven such days are one row of fourteen, and its share theirs."""
    days = pd.date_range("2026-11-02", periods=7).astype("datetime64[s]")  # a Monday
    cohorts = pd.DataFrame(
        {"cohort": days, "days_since": 1, "players": 2, "active_players": [2, 1, 0, 1, 1, 1, 1]}
    )
    axes = plots.cohort_heat_map(cohorts)
    assert _title(axes) == "Of those who came in one week, 50% are back on the next day"
    assert [text.get_text() for text in axes.get_yticklabels()] == ["2 Nov (14)"]
    assert [text.get_text() for text in axes.texts] == ["50"]


def test_the_survival_plot_starts_with_everyone() -> None:
    """At day 0 all are there, and whoever leaves on a day is gone after it."""
    stays = _stays_of("hero", list(range(20)))
    axes = plots.survival({"everyone": players.survival(stays)}, players.stay(stays))
    (line,) = [line for line in axes.lines if line.get_label() == "everyone"]
    drawn = np.asarray(line.get_xydata())
    assert drawn[:2].tolist() == [[0, 1], [1, pytest.approx(0.95)]]
