"""Imports: a file of foreign records flows in, the events that they mean flow onto the stream.

Each record is judged before it is sent, by the rules of the consumers, so that what is refused is known here,
with its line. How far it came is written down after every chunk: broken off anywhere, the same import goes on
from there, and what was sent twice is dropped by the primary key, for a record always gives the same id.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, text

from jobs import records, tombstones
from jobs.backpressure import PATIENCE_S, wait_for_room
from jobs.mapping import Plan, payload_of
from jobs.progress import Progress, untold
from jobs.records import Contents, Row
from jobs.refusals import Refusals
from pipeline import failpoint, turn
from pipeline.entry import packed_up
from pipeline.event import Reason, Refused, Window, decode_all
from pipeline.streams import Streams
from pipeline.tombstone import player_in

CHUNK: Final = 1000
_CHUNK_BYTES: Final = 4 * 1024 * 1024
_EVENTS_AN_ENTRY: Final = 100
# Live events come first: what was sent and nobody has read yet is read in a second or so.
MOST_UNREAD: Final = 300
_SAMPLES: Final = 3

BEGIN: Final = text("""
insert into imports (sha256, name) values (:sha256, :name) on conflict (sha256) do nothing
""")
BEGIN_AGAIN: Final = text("""
update imports
set records = 0, sent = 0, refused = 0, refused_by_reason = '{}', started_at = now(),
    updated_at = now(), finished_at = null
where sha256 = :sha256
""")
FAR: Final = text("""
select records, sent, refused_by_reason, finished_at from imports where sha256 = :sha256
""")
NOTE: Final = text("""
update imports
set records = :records, sent = :sent, refused = :refused,
    refused_by_reason = cast(:refused_by_reason as jsonb), updated_at = now(),
    finished_at = case when :is_finished then now() end
