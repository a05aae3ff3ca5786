"""Rounds: cases flow in, each is run once a round in turn, and what they measured flows out."""

from __future__ import annotations

from collections.abc import Callable

from bench.case import Group, Result, summarised


def run(section: str, group: Group, say: Callable[[str], None]) -> list[Result]:
    """Run the group's rounds. ``say`` gets a line about every case."""
    values: dict[str, list[float]] = {case.name: [] for case in group.cases}
    for number in range(1, group.rounds + 1):
        for case in group.cases:
            value = case.run()
            values[case.name].append(value)
            say(
                f"{section}, round {number} of {group.rounds}: {case.name}: {value:,.4g} {case.unit}"
            )
    return summarised(section, group.cases, values)
