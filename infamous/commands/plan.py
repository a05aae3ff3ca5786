"""What is asked before anything runs: how large it must be."""

from __future__ import annotations

from typing import Annotated

import typer

from infamous import house, plan_report
from infamous import plan as plans
from infamous.house import AsJson, print_json

app = house.commands()


@app.command()
def plan(
    *,
    events_per_s: Annotated[
        float, typer.Option("--events-per-second", metavar="RATE", help="On a day like any other.")
    ],
    days: Annotated[
        int, typer.Option(metavar="DAYS", help="How long events stay in Postgres: RETENTION_DAYS.")
    ],
    redis_hours: Annotated[
        float,
        typer.Option(metavar="HOURS", help="How long Postgres may be away before Redis is full."),
    ] = 4.0,
    players: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Who plays on a day; without, players who do as much as simulated ones.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how large Redis, Postgres and the rest must be, with every sum, and what gives way first."""
    made = plans.plan(plans.Wish(events_per_s, days, redis_hours, players))
    if as_json:
        print_json(plan_report.as_json(made))
    else:
        print(plan_report.text(made))
