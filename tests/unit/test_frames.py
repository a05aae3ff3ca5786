"""Frames: the types that the database names, whatever the rows hold."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.frames import HERO, NEUTRAL, RANKS, SIDE_OF, SIDES, VILLAIN, typed
from pipeline.event import ACTIONS, RANK_BY_KARMA

# By the number of the type: what it is called, what psycopg2 makes of its values, and how pandas calls it.
KINDS: dict[int, tuple[st.SearchStrategy[Any], str]] = {
    16: (st.booleans(), "boolean"),
    20: (st.integers(-(2**63), 2**63 - 1), "int64"),
    21: (st.integers(-(2**15), 2**15 - 1), "int64"),
    23: (st.integers(-(2**31), 2**31 - 1), "int64"),
    25: (st.text(), "str"),
    701: (st.floats(allow_nan=False), "float64"),
    1082: (st.dates(), "datetime64[s]"),
    1114: (st.datetimes(), "datetime64[us]"),
    1184: (
        st.datetimes(
            dt.datetime.fromisoformat("1000-01-01"),
            dt.datetime.fromisoformat("9000-01-01"),
            timezones=st.integers(-840, 840).map(lambda m: dt.timezone(dt.timedelta(minutes=m))),
        ),
        "datetime64[us, UTC]",
    ),
    1186: (st.timedeltas(dt.timedelta(-(10**6)), dt.timedelta(10**6)), "timedelta64[us]"),
    1700: (st.decimals(-(10**9), 10**9, places=3), "float64"),
    2950: (st.uuids().map(str), "str"),
    # Arrays of whole numbers and of texts, JSON, times of day.
    1007: (st.lists(st.integers()), "object"),
    1009: (st.lists(st.text()), "object"),
    3802: (st.dictionaries(st.text(), st.integers()) | st.lists(st.integers()), "object"),
    1083: (st.times(), "object"),
}


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_a_column_has_its_type_with_and_without_rows(code: int, data: st.DataObject) -> None:
    """A question that nobody answers has the same columns; and values stay what they are."""
    strategy, kind = KINDS[code]
    values = data.draw(st.lists(strategy, max_size=5))
    full = typed([(value,) for value in values], [("x", code)])
    assert str(full["x"].dtype) == kind
    assert str(typed([], [("x", code)])["x"].dtype) == kind
    if code == 1082:
        values = [dt.datetime.combine(value, dt.time()) for value in values]
    assert full["x"].tolist() == [float(v) if isinstance(v, Decimal) else v for v in values]


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_a_null_is_missing_and_no_word(code: int, data: st.DataObject) -> None:
    """Whole numbers beside it stay whole: 2**53 + 1 is no float."""
    strategy, kind = KINDS[code]
    value = data.draw(strategy)
    column = typed([(value,), (None,)], [("x", code)])["x"]
    assert column.isna().tolist() == [False, True]
    assert str(column.dtype) == ("Int64" if kind == "int64" else kind)
    if kind == "int64":
        assert int(column[0]) == value


def test_nothing_but_nulls_is_no_error() -> None:
    """Whatever the type."""
    for code in KINDS:
        assert typed([(None,), (None,)], [("x", code)])["x"].isna().all()


def test_words_of_the_game_are_in_its_order() -> None:
    """Legends and tables run from villain to hero, and show what did not occur."""
    frame = typed(
        [("Hero", "hero", "recharge"), ("Thug", "villain", "recharge")],
        [("rank", 25), ("side", 25), ("action", 25)],
    )
    assert frame["rank"].max() == "Hero"
    assert (
        tuple(frame["rank"].cat.categories)
        == RANKS
        == tuple(dict.fromkeys(RANK_BY_KARMA[karma] for karma in range(-100, 101)))
    )
    assert tuple(frame["side"].cat.categories) == SIDES
    assert tuple(frame["action"].cat.categories) == ACTIONS
    assert not frame["action"].cat.ordered


def test_other_words_in_such_a_column_are_words() -> None:
    """A moral choice has sides of its own, and a question may call anything a rank."""
    frame = typed([("good", 3), ("evil", 1)], [("side", 25), ("rank", 20)])
    assert frame["side"].tolist() == ["good", "evil"]
    assert frame["rank"].tolist() == [3, 1]


def test_names_that_come_again_are_kept_once() -> None:
    """In the order of the answer, which is that of a game's missions."""
    frame = typed([("b",), ("a",), (None,), ("b",)], [("mission", 25)])
    assert list(frame["mission"].cat.categories) == ["b", "a"]
    assert frame["mission"].isna().tolist() == [False, False, True, False]


def test_a_name_that_is_none_is_no_error() -> None:
    """``details -> 'mission'`` is JSON, and may be an object."""
    frame = typed([({"a": 1},), ([1],), ("x",)], [("mission", 3802)])
    assert frame["mission"].tolist() == [{"a": 1}, [1], "x"]


def test_bytes_outlive_their_connection() -> None:
    """psycopg2 hands on a view of memory."""
    (kept,) = typed([(memoryview(b"\0\1"),)], [("raw", 17)])["raw"]
    assert kept == b"\0\1"
    assert isinstance(kept, bytes)


def test_two_columns_of_one_name_are_refused() -> None:
    """One of them would be gone without a word."""
    with pytest.raises(ValueError, match="name each with `as`"):
        typed([(1, 2)], [("?column?", 23), ("?column?", 23)])


@pytest.mark.parametrize(
    ("karma", "side"), [(-15, VILLAIN), (-14, NEUTRAL), (14, NEUTRAL), (15, HERO), (100, HERO)]
)
def test_a_side_is_that_of_the_rank(karma: int, side: str) -> None:
    """As dashboards tell it."""
    assert SIDE_OF[RANK_BY_KARMA[karma]] == side


def test_identities_are_texts() -> None:
    """As they are written, and as Postgres compares them."""
    one = uuid.UUID(int=7)
    assert typed([(str(one),)], [("id", 2950)])["id"].tolist() == [str(one)]
    assert isinstance(typed([], [("id", 2950)])["id"].dtype, pd.StringDtype)
