"""What is read of numbers and names: true, short, and never what a sender smuggles in."""

from __future__ import annotations

import html
import math
import re
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics import words

_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, pd.NA])
def test_what_is_missing_is_a_dash(missing: float | None) -> None:
    """Whatever pandas, numpy or the database call it, it is one thing to a reader."""
    assert words.is_missing(missing)
    for told in (words.whole, words.number, words.percent, words.lasting, words.signed):
        assert told(missing) == words.DASH
    assert words.counted(missing, "player") == f"{words.DASH} players"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        *((0, "0 s"), (0.0041, "4.1 ms"), (0.25, "250 ms"), (0.9996, "1 s"), (9.97, "10 s")),
        *((59.4, "59 s"), (59.7, "1 min"), (840, "14 min"), (3570, "1 h"), (12_600, "3.5 h")),
        *((86_399, "1 d"), (172_800, "2 d"), (86_400_000, "1,000 d")),
    ],
)
def test_a_time_is_told_in_its_largest_unit(seconds: float, told: str) -> None:
    """Nothing lasts 60 s or 24 h."""
    assert words.lasting(seconds) == told


@given(st.floats(0.001, 1e9))
def test_a_time_is_told_within_its_rounding(seconds: float) -> None:
    """What is read is what was meant, to one part in twenty, whatever it is."""
    number, unit = words.lasting(seconds).split()
    assert float(number.replace(",", "")) * _SECONDS[unit] == pytest.approx(seconds, rel=0.05)
    limits = {"ms": 1000, "s": 60, "min": 60, "h": 24}
    assert float(number.replace(",", "")) < limits.get(unit, math.inf)


@given(st.floats(0, 1), st.integers(0, 2))
def test_some_are_never_none_and_never_all(share: float, digits: int) -> None:
    """A share that is rounded to nothing, or to everything, says that it is not quite."""
    told = words.percent(share, digits)
    if 0 < share < 1:
        assert not re.fullmatch(r"(0|100)(\.0*)?%", told)
    else:
        assert float(told.rstrip("%")) == 100 * share


def test_numbers_are_told_as_people_write_them() -> None:
    """Thousands, one of a thing, and no minus before nothing."""
    assert words.whole(12_345.4) == "12,345"
    assert words.number(-0.04) == "0.0"
    assert words.percent(0.416) == "42%"
    assert words.percent(-0.001) == "0%"
    assert words.counted(1, "player") == "1 player"
    assert words.counted(1.4, "player") == "1 player"
    assert words.counted(2, "story", "stories") == "2 stories"
    assert [words.signed(value) for value in (12, -3, 0.2, -0.2)] == ["+12", "−3", "0", "0"]


def test_a_sentence_begins_with_a_capital_letter() -> None:
    """Also where it begins with a share of hardly any; and nothing else of it changes."""
    assert words.sentence(f"{words.percent(0.001)} of Heroes") == "Under 1% of Heroes"
    assert words.sentence("") == ""


def test_things_are_listed() -> None:
    """With an `and` before the last."""
    listed = [words.listed(["a", "b", "c"][:length]) for length in range(4)]
    assert listed == ["", "a", "a and b", "a, b and c"]


@given(st.text(), st.integers(1, 40))
def test_a_name_is_a_short_line_that_can_be_seen(text: str, most: int) -> None:
    """Neither line breaks nor what turns text round, and something is left of it."""
    shown = words.name(text, most)
    assert 1 <= len(shown) <= max(most, len(words.DASH))
    assert shown.isprintable()
    assert shown == words.name(shown, most)
    assert all(not (a == b == " ") for a, b in pairwise(shown))


def test_a_name_is_kept_as_it_is() -> None:
    """Whatever script it is in."""
    assert words.name("Cole MacGrath") == "Cole MacGrath"
    assert words.name("名無しの英雄") == "名無しの英雄"
    assert words.name("a\nb\tc\u202ed") == "a b cd"
    assert words.name("\u200b ") == words.DASH
    assert words.name("W" * 64, 5) == "WWWW…"


def test_a_sentence_in_markdown_is_to_be_read() -> None:
    """Its own stops and decimal points stay; an address is none any more."""
    assert words.literal("2.5 times, 12%. So it is.") == "2.5 times, 12%. So it is."
    assert "www.evil" not in words.literal("Look at www.evil.example.")
    assert "10.0.0.1:80/" not in words.literal("Look at http://10.0.0.1:80/x.")


@given(st.text())
def test_a_name_in_markdown_is_that_name(text: str) -> None:
    """Nothing that Markdown, HTML or mathematics is made of is left, and it reads as it was."""
    made = words.literal(text)
    assert not set(made) & set("<>*_`[]()$\\!|~\"'{}^-=+\n\r\t")
    assert html.unescape(made) == text or not text.isprintable()
