"""Tombstones: the table of forgotten players flows in, the answer whether a name is one of them flows out.

Whoever writes what players did somewhere else than through the consumers asks here first. Of those who write
the archive, add to it or erase from it, one does at a time: what was written by one who could not know of a
tombstone is there, and removed, when a player is forgotten, and nobody undoes what another erases.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, Engine, text

from pipeline import turn
from pipeline.tombstone import sha256_of

# Any number, the same for all who write the archive.
_LOCK: Final = 4_815_162_349
# Longer than a turn of the archiver takes.
PATIENCE_S: Final = 150.0

FORGOTTEN: Final = text("select player_sha256 from forgotten_players")


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
) -> Iterator[None]:
    """Be the only one that writes the archive for as long as the block lasts, whoever is killed meanwhile.

    Waits ``patience_s`` for another, or until stopped; raises StillWriting.
    """
    with turn.taken(engine, _LOCK, patience_s=patience_s, stop=stop) as is_ours:
        if not is_ours:
            raise StillWriting(
                "The archive is being written, or a player erased from it, by another process: run it"
                " again in a while."
            )
        yield


@contextmanager
def known(
    engine: Engine, patience_s: float = PATIENCE_S, stop: threading.Event | None = None
) -> Iterator[Callable[[str], bool]]:
    """The same, with the answer whether a player was forgotten: whoever forgets one waits for the end."""
    with alone(engine, patience_s, stop):
        with engine.connect() as connection:
            is_forgotten = read(connection)
        yield is_forgotten
