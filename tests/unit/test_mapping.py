"""Foreign records: what becomes of their columns, times and ids."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.mapping import BadMapping, Plan, payload_of
from pipeline.event import Event, Reason, Refused, decode, uuid7
from tests.unit.samples import NOW_MS, WINDOW, fields
from tests.unit.wire_events import wire_fields

NOON = "2025-11-24T16:00:00.123Z"
KILL = {"ts": NOON, "player": "Zeke", "action": "kill_enemy"}


def event_of(record: dict[str, Any], **plan: Any) -> Event:
    """The event that a record means; raises Refused."""
    return decode(payload_of(record, Plan(**plan)), WINDOW)


def details_of(record: dict[str, Any], **plan: Any) -> dict[str, Any]:
    """The details of that event."""
    return dict(json.loads(event_of(record, **plan).details_json or b"{}"))


@given(wire_fields())
def test_an_event_of_ours_is_itself(wire: dict[str, Any]) -> None:
    """Whoever exports events as JSON and imports them gets the same events, ids and all."""
    before, after = decode(json.dumps(wire).encode(), WINDOW), event_of(wire)
    for name in (
        "id",
        "player",
        "action",
        "xp_delta",
        "karma_total",
        "rank",
        "energy_source",
        "seq",
    ):
        assert getattr(after, name) == getattr(before, name), name
    if before.details_json is None:
        assert after.details_json is None
    else:
        wanted = json.loads(before.details_json)
        assert json.loads(after.details_json or b"{}") == wanted


def test_what_is_not_said_is_nothing_gained_and_neutral() -> None:
    """A file that knows no karma and no XP makes events all the same."""
    event = event_of(KILL)
    assert (event.xp_delta, event.karma_delta, event.karma_total) == (0, 0, 0)
    assert (event.rank, event.energy_source, event.seq) == ("Neutral", None, None)
    assert event_of({**KILL, "karma_total": -80, "rank": None}).rank == "Infamous"


def test_columns_are_named_constants_set_and_values_renamed() -> None:
    """Another system's words for the same things; a constant holds for every record."""
    record = {
        "at": NOON,
        "who": "Nix",
        "what": "kill",
        "place": "Neon",
        "amount": "5",
        "player": "x",
    }
    plan = {
        "columns": {"ts": "at", "player": "who", "action": "what", "details.district": "place"},
        "constants": {"karma_total": 20, "details.source": "old game"},
        "renames": {"action": {"kill": "kill_enemy"}, "details.district": {"Neon": "Neon Mile"}},
    }
    event = event_of(record, **plan)
    assert (event.player, event.action, event.rank) == ("Nix", "kill_enemy", "Guardian")
    # What another column is called player stays: nothing is dropped without a word.
    assert details_of(record, **plan) == {
        "district": "Neon Mile", "source": "old game", "amount": "5", "player": "x",
    }  # fmt: skip


