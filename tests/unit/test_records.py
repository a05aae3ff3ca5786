"""Files of foreign data: what is read out of them, and what of files that are none."""

from __future__ import annotations

import csv
import gzip
import json
import random
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.records import MAX_LINE_BYTES, Row, Unreadable, columns, contents, rows
from jobs.refusals import NotAList, Refusals
from pipeline.event import Reason, Refused

RECORDS = [{"a": "1", "b": 'x, "y"\nz'}, {"a": "2", "b": "é"}, {"a": "3", "b": ""}]


def file_of(folder: Path, name: str, data: bytes) -> Path:
    """A file with these bytes."""
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def csv_of(records: list[dict[str, str]], folder: Path) -> bytes:
    """Records as CSV, as Python writes it: with CRLF."""
    path = folder / "made.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
    return path.read_bytes()


def read(path: Path) -> list[object]:
    """The records, and the reasons in the place of those that are none."""
    return [row.record or (row.refused and row.refused.reason) for row in rows(path)]


def test_json_lines_are_read_with_their_lines(tmp_path: Path) -> None:
    """A mark at the beginning, CRLF and empty lines are no part of a record, and keep their count."""
    data = b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"b": "\xc3\xa9"}\n  \n{"c": 3}'
    for name in ("x.jsonl", "x.NDJSON", "x.jsonl.gz"):
        path = file_of(tmp_path, name, data)
        assert [(row.line, row.record) for row in rows(path)] == [
            (1, {"a": 1}), (3, {"b": "é"}), (5, {"c": 3}),
        ]  # fmt: skip
        assert columns(path) == ["a", "b", "c"]
    assert contents(file_of(tmp_path, "x.jsonl", data)).total == 4


def test_a_line_that_is_no_record_is_refused_and_the_next_is_read(tmp_path: Path) -> None:
    """One bad line in a million is told, and costs itself only."""
    bad = [
        b"{", b"[1]", b"7", b'{"a": "\xff"}', b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}",
        b'{"a": "' + b"x" * MAX_LINE_BYTES + b'"}',
    ]  # fmt: skip
    path = file_of(tmp_path, "x.jsonl", b'{"ok": 1}\n'.join([one + b"\n" for one in bad]))
    wanted: list[object] = [
        Reason.NOT_JSON, Reason.NOT_AN_OBJECT, Reason.NOT_AN_OBJECT, Reason.BAD_TEXT,
        Reason.TOO_DEEP, Reason.OUT_OF_RANGE, Reason.TOO_LARGE,
    ]  # fmt: skip
    found = read(path)
    assert found[::2] == wanted
    assert found[1::2] == [{"ok": 1}] * 6
    assert [row.line for row in rows(path)] == list(range(1, 14))


def test_a_torn_last_line_is_told_as_such(tmp_path: Path) -> None:
    """A file that was cut ends in the middle of a record: that one is refused, with what may be the cause."""
    *_, last = rows(file_of(tmp_path, "x.jsonl", b'{"a": 1}\n{"a": '))
    assert last.refused is not None
    assert last.refused.detail.endswith("the line has no end, so the file may be cut")
    assert (last.line, last.text) == (2, '{"a": ')


def test_csv_is_read_by_its_first_line(tmp_path: Path) -> None:
    """Quotes, commas and line ends within a cell, CRLF, a mark at the beginning; an empty cell is null."""
    data = csv_of(RECORDS, tmp_path)
    assert b"\r\n" in data
    wanted = [{**record, "b": record["b"] or None} for record in RECORDS]
    for name, raw in (("x.csv", data), ("y.csv", b"\xef\xbb\xbf" + data), ("x.csv.gz", data)):
        path = file_of(tmp_path, name, raw)
        assert columns(path) == ["a", "b"]
        assert read(path) == wanted
    assert [row.line for row in rows(tmp_path / "x.csv")] == [2, 4, 5]


def test_a_row_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """Too few cells, too many, an open quote, bytes that are no text; the rows around them are read."""
    data = (
        b'a,b\n1,2\n3\n\n1,2,3\n"x"y,2\n\xff,2\n5,6\n'
        + b"x" * (MAX_LINE_BYTES + 1)
        + b'\n7,8\n"9,\n'
    )
    path = file_of(tmp_path, "x.csv", data)
    bad = Reason.NOT_AN_OBJECT
    assert read(path) == [
        {"a": "1", "b": "2"}, bad, bad, bad, Reason.BAD_TEXT, {"a": "5", "b": "6"},
        Reason.TOO_LARGE, {"a": "7", "b": "8"}, bad,
    ]  # fmt: skip
    assert [row.line for row in rows(path)] == [2, 3, 5, 6, 7, 8, 9, 10, 11]


