"""Forgotten: a batch and hashes of forgotten names flow in, the batch without their events flows out. Pure.

Whoever asked to be forgotten left a tombstone, which is no name but the hash of one. An event that comes
again, from a replay, an import or a sender that had it late, is dropped, and so is what was refused and still
says whose it was.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace

from consumer.batch import Batch
from pipeline.tombstone import player_in, sha256_of


def without(batch: Batch, forgotten: AbstractSet[bytes]) -> Batch:
    """The batch without what is of these players; the batch itself where there is nothing of the kind.

    ``forgotten`` holds their tombstones.
    """
    names = {event.player for event in batch.events}
    dropped = {name for name in names if sha256_of(name) in forgotten}
    refusals = [one for one in batch.refusals if not _is_of(one.entry.payload, forgotten)]
    if not dropped and len(refusals) == len(batch.refusals):
        return batch
    kept = [
        (event, source)
        for event, source in zip(batch.events, batch.sources, strict=True)
        if event.player not in dropped
    ]
    return replace(
        batch,
        events=[event for event, _ in kept],
        sources=[source for _, source in kept],
        refusals=refusals,
        forgotten=batch.taken - len(kept) - len(refusals),
    )


def _is_of(payload: bytes, forgotten: AbstractSet[bytes]) -> bool:
    """Whether what was refused says that it is of one of them."""
    player = player_in(payload)
    return player is not None and sha256_of(player) in forgotten
