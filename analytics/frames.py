"""Frames: rows of Postgres and the types of their columns flow in, a typed DataFrame flows out. Pure.

The types are those that the database names, not what the values look like: a question that nobody answers
gives the same columns of the same types without a row, so that what is drawn of it is an empty plot and no
error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from pipeline.event import ACTIONS, RANK_BY_KARMA

# From the lowest karma to the highest.
RANKS: Final = tuple(dict.fromkeys(RANK_BY_KARMA[karma] for karma in range(-100, 101)))
VILLAIN, NEUTRAL, HERO = SIDES = ("villain", "neutral", "hero")
SIDE_OF: Final[Mapping[str, str]] = {
    rank: VILLAIN if place < 3 else HERO if place > 3 else NEUTRAL
    for place, rank in enumerate(RANKS)
}

# What Postgres calls a type by number, and what pandas makes of it.
_WHOLE: Final = frozenset({20, 21, 23})
_TYPES: Final[Mapping[int, Any]] = {
    16: "boolean",
    700: "float64",
    701: "float64",
    1700: "float64",
    1082: "datetime64[s]",
    1114: "datetime64[us]",
    1184: "datetime64[us, UTC]",
    1186: "timedelta64[us]",
}
# char, name, text, of fixed and of varying length, uuid, which comes as text, and a bare null, of no type.
_TEXTS: Final = frozenset({18, 19, 25, 705, 1042, 1043, 2950})
# Columns of a few known words: as they are called, they are ordered so in tables and legends.
_WORDS: Final[Mapping[str, tuple[Sequence[str], bool]]] = {
    "action": (ACTIONS, False),
    "rank": (RANKS, True),
    "rank_before": (RANKS, True),
    "side": (SIDES, True),
}
# Columns of names that come again and again.
_REPEATED: Final = frozenset({"player", "energy_source", "district", "mission", "source"})


def typed(rows: Sequence[Sequence[Any]], columns: Sequence[tuple[str, int]]) -> pd.DataFrame:
    """A frame of these rows; each column has its name and the number of its Postgres type.

    Whole numbers are ``int64``, or ``Int64`` where some are null; numbers ``float64``; days are midnights
    without a zone, moments aware and in UTC; ``action``, ``rank`` and ``side`` are categories in the game's
    order, players, missions and the like categories in the order of the answer, other texts ``str``; all else
    stays as it is, as an ``object``. Raises ValueError where two columns have one name.
    """
    names = [name for name, _ in columns]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"Two columns are called {min(twice)}: name each with `as`.")
    values = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return pd.DataFrame(
        {
            name: _column(name, code, column)
            for (name, code), column in zip(columns, values, strict=True)
        }
    )


def _column(name: str, code: int, values: Sequence[Any]) -> Any:
    if code in _WHOLE:
        return pd.Series(values, dtype="Int64" if None in values else "int64")
    if code == 1184:
        return pd.Series(pd.to_datetime(list(values), utc=True)).astype(_TYPES[code])
    if code in _TYPES:
        return pd.Series(values, dtype="object").astype(_TYPES[code])
    if code not in _TEXTS:
        # A bytea comes as a view of memory that is gone with the connection.
        kept = [bytes(value) if isinstance(value, memoryview) else value for value in values]
        return pd.Series(kept, dtype="object")
    if name in _WORDS:
        words, is_ordered = _WORDS[name]
        if set(values) <= {None, *words}:
            return pd.Series(pd.Categorical(list(values), list(words), ordered=is_ordered))
    if name in _REPEATED:
        names = list(dict.fromkeys(value for value in values if value is not None))
        return pd.Series(pd.Categorical(list(values), names))
    return pd.Series(values, dtype="str")
