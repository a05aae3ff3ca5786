"""The event on the wire: every rule of design.md, section 2, and both roads through ``decode``."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from datetime import datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline import event as wire
from pipeline.event import (
    ACTIONS,
    INT32_MAX,
    INT32_MIN,
    INT64_MAX,
    KARMA_MAX,
    KARMA_MIN,
    MAX_AHEAD_MS,
    MAX_DEPTH,
    MAX_DETAILS_BYTES,
    MAX_EVENT_BYTES,
    RANK_BY_KARMA,
    Event,
    Reason,
    Refused,
    Window,
    datetime_of,
    decode,
    encode,
    uuid7,
)
from tests.unit.samples import NOW_MS, WINDOW, chains, fields, payload, without, written
from tests.unit.wire_events import json_texts, mutated, wire_fields

GOOD_ID = str(uuid7(NOW_MS, 5))
V4 = "7f9c24e8-3b12-4fef-91e0-4e1b7a1f4c1e"
# Version 7, but the variant bits of a Microsoft GUID.
BAD_VARIANT = GOOD_ID[:19] + "c" + GOOD_ID[20:]


def nested(depth: int, innermost: str = "") -> str:
    """Details whose innermost list lies ``depth`` containers deep, the event's own included."""
    lists = depth - 2
    return f'{{"a":{"[" * lists}{innermost}{"]" * lists}}}'


def details_of(size: int) -> dict[str, str]:
    """Details of exactly so many bytes as compact JSON."""
    return {"a": "x" * (size - len('{"a":""}'))}


def padded(size: int) -> bytes:
    """A good event of exactly so many bytes, blanks at its end."""
    return payload().ljust(size)


