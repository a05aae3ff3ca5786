"""The upheaval: a fault of a Redis Cluster flows in, a shard changes hands, what was left behind flows out.

One failure at a time: no node is hurt before the cluster is whole again, each shard with a replica that is up
to date. Of each master that is killed the remains are kept, which tell what Redis lost with it (remains.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import redis
from redis.crc import key_slot

from infamous.prove.actors import Act, until
from infamous.prove.cluster import SHARDS, Cluster, Node
from infamous.prove.crew import Crew, Member, Role
from infamous.prove.faults import Fault, Kind
from infamous.prove.remains import Remains, lay_by
from pipeline.stream import FIRST
from pipeline.streams import Streams

# A node is given up by the others, another is elected, it comes back and takes a whole copy.
_WHOLE_S: Final = 45.0
# A replica that does not come to terms with its master in five seconds gives up.
_ASK_AGAIN_S: Final = 6.0
# What consumers had read when they were frozen, the replica has by then.
_SETTLED_S: Final = 0.3


class Upheaval:
    """Everybody who does harm to a cluster."""

    def __init__(self, cluster: Cluster, streams: Streams, crew: Crew, folder: Path) -> None:
        """``folder`` is for what the dead leave."""
        self._cluster, self._streams, self._crew, self._folder = cluster, streams, crew, folder
        self._masters = cluster.masters()
        self.remains: list[Remains] = []
        # Shards that changed hands although nobody hurt them.
        self.surprises: list[str] = []
        self.acts: Mapping[Kind, Callable[[Fault], Act[str | None]]] = {
            Kind.MASTER_KILLED: self._master_killed,
            Kind.FAILED_OVER: self._failed_over,
            Kind.SLOT_MOVED: self._slot_moved,
            Kind.REPLICA_CUT_OFF: self._replica_cut_off,
        }

    def look(self) -> None:
        """See whether a shard changed hands by itself since the last act: what it lost then, nobody knows."""
        masters = self._cluster.masters()
        for shard in range(SHARDS):
            if masters[shard] is not self._masters[shard]:
                self.surprises.append(
                    f"shard {shard} changed its master by itself: this machine is too busy, so what Redis"
                    " lost cannot be told"
                )
        self._masters = masters

    def _master_killed(self, fault: Fault) -> Act[str | None]:
        master, heir = yield from self._victims(fault)
        left = self._kill(master)
        return (yield from self._succession(master, heir, left, fault.lasts_s))

    def _replica_cut_off(self, fault: Fault) -> Act[str | None]:
        """While nobody reads, keep from a replica what its master gets, and kill that."""
        master, heir = yield from self._victims(fault)
        workers = self._crew.at_work(Role.WORKER)
        for worker in workers:
            self._crew.pause(worker)
        try:
            yield _SETTLED_S
            heir.cut_off()
            yield fault.lasts_s
            left = self._kill(master)
        finally:
            for worker in workers:
                self._crew.resume(worker)
            heir.let_in()
        return (yield from self._succession(master, heir, left, 0.0))

    def _failed_over(self, fault: Fault) -> Act[str | None]:
        master, heir = yield from self._victims(fault)
        asked_s = -_ASK_AGAIN_S

        def is_done() -> bool:
            nonlocal asked_s
            view = heir.look()
            if view is not None and view.itself.is_master:
                return True
            if time.monotonic() - asked_s > _ASK_AGAIN_S:
                asked_s = time.monotonic()
                heir.ask("CLUSTER", "FAILOVER")
            return False

        began_s = time.monotonic()
        yield from until(is_done, _WHOLE_S)
        took_s = time.monotonic() - began_s
        yield from self._whole()
        self._masters[master.shard] = heir
        yield fault.lasts_s
        return f"node {heir.number} took over from node {master.number} in {took_s:.1f} s"

    def _slot_moved(self, fault: Fault) -> Act[str | None]:
        source, _ = yield from self._victims(fault)
        target = self._masters[(source.shard + 1 + fault.choice % (SHARDS - 1)) % SHARDS]
        slot = key_slot(self._key(fault).encode())
        self._cluster.begin_move(slot, target)
        yield fault.lasts_s / 2
        moved = self._cluster.move_keys(slot, target)
        self._cluster.end_move(slot, target)
        yield from self._whole()
        yield fault.lasts_s / 2
        return (
            f"slot {slot} with {moved} keys moved from node {source.number} to node {target.number}"
        )

    def _key(self, fault: Fault) -> str:
        """A stream that events are written into."""
        return self._streams.written[fault.choice % len(self._streams.written)].key

    def _victims(self, fault: Fault) -> Act[tuple[Node, Node]]:
        """The master of a stream and its replica, once nothing else is wrong."""
        yield from self._whole()
        self.look()
        master = self._cluster.master_of(self._key(fault))
        yield from until(lambda: _writes_on(master), _WHOLE_S)
        (heir,) = self._cluster.replicas_of(master)
        return master, heir

    def _whole(self) -> Act[None]:
        return until(lambda: self._cluster.missing() is None, _WHOLE_S)

    def _kill(self, master: Node) -> Remains:
        """What it leaves, but for the ends of its heir's streams."""
        killed = frozenset(map(_name, self._crew.killed(Role.WORKER)))
        master.kill()
        number = len(self.remains) + 1
        return Remains(
            lay_by(master.data, self._folder / f"{number}-node-{master.number}"), {}, killed
        )

    def _succession(
        self, master: Node, heir: Node, left: Remains, lasts_s: float
    ) -> Act[str | None]:
        """See the replica of a dead master elected; bring the dead one back as its replica."""
        began_s = time.monotonic()
        keys = [one.key for one in self._streams.all]
        ends: dict[str, bytes] = {}

        def is_told() -> bool:
            with suppress(redis.RedisError):
                if not heir.has_master():
                    ends.update(_ends(heir, keys))
                    return True
            return False

        yield from until(is_told, _WHOLE_S)
        self.remains.append(replace(left, ends=ends))
        yield from until(lambda: self._cluster.unserved() is None, _WHOLE_S)
        took_s = time.monotonic() - began_s
        self._masters[master.shard] = heir
        yield lasts_s
        self._cluster.start_again(master)
        yield from self._whole()
        return f"node {master.number} killed, node {heir.number} took over in {took_s:.1f} s"


def _name(worker: Member) -> str:
    """The name under which a consumer read, as it said in its log; empty where it never came to that."""
    for line in worker.log.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and "consumer" in said:
                return str(said["consumer"])
    return ""


def _ends(heir: Node, keys: Iterable[str]) -> dict[str, bytes]:
    """The last entry that a replica has of each stream of its shard."""
    heir.ask("READONLY")
    ends: dict[str, bytes] = {}
    for key in keys:
        try:
            info = heir.ask("XINFO", "STREAM", key)
        except redis.exceptions.MovedError:
            continue
        except redis.ResponseError as error:
            if "no such key" not in str(error):
                raise
            ends[key] = FIRST
        else:
            ends[key] = info[info.index(b"last-generated-id") + 1]
    return ends


def _writes_on(master: Node) -> bool:
    """Whether all that it is told goes into its file, and to a replica, at once."""
    try:
        state = master.client.info("persistence")
    except redis.RedisError:
        return False
    return not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]
