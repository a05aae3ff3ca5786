"""The consumer over several streams: on one server, and on a real cluster whose nodes are killed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any
from unittest.mock import patch

import pytest
from redis.crc import key_slot
from structlog.testing import capture_logs

from consumer import reader, worker
from infamous.prove.cluster import Cluster
from pipeline import stream
from pipeline.entry import Form, split
from pipeline.event import Window, decode, encode
from pipeline.stream import Stream, is_temporary
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


@pytest.fixture
def on_cluster(world: World, cluster: Cluster) -> World:
    """The same database, and a cluster in the place of the server."""
    return replace(world, redis_url=cluster.url)


@pytest.fixture
def spread(on_cluster: World) -> Iterator[Streams]:
    """Six streams on three masters."""
    streams = Streams(on_cluster.redis_url, N)
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


# --- a cluster


def test_a_cluster_is_found_by_any_of_its_nodes(cluster: Cluster, spread: Streams) -> None:
    """The streams are on all three masters, and each client goes to the node that holds its slot."""
    put(spread, of_many(120))
    assert spread.is_cluster()
    nodes = {spread.node_of(one) for one in spread.written}
    assert nodes == {f"127.0.0.1:{master.port}" for master in cluster.masters()}
    for one in spread.written:
        assert cluster.master_of(one.key).client.xlen(one.key) == one.state().entries > 0


def test_a_killed_master_loses_and_doubles_nothing_of_ours(
    on_cluster: World, cluster: Cluster, spread: Streams
) -> None:
    """Its streams wait for the replica, the others go on, and in the end every event is one row."""
    payloads = of_many(400)
    with capture_logs() as logs, working(on_cluster, partitions=N, claim_after_s=1.0):
        put(spread, payloads[:100])
        until(lambda: on_cluster.count("game_events") == 100, "the first events")
        killed = cluster.kill_master(spread.written[0].key)
        lost = [one for one in spread.written if spread.node_of(one).endswith(f":{killed.port}")]
        others = [one for one in spread.written if one not in lost]
        assert lost
        assert others
        for payload in of_many(60, players=3):
            others[0].append([payload])
        until(lambda: on_cluster.count("game_events") == 160, "the others to go on")
        cluster.wait_serving()
        for start in range(100, 400, 100):
            _again(spread, payloads[start : start + 100])
        until(lambda: on_cluster.count("game_events") == 460, "all events")
        until(lambda: is_done(spread), "the streams to drain")
        cluster.start_again(killed)
        cluster.wait_healthy()
        put(spread, of_many(30))
        until(lambda: on_cluster.count("game_events") == 490, "all is well again")
    told = [line["event"] for line in logs]
    assert sum("Streams cannot be reached" in event for event in told) >= 1
    assert sum(event == "Streams are back" for event in told) >= 1


def _again(streams: Streams, payloads: list[bytes]) -> None:
    """Add them however often that takes; what arrives twice is one row."""

    def is_put() -> bool:
        try:
            put(streams, payloads)
        except Exception as error:
            if not is_temporary(error):
                raise
            return False
        return True

    until(is_put, "the streams to take events")


def test_a_slot_that_moves_is_followed(
    on_cluster: World, cluster: Cluster, spread: Streams
) -> None:
    """Senders and consumers go on with a stream whose slot went to another node, group and all."""
    moved = spread.written[0]
    with working(on_cluster, partitions=N):
        _again(spread, of_many(60))
        until(lambda: is_done(spread), "the streams to drain")
        before = cluster.master_of(moved.key)
        to = next(master for master in cluster.masters() if master is not before)
        cluster.move_slot(key_slot(moved.key.encode()), to)
        _again(spread, of_many(60))
        until(lambda: is_done(spread), "the streams to drain")
        assert spread.node_of(moved) == f"127.0.0.1:{to.port}"
    assert on_cluster.count("game_events") == 120


def test_the_nodes_are_found_while_the_first_is_away(cluster: Cluster) -> None:
    """An address may name several nodes; one that is down does not keep a process from its start."""
    urls = ",".join(url.rpartition("@")[2].partition("/")[0] for url in cluster.urls)
    head = cluster.url.rpartition("@")[0]
    cluster.kill_master(0)
    cluster.wait_serving()
    streams = Streams(f"{head}@{urls}/0", N)
    put(streams, of_many(60))
    assert sum(one.state().entries for one in streams.written) == 60
    streams.close()


def test_a_cluster_without_one_of_its_slots_is_read_where_it_can_be(
    on_cluster: World, cluster: Cluster, spread: Streams
) -> None:
    """With a master and its replica down, a consumer starts all the same and stores the rest."""
    put(spread, of_many(120))
    master = cluster.master_of(spread.written[0].key)
    for node in [*cluster.replicas_of(master), master]:
        node.kill()
    held = sum(
        one.state().entries
        for one in spread.written
        if not spread.node_of(one).endswith(f":{master.port}")
    )
    with patch.object(stream, "BLOCK_MS", 100), working(on_cluster, partitions=N) as working_one:
        until(lambda: on_cluster.count("game_events") == held, "the others to be stored")
        assert len(working_one.source.away) > 0
        cluster.heal()
        until(lambda: on_cluster.count("game_events") == 120, "the rest")
