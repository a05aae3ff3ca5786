"""One MULTI: packed commands flow in, Redis runs them all or none, and what it answered flows out.

redis-py's pipeline packs, reads and looks up a callback command by command, which takes a producer longer
than Redis takes to obey. Here commands may come packed, and between ``begin`` and ``finish`` the caller is
free to do something else while Redis works. Nothing here retries.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final, Self

import redis

# So long replicas have to take what a transaction wrote.
_REPLICAS_MS: Final = 1000


class NotReplicated(redis.RedisError):
    """What a transaction wrote is on the master, and on too few of its replicas."""


class Transaction:
    """One transaction on a connection of the pool's, which gets it back when the block is left."""

    def __init__(self, client: redis.Redis) -> None:
        """Raises what redis-py raises when there is no connection to be had."""
        self._pool = client.connection_pool
        self._connection = self._pool.get_connection()
        # Whether the connection is as it was: nothing watched, and no answer on its way.
        self._is_clean = True
        self._queued = self._replicas = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; a transaction that was not finished is given up with its line."""
        if not self._is_clean:
            self._connection.disconnect()  # type: ignore[no-untyped-call]
        self._pool.release(self._connection)

    def watch(self, key: str, *fields: str) -> list[bytes | None]:
        """Run only if this hash does not change from now on; returns the values of the fields."""
        self._send(self._packed(("WATCH", key), ("HMGET", key, *fields)))
        self._read()
        values: list[bytes | None] = self._read()
        return values

    def begin(
        self, packed: bytes, count: int, *commands: tuple[Any, ...], replicas: int = 0
    ) -> None:
        """Send ``count`` commands as they go over the wire, then the others, and wait for no answer.

        ``replicas`` must have taken them when it is finished.
        """
        self._queued, self._replicas = count + len(commands), replicas
        # On the same connection: on another it would say nothing of what was written here.
        end = [("EXEC",), ("WAIT", replicas, _REPLICAS_MS)][: 2 if replicas else 1]
        self._send(self._packed(("MULTI",)) + packed + self._packed(*commands, *end))

    def finish(self) -> list[Any]:
        """What each command answered. Raises the first error, WatchError when the key changed, and
        NotReplicated.
        """
        refused: redis.ResponseError | None = None
        answers: list[Any] | None = None
        for _ in range(1 + self._queued):
            try:
                self._read()
            except redis.ResponseError as error:
                refused = refused or error
        try:
            answers = self._read()
            refused = None
        except redis.ResponseError as error:
            refused = refused or error
        copies = self._read() if self._replicas else 0
        self._is_clean = True
        if refused is not None:
            raise refused
        if answers is None:
            raise redis.WatchError("Watched variable changed.")
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        if copies < self._replicas:
            raise NotReplicated(f"{copies} of {self._replicas} replicas have taken what was sent")
        return answers

    def _packed(self, *commands: tuple[Any, ...]) -> bytes:
        return b"".join(self._connection.pack_commands(commands))  # type: ignore[no-untyped-call]

    def _send(self, packed: bytes) -> None:
        self._is_clean = False
        self._connection.send_packed_command([packed])  # type: ignore[no-untyped-call]

    def _read(self) -> Any:
        return self._connection.read_response()
