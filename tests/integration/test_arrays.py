"""Entries with many events in each: the promise holds for every one of them, on the way in and back."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from consumer.batch import Limits
from jobs.release import Released, release
from jobs.replay import Replayed, replay
from pipeline.entry import MAX_ARRAY_BYTES, Form, array_of, packed_up
from pipeline.event import MAX_EVENT_BYTES, encode
from tests.conftest import World
from tests.integration.consuming import is_drained, now_ms, until, working
from tests.unit.samples import chains, payload


def good(events: int) -> list[bytes]:
    """Payloads of healthy events."""
    return [encode(event) for event in chains(events, start_ms=now_ms() - 60_000)]


def settle(world: World, limits: Limits | None = None) -> Any:
    """Let a worker deal with all that waits; returns its tally."""
    with working(world, limits=limits or Limits(1000, 10_000_000, 0.2)) as worker:
        until(lambda: is_drained(world), "the stream to drain")
    return worker.tally


def quarantine(world: World) -> list[Any]:
    """Its rows, by reason."""
    statement = "select reason, raw, entry_id, times_seen from quarantined_events order by reason"
    with world.engine.connect() as connection:
        return list(connection.execute(text(statement)).all())


def change(world: World, statement: str) -> None:
    """Have an administrator do something."""
    with world.engine.begin() as connection:
        connection.execute(text(statement))


def fields(world: World) -> list[bytes]:
    """The names of the fields on the stream, in order."""
    return [
        entry.form.value for page in world.source.walk(from_ms=0, to_ms=2**60) for entry in page
    ]


def test_both_forms_become_rows(world: World) -> None:
    """Events alone, in twos and in hundreds, mixed: each is a row, each entry is acknowledged."""
    events = good(1500)
    world.source.append(events[:300])
    world.source.append_entries(packed_up(events[300:500], 2) + packed_up(events[500:], 100))
    tally = settle(world)
    assert world.count("game_events") == 1500
    assert (tally.rows, tally.duplicates, tally.quarantined) == (1500, 0, 0)


def test_limits_in_the_middle_of_an_array_store_everything(world: World) -> None:
    """A batch that may hold less than one array does is larger than it may be, and that is all."""
    world.source.append_entries(packed_up(good(400), 100))
    settle(world, Limits(rows=7, bytes=10_000_000, age_s=60.0))
    assert world.count("game_events") == 400


def test_an_event_is_one_row_however_often_it_comes(world: World) -> None:
    """Alone, in an array, twice in one array and in another: the id decides, as ever."""
    events = good(50)
    world.source.append(events)
    world.source.append_entries(
        [(Form.EVENTS, array_of([*events, *events])), (Form.EVENTS, array_of(events[:10]))]
    )
    tally = settle(world)
    assert world.count("game_events") == 50
    assert (tally.rows, tally.duplicates) == (50, 110)


def test_a_bad_event_does_not_take_its_neighbours_with_it(world: World) -> None:
    """Its own bytes are kept, under the id of the entry they came in; the others are rows."""
    events = good(4)
    bad = [b'{"player": "Stray \xe4"}', payload(now_ms(), rank="Hero"), b"NaN"]
    (entry_id,) = world.source.append_entries(
        [
            (
                Form.EVENTS,
                array_of([events[0], bad[0], events[1], bad[1], events[2], bad[2], events[3]]),
            )
        ]
    )
    settle(world)
    assert world.count("game_events") == 4
    assert [(row.reason, bytes(row.raw), row.entry_id) for row in quarantine(world)] == [
        ("bad_rank", bad[1], entry_id.decode()),
        ("not_finite", bad[2], entry_id.decode()),
        ("not_json", bad[0], entry_id.decode()),
    ]


def test_what_the_database_refuses_is_found_in_its_array(world: World) -> None:
    """One row of many spoils a COPY: that one is quarantined with its bytes, not the array's."""
    change(world, "alter table game_events add constraint mistake check (player <> 'Alden Tate')")
    bad = payload(now_ms(), player="Alden Tate")
    events = good(60)
    (entry_id,) = world.source.append_entries(
        [(Form.EVENTS, array_of([*events[:30], bad, *events[30:]]))]
    )
    settle(world)
    assert world.count("game_events") == 60
    assert [(row.reason, bytes(row.raw), row.entry_id) for row in quarantine(world)] == [
        ("database", bad, entry_id.decode())
    ]
    change(world, "alter table game_events drop constraint mistake")
    assert release(world.engine, world.streams) == Released(1, 0, 0, is_complete=True)
    assert fields(world) == [b"events", b"event"]
    settle(world)
    assert world.count("game_events") == 61


