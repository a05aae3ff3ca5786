"""The mapping: a foreign record flows in, the event that it means flows out, as bytes on the wire. Pure.

A record is what a line or a row says: names of columns and their values. A column called like a key of the
event is that key, unless told otherwise; every column that is no key goes into the event's details. Whether
the outcome is an event is not decided here but by the consumer's rules: nothing is put right on the way
except how it is written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, cast
from uuid import UUID

from jobs.ids import seeded_id
from pipeline.event import RANK_BY_KARMA, Reason, Refused, datetime_of

Record = Mapping[str, Any]

DETAIL: Final = "details."
_WHOLE_NUMBERS: Final = ("xp_delta", "karma_delta", "karma_total", "seq", "v")
# Where a record does not say: nothing gained, nothing changed, and neutral.
_ZERO: Final = ("xp_delta", "karma_delta", "karma_total")
KEYS: Final = (
    *("id", "ts", "player", "action", "xp_delta", "karma_delta", "karma_total", "rank"),
    *("energy_source", "seq", "details", "v"),
)
_WHOLE: Final = re.compile(r"\s*([+-]?\d{1,400})(?:\.0{1,20})?\s*", re.ASCII)
_NUMBER: Final = re.compile(r"\s*[+-]?\d{1,20}(\.\d{1,20})?\s*", re.ASCII)
_TIME: Final = re.compile(
    r"\s*(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,30}))?\s?([Zz]|[+-]\d\d(?::?\d\d)?)?\s*",
    re.ASCII,
)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-?)(?:[0-9a-fA-F]{4}\1){3}[0-9a-fA-F]{12}")
# Unix seconds up to the year 5138; what is larger are milliseconds, which begin in 1973.
_FIRST_MS: Final = 10**11
_PAST_MS: Final = 10**14
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class BadMapping(Exception):
    """The options of a mapping do not fit together, or not the file."""


@dataclass(frozen=True)
class Plan:
    """Which columns mean what. Keys are those of the event, or ``details.NAME``."""

    # The column of a key, where it is not the one of the same name.
    columns: Mapping[str, str] = field(default_factory=dict)
    # What a key is in every record.
    constants: Mapping[str, Any] = field(default_factory=dict)
    # Of a key, what its old values are called now.
    renames: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # Whether times without an offset are UTC; else they are refused.
    is_utc: bool = False

    def __post_init__(self) -> None:
        """Raises BadMapping."""
        for key in (*self.columns, *self.constants, *self.renames):
            if key not in KEYS and not (key.startswith(DETAIL) and key != DETAIL):
                raise BadMapping(
                    f"{key!r:.80} is no key of an event: give one of {', '.join(KEYS)}, or details.NAME."
                )
        twice = [key for key in self.columns if key in self.constants]
        if twice:
            raise BadMapping(f"{twice[0]} is in --map and in --set: give one of them.")

    def require(self, columns: Sequence[str]) -> None:
        """Raise BadMapping where a column is named that is none of these."""
        for column in self.columns.values():
            if column not in columns:
                there = ", ".join(repr(name)[1:-1] for name in columns)
                raise BadMapping(f"There is no column {column}: there are {there:.500}.")

    def as_text(self) -> str:
        """The same plan as the same text."""
        return _canonical(
            [self.columns, self.constants, self.renames, self.is_utc]  # dicts' order does not count
        )


def payload_of(record: Record, plan: Plan) -> bytes:
    """The event that a record means, as bytes for the stream. Raises Refused where no time can be made out,
    or two columns are the same detail; all else is left to the rules for events."""
    fields, details = _sorted_out(record, plan)
    for key in _WHOLE_NUMBERS:
        if key in fields:
            fields[key] = _whole(fields[key])
    for key in _ZERO:
        if fields.get(key) is None:
            fields[key] = 0
    if type(fields.get("player")) is int:
        fields["player"] = str(fields["player"])
    if fields.get("rank") is None:
        karma = fields["karma_total"]
        # Where it is out of range, the rules say so, whatever the rank.
        fields["rank"] = RANK_BY_KARMA.get(karma if type(karma) is int else 0, "Neutral")
    fields.setdefault("energy_source", None)
    own_id = _uuid7(fields.get("id"))
    if own_id is None and fields.get("id") is not None:
        _add(details, plan.columns.get("id", "id"), fields["id"])
    ms = _ms(fields.get("ts"), own_id, is_utc=plan.is_utc)
    fields["ts"] = _written(ms)
    if details:
        fields["details"] = details
    fields["id"] = own_id
    fields["id"] = own_id or str(seeded_id(ms, _canonical(fields).encode("utf-8", "surrogatepass")))
    return _text_of(fields).encode("utf-8", "surrogatepass")


def _sorted_out(record: Record, plan: Plan) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of the event's keys, and those of its details."""
    own = [column for column in record if column in KEYS and column not in plan.columns]
    used = {*own, *plan.columns.values(), *plan.constants}
    given: dict[str, Any] = {column: record[column] for column in own}
    given |= {key: record[column] for key, column in plan.columns.items() if column in record}
    given |= plan.constants
    for key, names in plan.renames.items():
        if key in given and str(given[key]) in names:
            given[key] = names[str(given[key])]
    fields = {key: value for key, value in given.items() if key in KEYS}
    details: dict[str, Any] = {}
    whole = _object(fields.pop("details", None))
    if isinstance(whole, dict):
        details.update(whole)
    elif whole is not None:
        fields["details"] = whole  # for the rules to refuse
    for key, value in given.items():
        if key.startswith(DETAIL):
            _add(details, key.removeprefix(DETAIL), value)
    for column, value in record.items():
        if column not in used:
            name = column.removeprefix(DETAIL) or column
            old = plan.renames.get(column, {})
            _add(details, name, old.get(str(value), value))
    return fields, details


