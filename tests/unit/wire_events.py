"""Strategies for what senders write: rules of the design flow in, valid and broken wire events flow out."""

from __future__ import annotations

import json
import string
from typing import Any

from hypothesis import strategies as st

from pipeline.event import ACTIONS, INT32_MAX, INT32_MIN, INT64_MAX, RANK_BY_KARMA, Event, uuid7
from tests.unit.samples import NOW_MS, WINDOW, fields

# Any character but NUL and the surrogates: emoji, right-to-left marks, control characters, unassigned.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
NUMBERS = (
    st.integers(INT32_MIN, INT32_MAX)
    | st.integers(-(10**60), 10**60)
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
DETAILS = st.dictionaries(TEXT, VALUES, max_size=4)


@st.composite
def wire_fields(
    draw: st.DrawFn, oldest_ms: int = WINDOW.oldest_ms, newest_ms: int = NOW_MS
) -> dict[str, Any]:
    """A valid event as its sender thinks of it, unknown keys and all."""
    karma = draw(st.integers(-100, 100))
    action = draw(st.sampled_from(ACTIONS))
    lowest_xp = INT32_MIN if action == "ability_upgrade" else 0
    ms = draw(st.integers(oldest_ms, newest_ms))
    event = fields(
        ms,
        draw(st.integers(0, 2**74 - 1)),
        player=draw(TEXT.filter(bool)),
        action=action,
        xp_delta=draw(st.integers(lowest_xp, INT32_MAX)),
        karma_delta=draw(st.integers(INT32_MIN, INT32_MAX)),
        karma_total=karma,
        rank=RANK_BY_KARMA[karma],
        energy_source=draw(st.none() | TEXT) if action == "recharge" else None,
        seq=draw(st.none() | st.integers(1, INT64_MAX)),
        details=draw(st.none() | DETAILS),
    )
    for key in draw(st.sets(st.sampled_from(["ts", "seq", "details", "v"]))):
        del event[key]
    known = set(Event.__struct_fields__) | set(event.get("details") or {})
    extra = draw(st.dictionaries(TEXT.filter(lambda key: key not in known), VALUES, max_size=1))
    return event | extra


_ODD_VALUES = st.sampled_from(
    [
        None, True, False, 0, -1, 1.0, "", "1", [], {}, [1], {"a": 1}, "\0", "Hero", "recharge",
        INT32_MAX, INT32_MAX + 1, INT64_MAX, INT64_MAX + 1, 10**30, 1e300, "x" * 65, "x" * 4090,
        "2025-11-24T16:00:00Z", "2025-11-24T16:00:00.123+0000", str(uuid7(NOW_MS, 1)).upper(),
        "00000000-0000-4000-8000-000000000000", {"a": {"b": [1, {"c": 1e5}]}},
    ]
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid event with something done to it: a value or a key changed, or its bytes tampered with."""
    event = draw(wire_fields())
    keys = sorted(event)
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from(keys))
        change = draw(st.sampled_from(["value", "drop", "add"]))
        if change == "value":
            event[key] = draw(_ODD_VALUES | VALUES)
        elif change == "drop":
            event.pop(key, None)
        else:
            event[draw(TEXT)] = draw(_ODD_VALUES)
    raw = bytearray(json.dumps(event, ensure_ascii=draw(st.booleans())).encode())
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(raw) - 1))
        match draw(st.sampled_from(["flip", "cut", "insert", "swap digits"])):
            case "flip":
                raw[at] = draw(st.integers(0, 255))
            case "cut":
                del raw[at : at + draw(st.integers(1, 9))]
            case "insert":
                raw[at:at] = draw(
                    st.sampled_from(
                        [b"\\u0000", b"\\ud800", b"e9", b"9", b",", b"[", b"{", b"\0", b" "]
                    )
                )
            case _:
                if raw[at : at + 1].isdigit():
                    raw[at] = ord(draw(st.sampled_from("0123456789")))
        if not raw:
            break
    return bytes(raw)


def json_texts() -> st.SearchStrategy[str]:
    """JSON of any shape, and text that almost is."""
    return VALUES.map(json.dumps) | st.text(string.printable, max_size=60)
