"""Poison: a number, chance and a clock flow in, an entry that consumers must refuse flows out. Pure.

For every reason there is (event.py) a handful of ways to deserve it, as broken senders find them. Each
entry holds random bits, so that its hash tells it from every other; the same seed and clock give the
same bytes. The verdict does not depend on when the entry is read: what is too old or too far ahead is
so by years.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from pipeline.entry import MAX_ARRAY_BYTES, MAX_ARRAY_EVENTS, Form, array_of
from pipeline.event import (
    INT32_MAX,
    INT32_MIN,
    INT64_MAX,
    KARMA_MAX,
    MAX_DEPTH,
    MAX_DETAILS_BYTES,
    MAX_EVENT_BYTES,
    MAX_PLAYER_CHARS,
    Event,
    Reason,
    datetime_of,
    uuid7,
)

if TYPE_CHECKING:
    import random

# Whoever runs a consumer on poison has a constraint in the database that refuses players of this name.
REFUSED_BY_DATABASE: Final = "refused by the database"
# Every reason, in the order in which ``poison`` goes round them.
REASONS: Final = tuple(Reason)

_HOUR_MS: Final = 3_600_000
_YEAR_MS: Final = 365 * 24 * _HOUR_MS
# The last moment that an id can hold: the year 10889, which no calendar of Python's knows.
_LAST_MS: Final = 2**48 - 1
_YEAR_5138_MS: Final = 10**14


class Poison(NamedTuple):
    """An entry that is to be refused."""

    reason: Reason
    # Names and values in turn, as XADD takes them.
    fields: tuple[bytes, ...]
    # What the quarantine keeps of it.
    payload: bytes


Maker = Callable[["random.Random", int], bytes]


def poison(number: int, rng: random.Random, now_ms: int) -> Poison:
    """The entry of that number: each reason comes in its turn, and in each round in another way."""
    turn, place = divmod(number, len(REASONS))
    return made(REASONS[place], turn, rng, now_ms)


def made(reason: Reason, turn: int, rng: random.Random, now_ms: int) -> Poison:
    """An entry to be refused for that reason, in one of the ways: they come round with ``turn``."""
    if reason is Reason.NOT_AN_EVENT_ENTRY:
        fields = _foreign(turn, rng, now_ms)
        kept = json.dumps([field.decode("latin-1") for field in fields]).encode()
        return Poison(reason, fields, kept)
    makers = _MAKERS[reason]
    payload = makers[turn % len(makers)](rng, now_ms)
    form = Form.EVENTS if reason is Reason.BAD_ARRAY else Form.EVENT
    return Poison(reason, (form.value, payload), payload)


def _foreign(turn: int, rng: random.Random, now_ms: int) -> tuple[bytes, ...]:
    """Fields of an entry that somebody else's program put on the stream."""
    good, nonce = _dumped(_event(rng, now_ms)), rng.randbytes(12)
    ways = (
        (b"Event", good),
        (Form.EVENT.value, good, b"more", b"1"),
        (b"\xff\0", nonce),
        (Form.EVENT.value, b"", b"", nonce),
        (Form.EVENTS.value, array_of([good]), Form.EVENT.value, good),
        (nonce, good, nonce, good),
    )
    return ways[turn % len(ways)]


# --- the ways to write it


def _event(rng: random.Random, now_ms: int) -> dict[str, Any]:
    """A valid event as its sender thinks of it. Two of its values are unique: the id and the nonce."""
    return {
        "id": _id(rng, now_ms),
        "ts": _iso(now_ms),
        "player": "Stray Dog",
        "action": "kill_enemy",
        "xp_delta": 5,
        "karma_delta": 1,
        "karma_total": 16,
        "rank": "Guardian",
        "energy_source": None,
        "details": {"nonce": _nonce(rng)},
    }


def _id(rng: random.Random, ms: int) -> str:
    return str(uuid7(ms, rng.getrandbits(74)))


def _nonce(rng: random.Random) -> str:
    return f"{rng.getrandbits(96):024x}"


def _iso(ms: int) -> str:
    return datetime_of(ms).isoformat(timespec="milliseconds")


def _dumped(event: Any) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


def _with(**changes: Any) -> Maker:
    """An event some of whose values are others."""
    return lambda rng, now_ms: _dumped(_event(rng, now_ms) | changes)


def _without(key: str) -> Maker:
    """An event that lacks a key."""

    def make(rng: random.Random, now_ms: int) -> bytes:
        event = _event(rng, now_ms)
        del event[key]
        return _dumped(event)

    return make


