"""The entry of the stream: what was read flows in, the events it carries flow out, still as bytes. Pure.

A sender with one event at hand adds an entry with the one field ``event``, a UTF-8 JSON object. One with
many may put them into the field ``events``, a JSON array of such objects: to Redis that is one entry, which
costs it little more than a single event does. An event means the same in either form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final

import msgspec
from msgspec import Raw

from pipeline.event import Reason, Refused

MAX_ARRAY_EVENTS: Final = 1000
# A reader who asked for a thousand small entries may get a thousand of these.
MAX_ARRAY_BYTES: Final = 256 * 1024


class Form(Enum):
    """What an entry carries, by the name of its one field."""

    EVENT = b"event"
    EVENTS = b"events"
    # Anything else: another program's entry.
    FOREIGN = b""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry of the stream as it was read, or one event out of it under that entry's id."""

    id: bytes
    # The value of its one field; where the entry has other fields, all of them (see stream.py).
    payload: bytes
    form: Form = Form.EVENT


_split: Final = msgspec.json.Decoder(list[Raw]).decode
# Finds an element's end whatever the element holds: what JSON forbids in it is not the array's affair.
_LENIENT: Final = json.JSONDecoder(strict=False, parse_int=len, parse_float=len, parse_constant=len)
_SPACE: Final = re.compile(r"[ \t\n\r]*")


def payloads_of(entry: Entry) -> list[bytes]:
    """What an entry carries, each event still as bytes, whether it is one or not. Raises Refused where the
    entry is another program's, or an array that cannot be taken apart.
    """
    if entry.form is Form.EVENT:
        return [entry.payload]
    if entry.form is Form.EVENTS:
        return split(entry.payload)
    raise Refused(
        Reason.NOT_AN_EVENT_ENTRY, "the entry has other fields than the one named event, or events"
    )


def unpacked(entries: Iterable[Entry]) -> tuple[list[Entry], list[tuple[Entry, Refused]]]:
    """The same of many: an entry for each event, under the id of the one that brought it; and those that
    carry none, with why.
    """
    found: list[Entry] = []
    refused: list[tuple[Entry, Refused]] = []
    for entry in entries:
        if entry.form is Form.EVENT:  # nearly always: no list is made for it
            found.append(entry)
            continue
        try:
            found += [Entry(entry.id, payload) for payload in payloads_of(entry)]
        except Refused as why:
            # It is kept, and with it would be all that was looked at on the way.
            refused.append((entry, why.with_traceback(None)))
    return found, refused


def split(array: bytes) -> list[bytes]:
    """The elements of an array, each to the byte as it stood there. Raises Refused.

    Only the array is looked at: whether its elements are events is for ``event.decode_all`` to say, so that
    a bad one does not take its neighbours with it.
    """
    if len(array) > MAX_ARRAY_BYTES:
        raise _refused(f"{len(array)} bytes, at most {MAX_ARRAY_BYTES}")
    try:
        elements = [bytes(element) for element in _split(array)]
    except (msgspec.MsgspecError, RecursionError):
        elements = _split_leniently(array)
    if not 1 <= len(elements) <= MAX_ARRAY_EVENTS:
        raise _refused(f"{len(elements)} events, 1 to {MAX_ARRAY_EVENTS} are allowed")
    return elements


def _split_leniently(array: bytes) -> list[bytes]:
    # Latin-1 has a character for every byte, and JSON's own signs stand in it where they do in UTF-8.
    text = array.decode("latin-1")
    elements: list[bytes] = []
    at, sign = _after_space(text, 0), "["
    while text[at : at + 1] == sign:
        start = _after_space(text, at + 1)
        try:
            _, end = _LENIENT.raw_decode(text, start)
        except ValueError as error:
            raise _refused(f"no JSON array: {error}") from None
        except RecursionError:
            raise _refused("nested too deep to be read") from None
        elements.append(array[start:end])
        if len(elements) > MAX_ARRAY_EVENTS:
            return elements
        at, sign = _after_space(text, end), ","
    if not elements or text[at : at + 1] != "]" or _after_space(text, at + 1) != len(text):
        raise _refused("no JSON array")
    return elements


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _refused(detail: str) -> Refused:
    return Refused(Reason.BAD_ARRAY, detail)


def array_of(payloads: Iterable[bytes]) -> bytes:
    """The array that carries these events."""
    return b"[" + b",".join(payloads) + b"]"


def packed_up(payloads: Sequence[bytes], most: int) -> list[tuple[Form, bytes]]:
    """The entries, up to ``most`` events in each and none larger than is taken, that carry these events in
    their order."""
    return [
        (Form.EVENT, piece[0]) if len(piece) == 1 else (Form.EVENTS, array_of(piece))
        for piece in _pieces(payloads, most)
    ]


def _pieces(payloads: Sequence[bytes], most: int) -> list[Sequence[bytes]]:
    pieces = [payloads[first : first + most] for first in range(0, len(payloads), most)]
    # Each event brings a comma or a bracket with it. Nearly always all of them fit.
    if all(sum(map(len, piece)) + len(piece) + 1 <= MAX_ARRAY_BYTES for piece in pieces):
        return pieces
    pieces, piece, size_bytes = [], list[bytes](), 1
    for payload in payloads:
        size_bytes += len(payload) + 1
        if piece and (len(piece) == most or size_bytes > MAX_ARRAY_BYTES):
            pieces.append(piece)
            piece, size_bytes = [], len(payload) + 2
        piece.append(payload)
    return [*pieces, piece]
