"""Where bytes break: refused bytes and the reason flow in, the place at which they break flows out. Pure.

A place is an offset in bytes. Not every reason has one: an absent key is nowhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from pipeline.event import MAX_DEPTH, MAX_EVENT_BYTES, Event, Reason

_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_NOT_FINITE: Final = re.compile(rf"{_STRING}|(-?Infinity|NaN)", re.DOTALL)
_SIGN: Final = re.compile(rf"{_STRING}|[\[\]{{}}:]", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_WORD: Final = re.compile(r"[a-z_]+")
_KEYS: Final = frozenset(Event.__struct_fields__)
# Whose detail does not begin with the key.
_KEY_OF: Final = {
    Reason.TOO_OLD: "id",
    Reason.IN_FUTURE: "id",
    Reason.NOT_UUID7: "id",
    Reason.DETAILS_TOO_LARGE: "details",
}


def place(raw: bytes, reason: Reason, detail: str) -> int | None:
    """Where bytes that were refused for this reason break; None where no place can be named."""
    if reason is Reason.TOO_LARGE:
        return min(MAX_EVENT_BYTES, len(raw))
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return error.start
    at = _in_text(text, reason, detail)
    return None if at is None else len(text[:at].encode())


def _in_text(text: str, reason: Reason, detail: str) -> int | None:
    """The same, in characters."""
    if reason in {Reason.NOT_JSON, Reason.BAD_ARRAY}:
        return _not_json(text)
    if reason is Reason.NOT_AN_OBJECT:
        return _after_space(text, 0)
    if reason is Reason.NOT_FINITE:
        return next((match.start() for match in _NOT_FINITE.finditer(text) if match[1]), None)
    if reason is Reason.TOO_DEEP:
        return next((at for at, depth in _depths(text) if depth > MAX_DEPTH), None)
    if reason is Reason.BAD_TEXT:
        return _bad_text(text)
    word = _WORD.match(detail)
    key = _KEY_OF.get(reason) or (word[0] if word and word[0] in _KEYS else None)
    return None if key is None else value_of(text, key)


def _not_json(text: str) -> int | None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.pos
    except (ValueError, RecursionError):
        return None
    return None


def _depths(text: str) -> Iterator[tuple[int, int]]:
    """Where each object and array begins, and how deep it is."""
    depth = 0
    for match in _SIGN.finditer(text):
        if match[0] in "[{":
            depth += 1
            yield match.start(), depth
        elif match[0] in "]}":
            depth -= 1


def _bad_text(text: str) -> int | None:
    """The first NUL, or half of a pair of surrogates."""
    high: int | None = None  # where a first half stands that waits for its second
    end = 0
    for match in _ESCAPE.finditer(text):
        code = int(match[1], 16) if match[1] else None
        is_low = code is not None and 0xDC00 <= code <= 0xDFFF
        if high is not None:
            if not is_low or match.start() != end:
                return high
            high = None
        elif is_low or code == 0:
            return match.start()
        elif code is not None and 0xD800 <= code <= 0xDBFF:
            high = match.start()
        end = match.end()
    return high


def value_of(text: str, key: str) -> int | None:
    """Where the value of a key of the outermost object begins, the last where there are several."""
    depth, found, name = 0, None, ""
    for match in _SIGN.finditer(text):
        sign = match[0]
        if sign == ":" and depth == 1:
            if _plain(name) == key:
                found = _after_space(text, match.end())
            name = ""
        elif sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        elif depth == 1:
            name = sign
    return found


def _plain(name: str) -> str | None:
    try:
        value = json.loads(name, strict=False)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
