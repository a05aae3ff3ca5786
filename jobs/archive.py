"""The archive: its files flow in; what is there, whether it is whole, and events of a span flow out.

A file is read only when it is what its manifest says. Nothing here looks at the stream: archiver.py does.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import msgspec

from jobs import manifest as names
from jobs import parquet
from jobs import position as positions
from jobs.manifest import Changed, Damaged, File, Manifest
from jobs.position import Gap, Position
from jobs.progress import Progress, untold
from jobs.seen import Seen
from jobs.storage import Gone, Storage
from pipeline import failpoint
from pipeline.event import Event

# Events that are handed out at once.
_PAGE_EVENTS: Final = 5000
_DAY_MS: Final = 86_400_000
# Of events that were handed out, so many are remembered, in 200 MB.
_MOST_KNOWN: Final = 10_000_000


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


@dataclass(frozen=True)
class Mended:
    """What was made anew: manifests, which name so many files and rows."""

    manifests: int
    files: int
    rows: int
    # Those of which no file is left.
    given_up: tuple[str, ...]


def partitions(storage: Storage) -> list[int]:
    """Those of which there is anything. Raises StorageError."""
    paths = _paths(storage) + storage.names(positions.FOLDER)
    return sorted({names.partition_in(path) for path in paths})


def manifests(storage: Storage) -> list[Manifest]:
    """All manifests, each partition's in the order in which they were made. Raises Damaged, StorageError."""
    texts = storage.get_all(_paths(storage))
    return [names.decoded(text, path) for path, text in texts.items()]


def _paths(storage: Storage) -> list[str]:
    return names.in_folder(storage.names(names.FOLDER))


def manifest(storage: Storage, path: str) -> Manifest:
    """What stands in a manifest. Raises Damaged, Gone, StorageError."""
    return names.decoded(storage.get(path), path)


def position(storage: Storage, partition: int) -> Position | None:
    """How far this place has come on a partition's stream, and how many manifests were made of it; None where
    it does not say.

    Raises Damaged, StorageError.
    """
    path = positions.path(partition)
    try:
        return positions.decoded(storage.get(path), path)
    except Gone:
        return None


def put_position(storage: Storage, partition: int, now: Position) -> None:
    """Write down how far this place has come. Raises StorageError."""
    storage.put(positions.path(partition), positions.encoded(now))


def gaps(storage: Storage) -> list[Gap]:
    """What left a stream before it came here. Raises Damaged, StorageError."""
    each = [position(storage, partition) or Position() for partition in partitions(storage)]
    return [gap for one in each for gap in one.gaps]


def missing(storage: Storage) -> list[str]:
    """The manifests that are gone: numbers are given one after the other. Raises Damaged, StorageError."""
    return [path for partition in partitions(storage) for path in _missing_of(storage, partition)]


def _missing_of(storage: Storage, partition: int) -> list[str]:
    now = position(storage, partition) or Position()
    paths = storage.names(names.folder(partition))
    return [
        names.path(partition, names.batch_name(one)) for one in names.missing(paths, now.batches)
    ]


def require_manifests(storage: Storage, span_ms: tuple[int, int] | None = None) -> None:
    """Raise Damaged where one is gone; given a span of Unix milliseconds, one that may have named events of
    it.

    Where its files are there, their days tell; where they are not, it may have been anything.
    """
    for path in missing(storage):
        files = _files_of(storage, path)
        days = [names.day_of(file) for file in files if names.kind_of(file) == "events"]
        if span_ms is None or not files or any(_touches(day, *span_ms) for day in days):
            raise _gone(path)


def _touches(day: date, from_ms: int, to_ms: int) -> bool:
    first_ms = names.ms_of(datetime(day.year, day.month, day.day, tzinfo=UTC))
    return first_ms <= to_ms and from_ms < first_ms + _DAY_MS


def _gone(path: str) -> Damaged:
    return Damaged(
        f"The manifest {path} of the archive is gone, so nobody reads what it named: bring it back from a"
        " backup, or make it anew with `infamous archive mend`."
    )


def _files_of(storage: Storage, path: str) -> list[str]:
    """The files that belong to the batch of a manifest, whether it is there or not."""
    return [one for one in all_files(storage) if names.path_of(one) == path]


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
    for path in _paths(storage):
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
    manifest_of = {path: names.path_of(path) for path in left_over}
    try:
        gone = missing(storage)
    except Damaged as fault:
        faults.append(str(fault))
        gone = []
    faults += [str(_gone(path)) for path in gone]
    lost = {one for one in {*manifest_of.values()} if not storage.exists(one)}
    counts = Counter(manifest_of.values())
    faults += [_unwritten(one, counts[one]) for one in sorted(lost - {*gone})]
    rest = tuple(path for path in left_over if manifest_of[path] not in lost)
    return Verified(len(found), rows, tuple(faults), rest)


