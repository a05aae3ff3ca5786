"""The report: results flow in, a table for people and JSON for scripts flow out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from bench.case import Result, Verdict

_STYLES: Final = {Verdict.REACHED: "green", Verdict.NOT_REACHED: "bold red", Verdict.NONE: ""}


def number(value: float) -> str:
    """As many digits as say something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def row(result: Result) -> tuple[str, ...]:
    """Name, median, unit, range, ratio, goal and verdict, as people read them."""
    spread = (
        "" if len(result.values) == 1 else f"{number(result.lowest)} to {number(result.highest)}"
    )
    sign = ">=" if result.higher_is_better else "<="
    return (
        result.name,
        number(result.median),
        result.unit,
        spread,
        "" if result.ratio is None else f"{result.ratio:.3g} of {result.limit}",
        "" if result.goal is None else f"{sign} {result.goal:g}",
        result.verdict.value,
    )


def table(section: str, results: Sequence[Result]) -> Table:
    """One section."""
    made = Table(title=section, title_justify="left", box=None, pad_edge=False)
    made.add_column("case")
    made.add_column("median", justify="right")
    made.add_column("")
    made.add_column("range", justify="right")
    made.add_column("ratio")
    made.add_column("goal", justify="right")
    made.add_column("")
    for result in results:
        *cells, verdict = row(result)
        made.add_row(*cells, Text(verdict, style=_STYLES[result.verdict]))
    return made


def as_json(
    machine: Mapping[str, Any], begun_at: str, is_quick: bool, results: Sequence[Result]
) -> dict[str, Any]:
    """Everything that was measured, each round's own value with it."""
    return {
        "begun_at": begun_at,
        "quick": is_quick,
        "machine": dict(machine),
        "cases": [
            {
                "section": result.section,
                "name": result.name,
                "unit": result.unit,
                "rounds": len(result.values),
                "median": result.median,
                "lowest": result.lowest,
                "highest": result.highest,
                "limit": result.limit,
                "ratio": result.ratio,
                "goal": result.goal,
                "higher_is_better": result.higher_is_better,
                "verdict": result.verdict.value,
                "values": list(result.values),
            }
            for result in results
        ],
    }


def write(path: Path, told: Mapping[str, Any]) -> None:
    """Write the JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)