REFUSED: dict[Reason, dict[str, bytes]] = {
    Reason.TOO_LARGE: {
        "a byte over 64 KiB": padded(MAX_EVENT_BYTES + 1),
        "no JSON at all": b"\xff" * (MAX_EVENT_BYTES + 1),
        "100,000 levels": b"[" * 100_000,
    },
    Reason.NOT_JSON: {
        "nothing": b"",
        "blanks": b" \n",
        "text": b"hello",
        "cut off": payload()[:-1],
        "two objects": payload() + payload(),
        "trailing comma": payload()[:-1] + b",}",
        "single quotes": payload().replace(b'"', b"'"),
        "UTF-16": payload().decode().encode("utf-16"),
        "byte order mark": b"\xef\xbb\xbf" + payload(),
        "no UTF-8": written(player='"\xff"').replace("\xff".encode(), b"\xff"),
        "surrogate as UTF-8 bytes": written(player='"\ud800"'),
        "NUL byte in a string": payload(player="a?b").replace(b"a?b", b"a\0b"),
        "NUL byte at the end": payload() + b"\0",
        "control character in a string": written(details='{"a":"\x01"}'),
        "leading zero": written(xp_delta="05"),
        "hexadecimal": written(xp_delta="0x5"),
        "plus sign": written(details='{"a":+1}'),
        "key without quotes": written(details="{a:1}"),
        "comment": b"/* */" + payload(),
    },
    Reason.NOT_AN_OBJECT: {
        "list": b"[" + payload() + b"]",
        "string": b'"kill_enemy"',
        "number": b"7",
        "null": b"null",
        "boolean": b"true",
    },
    Reason.NOT_FINITE: {
        "NaN": written(xp_delta="NaN"),
        "Infinity in details": written(details='{"a":Infinity}'),
        "-Infinity in an unknown key": written(extra="[-Infinity]"),
    },
    Reason.TOO_DEEP: {
        "33 levels": written(details=nested(MAX_DEPTH + 1)),
        "33 levels, not ASCII": written(details=nested(MAX_DEPTH + 1, '"é"')),
        "33 levels outside of details": written(extra="[" * MAX_DEPTH + "]" * MAX_DEPTH),
        "60,000 lists": b"[" * 30_000 + b"]" * 30_000,
        "10,000 objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    },
    Reason.BAD_TEXT: {
        "NUL in player": payload(player="a\0b"),
        "NUL in energy_source": payload(action="recharge", energy_source="\0"),
        "NUL in details": payload(details={"a": "\0"}),
        "NUL in a key of details": payload(details={"\0": 1}),
        "NUL in nested details": payload(details={"a": [{"b": [{"c\0": 1}]}]}),
        "NUL in an unknown key": payload(**{"x\0y": 1}),
        "lone high surrogate": written(player='"\\ud800"'),
        "lone low surrogate": written(details='{"a":["\\udc00"]}'),
        "surrogates the wrong way round": written(details='{"a":"\\udc00\\ud800"}'),
        "lone surrogate in a key": written(details='{"\\udbff":1}'),
        "lone surrogate in action": written(action='"\\ud83d"'),
    },
    Reason.MISSING_KEY: {
        "empty object": b"{}",
        **{
            key: without(key)
            for key in (
                "id", "player", "action", "xp_delta", "karma_delta", "karma_total", "rank",
                "energy_source",
            )
        },
    },
    Reason.BAD_TYPE: {
        "id a number": payload(id=7),
        "id null": payload(id=None),
        "player a number": payload(player=7),
        "player null": payload(player=None),
        "action a list": payload(action=["kill_enemy"]),
        "action null": payload(action=None),
        "rank null": payload(rank=None),
        "xp_delta a boolean": payload(xp_delta=True),
        "xp_delta a float": payload(xp_delta=5.0),
        "xp_delta a float by exponent": written(xp_delta="1e0"),
        "xp_delta a string": payload(xp_delta="5"),
        "xp_delta null": payload(xp_delta=None),
        "karma_delta a float": payload(karma_delta=1.5),
        "karma_total a boolean": payload(karma_total=True),
        "seq a float": payload(seq=7.0),
        "seq a boolean": payload(seq=True),
        "seq a string": payload(seq="7"),
        "energy_source a number": payload(action="recharge", energy_source=0),
        "energy_source false": payload(action="recharge", energy_source=False),
        "details a list": payload(details=[]),
        "details a string": payload(details="{}"),
        "details a boolean": payload(details=False),
    },
    Reason.OUT_OF_RANGE: {
        "xp_delta over int32": payload(xp_delta=INT32_MAX + 1),
        "xp_delta under int32": payload(xp_delta=INT32_MIN - 1, action="ability_upgrade"),
        "karma_delta over int32": payload(karma_delta=INT32_MAX + 1),
        "karma_delta under int32": payload(karma_delta=INT32_MIN - 1),
        "karma_total 101": payload(karma_total=101, rank="Hero"),
        "karma_total -101": payload(karma_total=-101, rank="Infamous"),
        "seq 0": payload(seq=0),
        "seq below zero": payload(seq=-1),
        "seq over int64": payload(seq=INT64_MAX + 1),
        "an integer over any word": payload(xp_delta=10**400),
        "5,000 digits": written(xp_delta="9" * 5000),
        "5,000 digits in details": written(details=f'{{"a":{"9" * 5000}}}'),
        "1e400": written(xp_delta="1e400"),
        "1e400 in details": written(details='{"a":1e400}'),
        "1E400 in details": written(details='{"a":[-1.5E+400]}'),
        "400 digits and a fraction": written(details=f'{{"a":{"9" * 400}.5}}'),
    },
    Reason.UNKNOWN_ACTION: {
        "unknown": payload(action="fly"),
        "empty": payload(action=""),
        "capitals": payload(action="Kill_Enemy"),
        "a blank more": payload(action="kill_enemy "),
    },
    Reason.UNKNOWN_VERSION: {
        "2": payload(v=2),
        "0": payload(v=0),
        "null": payload(v=None),
        "a boolean": payload(v=True),
        "a float": payload(v=1.0),
        "a string": payload(v="1"),
    },
    Reason.BAD_PLAYER: {
        "empty": payload(player=""),
        "65 characters": payload(player="x" * 65),
        "65 characters of four bytes": payload(player="\U0001f5f2" * 65),
    },
    Reason.NOT_UUID7: {
        "version 4": payload(id=V4),
        "version 1": payload(id=str(uuid.UUID(GOOD_ID[:14] + "1" + GOOD_ID[15:]))),
        "variant of another family": payload(id=BAD_VARIANT),
        "nil": payload(id=str(uuid.UUID(int=0))),
        "no UUID": payload(id="1"),
        "empty": payload(id=""),
        "braces": payload(id=f"{{{GOOD_ID}}}"),
        "urn": payload(id=f"urn:uuid:{GOOD_ID}"),
        "stray dash": payload(id=GOOD_ID.replace("-", "", 1)),
        "a blank more": payload(id=GOOD_ID + " "),
        "a line end more": payload(id=GOOD_ID + "\n"),
        "digits of another script": payload(id=GOOD_ID.replace("0", "\N{ARABIC-INDIC DIGIT ZERO}")),
    },
    Reason.BAD_TS: {
        "no offset": payload(ts="2025-11-24T16:00:00.123"),
        "a date": payload(ts="2025-11-24"),
        "Unix seconds": payload(ts=NOW_MS / 1000),
        "Unix milliseconds": payload(ts=NOW_MS),
        "empty": payload(ts=""),
        "hours alone as offset": payload(ts="2025-11-24T16:00:00.123+00"),
        "99 minutes of offset": payload(ts="2025-11-24T16:00:00.123+00:99"),
        "24 hours of offset": payload(ts="2025-11-25T16:00:00.123+24:00"),
        "hour 24": payload(ts="2025-11-24T24:00:00Z"),
        "second 60": payload(ts="2025-11-24T15:59:60.123Z"),
        "month 13": payload(ts="2025-13-24T16:00:00.123Z"),
        "30 February": payload(ts="2025-02-30T16:00:00.123Z"),
        "year 0": payload(ts="0000-11-24T16:00:00.123Z"),
        "year 294277": payload(ts="294277-01-01T00:00:00Z"),
        "infinity": payload(ts="infinity"),
        "decimal comma": payload(ts="2025-11-24T16:00:00,123Z"),
        "empty fraction": payload(ts="2025-11-24T16:00:00.Z"),
        "an object": payload(ts={}),
    },
    Reason.TS_MISMATCH: {
        "1 ms late": payload(ts="2025-11-24T16:00:00.124Z"),
        "1 ms early": payload(ts="2025-11-24T16:00:00.122Z"),
        "without its milliseconds": payload(ts="2025-11-24T16:00:00Z"),
        "another zone's wall clock": payload(ts="2025-11-24T16:00:00.123+01:00"),
        "nanoseconds that would round up to it": payload(ts="2025-11-24T16:00:00.122999999Z"),
        "seven digits that would round up to it": payload(ts="2025-11-24T16:00:00.1229996Z"),
        "year 1": payload(ts="0001-01-01T00:00:00+23:59"),
        "year 9999": payload(ts="9999-12-31T23:59:59.999-23:59"),
    },
    Reason.TOO_OLD: {
        "1 ms past retention": payload(WINDOW.oldest_ms - 1),
        "1970": payload(0),
    },
    Reason.IN_FUTURE: {
        "1 ms past five minutes": payload(WINDOW.newest_ms + 1),
        "past the calendar's end": without("ts", id=str(uuid7(2**48 - 1, 5))),
    },
    Reason.BAD_RANK: {
        "not of this karma": payload(rank="Hero"),
        "unknown": payload(rank="King"),
        "lower case": payload(rank="guardian"),
        "just under a threshold": payload(karma_total=14, rank="Guardian"),
    },
    Reason.BAD_XP: {
        action: payload(action=action, xp_delta=-1)
        for action in ACTIONS
        if action != "ability_upgrade"
    },
    Reason.BAD_ENERGY_SOURCE: {
        action: payload(action=action, energy_source="car")
        for action in ACTIONS
        if action != "recharge"
    },
    Reason.DETAILS_TOO_LARGE: {
        "a byte over 4 KiB": payload(details=details_of(MAX_DETAILS_BYTES + 1)),
        "by bytes, not characters": payload(details={"a": "é" * (MAX_DETAILS_BYTES // 2)}),
        "by an unknown key": payload(details=details_of(MAX_DETAILS_BYTES), extra=1),
    },
    Reason.AMBIGUOUS_KEY: {
        "the same value": payload(details={"mission": "a"}, mission="a"),
        "null": payload(details={"mission": None}, mission=None),
    },
}  # fmt: skip
CASES = [
    pytest.param(raw, reason, id=f"{reason}: {name}")
    for reason, table in REFUSED.items()
    for name, raw in table.items()
]


@pytest.mark.parametrize(("raw", "reason"), CASES)
def test_refuses_with_exactly_this_reason(raw: bytes, reason: Reason) -> None:
    """Each rule of the design has its own code, and breaking it alone gets that code."""
    with pytest.raises(Refused) as caught:
        decode(raw, WINDOW)
    assert caught.value.reason is reason
    detail = caught.value.detail
    assert detail
    assert len(detail) <= 300
    assert detail.isascii()
    assert detail.isprintable()


def test_every_reason_is_covered() -> None:
    """A new reason needs cases here; the others are for whole entries, or the database's."""
    elsewhere = {Reason.NOT_AN_EVENT_ENTRY, Reason.BAD_ARRAY, Reason.DATABASE}
    assert set(REFUSED) == set(Reason) - elsewhere


ACCEPTED: dict[str, bytes] = {
    "as our producer writes it": payload(),
    "exactly 64 KiB": padded(MAX_EVENT_BYTES),
    "details of exactly 4 KiB": payload(details=details_of(MAX_DETAILS_BYTES)),
    "details of exactly 4 KiB, not ASCII": payload(
        details={"é": "x" * (MAX_DETAILS_BYTES - len('{"é":""}'.encode()))}
    ),
    "32 levels": written(details=nested(MAX_DEPTH)),
    "32 levels with a number inside": written(details=nested(MAX_DEPTH, "1")),
    "32 levels with a text inside, not ASCII": written(details=nested(MAX_DEPTH, '"é"')),
    "a thousand lists side by side": written(details='{"a":[' + "[]," * 999 + "[]]}"),
    "blanks around details": written(details='  {"a" : 1 }\n'),
    "details null": payload(details=None),
    "details empty": payload(details={}),
    "seq null": payload(seq=None),
    "seq the largest": payload(seq=INT64_MAX),
    "ts null": payload(ts=None),
    "ts with nanoseconds": payload(ts="2025-11-24T16:00:00.123999999Z"),
    "ts in another zone": payload(ts="2025-11-24T21:45:00.123+05:45"),
    "ts with minus zero": payload(ts="2025-11-24T16:00:00.123-00:00"),
    "ts with an offset as strftime writes it": payload(ts="2025-11-24T16:00:00.123+0000"),
    "ts in lower case": payload(ts="2025-11-24t16:00:00.123z"),
    "ts with a blank": payload(ts="2025-11-24 16:00:00.123Z"),
    "no optional keys": without("ts", "seq", "details", "v"),
    "id in capitals": payload(id=GOOD_ID.upper()),
    "id without dashes": payload(id=GOOD_ID.replace("-", "")),
    "the oldest": payload(WINDOW.oldest_ms),
    "the newest": payload(WINDOW.newest_ms),
    "player of 64 wide characters": payload(player="\U0001f5f2" * 64),
    "player of one character": payload(player=" "),
    "a quoted surrogate pair": written(player='"\\ud83d\\uddf2"'),
    "a backslash before u0000": written(details='{"a":"\\\\u0000"}'),
    "karma at the bottom": payload(karma_total=-100, rank="Infamous"),
    "karma at the top": payload(karma_total=100, rank="Hero"),
    "the widest deltas": payload(xp_delta=INT32_MAX, karma_delta=INT32_MIN),
    "a price": payload(action="ability_upgrade", xp_delta=INT32_MIN),
    "an empty energy source": payload(action="recharge", energy_source=""),
    "1e300 in details": written(details='{"a":1e300}'),
    "4,000 digits in details": written(details=f'{{"a":{"9" * 4000}}}'),
    "a key given twice": payload()[:-1] + b',"player":"Moya"}',
}  # fmt: skip


@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in ACCEPTED.items()])
def test_accepts_up_to_the_edge_by_both_roads(raw: bytes) -> None:
    """What stands on the right side of each limit is an event, whichever road it takes."""
    event = decode(raw, WINDOW)
    assert _same(event) == _same(wire._inspect(raw, WINDOW, None))
    sent = json.loads(raw)
    assert event.player == sent["player"]
    assert event.seq == sent.get("seq")
    assert json.loads(bytes(event.details)) == sent.get("details")
    assert event.ts_ms == uuid.UUID(sent["id"]).int >> 80


@pytest.mark.parametrize("karma", range(KARMA_MIN, KARMA_MAX + 1))
def test_rank_follows_karma(karma: int) -> None:
    """Each karma has the one rank that the design's table gives it, and no other is taken."""
    limits = [(-75, "Infamous"), (-40, "Outlaw"), (-15, "Thug"), (14, "Neutral"), (39, "Guardian"),
              (74, "Champion"), (100, "Hero")]  # fmt: skip
    right = next(rank for limit, rank in limits if karma <= limit)
    assert RANK_BY_KARMA[karma] == right
    assert decode(payload(karma_total=karma, rank=right), WINDOW).rank == right
    for _, rank in limits:
        if rank != right:
            with pytest.raises(Refused, match="bad_rank"):
                decode(payload(karma_total=karma, rank=rank), WINDOW)


def test_unknown_keys_move_into_details_and_are_counted() -> None:
    """A sender ahead of us loses nothing, and its drift is told by the keys' names."""
    drift: Counter[str] = Counter()
    event = decode(payload(weather={"rain": True}, combo=3), WINDOW, drift)
    decode(payload(combo=None, details=None), WINDOW, drift)
    decode(payload(), WINDOW, drift)
    details = json.loads(event.details_json or b"")
    assert details == {
        "enemy": "Reaper", "district": "Neon", "weather": {"rain": True}, "combo": 3,
    }  # fmt: skip
    assert drift == {"weather": 1, "combo": 2}


def test_a_refused_event_counts_no_drift() -> None:
    """Drift is about accepted events: garbage does not fill the counts with its keys."""
    drift: Counter[str] = Counter()
    with pytest.raises(Refused):
        decode(payload(combo=3, rank="King"), WINDOW, drift)
    with pytest.raises(Refused):
        decode(payload(combo=3, details=details_of(MAX_DETAILS_BYTES)), WINDOW, drift)
    assert not drift


def test_the_window_ends_where_the_design_says() -> None:
    """Retention behind, five minutes ahead, both ends included."""
    window = Window.at(NOW_MS, 30)
    assert (window.oldest_ms, window.newest_ms) == (NOW_MS - 30 * 86_400_000, NOW_MS + MAX_AHEAD_MS)
    assert MAX_AHEAD_MS == 300_000


@pytest.mark.parametrize("ms", [0, 1, 999, 1000, NOW_MS, 2**47, 253_402_300_799_999])
def test_times_are_exact_to_the_millisecond(ms: int) -> None:
    """No float rounds a time: the id's milliseconds and the datetime's are the same number."""
    at = datetime_of(ms)
    assert at.microsecond == ms % 1000 * 1000
    assert wire._floor_ms(at) == ms
    made = uuid7(ms, 2**74 - 1)
    assert (made.version, made.variant, made.int >> 80) == (7, uuid.RFC_4122, ms)
    assert uuid7(ms, 0) != uuid7(ms, 1) != uuid7(ms, 2**62)


# --- properties


def _same(event: Event) -> dict[str, Any]:
    """An event as plain values; how the details are spaced, and the sender's ts, are no part of it."""
    plain = {key: getattr(event, key) for key in Event.__struct_fields__ if key != "ts"}
    return plain | {"details": json.loads(bytes(event.details))}


def _outcome(raw: bytes, road: Any) -> dict[str, Any] | Reason:
    try:
        return _same(road(raw, WINDOW, None))
    except Refused as refused:
        return refused.reason


@given(wire_fields())
def test_a_valid_event_is_the_same_by_both_roads(sent: dict[str, Any]) -> None:
    """Whatever a sender may write by the rules is an event, with its values kept, by either road."""
    raw = json.dumps(sent, ensure_ascii=False).encode()
    event = decode(raw, WINDOW)
    assert _same(event) == _outcome(raw, wire._inspect)
    assert str(event.id) == sent["id"]
    for key in ("player", "action", "xp_delta", "karma_delta", "karma_total", "energy_source"):
        assert getattr(event, key) == sent[key]
    extra = {key: value for key, value in sent.items() if key not in Event.__struct_fields__}
    expected = {**(sent.get("details") or {}), **extra} or sent.get("details")
    assert json.loads(bytes(event.details)) == expected


@settings(max_examples=400)
@given(mutated())
@example(written(ts='"2025-11-24T16:00:00.1229996Z"'))
@example(written(details=nested(MAX_DEPTH, "1")))
@example(written(details=f'{{"a":{"1" * 400}.0}}'))
def test_both_roads_give_the_same_answer(raw: bytes) -> None:
    """The typed pass is only a short cut: the slow road refuses what it refuses, for the same reason."""
    assert _outcome(raw, decode) == (
        Reason.TOO_LARGE if len(raw) > MAX_EVENT_BYTES else _outcome(raw, wire._inspect)
    )


@settings(max_examples=300)
@given(st.binary(max_size=300) | json_texts().map(str.encode))
def test_any_bytes_are_an_event_or_refused(raw: bytes) -> None:
    """Nothing on the stream raises anything but Refused: no bytes end the consumer."""
    outcome = _outcome(raw, decode)
    assert isinstance(outcome, Reason | dict)


@given(wire_fields())
def test_encode_and_decode_are_inverse(sent: dict[str, Any]) -> None:
    """An event that is written again, by replay or release, is the same event."""
    event = decode(json.dumps(sent, ensure_ascii=False).encode(), WINDOW)
    again = decode(encode(event), WINDOW)
    assert _same(again) == _same(event)
    assert again.details_json == event.details_json


def test_the_producers_events_take_the_fast_road(monkeypatch: pytest.MonkeyPatch) -> None:
    """The speed of the consumer rests on the typed pass taking our own events as they are."""
    slowly: list[bytes] = []
    inspect = wire._inspect

    def watched(raw: bytes, *rest: Any) -> Event:
        slowly.append(raw)
        return inspect(raw, *rest)

    monkeypatch.setattr(wire, "_inspect", watched)
    events = chains(1000)
    for event in events:
        raw = encode(event)
        assert _same(decode(raw, WINDOW)) == _same(event)
        assert datetime.fromisoformat(json.loads(raw)["ts"]) == datetime_of(event.ts_ms)
    # An id that happens to hold 999 is looked at twice.
    assert len(slowly) < len(events) / 20


def test_sample_is_whole() -> None:
    """The tests' own sample has every key of an event, so that leaving one out means something."""
    assert set(fields()) == set(Event.__struct_fields__)
