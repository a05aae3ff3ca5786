"""Dashboards as files: what Redash lacks, bringing it there, what was changed there, and taking it over."""

from __future__ import annotations

import time
import webbrowser
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from analytics.redash import apply as applying
from analytics.redash import drift as drifting
from analytics.redash import export as exporting
from analytics.redash import folder, found, plan, source
from analytics.redash.client import Redash, RedashError
from infamous import house, progress, redash_report
from infamous.house import AsJson, end, print_json
from pipeline import settings
from pipeline.settings import SettingsError

app = house.commands()

Files = Annotated[
    Path, typer.Option("--from", metavar="DIR", help="The folder of queries and dashboards.")
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Archive what is ours in Redash and in no file any more.")
]
_WAIT_S: Final = 1.0


def _redash(wait_s: float = 0.0) -> Redash:
    """The Redash of the settings, once it answers. Raises SettingsError, RedashError."""
    config = settings.load()
    if config.redash_url is None or config.redash_api_key is None:
        raise SettingsError(
            "REDASH_URL and REDASH_API_KEY must name a Redash and the key of its administrator: it stands"
            " on the user's page there."
        )
    redash = Redash(config.redash_url, config.redash_api_key, config.redash_public_url)
    until_s = time.monotonic() + wait_s
    while True:
        try:
            redash.version()
        except RedashError:
            if time.monotonic() >= until_s:
                raise
            time.sleep(_WAIT_S)
        else:
            return redash


@app.command("plan")
def show_plan(files: Files = folder.OURS, prune: Prune = False, as_json: AsJson = False) -> None:
    """Show what Redash lacks of what the files say; change nothing."""
    spec, redash = folder.read(files), _redash()
    at = source.find(redash, settings.load().source_url)
    planned = plan.plan(spec, found.read(redash, spec.dashboards), at.id)
    if as_json:
        print_json(redash_report.plan_json(planned, at, prune=prune))
        return
    for line in redash_report.plan_lines(planned, at, prune=prune):
        print(redash_report.plain(line))
    print(redash_report.summary(planned, at, prune=prune))


@app.command("apply")
def bring(
    files: Files = folder.OURS,
    prune: Prune = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a Redash that does not answer yet.")
    ] = 0.0,
    limit: Annotated[float, typer.Option(min=1, help="Seconds that a query may run.")] = 120.0,
) -> None:
    """Bring Redash to what the files say; what is so already is not written."""
    spec, redash = folder.read(files), _redash(wait)
    at = source.find(redash, settings.load().source_url)
    with progress.shown("Bringing to Redash") as tell:
        done = applying.apply(
            redash,
            spec,
            found.read(redash, spec.dashboards),
            at,
            prune=prune,
            limit_s=limit,
            tell=lambda _, number, total: tell(number, total),
        )
    print(f"{done.changes} changes." if done.changes else "Redash had all that the files say.")
    for name, address in done.addresses.items():
        print(redash_report.plain(f"{address}  {name}"))
    for key, why in done.failed.items():
        print(redash_report.plain(f"{files / key}.sql does not run in Redash: {why}"))
    if done.failed:
        end("Mend these queries, or what they ask, and run it again.")


@app.command("drift")
def show_drift(as_json: AsJson = False) -> None:
    """Say what was changed by hand in Redash; exit 1 if anything was."""
    redash = _redash()
    drifts = drifting.drift(found.read(redash))
    if as_json:
        print_json([asdict(drift) for drift in drifts])
    else:
        for line in redash_report.drift_lines(drifts, redash.url):
            print(redash_report.plain(line))
        if not drifts:
            print("Nothing was changed by hand.")
    if drifts:
        raise typer.Exit(1)


@app.command("export")
def write_files(
    to: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write to.")],
    dashboard: Annotated[
        list[int] | None,
        typer.Option(help="A dashboard's number, from its address; without, all that is ours."),
    ] = None,
) -> None:
    """Write dashboards and their queries back as files; those that say it already stay as they are."""
    spec = exporting.export(_redash(), dashboard or (), folder.names(to))
    if not spec.queries and not spec.dashboards:
        end("Redash has nothing of ours: --dashboard NUMBER takes anybody's.")
    told = folder.write(spec, to)
    for path in told:
        print(path)
    print(f"{len(told)} files written." if told else "The files say all of it already.")
    folder.read(to)  # what Redash allows and files do not is told, with its place


@app.command("open")
def show(
    browser: Annotated[bool, typer.Option(help="Open the first of them in the browser.")] = True,
) -> None:
    """Print the dashboards' addresses, and open the first in the browser."""
    redash = _redash()
    pages = sorted(found.read(redash).dashboards.values(), key=lambda page: page.raw["name"])
    if not pages:
        end("Redash has no dashboard of ours: run `infamous redash apply`.")
    for page in pages:
        print(redash_report.plain(f"{redash.url}/dashboards/{page.id}  {page.raw['name']}"))
    if browser:
        webbrowser.open(f"{redash.url}/dashboards/{pages[0].id}")
