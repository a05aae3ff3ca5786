"""The lease: the queue's Redis flows in, whether this scheduler is the one that schedules flows out.

Whoever has it renews it while it lives; when it is gone, the lease runs out, and another takes it. A lease is
no proof: who was frozen believes for an instant that it has it still. So nothing may rest on it alone.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import redis
from redis.exceptions import LockError

# Among RQ's own keys: a user of the queue's Redis may write there, and nowhere else.
KEY: Final = "rq:infamous:scheduler"
# A few times as long as it takes until the next renewal.
LEASE_S: Final = 5.0


class Lease:
    """A claim on being the only one, for some seconds at a time."""

    def __init__(self, connection: redis.Redis) -> None:
        self._lock = connection.lock(KEY, timeout=LEASE_S, blocking=False, thread_local=False)
        self._is_ours = False

    def take(self) -> bool:
        """Take it, or renew it; answers whether it is ours. Raises what Redis raises."""
        if self._is_ours:
            try:
                self._lock.reacquire()
            except LockError:  # it ran out
                self._is_ours = False
        if not self._is_ours:
            self._is_ours = self._lock.acquire()
        return self._is_ours

    def give_back(self) -> None:
        """Let the next one have it at once; where Redis is away, it runs out by itself."""
        if self._is_ours:
            self._is_ours = False
            with suppress(redis.RedisError):
                self._lock.release()