def test_parquet_keeps_its_kinds(tmp_path: Path) -> None:
    """Numbers stay numbers and times stay times, also those of nanoseconds, which Python has no word for."""
    at = datetime(2025, 11, 24, 16, 0, 0, 123_456, tzinfo=UTC)
    nanos = pa.array([1_764_000_000_123_456_789], pa.timestamp("ns", "UTC"))
    table = pa.table({"n": [5], "f": [None], "at": [at], "ns": nanos, "s": [{"x": [1]}]})
    path = tmp_path / "x.parquet"
    pq.write_table(table, path)
    (row,) = rows(path)
    assert row.record == {"n": 5, "f": None, "at": at, "ns": at, "s": {"x": [1]}}
    assert (row.line, columns(path), contents(path).total) == (1, ["n", "f", "at", "ns", "s"], 1)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.txt", b"a", "does not say what it is: end it with .jsonl"),
        ("x.parquet.gz", b"a", "does not say what it is"),
        ("x.csv", b"", "is empty: there is nothing to import"),
        ("x.csv", b"\n\n", "a first line that names no columns"),
        ("x.csv", b"\xff\n1\n", "names no columns: not UTF-8"),
        ("x.csv", b'"a\n', "names no columns: unexpected end of data"),
        ("x.csv", b"a,b,a\n1,2,3\n", "two columns called 'a'"),
        ("x.jsonl", '{"a": 1}'.encode("utf-16"), "UTF-16 text: save it as UTF-8"),
        ("x.parquet", b"PAR1 no", "cut or damaged, or no Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    """One sentence that says what is wrong with it."""
    path = file_of(tmp_path, name, data)
    with pytest.raises(Unreadable, match=words) as caught:
        (contents(path), columns(path), list(rows(path)))
    assert str(caught.value).endswith(".")


def test_a_packed_file_that_was_cut_is_told_after_what_it_holds(tmp_path: Path) -> None:
    """What can be unpacked is read; the end is no end of the file."""
    lines = b"".join(b'{"a": %d}\n' % random.randrange(10**9) for _ in range(20_000))
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(lines)[:-1000])
    found: list[Row] = []
    with pytest.raises(Unreadable, match="cut or damaged, and cannot be unpacked"):
        found.extend(rows(path))
    whole = gzip.compress(lines)
    path.write_bytes(whole[:1000] + b"\xff" * 50 + whole[1050:])
    with pytest.raises(Unreadable, match="cut or damaged"):
        found.extend(rows(path))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Thirty megabytes of each kind are read in a few."""
    path, parquet = tmp_path / "x.jsonl", tmp_path / "x.parquet"
    record = {"a": "x" * 1000}
    with path.open("w") as file:
        file.writelines(json.dumps(record) + "\n" for _ in range(30_000))
    table = pa.table({"a": [f"{number:01000d}" for number in range(30_000)]})
    pq.write_table(table, parquet, compression="none")
    del table
    for file_path in (path, parquet):
        list(zip(rows(file_path), range(2), strict=False))  # what is imported stays
        tracemalloc.start()
        arrow = 0
        for number, _ in enumerate(rows(file_path)):
            arrow = max(arrow, 0 if number % 500 else pa.total_allocated_bytes())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert number == 29_999
        assert peak + arrow < 12_000_000, file_path


# --- the list of what was refused


def refusal(line: int) -> tuple[Row, Refused]:
    """A row that was refused."""
    return Row(line, {"a": datetime(2025, 1, 1, tzinfo=UTC)}), Refused(Reason.BAD_TS, "no time")


def lines_of(path: Path) -> list[int]:
    """The lines that a list names."""
    return [json.loads(line)["line"] for line in path.read_text().splitlines()]


def test_a_list_goes_on_where_the_import_does(tmp_path: Path) -> None:
    """What comes again is not listed twice, and a line that a kill has cut is made anew."""
    path = tmp_path / "bad.jsonl"
    with Refusals(path, 0) as refusals:
        refusals.add([refusal(line) for line in (1, 3, 5)])
    path.write_text(path.read_text() + '{"line": 7, "rea')
    with Refusals(path, 3) as refusals:
        refusals.add([refusal(5)])
    assert lines_of(path) == [1, 3, 5]
    with Refusals(path, 0) as refusals:
        refusals.add([refusal(2)])
    assert lines_of(path) == [2]


@pytest.mark.parametrize("other", ['{"line": 1}\n', "a,b\n", "\n", '{"line": 1, \n{}\n', "[1"])
def test_another_file_is_not_written_over(tmp_path: Path, other: str) -> None:
    """A typing error must not cost a person a file."""
    path = tmp_path / "precious.csv"
    path.write_text(other)
    if other == "[1":  # may be our own first line, cut: there is nothing in it to be lost
        Refusals(path, 0).__exit__(None, None, None)
        return
    with pytest.raises(NotAList, match="is there already and is no list"):
        Refusals(path, 0)
    assert path.read_text() == other


def test_a_time_that_python_has_no_room_for_costs_its_row_only(tmp_path: Path) -> None:
    """Parquet counts on where the calendar ends: that row is refused, and the others are read."""
    path = tmp_path / "x.parquet"
    times = pa.array([0, 2**62, 1_000_000], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"ts": times, "n": [1, 2, 3]}), path)
    found = list(rows(path))
    assert [row.line for row in found] == [1, 2, 3]
    assert [row.record and row.record["n"] for row in found] == [1, None, 3]
    assert [row.refused.reason for row in found if row.refused] == [Reason.OUT_OF_RANGE]
