"""Any bytes at all: entries flow into a batch, each one flows out as one event or one refusal."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.batch import Batch, Limits
from consumer.rows import copy_binary
from pipeline import entry as entries_of_stream
from pipeline.entry import Entry, Form, array_of, split
from pipeline.event import Refused
from tests.unit.samples import WINDOW
from tests.unit.test_rows import as_meant, as_read, read_back
from tests.unit.wire_events import json_texts, mutated, wire_fields

LIMITS = Limits(rows=1000, bytes=1_000_000, age_s=60.0)
# From noise to what a sender may well write.
BYTES = (
    st.binary(max_size=300)
    | json_texts().map(str.encode)
    | mutated()
    | wire_fields().map(lambda one: json.dumps(one, ensure_ascii=False).encode())
)
# Arrays of it, some of them broken.
ARRAYS = st.lists(BYTES, max_size=4).map(array_of) | BYTES
ANYTHING = st.tuples(BYTES, st.sampled_from([Form.EVENT, Form.FOREIGN])) | st.tuples(
    ARRAYS, st.just(Form.EVENTS)
)


@settings(max_examples=100, deadline=None)
@given(st.lists(ANYTHING, max_size=4))
def test_whatever_comes_is_an_event_or_a_refusal(sent: list[tuple[bytes, Form]]) -> None:
    """Nothing raises, nothing is dropped or doubled, and each id is acknowledged once, in its order."""
    batch = Batch(LIMITS)
    entries = [Entry(b"%d-0" % number, raw, form) for number, (raw, form) in enumerate(sent)]
    expected: list[Entry] = []
    for entry in entries:
        batch.take([entry], WINDOW, 0.0)
        expected += parts(entry)
    assert batch.ids == [entry.id for entry in entries]
    assert len(batch.events) == len(batch.sources)
    refused = [refusal.entry for refusal in batch.refusals]
    assert sorted(batch.sources + refused, key=repr) == sorted(expected, key=repr)
    assert [expected[place] for place in batch.refused_at] == refused
    assert all(source.form is Form.EVENT for source in batch.sources)
    assert batch.size_bytes == sum(len(raw) for raw, _ in sent)


def parts(entry: Entry) -> list[Entry]:
    """What is looked at of an entry: its events one by one, or all of it at once."""
    if entry.form is not Form.EVENTS:
        return [entry]
    try:
        return [Entry(entry.id, payload) for payload in split(entry.payload)]
    except Refused:
        return [entry]


@settings(max_examples=100)
@given(st.lists(wire_fields(), min_size=1, max_size=8), st.sampled_from([None, 1]))
def test_an_array_is_taken_apart_to_the_byte(events: list[Any], indent: int | None) -> None:
    """Each element comes out as its sender wrote it, whatever the space around it."""
    payloads = [json.dumps(event, ensure_ascii=False, indent=indent).encode() for event in events]
    assert split(array_of(payloads)) == payloads
    assert split(b" [ " + b" ,\n ".join(payloads) + b"\t] ") == payloads


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.lists(json_texts().map(str.encode)).map(array_of) | mutated())
def test_the_lenient_way_agrees_with_the_strict_one(array: bytes) -> None:
    """What is a JSON array is taken apart alike by both parsers: the second one only forgives more."""
    try:
        strict = [bytes(one) for one in msgspec.json.decode(array, type=list[msgspec.Raw])]
    except msgspec.MsgspecError:
        return
    if strict:
        assert (
            entries_of_stream._split_leniently(array) == strict
        )  # else only reached by bad arrays


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
