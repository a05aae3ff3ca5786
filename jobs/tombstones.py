"""Tombstones: the table of forgotten players flows in, the answer whether a name is one of them flows out.

Whoever writes what players did somewhere else than through the consumers asks here first. Of those who write
the archive, add to it or erase from it, one does at a time: what was written by one who could not know of a
tombstone is there, and removed, when a player is forgotten, and nobody undoes what another erases.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, Engine, text

from pipeline.tombstone import sha256_of

# Any number, the same for all who write the archive.
_LOCK: Final = 4_815_162_349
_LOOK_EVERY_S: Final = 0.2
# Longer than a turn of the archiver takes.
PATIENCE_S: Final = 150.0

FORGOTTEN: Final = text("select player_sha256 from forgotten_players")
TRY: Final = text("select pg_try_advisory_lock(:lock)")


class StillWriting(Exception):
    """The archive, or tables, were being written for too long, or went meanwhile; the message is a sentence
    for people."""


def read(connection: Connection) -> Callable[[str], bool]:
    """Whether a player was forgotten, as the table says at this moment."""
    found = {bytes(sha256) for sha256 in connection.execute(FORGOTTEN).scalars()}

    def is_forgotten(player: str) -> bool:
        return bool(found) and sha256_of(player) in found

    return is_forgotten


@contextmanager
def alone(
    engine: Engine, patience_s: float = PATIENCE_S, stop: threading.Event | None = None
) -> Iterator[Connection]:
    """Be the only one that writes the archive for as long as the block lasts, whoever is killed meanwhile.

    Waits ``patience_s`` for another, or until stopped; raises StillWriting.
    """
    stop, deadline = stop or threading.Event(), time.monotonic() + patience_s
    with engine.connect() as connection:
        # Tried, not waited for: a job that waits for a long erasure keeps all other jobs waiting.
        while not _takes_turn(connection):
            if time.monotonic() >= deadline or stop.wait(_LOOK_EVERY_S):
                raise StillWriting(
                    "The archive is being written, or a player erased from it, by another process: run it"
                    " again in a while."
                )
        yield connection


@contextmanager
def known(
    engine: Engine, patience_s: float = PATIENCE_S, stop: threading.Event | None = None
) -> Iterator[Callable[[str], bool]]:
    """The same, with the answer whether a player was forgotten: whoever forgets one waits for the end."""
    with alone(engine, patience_s, stop) as connection:
        is_forgotten = read(connection)
        connection.commit()  # no transaction is to be open all the while
        yield is_forgotten


def _takes_turn(connection: Connection) -> bool:
    """Take the lock until the connection is closed, if nobody has it."""
    with connection.begin():
        return bool(connection.execute(TRY, {"lock": _LOCK}).scalar_one())
