"""What runs: the whole pipeline, and each of its parts."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Annotated, Any

import typer

import consumer.__main__
import jobs.__main__
import producer.__main__
from infamous import house, logins, report, schema
from infamous import up as ups
from infamous.commands.moments import seconds
from infamous.commands.report import require_packages
from infamous.house import AsJson, export, joined, print_json, stoppable
from pipeline import log, settings
from producer import history
from producer.__main__ import (
    DEFAULT_PLAYERS,
    DEFAULT_SEED,
    History,
    MetricsPort,
    Players,
    Rate,
    Seed,
)

app = house.commands()


@app.command()
def up(
    *,
    rate: Rate = 1.0,
    players: Players = DEFAULT_PLAYERS,
    consumers: Annotated[int, typer.Option(min=1, max=64, help="Consumer processes.")] = 2,
    days: History = 30,
    seed: Seed = DEFAULT_SEED,
    for_s: Annotated[
        float | None,
        typer.Option(
            "--for",
            parser=seconds,
            metavar="TIME",
            help="End after so long of live play: 20s, 5m, 1h. Else at Ctrl-C.",
        ),
    ] = None,
) -> None:
    """Run the whole pipeline on this machine and show it."""
    history.check_days(days, settings.load().retention_days)
    console = ups.console()
    plan = ups.Plan(rate, players, consumers, days, seed, for_s)
    with stoppable(), joined(say=console.print) as house, house.owner() as owner:
        ups.up(house.config, plan, house.servers, house.engine, owner, console)


@app.command()
def migrate(
    *,
    login: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Let the role of the database URL in this file log in with its password; repeatable.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the database's schema to this version and make the partitions ahead."""
    urls = [
        settings.load({"DATABASE_URL_FILE": str(path)}).database_url or "" for path in login or ()
    ]
    with joined() as house, house.owner() as engine:
        log.adopt("alembic")  # it may have something to say: that it gives way, or may not grant
        done = schema.migrate(engine)
        logins.allow(engine, urls)
    if as_json:
        print_json({"before": done.before, "after": done.after, "partitions": done.partitions_made})
    else:
        print(report.migrated(done))


@app.command()
@functools.wraps(producer.__main__.produce)
def produce(**options: Any) -> None:  # noqa: D103  # the text is the wrapped one's
    history.check_days(options["days"], settings.load().retention_days)
    if options["show_truth"]:  # needs no server
        producer.__main__.produce(**options)
        return
    with stoppable(), joined() as house:
        export(house.servers)
        producer.__main__.produce(**options)


@app.command()
def consume(*, metrics_port: MetricsPort = None) -> None:
    """Store events from the stream until stopped. Start as many as you like."""
    if metrics_port is not None:
        os.environ["METRICS_PORT"] = str(metrics_port)
    with stoppable(), joined() as house:
        if house.config.database_url is None:  # a database of ours may be brand-new
            schema.migrate(house.engine)
        export(house.servers)
        raise SystemExit(consumer.__main__.main())


@app.command()
def worker(*, reports: jobs.__main__.Reports = False) -> None:
    """Run the jobs that wait on RQ's queue until stopped. Start as many as you like."""
    if reports:
        require_packages()
    with stoppable(), joined() as house:
        export(house.servers, house.config.archive)
        jobs.__main__.work(reports=reports)


@app.command()
def schedule() -> None:
    """Put jobs on RQ's queue when they are due: partitions, rollups, trim."""
    with stoppable(), joined() as house:
        export(house.servers)
        jobs.__main__.schedule()
