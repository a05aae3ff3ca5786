"""Who sits out, what is said about it, and who is replaced in the game."""

from __future__ import annotations

import pytest

from producer.lanes import held_up, sentence
from producer.live import replaced
from producer.simulate import population
from tests.unit.samples import NOW_MS


def test_who_is_overdue_sits_out_until_all_has_arrived() -> None:
    """A part that is late puts its players out, and none is back while another one is on its way."""
    assert held_up(frozenset(), {}, 10.0) == set()
    assert held_up(frozenset(), {0: 9.0, 1: 10.0, 2: 10.1}, 10.0) == {0, 1}
    assert held_up(frozenset({0, 2, 3}), {0: 12.0, 2: 10.1}, 11.0) == {0, 2}
    assert held_up(frozenset({0}), {0: 12.0, 1: 12.0}, 11.0) == {0}


@pytest.mark.parametrize(
    ("worst", "away", "says"),
    [
        (0, 1, "a part of the players"),
        (0, 3, "a part of the players"),
        (1, 2, None),
        (2, 1, None),
        (1, 1, None),
        (0, 4, "is away; trying again"),
        (2, 4, "is away; trying again"),
        (4, 1, None),
        (4, 4, None),
    ],
)
def test_an_outage_is_told_once(worst: int, away: int, says: str | None) -> None:
    """A line when the first are away, one when it is all of them, and none for what lies between."""
    told = sentence(worst, away, 4)
    assert (says in told) if told and says else told is says


def test_some_are_taken_up_anew_and_the_others_play_on() -> None:
    """Nobody of those who were not overtaken is set back, and nobody who had left comes back with them."""
    players = population(7, 5, NOW_MS, 0)
    anew = population(7, 5, NOW_MS, 0)
    cast = replaced(players[:4], anew, lambda name: name in {players[1].name, players[2].name})
    expected = [players[0], anew[1], anew[2], players[3]]
    assert [id(player) for player in cast] == [id(player) for player in expected]
