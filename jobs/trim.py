"""Trim: an age and a share of memory flow in, streams without what all have stored long ago flow out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import redis

from pipeline import log
from pipeline.patience import first_line
from pipeline.stream import Stream, is_temporary
from pipeline.streams import Streams

# Less than this is not worth keeping for a replay.
_SHORTEST_S: Final = 1.0


@dataclass(frozen=True)
class Trimmed:
    """What a trim did."""

    entries: int
    # Streams that are away, and why: the next trim has them.
    away: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """What a trim for want of memory did, and the share of the memory that is used after it, 0 to 1: on the
    node whose memory runs shortest.
    """

    entries: int
    memory_share: float
    away: Mapping[str, str] = field(default_factory=dict)


def trim(streams: Streams, keep_s: float) -> Trimmed:
    """Drop entries older than ``keep_s`` that every group has read and acknowledged, of each stream.

    Broken off anywhere, it has dropped only what it may drop; the next trim drops the rest. One that is away
    does not keep it from the others; where all are, raises what redis-py raises.
    """
    answers = streams.look_and_ask(lambda one: one.trim(keep_s=keep_s))
    entries = sum(answers.some().values())
    for key, reason in answers.reasons.items():
        _tell_away(key, reason)
    return Trimmed(entries, answers.reasons)


def trim_to_fit(streams: Streams, keep_s: float, most_share: float) -> Fitted:
    """The same, and less than ``keep_s`` where a node uses more than this share of the memory it may use:
    of its streams, and of no other's.

    A Redis that is full refuses events. What is dropped before is what everybody has stored; where that is
    not enough, a warning says who has not.
    """
    done = trim(streams, keep_s)
    entries, away, share = done.entries, dict(done.away), 0.0
    by_node, unknown = _by_node(streams, away)
    away |= unknown
    for node, sources in by_node.items():
        try:
            fitted = _fit(node, sources, keep_s, most_share)
        except redis.RedisError as error:
            if not is_temporary(error):
                raise
            reason = first_line(error)
            away |= {source.key: reason for source in sources}
            _tell_away(sources[0].key, reason)
            continue
        entries, share = entries + fitted.entries, max(share, fitted.memory_share)
    return Fitted(entries, round(share, 3), away)


def _by_node(
    streams: Streams, away: Mapping[str, str]
) -> tuple[dict[str | None, list[Stream]], dict[str, str]]:
    """The streams that are there, by the node whose memory they share; and why of some nobody knows it."""
    # There is one server, or several nodes, of which each has a name.
    nodes = streams.ask(lambda one: streams.node_of(one) if streams.is_cluster() else None)
    found: dict[str | None, list[Stream]] = defaultdict(list)
    for source in streams.all:
        if source.key not in away and source.key in nodes.found:
            found[nodes.found[source.key]].append(source)
    return found, dict(nodes.reasons)


def _fit(node: str | None, sources: Sequence[Stream], keep_s: float, most_share: float) -> Fitted:
    entries = 0
    while (share := sources[0].memory_share()) > most_share and keep_s > _SHORTEST_S:
        keep_s /= 2
        entries += sum(source.trim(keep_s=keep_s) for source in sources)
    if share > most_share:
        _warn(node, sources, share)
    return Fitted(entries, share)


def _warn(node: str | None, sources: Sequence[Stream], share: float) -> None:
    """Say in time who keeps entries on streams that nothing more can be trimmed from."""
    sentence = "Redis' memory runs short, and at 100 % it refuses events; "
    facts: dict[str, object] = {"memory": f"{share:.0%}"}
    held = [(found, source) for source in sources if (found := source.holder()) is not None]
    if not held:
        sentence += "no group holds entries back: something else in it takes the memory"
    else:
        holder, source = min(held, key=lambda one: one[0].since_ms)
        sentence += "nothing more can be trimmed before this group has read and acknowledged it"
        # Its owner calls it as he likes.
        facts |= {
            "group": ascii(holder.group)[1:-1][:64],
            "entries": holder.entries,
            "behind_s": round(holder.since_s),
        }
        if len(sources) > 1:
            facts["stream"] = source.key
    if node is not None:
        facts["node"] = node
    log.get("trim").warning(sentence, **facts)


def _tell_away(key: str, reason: str) -> None:
    log.get("trim").warning(
        "A stream is away; the others are trimmed, and it is the next time",
        stream=key,
        error=reason,
    )
