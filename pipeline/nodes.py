"""The nodes of a Redis: a URL flows in, connections to whichever node holds a key flow out.

A server by itself holds every key. Of a Redis Cluster each node holds some slots, and a slot may move: by
hand, or because a replica takes over from a master that is gone. So a client here is redis-py's own with
connections that look up, each time they are opened, where the slot of their key is. What a node answers when
the slot is elsewhere, or on its way, ends the connection and is told as a redis.ConnectionError: a server
that is away. Who waits for it finds the slot where it is by then.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any, Final, cast

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection, parse_url
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError
from redis.retry import Retry

from pipeline.settings import SettingsError, each_host

Address = tuple[str, int]

# Longer than any wait for more: a server that says nothing for this long is away.
_SOCKET_TIMEOUT_S: Final = 5.0
# A node that is alive says at once where the slots are.
_ASK_TIMEOUT_S: Final = 2.0


class Elsewhere(redis.ConnectionError):
    """The slot of a key is on another node, or on its way there: this says nothing against the node."""


class Nodes:
    """The server, or the cluster, that a URL names. Nothing is connected before the first command."""

    def __init__(self, url: str) -> None:
        """Raises SettingsError when the URL has an option that redis-py does not know."""
        try:
            options = [_parse(host) for host in each_host(url)]
            self._options = {
                "protocol": 2,
                "socket_timeout": _SOCKET_TIMEOUT_S,
                "socket_connect_timeout": _SOCKET_TIMEOUT_S,
                **options[0],
                "retry": Retry(NoBackoff(), 0),
            }
            self._kind = self._options.pop("connection_class", Connection)
            self._kind(**self._options)  # opens nothing, and sees every option
        except (TypeError, ValueError) as error:
            reason = str(error).rstrip(".")
            raise SettingsError(f"REDIS_URL has an option that cannot be used: {reason}.") from None
        self._seeds: list[Address] = [
            (one.get("host", "localhost"), one.get("port", 6379)) for one in options
        ]
        self._lock = threading.Lock()
        # None: nobody was asked yet.
        self._is_cluster: bool | None = None
        # First and last slot, and who holds them.
        self._slots: list[tuple[int, int, Address]] = []
        # Slots that went elsewhere since.
        self._moved: dict[int, Address] = {}
        self._known: list[Address] = []
        self._doubted: set[Address] = set()

    def client(self, key: str) -> redis.Redis:
        """A client for this key and what shares its slot: never retries, and yields bytes."""
        if self._kind not in _FOLLOWING:  # a unix socket leads to one server
            return redis.Redis.from_pool(
                ConnectionPool(connection_class=self._kind, **self._options)
            )
        pool = ConnectionPool(
            connection_class=_FOLLOWING[self._kind],
            find=lambda: self.holder(key),
            nodes=self,
            **self._options,
        )
        return redis.Redis.from_pool(pool)

    def is_cluster(self) -> bool:
        """Whether it is a cluster; asks when it is not known yet. Raises what redis-py raises."""
        if self._kind not in _FOLLOWING:
            return False
        with self._lock:
            if self._is_cluster is None:
                self._is_cluster = self._look()
            return self._is_cluster

    def holder(self, key: str) -> Address:
        """Host and port of the node that holds this key, as far as is known. Raises what redis-py raises."""
        if not self.is_cluster():
            return self._seeds[0]
        with self._lock:
            if self._doubted:
                self._ask()
            address = self._known_holder(key)
            if address is None:
                self._doubted.add(self._known[0])
                raise redis.ConnectionError(
                    f"no node of the cluster holds the slot of {key} at present"
                )
            return address

    def neighbours(self, keys: Iterable[str], key: str) -> list[str]:
        """Those of some keys that are where a key is, as far as is known; asks nobody."""
        with self._lock:
            here = self._known_holder(key)
            return [one for one in keys if self._known_holder(one) == here]

    def _known_holder(self, key: str) -> Address | None:
        slot = key_slot(key.encode())
        if slot in self._moved:
            return self._moved[slot]
        return next((at for first, last, at in self._slots if first <= slot <= last), None)

    def moved(self, slot: int, address: Address) -> None:
        """A node said where a slot is."""
        with self._lock:
            self._moved[slot] = address

    def doubt(self, address: Address) -> None:
        """A node is away: before it is turned to again, the others are asked who holds its slots."""
        with self._lock:
            if self._is_cluster:
                self._doubted.add(address)

    def _look(self) -> bool:
        """Ask one of those that were named whether there is a cluster, and which."""
        failure: redis.RedisError | None = None
        for seed in self._seeds:
            try:
                with closing(self._ask_client(seed)) as client:
                    if not client.info("cluster").get("cluster_enabled"):
                        return False
            except redis.exceptions.NoPermissionError:
                return False  # whoever runs a cluster lets its users know
            except redis.RedisError as error:
                failure = error
                continue
            self._known = [seed, *(other for other in self._seeds if other != seed)]
            self._ask()
            return True
        raise failure or redis.ConnectionError("REDIS_URL names no server")

    def _ask(self) -> None:
        """Ask the nodes, one after the other, who holds which slots: those that are in doubt come last."""
        random.shuffle(self._known)
        self._known.sort(key=lambda address: address in self._doubted)
        failure: redis.RedisError | None = None
        for address in self._known:
            try:
                with closing(self._ask_client(address)) as client:
                    answer = client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
            except redis.AuthenticationError:
                raise
            except redis.RedisError as error:
                failure = error
                continue
            if not answer:
                continue  # one that was taken out of the cluster
            self._take(answer, address)
            return
        raise failure or redis.ConnectionError("no node of the cluster knows who holds which slots")

    def _take(self, answer: list[Any], asked: Address) -> None:
        slots, known = [], dict.fromkeys(self._seeds)
        for first, last, *nodes in answer:
            # One that does not know its own name is called by that under which it was reached.
            addresses = [(_text(node[0]) or asked[0], int(node[1])) for node in nodes]
            slots.append((int(first), int(last), addresses[0]))
            known |= dict.fromkeys(addresses)
        self._slots, self._known = slots, list(known)
        self._moved.clear()
        self._doubted.clear()

    def _ask_client(self, address: Address) -> redis.Redis:
        host, port = address
        options = self._options | {"host": host, "port": port, "socket_timeout": _ASK_TIMEOUT_S}
        options["socket_connect_timeout"] = _ASK_TIMEOUT_S
        return redis.Redis.from_pool(ConnectionPool(connection_class=self._kind, **options))


def _parse(url: str) -> dict[str, Any]:
    return cast("dict[str, Any]", parse_url(url))  # type: ignore[no-untyped-call]


class _Following(Connection):
    """A connection that goes, whenever it is opened, to the node that ``find`` names."""

    def __init__(self, *, find: Callable[[], Address], nodes: Nodes, **options: Any) -> None:
        self._find, self._nodes = find, nodes
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        self.host, self.port = self._find()
        try:
            return super()._connect()  # type: ignore[no-untyped-call]
        except OSError:
            self._nodes.doubt((self.host, self.port))
            raise

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        """The same, but that a slot which is elsewhere is told as a server that is away."""
        try:
            return super().read_response(*arguments, **options)
        except AskError as error:
            if isinstance(error, MovedError):
                host, port = error.node_addr
                self._nodes.moved(error.slot_id, (host or self.host, port))
            # What is on its way between two nodes cannot be had from either: see it moved first.
            self.disconnect()  # type: ignore[no-untyped-call]
            raise Elsewhere(f"the slot of this key is elsewhere ({error})") from None
        except ClusterDownError as error:
            self._nodes.doubt((self.host, self.port))
            self.disconnect()  # type: ignore[no-untyped-call]
            raise redis.ConnectionError(f"the cluster is down here ({error})") from None
        except (redis.ConnectionError, redis.TimeoutError):
            self._nodes.doubt((self.host, self.port))
            raise


class _FollowingSSL(_Following, SSLConnection):
    """The same over TLS."""


_FOLLOWING: Final[dict[Any, Any]] = {Connection: _Following, SSLConnection: _FollowingSSL}


def _text(value: bytes | str | None) -> str:
    text = value.decode() if isinstance(value, bytes) else value or ""
    return "" if text == "?" else text
