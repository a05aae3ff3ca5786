"""The tombstone: a player's name flows in, what is remembered of one who is forgotten flows out. Pure.

It is a hash, so that the table of the forgotten does not name them.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec


class _Named(msgspec.Struct):
    player: str


_decode_named: Final = msgspec.json.Decoder(_Named).decode


def sha256_of(player: str) -> bytes:
    """What a tombstone says of a name."""
    return hashlib.sha256(player.encode("utf-8", "surrogatepass")).digest()


def player_in(payload: bytes) -> str | None:
    """Whose event bytes say that they are, whether they are one or not; None where they do not say."""
    try:
        return _decode_named(payload).player
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
