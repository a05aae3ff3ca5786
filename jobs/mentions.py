"""Mentions: a name and bytes flow in, whether they are that player's, or what stays without them, flows out.

Pure. What can be read tells whose it is. What cannot be read is theirs when their name stands in it: then it
goes whole, since nobody could tell what else it holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import msgspec

from pipeline.entry import Entry, Form, array_of, split
from pipeline.event import Refused

_decode: Final = msgspec.json.Decoder().decode


class Kept(Enum):
    """What stays of an entry, where it is not something new."""

    ALL = "all"
    NOTHING = "nothing"


class Name:
    """A player's name, as it may stand in bytes."""

    def __init__(self, player: str) -> None:
        """``player``: the name as the events have it."""
        self._player = player
        written = (player, json.dumps(player)[1:-1], json.dumps(player, ensure_ascii=False)[1:-1])
        self.forms: tuple[bytes, ...] = tuple({one.encode("utf-8", "replace") for one in written})
        # The fields of a foreign entry stand in a JSON array, a character for each byte: see stream.py.
        self._foreign = tuple(
            json.dumps(one.decode("latin-1"))[1:-1].encode() for one in self.forms
        )

    def is_in(self, raw: bytes) -> bool:
        """Whether the name stands in it, in one of the ways that JSON writers write it."""
        return any(form in raw for form in self.forms)

    def owns(self, payload: bytes) -> bool:
        """Whether an event, or what should be one, is theirs."""
        try:
            found: Any = _decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self.is_in(payload)
        if isinstance(found, Mapping):
            player = found.get("player")
            # What another sent may mention them; what says of nobody that it is theirs is no event.
            return player == self._player if isinstance(player, str) else self.is_in(payload)
        return self.is_in(payload)

    def without(self, entry: Entry) -> Kept | bytes:
        """What stays of an entry of the stream: all, nothing, or an array of the others' events."""
        if entry.form is Form.FOREIGN:
            is_theirs = any(form in entry.payload for form in self._foreign)
            return Kept.NOTHING if is_theirs else Kept.ALL
        if entry.form is Form.EVENT:
            return Kept.NOTHING if self.owns(entry.payload) else Kept.ALL
        try:
            payloads = split(entry.payload)
        except Refused:
            return Kept.NOTHING if self.is_in(entry.payload) else Kept.ALL
        others = [payload for payload in payloads if not self.owns(payload)]
        if len(others) == len(payloads):
            return Kept.ALL
        return array_of(others) if others else Kept.NOTHING