def test_a_broken_array_is_kept_whole_and_released_as_it_came(world: World) -> None:
    """Nothing of it is guessed at; sent again, it is judged as an array again and comes back to its row."""
    broken = array_of(good(3))[:-1]
    world.source.append_entries([(Form.EVENTS, broken)])
    settle(world)
    assert world.count("game_events") == 0
    assert [(row.reason, bytes(row.raw)) for row in quarantine(world)] == [("bad_array", broken)]
    assert release(world.engine, world.streams) == Released(1, 0, 0, is_complete=True)
    assert fields(world) == [b"events"] * 2
    settle(world)
    assert world.count("game_events") == 0
    assert [(row.reason, bytes(row.raw), row.times_seen) for row in quarantine(world)] == [
        ("bad_array", broken, 2)
    ]


def test_an_event_that_also_came_in_the_wrong_field_is_released_as_one(world: World) -> None:
    """The quarantine has one row for the same bytes: that they are no array does not hide what they are."""
    change(world, "alter table game_events add constraint mistake check (seq < 0)")
    (event,) = good(1)
    for entries in ([(Form.EVENT, event)], [(Form.EVENTS, event)]):
        world.source.append_entries(entries)
        settle(world)
    assert [(row.reason, row.times_seen) for row in quarantine(world)] == [("database", 2)]
    change(world, "alter table game_events drop constraint mistake")
    release(world.engine, world.streams)
    settle(world)
    assert world.count("game_events") == 1


def test_a_replay_sends_entries_in_their_own_form(world: World) -> None:
    """What was in arrays is in arrays again, what is missing is stored, and nothing else changes."""
    events = good(250)
    world.source.append_entries(packed_up(events[2:], 100) + packed_up(events[:2], 1))
    settle(world)
    change(world, "delete from game_events where seq % 2 = 0")
    assert world.count("game_events") < 250
    assert replay(world.streams, 0, now_ms() + 1000) == Replayed(5, 0, is_complete=True, events=250)
    assert fields(world) == [b"events", b"events", b"events", b"event", b"event"] * 2
    settle(world)
    assert world.count("game_events") == 250


def test_what_a_dead_consumer_held_is_taken_over(world: World) -> None:
    """Arrays that were read and never acknowledged are stored by another."""
    world.source.ensure_group()
    world.source.append_entries(packed_up(good(500), 50))
    assert len(world.source.read("dead", 100).entries) == 10
    with working(world, claim_after_s=0.2) as worker:
        until(lambda: is_drained(world), "the takeover")
    assert world.count("game_events") == 500
    assert worker.tally.rows == 500


def test_an_event_is_found_in_its_array(world: World) -> None:
    """Who traces an event by its id learns which entry carries it, behind entries as large as they come."""
    filler = array_of([payload(details={"log": "x" * 4000})] * 60)
    assert MAX_ARRAY_BYTES - 8192 < len(filler) <= MAX_ARRAY_BYTES
    world.source.append_entries([(Form.EVENTS, filler)] * 50)
    event = chains(1)[0]
    (entry_id,) = world.source.append_entries([(Form.EVENTS, array_of([encode(event), b"1"]))])
    world.source.append_entries([(Form.EVENTS, filler)] * 10)
    found = world.source.find(str(event.id).encode(), since_ms=0)
    assert found is not None
    assert found.entry_id == entry_id.decode()
    world.source.ensure_group()
    state = world.source.state()
    assert (state.entries, state.undelivered, state.undelivered_is_estimate) == (61, 61, False)
    walked = [entry for page in world.source.walk(from_ms=0, to_ms=2**60) for entry in page]
    assert len(walked) == len({entry.id for entry in walked}) == 61


# --- what others get wrong


