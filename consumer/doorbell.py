"""The doorbell: streams at rest flow in, those to which something was added flow out.

A blocked read takes a connection, and one read cannot ask two slots of a cluster; so each stream at rest has
a read blocked on a line of its own, and this process waits for whichever answers first. Such a read takes
nothing from the group.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import redis

from pipeline import stream
from pipeline.stream import Stream

# A blocked read that is so late was lost.
_LATE_S: Final = 5.0


@dataclass(frozen=True)
class _Line:
    """A read that is blocked at the server."""

    source: Stream
    connection: Any
    socket: Any
    late_at_s: float


class Doorbell:
    """Waits at several streams at once."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._selector = selectors.DefaultSelector()

    def wait(self, resting: Mapping[str, tuple[Stream, bytes]], at_most_s: float) -> set[str]:
        """The keys of the streams that got more behind the given entries, once there are any.

        A stream that cannot be asked counts as one of them: who reads from it learns why. Raises
        NoPermissionError.
        """
        rung = {key for key, (source, after) in resting.items() if not self._arm(source, after)}
        for ready, _ in self._selector.select(0.0 if rung else at_most_s):
            if self._has_rung(self._lines[ready.data]):
                rung.add(ready.data)
        now_s = time.monotonic()
        for key in [key for key, line in self._lines.items() if now_s > line.late_at_s]:
            self._drop(self._lines.pop(key))
            rung.add(key)
        return rung

    def close(self) -> None:
        """Hang up."""
        for line in self._lines.values():
            self._drop(line)
        self._lines.clear()
        self._selector.close()

    def _arm(self, source: Stream, after: bytes) -> bool:
        """See that a read is blocked there; a line that was, and heard nothing yet, will do."""
        if source.key in self._lines:
            return True
        block_ms, pool = stream.BLOCK_MS, source.client.connection_pool
        connection: Any = None
        try:
            connection = pool.get_connection()
            connection.send_command(
                "XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", source.key, after
            )
        except redis.RedisError:
            if connection is not None:
                connection.disconnect()
                pool.release(connection)
            return False
        # redis-py has no other way to it, and none to wait for several connections.
        socket = connection._sock
        late_at_s = time.monotonic() + block_ms / 1000 + _LATE_S
        self._lines[source.key] = _Line(source, connection, socket, late_at_s)
        self._selector.register(socket, selectors.EVENT_READ, source.key)
        return True

    def _has_rung(self, line: _Line) -> bool:
        """Take the answer; a read that waited in vain answers, too. Raises NoPermissionError."""
        del self._lines[line.source.key]
        self._selector.unregister(line.socket)
        try:
            return bool(line.connection.read_response())
        except redis.exceptions.NoPermissionError:
            raise  # who reads from it in another way may be permitted to, and would never learn of it
        except redis.RedisError:
            line.connection.disconnect()
            return True
        finally:
            line.source.client.connection_pool.release(line.connection)

    def _drop(self, line: _Line) -> None:
        with suppress(KeyError):
            self._selector.unregister(line.socket)
        line.connection.disconnect()
        line.source.client.connection_pool.release(line.connection)
