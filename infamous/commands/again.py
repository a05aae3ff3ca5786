"""What sends events again."""

from __future__ import annotations

import threading
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

import jobs.__main__
from infamous import house, progress, reach
from infamous.commands import shadow
from infamous.commands.archive import catch_up, storage_of
from infamous.commands.moments import FOR_EVER_MS, clipped, moment_ms
from infamous.house import AsJson, House, end, joined, print_json
from infamous.reach import Reach
from jobs import release as releases
from jobs import replay as replays
from jobs.manifest import order
from jobs.progress import Progress
from jobs.replay import Replayed
from jobs.sift import Chosen
from pipeline.event import ACTIONS
from pipeline.stop import on_signals

app = house.commands()


class Source(StrEnum):
    """Where the past is taken from."""

    STREAM = "stream"
    ARCHIVE = "archive"
    QUARANTINE = "quarantine"


class Into(StrEnum):
    """Where it goes."""

    STREAM = "stream"
    SHADOW = "shadow"


def _action(text: str) -> str:
    if text not in ACTIONS:
        raise typer.BadParameter(f"{text} is no action: name one of {', '.join(ACTIONS)}.")
    return text


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
    player: Annotated[str | None, typer.Option(help="Only this player's events.")] = None,
    action: Annotated[
        str | None, typer.Option(parser=_action, metavar="ACTION", help="Only events of this kind.")
    ] = None,
    origin: Annotated[
        Source,
        typer.Option(
            "--source",
            help="The stream, by when an entry was added to it; the archive, by when an event happened; or"
            " the quarantine, by when an entry came last.",
        ),
    ] = Source.STREAM,
    into: Annotated[
        Into,
        typer.Option(
            help="The stream, through which it is stored like live events; or a table beside, of whole"
            " UTC days, which is compared with the live one: `infamous shadow` goes on from there.",
        ),
    ] = Into.STREAM,
    as_json: AsJson = False,
) -> None:
    """Send the events of a span of time again; what is stored already stays as it is."""
    # Not this machine's now: the times are Redis', whose clock may be ahead.
    to_ms = FOR_EVER_MS if to_ms is None else to_ms
    if from_ms > to_ms:
        end("--from is later than --to: give the earlier time first.", code=2)
    chosen = Chosen(player, action)
    if into is Into.SHADOW:
        if not chosen.is_all or origin is Source.QUARANTINE:
            end(
                "A shadow is of all that happened on whole days: leave out --player, --action"
                " and --source quarantine.",
                code=2,
            )
        shadow.of_span(shadow.Source(origin.value), from_ms, to_ms, as_json=as_json)
        return
    if origin is Source.QUARANTINE:
        _from_quarantine(from_ms, to_ms, chosen, as_json=as_json)
        return
    with joined(must_exist=True) as house, on_signals() as stop:
        if origin is Source.ARCHIVE:
            catch_up(house, stop)
        with progress.shown("Sending again") as tell:
            if origin is Source.ARCHIVE:
                done = _from_archive(house, from_ms, to_ms, chosen, stop, tell)
            else:
                done = replays.replay(
                    house.streams,
                    from_ms,
                    to_ms,
                    chosen=chosen,
                    retention_days=house.config.retention_days,
                    stop=stop,
                    tell=tell,
                )
        is_empty = not done.entries
        note = reach.note(_reach(house, origin, is_empty=is_empty), from_ms, is_empty=is_empty)
    if as_json:
        print_json(asdict(done) | {"note": note})
    else:
        print(" ".join(filter(None, (jobs.__main__.replayed(done), note))))


def _from_quarantine(from_ms: int, to_ms: int, chosen: Chosen, *, as_json: bool) -> None:
    with (
        joined(must_exist=True) as house,
        on_signals() as stop,
        progress.shown("Releasing") as tell,
    ):
        done = releases.release(
            house.engine,
            house.streams,
            seen_from=clipped(from_ms),
            seen_to=clipped(to_ms),
            player=chosen.player,
            action=chosen.action,
            stop=stop,
            tell=tell,
        )
    if as_json:
        print_json(asdict(done))
    else:
        print(jobs.__main__.released(done))


def _from_archive(
    house: House,
    from_ms: int,
    to_ms: int,
    chosen: Chosen,
    stop: threading.Event,
    tell: Progress,
) -> Replayed:
    from jobs import archive as archives  # noqa: PLC0415  # it takes 60 MB

    storage = storage_of(house.config)
    found = archives.manifests(storage)
    rows = sum(file.rows for file in archives.wanted(found, from_ms, to_ms))
    return replays.replay_events(
        house.streams,
        archives.read(
            storage, from_ms, to_ms, player=chosen.player, action=chosen.action, found=found
        ),
        retention_days=house.config.retention_days,
        stop=stop,
        tell=tell,
        total=rows if chosen.is_all else None,
    )


def _reach(house: House, origin: Source, *, is_empty: bool) -> Reach:
    """What there is to be sent again; of the archive, only where nothing was found."""
    kept: tuple[datetime, datetime] | None = None
    if is_empty and house.config.archive is not None:
        from jobs import archive as archives  # noqa: PLC0415  # it takes 60 MB

        kept = archives.span(archives.manifests(storage_of(house.config)))
    ends = house.streams.ask(lambda one: (one.state(exact=False), one.span())).whole().values()
    spans = [
        (order(ids[0])[0], order(ids[1])[0], state.added is None or state.added > state.entries)
        for state, ids in ends
        if ids is not None
    ]
    # Where some were trimmed, all that was added is there from the last of their beginnings on.
    cut = [first_ms for first_ms, _, is_trimmed in spans if is_trimmed]
    first_ms = max(cut) if cut else min((first for first, *_ in spans), default=0)
    return Reach(
        is_of_archive=origin is Source.ARCHIVE,
        stream=(first_ms, max(last for _, last, _ in spans)) if spans else None,
        is_trimmed=bool(cut),
        archive=kept,
    )
