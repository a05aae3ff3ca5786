"""Where refused bytes break: the place that a person is shown."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.pinpoint import place
from jobs.verdict import parsed, verdict
from pipeline.entry import Form
from pipeline.event import MAX_EVENT_BYTES, Reason
from tests.unit.samples import NOW_MS, WINDOW, payload, without, written
from tests.unit.wire_events import mutated


@pytest.mark.parametrize(
    ("raw", "marked"),
    [
        (b'{"id": 1,\n "player": "x"', b""),
        (b'{"id": tru}', b"tru}"),
        (b'{"a": "\xc3\xa9\xff"}', b'\xff"}'),
        (b"  [1]", b"[1]"),
        (written(xp_delta="NaN"), b"NaN"),
        (written(player='"NaN"', xp_delta="-Infinity"), b"-Infinity"),
        (payload(rank="Hero"), b'"Hero"'),
        (payload(v=3), b"3}"),
        (payload(karma_total=500, player="é"), b"500"),
        (payload(action="dance", details={"action": "kill_enemy"}), b'"dance"'),
        (payload(details={"rank": 1}, rank="Thug"), b'"Thug"'),
        (payload(id="no"), b'"no"'),
        (payload(NOW_MS - 10**11), b'"018'),
        (payload(ts="2025-11-24"), b'"2025-11-24"'),
        (payload(player=""), b'""'),
        (payload(energy_source="car"), b'"car"'),
        (payload(details={"a": "x" * 5000}), b'{"a": "xxx'),
        (written(player='"a\\u0000b"'), b"\\u0000"),
        (written(player='"\\ud83d\\ude00 \\\\u0000 \\ud83d"'), b'\\ud83d"'),
        (written(player='"\\ude00"'), b"\\ude00"),
        (written(details="[" * 40 + "]" * 40), b"[" * 9 + b"]"),
        (b'{"rank": "Hero", "rank": 5, ' + payload(rank="Neutral")[1:], b'"Neutral"'),
    ],
)
def test_the_place_is_that_of_what_is_wrong(raw: bytes, marked: bytes) -> None:
    """For each kind of fault the offset is in bytes, also behind characters of several."""
    found = verdict(Form.EVENT, raw, WINDOW)
    assert found.reason is not None
    at = place(raw, found.reason, found.detail or "")
    assert at is not None
    assert raw[at:].startswith(marked)
    assert marked or at == len(raw)


def test_what_is_nowhere_has_no_place() -> None:
    """A missing key cannot be pointed at, nor what only the database knows."""
    for raw in (without("rank"), payload()):
        for reason in (Reason.MISSING_KEY, Reason.DATABASE, Reason.NOT_AN_EVENT_ENTRY):
            assert place(raw, reason, "rank is missing, or so"[5:]) is None


def test_too_large_is_marked_where_it_is_too_much() -> None:
    """The first byte past the bound; of what was cut, the end."""
    assert place(b"x" * 70_000, Reason.TOO_LARGE, "70000 bytes") == MAX_EVENT_BYTES
    assert place(b"x", Reason.TOO_LARGE, "70000 bytes") == 1


def test_a_broken_array_is_marked() -> None:
    """An array that cannot be taken apart breaks at the sign that should not be there."""
    raw = b"[" + payload() + b', {"x": 1'
    found = verdict(Form.EVENTS, raw, WINDOW)
    assert found.reason is Reason.BAD_ARRAY
    assert place(raw, Reason.BAD_ARRAY, found.detail or "") == len(raw)


@given(mutated() | st.binary(max_size=60), st.sampled_from(Reason), st.text(max_size=20))
def test_no_bytes_and_no_words_raise(raw: bytes, reason: Reason, detail: str) -> None:
    """Whatever a sender wrote and whatever it was refused for, there is a place in it or none."""
    found = verdict(Form.EVENT, raw, WINDOW)
    for why, words in ((reason, detail), (found.reason, found.detail or "")):
        at = None if why is None else place(raw, why, words)
        assert at is None or 0 <= at <= len(raw)


def test_an_array_is_judged_event_by_event() -> None:
    """All must be events; the first that is none says which it is."""
    good = payload()
    assert verdict(Form.EVENTS, b"[%b,%b]" % (good, good), WINDOW).events == 2
    found = verdict(Form.EVENTS, b"[%b,%b]" % (good, payload(v=3)), WINDOW)
    assert (found.reason, found.is_taken) == (Reason.UNKNOWN_VERSION, False)
    assert (found.detail or "").startswith("event 2 of 2: ")
    assert verdict(Form.FOREIGN, good, WINDOW).reason is Reason.NOT_AN_EVENT_ENTRY


def test_refused_bytes_are_read_as_far_as_they_can_be() -> None:
    """NaN, which no event may hold, is read; what is no JSON, or too deep for Python, is nothing."""
    assert str(parsed(b'{"a": NaN}')) == "{'a': nan}"
    for raw in (
        b"\xff",
        b"{",
        b"[" * 100_000,
        json.dumps({"a": "x"}).encode("utf-16"),
        b"1" * 5000,
    ):
        assert parsed(raw) is None
