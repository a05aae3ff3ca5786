"""What ill-treats and what measures a pipeline of its own."""

from __future__ import annotations

import os
import random
import sys
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from infamous import house
from infamous import up as ups
from infamous.house import AsJson, print_json
from infamous.prove import run as proofs
from infamous.prove import soak as soaks
from infamous.prove.faults import CLUSTER, ONE_REDIS, Kind

app = house.commands()


def _faults(text: str | None, known: tuple[Kind, ...]) -> tuple[Kind, ...] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not {*names} <= {*known}:
        raise typer.BadParameter(f"{text} is not understood: name some of {', '.join(known)}.")
    return tuple(map(Kind, names))


def _layout(
    cluster: bool, partitions: int | None, replicas: int | None, soak: bool
) -> proofs.Layout | None:
    if not cluster:
        if partitions is not None or replicas is not None:
            raise typer.BadParameter("--partitions and --replicas are for a run with --cluster.")
        return None
    if soak:
        raise typer.BadParameter("--soak is for one Redis: leave out --cluster.")
    return proofs.Layout(partitions or proofs.PARTITIONS, replicas or 0)


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
            help=f"Events a second: {proofs.DEFAULT_RATE:g}, in a soak {soaks.RATE:g}, with --cluster"
            f" {proofs.CLUSTER_RATE:g}.",
        ),
    ] = None,
    soak: Annotated[
        bool,
        typer.Option(
            "--soak", help="A steady rate, Postgres away for a fifth of it, and memory watched."
        ),
    ] = False,
    cluster: Annotated[
        bool,
        typer.Option(
            "--cluster", help="On a Redis Cluster whose masters are killed while all runs."
        ),
    ] = False,
    partitions: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help=f"With --cluster: so many streams, {proofs.PARTITIONS} otherwise."
        ),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1,
            help="With --cluster: so many replicas must have an event before it counts as sent.",
        ),
    ] = None,
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
    chosen = _faults(faults, CLUSTER if cluster else ONE_REDIS)
    layout = _layout(cluster, partitions, replicas, soak)
    options = proofs.Options(seconds, seed, workers, 0.0, control, chosen, keep, soak, layout)
    options = replace(options, rate=options.usual_rate if rate is None else rate)
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