def _written(**texts: str) -> Maker:
    """An event some of whose values are written as this text, be it JSON or not."""

    def make(rng: random.Random, now_ms: int) -> bytes:
        written = {key: json.dumps(value) for key, value in _event(rng, now_ms).items()} | texts
        body = ",".join(f"{json.dumps(key)}:{text}" for key, text in written.items())
        return f"{{{body}}}".encode()

    return make


def _tampered(tamper: Callable[[bytes], bytes]) -> Maker:
    """An event whose bytes suffered on the way."""
    return lambda rng, now_ms: tamper(_dumped(_event(rng, now_ms)))


def _drawn(change: Callable[[random.Random, int], dict[str, Any]]) -> Maker:
    """An event with changes that depend on chance or on the clock."""
    return lambda rng, now_ms: _dumped(_event(rng, now_ms) | change(rng, now_ms))


def _at(ms_of: Callable[[int], int], *, with_ts: bool = True) -> Maker:
    """An event of another time, its id and its ts in agreement."""

    def change(rng: random.Random, now_ms: int) -> dict[str, Any]:
        ms = ms_of(now_ms)
        return {"id": _id(rng, ms), "ts": _iso(ms) if with_ts else None}

    return _drawn(change)


def _in_array(begin: bytes, end: bytes) -> Maker:
    """An event between what should make it an array and does not."""
    return _tampered(lambda event: begin + event + end)


def _nested(levels: int) -> str:
    return "[" * levels + "]" * levels


