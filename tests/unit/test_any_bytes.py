"""Any bytes at all: entries flow into a batch, each one flows out as one event or one refusal."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.batch import Batch, Limits
from consumer.rows import copy_binary
from pipeline.event import Entry
from tests.unit.samples import WINDOW
from tests.unit.test_rows import as_meant, as_read, read_back
from tests.unit.wire_events import json_texts, mutated, wire_fields

LIMITS = Limits(rows=1000, bytes=1_000_000, age_s=60.0)
# From noise to what a sender may well write; the flag says whether the field is named event.
ANYTHING = st.tuples(
    st.binary(max_size=300)
    | json_texts().map(str.encode)
    | mutated()
    | wire_fields().map(lambda one: json.dumps(one, ensure_ascii=False).encode()),
    st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(ANYTHING, max_size=4))
def test_any_entry_is_one_event_or_one_refusal(sent: list[tuple[bytes, bool]]) -> None:
    """Nothing raises, nothing is dropped or doubled, and each id is acknowledged once, in its order."""
    batch = Batch(LIMITS)
    entries = [
        Entry(b"%d-0" % number, raw, is_event) for number, (raw, is_event) in enumerate(sent)
    ]
    for entry in entries:
        batch.take([entry], WINDOW, 0.0)
    assert batch.ids == [entry.id for entry in entries]
    assert len(batch.events) == len(batch.sources)
    refused = [refusal.entry for refusal in batch.refusals]
    assert sorted(batch.sources + refused, key=repr) == sorted(entries, key=repr)
    assert [entries[place] for place in batch.refused_at] == refused
    assert all(source.is_event for source in batch.sources)
    assert batch.size_bytes == sum(len(raw) for raw, _ in sent)


@settings(max_examples=100, deadline=None)
@given(st.lists(mutated(), max_size=4))
def test_whatever_became_an_event_can_be_written(sent: list[bytes]) -> None:
    """What a batch took for an event, however odd, is encoded for the database field by field."""
    batch = Batch(LIMITS)
    for number, raw in enumerate(sent):
        batch.take([Entry(b"%d-0" % number, raw)], WINDOW, 0.0)
    assert [as_read(row) for row in read_back(copy_binary(batch.events))] == [
        as_meant(event) for event in batch.events
    ]
