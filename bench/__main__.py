"""``python -m bench``: names of sections flow in; a table, a JSON file, a picture and an exit code flow out.

Exit codes: 0 measured, whatever the verdicts; 1 something went wrong on the way; 2 bad arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from bench import (
    beside,
    cost,
    growth,
    ingest,
    latency,
    machine,
    picture,
    producing,
    profile,
    reads,
    report,
    scaling,
)
from bench import rounds as turns
from bench.case import Group, Result
from bench.home import home, stoppable, told
from bench.house import House, built
from bench.scale import FULL, QUICK, Scale, tiny

Groups = Callable[[House, Scale], Iterator[Group]]
SECTIONS: Final[Mapping[str, Groups]] = {
    ingest.SECTION: ingest.groups,
    latency.SECTION: latency.groups,
    cost.SECTION: cost.groups,
    producing.SECTION: producing.groups,
    growth.SECTION: growth.groups,
    reads.SECTION: reads.groups,
    profile.SECTION: profile.groups,
    scaling.SECTION: scaling.groups,
    beside.SECTION: beside.groups,
}
_WIDTH: Final = 160
RESULTS: Final = Path(__file__).resolve().parent / "results"

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _sections(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(name.strip().lower() for name in text.split(","))
    for name in names:
        if name not in SECTIONS:
            raise typer.BadParameter(f"{name} is none of them: name some of {', '.join(SECTIONS)}.")
    return names


def _left_out() -> set[str]:
    """What is measured only where it is asked for."""
    # Two of them look into /proc.
    unseen = set() if sys.platform == "linux" else {cost.SECTION, profile.SECTION}
    return {beside.SECTION, scaling.SECTION, *unseen}


@app.command()
def bench(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Less of everything: two minutes.")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="SECTION,...", help=f"Only these sections, of: {', '.join(SECTIONS)}."
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=100, help="Rounds instead of 5, or 3 with --quick.")
    ] = None,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Measure other people's ways as well, from bench/.venv."),
    ] = False,
    results: Annotated[
        Path, typer.Option(metavar="DIR", help="Where latest.json and latest.png go.")
    ] = RESULTS,
    events: Annotated[int | None, typer.Option(min=100, hidden=True)] = None,
) -> None:
    """Measure how fast the pipeline is on this machine, on servers of its own."""
    scale = QUICK if quick else FULL
    if rounds is not None:
        scale = replace(scale, rounds=rounds, slow_rounds=min(rounds, scale.slow_rounds))
    if events is not None:
        scale = tiny(scale, events)
    names = _sections(only) or tuple(name for name in SECTIONS if name not in _left_out())
    if peers and beside.SECTION not in names:
        names = (*names, beside.SECTION)
    if beside.SECTION in names:
        beside.require_installed()
    begun_at = datetime.now(UTC).isoformat(timespec="seconds")
    err = Console(stderr=True, highlight=False, markup=False)
    # In a file or a pipe there is no edge at which a table would have to fold.
    width = None if sys.stdout.isatty() else _WIDTH
    out = Console(highlight=False, markup=False, width=width)
    found: list[Result] = []
    with stoppable(), home(scale.disk_bytes) as folder, built(folder) as house:
        facts = machine.facts(house)
        for name in names:
            measured = list(_measured(name, house, scale, err.print))
            out.print(report.table(name, measured), "")
            found += measured
    told = report.as_json(facts, begun_at, quick, found)
    report.write(results / "latest.json", told)
    drawn = picture.draw(found, facts, results)
    for path in (results / "latest.json", *drawn):
        out.print(f"Written: {path}", soft_wrap=True)


def _measured(
    name: str, house: House, scale: Scale, say: Callable[[str], None]
) -> Iterator[Result]:
    for group in SECTIONS[name](house, scale):
        yield from turns.run(name, group, say)


def main() -> None:
    """Run the command; whatever is wrong is told in a sentence."""
    with told("Interrupted: nothing was written."):
        app(prog_name="python -m bench")


if __name__ == "__main__":
    main()
