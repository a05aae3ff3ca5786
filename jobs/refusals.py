"""The list of refusals: refused rows of an import flow in, a file of JSON lines flows out.

Each line says where the record stands, why it was refused, and what it is, so that it can be put right and
imported. An import that goes on where it was broken off goes on with the list as well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from jobs.records import Row
from pipeline.event import Refused

_KEYS: Final = {"line", "reason", "detail", "record"}


class NotAList(Exception):
    """The file is something else, which is not written over."""


class Refusals:
    """The list, open to be added to; no file at all where no path is given."""

    def __init__(self, path: Path | None, keep_to: int) -> None:
        """``keep_to``: what an earlier run wrote of lines after this one is dropped, for it comes again.

        Raises NotAList.
        """
        kept = [] if path is None else [one for one in _read(path) if int(one["line"]) <= keep_to]
        self._file = None if path is None else path.open("w", encoding="utf-8")
        for one in kept:
            self._write(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, refused: Sequence[tuple[Row, Refused]]) -> None:
        """Add some, and see that they are in the file."""
        if self._file is None:
            return
        for row, why in refused:
            shown = row.text if row.record is None else dict(row.record)
            self._write(
                {"line": row.line, "reason": why.reason, "detail": why.detail, "record": shown}
            )
        self._file.flush()

    def _write(self, one: object) -> None:
        if self._file is not None:
            self._file.write(json.dumps(one, default=str) + "\n")


def _read(path: Path) -> list[dict[str, int]]:
    """What a list holds already; a last line that was cut is left out."""
    if not path.exists():
        return []
    found: list[dict[str, int]] = []
    is_cut = False
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                one = json.loads(line)
            except ValueError:
                one = None
            is_ours = isinstance(one, dict) and set(one) == _KEYS and type(one["line"]) is int
            if is_cut or (not is_ours and line.endswith("\n")):
                raise NotAList(
                    f"{path} is there already and is no list of refused records: name another file."
                )
            is_cut = not is_ours
            if is_ours:
                found.append(one)
    return found
