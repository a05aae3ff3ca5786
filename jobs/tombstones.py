"""Tombstones: the table of forgotten players flows in, the answer whether a name is one of them flows out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, text

FORGOTTEN: Final = text("select player_sha256 from forgotten_players")


def read(connection: Connection) -> Callable[[str], bool]:
    """Whether a player was forgotten, as the table says at this moment. It holds hashes, no names."""
    found = {bytes(sha256) for sha256 in connection.execute(FORGOTTEN).scalars()}

    def is_forgotten(player: str) -> bool:
        name = player.encode("utf-8", "surrogatepass")
        return bool(found) and hashlib.sha256(name).digest() in found

    return is_forgotten
