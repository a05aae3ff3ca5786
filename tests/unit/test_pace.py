"""The pace: when each event is due, and whose turn it is."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.pace import Pace, Round, turn

RATES = [0.001, 0.3, 1.0, 1.5, 2.0, 3.0, 7.3, 49.0, 100.0, 333.3, 5000.0]


@pytest.mark.parametrize("rate", RATES)
def test_the_clock_does_not_drift(rate: float) -> None:
    """After a million events the next one is due where the rate says, not where errors add up to."""
    pace = Pace(rate, 1000.0)
    assert pace.due_s(0) == 1000.0
    assert pace.due_s(1_000_000) == pytest.approx(1000.0 + 1_000_000 / rate, rel=1e-12)
    assert pace.due_s(1) - pace.due_s(0) == pytest.approx(1 / rate, rel=1e-9)


@pytest.mark.parametrize("rate", RATES)
def test_as_many_are_due_as_time_has_passed(rate: float) -> None:
    """The first at once, then one each 1/rate seconds, those missed in an outage included."""
    pace = Pace(rate, 50.0)
    assert pace.due_by(49.9) == 0
    assert pace.due_by(50.0) == 1
    assert pace.due_by(50.0 + 0.9 / rate) == 1
    assert pace.due_by(50.0 + 1.1 / rate) == 2
    assert pace.due_by(50.0 + 3600.5 / rate) == 3601


@given(st.floats(0.001, 10_000), st.integers(0, 10**7), st.floats(0, 1e6))
def test_due_by_and_due_s_agree(rate: float, number: int, start_s: float) -> None:
    """A producer that waits until an event is due finds it due, give or take a microsecond."""
    pace = Pace(rate, start_s)
    assert pace.due_by(pace.due_s(number) + 1e-6) >= number + 1
    assert pace.due_by(pace.due_s(number) - 1e-6) <= number + 1


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate >= 1])
def test_cole_plays_once_a_second(rate: float) -> None:
    """Whatever the rate, exactly one event of each second is Cole's, and it is the first."""
    pace = Pace(rate, 0.0)
    numbers = range(math.ceil(20 * rate))
    seconds = [math.floor(n / rate) for n in numbers if turn(pace, n, 199) is None]
    assert seconds == list(range(20))
    firsts = {math.floor(n / rate): n for n in reversed(numbers)}
    assert all(turn(pace, n, 199) is None for n in firsts.values())


@pytest.mark.parametrize("rate", [0.001, 0.3, 0.999, 1.0])
@pytest.mark.parametrize("others", [0, 199])
def test_at_one_a_second_or_less_all_events_are_coles(rate: float, others: int) -> None:
    """The slow game is Cole's own."""
    pace = Pace(rate, 0.0)
    assert all(turn(pace, number, others) is None for number in range(200))


@pytest.mark.parametrize("rate", [1.5, 2.0, 7.3, 100.0, 333.3])
@pytest.mark.parametrize("others", [1, 3, 199])
def test_the_others_take_turns(rate: float, others: int) -> None:
    """What the rate leaves above Cole goes round the others one by one, none skipped."""
    pace = Pace(rate, 0.0)
    places = [place for n in range(2000) if (place := turn(pace, n, others)) is not None]
    assert len(places) > 100
    assert all(b == (a + 1) % others for a, b in itertools.pairwise(places))
    counts = Counter(places).values()
    assert max(counts) - min(counts) <= 1


def test_alone_cole_plays_everything() -> None:
    """With a population of one there is nobody else's turn, at any rate."""
    pace = Pace(50.0, 0.0)
    assert all(turn(pace, number, 0) is None for number in range(500))


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 900)), max_size=30))
def test_without_a_rate_the_first_event_of_a_second_is_coles(
    parcels: list[tuple[int, int]],
) -> None:
    """However events fall into parcels: Cole opens each second, the others follow, none skipped."""
    turns, now_ms = Round(-1, range(7)), 0
    coles_seconds: list[int] = []
    others: list[int] = []
    seconds: list[int] = []
    for count, gap_ms in parcels:
        now_ms += gap_ms
        taken = turns.take(count, now_ms)
        assert len(taken) == count
        assert -1 not in taken[1:]
        seconds += [now_ms // 1000] * bool(count)
        coles_seconds += [now_ms // 1000] * taken.count(-1)
        others += [player for player in taken if player != -1]
    assert coles_seconds == sorted(set(seconds))
    assert others == [n % 7 for n in range(len(others))]


def test_without_a_rate_cole_alone_plays_everything() -> None:
    """With a population of one there is nobody else's turn."""
    assert Round("Cole", []).take(3, 5) == ["Cole"] * 3
