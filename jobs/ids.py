"""Seeded ids: a time and anything that tells one event from others flow in, its id flows out. Pure.

The same time and seed give the same id, so whoever makes an event again makes the same one.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

from pipeline.event import uuid7


def seeded_id(ms: int, seed: bytes) -> UUID:
    """A UUIDv7 of a time in Unix milliseconds whose 74 free bits are the first of the seed's SHA-256."""
    return uuid7(ms, int.from_bytes(hashlib.sha256(seed).digest()[:10]) >> 6)
