"""The consumer over several streams of one server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import count
from typing import Any
from unittest.mock import patch

import pytest
import redis

from consumer import reader, worker
from consumer.reader import Reader
from pipeline.entry import Form, split
from pipeline.event import Window, decode, encode
from pipeline.nodes import Elsewhere, Nodes
from pipeline.stream import STREAM, Delivered, Stream, client_of
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


# --- nodes that come and go


class Apart(Streams):
    """Streams as on nodes of their own: each can be taken away, and given back, by itself."""

    def __init__(self, url: str, partitions: int) -> None:
        super().__init__(url, partitions)
        self._clients = {one.key: one.client for one in self.all}
        self._nowhere = client_of(Nodes("redis://127.0.0.1:1"), STREAM)
        self.nodes: list[list[str]] = [[one.key] for one in self.all]

    def neighbours(self, key: str) -> list[str]:
        """Those on the same node."""
        return next((node for node in self.nodes if key in node), [])

    def take(self, *which: str) -> None:
        """Nobody answers for these any more."""
        for key in which:
            self.by_key(key).client = self._nowhere

    def give(self, *which: str) -> None:
        """They answer again."""
        for key in which:
            self.by_key(key).client = self._clients[key]


@pytest.fixture
def apart(world: World) -> Iterator[Apart]:
    """Two partitions, and the undivided stream."""
    streams = Apart(world.redis_url, 2)
    yield streams
    streams.give(*(one.key for one in streams.all))
    streams.close()


@pytest.fixture
def source(apart: Apart) -> Iterator[Reader]:
    """One that reads them."""
    with closing(Reader(apart, "one")) as source:
        source.ensure_groups()
        yield source


def tried(call: Callable[[], object], times: int = 5) -> None:
    """Call, as one does who waits for the server."""
    for _ in range(times):
        try:
            call()
        except redis.ConnectionError:
            continue
        return
    pytest.fail("who waits, waits for a stream that stays away, though others are back")


@pytest.mark.parametrize("call", ["read", "ack", "look", "claim"])
def test_one_that_stays_away_keeps_nobody_from_those_that_are_back(
    apart: Apart, source: Reader, call: str
) -> None:
    """After an outage of all nodes the first that is back is found, whatever is waited for."""
    first, second = keys(2)
    source.owe({first: [b"1-0"]})
    apart.take(*(one.key for one in apart.all))
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: source.read(10),
        "ack": source.ack,
        "look": source.look,
        "claim": lambda: source.claim(10, idle_s=0),
    }
    while len(source.away) < len(apart.all):
        with suppress(redis.ConnectionError):
            source.read(10)
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            calls[call]()
    apart.give(second)
    tried(calls[call])
    assert second not in source.away
    assert source.owed == 1


def test_a_walk_leaves_out_what_is_away(apart: Apart, source: Reader) -> None:
    """A stream that is back without its group, and not found back yet, does not hold up a walk for ever."""
    first, _ = keys(2)
    apart.take(first)
    while not source.read(10).is_last:
        pass
    assert source.away == (first,)
    apart.give(first)
    apart.by_key(first).client.delete(first)
    assert source.claim(10, idle_s=0) is None
    assert not source.ensure_groups()


def test_who_leaves_keeps_its_name_where_a_read_went_astray(apart: Apart, source: Reader) -> None:
    """What such a read gets when it arrives late must not be dropped with the name."""
    first, second = keys(2)
    while not source.read(10).is_last:
        pass
    apart.take(first)
    source.look()
    assert source.away == (first,)
    apart.give(first)

    def is_back() -> bool:
        source.read(10)
        return not source.away

    until(is_back, "the stream to be found back")
    source.leave()
    names = {key: [*apart.by_key(key).state().consumers] for key in (first, second)}
    assert names == {first: ["one"], second: []}


def test_rules_of_a_time_before_partitions_will_do(world: World) -> None:
    """A consumer whose user may not look for partitions reads the one stream."""
    ask = world.client.execute_command
    ask("ACL", "SETUSER", "former", "reset", "on", ">x", "+@all", f"~{STREAM}", f"~{{{STREAM}}}:*")  # type: ignore[no-untyped-call]
    streams = Streams(world.redis_url.replace("unix://", "unix://former:x@"), 1)
    try:
        with closing(streams), closing(Reader(streams, "one")) as source:
            source.ensure_groups()
            assert source.look().state.group_exists
    finally:
        ask("ACL", "DELUSER", "former")  # type: ignore[no-untyped-call]


def test_a_note_that_is_no_number_of_partitions_is_passed_over(
    world: World, divided: Streams
) -> None:
    """Anybody may note a number; what cannot be one ends nobody who reads."""
    world.client.sadd(LAYOUTS, "N", "0", "-1", str(10**9), "2", "\u00b2")
    divided.look()
    assert {one.key for one in divided.all} == {STREAM, *keys(N), *keys(2)}


def test_a_look_at_a_node_that_says_nothing_holds_up_nobody(apart: Apart, source: Reader) -> None:
    """Neither who reads the other streams waits for its answer, nor the end of the process."""
    first, _ = keys(2)
    apart.take(first)
    while not source.read(10).is_last:
        pass
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        apart.by_key(first).client = client_of(Nodes(f"redis://127.0.0.1:{port}"), first)
        began_s = time.monotonic()

        def looks() -> list[threading.Thread]:
            source.read(10)
            return [one for one in threading.enumerate() if one.name == "probe"]

        until(looks, "a look at the stream")
        assert all(one.daemon for one in looks())
        assert time.monotonic() - began_s < 4


def rests(source: Reader) -> bool:
    """Whether it finds soon that nothing more waits."""
    return any(source.read(10).is_last for _ in range(10))


def test_those_that_are_there_come_to_rest_while_others_are_away(
    apart: Apart, source: Reader
) -> None:
    """A node that is away does not have whoever reads the others ask them without a pause."""
    first, second = keys(2)
    apart.nodes = [[first], [second, STREAM]]
    apart.take(first)
    assert rests(source)
    assert source.away == (first,)
    assert rests(source)


class OnItsWay(Stream):
    """A stream whose slot moves from one node to another just now."""

    def read(self, *_arguments: Any, **_options: Any) -> Delivered:
        """What its nodes say then."""
        raise Elsewhere("ASK")


def test_a_slot_on_its_way_takes_no_other_with_it(apart: Apart, source: Reader) -> None:
    """The other streams of its node are read on."""
    first, second = keys(2)
    apart.nodes = [[first, second, STREAM]]
    apart._by_key[first] = OnItsWay(apart.by_key(first).client, key=first)
    assert rests(source)
    assert source.away == (first,)


def test_who_may_not_wait_is_told_so(world: World) -> None:
    """A user without XREAD does not go round without a pause, but ends with Redis' own words."""
    ask = world.client.execute_command
    ask("ACL", "SETUSER", "deaf", "reset", "on", ">x", "~*", "+@all", "-xread")  # type: ignore[no-untyped-call]
    streams = Streams(world.redis_url.replace("unix://", "unix://deaf:x@"), 1)
    try:
        with closing(streams), closing(Reader(streams, "one")) as source:
            source.ensure_groups()
            assert source.read(10).is_last
            with pytest.raises(redis.exceptions.NoPermissionError, match="xread"):
                source.wait()
    finally:
        ask("ACL", "DELUSER", "deaf")  # type: ignore[no-untyped-call]