def _unwritten(path: str, files: int) -> str:
    return (
        f"The manifest {path} of the archive is not there, so nobody reads the {files:,} files it should"
        " name: a run was killed or is at work, so verify again after `infamous archive run`."
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
        return file in manifest(storage, names.path_of(file.path)).files
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

    ``player`` and ``action`` choose some of them; ``found`` are the manifests, where they were read. An event
    that is in two partitions, as it may be when it was replayed under another number of partitions, is handed
    out once; some ten million are remembered, and after them it may come twice. Every
    file that is needed is looked at before the first event is handed out: raises Damaged where one is not
    what was written, or a manifest is gone, and StorageError.
    """
    require_manifests(storage, (from_ms, to_ms))
    files = wanted(manifests(storage) if found is None else found, from_ms, to_ms)
    for file in files:
        contents(storage, file)
    # Of one partition an event is written once.
    is_mixed = len({names.partition_in(file.path) for file in files}) > 1
    seen = Seen(_MOST_KNOWN) if is_mixed else None
    for file in files:
        table = parquet.chosen(table_of(storage, file), from_ms, to_ms, player, action)
        for start in range(0, table.num_rows, _PAGE_EVENTS):
            events = parquet.events_of(table.slice(start, _PAGE_EVENTS))
            yield [one for one in events if seen is None or seen.is_new(_digest(one))]


def _digest(event: Event) -> bytes:
    return hashlib.blake2b(event.id.bytes, digest_size=16).digest()


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
        raise _unreadable(file.path, error) from None


def _unreadable(path: str, error: ValueError) -> Damaged:
    return Damaged(
        f"File {path} of the archive cannot be read ({error}): bring it back from a backup."
    )


def rewrite(storage: Storage, change: Callable[[Any], Any], tell: Progress = untold) -> Rewritten:
    """Put every table, of events and of what was refused, through ``change``, and keep what it returns.

    ``change`` gives back a pyarrow table of the same columns; which kind it is, the columns say. The new file
    is written first, then the manifest names it instead of the old one, and then the old one is removed:
    killed anywhere, the archive is whole, and another run removes what was left. A file without rows is
    removed. One at a time: whoever calls this sees to it. Raises Damaged before anything of a batch is
    changed, and StorageError. ``tell`` is told batches.
    """
    paths = _paths(storage)
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
    return put_table(storage, file.kind, file.day, path, after)


def put_table(
    storage: Storage, kind: names.Kind, day: date, manifest_path: str, table: Any
) -> File | None:
    """Write a file of a batch; None where there are no rows. It counts once its manifest names it."""
    if not table.num_rows:
        return None
    data = parquet.written(table)
    sha256 = parquet.sha256(data)
    first_ts, last_ts = parquet.times(table)
    first_id, last_id = parquet.ends(table, "id" if kind == "events" else "entry_id")
    partition, batch = names.partition_in(manifest_path), names.batch_of(manifest_path)
    path = names.file_path(kind, day, partition, batch, sha256)
    storage.put(path, data)
    return File(path, kind, table.num_rows, len(data), sha256, first_ts, last_ts, first_id, last_id)


def remove_unnamed(storage: Storage) -> None:
    """Remove all files that no manifest names. Whoever calls this sees to it that none is being written."""
    named = {file.path for batch in manifests(storage) for file in batch.files}
    for path in all_files(storage):
        if path not in named:
            storage.delete(path)


def mend(storage: Storage, *, is_dry_run: bool = False) -> Mended:
    """Make the manifests that are gone anew, of the files that are there: they say what is in them.

    Of one of which nothing is left an empty one is made: what it named is given up. Nobody else may write the
    archive meanwhile. Where a change of the whole archive was killed at that very batch, both the old file
    and the new one are named: run the change again. Raises Damaged, StorageError.
    """
    files = rows = 0
    given_up: list[str] = []
    gone = missing(storage)
    for path in gone:
        made = _made_anew(storage, names.partition_in(path), _files_of(storage, path))
        if not made.files:
            given_up.append(path)
        files += len(made.files)
        rows += sum(file.rows for file in made.files)
        if not is_dry_run:
            failpoint.reached("in_archive")
            storage.create(path, names.encoded(made))
    return Mended(len(gone), files, rows, tuple(given_up))


def _made_anew(storage: Storage, partition: int, paths: Sequence[str]) -> Manifest:
    entries: set[str] = set()
    files: list[File] = []
    for path in paths:
        file, table = described(storage, path)
        files.append(file)
        entries |= {*table["entry_id"].to_pylist()}
    in_order = sorted(entries, key=names.order) or [positions.NOWHERE]
    return Manifest(
        partition=partition,
        first_entry=in_order[0],
        last_entry=in_order[-1],
        entries=len(entries),
        made_at=datetime.now(UTC),
        files=tuple(files),
    )


def described(storage: Storage, path: str) -> tuple[File, Any]:
    """What a manifest would say of a file, and its rows. Raises Damaged, Gone, StorageError."""
    kind, data = names.kind_of(path), storage.get(path)
    sha256 = parquet.sha256(data)
    if not names.is_named_for(path, sha256):
        raise Damaged(
            f"File {path} of the archive was cut or altered: bring it back as it was, from a backup, or"
            " remove it to give it up."
        )
    try:
        table = parquet.read(data)
    except ValueError as error:
        raise _unreadable(path, error) from None
    first_id, last_id = parquet.ends(table, "id" if kind == "events" else "entry_id")
    first_ts, last_ts = parquet.times(table)
    size_bytes = len(data)
    return (
        File(path, kind, table.num_rows, size_bytes, sha256, first_ts, last_ts, first_id, last_id),
        table,
    )


def sweep(storage: Storage, paths: Iterable[str]) -> None:
    """Remove, of these files, those whose batch has a manifest that does not name them.

    A file whose batch has none is being written.
    """
    named: dict[str, set[str]] = {}
    for path in paths:
        at = names.path_of(path)
        if at not in named:
            try:
                named[at] = {file.path for file in manifest(storage, at).files}
            except Gone:
                continue
        if path not in named[at]:
            storage.delete(path)
