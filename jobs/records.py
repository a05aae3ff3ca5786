"""Records: a file of foreign data flows in, its records flow out one by one, with the lines they stand on.

JSON lines, CSV with a header, or Parquet, by the file's name; the first two may be packed with gzip. What is
no record flows out as well, with what it is refused for. However large the file, little of it is in memory.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, cast

from jobs.mapping import Record
from pipeline.event import Reason, Refused

# A longer line is no event of ours, whatever it holds.
MAX_LINE_BYTES: Final = 1024 * 1024
_BATCH: Final = 1000
_PIECE_BYTES: Final = 1024 * 1024
_KINDS: Final = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


class Unreadable(Exception):
    """The file cannot be read as what its name says it is."""


@dataclass(frozen=True)
class Row:
    """One record, or what should have been one."""

    # The line it begins on; of a Parquet file, the row. Both are counted from 1.
    line: int
    # None where it was refused.
    record: Record | None
    refused: Refused | None = None
    # What stands there, where it was refused.
    text: str = ""
    size_bytes: int = 0


@dataclass(frozen=True)
class Contents:
    """What a file is, looked at from outside."""

    sha256: bytes
    # About how many records; None where only reading them tells.
    total: int | None


def contents(path: Path) -> Contents:
    """Read a file through once for its hash. Raises Unreadable where it is empty or of no known kind."""
    kind, sha256, lines = _kind(path), hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            sha256.update(piece)
            lines += piece.count(b"\n")
    if path.stat().st_size == 0:
        raise Unreadable(f"{path} is empty: there is nothing to import.")
    if kind == "parquet":
        with _parquet(path) as table:
            return Contents(sha256.digest(), table.metadata.num_rows)
    total = None if path.suffix.lower() == ".gz" else lines - (kind == "csv")
    return Contents(sha256.digest(), total)


def columns(path: Path) -> list[str]:
    """The names of the columns; of JSON lines, those in the first thousand records. Raises Unreadable."""
    kind = _kind(path)
    if kind == "parquet":
        with _parquet(path) as table:
            return list(table.schema_arrow.names)
    if kind == "csv":
        with _opened(path) as file:
            return _header(path, _Lines(file))
    first = islice(rows(path), _BATCH)
    return list(dict.fromkeys(name for row in first for name in row.record or ()))


def rows(path: Path) -> Iterator[Row]:
    """The records in the file's order. Raises Unreadable, perhaps in the middle."""
    kind = _kind(path)
    if kind == "parquet":
        yield from _parquet_rows(path)
        return
    with _opened(path) as file:
        yield from _csv_rows(path, file) if kind == "csv" else _json_rows(file)


