"""Entries: an array is taken apart to the byte, and what was sent together is judged one by one."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.batch import Batch, Limits, Mean, handfuls
from pipeline.entry import (
    MAX_ARRAY_BYTES,
    MAX_ARRAY_EVENTS,
    Entry,
    Form,
    array_of,
    packed_up,
    payloads_of,
    split,
    unpacked,
)
from pipeline.event import MAX_EVENT_BYTES, Reason, Refused
from tests.unit.samples import WINDOW, payload

ROOMY = Limits(rows=1000, bytes=10_000_000, age_s=60.0)
GOOD = payload()

NO_ARRAYS = {
    "nothing": b"",
    "space": b"  ",
    "an empty array": b"[]",
    "an empty array with space in it": b" [ ] ",
    "an event": GOOD,
    "null": b"null",
    "a text that holds an array": b'"[1]"',
    "not closed": b"[" + GOOD,
    "not opened": GOOD + b"]",
    "closed by another sign": b"[" + GOOD + b"}",
    "a comma too many": b"[" + GOOD + b",]",
    "a comma first": b"[," + GOOD + b"]",
    "two commas": b"[1,,2]",
    "no comma": b"[1 2]",
    "something after it": b"[1]x",
    "another after it": b"[1][2]",
    "a mark before it": b"\xef\xbb\xbf[1]",
    "16 bits a character": "[1]".encode("utf-16"),
    "a line an event": GOOD + b"\n" + GOOD,
    "half an event at the end": b"[" + GOOD + b"," + GOOD[:-1] + b"]",
    "single quotes": b"['a']",
    "nested too deep for any parser": b"[" * 100_000,
    "a NUL between two": b"[1\0,2]",
}


@pytest.mark.parametrize("array", NO_ARRAYS.values(), ids=NO_ARRAYS)
def test_what_is_no_array_is_refused(array: bytes) -> None:
    """An entry that cannot be taken apart goes to the quarantine whole, with the one reason for that."""
    with pytest.raises(Refused) as caught:
        split(array)
    assert caught.value.reason is Reason.BAD_ARRAY


def test_an_array_has_limits() -> None:
    """A thousand events or 256 KiB are taken, one more is not: a reader knows what may come."""
    assert split(array_of([b"1"] * MAX_ARRAY_EVENTS)) == [b"1"] * MAX_ARRAY_EVENTS
    assert split(b"[1]".ljust(MAX_ARRAY_BYTES)) == [b"1"]
    for array in (array_of([b"1"] * (MAX_ARRAY_EVENTS + 1)), b"[1]".ljust(MAX_ARRAY_BYTES + 1)):
        with pytest.raises(Refused) as caught:
            split(array)
        assert caught.value.reason is Reason.BAD_ARRAY


@pytest.mark.parametrize(
    "bad",
    [
        b"NaN",
        b'{"xp_delta":-Infinity}',
        b'"\\ud800"',
        b'{"player":"Str\xe4y"}',
        b'"a\0b"',
        b'"a\nb"',
        b"9" * 5000,
        b"1e999",
        b"[[1],[2]]",
        b'{"id":1,"id":2}',
        b"{}",
        b"\xff",
    ],
)
def test_what_is_wrong_with_one_is_its_own_affair(bad: bytes) -> None:
    """As long as its end can be found, an element that is not even JSON leaves the others usable."""
    if bad == b"\xff":  # no parser finds the end of that
        with pytest.raises(Refused):
            split(array_of([GOOD, bad]))
        return
    assert split(array_of([GOOD, bad, GOOD])) == [GOOD, bad, GOOD]


@pytest.mark.parametrize("element", [b"NaN", b"[NaN]", b'"\0"', b'{"a":NaN}', b"0"])
def test_a_hostile_array_takes_no_time(element: bytes) -> None:
    """Whatever fills an array, it is dealt with before anyone would take the consumer for dead."""
    began_s = time.perf_counter()
    with pytest.raises(Refused):
        split(array_of([element] * ((MAX_ARRAY_BYTES - 2) // (len(element) + 1))))
    assert time.perf_counter() - began_s < 5.0


LARGE_ELEMENTS = {
    "NaNs": b"[" + b"NaN," * 60_000 + b"0]",
    "digits": b"9" * 260_000,
    "digits beside a NaN": b"[NaN," + b"9" * 260_000 + b"]",
    "escapes": b'"' + b"\\\\" * 130_000 + b'"',
    "NULs": b'"' + b"\0" * 260_000 + b'"',
    "space": b" " * 260_000 + b"NaN",
}
LARGE_MISTAKES = {
    "not closed": b"[" + b"NaN," * 60_000 + b"0",
    "no end of a text": b'"' + b"\\\\" * 130_000,
    "objects in each other": b'{"a":' * 40_000,
}


@pytest.mark.parametrize("element", LARGE_ELEMENTS.values(), ids=LARGE_ELEMENTS)
def test_one_large_element_takes_no_time(element: bytes) -> None:
    """An array need not have many elements to be as large as may be; its end is found all the same."""
    began_s = time.perf_counter()
    assert split(array_of([element])) == [element.strip()]
    assert time.perf_counter() - began_s < 5.0


@pytest.mark.parametrize("element", LARGE_MISTAKES.values(), ids=LARGE_MISTAKES)
def test_one_large_mistake_takes_no_time(element: bytes) -> None:
    """Looking in vain for the end of an element is no work for minutes, either."""
    began_s = time.perf_counter()
    with pytest.raises(Refused) as caught:
        split(array_of([element]))
    assert caught.value.reason is Reason.BAD_ARRAY
    assert time.perf_counter() - began_s < 5.0


@pytest.mark.parametrize("odd", [b"0", b"NaN"], ids=["as JSON", "leniently"])
def test_space_belongs_to_the_array(odd: bytes) -> None:
    """What stands between elements is dropped, what stands within one is kept to the byte."""
    element = b'{ "a" :\t[ 1 ,\n2 ] }'
    array = b" \r\n[\t" + element + b"\n,  " + odd + b" , \t" + element + b"\r] \n"
    assert split(array) == [element, odd, element]


@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda children: st.lists(children) | st.dictionaries(st.text(), children),
            max_leaves=8,
        ),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
    st.sampled_from([b"0", b"NaN", b'"\xff\0"', b'"\\ud800"']),
)
def test_whatever_was_joined_is_taken_apart_again(
    values: list[object], is_ascii: bool, odd: bytes
) -> None:
    """No sign inside an element is ever taken for the array's own, whichever parser has to look."""
    elements = [
        json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
        for value in values
    ]
    assert split(array_of([*elements, odd])) == [*elements, odd]


