"""Bytes of anybody on a terminal: shown, never obeyed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infamous.excerpt import difference, lines, plain

NASTY = b'{"a": "\x1b]0;title\x07\x9b2J\xff\r\xe2\x80\xaeabc\x00"}'


@given(st.binary(max_size=300), st.integers(0, 300), st.integers(1, 120))
def test_nothing_that_is_shown_is_obeyed(raw: bytes, at: int, columns: int) -> None:
    """Every character is printable, whatever the bytes, the place and the width of the terminal."""
    shown = lines(raw, min(at, len(raw)), columns)
    assert all(line.isprintable() for line in shown)
    assert sum(line.strip() == "^" for line in shown) >= 1
    assert plain(raw).isprintable()
    assert all(side.isprintable() for side in difference(raw, raw[::-1]))


def test_the_caret_stands_under_the_place() -> None:
    """Also behind what is shown longer, or wider, than it is."""
    raw = 'é\x1b漢X\nab"c'.encode()
    for wanted in (b"X", b'"', b"c"):
        shown = lines(raw, raw.index(wanted), 80)
        (caret,) = [number for number, line in enumerate(shown) if line.strip() == "^"]
        row, column = shown[caret - 1], shown[caret].index("^")
        wide = row.count("漢")  # two cells, one character
        assert row[column - wide] == wanted.decode()
    assert lines(b"ab", 2, 80) == ["      0  ab", "           ^"]
    assert lines(b"ab", None, 80) == ["      0  ab"]


def test_long_bytes_are_shown_around_the_place() -> None:
    """A megabyte does not scroll by; what was left out is said."""
    raw = "é".encode() * 5000 + b"!" + b"x" * 5000
    shown = lines(raw, 10_000, 80)
    assert len(shown) < 40
    assert shown[0].strip() == "… 9,400 bytes before"
    assert shown[-1].strip() == "… 4,401 bytes after"
    (caret,) = [number for number, line in enumerate(shown) if line.strip() == "^"]
    assert shown[caret - 1][shown[caret].index("^")] == "!"


def test_a_text_is_cut_to_what_fits() -> None:
    """One line of so many characters, escapes counted."""
    assert plain(NASTY, 20) == '{"a": "\\x1b]0;title…'
    assert plain("abc", 3) == "abc"
    assert plain("abcd", 3) == "ab…"


@pytest.mark.parametrize(
    ("before", "after"), [(b"a" * 200 + b"1", b"a" * 200 + b"2"), (b"1", b"2")]
)
def test_a_difference_is_shown_where_it_is(before: bytes, after: bytes) -> None:
    """The first bytes are often the same in both."""
    old, new = difference(before, after, 50)
    assert (old[-1], new[-1]) == ("1", "2")
    assert len(old) <= 51
