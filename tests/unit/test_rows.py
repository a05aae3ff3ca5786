"""Rows: the bytes of a binary COPY, read back field by field as Postgres reads them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.rows import COLUMNS, copy_binary
from pipeline.event import INT32_MAX, INT32_MIN, INT64_MAX, Event, decode
from pipeline.tables import game_events
from tests.unit.samples import WINDOW, chains, payload
from tests.unit.wire_events import wire_fields

EPOCH_2000_MS = 946_684_800_000


def read_back(data: bytes) -> Iterator[list[bytes | None]]:
    """The rows of a binary COPY, as its documentation describes them."""
    assert data.startswith(b"PGCOPY\n\xff\r\n\0")
    flags, extension = struct.unpack_from("!ii", data, 11)
    assert (flags, extension) == (0, 0)
    at = 19
    while True:
        (count,) = struct.unpack_from("!h", data, at)
        at += 2
        if count == -1:
            assert at == len(data)
            return
        row: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from("!i", data, at)
            at += 4
            row.append(None if length == -1 else data[at : at + length])
            at += max(length, 0)
        yield row


def integer(field: bytes | None, size: int) -> int | None:
    """A number field of exactly so many bytes."""
    if field is None:
        return None
    assert len(field) == size
    return int.from_bytes(field, signed=True)


def as_read(row: list[bytes | None]) -> dict[str, Any]:
    """One row's fields by column, as the server takes them."""
    by_name = dict(zip(COLUMNS, row, strict=True))
    ts = integer(by_name["ts"], 8)
    details = by_name["details"]
    assert ts is not None
    assert details is None or details[:1] == b"\x01"
    return {
        "id": by_name["id"],
        "ts_ms": ts / 1000 + EPOCH_2000_MS,
        **{k: (by_name[k] or b"").decode() for k in ("player", "action", "rank")},
        **{k: integer(by_name[k], 4) for k in ("xp_delta", "karma_delta", "karma_total")},
        "energy_source": None if (e := by_name["energy_source"]) is None else e.decode(),
        "seq": integer(by_name["seq"], 8),
        "details": None if details is None else json.loads(details[1:]),
    }


def as_meant(event: Event) -> dict[str, Any]:
    """The same from the event."""
    return {
        "id": event.id.bytes,
        "ts_ms": event.ts_ms,
        **{
            key: getattr(event, key)
            for key in (
                "player", "action", "rank", "xp_delta", "karma_delta", "karma_total",
                "energy_source", "seq",
            )
        },
        "details": json.loads(bytes(event.details)),
    }  # fmt: skip


@given(st.lists(wire_fields(), max_size=4))
def test_every_field_reads_back(sent: list[dict[str, Any]]) -> None:
    """What Postgres is sent is what the event says, field by field, for any accepted events."""
    events = [decode(json.dumps(one, ensure_ascii=False).encode(), WINDOW) for one in sent]
    assert [as_read(row) for row in read_back(copy_binary(events))] == [
        as_meant(event) for event in events
    ]


@pytest.mark.parametrize(
    ("changes", "nulls"),
    [
        ({"seq": None}, {"energy_source", "seq"}),
        ({"details": None}, {"energy_source", "details"}),
        ({"action": "recharge", "energy_source": ""}, set()),
        ({"details": {}}, {"energy_source"}),
    ],
)
def test_absent_values_are_null_and_empty_ones_are_not(
    changes: dict[str, Any], nulls: set[str]
) -> None:
    """NULL means the sender said nothing; an empty text or object is something it said."""
    (row,) = read_back(copy_binary([decode(payload(**changes), WINDOW)]))
    assert {name for name, field in zip(COLUMNS, row, strict=True) if field is None} == nulls


@pytest.mark.parametrize(
    "changes",
    [
        {"xp_delta": INT32_MAX, "karma_delta": INT32_MAX, "seq": INT64_MAX},
        {"xp_delta": INT32_MIN, "karma_delta": INT32_MIN, "seq": 1, "action": "ability_upgrade"},
    ],
)
def test_the_widest_numbers_fit(changes: dict[str, Any]) -> None:
    """The edges of int4 and int8 are written without wrapping around."""
    event = decode(payload(**changes), WINDOW)
    (row,) = read_back(copy_binary([event]))
    assert as_read(row) == as_meant(event)


def test_no_events_are_an_empty_copy() -> None:
    """A COPY of nothing still has its header and its end."""
    assert list(read_back(copy_binary([]))) == []


def test_the_simulators_events_read_back() -> None:
    """Our own producer's events, whose details are written by hand, come through whole."""
    events = chains(500)
    assert [as_read(row) for row in read_back(copy_binary(events))] == [
        as_meant(event) for event in events
    ]


def test_the_columns_are_the_tables() -> None:
    """Each column of the table is filled here, but for the one the database fills itself."""
    assert {*COLUMNS, "ingested_at"} == {column.name for column in game_events.columns}