def test_packing_up_keeps_the_order() -> None:
    """One event alone needs no array; many are cut into pieces, in the order in which they happened."""
    payloads = [payload(number=number) for number in range(7)]
    packed = packed_up(payloads, 3)
    assert [form for form, _ in packed] == [Form.EVENTS, Form.EVENTS, Form.EVENT]
    assert [split(packed[0][1]), split(packed[1][1]), [packed[2][1]]] == [
        payloads[:3],
        payloads[3:6],
        payloads[6:],
    ]
    assert packed_up(payloads, 1) == [(Form.EVENT, one) for one in payloads]
    assert packed_up([], 3) == []


# --- what a batch makes of them


def array(number: int, *payloads: bytes) -> Entry:
    """The entry of that number with these events in it."""
    return Entry(b"%d-0" % number, array_of(payloads), Form.EVENTS)


def test_a_batch_judges_the_events_of_an_array_one_by_one() -> None:
    """Each becomes an event or a refusal under its entry's id; the entry is acknowledged once."""
    batch = Batch(ROOMY)
    one, two, three = (payload(number=number) for number in (1, 2, 3))
    too_large = payload(details={"log": "x" * MAX_EVENT_BYTES})
    entries = [
        array(1, one, b"NaN", two),
        Entry(b"2-0", three),
        Entry(b"3-0", b"[" + one, Form.EVENTS),
        Entry(b"4-0", b'["a","b"]', Form.FOREIGN),
        array(5, too_large),
    ]
    batch.take(entries, WINDOW, 10.0)
    assert batch.ids == [b"1-0", b"2-0", b"3-0", b"4-0", b"5-0"]
    assert batch.sources == [Entry(b"1-0", one), Entry(b"1-0", two), Entry(b"2-0", three)]
    assert [event.id.int & 0xFF for event in batch.events] == [1, 2, 3]
    refused = {refusal.reason: refusal.entry for refusal in batch.refusals}
    assert refused == {
        Reason.NOT_FINITE: Entry(b"1-0", b"NaN"),
        Reason.BAD_ARRAY: entries[2],
        Reason.NOT_AN_EVENT_ENTRY: entries[3],
        Reason.TOO_LARGE: Entry(b"5-0", too_large),
    }
    assert batch.taken == 7
    assert len(batch.refused_at) == len(set(batch.refused_at)) == 4
    assert max(batch.refused_at) < batch.taken
    assert batch.size_bytes == sum(len(entry.payload) for entry in entries)


