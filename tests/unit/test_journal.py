"""The journal: what was noted is read again, a kill costs its last line at most, and errors are told."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.event import Reason
from producer.journal import STORED, Ack, Journal, JournalError, Try, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal of the test is."""
    return tmp_path / "sender.journal"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """A new one."""
    with closing(Journal(path)) as made:
        yield made


def test_what_was_noted_is_read_again(journal: Journal, path: Path) -> None:
    """Every byte of every payload, empty and binary ones too, in the order in which they were noted."""
    odd = [b"", b"\0\n \xff", b'{"a": 1}', random.Random(1).randbytes(70_000)]
    journal.tried(b"one", odd[:2])
    journal.tried(b"two", odd[2:], Reason.NOT_JSON)
    journal.acknowledged(b"one")
    assert list(read(path)) == [
        Try(b"one", odd[0], STORED),
        Try(b"one", odd[1], STORED),
        Try(b"two", odd[2], "not_json"),
        Try(b"two", odd[3], "not_json"),
        Ack(b"one"),
    ]


def test_the_format_is_a_contract(journal: Journal, path: Path) -> None:
    """Others read these files: the lines are as they are written down."""
    journal.tried(b"t1", [b"abc"])
    journal.tried(b"t1", [b"abcd"], "bad_rank")
    journal.acknowledged(b"t1")
    assert path.read_bytes() == b"try t1 YWJj -\ntry t1 YWJjZA== bad_rank\nack t1\n"


def test_it_is_in_the_file_when_the_call_returns(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One write a parcel and nothing in a buffer of ours, which a kill would take along."""
    writes: list[bytes] = []
    write = os.write

    def counted(file: int, data: bytes) -> int:
        writes.append(data)
        return write(file, data)

    monkeypatch.setattr(os, "write", counted)
    journal.tried(b"t", [b"x" * 350] * 500)
    assert len(writes) == 1
    assert path.read_bytes() == writes[0]


def test_a_torn_last_line_is_passed_over(journal: Journal, path: Path) -> None:
    """Wherever a kill cut the last write off, what came before it is read, and nothing is made up."""
    journal.tried(b"t", [b"first"])
    whole = path.read_bytes()
    journal.tried(b"u", [b"second"])
    journal.acknowledged(b"u")
    written = path.read_bytes()
    lines = list(read(path))
    for end in range(len(whole), len(written)):
        path.write_bytes(written[:end])
        assert list(read(path)) == lines[: written[:end].count(b"\n")]


@pytest.mark.parametrize(
    "line",
    [
        b"try t YW",
        b"try t YWJj",
        b"try t YW!Jj -",
        b"ack",
        b"",
        b"tra t YWJj -",
        b"ack t u",
        b"\xff",
    ],
)
def test_a_torn_line_in_the_middle_is_an_error(path: Path, line: bytes) -> None:
    """A journal that cannot be trusted proves nothing: its reader is told the line."""
    path.write_bytes(b"ack s\n" + line + b"\nack u\n")
    with pytest.raises(JournalError, match=r"Line 2 of .*sender\.journal"):
        list(read(path))


def test_a_second_start_appends(path: Path) -> None:
    """What an earlier process noted in the same file stays."""
    for token in (b"a", b"b"):
        with closing(Journal(path)) as journal:
            journal.acknowledged(token)
    assert list(read(path)) == [Ack(b"a"), Ack(b"b")]


def test_a_file_with_a_torn_end_is_not_continued(path: Path) -> None:
    """Appending would put the torn line in the middle, and the whole file past reading."""
    path.write_bytes(b"ack a\ntry t YW")
    with pytest.raises(JournalError, match="name another file"):
        Journal(path)
    assert path.read_bytes() == b"ack a\ntry t YW"


@pytest.mark.parametrize("place", [".", "no/such/folder.journal"])
def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, place: str) -> None:
    """One sentence with the path and what to do."""
    with pytest.raises(JournalError, match=r"cannot be written \(.*name another file\.$"):
        Journal(tmp_path / place)


def test_a_full_disk_is_told() -> None:
    """The event must not be sent then, so whoever wrote has to hear of it."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full here")
    with closing(Journal(full)) as journal:
        with pytest.raises(JournalError, match="No space left"):
            journal.tried(b"t", [b"x"])
        with pytest.raises(JournalError, match="No space left"):
            journal.acknowledged(b"t")


def test_a_write_that_took_a_part_is_completed(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A nearly full disk takes what fits: the rest must follow, or fail loudly."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))
    journal.tried(b"t", [b"some bytes", b"and more"])
    assert [entry.payload for entry in read(path) if isinstance(entry, Try)] == [
        b"some bytes",
        b"and more",
    ]
