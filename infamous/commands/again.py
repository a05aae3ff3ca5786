"""What sends events again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

import jobs.__main__
from infamous import house
from infamous.commands.moments import FOR_EVER_MS, moment_ms
from infamous.house import AsJson, end, joined, print_json
from jobs import replay as replays
from pipeline.stop import on_signals

app = house.commands()


@app.command()
def replay(
    *,
    from_ms: Annotated[
        int,
        typer.Option(
            "--from",
            parser=moment_ms,
            metavar="TIME",
            help="The first moment to send again: 2026-11-24T18:00:00Z, or 2h for two hours ago.",
        ),
    ],
    to_ms: Annotated[
        int | None,
        typer.Option(
            "--to", parser=moment_ms, metavar="TIME", help="The last; else all that is there."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send what was put on the stream in a span of time again; what is stored already stays as it is."""
    # Not this machine's now: the times are Redis', whose clock may be ahead.
    to_ms = FOR_EVER_MS if to_ms is None else to_ms
    if from_ms > to_ms:
        end("--from is later than --to: give the earlier time first.", code=2)
    with joined(must_exist=True) as house, on_signals() as stop:
        done = replays.replay(house.source, from_ms, to_ms, stop=stop)
    if as_json:
        print_json(asdict(done))
    else:
        print(jobs.__main__.replayed(done))
