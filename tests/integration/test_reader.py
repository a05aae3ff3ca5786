"""The consumer over several streams of one server."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any
from unittest.mock import patch

import pytest

from consumer import reader, worker
from pipeline.entry import Form, split
from pipeline.event import Window, decode, encode
from pipeline.stream import Stream
from pipeline.streams import LAYOUTS, Streams, keys
from tests.conftest import World
from tests.integration.consuming import now_ms, until, working
from tests.unit.samples import RETENTION_DAYS, chains

N = 6
SEEDS = count(1)


@pytest.fixture
def divided(world: World) -> Iterator[Streams]:
    """Six streams on the one server."""
    streams = Streams(world.redis_url, N)
    streams.note()
    yield streams
    streams.close()


def put(streams: Streams, payloads: list[bytes]) -> None:
    """Add an entry for each, where it belongs."""
    streams.append_entries([(Form.EVENT, payload) for payload in payloads])


def of_many(events: int, players: int = 30) -> list[bytes]:
    """Events of several players, so that every stream gets some; never the same twice."""
    found = chains(events, players=players, seed=next(SEEDS), start_ms=now_ms() - 60_000)
    return [encode(event) for event in found]


def is_done(streams: Streams) -> bool:
    """Whether all that was added is acknowledged, on every stream that answers."""
    states = streams.ask(Stream.state)
    return not states.away and not any(
        one.pending + one.undelivered for one in states.found.values()
    )


def test_each_event_is_stored_once_from_all_streams(world: World, divided: Streams) -> None:
    """Several consumers over several streams: every event is one row, and nothing is left pending."""
    payloads = of_many(600)
    put(divided, payloads[:300])
    with working(world, "one", partitions=N), working(world, "two", partitions=N):
        put(divided, payloads[300:])
        until(lambda: is_done(divided), "the streams to drain")
    assert world.count("game_events") == 600
    assert all(one.state().entries for one in divided.written)


def test_a_player_keeps_to_one_stream(divided: Streams) -> None:
    """Whatever form his events come in, all are on the stream of his name."""
    payloads = of_many(300)
    array = b"[" + b",".join(payloads[:150]) + b"]"
    divided.append_entries(
        [(Form.EVENTS, array), *[(Form.EVENT, payload) for payload in payloads[150:]]]
    )
    window, found = Window.at(now_ms(), RETENTION_DAYS), 0
    for one in divided.written:
        for page in one.walk(from_ms=0, to_ms=2**63):
            for entry in page:
                events = [entry.payload] if entry.form is Form.EVENT else split(entry.payload)
                for payload in events:
                    event: Any = decode(payload, window)
                    assert divided.of(event.player).key == one.key
                    found += 1
    assert found == 300


def test_streams_of_another_number_are_found_while_it_runs(world: World) -> None:
    """From one stream to six and back to two: a consumer that was told of one stores what is on any."""
    payloads = of_many(300)
    with patch.object(worker, "LOOK_EVERY_S", 0.1), working(world):
        for first, partitions in ((0, 1), (100, 6), (200, 2)):
            streams = Streams(world.redis_url, partitions)
            streams.note()
            put(streams, payloads[first : first + 100])
            streams.close()
            until(partial(_has_rows, world, first + 100), f"{first + 100} rows")
    assert world.client.smembers(LAYOUTS) == {b"6", b"2"}


def _has_rows(world: World, rows: int) -> bool:
    return world.count("game_events") == rows


def test_work_is_shared_and_taken_over(world: World, divided: Streams) -> None:
    """Who is there alone reads all; who comes later gets a share; what he leaves is read again."""
    with patch.object(worker, "LOOK_EVERY_S", 0.1), working(world, "one", partitions=N) as one:
        put(divided, of_many(60))
        until(lambda: is_done(divided), "the streams to drain")
        with working(world, "two", partitions=N) as two:
            until(lambda: len(one.source._rota.own) < N + 1, "a share to be given away")
            until(lambda: len(two.source._rota.own) < N + 1, "a share to be taken")
            own = [set(w.source._rota.own) for w in (one, two)]
            assert own[0] | own[1] == {"game-events", *keys(N)}
            assert not own[0] & own[1]
            put(divided, of_many(600))
            until(lambda: is_done(divided), "the streams to drain")
            assert two.tally.rows > 0
            two.source.leave()
        with patch.object(reader, "_SILENT_MS", 1000):
            until(lambda: len(one.source._rota.own) == N + 1, "the share to be taken back")
        put(divided, of_many(60))
        until(lambda: is_done(divided), "the streams to drain")


def test_a_flooded_stream_does_not_starve_the_others(world: World, divided: Streams) -> None:
    """One event on a quiet stream is stored while another stream still holds most of its flood."""
    payloads = of_many(12_000, players=1)
    flooded = divided.of("Cole MacGrath")
    for start in range(0, len(payloads), 1000):
        flooded.append(payloads[start : start + 1000])
    quiet = next(one for one in divided.written if one.key != flooded.key)
    quiet.append(of_many(1))
    left: list[int] = []

    def is_stored() -> bool:
        if quiet.state().pending + quiet.state().undelivered:
            return False
        left.append(flooded.state(exact=False).undelivered)
        return True

    with working(world, partitions=N):
        until(is_stored, "the quiet stream to be stored")
        assert left[0] > 4000
        until(lambda: is_done(divided), "the flood to be over")
    assert world.count("game_events") == 12_001
