"""The plan of faults: complete, bounded, and the same for the same seed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infamous.prove.faults import (
    CLUSTER,
    FIRST_S,
    ONE_REDIS,
    QUIET_S,
    SHAPES,
    SINGLE_FAILURES,
    WHOLE_S,
    Kind,
    Lane,
    plan,
)

seeds = st.integers(0, 2**32)
lengths_s = st.floats(WHOLE_S, 600)


@given(seeds, lengths_s)
def test_every_class_comes_and_none_too_often(seed: int, seconds: float) -> None:
    """A whole run proves every class: whatever the seed, none is left out."""
    kinds = [fault.kind for fault in plan(seed, seconds)]
    assert set(kinds) == set(Kind) - {Kind.POISON}
    assert all(kinds.count(kind) <= SHAPES[kind].times for kind in SHAPES)


@given(seeds, st.floats(1, 600))
def test_faults_of_one_lane_never_overlap(seed: int, seconds: float) -> None:
    """Two outages of the same server at once would hide what each of them does."""
    for lane in Lane:
        faults = [fault for fault in plan(seed, seconds) if SHAPES[fault.kind].lane is lane]
        for before, after in pairwise(faults):
            settled_s = before.ends_s + SHAPES[before.kind].settles_s
            assert after.at_s >= settled_s - 1e-6, (before, after)


@given(seeds, st.floats(1, 600))
def test_all_is_over_before_the_end(seed: int, seconds: float) -> None:
    """The last seconds are quiet, and no fault lasts longer than its class allows."""
    for fault in plan(seed, seconds):
        shape = SHAPES[fault.kind]
        assert fault.at_s >= FIRST_S
        assert fault.ends_s <= seconds - QUIET_S + 1e-6
        assert shape.least_s <= fault.lasts_s <= shape.most_s


@given(seeds, lengths_s)
def test_every_run_on_a_cluster_kills_a_master(seed: int, seconds: float) -> None:
    """One that hurts nobody proves nothing; two failures at once come only where they are asked for."""
    kinds = [fault.kind for fault in plan(seed, seconds, SINGLE_FAILURES)]
    assert set(kinds) == set(SINGLE_FAILURES) - {Kind.POISON}
    assert Kind.REPLICA_CUT_OFF not in kinds


def test_one_redis_has_no_fault_of_a_cluster() -> None:
    """Each of the two has all classes but those of the other."""
    assert {*ONE_REDIS} | {*CLUSTER} == {*Kind}
    assert all(SHAPES[kind].lane is Lane.CLUSTER for kind in {*CLUSTER} - {*ONE_REDIS})
    assert not any(SHAPES[kind].lane is Lane.REDIS for kind in SINGLE_FAILURES if kind in SHAPES)


@given(seeds)
def test_a_seed_says_it_all(seed: int) -> None:
    """A run that failed can be run again: the plan follows from the seed, and differs for others."""
    assert plan(seed, 60) == plan(seed, 60)
    assert plan(seed, 60) != plan(seed + 1, 60)


@given(seeds)
def test_what_is_left_out_moves_no_other_lane(seed: int) -> None:
    """``--faults`` narrows a failed run down: the lanes that stay do the same at the same time."""
    for lane in Lane:
        kinds = [kind for kind in SHAPES if SHAPES[kind].lane is lane]
        whole = [fault for fault in plan(seed, 60) if fault.kind in kinds]
        assert plan(seed, 60, kinds) == whole


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind in SHAPES])
def test_a_short_run_has_room_for_any_single_class(kind: Kind) -> None:
    """One class alone can be tried in ten seconds."""
    assert {fault.kind for fault in plan(1, 10, [kind])} == {kind}
