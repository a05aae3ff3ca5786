"""The archive: its files flow in; what is there, whether it is whole, and events of a span flow out.

A file is read only when it is what its manifest says. Nothing here looks at the stream: archiver.py does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import msgspec

from jobs import manifest as names
from jobs import parquet
from jobs.manifest import Changed, Damaged, File, Manifest
from jobs.progress import Progress, untold
from jobs.storage import Gone, Storage
from pipeline import failpoint
from pipeline.event import Event

# There is one stream as yet.
PARTITION: Final = 0
# Events that are handed out at once.
_PAGE_EVENTS: Final = 5000


@dataclass(frozen=True)
class Day:
    """What the archive holds of a UTC day: events of that day, and what was refused on it."""

    day: date
    files: int
    events: int
    refused: int
    bytes: int


@dataclass(frozen=True)
class Verified:
    """What a look at every file found. A fault is a sentence; a left-over counts for nothing: its batch
    has a manifest, which names other files."""

    files: int
    rows: int
    faults: tuple[str, ...]
    left_over: tuple[str, ...]


@dataclass(frozen=True)
class Rewritten:
    """What a change of the whole archive did."""

    files: int
    rows_removed: int


def manifests(storage: Storage) -> list[Manifest]:
    """All manifests, in the order in which they were made. Raises Damaged, StorageError."""
    texts = storage.get_all(storage.names(names.folder(PARTITION)))
    return [names.decoded(text, path) for path, text in texts.items()]


def manifest(storage: Storage, path: str) -> Manifest:
    """What stands in a manifest. Raises Damaged, Gone, StorageError."""
    return names.decoded(storage.get(path), path)


def all_files(storage: Storage) -> list[str]:
    """The names of all files of rows, those too that no manifest names."""
    return storage.names("events") + storage.names("refused")


def days(found: Sequence[Manifest]) -> list[Day]:
    """What there is, by day. Pure."""
    known: dict[date, Day] = {}
    for file in (file for batch in found for file in batch.files):
        day = known.get(file.day, Day(file.day, 0, 0, 0, 0))
        is_event = file.kind == "events"
        known[file.day] = Day(
            file.day,
            day.files + 1,
            day.events + (file.rows if is_event else 0),
            day.refused + (0 if is_event else file.rows),
            day.bytes + file.bytes,
        )
    return [known[day] for day in sorted(known)]


def span(found: Sequence[Manifest]) -> tuple[datetime, datetime] | None:
    """The times of the first and the last event; None where there are none. Pure."""
    files = [file for batch in found for file in batch.files if file.kind == "events"]
    if not files:
        return None
    return min(file.first_ts for file in files), max(file.last_ts for file in files)


def verify(storage: Storage, tell: Progress = untold) -> Verified:
    """Read every file and compare it with its manifest. ``tell`` is told files. Raises StorageError."""
    there = all_files(storage)
    faults: list[str] = []
    found: dict[str, File] = {}
    for path in storage.names(names.folder(PARTITION)):
        try:
            found |= {file.path: file for file in manifest(storage, path).files}
        except Damaged as fault:
            faults.append(str(fault))
    for number, file in enumerate(found.values()):
        tell(number, len(found))
        try:
            contents(storage, file)
        except Damaged as fault:
            faults.append(str(fault))
    tell(len(found), len(found))
    rows = sum(file.rows for file in found.values())
    left_over = [path for path in there if path not in found]
    # Asked last: what was being written when this began may have its manifest by now.
    manifest_of = {path: names.path(PARTITION, names.batch_of(path)) for path in left_over}
    lost = {one for one in {*manifest_of.values()} if not storage.exists(one)}
    faults += [_lost(one, list(manifest_of.values()).count(one)) for one in sorted(lost)]
    rest = tuple(path for path in left_over if manifest_of[path] not in lost)
    return Verified(len(found), rows, tuple(faults), rest)


def _lost(path: str, files: int) -> str:
    return (
        f"The manifest {path} of the archive is gone, so nobody reads the {files:,} files it should name:"
        " bring it back from a backup; where a run was killed or is at work, verify again after"
        " `infamous archive run`."
    )


def contents(storage: Storage, file: File) -> bytes:
    """The bytes of a file, as they were written. Raises Damaged, Changed, StorageError."""
    try:
        data = storage.get(file.path)
    except Gone:
        if not _is_named(storage, file):
            raise Changed(
                "The archive was changed while it was read, by whoever forgets a player: run it again."
            ) from None
        raise Damaged(
            f"File {file.path} of the archive is gone: bring it back from a backup."
        ) from None
    if len(data) != file.bytes or parquet.sha256(data) != file.sha256:
        raise Damaged(
            f"File {file.path} of the archive does not match its manifest: it was cut or altered; bring it"
            " back as it was, from a backup."
        )
    return data


def _is_named(storage: Storage, file: File) -> bool:
    """Whether the manifest of its batch, as it stands now, names a file; one that is gone cannot say."""
    try:
        return file in manifest(storage, names.path(PARTITION, names.batch_of(file.path))).files
    except Gone:
        return True


def read(
    storage: Storage,
    from_ms: int,
    to_ms: int,
    *,
    player: str | None = None,
    action: str | None = None,
    found: Sequence[Manifest] | None = None,
) -> Iterator[list[Event]]:
    """The events that happened in a span of Unix milliseconds, both ends included, some thousand at once.

    ``player`` and ``action`` choose some of them; ``found`` are the manifests, where they were read. Every
    file that is needed is looked at before the first event is handed out: raises Damaged where one is not
    what was written, and StorageError.
    """
    files = wanted(manifests(storage) if found is None else found, from_ms, to_ms)
    for file in files:
        contents(storage, file)
    for file in files:
        table = parquet.chosen(table_of(storage, file), from_ms, to_ms, player, action)
        for start in range(0, table.num_rows, _PAGE_EVENTS):
            yield parquet.events_of(table.slice(start, _PAGE_EVENTS))


def wanted(found: Sequence[Manifest], from_ms: int, to_ms: int) -> list[File]:
    """The files that may hold events of a span, in the order of their times. Pure."""
    files = [
        file
        for batch in found
        for file in batch.files
        if file.kind == "events" and file.touches(from_ms, to_ms)
    ]
    return sorted(files, key=lambda file: (file.first_ts, file.path))


def table_of(storage: Storage, file: File, columns: Sequence[str] | None = None) -> Any:
    """The rows of a file, or some columns of them, as a pyarrow table. Raises Damaged, StorageError."""
    try:
        return parquet.read(contents(storage, file), columns)
    except ValueError as error:  # whoever wrote it wrote its manifest, too
        raise Damaged(
            f"File {file.path} of the archive cannot be read ({error}): bring it back from a backup."
        ) from None


def rewrite(storage: Storage, change: Callable[[Any], Any], tell: Progress = untold) -> Rewritten:
    """Put every table, of events and of what was refused, through ``change``, and keep what it returns.

    ``change`` gives back a pyarrow table of the same columns; which kind it is, the columns say. The new file
    is written first, then the manifest names it instead of the old one, and then the old one is removed:
    killed anywhere, the archive is whole, and another run removes what was left. A file without rows is
    removed. One at a time: whoever calls this sees to it. Raises Damaged before anything of a batch is
    changed, and StorageError. ``tell`` is told batches.
    """
    paths = storage.names(names.folder(PARTITION))
    files = rows_removed = 0
    for number, path in enumerate(paths):
        tell(number, len(paths))
        before = manifest(storage, path)
        after = tuple(
            one
            for file in before.files
            if (one := _changed(storage, path, file, change)) is not None
        )
        if after != before.files:
            failpoint.reached("in_rewrite")
            storage.put(path, names.encoded(msgspec.structs.replace(before, files=after)))
            failpoint.reached("in_rewrite")
            files += len({*before.files} - {*after})
            rows_removed += sum(file.rows for file in before.files)
            rows_removed -= sum(file.rows for file in after)
    sweep(storage, all_files(storage))
    tell(len(paths), len(paths))
    return Rewritten(files, rows_removed)


def _changed(storage: Storage, path: str, file: File, change: Callable[[Any], Any]) -> File | None:
    """What becomes of a file: itself, another that is written now, or nothing."""
    before = table_of(storage, file)
    after = change(before)
    if after is before or after.equals(before):
        return file
    return put_table(storage, file.kind, file.day, names.batch_of(path), after)


def put_table(storage: Storage, kind: names.Kind, day: date, batch: str, table: Any) -> File | None:
    """Write a file of a batch; None where there are no rows. It counts once a manifest names it."""
    if not table.num_rows:
        return None
    data = parquet.written(table)
    sha256 = parquet.sha256(data)
    first_ts, last_ts = parquet.times(table)
    first_id, last_id = parquet.ends(table, "id" if kind == "events" else "entry_id")
    path = names.file_path(kind, day, PARTITION, batch, sha256)
    storage.put(path, data)
    return File(path, kind, table.num_rows, len(data), sha256, first_ts, last_ts, first_id, last_id)


def remove_unnamed(storage: Storage) -> None:
    """Remove all files that no manifest names. Whoever calls this sees to it that none is being written."""
    named = {file.path for batch in manifests(storage) for file in batch.files}
    for path in all_files(storage):
        if path not in named:
            storage.delete(path)


def sweep(storage: Storage, paths: Iterable[str]) -> None:
    """Remove, of these files, those whose batch has a manifest that does not name them.

    A file whose batch has none is being written.
    """
    named: dict[str, set[str]] = {}
    for path in paths:
        at = names.path(PARTITION, names.batch_of(path))
        if at not in named:
            try:
                named[at] = {file.path for file in manifest(storage, at).files}
            except Gone:
                continue
        if path not in named[at]:
            storage.delete(path)
