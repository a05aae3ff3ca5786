"""Poison is what it says it is: refused, for exactly that reason, whenever it is read."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from consumer.batch import Batch, Limits
from infamous.prove.poison import REASONS, REFUSED_BY_DATABASE, Poison, made, poison
from pipeline import stream
from pipeline.event import Reason, Window, decode
from tests.unit.samples import NOW_MS, RETENTION_DAYS, WINDOW

LIMITS = Limits(rows=100_000, bytes=10**9, age_s=60.0)
DRAWS = 1000


def draws(seed: int = 1, count: int = DRAWS) -> list[Poison]:
    """The first so many entries of a seed."""
    rng = random.Random(seed)
    return [poison(number, rng, NOW_MS) for number in range(count)]


def taken(entry: Poison, window: Window = WINDOW) -> Batch:
    """A batch after a consumer read this entry and nothing else."""
    batch = Batch(LIMITS)
    batch.take(stream._entries([[b"1-0", list(entry.fields)]]), window, 0.0)
    return batch


def test_every_reason_comes_in_each_round() -> None:
    """A new reason without poison to go with it is noticed here, not in a run that proves too little."""
    entries = draws()
    assert {entry.reason for entry in entries[: len(REASONS)]} == set(Reason)
    assert len(REASONS) == len(set(REASONS))


@pytest.mark.parametrize("late_ms", [0, 3_600_000])
def test_each_is_refused_for_exactly_its_reason(late_ms: int) -> None:
    """Every way to deserve a reason gets that one, also an hour later, and is kept as it says."""
    window = Window.at(NOW_MS + late_ms, RETENTION_DAYS)
    for entry in draws():
        if entry.reason is Reason.DATABASE:
            continue
        (refusal,) = taken(entry, window).refusals
        assert (refusal.reason, refusal.entry.payload) == (entry.reason, entry.payload)


def test_what_the_database_is_to_refuse_is_an_event_in_all_else() -> None:
    """Nothing but the constraint on its player's name stands in its way."""
    for turn in range(10):
        entry = made(Reason.DATABASE, turn, random.Random(turn), NOW_MS)
        assert decode(entry.payload, WINDOW).player.startswith(REFUSED_BY_DATABASE)
        assert taken(entry).refusals == []


def test_no_two_are_alike() -> None:
    """The quarantine keys by hash: two of the same bytes would be one row, and hide a loss."""
    payloads = [entry.payload for entry in draws()]
    assert len(set(payloads)) == DRAWS


def test_the_same_seed_brews_the_same() -> None:
    """A run that failed can be repeated, and another seed is another run."""
    assert draws(7, 200) == draws(7, 200)
    assert draws(7, 200) != draws(8, 200)


def test_the_ways_within_a_reason_differ() -> None:
    """Each round breaks the rule in another way, so that a minute of poison is a broad one."""
    rng = random.Random(1)
    types: list[Any] = [
        json.loads(made(Reason.UNKNOWN_VERSION, turn, rng, NOW_MS).payload)["v"]
        for turn in range(5)
    ]
    assert len({repr(value) for value in types}) == 5