def test_nothing_is_dug_out_of_what_is_no_event(world: World) -> None:
    """An event in a text or in an array of its own, and one too large, are kept as they came."""
    (wrapped, event) = good(2)
    text_of_it = b'"' + wrapped.replace(b'"', b'\\"') + b'"'
    too_large = payload(now_ms(), details={"log": "x" * MAX_EVENT_BYTES})
    (entry_id,) = world.source.append_entries(
        [(Form.EVENTS, array_of([text_of_it, event, too_large, array_of([wrapped])]))]
    )
    settle(world)
    assert world.count("game_events") == 1
    found = {(row.reason, bytes(row.raw), row.entry_id) for row in quarantine(world)}
    assert found == {
        ("not_an_object", text_of_it, entry_id.decode()),
        ("not_an_object", array_of([wrapped]), entry_id.decode()),
        ("too_large", too_large, entry_id.decode()),
    }


@pytest.mark.parametrize("names", [("event", "events"), ("events", "events"), ("Events",)])
def test_an_entry_has_one_field(world: World, names: tuple[str, ...]) -> None:
    """Whoever sends both forms in one entry meant something else: it is kept, and nobody chooses."""
    (event,) = good(1)
    pairs = [part for name in names for part in (name, array_of([event]))]
    world.client.execute_command("XADD", world.source.key, "*", *pairs)  # type: ignore[no-untyped-call]
    settle(world)
    assert world.count("game_events") == 0
    assert [row.reason for row in quarantine(world)] == ["not_an_event_entry"]


def test_a_bad_event_is_released_alone(world: World) -> None:
    """It goes back as the event it should have been, without the array that it came in."""
    bad = payload(now_ms(), rank="Hero")
    world.source.append_entries([(Form.EVENTS, array_of([*good(3), bad]))])
    settle(world)
    assert release(world.engine, world.streams) == Released(1, 0, 0, is_complete=True)
    assert fields(world) == [b"events", b"event"]
    assert world.payloads()[-1] == bad
    tally = settle(world)
    assert (tally.rows, tally.duplicates, tally.quarantined) == (0, 0, 1)
    assert [(row.reason, row.times_seen) for row in quarantine(world)] == [("bad_rank", 2)]


# --- several consumers, and large entries


def test_what_was_stored_and_not_acknowledged_is_not_stored_twice(world: World) -> None:
    """A consumer that died after its COMMIT leaves whole arrays to be found stored already."""
    events = good(300)
    world.source.append(events[:150])
    settle(world)
    world.source.append_entries(packed_up(events, 100))
    assert len(world.source.read("dead", 100).entries) == 3
    with working(world, claim_after_s=0.2) as worker:
        until(lambda: is_drained(world), "the takeover")
    assert world.count("game_events") == 300
    assert (worker.tally.rows, worker.tally.duplicates) == (150, 150)


def test_two_workers_share_arrays(world: World) -> None:
    """Side by side they store each event once, also those that both have in hand."""
    events = good(2000)
    world.source.append_entries(packed_up(events, 40) + packed_up(events[::-1], 30))
    limits = Limits(200, 10**6, 0.1, read=100)
    with (
        working(world, name="a", limits=limits) as a,
        working(world, name="b", limits=limits) as b,
    ):
        until(lambda: is_drained(world), "the stream to drain")
    tallies = (a.tally, b.tally)
    assert sum(tally.rows for tally in tallies) == world.count("game_events") == 2000
    assert sum(tally.duplicates for tally in tallies) == 2000
    assert world.count("quarantined_events") == 0


def test_large_entries_are_walked_by_the_page(world: World) -> None:
    """Whoever looks through the stream holds a few megabytes of it, and counts no further than pays."""
    large = (Form.EVENTS, array_of([b"1"]).ljust(MAX_ARRAY_BYTES))
    ids = world.source.append_entries([large] * 80)
    world.source.ensure_group()
    pages = list(world.source.walk(from_ms=0, to_ms=2**60))
    assert [entry.id for page in pages for entry in page] == ids
    assert max(sum(len(entry.payload) for entry in page) for page in pages) <= 8 * 1024 * 1024
    state = world.source.state()
    assert (state.undelivered, state.undelivered_is_estimate) == (80, True)
    assert world.source.find(b"nowhere", since_ms=0) is None
