"""What makes rollups anew, and compares them with the raw events."""

from __future__ import annotations

import threading
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

import jobs.__main__
from infamous import house
from infamous.commands.moments import moment_ms
from infamous.house import AsJson, House, end, joined, print_json
from infamous.progress import shown
from jobs import check as checks
from jobs import rollup as rollups
from jobs.check import Checked
from pipeline.stop import on_signals

# So many hours are named to people; scripts get them all.
_NAMED = 20
_MOST_HOURS = 24 * 400

app = house.commands()


@app.command()
def rollup(
    *,
    from_ms: Annotated[
        int | None,
        typer.Option(
            "--from",
            parser=moment_ms,
            metavar="TIME",
            help="Begin with the hour of this moment: 2026-11-24T18:00:00Z, or 2h for two hours ago.",
        ),
    ] = None,
    to_ms: Annotated[
        int | None,
        typer.Option("--to", parser=moment_ms, metavar="TIME", help="End before it; else now."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare with the raw events; make anew what is wrong."),
    ] = False,
    is_dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing, say which hours it would make anew.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make rollups anew: of the hours that have changed, or of a span of time.

    With --check, compare all hours, or those of the span, with the raw events, and make anew those that are
    wrong. With --dry-run as well, exit 1 when some are.
    """
    if to_ms is not None and from_ms is None and not check:
        end("--to needs --from: say where to begin.", code=2)
    from_at, to_at = _moment(from_ms), _moment(to_ms)
    if from_at is not None:
        to_at = to_at or datetime.now(UTC)
        if from_at > to_at:
            end("--from is later than --to: give the earlier time first.", code=2)
        if to_at - from_at > timedelta(hours=_MOST_HOURS):
            end(f"--from to --to is over {_MOST_HOURS // 24} days: give a shorter span.", code=2)
    with joined(must_exist=True) as house, on_signals() as stop:
        if check:
            _check(house, from_at, to_at, stop, is_dry_run=is_dry_run, as_json=as_json)
        else:
            _roll_up(house, from_at, to_at, stop, is_dry_run=is_dry_run, as_json=as_json)


def _roll_up(
    house: House,
    from_at: datetime | None,
    to_at: datetime | None,
    stop: threading.Event,
    *,
    is_dry_run: bool,
    as_json: bool,
) -> None:
    if is_dry_run:
        if from_at is None or to_at is None:
            wanted = rollups.planned(house.engine)
        else:
            wanted = rollups.hours(from_at, to_at)
        if as_json:
            print_json({"hours": wanted})
        else:
            print(f"{_counted(len(wanted))} would be made anew{_named(wanted)}.")
        return
    with shown("hours") as tell:
        if from_at is None or to_at is None:
            done = rollups.roll_up_touched(house.engine, stop=stop, tell=tell)
        else:
            done = rollups.rollup(house.engine, from_at, to_at, stop=stop, tell=tell)
    if as_json:
        print_json(asdict(done))
    else:
        print(jobs.__main__.rolled_up(done))


def _check(
    house: House,
    from_at: datetime | None,
    to_at: datetime | None,
    stop: threading.Event,
    *,
    is_dry_run: bool,
    as_json: bool,
) -> None:
    with shown("days compared") as tell:
        checked = checks.check(house.engine, from_at, to_at, stop=stop, tell=tell)
    is_mended = bool(checked.wrong) and not is_dry_run
    if not is_dry_run:
        with shown("hours made anew") as tell:
            checks.mend(house.engine, checked, tell=tell)
    if as_json:
        print_json(asdict(checked) | {"is_mended": is_mended})
    else:
        print(_checked(checked, is_mended=is_mended))
    if checked.wrong and is_dry_run:
        raise SystemExit(1)


def _checked(checked: Checked, *, is_mended: bool) -> str:
    """What a check found, in two sentences or three."""
    lines = [f"Compared {_counted(checked.hours)} with the raw events; {checked.left_out:,} were"]
    return "".join(lines)


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def _counted(hours: int) -> str:
    return f"{hours:,} hour" if hours == 1 else f"{hours:,} hours"


def _named(hours: list[datetime] | tuple[datetime, ...]) -> str:
    """The first of them, in UTC, after a colon; nothing where there are none."""
    if not hours:
        return ""
    names = ", ".join(f"{hour:%Y-%m-%d %H:00}" for hour in hours[:_NAMED])
    more = f" and {len(hours) - _NAMED:,} more" if len(hours) > _NAMED else ""
    return f": {names}{more} (UTC)"
