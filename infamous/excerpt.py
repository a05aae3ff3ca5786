"""The excerpt: bytes of anybody flow in, lines that a terminal can show without harm flow out. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.cells import cell_len

# Of long bytes, so many before the place that matters, and as many after it.
_REACH_BYTES: Final = 600
_OFFSET_CELLS: Final = 9
_LONGEST_CELLS: Final = 96
_FEWEST_CELLS: Final = 8
_BEFORE: Final = 30


def plain(text: str | bytes, most: int | None = None) -> str:
    """The same on one line, with whatever a terminal would obey spelled out, and cut to ``most``."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    # One character gives one at least: what is past the end need not be looked at.
    shown = "".join(map(_printable, text if most is None else text[: most + 1]))
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "…"


def lines(raw: bytes, at: int | None, columns: int) -> list[str]:
    """Bytes by the line, each with the offset it begins at, and a caret under the place ``at``; for a
    terminal of so many columns."""
    width = max(_FEWEST_CELLS, min(_LONGEST_CELLS, columns - _OFFSET_CELLS - 1))
    start, end = _span(raw, at)
    drawn = [] if start == 0 else [f"{'':>{_OFFSET_CELLS}}… {start:,} bytes before"]
    rows = list(_rows(raw, start, end, width))
    # Of a place within a character, the character.
    mark = max(
        (offset for row in rows for offset, _ in row if at is not None and offset <= at), default=-1
    )
    for row in rows:
        drawn.append(f"{row[0][0]:>{_OFFSET_CELLS - 2}}  {''.join(shown for _, shown in row)}")
        if row[0][0] <= mark <= row[-1][0]:
            before = "".join(shown for offset, shown in row if offset < mark)
            drawn.append(" " * (_OFFSET_CELLS + cell_len(before)) + "^")
    if end < len(raw):
        drawn.append(f"{'':>{_OFFSET_CELLS}}… {len(raw) - end:,} bytes after")
    return drawn


def difference(before: bytes, after: bytes, most: int = 100) -> tuple[str, str]:
    """Both on a line each, from shortly before where they part."""
    parts = next(
        (
            place
            for place, pair in enumerate(zip(before, after, strict=False))
            if pair[0] != pair[1]
        ),
        min(len(before), len(after)),
    )
    start = _boundary(before, max(0, parts - _BEFORE)) if parts > 2 * _BEFORE else 0
    mark = "…" if start else ""
    return mark + plain(before[start:], most), mark + plain(after[start:], most)


def _span(raw: bytes, at: int | None) -> tuple[int, int]:
    if len(raw) <= 2 * _REACH_BYTES:
        return 0, len(raw)
    start = _boundary(raw, max(0, (at or 0) - _REACH_BYTES))
    return start, _boundary(raw, min(len(raw), start + 2 * _REACH_BYTES))


def _boundary(raw: bytes, place: int) -> int:
    """The same place, or the beginning of the character that it is in the middle of."""
    for back in range(min(4, place + 1)):
        if place - back == len(raw) or raw[place - back] & 0xC0 != 0x80:
            return place - back
    return place


def _rows(raw: bytes, start: int, end: int, width: int) -> Iterator[list[tuple[int, str]]]:
    """What stands on each line: offsets, and what is shown for them. The end of the bytes has an offset."""
    row: list[tuple[int, str]] = []
    used, offset = 0, start
    for char in raw[start:end].decode("utf-8", "surrogateescape"):
        shown = "" if char == "\n" else _printable(char)
        if used + cell_len(shown) > width:
            yield row
            row, used = [], 0
        row.append((offset, shown))
        used += cell_len(shown)
        offset += len(char.encode("utf-8", "surrogateescape"))
        if char == "\n":
            yield row
            row, used = [], 0
    yield [*row, (offset, "")]


def _printable(char: str) -> str:
    if char.isprintable():
        return char
    if "\udc80" <= char <= "\udcff":  # a byte that is no character
        return f"\\x{ord(char) & 0xFF:02x}"
    return char.encode("unicode_escape").decode()
