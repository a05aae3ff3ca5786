"""Sift: what of the past is sent again, in what form, and what is left out."""

from __future__ import annotations

import random
from itertools import pairwise

from jobs.seen import Seen
from jobs.sift import EVENTS_AN_ENTRY, EVERYTHING, Chosen, Sifted, packed, sifted
from pipeline.entry import MAX_ARRAY_BYTES, MAX_ARRAY_EVENTS, Entry, Form, array_of, split
from pipeline.event import MAX_EVENT_BYTES, Event, Window, decode, encode
from tests.unit.samples import NOW_MS, RETENTION_DAYS, WINDOW, chains, payload

GOOD = payload(ts=None)
OTHERS = payload(player="Cole MacGrath", number=6)
OLD = payload(WINDOW.oldest_ms - 1, ts=None)
BAD = b"bad"


def of(*payloads: bytes) -> list[Entry]:
    """Entries with an event each."""
    return [Entry(b"%d-0" % number, one) for number, one in enumerate(payloads)]


def test_everything_goes_again_in_its_own_bytes() -> None:
    """What is no event, too: it is judged anew. What is another program's stays."""
    array = Entry(b"8-0", b" [" + GOOD + b" , 1 ] ", Form.EVENTS)
    broken = Entry(b"9-0", b"[", Form.EVENTS)
    foreign = Entry(b"10-0", b"[]", Form.FOREIGN)
    done = sifted([*of(GOOD, BAD), array, broken, foreign], EVERYTHING, WINDOW)
    assert done == Sifted(
        [
            (Form.EVENT, GOOD),
            (Form.EVENT, BAD),
            (Form.EVENTS, array.payload),
            (Form.EVENTS, b"["),
        ],
        events=2,
        foreign=1,
    )


def test_what_is_too_old_is_left_out() -> None:
    """A consumer would refuse it, though it is stored: alone, and out of an array."""
    array = Entry(b"8-0", array_of([GOOD, OLD, OTHERS]), Form.EVENTS)
    all_old = Entry(b"9-0", array_of([OLD, OLD]), Form.EVENTS)
    done = sifted([*of(OLD), array, all_old], EVERYTHING, WINDOW)
    assert done == Sifted([(Form.EVENTS, array_of([GOOD, OTHERS]))], events=2, too_old=4)


def test_a_player_and_an_action_narrow_it_down() -> None:
    """Events that are asked for go again, arrays as arrays of them; what is no event is nobody's."""
    array = Entry(b"8-0", array_of([GOOD, b"1", OTHERS]), Form.EVENTS)
    broken = Entry(b"9-0", b"[", Form.EVENTS)
    entries = [*of(GOOD, OTHERS, BAD), array, broken]
    done = sifted(entries, Chosen(player="Cole MacGrath"), WINDOW)
    expected = [(Form.EVENT, OTHERS), (Form.EVENTS, array_of([OTHERS]))]
    assert done == Sifted(expected, events=2, refused=3)
    none = sifted(entries, Chosen(player="Cole MacGrath", action="recharge"), WINDOW)
    assert none == Sifted([], refused=3)
    assert sifted(entries, Chosen(action="kill_enemy"), WINDOW).events == 4


def test_what_was_let_through_before_is_left_out() -> None:
    """Alone, in an array, spelled out in another way, or no event at all; what is another event goes."""
    seen = Seen(100)
    other = payload(ts=None, details={"enemy": "Reaper"})
    archived = encode(decode(GOOD, WINDOW))
    in_rome = payload(ts="2025-11-24T17:00:00.123+01:00")
    assert len({GOOD, archived, in_rome}) == 3
    array = Entry(b"7-0", array_of([GOOD, OTHERS, b"1"]), Form.EVENTS)
    broken = Entry(b"8-0", b"[", Form.EVENTS)
    first = sifted([*of(GOOD, BAD, b"["), array, broken], EVERYTHING, WINDOW, seen.is_new)
    assert first.entries[3:] == [(Form.EVENTS, array_of([OTHERS, b"1"])), (Form.EVENTS, b"[")]
    assert (first.events, first.repeated) == (2, 1)
    again = [*of(archived, in_rome, BAD, b"1", other), array, broken]
    second = sifted(again, EVERYTHING, WINDOW, seen.is_new)
    assert second == Sifted([(Form.EVENT, other)], events=1, repeated=8)
    assert seen.unchecked == 0


def test_what_is_not_asked_for_is_not_remembered() -> None:
    """Of a narrow replay, only what goes counts against the bound."""
    seen = Seen(100)
    chosen = Chosen(player="Cole MacGrath")
    sifted([*of(GOOD, OTHERS, OTHERS, OLD, BAD)], chosen, WINDOW, seen.is_new)
    assert seen.remembered == 1


def test_past_its_bound_nothing_is_remembered() -> None:
    """What was remembered before still is; what comes later goes each time, and is counted."""
    seen = Seen(2)
    one, two, three = (bytes([number] * 16) for number in range(3))
    assert [seen.is_new(digest) for digest in (one, two, one, three, three, two)] == [
        *(True, True, False, True, True, False)
    ]
    assert (seen.remembered, seen.unchecked) == (2, 2)


def test_many_are_told_apart() -> None:
    """A hundred thousand at random: each is new once, whatever shelf it stands on."""
    rng = random.Random(1)
    digests = [rng.randbytes(16) for _ in range(100_000)]
    seen = Seen(10**9)
    assert all(seen.is_new(digest) for digest in digests)
    assert not any(seen.is_new(digest) for digest in digests)


def test_events_are_packed_in_their_order() -> None:
    """A hundred in an entry; one that is left stands alone."""
    events = chains(2 * EVENTS_AN_ENTRY + 1)
    done = packed(events, WINDOW)
    assert [form for form, _ in done.entries] == [Form.EVENTS, Form.EVENTS, Form.EVENT]
    payloads = [
        one
        for form, value in done.entries
        for one in (split(value) if form is Form.EVENTS else [value])
    ]
    assert payloads == [encode(event) for event in events]
    assert (done.events, done.too_old) == (len(events), 0)
    late = Window.at(NOW_MS + RETENTION_DAYS * 86_400_000 + 100, RETENTION_DAYS)
    assert packed(events, late).too_old == 100
    assert packed([], WINDOW) == Sifted([])


def test_no_entry_is_larger_than_it_may_be() -> None:
    """Large events make arrays of few."""
    events = [
        decode(payload(number=number, details={"log": "x" * 4000}), WINDOW) for number in range(300)
    ]
    done = packed(events, WINDOW)
    sizes = [len(value) for _, value in done.entries]
    assert max(sizes) <= MAX_ARRAY_BYTES
    assert all(one + 5000 > MAX_ARRAY_BYTES for one, _ in pairwise(sizes))
    counts = [len(split(value)) for _, value in done.entries]
    assert sum(counts) == 300
    assert max(counts) <= MAX_ARRAY_EVENTS


def test_an_event_does_not_outgrow_its_bound() -> None:
    """One that was sent without its time, and is as large as may be, is not sent with it."""
    bare = payload(action="recharge", xp_delta=0, energy_source="", ts=None, details=None, v=1)
    room = MAX_EVENT_BYTES - len(bare)
    sent = bare.replace(b'"energy_source": ""', b'"energy_source": "%s"' % (b"x" * room))
    assert len(sent) == MAX_EVENT_BYTES
    event = decode(sent, WINDOW)
    ((form, again),) = packed([event], WINDOW).entries
    assert form is Form.EVENT
    assert isinstance(decode(again, WINDOW), Event)
    assert len(again) <= MAX_EVENT_BYTES
