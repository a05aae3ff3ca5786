"""What makes rollups anew, and compares them with the raw events."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Final

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
_NAMED: Final = 20
_MOST_DAYS: Final = 400
_DAY_MS: Final = 86_400_000

# From a moment on and before another.
Span = tuple[datetime, datetime]

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
    span = _span(from_ms, to_ms)
    with joined(must_exist=True) as house, on_signals() as stop:
        if check:
            _check(house, span, stop, is_dry_run=is_dry_run, as_json=as_json)
        else:
            _roll_up(house, span, stop, is_dry_run=is_dry_run, as_json=as_json)


def _roll_up(
    house: House,
    span: Span | None,
    stop: threading.Event,
    *,
    is_dry_run: bool,
    as_json: bool,
) -> None:
    if is_dry_run:
        wanted = rollups.planned(house.engine) if span is None else rollups.hours(*span)
        if as_json:
            print_json({"hours": wanted})
        else:
            print(f"{_counted(len(wanted))} would be made anew{_named(wanted)}.")
        return
    with shown("hours") as tell:
        if span is None:
            done = rollups.roll_up_touched(house.engine, stop=stop, tell=tell)
        else:
            done = rollups.rollup(house.engine, *span, stop=stop, tell=tell)
    if as_json:
        print_json(asdict(done))
    else:
        print(jobs.__main__.rolled_up(done))


def _check(
    house: House,
    span: Span | None,
    stop: threading.Event,
    *,
    is_dry_run: bool,
    as_json: bool,
) -> None:
    with shown("days compared") as tell:
        checked = checks.check(house.engine, *(span or (None, None)), stop=stop, tell=tell)
    is_done = False
    if not is_dry_run:
        with shown("hours made anew") as tell:
            is_done = checks.mend(house.engine, checked, stop=stop, tell=tell)
    is_mended = is_done and bool(checked.wrong)
    if as_json:
        print_json(asdict(checked) | {"is_mended": is_mended})
    else:
        print("\n".join(_checked(checked, is_mended=is_mended, is_dry_run=is_dry_run)))
    if checked.wrong and is_dry_run:
        raise SystemExit(1)


def _span(from_ms: int | None, to_ms: int | None) -> Span | None:
    """The span that was asked for; None where none was."""
    if from_ms is None:
        if to_ms is not None:
            end("--to needs --from: say where to begin.", code=2)
        return None
    to_ms = time.time_ns() // 1_000_000 if to_ms is None else to_ms
    if from_ms > to_ms:
        end("--from is later than --to: give the earlier time first.", code=2)
    if to_ms - from_ms > _MOST_DAYS * _DAY_MS:
        end(f"--from is over {_MOST_DAYS} days before --to: give a shorter span.", code=2)
    return (
        datetime.fromtimestamp(from_ms / 1000, UTC),
        datetime.fromtimestamp(to_ms / 1000, UTC),
    )


def _checked(checked: Checked, *, is_mended: bool, is_dry_run: bool) -> list[str]:
    """What a check found, in sentences, one a line."""
    lines = [f"Compared {_counted(checked.hours)} with the raw events{_ends(checked)}."]
    if checked.left_out:
        lines.append(f"Left {_counted(checked.left_out)} out that changed just now.")
    if not checked.wrong:
        lines.append("No rollup is wrong.")
    else:
        one = len(checked.wrong) == 1
        was = ("was" if one else "were") if is_mended else ("is" if one else "are")
        lines.append(
            f"{_counted(len(checked.wrong))} {was} wrong, in {', '.join(checked.tables)}"
            f"{_named(checked.wrong)}."
        )
        if is_mended:
            lines.append("Made anew.")
        elif is_dry_run:
            lines.append("The same without --dry-run makes that anew.")
        else:
            lines.append("It was stopped: the next rollup makes that anew.")
    if not checked.is_complete:
        lines.append("It was stopped before the end: run it again.")
    return lines


def _ends(checked: Checked) -> str:
    if checked.first_hour is None or checked.last_hour is None:
        return ""
    return f", {_name(checked.first_hour)} to {_name(checked.last_hour)} (UTC)"


def _counted(hours: int) -> str:
    return f"{hours:,} hour" if hours == 1 else f"{hours:,} hours"


def _named(hours: Sequence[datetime]) -> str:
    """The first of them, in UTC, after a colon; nothing where there are none."""
    if not hours:
        return ""
    names = ", ".join(_name(hour) for hour in hours[:_NAMED])
    more = f" and {len(hours) - _NAMED:,} more" if len(hours) > _NAMED else ""
    return f": {names}{more} (UTC)"


def _name(hour: datetime) -> str:
    return f"{hour:%Y-%m-%d %H:00}"
