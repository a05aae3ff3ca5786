"""Parquet: what an event means comes back whole, and what is no event to the byte."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consumer.rows import COLUMNS, copy_binary
from jobs import parquet
from jobs.parquet import RefusedRow
from pipeline.event import Event, decode, encode
from tests.unit.samples import NOW_MS, WINDOW, chains, payload
from tests.unit.wire_events import wire_fields

DAY_MS = 86_400_000


def through_a_file(events: list[Event]) -> list[Event]:
    """What is read of what was written."""
    table = parquet.of_events(events, ["1-0"] * len(events))
    return parquet.events_of(parquet.read(parquet.written(table)))


@given(st.lists(wire_fields(), max_size=5))
def test_an_event_comes_back_as_it_was(sent: list[dict[str, Any]]) -> None:
    """Whatever a sender may send: the same event, the same row, and the same again when it is sent again."""
    events = [decode(json.dumps(one).encode(), WINDOW) for one in sent]
    back = through_a_file(events)
    # The id says the time, with or without a ts besides.
    assert back == [replace(event, ts=None) for event in events]
    assert copy_binary(back) == copy_binary(events)
    assert [replace(decode(encode(event), WINDOW), ts=None) for event in back] == back


def test_the_columns_are_those_of_the_table() -> None:
    """A question that was written for game_events can be asked of the archive."""
    assert tuple(parquet.EVENTS.names) == (*COLUMNS, "entry_id")


def test_a_time_is_the_moment_of_the_id() -> None:
    """To the millisecond, in UTC."""
    (event,) = chains(1)
    table = parquet.of_events([event], ["7-1"])
    assert table["ts"].to_pylist() == [datetime(2025, 11, 24, 16, 0, 0, 123_000, UTC)]
    assert table["entry_id"].to_pylist() == ["7-1"]


@given(st.lists(st.binary(max_size=50), max_size=4))
def test_what_is_no_event_is_kept_to_the_byte(raws: list[bytes]) -> None:
    """NULs, half characters and nothing at all."""
    rows = [
        RefusedRow(f"{number}-0", number, "event", "not_json", "why", raw)
        for number, raw in enumerate(raws)
    ]
    table = parquet.read(parquet.written(parquet.of_refused(rows)))
    assert table["payload"].to_pylist() == raws
    assert table.schema.equals(parquet.REFUSED)


def test_an_entry_of_the_far_future_has_a_day() -> None:
    """Senders may choose an id that is past the end of every calendar."""
    table = parquet.of_refused([RefusedRow("1-0", 2**63, "event", "not_json", "why", b"x")])
    ((day, _),) = parquet.by_day(table)
    assert day == date.max


def test_the_days_are_those_of_utc() -> None:
    """The last millisecond of a day is in it, the next one is not; no row is left out."""
    midnight = NOW_MS // DAY_MS * DAY_MS
    events = [
        decode(payload(ms, number, ts=None), WINDOW)
        for number, ms in enumerate((midnight, midnight - 1, midnight + 1, midnight - DAY_MS))
    ]
    table = parquet.of_events(events, ["1-0"] * 4)
    days = {day: rows.num_rows for day, rows in parquet.by_day(table)}
    assert days == {date(2025, 11, 23): 2, date(2025, 11, 24): 2}


def test_the_same_rows_make_the_same_bytes() -> None:
    """A file's name is made of what is in it: a run that is repeated writes no other."""
    table = parquet.of_events(chains(100), ["1-0"] * 100)
    again = parquet.of_events(chains(100), ["1-0"] * 100)
    assert parquet.written(table) == parquet.written(again)


@pytest.mark.parametrize(
    ("player", "action", "expected"),
    [
        (None, None, 5),
        ("someone else", None, 0),
        (None, "recharge", 0),
        ("Zeke", "kill_enemy", 5),
        ("Zeke", "recharge", 0),
    ],
)
def test_some_rows_are_chosen(player: str | None, action: str | None, expected: int) -> None:
    """Both ends of the span are in it, and who is asked for is all there is."""
    events = [decode(payload(NOW_MS - 9 + ms, ms, ts=None), WINDOW) for ms in range(10)]
    table = parquet.of_events(events, ["1-0"] * 10)
    found = parquet.chosen(table, NOW_MS - 7, NOW_MS - 3, player, action)
    assert found.num_rows == expected
    assert parquet.chosen(table, 0, 2**63, None, None).num_rows == 10


def test_known_rows_are_left_out() -> None:
    """An event by its id, whatever entry brought it; anything else by its entry and its bytes."""
    events = chains(10)
    table = parquet.of_events(events, ["1-0"] * 10)
    known = parquet.of_events(events[3:5], ["9-0"] * 2).select(["id"])
    assert parquet.events_of(parquet.without_known(table, known)) == [
        replace(event, ts=None) for event in (*events[:3], *events[5:])
    ]
    rows = [
        RefusedRow(entry_id, 1, "event", "not_json", "why", raw)
        for entry_id in ("1-0", "2-0")
        for raw in (b"a", b"b")
    ]
    refused = parquet.of_refused(rows)
    left = parquet.without_known(refused, refused.slice(1, 2).select(["entry_id", "payload"]))
    assert [(row["entry_id"], row["payload"]) for row in left.to_pylist()] == [
        ("1-0", b"a"),
        ("2-0", b"b"),
    ]


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 100])
def test_what_is_no_file_of_ours_is_a_value_error(data: bytes) -> None:
    """Whoever reads says which file it was."""
    with pytest.raises(ValueError, match=r"."):
        parquet.read(data)
