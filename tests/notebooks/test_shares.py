"""Shares and how sure they are."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.shares import with_share


@given(st.integers(1, 10**9).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_the_interval_is_wilsons(counts: tuple[int, int]) -> None:
    """Its ends are where the share is off by 1.96 of its own standard errors, Wilson's formula."""
    part, of = counts
    row = with_share(pd.DataFrame({"part": [part], "of": [of]}), "part", "of").iloc[0]
    z, share = 1.959963984540054, part / of
    middle = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    assert row["share"] == share
    assert row["low"] == pytest.approx(max(middle - half, 0), abs=1e-9)
    assert row["high"] == pytest.approx(min(middle + half, 1), abs=1e-9)


def test_of_nothing_there_is_no_share() -> None:
    """Neither a share nor an interval, and no error; nor where there is not even a row."""
    frame = pd.DataFrame({"part": [0, 1], "of": [0, 2]}, index=[7, 8])
    found = with_share(frame, "part", "of")
    assert found[["share", "low", "high"]].isna().all(axis=1).tolist() == [True, False]
    assert found.index.tolist() == [7, 8]
    assert with_share(frame.iloc[:0], "part", "of").dtypes["low"] == "float64"