_MAKERS: Final[dict[Reason, tuple[Maker, ...]]] = {
    Reason.BAD_ARRAY: (
        _in_array(b"", b""),
        _in_array(b"[", b""),
        _in_array(b"", b"]"),
        _in_array(b"[", b",]"),
        _in_array(b"[", b"][]"),
        _in_array(b'{"events":[', b"]}"),
        _in_array(b"\xef\xbb\xbf[", b"]"),  # a byte order mark
        _in_array(b"[", b",0" * MAX_ARRAY_EVENTS + b"]"),
        _in_array(b"[", b"]".ljust(MAX_ARRAY_BYTES)),
        _tampered(lambda event: array_of([event, event[:-1]])),
        _tampered(lambda event: array_of([event]).decode().encode("utf-16")),
    ),
    Reason.TOO_LARGE: (
        _with(details={"log": "x" * 70_000}),
        _tampered(lambda event: event.ljust(MAX_EVENT_BYTES + 1)),
        _tampered(lambda event: event + b"[" * 70_000),
    ),
    Reason.NOT_JSON: (
        _tampered(lambda event: event[:-1]),
        _tampered(lambda event: event.replace(b"Stray", b"Str\xe4y")),  # Latin-1
        _tampered(lambda event: event.replace(b'"', b"'")),
        _tampered(lambda event: event + b"}"),
        _tampered(lambda event: event[:-1] + b",}"),
        _tampered(lambda event: b"\xef\xbb\xbf" + event),  # a byte order mark
        _tampered(lambda event: event.decode().encode("utf-16")),
        _tampered(lambda event: event.replace(b"Stray", b"St\0ay")),
        _tampered(lambda event: event.replace(b"Stray", b"\xed\xa0\x80")),  # a surrogate, raw
        lambda rng, _: b"\xff" + rng.randbytes(40),
    ),
    Reason.NOT_AN_OBJECT: (
        lambda rng, now_ms: _dumped([_event(rng, now_ms)]),
        lambda rng, now_ms: _dumped(json.dumps(_event(rng, now_ms))),  # encoded twice
        lambda rng, _: _dumped(rng.getrandbits(100)),
        lambda rng, now_ms: _dumped(_id(rng, now_ms)),
    ),
    Reason.NOT_FINITE: (
        _written(xp_delta="NaN"),
        _written(karma_total="Infinity"),
        _written(details='{"energy":-Infinity}'),
        _written(extra="[NaN]"),
    ),
    Reason.TOO_DEEP: (
        _written(details=f'{{"a":{_nested(MAX_DEPTH - 1)}}}'),
        _written(details='{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH),
        _written(extra=_nested(20_000)),
    ),
    Reason.BAD_TEXT: (
        _written(player='"Co\\u0000le"'),
        _written(details='{"mission":"\\ud800"}'),
        _written(rank='"\\udfff\\ud800"'),
        _written(details='{"a":[{"\\u0000":1}]}'),
        _written(**{"extra\0": "1"}),
    ),
    Reason.MISSING_KEY: tuple(_without(key) for key in Event.__struct_fields__[:8]),
    Reason.BAD_TYPE: (
        _with(player=7),
        _with(xp_delta="5"),
        _with(xp_delta=5.0),
        _with(karma_total=True),
        _with(details=["a", "list"]),
        _with(id=12),
        _with(action=None),
        _with(seq="1"),
        _with(energy_source={"kind": "car"}),
    ),
    Reason.OUT_OF_RANGE: (
        _with(xp_delta=INT32_MAX + 1),
        _with(xp_delta=INT32_MIN - 1),
        _with(karma_delta=2**40),
        _with(karma_total=KARMA_MAX + 1),
        _with(seq=0),
        _with(seq=INT64_MAX + 1),
        _written(details='{"score":1e400}'),
        _written(xp_delta="-1e400"),
        _written(details=f'{{"score":{"9" * 5000}}}'),
    ),
    Reason.UNKNOWN_ACTION: (
        _with(action="fly"),
        _with(action=""),
        _with(action="Kill_Enemy"),
        _with(action="kill_enemy "),
    ),
    Reason.UNKNOWN_VERSION: (_with(v=2), _with(v="1"), _with(v=True), _with(v=None), _with(v=1.0)),
    Reason.BAD_PLAYER: (
        _with(player=""),
        _with(player="x" * (MAX_PLAYER_CHARS + 1)),
        _with(player="⚡" * (MAX_PLAYER_CHARS + 1)),
    ),
    Reason.NOT_UUID7: (
        _drawn(lambda rng, _: {"id": str(UUID(int=rng.getrandbits(128), version=4))}),
        _drawn(lambda rng, now_ms: {"id": str(UUID(int=UUID(_id(rng, now_ms)).int | 3 << 62))}),
        _drawn(lambda rng, now_ms: {"id": f"{{{_id(rng, now_ms)}}}"}),
        _drawn(lambda rng, now_ms: {"id": f"urn:uuid:{_id(rng, now_ms)}"}),
        _drawn(lambda rng, now_ms: {"id": _id(rng, now_ms)[:-1]}),
        _with(id=""),
    ),
    Reason.BAD_TS: (
        _drawn(lambda _, now_ms: {"ts": _iso(now_ms)[:-6]}),  # no offset
        _drawn(lambda _, now_ms: {"ts": now_ms}),
        _drawn(lambda _, now_ms: {"ts": f"{_iso(now_ms)[:-6]}+29:00"}),
        _with(ts="yesterday"),
        _with(ts="2026-02-30T12:00:00Z"),
        _with(ts="2016-12-31T23:59:60Z"),
        _with(ts=""),
    ),
    Reason.TS_MISMATCH: (
        _drawn(lambda _, now_ms: {"ts": _iso(now_ms + 1)}),
        _drawn(lambda _, now_ms: {"ts": f"{_iso(now_ms)[:-6]}+01:00"}),
        _with(ts="0001-01-01T00:00:00Z"),
        _drawn(lambda rng, _: {"id": _id(rng, _LAST_MS)}),
    ),
    Reason.TOO_OLD: (
        _at(lambda now_ms: now_ms // 1000),  # seconds taken for milliseconds: 1970
        _at(lambda now_ms: now_ms - 10 * _YEAR_MS),
        _at(lambda _: 0, with_ts=False),
    ),
    Reason.IN_FUTURE: (
        _at(lambda now_ms: now_ms + _YEAR_MS),
        _at(lambda _: _YEAR_5138_MS),
        _at(lambda _: _LAST_MS, with_ts=False),
    ),
    Reason.BAD_RANK: (
        _with(rank="Hero"),
        _with(rank="guardian"),
        _with(rank=""),
        _with(karma_total=-100),
    ),
    Reason.BAD_XP: (_with(xp_delta=-1), _with(xp_delta=INT32_MIN, action="mission_complete")),
    Reason.BAD_ENERGY_SOURCE: (
        _with(energy_source="street light"),
        _with(energy_source="", action="moral_choice"),
    ),
    Reason.DETAILS_TOO_LARGE: (
        _with(details={"log": "x" * MAX_DETAILS_BYTES}),
        _with(details={"log": "⚡" * (MAX_DETAILS_BYTES // 3)}),
        _with(**{f"extra_{number}": number for number in range(MAX_DETAILS_BYTES // 10)}),
    ),
    Reason.AMBIGUOUS_KEY: (
        _with(details={"combo": 1}, combo=2),
        _with(details={"district": "Neon"}, district="Neon"),
    ),
    Reason.DATABASE: (
        _drawn(lambda rng, _: {"player": f"{REFUSED_BY_DATABASE} {rng.getrandbits(32):08x}"}),
        _with(player=REFUSED_BY_DATABASE),
    ),
}
