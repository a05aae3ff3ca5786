"""The producer before a Redis Cluster: a shard that is away, one that fails over, and replicas that must have
what counts as sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from infamous.prove.cluster import Cluster
from pipeline import stream
from pipeline.entry import Form, split
from pipeline.streams import Streams, keys, number_of
from pipeline.transaction import NotReplicated
from producer.journal import Ack, Journal, Try, read
from producer.outbox import pack
from producer.outboxes import Outboxes
from producer.simulate import population
from tests.integration.consuming import now_ms, until
from tests.integration.test_outboxes import PARTITIONS, SEED, Game, game, play, require_whole


@pytest.fixture
def streams(cluster: Cluster) -> Iterator[Streams]:
    """Four partitions, on three shards, whose replicas must have what is sent."""
    with closing(Streams(cluster.url, PARTITIONS, replicas=1)) as made:
        yield made


def events(streams: Streams) -> list[dict[str, Any]]:
    """What is on the streams, stream by stream."""
    return [
        json.loads(raw)
        for page in streams.walk(from_ms=0, to_ms=2**63)
        for entry in page
        for raw in (split(entry.payload) if entry.form is Form.EVENTS else [entry.payload])
    ]


def require_told(playing: Game, streams: Streams) -> None:
    """What Redis has is what the game was told that it has, each event once."""
    found = events(streams)
    assert sorted(each["id"] for each in found) == sorted(
        json.loads(raw)["id"] for raw in playing.told
    )
    require_whole(found)


@pytest.mark.parametrize("partitions", [1, PARTITIONS])
def test_what_no_replica_has_is_not_sent(cluster: Cluster, tmp_path: Path, partitions: int) -> None:
    """Nothing is acknowledged while the replica is frozen; when it has the parcel, that is sent once."""
    player, *_ = population(SEED, 1, now_ms(), 0)
    key = keys(partitions)[number_of(player.name, partitions)]
    (replica,) = cluster.replicas_of(cluster.master_of(key))
    with (
        closing(Journal(tmp_path / "a.journal")) as journal,
        closing(Streams(cluster.url, partitions, replicas=1)) as streams,
    ):
        outboxes = Outboxes(streams, journal)
        outboxes.open()
        before, parcel = (pack(play([player], 5), [player]) for _ in range(2))
        outboxes.send(before)
        replica.freeze()
        outboxes.start(parcel)
        for _ in range(3):
            with pytest.raises(NotReplicated) as caught:
                outboxes.send(parcel)
            assert stream.is_temporary(caught.value)
            lines = list(read(tmp_path / "a.journal"))
            assert sum(isinstance(line, Ack) for line in lines) == 1
        replica.thaw()

        def is_sent() -> bool:
            try:
                outboxes.send(parcel)
            except NotReplicated:
                return False
            return True

        until(is_sent, "the replica")
        outboxes.send(parcel)
        lines = list(read(tmp_path / "a.journal"))
        tried = [line.payload for line in lines if isinstance(line, Try)]
        assert tried == before.payloads + parcel.payloads
        assert len({line.token for line in lines if isinstance(line, Ack)}) == 2
        assert [each["seq"] for each in events(streams)] == list(range(1, 11))
        assert streams.produced() == 10
        assert streams.of(player.name).client.wait(1, 5000) == 1
        after = Outboxes(streams)
        assert after.open().players == {player.name: player}


def test_a_replica_that_is_frozen_stops_its_shards_players_alone(
    cluster: Cluster, streams: Streams
) -> None:
    """Nobody is told of their events before it has them, and it gets each of them once."""
    number = number_of("Cole MacGrath", PARTITIONS)
    (replica,) = cluster.replicas_of(cluster.master_of(keys(PARTITIONS)[number]))
    with capture_logs() as logs, game(Outboxes(streams)) as playing:
        until(lambda: playing.of(number) > 5, "all to play")
        replica.freeze()
        until(lambda: any("is away" in each["event"] for each in logs), "the wait")
        before = playing.of(number)
        others = [n for n in range(PARTITIONS) if not is_together(cluster, n, number)]
        assert others
        counts = {n: playing.of(n) for n in others}
        until(lambda: all(playing.of(n) > counts[n] + 20 for n in others), "the others")
        assert playing.of(number) == before
        replica.thaw()
        until(lambda: playing.of(number) > before + 20, "those who sat out")
    assert playing.failed is None
    require_told(playing, streams)


def is_together(cluster: Cluster, one: int, other: int) -> bool:
    """Whether two partitions are on one shard."""
    names = keys(PARTITIONS)
    return cluster.master_of(names[one]) is cluster.master_of(names[other])


def test_a_shard_that_is_down_stops_its_players_alone(cluster: Cluster, streams: Streams) -> None:
    """Master and replica are gone: the others play on, and when both are back all do, with whole chains."""
    master = cluster.master_of(keys(PARTITIONS)[0])
    (replica,) = cluster.replicas_of(master)
    others = [n for n in range(PARTITIONS) if not is_together(cluster, n, 0)]
    with capture_logs() as logs, game(Outboxes(streams)) as playing:
        until(lambda: playing.of(0) > 5, "all to play")
        replica.kill()
        master.kill()
        until(lambda: any("is away" in each["event"] for each in logs), "the outage")
        counts = {n: playing.of(n) for n in others}
        until(lambda: all(playing.of(n) > counts[n] + 100 for n in others), "the others")
        before = playing.of(0)
        cluster.heal()
        until(lambda: playing.of(0) > before + 20, "those who sat out")
    assert playing.failed is None
    require_told(playing, streams)


def test_a_shard_that_fails_over_loses_nothing(cluster: Cluster, streams: Streams) -> None:
    """The replica that takes over has all that counts as sent; the rest is sent again, and no chain forks."""
    with capture_logs(), game(Outboxes(streams)) as playing:
        until(lambda: playing.of(0) > 5, "all to play")
        killed = cluster.kill_master(keys(PARTITIONS)[0])
        cluster.wait_serving()
        before = playing.of(0)
        cluster.start_again(killed)
        until(lambda: playing.of(0) > before + 20, "those who sat out")
    assert playing.failed is None
    require_told(playing, streams)
