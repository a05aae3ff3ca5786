"""What rebuilds days of the table beside it, compares the two and swaps them."""

from __future__ import annotations

import threading
from dataclasses import asdict
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated

import typer
from sqlalchemy import Engine

from infamous import difference, house, progress, shadow, shadow_report, swap
from infamous import up as ups
from infamous.commands.archive import catch_up, storage_of
from infamous.commands.moments import clipped, utc_day
from infamous.house import AsJson, House, joined, print_json
from infamous.shadow import Built
from pipeline.stop import on_signals

app = house.commands()
shadows = typer.Typer(
    no_args_is_help=True, help="Rebuild days beside the table, compare, and swap them."
)
app.add_typer(shadows, name="shadow")


class Source(StrEnum):
    """Where events are read from."""

    STREAM = "stream"
    ARCHIVE = "archive"


@shadows.command()
def build(
    *,
    first_day: Annotated[
        date,
        typer.Option(
            "--from", parser=utc_day, metavar="DAY", help="The first UTC day, 2026-11-24."
        ),
    ],
    last_day: Annotated[
        date, typer.Option("--to", parser=utc_day, metavar="DAY", help="The last one.")
    ],
    source: Annotated[Source, typer.Option(help="What it is built from.")] = Source.STREAM,
    is_fresh: Annotated[
        bool, typer.Option("--fresh", help="Drop the shadow that is there, and begin anew.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Store whole days anew in a table beside the live one; again, it goes on where it was."""
    with joined(must_exist=True) as house, house.owner() as engine, on_signals() as stop:
        done = _build(house, engine, source, first_day, last_day, stop, is_fresh=is_fresh)
    if as_json:
        print_json(asdict(done))
    else:
        print(shadow_report.built(done))


def of_span(source: Source, from_ms: int, to_ms: int, *, as_json: bool) -> None:
    """Build the shadow of the UTC days that a span of Unix milliseconds touches, and compare it."""
    today = datetime.now(UTC).date()
    first_day, last_day = clipped(from_ms).date(), min(clipped(to_ms).date(), today)
    with joined(must_exist=True) as house, house.owner() as engine, on_signals() as stop:
        done = _build(house, engine, source, first_day, last_day, stop, is_fresh=False)
        with progress.shown("days") as tell:
            found = difference.compare(engine, tell)
    if as_json:
        print_json({"built": asdict(done), "difference": asdict(found)})
    else:
        print(shadow_report.built(done))
        ups.console().print(shadow_report.difference(found))


def _build(
    house: House,
    engine: Engine,
    source: Source,
    first_day: date,
    last_day: date,
    stop: threading.Event,
    *,
    is_fresh: bool,
) -> Built:
    if source is Source.ARCHIVE:
        catch_up(house, stop)
        pages = shadow.archived_pages(storage_of(house.config), first_day, last_day)
    else:
        pages = shadow.pages(house.streams, first_day)
    with progress.shown("entries") as tell:
        return shadow.build(
            engine,
            pages,
            first_day,
            last_day,
            retention_days=house.config.retention_days,
            is_fresh=is_fresh,
            tell=tell,
            stop=stop,
        )


@shadows.command()
def diff(*, as_json: AsJson = False) -> None:
    """Compare the shadow with the live table, in rows and in the figures of the dashboards."""
    with (
        joined(must_exist=True) as house,
        house.owner() as engine,
        progress.shown("days") as tell,
    ):
        found = difference.compare(engine, tell)
    if as_json:
        print_json(asdict(found) | {"is_same": found.is_same})
    else:
        ups.console().print(shadow_report.difference(found))


@shadows.command(name="swap")
def swap_days(
    *,
    is_dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be swapped, and change nothing.")
    ] = False,
    may_set_aside: Annotated[
        bool,
        typer.Option(
            "--set-aside", help="Also days of which the shadow lacks rows that are stored."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put the shadow's days in place of the live ones, which are set aside; events flow meanwhile."""
    with (
        joined(must_exist=True) as house,
        house.owner() as engine,
        on_signals() as stop,
        progress.shown("days") as tell,
    ):
        done = swap.swap(
            engine, may_set_aside=may_set_aside, is_dry_run=is_dry_run, tell=tell, stop=stop
        )
    if as_json:
        print_json(asdict(done))
    else:
        print(shadow_report.swapped(done, is_dry_run=is_dry_run))


@shadows.command()
def drop(
    *,
    before: Annotated[
        bool, typer.Option("--before", help="Not the shadow, but the days that were set aside.")
    ] = False,
    is_dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say whether there is one; drop nothing.")
    ] = False,
) -> None:
    """Remove the shadow, or what a swap set aside."""
    name = swap.BEFORE if before else shadow.SCHEMA
    with joined(must_exist=True) as house, house.owner() as engine:
        was_there = shadow.drop(engine, name, is_dry_run=is_dry_run)
    did = "Would drop" if is_dry_run else "Dropped"
    print(f"{did} the schema {name}." if was_there else f"There is no schema {name}.")
