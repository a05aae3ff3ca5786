"""The shelf: a page flows in, a file beside its predecessors flows out, whole or not at all.

``report-2026-11-28T043000Z.html`` is that of a moment, ``latest.html`` a copy of the newest. So many are
kept; of whatever else is in the folder nothing is touched.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

LATEST: Final = "latest.html"
_OURS: Final = re.compile(r"report-\d{4}-\d{2}-\d{2}T\d{6}Z\.html")
# What is being written; one as old as this is of a process that was killed.
_PART: Final = ".report-{}.part"
_LOST_AFTER_S: Final = 3600.0


class CannotWrite(Exception):
    """The folder takes no page."""


def prepare(folder: Path) -> None:
    """See to it that there is such a folder: before a page is made, rather than after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise CannotWrite(f"No report can be written to {folder}: it is no folder.") from None
    except OSError as error:
        raise _cannot(folder, error) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CannotWrite(f"No report can be written to {folder}: it is not ours to write to.")


def put(folder: Path, page: str, made_at: datetime, keep: int) -> Path:
    """Put a page into the folder, take the oldest away until so many are left, and say where it is.

    Raises CannotWrite, and then what was there before is there still.
    """
    prepare(folder)
    path = folder / f"report-{made_at:%Y-%m-%dT%H%M%SZ}.html"
    try:
        for name in (path.name, LATEST):
            _write(folder, name, page)
    except OSError as error:
        raise _cannot(folder, error) from None
    _clear(folder, keep, path)
    return path


def _write(folder: Path, name: str, page: str) -> None:
    part = folder / _PART.format(uuid.uuid4().hex)
    try:
        with part.open("x", encoding="utf-8", newline="\n") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / name)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def _clear(folder: Path, keep: int, newest: Path) -> None:
    """Take old reports, and what a killed process left, away; what cannot be is for the next time."""
    with suppress(OSError):
        ours = sorted(path for path in folder.iterdir() if _OURS.fullmatch(path.name))
        old = [path for path in ours[: max(0, len(ours) - keep)] if path != newest]
        lost = [
            path
            for path in folder.glob(_PART.format("*"))
            if time.time() - path.stat().st_mtime > _LOST_AFTER_S
        ]
        for path in (*old, *lost):
            with suppress(OSError):
                path.unlink()


def _cannot(folder: Path, error: OSError) -> CannotWrite:
    return CannotWrite(f"No report can be written to {folder}: {error.strerror or error}.")
