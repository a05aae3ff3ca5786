"""The harness's Redis Cluster: it forms, bears what is done to it, and leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from infamous.embedded.folder import ServerError
from infamous.prove.cluster import SHARDS, Cluster, Node, running
from pipeline import stream
from tests.integration.consuming import until

KEY = "game-events"
# One process of its own, which is killed: the nodes' numbers, then silence.
STARTER = """
import json, sys
from pathlib import Path
from infamous.prove.cluster import running
with running(Path(sys.argv[1])) as cluster:
    cluster.nodes[4].freeze()
    print(json.dumps([node.pid for node in cluster.nodes]), flush=True)
    sys.stdin.read()
"""


def write(master: Node, *values: str) -> None:
    """Add to the stream, and wait until the replica has it."""
    for value in values:
        master.client.xadd(KEY, {"value": value})
    assert master.client.wait(1, 5000) == 1


def values(node: Node) -> list[str]:
    """What is on the stream, for this node."""
    return [fields[b"value"].decode() for _, fields in node.ask("XRANGE", KEY, "-", "+")]


def is_gone(pid: int) -> bool:
    """Whether the process has ended; nobody may have asked for its exit code."""
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def test_it_forms(cluster: Cluster) -> None:
    """Three masters share all slots and have a replica each; who has no password is not let in."""
    assert cluster.missing() is None
    masters = cluster.masters()
    assert [len(cluster.replicas_of(master)) for master in masters] == [1] * SHARDS
    assert {cluster.owner(slot) for slot in (0, 8000, 16383)} == set(masters)
    stranger = stream.connect(f"redis://127.0.0.1:{masters[0].port}")
    with pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_a_killed_master_is_replaced(cluster: Cluster) -> None:
    """What was waited for outlives a failover, and the old master comes back as a replica of the new."""
    old = cluster.master_of(KEY)
    write(old, "before")
    assert cluster.kill_master(KEY) is old
    cluster.wait_serving()
    new = cluster.master_of(KEY)
    assert [new] == cluster.replicas_of(old)
    assert values(new) == ["before"]
    cluster.start_again(old)
    cluster.wait_healthy()
    write(new, "after")
    assert cluster.replicas_of(cluster.master_of(KEY)) == [old]
    old.client.readonly()
    assert values(new) == values(old) == ["before", "after"]


def test_a_frozen_master_is_replaced(cluster: Cluster) -> None:
    """Who answers nothing loses its shard as one that died does, and gives in when it wakes up."""
    old = cluster.master_of(KEY)
    old.freeze()
    cluster.wait_serving()
    new = cluster.master_of(KEY)
    assert new is not old
    old.thaw()
    cluster.wait_healthy()
    assert cluster.master_of(KEY) is new


def test_a_promoted_replica_has_everything(cluster: Cluster) -> None:
    """A failover that was asked for loses nothing, though nobody waited for the replica."""
    old = cluster.master_of(KEY)
    for number in range(100):
        old.client.xadd(KEY, {"value": str(number)})
    (replica,) = cluster.replicas_of(old)
    cluster.promote(replica)
    assert cluster.master_of(KEY) is replica
    assert values(replica) == [str(number) for number in range(100)]


def test_a_slot_moves_under_its_users(cluster: Cluster) -> None:
    """The old master answers ASK for a key that went ahead, MOVED once the slot did; nothing is lost."""
    old = cluster.master_of(KEY)
    new = next(master for master in cluster.masters() if master is not old)
    slot = int(old.ask("CLUSTER", "KEYSLOT", KEY))
    write(old, "moved")
    cluster.begin_move(slot, new)
    assert values(old) == ["moved"]
    assert cluster.move_keys(slot, new) == 1
    with pytest.raises(redis.exceptions.AskError):
        values(old)
    cluster.end_move(slot, new)
    with pytest.raises(redis.exceptions.MovedError) as told:
        values(old)
    assert (told.value.slot_id, told.value.port) == (slot, new.port)
    assert values(new) == ["moved"]


def test_it_is_clean_after_the_worst(cluster: Cluster) -> None:
    """The next test sees nothing of a dead node, a sleeping one, an open slot, a moved one and their data."""
    first, second, third = cluster.masters()
    write(cluster.master_of(KEY), "left")
    cluster.move_slot(0, second)
    cluster.begin_move(1, third)
    first.kill()
    cluster.replicas_of(third)[0].freeze()
    cluster.clean()
    assert cluster.missing() is None
    assert [cluster.owner(slot).shard for slot in (0, 1)] == [0, 0]
    assert [master.client.dbsize() for master in cluster.masters()] == [0] * SHARDS


def test_nothing_is_left_after_a_stop(tmp_path: Path) -> None:
    """Every node is gone at the end, the frozen one too."""
    with running(tmp_path) as started:
        pids = [node.pid for node in started.nodes]
        started.nodes[0].freeze()
        assert len({pid for pid in pids if pid and not is_gone(pid)}) == 2 * SHARDS
    assert all(pid and is_gone(pid) for pid in pids)
    assert {node.pid for node in started.nodes} == {None}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no kernel ends whose parent is gone")
def test_nothing_is_left_after_its_starter_was_killed(tmp_path: Path) -> None:
    """kill -9 of who started it ends every node, the frozen one too."""
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout
        pids = json.loads(starter.stdout.readline())
        starter.kill()
    assert len(pids) == 2 * SHARDS
    until(lambda: all(map(is_gone, pids)), "the nodes to end", at_most_s=10)


def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A setting that Redis refuses is told in one sentence, and no node is left."""
    cluster = Cluster(tmp_path, settings={"maxmemory-policy": "whatever"})
    with pytest.raises(ServerError, match=r"^Redis could not be started \(.+\): see .+\.$"):
        cluster.start()
    assert not any(node.is_alive for node in cluster.nodes)
