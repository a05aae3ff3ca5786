"""What looks into the quarantine, and what lets out of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from sqlalchemy import Engine

from infamous import house, progress, quarantine_report
from infamous import up as ups
from infamous.house import AsJson, House, end, joined, print_json
from jobs import fix as fixes
from jobs import quarantine as quarantines
from jobs import release as releases
from jobs import remedy as remedies
from jobs.__main__ import released
from jobs.quarantine import Choice, Held
from jobs.remedy import Remedy
from jobs.verdict import verdict
from pipeline.event import Reason, Window
from pipeline.stop import on_signals

app = house.commands()

Keys = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY...", help="Only these: the first digits of a key, six or more."),
]
OfReason = Annotated[Reason | None, typer.Option(help="Only what was refused for this.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many entries.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what it would do; change nothing.")]


@app.command("list")
def list_(
    *,
    reason: OfReason = None,
    samples: Annotated[int, typer.Option(min=0, max=100, help="So many of each reason.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Show what is in the quarantine, by reason, with samples.

    Tried are those that were released, or on which a fix was tried, and that wait still, or again; tries, how
    often at most.
    """
    with joined(must_exist=True) as house, house.engine.connect() as connection:
        reasons = quarantines.by_reason(connection, reason)
        some = quarantines.samples(connection, samples, reason)
    if as_json:
        print_json(quarantine_report.listed_json(reasons, some))
    else:
        ups.console().print(quarantine_report.listed(reasons, some))


@app.command()
def show(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="The first digits of its key, six or more.")
    ],
    *,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Only the bytes, as they are: for a file or another program."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one entry, its bytes, where they break, and what today's rules say of it."""
    with joined(must_exist=True) as house, house.engine.connect() as connection:
        row = quarantines.get(connection, quarantines.find(connection, key))
        window = _window(house)
    if raw:
        sys.stdout.buffer.write(row["raw"])
        sys.stdout.buffer.flush()
        return
    held = Held(row["sha256"], row["raw"], row["reason"])
    exhibit = quarantine_report.Exhibit(row, verdict(held.form, held.raw, window))
    if as_json:
        print_json(quarantine_report.shown_json(exhibit))
    else:
        console = ups.console()
        console.print(quarantine_report.shown(exhibit, console.width))


@app.command()
def fix(
    keys: Keys = None,
    *,
    reason: OfReason = None,
    python: Annotated[
        str | None,
        typer.Option(
            metavar="EXPR",
            help="What to make of an entry, in Python, over event (what its bytes say as JSON, None where"
            " they say nothing) and raw (the bytes): a dict, bytes or a str. json, re and"
            " uuid7(ms, seed) are there; for bad_array, event is a list.",
        ),
    ] = None,
    sql: Annotated[
        str | None,
        typer.Option(
            metavar="EXPR",
            help="The same in SQL, over event (jsonb, null where the bytes are none) and raw (bytea):"
            " jsonb, text or bytea. It is run read-only, five seconds at most.",
        ),
    ] = None,
    dry_run: DryRun = False,
    sample: Annotated[
        int, typer.Option(min=1, max=100_000, help="With --dry-run: try so many of them.")
    ] = 10,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Make events of refused entries with an expression, and send those that have become one.

    What is no event afterwards stays, and so does what the expression fails on; that it was tried is counted.

    The expression is code that runs as you, here: do not paste one that you do not understand.

    infamous quarantine fix --reason bad_rank --python '{**event, "rank": "Hero"}' --dry-run
    """
    if (python is None) == (sql is None):
        end("Say how to fix it: with --python or with --sql, and one of them.", code=2)
    if not keys and reason is None:
        end("Say what to fix: --reason, or keys, as `infamous quarantine list` shows them.", code=2)
    with joined(must_exist=True) as house, on_signals() as stop:
        choice, window = _choice(house.engine, keys, reason), _window(house)
        with _remedy(house.engine, python, sql) as remedy:
            if dry_run:
                most = sample if limit is None else min(sample, limit)
                trials, chosen = fixes.rehearse(house.engine, choice, remedy, window, most)
            else:
                with progress.shown("Fixing") as tell:
                    done = fixes.fix(
                        house.engine, house.streams, choice, remedy, window,
                        limit=limit, stop=stop, tell=tell,
                    )  # fmt: skip
    if dry_run and as_json:
        print_json(quarantine_report.rehearsed_json(trials, chosen))
    elif dry_run:
        ups.console().print(quarantine_report.rehearsed(trials, chosen))
    elif as_json:
        print_json(quarantine_report.fixed_json(done))
    else:
        print(quarantine_report.fixed(done))


@app.command()
def release(
    keys: Keys = None,
    *,
    reason: OfReason = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Send entries again as they are, to be judged anew; what is still bad comes back."""
    with joined(must_exist=True) as house, on_signals() as stop:
        choice = _choice(house.engine, keys, reason)
        with progress.shown("Looking" if dry_run else "Releasing") as tell:
            if dry_run:
                would = releases.foresee(
                    house.engine, choice, _window(house), limit=limit, stop=stop, tell=tell
                )
            else:
                done = releases.release(
                    house.engine, house.streams,
                    reason=reason, keys=choice.keys, limit=limit, stop=stop, tell=tell,
                )  # fmt: skip
    if as_json:
        print_json(asdict(would if dry_run else done))
    else:
        print(quarantine_report.foreseen(would) if dry_run else released(done))


def _choice(engine: Engine, keys: list[str] | None, reason: Reason | None) -> Choice:
    with engine.connect() as connection:
        return Choice(reason, tuple(quarantines.find(connection, key) for key in keys or ()))


@contextmanager
def _remedy(engine: Engine, python: str | None, sql: str | None) -> Iterator[Remedy]:
    if sql is None:
        yield remedies.python(python or "")
        return
    with engine.connect().execution_options(postgresql_readonly=True) as connection:
        yield remedies.sql(connection, sql)


def _window(house: House) -> Window:
    return Window.at(time.time_ns() // 1_000_000, house.config.retention_days)
