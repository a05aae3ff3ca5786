"""The soak's verdict: samples of memory in, what grew out."""

from __future__ import annotations

import os
from collections.abc import Callable
from unittest.mock import patch

import pytest

from infamous.prove import soak
from infamous.prove.faults import Kind
from infamous.prove.soak import Growth, Memory, Watch

MB = 1024 * 1024


def watched(size: Callable[[float], int], seconds: float = 100.0) -> Memory:
    """What a soak finds when its one process is of this size at each moment."""
    watch = Watch(seconds, redis_before_bytes=MB)
    for at_s in range(int(seconds)):
        with patch.object(soak, "resident_bytes", return_value=size(at_s)):
            watch.look(at_s, {"worker-1": 1}, redis_bytes=at_s * MB)
    return watch.memory(redis_after_bytes=2 * MB)


def test_a_process_that_warms_up_and_stays_is_flat() -> None:
    """What the first batches took, and a moment's peak, is no leak."""

    def size(at_s: float) -> int:
        return 90 * MB if at_s == 50 else 60 * MB if at_s >= 5 else 40 * MB

    memory = watched(size)
    assert memory.problems() == []
    assert memory.processes == [Growth("worker-1", 60 * MB, 60 * MB, 90 * MB)]
    assert memory.redis_peak_bytes == 99 * MB


def test_a_process_that_leaks_is_named() -> None:
    """A steady gain is found, however small it is beside the whole."""
    memory = watched(lambda at_s: 60 * MB + int(at_s * 0.1 * MB))
    assert [problem.split()[0] for problem in memory.problems()] == ["worker-1"]


def test_a_redis_that_keeps_what_was_trimmed_is_told() -> None:
    """After the drain and the trim it must be where it began."""
    memory = Memory([], redis_before_bytes=MB, redis_peak_bytes=90 * MB, redis_after_bytes=9 * MB)
    assert len(memory.problems()) == 1
    assert "9.4 MB after the trim" in memory.problems()[0]


def test_the_outage_is_a_fifth_of_the_time() -> None:
    """Ten minutes have two minutes without Postgres, with time before and after them."""
    (fault,) = soak.plan(600)
    assert fault.kind is Kind.POSTGRES_AWAY
    assert fault.lasts_s == pytest.approx(120)
    assert fault.at_s == pytest.approx(180)


def test_this_process_has_a_size_and_a_gone_one_has_none() -> None:
    """Sizes are read from the kernel; who ended in between is passed over."""
    size = soak.resident_bytes(os.getpid())
    assert size is not None
    assert size > MB
    assert soak.resident_bytes(2**22 + 1) is None
