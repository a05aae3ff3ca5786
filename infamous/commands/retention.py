"""What ages out: the partitions of old days."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from infamous import house, progress, report
from infamous.house import AsJson, joined, print_json
from jobs import retention as retentions
from pipeline.stop import on_signals

app = house.commands()


@app.command()
def retention(
    *,
    is_dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be dropped, and drop nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Drop the partitions of days older than RETENTION_DAYS, as the schedule does every hour."""
    with (
        joined(must_exist=True) as house,
        house.owner() as engine,
        on_signals() as stop,
        progress.shown("partitions") as tell,
    ):
        done = retentions.drop_old(
            engine,
            datetime.now(UTC).date(),
            house.config.retention_days,
            is_dry_run=is_dry_run,
            tell=tell,
            stop=stop,
        )
    if as_json:
        print_json(asdict(done))
    else:
        print(report.dropped(done, is_dry_run=is_dry_run))
