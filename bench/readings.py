"""Readings: one measurement that tells several things flows in, a case for each of them flows out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.case import Case


@dataclass(frozen=True)
class Reading:
    """One of the things: the name it has in the measurement is the case's own."""

    name: str
    unit: str
    goal: float | None = None
    limit: str | None = None
    higher_is_better: bool = False


@dataclass
class _Last:
    measure: Callable[[], Mapping[str, float]]
    values: Mapping[str, float] = field(default_factory=dict)

    def fresh(self, name: str) -> float:
        self.values = self.measure()
        return self.values[name]

    def same(self, name: str) -> float:
        return self.values[name]


def cases(
    measure: Callable[[], Mapping[str, float]], readings: Sequence[Reading]
) -> tuple[Case, ...]:
    """The first case of a round measures; the others read off what it measured."""
    last = _Last(measure)
    return tuple(_case(last, reading, is_first=not place) for place, reading in enumerate(readings))


def _case(last: _Last, reading: Reading, *, is_first: bool) -> Case:
    read = last.fresh if is_first else last.same
    return Case(
        reading.name,
        lambda: read(reading.name),
        reading.unit,
        reading.limit,
        reading.goal,
        reading.higher_is_better,
    )
