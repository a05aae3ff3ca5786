"""A Redis Cluster in the harness's hands: an empty folder flows in, three masters with replicas flow out.

Shard i is node i and node i + 3, whichever of the two is the master: no replica ever moves to another
shard. Like the harness's other servers no node is started again by itself: who is down stays down until
the one who put it there brings it back.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot
from redis.retry import Retry

from infamous.embedded import binaries, confine
from infamous.embedded.binaries import Binary
from infamous.embedded.folder import Folder, ServerError

SHARDS: Final = 3
NODE_TIMEOUT_MS: Final = 1000

_HOST: Final = "127.0.0.1"
# The nodes talk to each other on a port that is higher by so much; only Redis 7 lets one choose it.
_BUS_OFFSET: Final = 10_000
# With its bus port it stays below those that Linux gives to outgoing connections: a node that is down
# would find its port taken.
_FIRST_PORT: Final = 10_000
_PORTS: Final = 12_768
_STARTS: Final = 5
_READY_S: Final = 30.0
_HEALTHY_S: Final = 30.0
# A node forgets whom it was told to meet after the node timeout.
_MEET_S: Final = 1.0
_ANSWER_S: Final = 2.0
_MIGRATE_MS: Final = 5000
_POLL_S: Final = 0.02
_KEYS_AT_ONCE: Final = 100
_UNSURE: Final = frozenset({"fail", "fail?", "handshake", "noaddr"})


@dataclass(frozen=True)
class Known:
    """A node as another one sees it: a line of CLUSTER NODES."""

    port: int
    node_id: str
    flags: frozenset[str]
    master_id: str
    epoch: int
    slots: frozenset[int]
    # Those that are on their way to it or away from it; told by the node itself alone.
    open_slots: frozenset[int]

    @property
    def is_master(self) -> bool:
        """Whether it is one, with slots or without."""
        return "master" in self.flags


@dataclass(frozen=True)
class View:
    """What a node says of the cluster, and of its own replication."""

    is_ok: bool
    is_linked: bool
    known: tuple[Known, ...]

    @property
    def itself(self) -> Known:
        """The node that says it."""
        return next(node for node in self.known if "myself" in node.flags)

    @property
    def owners(self) -> dict[int, int]:
        """The ports of the masters, by slot."""
        return {slot: node.port for node in self.known if node.is_master for slot in node.slots}


def known(line: str) -> Known:
    """Read a line of CLUSTER NODES."""
    node_id, address, flags, master_id, _, _, epoch, _, *words = line.split(" ")
    slots: set[int] = set()
    for word in words:
        if not word.startswith("["):
            first, _, last = word.partition("-")
            slots.update(range(int(first), int(last or first) + 1))
    return Known(
        port=int(address.partition("@")[0].rpartition(":")[2]),
        node_id=node_id,
        flags=frozenset(flags.split(",")),
        master_id=master_id,
        epoch=int(epoch),
        slots=frozenset(slots),
        open_slots=frozenset(int(word[1:].partition("-")[0]) for word in words if word[0] == "["),
    )


def gap(views: Mapping[int, View | None]) -> str | None:
    """What keeps the nodes on these ports from serving every slot; None when nothing does."""
    owners: dict[int, int] | None = None
    for port, view in views.items():
        if view is None:
            return f"the node on port {port} does not answer"
        if not view.is_ok:
            return f"the node on port {port} says that the cluster is down"
        if len(view.owners) < SLOTS or not views.keys() >= set(view.owners.values()):
            return f"the node on port {port} knows of slots without a living master"
        doubted = [node.port for node in view.known if node.port in views and _UNSURE & node.flags]
        if doubted:
            return f"the node on port {port} doubts that {doubted[0]} is there"
        if owners not in (None, view.owners):
            return f"the node on port {port} does not agree with the others on who has which slot"
        owners = view.owners
    return None


def flaw(views: Mapping[int, View | None]) -> str | None:
    """What keeps the cluster of these nodes from being whole, each shard with its replica; None: nothing."""
    missing = gap(views)
    if missing:
        return missing
    roles: set[frozenset[tuple[int, str]]] = set()
    for port, view in views.items():
        if view is None:
            continue
        if {node.port for node in view.known} != views.keys():
            return f"the node on port {port} does not know every other"
        if not view.is_linked:
            return f"the replication of the node on port {port} is not up"
        roles.add(frozenset((node.port, node.master_id) for node in view.known))
    return None if len(roles) == 1 else "the nodes do not agree on who replicates whom"


class Node:
    """One server of the cluster. Start it from the main thread alone: its death is tied to that thread's."""

    def __init__(
        self, number: int, home: Path, binary: Binary, settings: Mapping[str, str]
    ) -> None:
        self.number = number
        self.shard = number % SHARDS
        self.is_frozen = False
        self.port = 0
        self._folder = Folder(home / f"node-{number}")
        self._binary = binary
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._client: redis.Redis | None = None
        self._log_offset = 0

    def __repr__(self) -> str:
        return f"<node {self.number} on port {self.port}>"

    @property
    def url(self) -> str:
        """How to reach it."""
        password = self._settings.get("requirepass", "")
        credentials = f":{quote(password, safe='')}@" if password else ""
        return f"redis://{credentials}{_HOST}:{self.port}"

    @property
    def client(self) -> redis.Redis:
        """A client of this node alone; it follows no MOVED and repeats nothing."""
        if self._client is None:
            self._client = redis.Redis.from_url(
                self.url,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=_ANSWER_S,
                socket_connect_timeout=_ANSWER_S,
            )
        return self._client

    @property
    def pid(self) -> int | None:
        """Its process; None when it is down."""
        return self._process.pid if self._process and self.is_alive else None

    @property
    def is_alive(self) -> bool:
        """Whether its process is there, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def data(self) -> Path:
        """Where its files are."""
        return self._folder.home / "redis"

    @property
    def log(self) -> Path:
        """What it says."""
        return self._folder.log("redis")

    def first_start(self) -> None:
        """Start it on a port that is free; blocks until it answers, ServerError when it cannot."""
        self._folder.prepare()
        for _ in range(_STARTS):
            self.port = _free_port()
            self.start()
            # Another may have taken the port since, and be the one that answers.
            if self._answers_itself():
                return
        raise ServerError(f"Redis could not be started ({self._words()}): see {self.log}.")

    def start(self) -> None:
        """Start it on its port and with its data; does not wait until it answers."""
        output = self._folder.open_log("redis")
        try:
            self._log_offset = os.fstat(output).st_size
            self._process = confine.start(
                self._command(),
                identity=confine.Identity.OURSELVES,
                # Whoever is frozen does not hear anything milder.
                death_signal=signal.SIGKILL,
                output=output,
                inherit=(),
                new_session=True,
            )
        finally:
            os.close(output)
        self.is_frozen = False

    def kill(self) -> None:
        """SIGKILL, to what it started as well; it is gone when this returns."""
        if self._process is not None and self.is_alive:
            # One that rewrites its file has a child, which is of its group.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self.is_frozen = False
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connections of our own client."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def freeze(self) -> None:
        """SIGSTOP: its connections stay open and nobody answers on them."""
        self._send(signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        """SIGCONT: it goes on as if no time had passed.

        A master that was replaced meanwhile still says yes to what waited in its sockets, and throws it away
        when it hears the news a moment later: WAIT, on the connection of the write, answers 0 then.
        """
        self._send(signal.SIGCONT)
        self.is_frozen = False

    def cut_off(self) -> None:
        """Have it, a replica, lose its master, who does not let it in again; the others still hear of it."""
        self.ask("CONFIG", "SET", "masterauth", "no password of any node")
        self.ask("CLIENT", "KILL", "TYPE", "master")

    def let_in(self) -> None:
        """Undo that it was cut off."""
        self.ask("CONFIG", "SET", "masterauth", self._settings.get("masterauth", ""))

    def has_master(self) -> bool:
        """Whether it is a replica whose master sends it all that he gets."""
        return bool(self.client.info("replication").get("master_link_status") == "up")

    def ask(self, *words: bytes | str | int) -> Any:
        """Send it a command; the reply comes as it is."""
        # The words apart: redis-py makes something else of the replies to commands that it knows.
        return self.client.execute_command(*words)  # type: ignore[no-untyped-call]

    def look(self) -> View | None:
        """What it says at this moment; None when it does not answer."""
        if self.is_frozen or not self.is_alive:
            return None
        try:
            state = self.ask("CLUSTER", "INFO")
            lines = self.ask("CLUSTER", "NODES").decode().splitlines()
            replication = self.client.info("replication")
        except (redis.ConnectionError, redis.TimeoutError):
            return None
        if replication["role"] == "master":
            is_linked = replication.get("slave0", {}).get("state") == "online"
        else:
            is_linked = replication["master_link_status"] == "up"
        return View(b"cluster_state:ok" in state, is_linked, tuple(map(known, lines)))

    def node_id(self) -> str:
        """Its name in the cluster."""
        return str(self.ask("CLUSTER", "MYID").decode())

    def _send(self, number: signal.Signals) -> None:
        if self._process is None or not self.is_alive:
            raise ServerError(f"Node {self.number} is down: start it again first.")
        self._process.send_signal(number)

    def _answers_itself(self) -> bool:
        """Wait for its first answer; False when it died instead."""
        deadline_s = time.monotonic() + _READY_S
        while self.is_alive:
            with suppress(redis.RedisError):
                if self.client.info("server")["process_id"] == self.pid:
                    return True
            if time.monotonic() > deadline_s:
                raise ServerError(f"Redis did not answer within {_READY_S:.0f} s: see {self.log}.")
            time.sleep(_POLL_S)
        self.hang_up()
        return False

    def _words(self) -> str:
        return self._folder.last_words("redis", self._log_offset)

    def _command(self) -> list[str]:
        settings = {
            "bind": _HOST,
            "port": str(self.port),
            "dir": str(self.data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "cluster-enabled": "yes",
            # A shard that is down stops itself alone.
            "cluster-require-full-coverage": "no",
            "cluster-allow-replica-migration": "no",
            # A replica that comes back does not wait for others who may come too.
            "repl-diskless-sync-delay": "0",
            **self._settings,
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        return [str(self._binary.path), *options]


class Cluster:
    """Six nodes in a folder. Whatever waits does so within bounds and ends with a ServerError."""

    def __init__(
        self,
        home: Path,
        *,
        password: str = "",
        node_timeout_ms: int = NODE_TIMEOUT_MS,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._home = home
        self._binary = binaries.redis(None, ())
        secret = {"requirepass": password, "masterauth": password} if password else {}
        own = {"cluster-node-timeout": str(node_timeout_ms), **secret, **(settings or {})}
        self._password = password
        self.nodes: Sequence[Node] = [
            Node(number, home, self._binary, own) for number in range(2 * SHARDS)
        ]

    @property
    def binary(self) -> Binary:
        """The program that every node runs."""
        return self._binary

    @property
    def url(self) -> str:
        """A node that lives, to learn of the others from."""
        return self.urls[0]

    @property
    def urls(self) -> list[str]:
        """Those that live; frozen ones last."""
        living = sorted(self._living(), key=lambda node: node.is_frozen)
        if not living:
            raise ServerError(f"No node of the Redis Cluster in {self._home} lives.")
        return [node.url for node in living]

    @property
    def joint_url(self) -> str:
        """All nodes in one URL, whether they live or not."""
        hosts = ",".join(f"{_HOST}:{node.port}" for node in self.nodes)
        credentials = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{credentials}{hosts}/0"

    def start(self) -> None:
        """Start the nodes and make them a cluster; blocks until every one of them finds it whole.

        Where this fails, some of them may run: stop it all the same.
        """
        for node in self.nodes:
            node.first_start()
        for node in self.nodes:
            # Where two had the same, each failover would first have to settle whose is the newer.
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", node.number + 1)
        for shard in range(SHARDS):
            self.nodes[shard].ask("CLUSTER", "ADDSLOTS", *_slots_of(shard))
        self._introduce()
        for master, replica in zip(self.nodes[:SHARDS], self.nodes[SHARDS:], strict=True):
            replica.ask("CLUSTER", "REPLICATE", master.node_id())
        self.wait_healthy()

    def stop(self) -> None:
        """End every node at once: what a write was answered for, the kernel has already."""
        for node in self.nodes:
            node.kill()

    def master_of(self, key: bytes | str) -> Node:
        """Who takes this key's commands."""
        return self.owner(key_slot(key.encode() if isinstance(key, str) else key))

    def owner(self, slot: int) -> Node:
        """Who takes the commands of this slot's keys; ServerError when nobody does."""
        claims = [
            (view.itself.epoch, node.number)
            for node, view in self._looks().items()
            if view is not None and view.itself.is_master and slot in view.itself.slots
        ]
        if not claims:
            raise ServerError(f"No node of the Redis Cluster in {self._home} serves slot {slot}.")
        return self.nodes[max(claims)[1]]

    def masters(self) -> list[Node]:
        """The master of each shard, in their order; ServerError when one has none."""
        return [self._master(shard) for shard in range(SHARDS)]

    def replicas_of(self, master: Node) -> list[Node]:
        """The other nodes of its shard, whether they live or not."""
        return [node for node in self.nodes if node.shard == master.shard and node is not master]

    def kill_master(self, which: bytes | str | int) -> Node:
        """SIGKILL for the master of a key or of a shard; does not wait until it is replaced."""
        master = self._master(which) if isinstance(which, int) else self.master_of(which)
        master.kill()
        return master

    def start_again(self, node: Node) -> None:
        """Bring back one that is down, with its old data; does not wait until it is a replica."""
        node.start()

    def promote(self, replica: Node) -> None:
        """Have it take over from its master, who lives and loses nothing; blocks until it has."""

        def missing() -> str | None:
            view = replica.look()
            if view is not None and view.itself.is_master:
                return None
            # Asked again: who does not come to terms with its master in five seconds gives up.
            with suppress(redis.RedisError):
                replica.ask("CLUSTER", "FAILOVER")
            return f"node {replica.number} is no master yet"

        self._until(missing)
        self.wait_serving()

    def missing(self) -> str | None:
        """What keeps the cluster from being whole at this moment; None when it is."""
        return flaw({node.port: view for node, view in self._looks().items()})

    def unserved(self) -> str | None:
        """What keeps those who live and are not frozen from serving every slot; None when they do."""
        views = {
            node.port: view
            for node, view in self._looks().items()
            if node.is_alive and not node.is_frozen
        }
        return gap(views) if views else "no node lives"

    def wait_healthy(self) -> None:
        """Wait until all nodes find the cluster whole, each shard with its replica."""
        self._until(self.missing)

    def wait_serving(self) -> None:
        """Wait until those who live serve every slot, as after the failover of a killed master."""
        self._until(self.unserved)

    def begin_move(self, slot: int, to: Node) -> None:
        """Open a slot: for a key that is not there any more the old master answers ASK."""
        source = self.owner(slot)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.node_id())
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to.node_id())

    def move_keys(self, slot: int, to: Node) -> int:
        """Move the keys of an open slot; says how many there were."""
        source, moved = self.owner(slot), 0
        credentials = ("AUTH", self._password) if self._password else ()
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, _KEYS_AT_ONCE):
            place = (_HOST, to.port, "", 0, _MIGRATE_MS)
            source.ask("MIGRATE", *place, *credentials, "KEYS", *keys)
            moved += len(keys)
        return moved

    def end_move(self, slot: int, to: Node) -> None:
        """Hand over a slot without keys: its old master answers MOVED. The others hear of it by and by."""
        source = self.owner(slot)
        # The new owner first: in the other order there may be a moment at which nobody is.
        for node in (to, source):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", to.node_id())

    def move_slot(self, slot: int, to: Node) -> int:
        """Move a slot with its keys while it is in use; says how many there were. Blocks until all know."""
        self.begin_move(slot, to)
        moved = self.move_keys(slot, to)
        self.end_move(slot, to)
        self.wait_serving()
        return moved

    def heal(self) -> None:
        """Bring back whoever is frozen or down; blocks until the cluster is whole."""
        for node in self.nodes:
            if not node.is_alive:
                node.start()
            elif node.is_frozen:
                node.thaw()
        self.wait_healthy()

    def clean(self) -> None:
        """Heal it, throw away all data, and bring every slot back to where it was first."""
        self.heal()
        masters = self.masters()
        for master in masters:
            master.ask("FLUSHALL")
        for master in masters:
            view = master.look()
            own = view.itself if view else None
            for slot in own.open_slots if own else ():
                master.ask("CLUSTER", "SETSLOT", slot, "STABLE")
            for slot in (own.slots - set(_slots_of(master.shard))) if own else ():
                # Opened before, though empty: the change is then newer than what the others know.
                self.begin_move(slot, masters[_shard_of(slot)])
                self.end_move(slot, masters[_shard_of(slot)])
        self.wait_healthy()

    def _living(self) -> list[Node]:
        return [node for node in self.nodes if node.is_alive]

    def _looks(self) -> dict[Node, View | None]:
        return {node: node.look() for node in self.nodes}

    def _master(self, shard: int) -> Node:
        """Of two who think they are, the one that was elected last."""
        claims = [
            (view.itself.epoch, node.number)
            for node, view in self._looks().items()
            if node.shard == shard and view is not None and view.itself.is_master
        ]
        if not claims:
            raise ServerError(f"Shard {shard} of the Redis Cluster in {self._home} has no master.")
        return self.nodes[max(claims)[1]]

    def _introduce(self) -> None:
        """Have each meet each; blocks until all know all."""
        met_s = -_MEET_S

        def missing() -> str | None:
            nonlocal met_s
            if time.monotonic() - met_s > _MEET_S:
                met_s = time.monotonic()
                for node in self.nodes:
                    for other in self.nodes[: node.number]:
                        node.ask("CLUSTER", "MEET", _HOST, other.port)
            for node in self.nodes:
                view = node.look()
                sure = [one for one in view.known if not _UNSURE & one.flags] if view else []
                if len(sure) < len(self.nodes):
                    return f"the node on port {node.port} does not know every other"
            return None

        self._until(missing)

    def _until(self, missing: Callable[[], str | None]) -> None:
        deadline_s = time.monotonic() + _HEALTHY_S
        while what := missing():
            if time.monotonic() > deadline_s:
                raise ServerError(
                    f"The Redis Cluster was not ready within {_HEALTHY_S:.0f} s ({what}): "
                    f"see the logs in {self._home}."
                )
            time.sleep(_POLL_S)


@contextmanager
def running(
    home: Path,
    *,
    password: str = "",
    node_timeout_ms: int = NODE_TIMEOUT_MS,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """A cluster that is whole, in an empty folder; its nodes are gone when this ends, the folder stays."""
    cluster = Cluster(home, password=password, node_timeout_ms=node_timeout_ms, settings=settings)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _slots_of(shard: int) -> range:
    """The slots that a shard has in the beginning."""
    return range(shard * SLOTS // SHARDS, (shard + 1) * SLOTS // SHARDS)


def _shard_of(slot: int) -> int:
    return next(shard for shard in range(SHARDS) if slot in _slots_of(shard))


def _free_port() -> int:
    """One that nobody listens on, nor on its bus port, at this moment."""
    while True:
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        if _is_free(port) and _is_free(port + _BUS_OFFSET):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Redis does: a connection that was closed a moment ago does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True
