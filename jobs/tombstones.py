"""Tombstones: the table of forgotten players flows in, the answer whether a name is one of them flows out.

Whoever writes what players did somewhere else than through the consumers asks here first, and is waited for
by whoever forgets a player: what it wrote before it could know is there by then, and removed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, Engine, text

from pipeline.tombstone import sha256_of

# Any number, the same for all who write and all who forget.
_LOCK: Final = 4_815_162_349
# The same for all who rewrite the archive.
_REWRITE_LOCK: Final = 4_815_162_351
_LOOK_EVERY_S: Final = 0.2

FORGOTTEN: Final = text("select player_sha256 from forgotten_players")
SHARE: Final = text("select pg_advisory_lock_shared(:lock)")
TRY: Final = text("select pg_try_advisory_xact_lock(:lock)")


TRY_ALONE: Final = text("select pg_try_advisory_lock(:lock)")


class StillWriting(Exception):
    """The archive was being written for too long."""


def read(connection: Connection) -> Callable[[str], bool]:
    """Whether a player was forgotten, as the table says at this moment."""
    found = {bytes(sha256) for sha256 in connection.execute(FORGOTTEN).scalars()}

    def is_forgotten(player: str) -> bool:
        return bool(found) and sha256_of(player) in found

    return is_forgotten


@contextmanager
def known(engine: Engine) -> Iterator[Callable[[str], bool]]:
    """The same for as long as the block lasts: whoever forgets a player meanwhile waits for its end."""
    with engine.connect() as connection:
        connection.execute(SHARE, {"lock": _LOCK})  # until the connection is closed
        is_forgotten = read(connection)
        connection.commit()  # no transaction is to be open all the while
        yield is_forgotten


def wait_for_writers(engine: Engine, stop: threading.Event, patience_s: float) -> None:
    """Wait for those who write and could not know of a new tombstone. Raises StillWriting."""
    deadline = time.monotonic() + patience_s
    # Tried, not waited for: behind one who waits, all who come later would wait as well.
    while not stop.is_set():
        with engine.begin() as connection:
            if connection.execute(TRY, {"lock": _LOCK}).scalar_one():
                return
        if time.monotonic() >= deadline:
            raise StillWriting(
                f"The archive has been written for {patience_s:g} s without a pause: run it again in a while."
            )
        stop.wait(_LOOK_EVERY_S)


@contextmanager
def rewriting(engine: Engine, stop: threading.Event, patience_s: float) -> Iterator[None]:
    """Be the only one that rewrites the archive: of two, one would put back what the other took out.

    Raises StillWriting where another does for longer than ``patience_s``. Stopped while it waits, it is not
    alone, and ``stop`` is set.
    """
    deadline = time.monotonic() + patience_s
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.execute(TRY_ALONE, {"lock": _REWRITE_LOCK}).scalar_one():
            if time.monotonic() >= deadline:
                raise StillWriting(
                    "Another player is being erased from the archive: run it again when that is done."
                )
            if stop.wait(_LOOK_EVERY_S):
                break
        yield  # the lock is held until the connection is closed
