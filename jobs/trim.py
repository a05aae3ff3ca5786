"""Trim: an age in seconds flows in, a stream without what everybody has stored long ago flows out."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.stream import Stream


@dataclass(frozen=True)
class Trimmed:
    """What a trim did."""

    entries: int


def trim(source: Stream, keep_s: float) -> Trimmed:
    """Drop entries older than ``keep_s`` that every group has read and acknowledged.

    Broken off anywhere, it has dropped only what it may drop; the next trim drops the rest.
    """
    return Trimmed(source.trim(keep_s=keep_s))