def _kind(path: Path) -> str:
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    kind = _KINDS.get(name.suffix.lower())
    if kind is None or (kind == "parquet" and name != path):
        raise Unreadable(
            f"{path} has a name that does not say what it is: end it with .jsonl, .ndjson, .csv, .parquet,"
            " or with .gz behind one of the first three."
        )
    return kind


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file, unpacked where it is packed, and without the mark at its beginning."""
    is_packed = path.suffix.lower() == ".gz"
    try:
        with cast("IO[bytes]", gzip.open(path)) if is_packed else path.open("rb") as file:
            start = file.read(len(_UTF8_MARK))
            if start[:2] in _UTF16_MARKS:
                raise Unreadable(f"{path} is UTF-16 text: save it as UTF-8.")
            if start != _UTF8_MARK:
                file.seek(0)
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Unreadable(f"{path} is cut or damaged, and cannot be unpacked: {error}.") from None


class _Lines:
    """The lines of a file as text, one at a time; what is none is refused, and the next is another."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.number = 0
        self.size_bytes = 0
        # Whether the last line had no end.
        self.is_torn = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(MAX_LINE_BYTES + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self.size_bytes = size_bytes = len(line)
        while not line.endswith(b"\n") and len(line) > MAX_LINE_BYTES:
            line = self._file.readline(MAX_LINE_BYTES + 1)
            size_bytes += len(line)
        if size_bytes > MAX_LINE_BYTES:
            raise Refused(Reason.TOO_LARGE, f"{size_bytes} bytes, at most {MAX_LINE_BYTES}")
        self.is_torn = not line.endswith(b"\n")
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            detail = f"not UTF-8: {error.reason} at byte {error.start}"
            raise Refused(Reason.BAD_TEXT, detail) from None


def _json_rows(file: IO[bytes]) -> Iterator[Row]:
    lines = _Lines(file)
    while True:
        text = ""
        try:
            text = next(lines)
            if not text.strip():
                continue
            record = _json_record(text, is_torn=lines.is_torn)
        except StopIteration:
            return
        except Refused as refused:
            yield Row(lines.number, None, refused.with_traceback(None), text, lines.size_bytes)
        else:
            yield Row(lines.number, record, size_bytes=lines.size_bytes)


def _json_record(text: str, *, is_torn: bool) -> Record:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        torn = "; the line has no end, so the file may be cut" if is_torn else ""
        raise Refused(Reason.NOT_JSON, f"{error.msg} at character {error.pos}{torn}") from None
    except RecursionError:
        raise Refused(Reason.TOO_DEEP, "nested too deep to be read") from None
    except ValueError:  # Python's own bound on the digits of an integer
        raise Refused(Reason.OUT_OF_RANGE, "an integer has thousands of digits") from None
    if not isinstance(value, dict):
        raise Refused(Reason.NOT_AN_OBJECT, "JSON, but not an object")
    return cast("Record", value)


def _header(path: Path, lines: _Lines) -> list[str]:
    try:
        names = next(csv.reader(lines, strict=True), [])
    except (Refused, csv.Error) as error:
        said = error.detail if isinstance(error, Refused) else str(error)
        raise Unreadable(f"{path} has a first line that names no columns: {said}.") from None
    if not any(names):
        raise Unreadable(f"{path} has a first line that names no columns.")
    return _once(path, names)


def _once(path: Path, names: list[str]) -> list[str]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Unreadable(f"{path} has two columns called {twice!r:.60}: rename one of them.")
    return names


def _csv_rows(path: Path, file: IO[bytes]) -> Iterator[Row]:
    lines = _Lines(file)
    names = _header(path, lines)
    reader = csv.reader(lines, strict=True)
    while True:
        line = lines.number + 1
        cells: list[str] = []
        try:
            cells = next(reader)
            if not cells:
                continue
            record = _csv_record(names, cells)
        except StopIteration:
            return
        except Refused as refused:
            text = ",".join(cells)
            yield Row(line, None, refused.with_traceback(None), text, lines.size_bytes)
        except csv.Error as error:
            yield Row(line, None, Refused(Reason.NOT_AN_OBJECT, f"no row of CSV: {error}"))
        else:
            yield Row(line, record, size_bytes=sum(map(len, cells)))


def _csv_record(names: list[str], cells: list[str]) -> Record:
    if len(cells) != len(names):
        detail = f"{len(cells)} cells, the first line names {len(names)} columns"
        raise Refused(Reason.NOT_AN_OBJECT, detail)
    return {name: cell or None for name, cell in zip(names, cells, strict=True)}


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    # Half a second, and 60 MB: only where there is such a file.
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        # By the piece; else a row group, which may be the whole file, is read at once.
        with pq.ParquetFile(path, buffer_size=_PIECE_BYTES, pre_buffer=False) as table:
            _once(path, list(table.schema_arrow.names))
            yield table
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise  # the file cannot be opened at all
        said = str(error).splitlines()[0].rstrip(".")
        raise Unreadable(f"{path} is cut or damaged, or no Parquet file: {said:.200}.") from None


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa  # noqa: PLC0415

    with _parquet(path) as table:
        line = 0
        for batch in table.iter_batches(batch_size=_BATCH):
            # Nanoseconds have no place in a Python time, and events count milliseconds.
            plain = [
                column.cast(pa.timestamp("us", column.type.tz), safe=False)
                if pa.types.is_timestamp(column.type) and column.type.unit == "ns"
                else column
                for column in batch.columns
            ]
            size_bytes = batch.nbytes // max(1, batch.num_rows)
            for record in _plain_records(
                pa.RecordBatch.from_arrays(plain, names=batch.schema.names)
            ):
                line += 1
                if isinstance(record, Refused):
                    yield Row(line, None, record, size_bytes=size_bytes)
                else:
                    yield Row(line, record, size_bytes=size_bytes)


def _plain_records(batch: Any) -> list[Record | Refused]:
    """The rows as Python's values; a row with one that Python has no room for is refused, and no other."""
    try:
        return cast("list[Record | Refused]", batch.to_pylist())
    except (ValueError, OverflowError) as error:  # a time past the calendar, text that is none
        if batch.num_rows == 1:
            return [Refused(Reason.OUT_OF_RANGE, f"a value cannot be read: {error}"[:200])]
    return [one for row in range(batch.num_rows) for one in _plain_records(batch.slice(row, 1))]
