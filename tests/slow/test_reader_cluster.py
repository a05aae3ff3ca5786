"""The consumer over the streams of a real cluster, whose nodes are killed and whose slots move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import patch

import pytest
from redis.crc import key_slot
from structlog.testing import capture_logs

from infamous.prove.cluster import Cluster
from pipeline import stream
from pipeline.stream import is_temporary
from pipeline.streams import Streams
from tests.conftest import World
from tests.integration.consuming import until, working
from tests.integration.test_reader import N, is_done, of_many, put


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
