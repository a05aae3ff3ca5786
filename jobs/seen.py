"""Seen: digests flow in, whether each is new flows out. Pure.

A set of bytes objects takes a hundred bytes a digest. Here they stand one behind the other, on so many
shelves that each is looked through in a microsecond: some twenty bytes each.
"""

from __future__ import annotations

from typing import Final

# Of a million digests, fifteen a shelf; of ten million, 150.
_SHELVES: Final = 1 << 16


class Seen:
    """What was seen before, up to a bound; past it everything counts as new."""

    def __init__(self, most: int) -> None:
        """``most``: so many digests are remembered."""
        self._most = most
        self._shelves = [bytearray() for _ in range(_SHELVES)]
        self.remembered = 0
        # How many came when no more could be remembered.
        self.unchecked = 0

    def is_new(self, digest: bytes) -> bool:
        """Whether a digest, of 16 bytes or so, was never asked for before; it is remembered."""
        shelf = self._shelves[int.from_bytes(digest[:2])]
        # A hit across two digests is as rare as two things that have the same one.
        if digest in shelf:
            return False
        if self.remembered >= self._most:
            self.unchecked += 1
        else:
            self.remembered += 1
            shelf += digest
        return True
