"""The archiver: what was added to the streams flows in, files of the archive and their manifests flow out.

A batch is a run of entries. Its files are written first, one a UTC day, then the manifest that names them,
then how far this place has come, and only then does the bookmark on the stream move. Killed anywhere and run
again, it goes on at the bookmark; in a place that has not come so far, where that one is: see position.py.
What the archive holds already is left out: of events with one id the first is kept, as in the table. So a
replay does not make the archive grow, nor does a group that was destroyed and begins at the beginning again.

One at a time: see tombstones.alone. Should there be two, nothing is lost or doubled. A file's name says what
is in it, so that nobody writes over another's. A manifest is numbered after the last that was there when its
batch was compared with the archive, and a number is given once: who comes second removes what it wrote, and
begins anew with what the first has added.

Each stream has a partition of the archive for itself, with a position and manifests of its own: see
manifest.partition_of. One that is away keeps nobody from the others. What is known already is looked for in
the stream's own partition: an event that went to another stream when the number of partitions changed, and
was replayed since, is in two, and whoever reads takes it once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Final

import redis
from msgspec.structs import replace as replace_struct

from jobs import archive as archives
from jobs import manifest as names
from jobs import parquet
from jobs.manifest import Damaged, File, Kind, Manifest
from jobs.parquet import RefusedRow
from jobs.position import Position
from jobs.progress import Progress, untold
from jobs.storage import Gone, Storage
from pipeline import failpoint, log
from pipeline.entry import Entry, unpacked
from pipeline.event import Event, Refused, Window, datetime_of, decode_all
from pipeline.patience import first_line
from pipeline.stream import GroupLost, Stream, StreamState, is_temporary
from pipeline.streams import Streams
from pipeline.tombstone import player_in

# A batch is full with about so many events, or bytes of them: there is room for it in 300 MB.
MAX_EVENTS: Final = 100_000
MAX_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True)
class Archived:
    """What a run did. ``known`` events were archived before, ``forgotten`` ones are of erased players."""

    entries: int = 0
    events: int = 0
    refused: int = 0
    known: int = 0
    forgotten: int = 0
    files: int = 0
    # Whether it came to the entry that was the newest when it began, on each stream that is there.
    is_complete: bool = True
    # Streams that are away, and why: the next run goes on with them.
    away: Mapping[str, str] = field(default_factory=dict)


def nobody(_player: str) -> bool:
    """No player was forgotten."""
    return False


def archive_all(
    streams: Streams,
    storage: Storage,
    *,
    retention_days: int,
    is_forgotten: Callable[[str], bool] = nobody,
    wait_s: float = 0.0,
    at_most_s: float | None = None,
    stop: threading.Event | None = None,
    tell: Progress = untold,
) -> Archived:
    """``archive`` of all streams, as the archive's group reads them; the one furthest behind comes first.

    Where one is away, or goes away, that is told, and the others are archived; where all are, raises what
    redis-py raises.
    """
    answers = streams.look_and_ask(lambda one: one.state(exact=False))
    waiting, away = answers.some(), answers.reasons
    ends_s = None if at_most_s is None else time.monotonic() + at_most_s
    done = Archived()
    for source in _in_turn(streams, waiting):
        before = done

        def tell_all(entries: int, total: int | None, before: Archived = before) -> None:
            tell(before.entries + entries, None if total is None else before.entries + total)

        try:
            some = archive(
                source,
                storage,
                retention_days=retention_days,
                is_forgotten=is_forgotten,
                wait_s=wait_s,
                at_most_s=None if ends_s is None else ends_s - time.monotonic(),
                stop=stop,
                tell=tell_all,
            )
        except redis.RedisError as error:
            if not is_temporary(error) or len(waiting) == 1:
                raise
            away[source.key] = first_line(error)
        else:
            done = _sum(done, some)
    for key, reason in away.items():
        log.get("archive").warning(
            "A stream is away; the others are archived, and it is the next time",
            stream=key,
            error=reason,
        )
    return replace(done, away=away)


def _in_turn(streams: Streams, states: Mapping[str, StreamState]) -> list[Stream]:
    """Those that there are, the one that is furthest behind first: a run may end before the last.

    One that nobody writes into and that does not exist is not made for a bookmark's sake.
    """
    there = [
        source
        for source in streams.all
        if source.key in states and (source in streams.written or states[source.key].exists)
    ]
    return sorted(there, key=lambda one: states[one.key].oldest_waiting_ms or _now_ms())


def archive(
    source: Stream,
    storage: Storage,
    *,
    retention_days: int,
    is_forgotten: Callable[[str], bool] = nobody,
    wait_s: float = 0.0,
    at_most_s: float | None = None,
    max_events: int = MAX_EVENTS,
    stop: threading.Event | None = None,
    tell: Progress = untold,
) -> Archived:
    """Write what was added to the stream since the bookmark of ``source``'s group, and move the bookmark.

    Ends with what is there when it begins. Less than a full batch is left until its first entry is ``wait_s``
    old, so that there are few small files. After ``at_most_s`` no other batch is begun. ``tell`` is told
    entries. Raises StorageError, Damaged, and what redis-py raises; the next run goes on where this one
    ended.
    """
    partition = names.partition_of(source.key)
    storage.tidy()
    bookmark, span = source.bookmark(), source.span()
    here = _goes_on(source, storage, partition, bookmark, span)
    after, newest = here.entry, None if span is None else span[1]
    ends_s = None if at_most_s is None else time.monotonic() + at_most_s
    total = source.state(exact=False).undelivered
    known, done = _Known(storage, partition, here.batches), Archived()
    while newest is not None and (wait_s <= 0 or _is_due(source, after, newest, wait_s)):
        if (stop is not None and stop.is_set()) or (
            ends_s is not None and time.monotonic() >= ends_s
        ):
            return replace(done, is_complete=False)
        batch = _read(source, after, newest, max_events, retention_days, is_forgotten)
        if not batch.entry_ids:
            break
        files = _write(storage, batch, known)
        if files is None:
            after, known = source.bookmark(), _Known(storage, partition, here.batches)
            continue
        last = batch.entry_ids[-1]
        here = replace_struct(here, entry=last, batches=max(here.batches, known.number))
        archives.put_position(storage, partition, here)
        failpoint.reached("in_archive")
        try:
            passed = sum(names.order(one) > names.order(bookmark) for one in batch.entry_ids)
            source.move_bookmark(last, passed)
        except GroupLost:  # somebody wants no archive any more
            return replace(done, is_complete=False)
        after = last
        done = _sum(done, _archived(batch, files))
        tell(done.entries, max(total, done.entries))
    return done


def _goes_on(
    source: Stream, storage: Storage, partition: int, bookmark: str, span: tuple[str, str] | None
) -> Position:
    """Where to go on in this place, which may be another than the one that came to the bookmark."""
    try:
        told = archives.position(storage, partition)
    except Damaged as fault:
        _warn(fault)
        told = None
    if told is None and (made := names.newest(storage.names(names.folder(partition)))):
        # Of a version that wrote none: it may have come further than its last manifest says.
        return Position(_last_entry(storage, partition, made, bookmark), made)
    told = told or Position()
    state = source.state(exact=False)
    is_trimmed = state.added is None or state.added > state.entries
    here = told.goes_on(bookmark, span and span[0], is_trimmed=is_trimmed)
    if here.gaps != told.gaps:
        log.get("archive").warning(
            "This place lacks what another archived and has left the stream since: name that one in"
            " ARCHIVE_URL to replay it",
            after=here.gaps[-1].after,
            before=here.gaps[-1].before,
        )
        if span is None:
            archives.put_position(storage, partition, replace_struct(here, entry=bookmark))
    return here


def _last_entry(storage: Storage, partition: int, number: int, bookmark: str) -> str:
    try:
        path = names.path(partition, names.batch_name(number))
        last = archives.manifest(storage, path).last_entry
    except Damaged:
        return bookmark
    return min(last, bookmark, key=names.order)


def _is_due(source: Stream, after: str, newest: str, wait_s: float) -> bool:
    """Whether what waits is a full batch, or old enough."""
    events = size_bytes = 0
    for page in source.walk_on(after, newest):
        if not events and names.order(page[0].id.decode())[0] <= _now_ms() - wait_s * 1000:
            return True
        events += len(page)
        size_bytes += sum(len(entry.payload) for entry in page)
        if events >= MAX_EVENTS or size_bytes >= MAX_BYTES:
            return True
    return False


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- from entries to rows


@dataclass
class _Batch:
    """A run of entries, looked through."""

    entry_ids: list[str] = field(default_factory=list)
    # Tables of events, one a page of entries.
    events: list[Any] = field(default_factory=list)
    refused: list[RefusedRow] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    known: int = 0
    forgotten: int = 0
    size_bytes: int = 0

    def take(
        self, page: Sequence[Entry], window: Window, is_forgotten: Callable[[str], bool]
    ) -> None:
        """Add a page of entries."""
        self.entry_ids += [entry.id.decode() for entry in page]
        self.size_bytes += sum(len(entry.payload) for entry in page)
        carried, none = unpacked(page)
        for entry, why in none:
            self._refuse(entry, why, is_forgotten)
        answers = decode_all([entry.payload for entry in carried], window)
        players = {answer.player for answer in answers if not isinstance(answer, Refused)}
        dropped = {player for player in players if is_forgotten(player)}
        events: list[Event] = []
        entry_ids: list[str] = []
        for entry, answer in zip(carried, answers, strict=True):
            if isinstance(answer, Refused):
                self._refuse(entry, answer, is_forgotten)
            elif answer.player in dropped:
                self.forgotten += 1
            elif answer.id.int in self.seen:
                self.known += 1
            else:
                self.seen.add(answer.id.int)
                events.append(answer)
                entry_ids.append(entry.id.decode())
        if events:
            self.events.append(parquet.of_events(events, entry_ids))

    def _refuse(self, entry: Entry, refused: Refused, is_forgotten: Callable[[str], bool]) -> None:
        player = player_in(entry.payload)
        if player is not None and is_forgotten(player):
            self.forgotten += 1
            return
        entry_id = entry.id.decode()
        self.refused.append(
            RefusedRow(
                entry_id,
                names.order(entry_id)[0],
                entry.form.name.lower(),
                refused.reason.value,
                refused.detail,
                entry.payload,
            )
        )


def _read(
    source: Stream,
    after: str,
    newest: str,
    max_events: int,
    retention_days: int,
    is_forgotten: Callable[[str], bool],
) -> _Batch:
    batch = _Batch()
    for page in source.walk_on(after, newest):
        # What was no older than retention when it came is an event, however late it is looked at.
        came_ms = min(names.order(page[0].id.decode())[0], _now_ms())
        window = Window(
            Window.at(came_ms, retention_days).oldest_ms,
            Window.at(_now_ms(), retention_days).newest_ms,
        )
        batch.take(page, window, is_forgotten)
        is_full = len(batch.seen) + len(batch.refused) >= max_events
        if is_full or batch.size_bytes >= MAX_BYTES:
            break
    return batch


# --- from rows to files


class _Known:
    """What a partition of the archive holds already, as far as it was asked for."""

    def __init__(self, storage: Storage, partition: int, made: int) -> None:
        self._shelf, self.partition = storage, partition
        # The newest manifest that is looked into, at least. The number of one that is gone is not given
        # again: whoever got it would remove the files that were named.
        self.number = max(made, names.newest(storage.names(names.folder(partition))))
        self._files: dict[str, File] = {}

    def fresh(self, kind: Kind, day: date, table: Any) -> Any:
        """The rows of a day that are in no file of it."""
        for file in self._near(kind, day, table):
            columns = ["id"] if kind == "events" else ["entry_id", "payload"]
            try:
                there = archives.table_of(self._shelf, file, columns)
            except Damaged as fault:
                _warn(fault)
                continue
            table = parquet.without_known(table, there)
            if not table.num_rows:
                break
        return table

    def _near(self, kind: Kind, day: date, table: Any) -> Iterator[File]:
        """The files that may hold some of these rows: ids are of a time, and so are few files."""
        column = "id" if kind == "events" else "entry_id"
        key: Callable[[str], Any] = str if kind == "events" else names.order
        first, last = (key(one) for one in parquet.ends(table, column))
        for path in self._shelf.names(names.file_folder(kind, day, self.partition)):
            file = self._file(path)
            if file is not None and key(file.first_id) <= last and key(file.last_id) >= first:
                yield file

    def _file(self, path: str) -> File | None:
        at = names.path_of(path)
        if path not in self._files:
            try:
                files = self._named(at, path)
            except Gone:  # it is being written, or was left by a process that was killed
                return None
            except Damaged as fault:
                _warn(fault)
                return None
            self._files |= {file.path: file for file in files}
        return self._files.get(path)

    def _named(self, at: str, path: str) -> tuple[File, ...]:
        """The files of a manifest; of one that is gone, what a file that it named says of itself."""
        try:
            return archives.manifest(self._shelf, at).files
        except Gone:
            if names.newest([at]) > self.number:
                raise
            return (archives.described(self._shelf, path)[0],)


def _warn(fault: Damaged) -> None:
    """Go on all the same: rows that are there twice do less harm than a stream that nobody may trim."""
    log.get("archive").warning("What is archived cannot be looked into", error=str(fault))


def _write(storage: Storage, batch: _Batch, known: _Known) -> tuple[File, ...] | None:
    """Write what is new of a batch; None where another has made a manifest meanwhile."""
    name = names.batch_name(known.number + 1)
    path = names.path(known.partition, name)
    rows: list[tuple[Kind, date, Any]] = [
        ("events", day, parquet.sorted_by_id(table))
        for day, table in parquet.by_day(parquet.together(batch.events))
    ]
    # What carries no events was refused before what it stood behind: a manifest says the first and the last.
    refused = sorted(batch.refused, key=lambda row: names.order(row.entry_id))
    rows += [("refused", day, table) for day, table in parquet.by_day(parquet.of_refused(refused))]
    put = [
        archives.put_table(storage, kind, day, path, known.fresh(kind, day, table))
        for kind, day, table in rows
    ]
    files = tuple(file for file in put if file is not None)
    if not files:
        return ()
    failpoint.reached("in_archive")
    made = Manifest(
        partition=known.partition,
        first_entry=batch.entry_ids[0],
        last_entry=batch.entry_ids[-1],
        entries=len(batch.entry_ids),
        made_at=datetime_of(_now_ms()),
        files=files,
    )
    is_ours = storage.create(path, names.encoded(made))
    failpoint.reached("in_archive")
    # Ours where another was first; where we were, what a killed run left, which had seen less of the batch.
    for file in files:
        there = storage.names(names.file_folder(file.kind, file.day, known.partition))
        archives.sweep(storage, [one for one in there if names.batch_of(one) == name])
    if not is_ours:
        return None
    known.number += 1
    return files


def _archived(batch: _Batch, files: Sequence[File]) -> Archived:
    events = sum(file.rows for file in files if file.kind == "events")
    return Archived(
        entries=len(batch.entry_ids),
        events=events,
        refused=sum(file.rows for file in files if file.kind == "refused"),
        known=batch.known + len(batch.seen) - events,
        forgotten=batch.forgotten,
        files=len(files),
    )


def _sum(one: Archived, other: Archived) -> Archived:
    return Archived(
        entries=one.entries + other.entries,
        events=one.events + other.events,
        refused=one.refused + other.refused,
        known=one.known + other.known,
        forgotten=one.forgotten + other.forgotten,
        files=one.files + other.files,
        is_complete=one.is_complete and other.is_complete,
    )