def test_whole_numbers_are_numbers_however_they_are_written() -> None:
    """CSV has text, and pandas writes whole numbers with a point where a column has gaps."""
    written = {"xp_delta": "+5", "karma_delta": 2.0, "karma_total": " 16 ", "seq": "7.0", "v": 1}
    event = event_of({**KILL, **written})
    assert (event.xp_delta, event.karma_delta, event.karma_total, event.seq) == (5, 2, 16, 7)
    assert event_of({**KILL, "xp_delta": Decimal("3.00"), "player": 12}).player == "12"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"xp_delta": "5.5"}, Reason.BAD_TYPE),
        ({"xp_delta": True}, Reason.BAD_TYPE),
        ({"xp_delta": "many"}, Reason.BAD_TYPE),
        ({"xp_delta": Decimal("Infinity")}, Reason.NOT_FINITE),
        ({"karma_total": "500"}, Reason.OUT_OF_RANGE),
        ({"karma_total": "1" * 400}, Reason.OUT_OF_RANGE),
        ({"player": None}, Reason.BAD_TYPE),
        ({"player": 1.5}, Reason.BAD_TYPE),
        ({"action": "dance"}, Reason.UNKNOWN_ACTION),
        ({"rank": "Hero"}, Reason.BAD_RANK),
        ({"details": "text"}, Reason.BAD_TYPE),
        ({"details": {"a": 1}, "a": 2}, Reason.AMBIGUOUS_KEY),
        ({"score": float("nan")}, Reason.NOT_FINITE),
        ({"score": Decimal("NaN")}, Reason.NOT_FINITE),
        ({"word": "\ud800"}, Reason.NOT_JSON),
        ({"word": "x" * 5000}, Reason.DETAILS_TOO_LARGE),
        ({"ts": "yesterday"}, Reason.BAD_TS),
        ({"ts": "2025-13-24T16:00:00Z"}, Reason.BAD_TS),
        ({"ts": "2025-11-24T16:00:00"}, Reason.BAD_TS),
        ({"ts": "2025-11-24"}, Reason.BAD_TS),
        ({"ts": date(2025, 11, 24)}, Reason.BAD_TS),
        ({"ts": -5}, Reason.BAD_TS),
        ({"ts": 1e300}, Reason.BAD_TS),
        ({"ts": float("nan")}, Reason.BAD_TS),
        ({"ts": 1_764_000_000_123_456}, Reason.BAD_TS),
        ({"ts": True}, Reason.BAD_TS),
        ({"ts": None}, Reason.MISSING_KEY),
        ({"ts": 1}, Reason.TOO_OLD),
        ({"ts": 99_999_999_999_999}, Reason.IN_FUTURE),
        ({"ts": "9999-12-31T23:59:59Z"}, Reason.IN_FUTURE),
        ({"id": str(uuid7(NOW_MS - 1, 1))}, Reason.TS_MISMATCH),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(wrong: dict[str, Any], reason: Reason) -> None:
    """Nothing is guessed: a value that is none is refused by the rules for every event."""
    with pytest.raises(Refused) as caught:
        event_of({**KILL, **wrong})
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    "ts",
    [
        NOON,
        "2025-11-24 17:00:00.1239999+0100",
        "2025-11-24t16:00:00.123 z",
        1_764_000_000.123,
        1_764_000_000_123,
        "1764000000.123",
        " 1764000000123 ",
        Decimal("1764000000.1239"),
        datetime(2025, 11, 24, 16, 0, 0, 123_999, tzinfo=UTC),
        datetime(2025, 11, 24, 17, 0, 0, 123_000, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_times_are_written_in_many_ways(ts: object) -> None:
    """RFC 3339, Unix seconds and milliseconds, told apart by their size; fractions are cut, never rounded."""
    assert event_of({**KILL, "ts": ts}).ts_ms == NOW_MS


def test_a_time_without_offset_needs_a_word() -> None:
    """Local time is no time until somebody says which."""
    naive: tuple[object, ...] = (
        "2025-11-24T16:00:00.123",
        datetime(2025, 11, 24, 16, 0, 0, 123_000),  # noqa: DTZ001
    )
    for ts in naive:
        with pytest.raises(Refused, match="without an offset"):
            event_of({**KILL, "ts": ts})
        assert event_of({**KILL, "ts": ts}, is_utc=True).ts_ms == NOW_MS


def test_an_id_that_is_one_stays_and_says_the_time() -> None:
    """A UUIDv7 is the event's identity wherever it came from."""
    own = uuid7(NOW_MS, 77)
    record = {"player": "Zeke", "action": "kill_enemy", "id": str(own).upper()}
    assert event_of(record).id == own
    assert event_of({**record, "id": own}).id == own
    assert event_of({**KILL, "key": str(own)}, columns={"id": "key"}).id == own


def test_another_id_becomes_a_detail_and_part_of_the_seed() -> None:
    """The other system's key is kept, and two of its records are two events."""
    one, two = ({**KILL, "id": number} for number in (1, 2))
    assert details_of(one) == {"id": 1}
    assert event_of(one).id != event_of(two).id
    ours = details_of({**KILL, "row": "a-1"}, columns={"id": "row"})
    assert ours == {"row": "a-1"}


@given(st.permutations(list({**KILL, "a": 1, "b": "x", "karma_total": 3}.items())))
def test_the_same_record_is_the_same_event(items: list[tuple[str, Any]]) -> None:
    """The id follows from what the record says, not from the order of its columns."""
    wanted = payload_of({**KILL, "a": 1, "b": "x", "karma_total": 3}, Plan())
    found = payload_of(dict(items), Plan())
    assert decode(found, WINDOW).id == decode(wanted, WINDOW).id
    # For ever: what was imported with one version must not come again with the next.
    assert decode(found, WINDOW).id == UUID("019ab697-e87b-7e68-bec1-9b82640536bd")


def test_details_come_in_columns_of_their_own_or_as_an_object() -> None:
    """CSV has both: JSON in a cell, and a column a detail."""
    record = {**KILL, "details": '{"enemy": "Reaper"}', "details.mission": "Alden", "mood": None}
    assert details_of(record) == {"enemy": "Reaper", "mission": "Alden", "mood": None}


def test_what_json_has_no_word_for_is_written_out() -> None:
    """Parquet has times, decimals and bytes."""
    record = {
        **KILL, "day": date(2025, 1, 2), "price": Decimal("1.50"), "whole": Decimal(2),
        "raw": b"a\xff", "took": timedelta(seconds=2), "key": UUID(int=1),
    }  # fmt: skip
    assert details_of(record) == {
        "day": "2025-01-02", "price": 1.5, "whole": 2, "raw": "a\\xff", "took": 2.0,
        "key": "00000000-0000-0000-0000-000000000001",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"columns": {"tss": "at"}}, "'tss' is no key of an event: give one of id, ts"),
        ({"constants": {"details.": 1}}, "is no key"),
        ({"renames": {"x": {"a": "b"}}}, "'x' is no key"),
        ({"columns": {"ts": "at"}, "constants": {"ts": 1}}, "ts is in --map and in --set"),
    ],
)
def test_a_plan_that_cannot_be_is_told(plan: dict[str, Any], words: str) -> None:
    """The sentence names what is wrong with the options."""
    with pytest.raises(BadMapping, match=words):
        Plan(**plan)


def test_a_column_that_is_not_there_is_told_with_those_that_are() -> None:
    """A typing error is seen before anything is sent."""
    plan = Plan(columns={"player": "wo"})
    plan.require(["wo"])
    with pytest.raises(BadMapping, match="no column wo: there are when, who"):
        plan.require(["when", "who"])


def test_the_same_options_are_the_same_plan() -> None:
    """An import goes on where it was only if it is read the same way."""
    one = Plan(columns={"ts": "a", "player": "b"})
    assert one.as_text() == Plan(columns={"player": "b", "ts": "a"}).as_text()
    others = (
        Plan(columns={"ts": "a"}),
        Plan(columns=one.columns, is_utc=True),
        Plan(one.columns, {"v": 1}),
    )
    assert len({plan.as_text() for plan in (one, *others)}) == 4


def test_a_plain_event_has_no_details() -> None:
    """An empty object would be stored for every row."""
    assert event_of(KILL).details_json is None
    assert fields()["id"] == str(event_of(fields()).id)
