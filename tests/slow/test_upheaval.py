"""What is done to a cluster while events flow, and what is then said to be lost: on real nodes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import redis

from infamous.prove.check import Account, check
from infamous.prove.cluster import Cluster, Node
from infamous.prove.crew import Crew
from infamous.prove.faults import Fault, Kind
from infamous.prove.stage import Done, Stage
from infamous.prove.upheaval import Upheaval
from pipeline.entry import Form
from pipeline.event import encode
from pipeline.stream import is_temporary
from pipeline.streams import Streams, together
from producer.journal import Journal
from tests.conftest import World
from tests.integration.consuming import now_ms, until, working
from tests.unit.samples import chains, payload

PARTITIONS = 3


@dataclass(frozen=True)
class Scene:
    """A cluster with streams, those who hurt it, and a world to store in."""

    world: World
    cluster: Cluster
    streams: Streams
    upheaval: Upheaval
    journals: Path

    def play(self, kind: Kind, meanwhile: Callable[[Node], bool]) -> Done:
        """Act out a fault on the first stream; ``meanwhile`` is tried with its replica until it is done."""
        stage = Stage([Fault(0.0, kind, 1.0, 0)], lambda fault: self.upheaval.acts[kind](fault))
        (heir,) = self.cluster.replicas_of(self.cluster.master_of(self.streams.written[0].key))
        began_s, is_done = time.monotonic(), False

        def is_over() -> bool:
            nonlocal is_done
            stage.turn(time.monotonic() - began_s)
            is_done = is_done or meanwhile(heir)
            return stage.is_empty

        until(is_over, f"the end of {kind}", at_most_s=90)
        assert is_done
        return stage.log[0]

    def send(self, payloads: list[bytes]) -> bool:
        """Try it as a producer does: noted, sent to the first stream, and confirmed where Redis says yes."""
        token = hashlib.sha256(payloads[0]).hexdigest().encode()
        with closing(Journal(self.journals / "a.journal")) as book:
            book.tried(token, payloads)
            try:
                self.streams.written[0].append_entries([(Form.EVENT, one) for one in payloads])
            except redis.RedisError as error:
                if not is_temporary(error):
                    raise
                return False
            book.acknowledged(token)
        return True

    def settled(self) -> Account:
        """The account once all that is there is stored."""
        world = replace(self.world, redis_url=self.cluster.joint_url)
        with working(world, partitions=PARTITIONS):
            until(self._is_drained, "the streams to drain")
        return check(self.world.engine, self.streams, self.journals, remains=self.upheaval.remains)

    def _is_drained(self) -> bool:
        answers = self.streams.ask(lambda one: one.state())
        state = together(answers.found.values())
        is_done = state.group_exists and state.undelivered == state.pending == 0
        return is_done and not answers.away


@pytest.fixture
def make(world: World, cluster: Cluster, tmp_path: Path) -> Iterator[Callable[[int], Scene]]:
    """Makes the scene, of senders who wait for so many replicas."""
    journals = tmp_path / "journals"
    journals.mkdir()
    opened: list[Streams] = []

    def made(replicas: int) -> Scene:
        streams = Streams(cluster.joint_url, PARTITIONS, replicas=replicas)
        opened.append(streams)
        streams.note()
        upheaval = Upheaval(cluster, streams, Crew({}, tmp_path), tmp_path / "remains")
        return Scene(world, cluster, streams, upheaval, journals)

    yield made
    for streams in opened:
        streams.close()


def events(count: int) -> list[bytes]:
    """Healthy ones, of a few players."""
    return [encode(event) for event in chains(count, start_ms=now_ms() - 60_000)]


def test_what_redis_loses_is_told_from_what_we_lose(make: Callable[[int], Scene]) -> None:
    """Forty events that the replica never got are lost by Redis; one that nobody ever sent is our loss."""
    scene = make(0)
    every = events(120)
    first, lost, after = every[:60], every[60:100], every[100:]
    until(lambda: scene.send(first), "the first events to be sent")

    def send_unseen(heir: Node) -> bool:
        return not heir.has_master() and scene.send(lost)

    done = scene.play(Kind.REPLICA_CUT_OFF, send_unseen)
    assert done.problem is None
    assert done.effect
    until(lambda: scene.send(after), "the last events to be sent")
    found = scene.settled()
    assert found.acknowledged == 120
    assert (found.stored, found.lost_by_redis, found.missing) == (80, 40, 0)
    assert (found.duplicated, found.unexpected, found.chain_ok) == (0, 0, True)
    with closing(Journal(scene.journals / "liar.journal")) as book:
        book.tried(b"lie", [payload(now_ms(), 1, seq=None)])
        book.acknowledged(b"lie")
    found = scene.settled()
    assert (found.lost_by_redis, found.missing) == (40, 1)


def test_who_waits_for_a_replica_is_told_no(make: Callable[[int], Scene]) -> None:
    """What the replica never got was not confirmed either: sent again it is stored, and nothing is lost."""
    scene = make(1)
    batch = events(40)

    def send_in_vain(heir: Node) -> bool:
        return not heir.has_master() and not scene.send(batch)

    done = scene.play(Kind.REPLICA_CUT_OFF, send_in_vain)
    assert done.problem is None
    assert scene.settled().acknowledged == 0
    until(lambda: scene.send(batch), "the events to be sent")
    found = scene.settled()
    assert (found.acknowledged, found.stored) == (40, 40)
    assert (found.lost_by_redis, found.missing, found.duplicated) == (0, 0, 0)


@pytest.mark.parametrize("kind", [Kind.MASTER_KILLED, Kind.FAILED_OVER, Kind.SLOT_MOVED])
def test_a_single_failure_costs_nothing_that_was_waited_for(
    make: Callable[[int], Scene], kind: Kind
) -> None:
    """Whatever hits a shard, what a replica had is stored, and the cluster is whole again."""
    scene = make(1)
    before = scene.cluster.master_of(scene.streams.written[0].key)
    batch = events(50)
    assert scene.play(kind, lambda _: scene.send(batch)).problem is None
    assert scene.cluster.missing() is None
    assert scene.cluster.master_of(scene.streams.written[0].key) is not before
    found = scene.settled()
    assert (found.stored, found.lost_by_redis, found.missing) == (50, 0, 0)
    assert len(scene.upheaval.remains) == (kind is Kind.MASTER_KILLED)


def test_a_shard_that_changes_hands_by_itself_is_told(make: Callable[[int], Scene]) -> None:
    """Of what Redis lost then nothing is known, so the run must not count as one that proves anything."""
    scene = make(0)
    (heir,) = scene.cluster.replicas_of(scene.cluster.masters()[1])
    scene.cluster.promote(heir)
    scene.upheaval.look()
    scene.upheaval.look()
    (surprise,) = scene.upheaval.surprises
    assert surprise.startswith("shard 1 changed its master by itself")
