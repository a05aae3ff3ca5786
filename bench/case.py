"""A case: what each round measured flows in, its median, its ratio to a limit and a verdict flow out. Pure.

A ratio is the median of the rounds' own ratios: what slows a whole round down, another program on the
machine, slows the limit down as well and falls out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median


class Verdict(StrEnum):
    """Whether a goal was reached."""

    REACHED = "reached"
    NOT_REACHED = "not reached"
    NONE = ""


@dataclass(frozen=True)
class Case:
    """One thing to measure. ``run`` prepares, measures and returns the value in ``unit``.

    With a ``limit``, the name of another case of the same group, the goal is one for the ratio to it;
    without one, for the value itself.
    """

    name: str
    run: Callable[[], float]
    unit: str
    limit: str | None = None
    goal: float | None = None
    higher_is_better: bool = True


@dataclass(frozen=True)
class Group:
    """Cases that take turns, round by round. A limit stands before whatever is compared with it."""

    cases: tuple[Case, ...]
    # Fewer than the run's own where a round takes long.
    rounds: int


@dataclass(frozen=True)
class Result:
    """What all rounds of a case came to."""

    section: str
    name: str
    unit: str
    values: tuple[float, ...]
    limit: str | None
    ratio: float | None
    goal: float | None
    higher_is_better: bool

    @property
    def median(self) -> float:
        """The middle value; of two in the middle, their mean."""
        return median(self.values)

    @property
    def lowest(self) -> float:
        """The least of all rounds."""
        return min(self.values)

    @property
    def highest(self) -> float:
        """The greatest of all rounds."""
        return max(self.values)

    @property
    def verdict(self) -> Verdict:
        """Whether the goal was reached; none where there is no goal."""
        if self.goal is None:
            return Verdict.NONE
        reached = self.median if self.ratio is None else self.ratio
        is_reached = reached >= self.goal if self.higher_is_better else reached <= self.goal
        return Verdict.REACHED if is_reached else Verdict.NOT_REACHED


def summarised(
    section: str, cases: Sequence[Case], values: Mapping[str, Sequence[float]]
) -> list[Result]:
    """A result for each case; ``values`` holds by name what its rounds measured, in their order."""
    return [
        Result(
            section,
            case.name,
            case.unit,
            tuple(values[case.name]),
            case.limit,
            None if case.limit is None else ratio(values[case.name], values[case.limit]),
            case.goal,
            case.higher_is_better,
        )
        for case in cases
    ]


def ratio(values: Sequence[float], limits: Sequence[float]) -> float:
    """The median of the ratios, round by round."""
    return median(value / limit for value, limit in zip(values, limits, strict=True))