where sha256 = :sha256
""")


class BeingImported(Exception):
    """Another process imports the same file."""


@dataclass(frozen=True)
class Imported:
    """What an import did, or would do, earlier runs of the same included."""

    # Records that were looked at: each was sent, refused, or is of a player who is forgotten.
    records: int
    sent: int
    refused: Mapping[str, int]
    # The first of each reason that this run met: the line, and why in words.
    samples: Mapping[str, Sequence[tuple[int, str]]]
    # The first event of this run.
    example: bytes | None
    # How many records earlier runs had done.
    began_at: int
    # When all of it had been done before; None where there was something to do.
    finished_at: datetime | None
    # Whether it came to the end of the file; else it was stopped before.
    is_complete: bool

    @property
    def forgotten(self) -> int:
        """Events of players who are forgotten: not sent."""
        return self.records - self.sent - sum(self.refused.values())


@dataclass
class _Books:
    """What was done so far."""

    records: int = 0
    sent: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    example: bytes | None = None

    def note(self, judged: _Judged) -> None:
        self.records += judged.records
        self.sent += len(judged.payloads)
        if self.example is None and judged.payloads:
            self.example = judged.payloads[0]
        for row, why in judged.refused:
            self.refused[why.reason.value] += 1
            kept = self.samples.setdefault(why.reason.value, [])
            if len(kept) < _SAMPLES:
                kept.append((row.line, why.detail))

    def closed(
        self, *, began_at: int = 0, finished_at: datetime | None = None, is_complete: bool
    ) -> Imported:
        return Imported(
            self.records, self.sent, dict(self.refused), self.samples, self.example,
            began_at, finished_at, is_complete,
        )  # fmt: skip


@dataclass(frozen=True)
class _Judged:
    """A chunk of records, sorted out."""

    records: int
    payloads: list[bytes]
    refused: list[tuple[Row, Refused]]


def import_file(
    engine: Engine,
    streams: Streams,
    path: Path,
    plan: Plan,
    retention_days: int,
    *,
    is_again: bool = False,
    refused_to: Path | None = None,
    stop: threading.Event | None = None,
    tell: Progress = untold,
    most_unread: int = MOST_UNREAD,
    patience_s: float = PATIENCE_S,
) -> Imported:
    """Send the events of a file that were not sent yet; ``is_again``: all of them.

    ``refused_to`` is a file that lists what was refused. Before each chunk it waits until at most
    ``most_unread`` entries are unread. Raises Unreadable, BadMapping, NotAList, BeingImported, NobodyReads.
    """
    stop = stop or threading.Event()
    what = _looked_at(path, plan)
    sha256 = hashlib.sha256(what.sha256 + plan.as_text().encode()).digest()
    its = {"sha256": sha256}
    with _alone(engine, path, sha256) as connection:
        with connection.begin():
            connection.execute(BEGIN, its | {"name": path.name})
            if is_again:
                connection.execute(BEGIN_AGAIN, its)
            done, sent, refused, finished_at = connection.execute(FAR, its).one()
        books = _Books(done, sent, Counter(refused))
        if finished_at is not None:
            return books.closed(began_at=done, finished_at=finished_at, is_complete=True)
        with connection.begin():
            is_forgotten = tombstones.read(connection)
        rows = records.rows(path)
        streams.note()
        with Refusals(refused_to, _skip(rows, done)) as refusals:
            for chunk in _chunks(rows):
                judged = _judge(chunk, plan, _window(retention_days), is_forgotten)
                wait_for_room(streams, most_unread, patience_s, stop)
                if stop.is_set():
                    break
                if judged.payloads:
                    streams.append_entries(packed_up(judged.payloads, _EVENTS_AN_ENTRY))
                refusals.add(judged.refused)
                failpoint.reached("in_import")
                books.note(judged)
                _note(connection, sha256, books, is_finished=False)
                tell(books.records, what.total)
            else:
                _note(connection, sha256, books, is_finished=True)
                return books.closed(began_at=done, is_complete=True)
    return books.closed(began_at=done, is_complete=False)


def rehearse(
    engine: Engine,
    path: Path,
    plan: Plan,
    retention_days: int,
    *,
    refused_to: Path | None = None,
    stop: threading.Event | None = None,
    tell: Progress = untold,
) -> Imported:
    """What an import of the whole file would send and refuse; changes nothing but ``refused_to``."""
    stop = stop or threading.Event()
    what, books = _looked_at(path, plan), _Books()
    with engine.connect() as connection, connection.begin():
        is_forgotten = tombstones.read(connection)
    with Refusals(refused_to, 0) as refusals:
        for chunk in _chunks(records.rows(path)):
            if stop.is_set():
                break
            judged = _judge(chunk, plan, _window(retention_days), is_forgotten)
            refusals.add(judged.refused)
            books.note(judged)
            tell(books.records, what.total)
        else:
            return books.closed(is_complete=True)
    return books.closed(is_complete=False)


@contextmanager
def _alone(engine: Engine, path: Path, sha256: bytes) -> Iterator[Connection]:
    """Be the only one that imports the file: two would do each other no harm, but the work twice."""
    with turn.taken(engine, int.from_bytes(sha256[:8], signed=True)) as is_ours:
        if not is_ours:
            raise BeingImported(
                f"{path} is being imported by another process: wait for that one, or stop it."
            )
        with engine.connect() as connection:
            yield connection


def _looked_at(path: Path, plan: Plan) -> Contents:
    """The file from outside, once it is known that it has the columns of the plan."""
    what = records.contents(path)
    plan.require(records.columns(path))
    return what


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    size_bytes = 0
    for row in rows:
        chunk.append(row)
        size_bytes += row.size_bytes
        if len(chunk) == CHUNK or size_bytes >= _CHUNK_BYTES:
            yield chunk
            chunk, size_bytes = [], 0
    if chunk:
        yield chunk


def _skip(rows: Iterator[Row], count: int) -> int:
    """Pass over what was done before; returns the last line of it."""
    line = 0
    for row in islice(rows, count):
        line = row.line
    return line


def _judge(
    chunk: Sequence[Row], plan: Plan, window: Window, is_forgotten: Callable[[str], bool]
) -> _Judged:
    payloads: list[bytes] = []
    meant: list[Row] = []
    refused: list[tuple[Row, Refused]] = []
    for row in chunk:
        try:
            payloads.append(_payload(row, plan))
            meant.append(row)
        except Refused as why:
            refused.append((row, why.with_traceback(None)))
    sent: list[bytes] = []
    for row, payload, answer in zip(meant, payloads, decode_all(payloads, window), strict=True):
        player = player_in(payload)
        if player is not None and is_forgotten(player):
            continue
        if isinstance(answer, Refused):
            refused.append((row, answer))
        else:
            sent.append(payload)
    return _Judged(len(chunk), sent, sorted(refused, key=lambda one: one[0].line))


def _payload(row: Row, plan: Plan) -> bytes:
    if row.record is None:
        raise row.refused or Refused(Reason.NOT_AN_OBJECT, "no record")
    try:
        return payload_of(row.record, plan)
    except RecursionError:
        raise Refused(Reason.TOO_DEEP, "nested too deep to be written") from None


def _note(connection: Connection, sha256: bytes, books: _Books, *, is_finished: bool) -> None:
    with connection.begin():
        connection.execute(
            NOTE,
            {
                "sha256": sha256,
                "records": books.records,
                "sent": books.sent,
                "refused": books.refused.total(),
                "refused_by_reason": json.dumps(books.refused),
                "is_finished": is_finished,
            },
        )


def _window(retention_days: int) -> Window:
    return Window.at(time.time_ns() // 1_000_000, retention_days)
