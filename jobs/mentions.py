"""Mentions: a name and bytes flow in, whether they are that player's, or what stays without them, flows out.

Pure. What can be read tells whose it is. What cannot, or tells of nobody, is theirs when their name stands in
it by itself: as a whole string of JSON, however that is escaped, or, where there are no strings, as a whole
word. Then it goes whole, since nobody could tell what else it holds. A name may be any text: a word inside a
longer string is perhaps another's name. And what is no UTF-8 text may spell theirs in its own way. Such bytes
stay, and are counted, for a person to look at.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from jobs.verdict import parsed
from pipeline.entry import Entry, Form, array_of, payloads_of
from pipeline.event import Refused

_decode: Final = msgspec.json.Decoder().decode
# What may be a string of JSON, from each quote on, for where the beginning is gone nobody knows which of two
# quotes opens one. A quote behind a backslash opens none: so each byte is looked at twice at most.
_STRING: Final = re.compile(r'(?<!\\)(?="([^"\\]*(?:\\.[^"\\]*)*)(?:"|\\?\Z))', re.DOTALL)
_ESCAPE: Final = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))",
    re.DOTALL,
)
_SHORT: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
# JSON in a string of JSON in a string of JSON: no sender is known to go further.
_DEPTH: Final = 2


class Kept(Enum):
    """What stays of an entry, where it is not something new."""

    ALL = "all"
    NOTHING = "nothing"


class Said(Enum):
    """What bytes say of a player, the weakest first."""

    NOTHING = 0
    # They may be theirs or another's.
    UNSURE = 1
    THEIRS = 2


@dataclass(frozen=True)
class Looked:
    """What stays of an entry, and what in that may be theirs all the same."""

    kept: Kept | bytes
    unsure: Sequence[bytes] = ()


class Name:
    """A player's name, as it may stand in bytes."""

    def __init__(self, player: str) -> None:
        """``player``: the name as the events have it."""
        self._player = player

    def says(self, payload: bytes) -> Said:
        """Whether an event, or what should be one, is theirs."""
        found = _read(payload)
        if isinstance(found, Mapping) and isinstance(player := found.get("player"), str):
            # What another sent may mention them; what says of nobody that it is theirs is no event.
            return Said.THEIRS if player == self._player else Said.NOTHING
        text = payload.decode("utf-8", "surrogateescape")
        if (said := self._is_in(text, _DEPTH)) is not Said.NOTHING:
            return said
        return Said.NOTHING if _is_text(payload) and not self._is_cut(text) else Said.UNSURE

    def owns(self, payload: bytes) -> bool:
        """The same, in a word: what is not sure is not theirs."""
        return self.says(payload) is Said.THEIRS

    def look_at(self, entry: Entry) -> Looked:
        """What stays of an entry of the stream: all, nothing, or an array of the others' events."""
        if entry.form is Form.FOREIGN:
            payloads = [entry.payload]
            said = [
                max(map(self.says, _fields(entry.payload)), key=_strength, default=Said.NOTHING)
            ]
        else:
            try:
                payloads = payloads_of(entry)
            except Refused:
                payloads = [entry.payload]
            said = [self.says(payload) for payload in payloads]
        if not any(map(_strength, said)):  # nearly always
            return Looked(Kept.ALL)
        pairs = [*zip(payloads, said, strict=True)]
        unsure = [payload for payload, one in pairs if one is Said.UNSURE]
        others = [payload for payload, one in pairs if one is not Said.THEIRS]
        if len(others) == len(payloads):
            return Looked(Kept.ALL, unsure)
        return Looked(array_of(others) if others else Kept.NOTHING, unsure)

    def without(self, entry: Entry) -> Kept | bytes:
        """The same, without the doubts."""
        return self.look_at(entry).kept

    def _is_in(self, text: str, depth: int) -> Said:
        """What a text says in which the name may stand anywhere, escaped or not."""
        if self._player not in text and "\\" not in text:
            return Said.NOTHING
        for string in (text, text.partition('"')[0], *_STRING.findall(text)):
            value = _unescaped(string)
            if value == self._player:
                return Said.THEIRS
            is_nested = depth and string is not text and value.lstrip().startswith(("{", "["))
            if is_nested and self._is_in(value, depth - 1) is Said.THEIRS:
                return Said.THEIRS
        if not self._is_word_in(_unescaped(text)):
            return Said.NOTHING
        return Said.UNSURE if '"' in text else Said.THEIRS

    def _is_word_in(self, text: str) -> bool:
        """Whether the name stands in it with no letter, digit or the like before or behind it."""
        name, at = self._player, text.find(self._player)
        while at >= 0:
            end = at + len(name)
            is_open = at == 0 or not (_is_of_a_word(text[at - 1]) and _is_of_a_word(name[0]))
            is_shut = end == len(text) or not (_is_of_a_word(text[end]) and _is_of_a_word(name[-1]))
            if is_open and is_shut:
                return True
            at = text.find(name, at + 1)
        return False

    def _is_cut(self, text: str) -> bool:
        """Whether it begins, or ends, in the middle of a string that may be the name."""
        strings = _STRING.findall(text)
        if not strings:
            return False
        head, tail = (_unescaped(one) for one in (text.partition('"')[0], strings[-1]))
        return bool(head and self._player.endswith(head)) or bool(
            tail and self._player.startswith(tail)
        )


def _strength(said: Said) -> int:
    return said.value


def _read(payload: bytes) -> Any:
    """What bytes say as JSON, NaN and the like included; None where they are none."""
    try:
        return _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return parsed(payload)


def _fields(payload: bytes) -> Iterator[bytes]:
    """The fields and values of a foreign entry: strings with a character for each byte, see stream.py.

    Of what was kept only in part, those that are whole.
    """
    found = parsed(payload)
    strings = (
        [one for one in found if isinstance(one, str)]
        if isinstance(found, list)
        else [*map(_unescaped, _STRING.findall(payload.decode("latin-1")))]
    )
    for one in strings:
        yield one.encode("latin-1", "replace")


def _unescaped(text: str) -> str:
    """The text that JSON's escapes stand for; what is no escape stays as it is."""
    return _ESCAPE.sub(_meant, text) if "\\" in text else text


def _meant(escape: re.Match[str]) -> str:
    high, low, unit, char = escape.groups()
    if unit is not None:
        return chr(int(unit, 16))
    if high is not None:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
    return _SHORT.get(char, char)


def _is_of_a_word(char: str) -> bool:
    return char.isalnum() or char == "_" or unicodedata.category(char).startswith("M")


def _is_text(payload: bytes) -> bool:
    """Whether it is text in UTF-8. With NULs it is more likely one with 16 bits a character."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in payload
