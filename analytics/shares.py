"""Shares: counts of successes and trials flow in, how sure their share is flows out. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats

# Of intervals: 95 times in 100 the true share lies in them.
LEVEL: Final = 0.95


def with_share(frame: pd.DataFrame, part: Hashable, whole: Hashable) -> pd.DataFrame:
    """The frame with the ``share`` that one column of counts has in another, and its interval ``low`` to
    ``high``; all three NaN where there is nothing to have a share in.

    Source: Wilson (1927), whose interval stays between 0 and 1, as scipy counts it.
    """
    parts, wholes = frame[part].astype("int64"), frame[whole].astype("int64")
    interval = [_wilson(int(k), int(n)) for k, n in zip(parts, wholes, strict=True)]
    return frame.assign(
        share=(parts / wholes.where(wholes > 0)).astype("float64"),
        low=pd.Series([low for low, _ in interval], frame.index, dtype="float64"),
        high=pd.Series([high for _, high in interval], frame.index, dtype="float64"),
    )


def _wilson(part: int, whole: int) -> tuple[float, float]:
    if not whole:
        return np.nan, np.nan
    interval = stats.binomtest(part, whole).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)
