"""What keeps the archive: write what is new, show what is there, check it, and give it up."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import Annotated, Final

import typer

from infamous import house, progress
from infamous import up as ups
from infamous.archive_report import Kept, kept_json, kept_table
from infamous.house import AsJson, House, joined, print_json
from jobs import tombstones
from jobs.manifest import order
from jobs.storage import Storage, StorageError
from pipeline import log, settings
from pipeline.settings import Settings, SettingsError
from pipeline.stop import on_signals
from pipeline.stream import ARCHIVE_GROUP, Stream
from pipeline.streams import Streams, together

app = house.commands()

_NONE: Final = (
    "There is no archive: name a folder, or an address that fsspec knows, in ARCHIVE_URL."
)


def storage_of(config: Settings) -> Storage:
    """Where the archive is kept. Raises SettingsError where there is none."""
    if config.archive is None:
        raise SettingsError(_NONE)
    return Storage(config.archive)


def _bookmarked(house: House) -> Streams:
    """The streams as the archive reads them."""
    return house.streams.of_group(ARCHIVE_GROUP)


def catch_up(house: House, stop: threading.Event) -> None:
    """Archive what is on the stream and is not archived yet, so that what reads the archive lacks nothing.

    Where the place takes nothing, that is told, and what is archived can still be read.
    """
    from jobs import archiver  # noqa: PLC0415  # it takes 60 MB

    storage = storage_of(house.config)
    with (
        tombstones.known(house.engine) as is_forgotten,
        progress.shown("Archiving entries") as tell,
    ):
        try:
            archiver.archive_all(
                _bookmarked(house),
                storage,
                retention_days=house.config.retention_days,
                is_forgotten=is_forgotten,
                stop=stop,
                tell=tell,
            )
        except StorageError as error:
            log.get("archive").warning(
                "What the stream holds and the archive does not is left out", error=str(error)
            )


@app.command()
def run(*, as_json: AsJson = False) -> None:
    """Archive everything that is on the stream and is not archived yet."""
    from jobs import archiver  # noqa: PLC0415  # it takes 60 MB

    with (
        joined(must_exist=True) as house,
        on_signals() as stop,
        tombstones.known(house.engine, stop=stop) as is_forgotten,
        progress.shown("Archiving entries") as tell,
    ):
        done = archiver.archive_all(
            _bookmarked(house),
            storage_of(house.config),
            retention_days=house.config.retention_days,
            is_forgotten=is_forgotten,
            stop=stop,
            tell=tell,
        )
    if as_json:
        print_json(asdict(done))
        return
    known = f", {done.known:,} were there already" if done.known else ""
    away = f"; these streams are away, and were left: {', '.join(done.away)}" if done.away else ""
    print(
        f"Archived {done.events:,} events and {done.refused:,} that are none, of {done.entries:,} entries,"
        f" in {done.files:,} files{known}{away}"
        f"{'.' if done.is_complete else '; it was stopped before the end.'}"
    )


@app.command(name="list")
def list_(*, as_json: AsJson = False) -> None:
    """Show what the archive holds, by day, and how far behind the stream it is."""
    from jobs import archive as archives  # noqa: PLC0415  # it takes 60 MB

    with joined(must_exist=True) as house:
        storage = storage_of(house.config)
        found = archives.manifests(storage)
        answers = _bookmarked(house).look_and_ask(Stream.state)
        kept = Kept(
            storage.shown,
            archives.days(found),
            archives.span(found),
            max((batch.last_entry for batch in found), key=order, default=None),
            together(answers.some().values()),
            archives.missing(storage),
            archives.gaps(storage),
            answers.reasons,
        )
    if as_json:
        print_json(kept_json(kept))
    else:
        ups.console().print(kept_table(kept))


@app.command()
def verify(*, as_json: AsJson = False) -> None:
    """Read every file of the archive and compare it with its manifest."""
    from jobs import archive as archives  # noqa: PLC0415  # it takes 60 MB

    config = settings.load()  # no server is needed
    log.configure(config.log_format, config.log_level)
    with progress.shown("Verifying files") as tell:
        done = archives.verify(storage_of(config), tell)
    if as_json:
        print_json(asdict(done))
    else:
        for fault in done.faults:
            print(fault)
        for path in done.left_over:
            print(f"File {path} is in no manifest: a run that was killed left it.")
        count = len(done.faults)
        faults = "no fault" if not count else "1 fault" if count == 1 else f"{count:,} faults"
        print(f"Looked at {done.files:,} files with {done.rows:,} rows: {faults}.")
    raise SystemExit(1 if done.faults else 0)


@app.command()
def mend(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; say what would be done.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make manifests that are gone anew, of their files; of which none is left, that is given up."""
    from jobs import archive as archives  # noqa: PLC0415  # it takes 60 MB

    with (
        joined(must_exist=True) as house,
        on_signals() as stop,
        tombstones.alone(house.engine, stop=stop),
    ):
        done = archives.mend(storage_of(house.config), is_dry_run=dry_run)
    if as_json:
        print_json(asdict(done) | {"dry_run": dry_run})
    elif not done.manifests:
        print("No manifest is gone: nothing was changed.")
    else:
        would = "Would make" if dry_run else "Made"
        given_up = f"; {len(done.given_up):,} of them name nothing" if done.given_up else ""
        print(
            f"{would} {done.manifests:,} manifests anew, of {done.files:,} files with {done.rows:,} rows"
            f"{given_up}."
        )


@app.command()
def leave(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; say what would be done.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Archive no more: the stream is trimmed without waiting for it. What was archived stays."""
    with joined(must_exist=True) as house:
        archive = _bookmarked(house)
        archive.look()
        state = archive.state()
        did = state.group_exists
        if not dry_run:
            did = any(list(archive.ask(Stream.drop_group).whole().values()))
    if as_json:
        print_json({"left": did, "unarchived": state.undelivered if did else 0, "dry_run": dry_run})
    elif not did:
        print("The stream keeps nothing for an archive: nothing was changed.")
    else:
        would = "would not wait" if dry_run else "does not wait"
        print(
            f"The stream {would} for the archive any more; {state.undelivered:,} entries are not archived."
            " Unset ARCHIVE_URL, or the next run takes it up again."
        )
