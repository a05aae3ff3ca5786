"""A report: all notebooks of the last days, on one page."""

from __future__ import annotations

import threading
import time
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from analytics import words
from analytics.period import Period, days_of
from analytics.report import needs
from infamous import house, progress, rolled_up
from infamous.house import AsJson, Tables, end, print_json, tables
from pipeline.patience import Stopped
from pipeline.stop import on_signals

app = house.commands()


@app.command("report")
def make(
    *,
    since: Annotated[
        str, typer.Option(metavar="DAYS", help="So many whole UTC days up to yesterday: 7d, 4w.")
    ] = "7d",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The folder for it; else REPORT_DIR, or reports/ at home."
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the notebooks on the last days and make one page of them.

    On a database of today alone, of today. The newest is latest.html as well, and REPORTS_KEPT of them stay.
    """
    days = days_of(since)
    require_packages()
    with tables() as found, on_signals() as stop:
        with found.reader() as reader:
            rolled_up.roll_up(found.engine, reader, stop)
        try:
            made, seconds = _made(found, days, out, stop)
        except Stopped:
            end("It was stopped: no report was made.")
    if as_json:
        print_json(_json(made, seconds))
    else:
        for line in _lines(made, seconds):
            print(line)
    if browser:
        webbrowser.open(made.path.as_uri())
    if made.failed:  # the page is there, and says so too
        raise typer.Exit(1)


def require_packages() -> None:
    """End in a sentence where what runs notebooks is not installed."""
    missing = needs.missing()
    if missing:
        end(
            f"What makes reports is not installed here ({', '.join(missing)}): run `make report`, or"
            " install the extra `notebooks`."
        )


def _made(found: Tables, days: int, out: Path | None, stop: threading.Event) -> tuple[Any, float]:
    # Here: it takes packages that no other command needs, and a second.
    from analytics.report.make import make  # noqa: PLC0415

    began_s = time.monotonic()
    with progress.shown("Running notebooks") as tell:
        made = make(
            found.reading_url,
            days,
            found.config.reports if out is None else out.expanduser().resolve(),
            found.config.reports_kept,
            stop=stop,
            tell=tell,
        )
    return made, time.monotonic() - began_s


def _lines(made: Any, seconds: float) -> list[str]:
    """What was made, in sentences, the path first."""
    period: Period = made.period
    took = f"{words.counted(len(made.notebooks), 'notebook')} in {words.lasting(seconds)}"
    if made.peak_bytes:
        took += f", at most {made.peak_bytes / 1_000_000:,.0f} MB each"
    return [
        str(made.path),
        f"{words.counted(period.days, 'day')}, {period} (UTC): {took}.",
        *(f"{ran.section.name}.ipynb: {ran.section.failure}" for ran in made.failed),
    ]


def _json(made: Any, seconds: float) -> dict[str, Any]:
    return {
        "path": made.path,
        "first_day": made.period.first,
        "last_day": made.period.last,
        "seconds": round(seconds, 3),
        "notebooks": [
            {
                "name": ran.section.name,
                "seconds": round(ran.seconds, 3),
                "peak_bytes": ran.peak_bytes,
                "failure": ran.section.failure,
            }
            for ran in made.notebooks
        ],
    }
