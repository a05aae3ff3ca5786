"""What brings foreign data in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from infamous import house, import_report, progress
from infamous.house import AsJson, joined, print_json
from jobs import imports
from jobs.mapping import BadMapping, Plan
from pipeline.stop import on_signals

app = house.commands()


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help=".jsonl, .ndjson or .csv, with .gz behind it perhaps, or .parquet."
        ),
    ],
    *,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="KEY=COLUMN", help="Which column is this key; repeatable."),
    ] = None,
    constants: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="What a key is in all records; repeatable."
        ),
    ] = None,
    renames: Annotated[
        list[str] | None,
        typer.Option(
            "--rename", metavar="KEY:OLD=NEW", help="What a value is called here; repeatable."
        ),
    ] = None,
    is_utc: Annotated[
        bool, typer.Option("--utc", help="Times without an offset are UTC; else they are refused.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent and refused; send nothing.")
    ] = False,
    refused: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="List what is refused here: line, reason, record."),
    ] = None,
    is_again: Annotated[
        bool, typer.Option("--again", help="Also when this file was imported before.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send the events of a file; broken off, the same command goes on where it was.

    The keys are id, ts, player, action, xp_delta, karma_delta, karma_total, rank, energy_source, seq and
    details.NAME. A column called like a key is that key; any other goes into the details. Where they are not
    given, xp_delta, karma_delta and karma_total are 0, and rank follows karma_total.

    ts is RFC 3339, or Unix time: seconds below 100,000,000,000, milliseconds from there on.

    An id that is a UUIDv7 stays. Else it is made of the time and all that the record says, so that a file
    may be imported twice; and two records that say the same in all columns are one event.
    """
    plan = Plan(
        dict(_pair("--map", text) for text in columns or ()),
        {key: _value(value) for key, value in (_pair("--set", text) for text in constants or ())},
        _renames(renames or []),
        is_utc,
    )
    with (
        joined(must_exist=True) as house,
        on_signals() as stop,
        progress.shown("Importing") as tell,
    ):
        days = house.config.retention_days
        if dry_run:
            done = imports.rehearse(
                house.engine, file, plan, days, refused_to=refused, stop=stop, tell=tell
            )
        else:
            done = imports.import_file(
                house.engine, house.streams, file, plan, days,
                is_again=is_again, refused_to=refused, stop=stop, tell=tell,
            )  # fmt: skip
    if as_json:
        print_json(import_report.imported_json(file.name, done))
    else:
        print(import_report.imported(file.name, done, is_rehearsal=dry_run))


def _pair(option: str, text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise BadMapping(f"{option} {text} is not understood: give KEY=VALUE, as in --help.")
    return key.strip(), value


def _value(text: str) -> Any:
    """What is JSON as that, all else as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _renames(texts: list[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        key, sign, names = text.partition(":")
        old, equals, new = names.partition("=")
        if not sign or not equals:
            raise BadMapping(f"--rename {text} is not understood: give KEY:OLD=NEW.")
        found.setdefault(key, {})[old] = new
    return found
