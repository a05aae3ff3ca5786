"""The journal: what a producer tries and what Redis confirmed flow in, an append-only file flows out.

A line of text for each event, written before it is first sent, and one for each parcel that Redis has:

    try <token> <base64 of the payload> <expected>
    ack <token>

``expected`` is what a consumer should make of it: ``-`` for an event, else the reason for refusing it.
A kill leaves a torn line at the end at worst, of a parcel that was never sent; readers pass over it.
"""

from __future__ import annotations

import os
from binascii import Error as NoBase64
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

# What a consumer should make of a payload that is an event: a row.
STORED: Final = "-"


class JournalError(Exception):
    """The journal cannot be written or read; says what to do."""


class Try(NamedTuple):
    """A payload that was about to be sent, or sent, any number of times."""

    token: bytes
    payload: bytes
    # ``STORED``, or the code of a reason.
    expected: str


class Ack(NamedTuple):
    """Redis has every payload that was tried under this token."""

    token: bytes


class Journal:
    """A file that only grows. What it was told is with the operating system when the call returns."""

    def __init__(self, path: Path) -> None:
        """Raises JournalError."""
        self._path = path
        try:
            # Appending, so that two producers may share a file: the kernel keeps each write whole.
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._failed(error) from error
        size_bytes = os.fstat(self._file).st_size
        if size_bytes and os.pread(self._file, 1, size_bytes - 1) != b"\n":
            self.close()
            raise JournalError(
                f"The journal {path} ends in a torn line, as a kill leaves it: name another file."
            )

    def tried(self, token: bytes, payloads: Iterable[bytes], expected: str = STORED) -> None:
        """Note a parcel before its first attempt. Raises JournalError: then do not send it."""
        end = expected.encode()
        self._append(
            b"".join(
                b"try %b %b %b\n" % (token, b2a_base64(payload, newline=False), end)
                for payload in payloads
            )
        )

    def acknowledged(self, token: bytes) -> None:
        """Note that Redis has a parcel. Noting it twice does no harm. Raises JournalError."""
        self._append(b"ack %b\n" % token)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _append(self, lines: bytes) -> None:
        try:
            # A disk that fills up takes a part, and refuses the rest at the next call.
            while lines:
                lines = lines[os.write(self._file, lines) :]
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> JournalError:
        return JournalError(
            f"The journal {self._path} cannot be written ({error.strerror}):"
            " make that possible, or name another file."
        )


def read(path: Path) -> Iterator[Try | Ack]:
    """What a journal says, in the order in which it happened.

    A torn last line is passed over; raises JournalError where another one cannot be read.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            yield _parsed(line[:-1], path, number)


def _parsed(line: bytes, path: Path, number: int) -> Try | Ack:
    match line.split(b" "):
        case [b"try", token, payload, expected]:
            try:
                return Try(token, a2b_base64(payload, strict_mode=True), expected.decode())
            except (NoBase64, UnicodeDecodeError):
                pass
        case [b"ack", token]:
            return Ack(token)
    raise JournalError(f"Line {number} of {path} is no journal's: it was torn or tampered with.")
