"""The event on the wire: bytes flow in, an Event or a reason for refusing them flows out.

An event is a UTF-8 JSON object; entry.py says how the stream's entries carry it. Nearly every one is
well-formed, so ``decode`` first tries one typed pass. Whatever that pass does not accept outright is
inspected slowly, key by key, and becomes an Event after all (unknown extra keys move into ``details``) or a
``Refused`` that names the first rule broken. Nothing is guessed, and no input raises anything else.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect
from collections.abc import Iterator, MutableMapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from typing import Annotated, Any, Final, Literal, cast, get_args
from uuid import UUID

import msgspec
from msgspec import Meta, Raw

MAX_EVENT_BYTES: Final = 64 * 1024
MAX_DETAILS_BYTES: Final = 4 * 1024
# Postgres parses deeper, people and dashboards do not: no honest event nests a tenth of this.
MAX_DEPTH: Final = 32
MAX_PLAYER_CHARS: Final = 64
# A producer's clock may run ahead of ours by this much.
MAX_AHEAD_MS: Final = 5 * 60 * 1000
SCHEMA_VERSION: Final = 1

KARMA_MIN: Final = -100
KARMA_MAX: Final = 100
INT32_MIN: Final = -(2**31)
INT32_MAX: Final = 2**31 - 1
INT64_MAX: Final = 2**63 - 1

Action = Literal[
    "kill_enemy", "kill_civilian", "moral_choice", "recharge", "mission_complete", "ability_upgrade"
]
Rank = Literal["Infamous", "Outlaw", "Thug", "Neutral", "Guardian", "Champion", "Hero"]

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)

# The game names its ranks and publishes no numbers: these thresholds are ours. The database repeats
# them in a CHECK constraint, so a change here is also a migration.
EVIL_RANKS: Final[tuple[tuple[int, Rank], ...]] = (
    (-75, "Infamous"),
    (-40, "Outlaw"),
    (-15, "Thug"),
)
GOOD_RANKS: Final[tuple[tuple[int, Rank], ...]] = ((75, "Hero"), (40, "Champion"), (15, "Guardian"))


def _rank(karma: int) -> Rank:
    for limit, name in EVIL_RANKS:
        if karma <= limit:
            return name
    for limit, name in GOOD_RANKS:
        if karma >= limit:
            return name
    return "Neutral"


RANK_BY_KARMA: Final[dict[int, Rank]] = {k: _rank(k) for k in range(KARMA_MIN, KARMA_MAX + 1)}

Int32 = Annotated[int, Meta(ge=INT32_MIN, le=INT32_MAX)]
_NO_DETAILS: Final = Raw(b"null")


class Event(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """One thing a player did.

    ``ts`` is what the sender wrote, if anything; the event's time is ``ts_ms``, which its id fixes.
    ``details`` is the JSON text of an object, or of null.
    """

    id: UUID
    player: Annotated[str, Meta(min_length=1, max_length=MAX_PLAYER_CHARS)]
    action: Action
    xp_delta: Int32
    karma_delta: Int32
    karma_total: Annotated[int, Meta(ge=KARMA_MIN, le=KARMA_MAX)]
    rank: Rank
    energy_source: str | None
    ts: Annotated[datetime, Meta(tz=True)] | None = None
    seq: Annotated[int, Meta(ge=1, le=INT64_MAX)] | None = None
    details: Raw = _NO_DETAILS
    v: Literal[1] = 1

    @property
    def ts_ms(self) -> int:
        """The event's time, in Unix milliseconds."""
        return self.id.int >> 80

    @property
    def details_json(self) -> bytes | None:
        """The details as JSON text, None when there are none."""
        raw = bytes(self.details)
        return None if raw == b"null" else raw


class Reason(StrEnum):
    """Why an entry was refused. These are stored and shown: add to them, never rename."""

    NOT_AN_EVENT_ENTRY = "not_an_event_entry"
    BAD_ARRAY = "bad_array"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    NOT_FINITE = "not_finite"
    TOO_DEEP = "too_deep"
    BAD_TEXT = "bad_text"
    MISSING_KEY = "missing_key"
    BAD_TYPE = "bad_type"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_ACTION = "unknown_action"
    UNKNOWN_VERSION = "unknown_version"
    BAD_PLAYER = "bad_player"
    NOT_UUID7 = "not_uuid7"
    BAD_TS = "bad_ts"
    TS_MISMATCH = "ts_mismatch"
    TOO_OLD = "too_old"
    IN_FUTURE = "in_future"
    BAD_RANK = "bad_rank"
    BAD_XP = "bad_xp"
    BAD_ENERGY_SOURCE = "bad_energy_source"
    DETAILS_TOO_LARGE = "details_too_large"
    AMBIGUOUS_KEY = "ambiguous_key"
    DATABASE = "database"


