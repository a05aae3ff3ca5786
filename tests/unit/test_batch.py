"""A batch: what it takes in, when it is due, how much more it asks for."""

from __future__ import annotations

import pytest

from consumer.batch import Batch, Limits, Mean
from pipeline.entry import MAX_ARRAY_BYTES, Entry, Form
from pipeline.event import Reason
from tests.unit.samples import WINDOW, payload

ROOMY = Limits(rows=100, bytes=1_000_000, age_s=60.0)


def entry(number: int, raw: bytes | None = None) -> Entry:
    """The entry of that number; a good event unless bytes are given."""
    return Entry(b"%d-0" % number, payload(number=number) if raw is None else raw)


def batch_of(entries: int, limits: Limits = ROOMY, now_s: float = 10.0) -> Batch:
    """A batch that took so many good events at one moment."""
    batch = Batch(limits)
    for number in range(entries):
        batch.take([entry(number)], WINDOW, now_s)
    return batch


def test_good_and_bad_entries_part_and_all_are_acknowledged() -> None:
    """Every entry's id is kept for the acknowledgement, in the order they came, whatever it holds."""
    batch = Batch(ROOMY)
    batch.take([entry(1)], WINDOW, 0.0)
    batch.take([entry(2, b"\xff\0garbage")], WINDOW, 0.0)
    batch.take([Entry(b"3-0", b'["a","b"]', Form.FOREIGN)], WINDOW, 0.0)
    batch.take([entry(4)], WINDOW, 0.0)
    assert batch.ids == [b"1-0", b"2-0", b"3-0", b"4-0"]
    assert [source.id for source in batch.sources] == [b"1-0", b"4-0"]
    assert [event.id.int & 0xFF for event in batch.events] == [1, 4]
    assert [(refusal.entry.id, refusal.reason) for refusal in batch.refusals] == [
        (b"2-0", Reason.NOT_JSON),
        (b"3-0", Reason.NOT_AN_EVENT_ENTRY),
    ]


def test_a_foreign_entry_is_refused_even_if_its_fields_look_like_an_event() -> None:
    """Only the field named event carries events: another's value is never taken for one."""
    batch = Batch(ROOMY)
    batch.take([Entry(b"1-0", payload(), Form.FOREIGN)], WINDOW, 0.0)
    assert not batch.events
    assert batch.refusals[0].reason is Reason.NOT_AN_EVENT_ENTRY


def test_an_empty_batch_is_never_due() -> None:
    """Nothing is stored when nothing was read, however long that lasts."""
    assert not Batch(ROOMY).is_due(1e9, is_drained=True)


@pytest.mark.parametrize(
    ("limits", "now_s", "is_drained", "is_due"),
    [
        pytest.param(ROOMY, 10.0, False, False, id="room left"),
        pytest.param(ROOMY, 10.0, True, True, id="nothing more waits"),
        pytest.param(Limits(3, 1_000_000, 60.0), 10.0, False, True, id="full by count"),
        pytest.param(Limits(4, 1_000_000, 60.0), 10.0, False, False, id="one short by count"),
        pytest.param(Limits(100, 3 * len(payload()), 60.0), 10.0, False, True, id="full by bytes"),
        pytest.param(
            Limits(100, 3 * len(payload()) + 1, 60.0), 10.0, False, False, id="a byte short"
        ),
        pytest.param(ROOMY, 69.9, False, False, id="not old yet"),
        pytest.param(ROOMY, 70.0, False, True, id="old"),
    ],
)
def test_due(limits: Limits, now_s: float, is_drained: bool, is_due: bool) -> None:
    """Count, bytes, age and a drained stream each make a batch due, at their limit and not before."""
    assert batch_of(3, limits).is_due(now_s, is_drained=is_drained) is is_due


def test_age_counts_from_the_first_entry() -> None:
    """Entries that trickle in do not put off the moment the first one is stored."""
    batch = batch_of(1, now_s=10.0)
    batch.take([entry(9)], WINDOW, 69.0)
    assert batch.opened_s == 10.0
    assert batch.is_due(70.0, is_drained=False)


def test_refused_bytes_count_as_well() -> None:
    """A flood of garbage fills a batch as events do: memory is bounded by what came, good or bad."""
    batch = Batch(Limits(100, 1000, 60.0))
    batch.take([entry(1, b"x" * 1000)], WINDOW, 0.0)
    assert batch.is_due(0.0, is_drained=False)


@pytest.mark.parametrize(
    ("limits", "entries", "room"),
    [
        pytest.param(Limits(100, 1_000_000_000, 1.0), 0, 100, id="empty: all rows"),
        pytest.param(Limits(5000, 1_000_000_000, 1.0), 0, 1000, id="never over one read"),
        pytest.param(
            Limits(5000, 10 * MAX_ARRAY_BYTES, 1.0),
            0,
            10,
            id="nothing seen: the largest are expected",
        ),
        pytest.param(Limits(5000, 100_000_000, 1.0), 1, 1000, id="small entries: still one read"),
        pytest.param(Limits(100, 1_000_000, 1.0), 97, 3, id="rows that are left"),
        pytest.param(Limits(100, 10 * len(payload()), 1.0), 4, 6, id="bytes that are left"),
        pytest.param(
            Limits(100, 4 * len(payload()), 1.0), 4, 4, id="full by bytes: the next one's"
        ),
        pytest.param(Limits(3, 1_000_000, 1.0), 3, 3, id="full by rows: the next one's"),
    ],
)
def test_room(limits: Limits, entries: int, room: int) -> None:
    """A read asks for what fits by count and by the mean size so far, and always for something."""
    assert batch_of(entries, limits).room() == room


def test_a_batch_expects_what_the_one_before_it_saw() -> None:
    """Small events are read a thousand at once again, from the second batch on."""
    before = batch_of(3, Limits(5000, 1_000_000, 1.0))
    assert before.mean() == Mean(len(payload()), 1)
    after = Batch(before.limits, before.mean())
    assert after.room() == 1000
    assert Batch(Limits(5000, 10 * len(payload()), 1.0), before.mean()).room() == 10


def test_empty_payloads_leave_room() -> None:
    """Entries of no bytes have no mean size to divide by."""
    batch = Batch(ROOMY)
    batch.take([entry(1, b"")], WINDOW, 0.0)
    assert batch.room() == 99


@pytest.mark.parametrize(
    ("coming", "room"),
    [(0, 90), (60, 30), (89, 1), (90, 100), (500, 100)],
)
def test_room_beside_what_is_on_its_way(coming: int, room: int) -> None:
    """A page that is asked for ahead never makes a batch larger than it may be."""
    assert batch_of(10, Limits(100, 100_000_000, 1.0)).room(coming) == room
