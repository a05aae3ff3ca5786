"""Trim: an age and a share of memory flow in, a stream without what all have stored long ago flows out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline import log
from pipeline.stream import Stream

# Less than this is not worth keeping for a replay.
_SHORTEST_S: Final = 1.0


@dataclass(frozen=True)
class Trimmed:
    """What a trim did."""

    entries: int


@dataclass(frozen=True)
class Fitted:
    """What a trim for want of memory did, and the share of the memory that is used after it, 0 to 1."""

    entries: int
    memory_share: float


def trim(source: Stream, keep_s: float) -> Trimmed:
    """Drop entries older than ``keep_s`` that every group has read and acknowledged.

    Broken off anywhere, it has dropped only what it may drop; the next trim drops the rest.
    """
    return Trimmed(source.trim(keep_s=keep_s))


def trim_to_fit(source: Stream, keep_s: float, most_share: float) -> Fitted:
    """The same, and less than ``keep_s`` where Redis uses more than this share of the memory it may use.

    A Redis that is full refuses events. What is dropped before is what everybody has stored; where that is
    not enough, a warning says who has not.
    """
    entries = source.trim(keep_s=keep_s)
    while (share := source.memory_share()) > most_share and keep_s > _SHORTEST_S:
        keep_s /= 2
        entries += source.trim(keep_s=keep_s)
    if share > most_share:
        _warn(source, share)
    return Fitted(entries, round(share, 3))


def _warn(source: Stream, share: float) -> None:
    """Say in time who keeps entries on a stream that nothing more can be trimmed from."""
    sentence = "Redis' memory runs short, and at 100 % it refuses events; "
    facts: dict[str, object] = {"memory": f"{share:.0%}"}
    holder = source.holder()
    if holder is None:
        sentence += "no group holds entries back: something else in it takes the memory"
    else:
        sentence += "nothing more can be trimmed before this group has read and acknowledged it"
        # Its owner calls it as he likes.
        facts |= {
            "group": ascii(holder.group)[1:-1][:64],
            "entries": holder.entries,
            "behind_s": round(holder.since_s),
        }
    log.get("trim").warning(sentence, **facts)