class Refused(Exception):
    """The entry is not an event."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        # Senders' text may be shown on a terminal and stored as text: keep it short and printable.
        self.detail = detail.encode("ascii", "backslashreplace").decode().replace("\0", "\\0")[:300]


class Window(msgspec.Struct, frozen=True):
    """The event times that are taken, both ends included, in Unix milliseconds."""

    oldest_ms: int
    newest_ms: int

    @classmethod
    def at(cls, now_ms: int, retention_days: int) -> Window:
        """The window at a moment: what retention would not drop, up to a clock five minutes ahead."""
        return cls(now_ms - retention_days * 86_400_000, now_ms + MAX_AHEAD_MS)


def encode(event: Event) -> bytes:
    """The event as it goes onto the stream, with its ts spelled out for people who read the stream."""
    if event.ts is None:
        event = msgspec.structs.replace(event, ts=datetime_of(event.ts_ms))
    return msgspec.json.encode(event)


def datetime_of(ms: int) -> datetime:
    """A Unix time in milliseconds as an aware UTC datetime, without passing through a float."""
    seconds, millis = divmod(ms, 1000)
    return datetime.fromtimestamp(seconds, UTC) + timedelta(milliseconds=millis)


def uuid7(ms: int, random_bits: int) -> UUID:
    """A UUIDv7 (RFC 9562) for a time in Unix milliseconds, from 74 random bits."""
    rand_a = (random_bits >> 62) & 0xFFF
    rand_b = random_bits & (2**62 - 1)
    return UUID(int=(ms << 80) | (7 << 76) | (rand_a << 64) | (2 << 62) | rand_b)


_decode_typed: Final = msgspec.json.Decoder(Event).decode
# Of an id, the bits that say version 7 and the variant, and how they must stand.
_UUID7_MASK: Final = 0xF << 76 | 0b11 << 62
_UUID7_BITS: Final = 7 << 76 | 0b10 << 62
# A time whose digits past the sixth the typed pass rounds: .1229996 came out as .123000, one millisecond too
# many.
_ROUNDED: Final = re.compile(rb"\.\d{3}999[5-9]")
_ESCAPED_NUL: Final = re.compile(rb"\\u0000")


def decode(payload: bytes, window: Window, drift: MutableMapping[str, int] | None = None) -> Event:
    """The event in ``payload``, or Refused. Unknown keys are counted in ``drift`` by name."""
    (answer,) = decode_all([payload], window, drift)
    if isinstance(answer, Refused):
        raise answer
    return answer


def decode_all(
    payloads: Sequence[bytes], window: Window, drift: MutableMapping[str, int] | None = None
) -> list[Event | Refused]:
    """The event in each payload, or why it is none, in their order; far faster than one by one."""
    odd = _odd_places(payloads)
    oldest_ms, newest_ms, ranks = window.oldest_ms, window.newest_ms, RANK_BY_KARMA
    events: list[Event | None] = []
    for place, payload in enumerate(payloads):
        try:
            event = _decode_typed(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            events.append(None)
            continue
        id_int, ts = event.id.int, event.ts
        ts_ms = id_int >> 80
        is_sound = (
            id_int & _UUID7_MASK == _UUID7_BITS
            and oldest_ms <= ts_ms <= newest_ms
            # Both sides are the float nearest to the same fraction, if it is the same: exact.
            and (ts is None or ts.timestamp() == ts_ms / 1000 or _floor_ms(ts) == ts_ms)
            and ranks[event.karma_total] == event.rank
            and (event.xp_delta >= 0 or event.action == "ability_upgrade")
            and (event.energy_source is None or event.action == "recharge")
            and len(payload) <= MAX_EVENT_BYTES
            and place not in odd
        )
        events.append(event if is_sound else None)
    _drop_odd_details(events)
    return [
        _look_closely(payload, window, drift) if event is None else event
        for payload, event in zip(payloads, events, strict=True)
    ]


def _odd_places(payloads: Sequence[bytes]) -> set[int]:
    """Where the payloads stand that hold what the typed pass lets through and must not."""
    # Nearly no payload does: looked for in all of them at once, it takes a tenth of the time.
    blob = b"\0".join(payloads)
    found = [match.start() for match in _ROUNDED.finditer(blob)]
    if b"\\" in blob:
        found += [match.start() for match in _ESCAPED_NUL.finditer(blob)]
    if not found:
        return set()
    ends = list(accumulate([len(payload) + 1 for payload in payloads]))
    return {bisect(ends, start) for start in found}


def _look_closely(
    payload: bytes, window: Window, drift: MutableMapping[str, int] | None
) -> Event | Refused:
    if len(payload) > MAX_EVENT_BYTES:
        return Refused(Reason.TOO_LARGE, f"{len(payload)} bytes, at most {MAX_EVENT_BYTES}")
    try:
        return _inspect(payload, window, drift)
    except Refused as refused:
        # It is kept, and with it would be all that was looked at on the way.
        return refused.with_traceback(None)


def details_of(events: Sequence[Event]) -> list[bytes]:
    """The details of each event as JSON text, ``null`` where there are none."""
    # Joined and split again: a fifth of the time that it takes one by one. No JSON text holds a NUL.
    return b"\0".join([event.details for event in events]).split(b"\0") if events else []


# Everything that may stand before an exponent is a 0 afterwards, and every sign of one an e.
_EXPONENT_SHAPE: Final = bytes.maketrans(b"123456789.E", b"0000000000e")
# A number with this many digits in a row may be too large for the database, as one with an exponent may.
_MANY_DIGITS: Final = 300
_DIGIT_RUN: Final = re.compile(rb"[0-9]{%d}" % _MANY_DIGITS)
_HANDFUL: Final = 50
_BRACE: Final = ord("{")
# An escaped NUL, or half a pair of surrogates.
_ODD_ESCAPE: Final = re.compile(rb"\\u(?:0000|[dD])")


def _drop_odd_details(events: list[Event | None]) -> None:
    """Put None in the place of each event whose details are not plainly storable."""
    places = [place for place, event in enumerate(events) if event is not None]
    texts = details_of([event for event in events if event is not None])
    # By the handful: one that is odd sends its neighbours the slower way as well.
    for first in range(0, len(places), _HANDFUL):
        handful = texts[first : first + _HANDFUL]
        if _are_plain(handful):
            continue
        for place, text in zip(places[first : first + _HANDFUL], handful, strict=True):
            if not _is_plain(text):
                events[place] = None


def _are_plain(texts: list[bytes]) -> bool:
    """Whether all details are flat objects of plain ASCII, or null; False means: look at each."""
    blob = b"\0".join(texts)
    objects = [text[0] for text in texts].count(_BRACE)
    return (
        objects + texts.count(b"null") == len(texts)
        and blob.isascii()
        and b"\\" not in blob
        and blob.count(b"{") + blob.count(b"[") == objects
        and b"0e" not in blob.translate(_EXPONENT_SHAPE)
        and max(map(len, texts)) < _MANY_DIGITS
    )


def _is_plain(details: bytes) -> bool:
    """Whether details are plainly storable, without parsing them; False means: look closely."""
    return details == b"null" or (
        details.startswith(b"{")
        and len(details) <= MAX_DETAILS_BYTES
        and (details.isascii() or _is_utf8(details))
        and (b"\\u" not in details or _ODD_ESCAPE.search(details) is None)
        and details.count(b"{") + details.count(b"[") < MAX_DEPTH
        and b"0e" not in details.translate(_EXPONENT_SHAPE)
        and (len(details) < _MANY_DIGITS or _DIGIT_RUN.search(details) is None)
    )


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def _floor_ms(ts: datetime) -> int:
    return (ts - _EPOCH) // _MILLISECOND


# --- the slow road: one rule after the other, in the order a person would look


def _inspect(payload: bytes, window: Window, drift: MutableMapping[str, int] | None) -> Event:
    fields = _parse(payload)
    for key in Event.__struct_fields__[:8]:
        if key not in fields:
            raise Refused(Reason.MISSING_KEY, f"{key} is missing")
    version = fields.get("v", SCHEMA_VERSION)
    if type(version) is not int or version != SCHEMA_VERSION:
        raise Refused(Reason.UNKNOWN_VERSION, f"v is {_short(version)}, this is {SCHEMA_VERSION}")
    event_id = _id(_typed(fields, "id", str))
    ts_ms = event_id.int >> 80
    _check_ts(fields.get("ts"), ts_ms)
    _check_window(ts_ms, window)
    action = _typed(fields, "action", str)
    if action not in ACTIONS:
        raise Refused(Reason.UNKNOWN_ACTION, f"action is {_short(action)}")
    player = _typed(fields, "player", str)
    if not 1 <= len(player) <= MAX_PLAYER_CHARS:
        raise Refused(
            Reason.BAD_PLAYER, f"player has {len(player)} characters, 1 to 64 are allowed"
        )
    xp_delta = _integer(fields, "xp_delta", INT32_MIN, INT32_MAX)
    karma_delta = _integer(fields, "karma_delta", INT32_MIN, INT32_MAX)
    karma_total = _integer(fields, "karma_total", KARMA_MIN, KARMA_MAX)
    seq = None if fields.get("seq") is None else _integer(fields, "seq", 1, INT64_MAX)
    if xp_delta < 0 and action != "ability_upgrade":
        raise Refused(Reason.BAD_XP, f"xp_delta is {xp_delta}, only ability_upgrade may take XP")
    rank = _typed(fields, "rank", str)
    if rank != RANK_BY_KARMA[karma_total]:
        right = RANK_BY_KARMA[karma_total]
        raise Refused(Reason.BAD_RANK, f"rank is {_short(rank)}, karma {karma_total} is {right}")
    energy_source = fields["energy_source"]
    if energy_source is not None:
        energy_source = _typed(fields, "energy_source", str)
        if action != "recharge":
            raise Refused(Reason.BAD_ENERGY_SOURCE, f"energy_source is set for {action}")
    details, unknown = _details(fields)
    if drift is not None:
        for key in unknown:
            drift[key] = drift.get(key, 0) + 1
    return Event(
        id=event_id,
        player=player,
        action=action,
        xp_delta=xp_delta,
        karma_delta=karma_delta,
        karma_total=karma_total,
        rank=RANK_BY_KARMA[karma_total],
        energy_source=energy_source,
        ts=None if fields.get("ts") is None else datetime_of(ts_ms),
        seq=seq,
        details=details,
    )


def _parse(payload: bytes) -> dict[str, Any]:
    """The payload as an object of clean text, finite numbers and modest depth."""
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(Reason.NOT_JSON, f"not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        value = _decode_json(text)
    except json.JSONDecodeError as error:
        raise Refused(Reason.NOT_JSON, f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise Refused(Reason.TOO_DEEP, f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:  # Python's own bound on the digits of an integer
        raise Refused(Reason.OUT_OF_RANGE, "an integer has thousands of digits") from None
    if not isinstance(value, dict):
        raise Refused(Reason.NOT_AN_OBJECT, f"a JSON {_json_type(value)}, not an object")
    if b"\\u" not in payload and payload.count(b"{") + payload.count(b"[") <= MAX_DEPTH:
        return cast("dict[str, Any]", value)  # it has nothing of what is looked for below
    for depth, item in _walk(value):
        if depth > MAX_DEPTH and isinstance(item, dict | list):
            raise Refused(Reason.TOO_DEEP, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(item, str) and ("\0" in item or not _encodes(item)):
            raise Refused(Reason.BAD_TEXT, f"a NUL or a lone surrogate in {_short(item)}")
    return cast("dict[str, Any]", value)


def _not_finite(name: str) -> float:
    raise Refused(Reason.NOT_FINITE, f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Refused(Reason.OUT_OF_RANGE, f"{text[:40]} is too large a number")
    return number


# Made once: it takes longer than to parse an event.
_decode_json: Final = json.JSONDecoder(parse_constant=_not_finite, parse_float=_finite).decode


def _walk(value: object, depth: int = 1) -> Iterator[tuple[int, object]]:
    """Every key and value with its depth; the stack is ours, so depth cannot end the process."""
    stack = [(depth, value)]
    while stack:
        level, item = stack.pop()
        yield level, item
        if level > MAX_DEPTH:
            continue
        if isinstance(item, dict):
            stack.extend((level, key) for key in item)
            stack.extend((level + 1, child) for child in item.values())
        elif isinstance(item, list):
            stack.extend((level + 1, child) for child in item)


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _json_type(value: object) -> str:
    names: dict[type, str] = {str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "array" if isinstance(value, list) else "null")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _typed(fields: dict[str, Any], key: str, kind: type) -> Any:
    value = fields[key]
    if type(value) is not kind:  # bool is an int in Python, not in JSON
        raise Refused(Reason.BAD_TYPE, f"{key} is {_short(value)}, a {kind.__name__} is expected")
    return value


def _integer(fields: dict[str, Any], key: str, low: int, high: int) -> int:
    value: int = _typed(fields, key, int)
    if not low <= value <= high:
        raise Refused(Reason.OUT_OF_RANGE, f"{key} is {_short(value)}, {low} to {high} are allowed")
    return value


def _id(text: str) -> UUID:
    # UUID() also takes braces, "urn:uuid:" and stray dashes; the typed pass does not, so nor do we.
    if re.fullmatch(r"[0-9a-fA-F]{8}(-?)(?:[0-9a-fA-F]{4}\1){3}[0-9a-fA-F]{12}", text) is None:
        raise Refused(Reason.NOT_UUID7, f"id is {_short(text)}, a UUIDv7 is expected")
    event_id = UUID(text)
    if event_id.version != 7 or (event_id.int >> 62) & 0b11 != 0b10:
        raise Refused(Reason.NOT_UUID7, f"id {text} is not of version 7")
    return event_id


# RFC 3339, its seconds' fraction set apart: digits past the third are cut, never rounded up.
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-][0-2]\d:?[0-5]\d)", re.ASCII
)


def _check_ts(value: object, ts_ms: int) -> None:
    if value is None:
        return
    match = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Refused(Reason.BAD_TS, f"ts is {_short(value)}, RFC 3339 with an offset is expected")
    date, time, fraction, offset = match.groups()
    millis = (fraction or "0")[:3].ljust(3, "0")
    try:
        ts = datetime.fromisoformat(
            f"{date}T{time}.{millis}{offset.upper().replace('Z', '+00:00')}"
        )
    except ValueError as error:
        raise Refused(Reason.BAD_TS, f"ts is {_short(value)}: {error}") from None
    if _floor_ms(ts) != ts_ms:
        raise Refused(Reason.TS_MISMATCH, f"ts is {value}, the id says {_iso(ts_ms)}")


def _iso(ms: int) -> str:
    try:
        return datetime_of(ms).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms, past the calendar's end"


def _check_window(ts_ms: int, window: Window) -> None:
    if ts_ms < window.oldest_ms:
        raise Refused(Reason.TOO_OLD, f"from {_iso(ts_ms)}, older than retention")
    if ts_ms > window.newest_ms:
        raise Refused(Reason.IN_FUTURE, f"from {_iso(ts_ms)}, over 5 minutes ahead of this clock")


_KNOWN: Final = frozenset(Event.__struct_fields__)


def _details(fields: dict[str, Any]) -> tuple[Raw, list[str]]:
    """The details with the unknown keys moved into them, and those keys."""
    details = fields.get("details")
    if details is not None and not isinstance(details, dict):
        raise Refused(Reason.BAD_TYPE, f"details is {_short(details)}, an object is expected")
    unknown = [key for key in fields if key not in _KNOWN]
    for key in unknown:
        if details and key in details:
            raise Refused(Reason.AMBIGUOUS_KEY, f"{_short(key)} stands in the event and in details")
    if details is None and not unknown:
        return _NO_DETAILS, unknown
    merged = {**(details or {}), **{key: fields[key] for key in unknown}}
    text = json.dumps(merged, ensure_ascii=False, separators=(",", ":")).encode()
    if len(text) > MAX_DETAILS_BYTES:
        raise Refused(Reason.DETAILS_TOO_LARGE, f"{len(text)} bytes, at most {MAX_DETAILS_BYTES}")
    return Raw(text), unknown
