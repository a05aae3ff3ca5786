"""The flood: when the alarm goes on, when it goes off, and how little it remembers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.flood import ALARM, WINDOW, Flood


def test_a_hundred_strays_are_no_flood() -> None:
    """One bad entry in a hundred is what a healthy stream may hold; one more is the alarm."""
    flood = Flood()
    flood.add(WINDOW, range(0, WINDOW, WINDOW // ALARM))
    assert (flood.recent, flood.is_on) == (ALARM, False)
    flood = Flood()
    flood.add(WINDOW, range(ALARM + 1))
    assert (flood.recent, flood.is_on) == (ALARM + 1, True)


def test_a_thousand_in_a_row_are_a_flood_at_once() -> None:
    """A sender gone wrong is noticed before ten thousand entries have come."""
    flood = Flood()
    flood.add(1000, range(1000))
    assert flood.is_on


def test_the_alarm_goes_off_when_the_last_of_them_is_out_of_sight() -> None:
    """Good entries alone end a flood: not one too early, and not one too late."""
    flood = Flood()
    flood.add(ALARM + 1, range(ALARM + 1))
    flood.add(WINDOW - ALARM - 1, [])
    assert flood.is_on
    flood.add(1, [])
    assert (flood.recent, flood.is_on) == (ALARM, False)
    flood.add(WINDOW, [])
    assert flood.recent == 0


def test_it_remembers_no_more_than_its_window() -> None:
    """A day of nothing but bad entries takes no more memory than a minute of them."""
    flood = Flood()
    for _ in range(50):
        flood.add(5000, range(5000))
        assert len(flood._refused) <= WINDOW
    assert flood.recent == WINDOW


@st.composite
def batches(draw: st.DrawFn) -> tuple[int, list[int]]:
    """How many entries a batch has, and which were refused: a few, or a run of them."""
    entries = draw(st.integers(1, 6000))
    if draw(st.booleans()):
        first = draw(st.integers(0, entries - 1))
        return entries, list(range(first, draw(st.integers(first, entries))))
    return entries, sorted(draw(st.sets(st.integers(0, entries - 1), max_size=150)))


@given(st.lists(batches(), max_size=8))
def test_it_counts_as_a_list_of_all_entries_would(seen: list[tuple[int, list[int]]]) -> None:
    """Whatever the batches, the alarm is that of the last ten thousand entries, looked at one by one."""
    flood, every = Flood(), list[bool]()
    for entries, refused in seen:
        flood.add(entries, refused)
        bad = set(refused)
        every += [place in bad for place in range(entries)]
        assert flood.recent == sum(every[-WINDOW:])
        assert flood.is_on == (sum(every[-WINDOW:]) > ALARM)