def test_a_batch_is_full_by_its_events() -> None:
    """A hundred rows are a hundred rows, whatever brought them."""
    batch = Batch(Limits(rows=100, bytes=10_000_000, age_s=60.0))
    batch.take([array(1, *[GOOD] * 99)], WINDOW, 10.0)
    assert not batch.is_due(10.0, is_drained=False)
    batch.take([Entry(b"2-0", GOOD)], WINDOW, 10.0)
    assert batch.is_due(10.0, is_drained=False)


def test_a_batch_asks_for_fewer_entries_that_carry_more() -> None:
    """What is asked for at once is bounded by events, or a page of arrays would overfill a batch."""
    batch = Batch(ROOMY)
    batch.take([array(1, *[GOOD] * 50), array(2, *[GOOD] * 150)], WINDOW, 10.0)
    assert batch.mean() == Mean(batch.size_bytes / 2, 100.0)
    assert batch.room() == 8  # of a thousand rows 800 are left
    assert batch.room(coming=5) == 3
    assert batch.room(coming=8) == 10  # those fill this one: the next one's
    assert Batch(Limits(10**6, 10**9, 60.0), batch.mean()).room() == 10  # a thousand events
    assert Batch(Limits(10**6, batch.size_bytes * 2, 60.0), batch.mean()).room() == 4


def test_a_batch_takes_an_event_for_one_at_the_top_only() -> None:
    """A sender that wraps events twice is told so; nothing is dug out of a text or of another array."""
    batch = Batch(ROOMY)
    inner = [json.dumps(GOOD.decode()).encode(), array_of([GOOD]), array_of([array_of([GOOD])])]
    batch.take([array(1, *inner), Entry(b"2-0", array_of([GOOD]))], WINDOW, 10.0)
    assert batch.events == []
    assert [refusal.reason for refusal in batch.refusals] == [Reason.NOT_AN_OBJECT] * 4
    assert [refusal.entry.payload for refusal in batch.refusals] == [*inner, array_of([GOOD])]


def test_what_the_elements_of_arrays_are_stays_with_their_entry() -> None:
    """Behind a refused event, and across pages, each event still has its own entry and its own bytes."""
    batch = Batch(ROOMY)
    payloads = [payload(number=number) for number in range(40)]
    for page in range(2):
        of_page = payloads[page * 20 : page * 20 + 20]
        batch.take(
            [
                array(page * 10 + 1, *of_page[:7], b"7", *of_page[7:9]),
                Entry(b"%d-0" % (page * 10 + 2), of_page[9]),
                Entry(b"%d-0" % (page * 10 + 3), b"bad"),
                array(page * 10 + 4, b"8", *of_page[10:]),
            ],
            WINDOW,
            10.0,
        )
    assert [source.payload for source in batch.sources] == payloads
    assert [event.id.int & 0xFF for event in batch.events] == list(range(40))
    entries = [1] * 9 + [2] + [4] * 10
    assert [int(source.id.split(b"-")[0]) for source in batch.sources] == [
        *entries,
        *[entry + 10 for entry in entries],
    ]
    assert batch.refused_at == [7, 11, 12, 30, 34, 35]
    assert len(batch.ids) == 8


def test_a_page_of_arrays_is_looked_at_by_the_handful() -> None:
    """Who asked for a thousand small entries and got arrays does not fill one batch with a million events."""
    alone = [Entry(b"%d-0" % number, GOOD) for number in range(1000)]
    assert list(handfuls(alone)) == [alone]
    arrays = [array(number, GOOD) for number in range(25)]
    assert [len(some) for some in handfuls(arrays)] == [10, 10, 5]
    assert [entry for some in handfuls(arrays) for entry in some] == arrays
    assert list(handfuls([])) == [[]]
    # One among many costs the others nothing.
    assert list(handfuls([*alone, *arrays[:1], *alone])) == [[*alone, *arrays[:1], *alone]]


def test_entries_are_taken_apart_in_one_place() -> None:
    """An event each, in their order, under the id of what brought it; what carries none is told apart."""
    entries = [
        Entry(b"1-0", b"no JSON"),
        Entry(b"2-0", b'["event", "x"]', Form.FOREIGN),
        Entry(b"3-0", b"[1, 2]", Form.EVENTS),
        Entry(b"4-0", b"[", Form.EVENTS),
        Entry(b"5-0", GOOD),
    ]
    found, refused = unpacked(entries)
    assert found == [
        entries[0],
        Entry(b"3-0", b"1"),
        Entry(b"3-0", b"2"),
        entries[4],
    ]
    assert [(entry, why.reason) for entry, why in refused] == [
        (entries[1], Reason.NOT_AN_EVENT_ENTRY),
        (entries[3], Reason.BAD_ARRAY),
    ]
    assert all(why.__traceback__ is None for _, why in refused)
    assert payloads_of(entries[2]) == [b"1", b"2"]
