"""Players and their return, held against what was planted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pandas as pd
import pytest
from sqlalchemy import Engine

from analytics import players
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
