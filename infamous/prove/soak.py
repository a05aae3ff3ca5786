"""The soak: a length flows in, one long outage and what memory must do meanwhile flow out.

Where the chaos asks whether anything is lost, this asks whether anything piles up: a steady rate, Postgres
away for a fifth of the time, and every process's resident memory watched; at the end, with all stored and
acknowledged and the stream trimmed, Redis must hold no more than it did before the first event.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infamous.prove.faults import Fault, Kind

RATE: Final = 2000.0
# Buffers and the allocator's arenas are at their size once each worker has stored a few full batches.
BACKLOG_ENTRIES: Final = 40_000
WARM_UP_SHARE: Final = 0.1
_SPAN_SHARE: Final = 0.1
# What a process may gain between the two spans: the noise of an allocator, not a leak.
_MOST_GROWTH: Final = 1.05
_MOST_GROWTH_BYTES: Final = 2 * 1024 * 1024
# Redis keeps the players' states, a node of the stream, and buffers for whoever is connected.
_MOST_REDIS_BYTES: Final = 2 * 1024 * 1024


def plan(seconds: float) -> list[Fault]:
    """Postgres goes away at three tenths of the time, for two tenths."""
    return [Fault(0.3 * seconds, Kind.POSTGRES_AWAY, 0.2 * seconds, 0)]


@dataclass(frozen=True)
class Growth:
    """A process's resident memory: the medians of a span after the warm-up and of the last one."""

    process: str
    warm_bytes: int
    end_bytes: int
    peak_bytes: int

    @property
    def is_flat(self) -> bool:
        """Whether it gained nothing to speak of."""
        return self.end_bytes <= self.warm_bytes * _MOST_GROWTH + _MOST_GROWTH_BYTES

    def __str__(self) -> str:
        return (
            f"{self.process:<12} {_mb(self.warm_bytes)} after the warm-up, {_mb(self.end_bytes)} at the"
            f" end, {_mb(self.peak_bytes)} at most"
        )


@dataclass(frozen=True)
class Memory:
    """What memory did in the course of a soak."""

    processes: Sequence[Growth]
    redis_before_bytes: int
    redis_peak_bytes: int
    redis_after_bytes: int

    def lines(self) -> list[str]:
        """A line a process, and one for Redis."""
        redis = (
            f"{'redis':<12} {_mb(self.redis_before_bytes)} before, {_mb(self.redis_peak_bytes)} at most,"
            f" {_mb(self.redis_after_bytes)} after the drain and the trim"
        )
        return [*map(str, self.processes), redis]

    def problems(self) -> list[str]:
        """What piled up."""
        found = [f"{one.process} grew: {one}" for one in self.processes if not one.is_flat]
        if self.redis_after_bytes > self.redis_before_bytes + _MOST_REDIS_BYTES:
            found.append(
                f"Redis holds {_mb(self.redis_after_bytes)} after the trim and held"
                f" {_mb(self.redis_before_bytes)} before the first event"
            )
        return found


@dataclass
class Watch:
    """Takes the samples."""

    seconds: float
    redis_before_bytes: int = 0
    redis_peak_bytes: int = 0
    _samples: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def look(self, at_s: float, pids: Mapping[str, int], redis_bytes: int | None) -> None:
        """Take everybody's size at a moment of the run."""
        for name, pid in pids.items():
            size = resident_bytes(pid)
            if size is not None:
                self._samples.setdefault(name, []).append((at_s, size))
        if redis_bytes is not None:
            self.redis_peak_bytes = max(self.redis_peak_bytes, redis_bytes)

    def memory(self, redis_after_bytes: int) -> Memory:
        """What came of it, of all those who were there from the warm-up to the end."""
        span_s = _SPAN_SHARE * self.seconds
        warm_s, end_s = WARM_UP_SHARE * self.seconds, self.seconds - span_s
        growths = []
        for name, samples in self._samples.items():
            warm = [size for at_s, size in samples if warm_s <= at_s < warm_s + span_s]
            end = [size for at_s, size in samples if end_s <= at_s <= self.seconds]
            if warm and end:
                peak = max(size for _, size in samples)
                growths.append(Growth(name, _median(warm), _median(end), peak))
        return Memory(growths, self.redis_before_bytes, self.redis_peak_bytes, redis_after_bytes)


def resident_bytes(pid: int) -> int | None:
    """A process's resident set; None when it is gone, or where there is no /proc to ask."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return None
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def _median(sizes: Iterable[int]) -> int:
    return int(statistics.median(sizes))


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
