"""What ill-treats and what measures a pipeline of its own."""

from __future__ import annotations

import os
import random
import sys
from typing import Annotated

import typer
from rich.console import Console

from infamous import house
from infamous import up as ups
from infamous.house import AsJson, print_json
from infamous.prove import run as proofs
from infamous.prove import soak as soaks
from infamous.prove.faults import Kind

app = house.commands()


def _faults(text: str | None) -> tuple[Kind, ...] | None:
    if text is None:
        return None
    try:
        return tuple(Kind(name.strip()) for name in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text} is not understood: name some of {', '.join(Kind)}."
        ) from None


@app.command()
def prove(
    *,
    seconds: Annotated[
        float, typer.Option(min=5, max=86_400, help="How long; from 45 on, every class of fault.")
    ] = 60,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same faults.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Consumer processes.")] = 4,
    rate: Annotated[
        float | None,
        typer.Option(
            min=10,
            max=100_000,
            help=f"Events a second: {proofs.DEFAULT_RATE:g}, in a soak {soaks.RATE:g}.",
        ),
    ] = None,
    soak: Annotated[
        bool,
        typer.Option(
            "--soak", help="A steady rate, Postgres away for a fifth of it, and memory watched."
        ),
    ] = False,
    control: Annotated[
        proofs.Control | None, typer.Option(help="Break a promise, to see that it is noticed.")
    ] = None,
    faults: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Only these classes of fault.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the data, journals and logs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ill-treat a pipeline of its own on purpose, and account for every event."""
    seed = random.randrange(2**31) if seed is None else seed  # noqa: S311  # nothing secret
    console = Console(stderr=True, highlight=False, markup=False) if as_json else ups.console()
    if rate is None:
        rate = soaks.RATE if soak else proofs.DEFAULT_RATE
    options = proofs.Options(seconds, seed, workers, rate, control, _faults(faults), keep, soak)
    outcome = proofs.prove(options, console)
    if as_json:
        print_json(outcome.as_json())
    else:
        console.print("\n".join(outcome.lines()))
    raise SystemExit(0 if outcome.is_proven else 1)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def bench(context: typer.Context) -> None:
    """Measure how fast the pipeline is here, beside its servers' own limits: `bench --help` tells more."""
    # The bench stands above this command line and imports from it, so it is a program of its own.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "bench", *context.args])  # noqa: S606
