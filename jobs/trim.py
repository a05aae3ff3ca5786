"""Trim: an age and a share of memory flow in, a stream without what all have stored long ago flows out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.stream import Stream

# Less than this is not worth keeping for a replay.
_SHORTEST_S: Final = 1.0


@dataclass(frozen=True)
class Trimmed:
    """What a trim did."""

    entries: int


def trim(source: Stream, keep_s: float) -> Trimmed:
    """Drop entries older than ``keep_s`` that every group has read and acknowledged.

    Broken off anywhere, it has dropped only what it may drop; the next trim drops the rest.
    """
    return Trimmed(source.trim(keep_s=keep_s))


def trim_to_fit(source: Stream, keep_s: float, most_share: float) -> Trimmed:
    """The same, and less than ``keep_s`` where Redis uses more than this share of the memory it may use.

    A Redis that is full refuses events. What is dropped before is what everybody has stored.
    """
    entries = source.trim(keep_s=keep_s)
    while keep_s > _SHORTEST_S and source.memory_share() > most_share:
        keep_s /= 2
        entries += source.trim(keep_s=keep_s)
    return Trimmed(entries)