def _add(details: dict[str, Any], name: str, value: object) -> None:
    if name in details:
        raise Refused(Reason.AMBIGUOUS_KEY, f"{name!r:.60} would stand in details twice")
    details[name] = value


def _object(value: object) -> object:
    """Details as an object, where text says one."""
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return cast("object", parsed) if isinstance(parsed, dict) else value


def _whole(value: object) -> object:
    """A whole number, however it is written; what is none stays as it is."""
    if isinstance(value, str) and (match := _WHOLE.fullmatch(value)):
        return int(match[1])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    return value


def _uuid7(value: object) -> str | None:
    text = str(value) if isinstance(value, str | UUID) else ""
    if _UUID.fullmatch(text) is None:
        return None
    found = UUID(text)
    return str(found) if found.version == 7 and (found.int >> 62) & 0b11 == 0b10 else None


def _ms(value: object, own_id: str | None, *, is_utc: bool) -> int:
    """A time in Unix milliseconds, its fraction cut; that of the id where there is none."""
    if value is None:
        if own_id is None:
            raise Refused(Reason.MISSING_KEY, "ts is missing, and so is an id that says it")
        return UUID(own_id).int >> 80
    if isinstance(value, datetime):
        return _of_datetime(value, is_utc=is_utc)
    if isinstance(value, str) and (match := _TIME.fullmatch(value)):
        day, clock, fraction, offset = match.groups()
        millis = (fraction or "0")[:3].ljust(3, "0")
        clock = clock if len(clock) > 5 else f"{clock}:00"
        zone = (offset or "").upper().replace("Z", "+00:00")
        try:
            return _of_datetime(
                datetime.fromisoformat(f"{day}T{clock}.{millis}{zone}"), is_utc=is_utc
            )
        except ValueError as error:
            raise Refused(Reason.BAD_TS, f"ts is {value!r:.60}: {error}") from None
    is_number = type(value) in {int, float, Decimal}
    if is_number or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        return _of_number(value)
    raise Refused(
        Reason.BAD_TS, f"ts is {value!r:.60}, RFC 3339 or a number of Unix time is expected"
    )


def _of_datetime(moment: datetime, *, is_utc: bool) -> int:
    if moment.tzinfo is None:
        if not is_utc:
            raise Refused(Reason.BAD_TS, f"ts is {moment.isoformat()}, without an offset")
        moment = moment.replace(tzinfo=UTC)
    return _checked((moment - _EPOCH) // _MILLISECOND)


def _of_number(value: object) -> int:
    number = Decimal(
        str(value).strip()
    )  # as it is written: a float times a thousand is off by one at times
    if not number.is_finite() or abs(number) >= _PAST_MS:
        raise Refused(
            Reason.BAD_TS, f"ts is {value!s:.60}, Unix seconds or milliseconds are expected"
        )
    return _checked(math.floor(number if abs(number) >= _FIRST_MS else number * 1000))


def _checked(ms: int) -> int:
    """What an id has room for."""
    if not 0 <= ms < 2**48:
        raise Refused(Reason.BAD_TS, f"ts is {ms} ms, before 1970")
    return ms


def _written(ms: int) -> str | None:
    try:
        return datetime_of(ms).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return None  # past the calendar's end: the rules look at the id


def _plain(value: object) -> object:
    """What JSON has no word for."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        is_whole = value.is_finite() and value == value.to_integral_value()
        return int(value) if is_whole else float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, timedelta):
        return value.total_seconds()
    return list(value) if isinstance(value, Iterable) else str(value)


# Made once: that takes as long as to write a record.
_text_of: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain).encode
# The same value as the same text, whatever the order of its keys.
_canonical: Final = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain
).encode
