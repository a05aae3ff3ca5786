"""What forgets a player."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from infamous import house, progress, report
from infamous.house import AsJson, House, end, joined, print_json
from jobs import forget as forgets
from jobs.manifest import FOLDER, partition_of
from jobs.storage import Storage
from pipeline.event import MAX_PLAYER_CHARS
from pipeline.stop import on_signals
from pipeline.stream import ARCHIVE_GROUP, FIRST, Stream, is_after

app = house.commands()


@app.command()
def forget(
    player: Annotated[str, typer.Argument(help="The name, as the events have it.")],
    *,
    pseudonymise: Annotated[
        bool,
        typer.Option(
            "--pseudonymise",
            help="Keep the events under a name that nobody can trace back; details stay as they are.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what there is.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a player everywhere, and drop whatever comes of them from now on."""
    if not 1 <= len(player) <= MAX_PLAYER_CHARS:
        end(f"A player's name has 1 to {MAX_PLAYER_CHARS} characters: give it as it is stored.", 2)
    with joined(must_exist=True) as found, found.owner() as engine:
        storage = _archive(found)
        if dry_run:
            there = forgets.look(engine, found.streams, player, storage=storage)
            print_json(asdict(there)) if as_json else print(report.traces(there))
            return
        with on_signals() as stop, progress.shown("entries removed") as tell:
            done = forgets.forget(
                engine,
                found.streams,
                player,
                storage=storage,
                keep_as_pseudonym=pseudonymise,
                tell=tell,
                stop=stop,
            )
        left = forgets.look(engine, found.streams, player, storage=storage)
        backup_days = found.config.backup_days
        has_other_place = storage is not None and _is_split(found, storage)
    if as_json:
        out_of_reach = report.out_of_reach(backup_days, has_other_place=has_other_place)
        print_json(asdict(done) | {"left": asdict(left), "out_of_reach": out_of_reach})
    else:
        print(report.forgotten(done, left, backup_days, has_other_place=has_other_place))
    raise SystemExit(0 if done.is_complete and left.is_none else 1)


def _archive(found: House) -> Storage | None:
    """Where the archive is. Ends where something was archived, and is not there: it would keep the player."""
    storage = None if found.config.archive is None else Storage(found.config.archive)
    if any(to != FIRST for to in _done_to(found).values()) and (
        storage is None or not storage.names(FOLDER)
    ):
        end(
            "This stream was archived, and there is no archive where ARCHIVE_URL says: name its place, or"
            " give it up with `infamous archive leave`; nothing was changed."
        )
    return storage


def _is_split(found: House, storage: Storage) -> bool:
    """Whether another place was given something that this one was not."""
    from jobs import archive as archives  # noqa: PLC0415  # it takes 60 MB

    for key, done_to in _done_to(found).items():
        here = archives.position(storage, partition_of(key))
        if here is not None and (here.gaps or is_after(done_to, here.entry.encode())):
            return True
    return False


def _done_to(found: House) -> dict[str, bytes]:
    """How far the archive has come on each stream. Raises what redis-py raises when one is away."""
    found.streams.look()
    return found.streams.of_group(ARCHIVE_GROUP).ask(Stream.done_to).whole()
