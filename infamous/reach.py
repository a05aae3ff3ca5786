"""Reach: how far back stream and archive go flows in, a sentence for who asked for more flows out. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pipeline.event import datetime_of


@dataclass(frozen=True)
class Reach:
    """What there is to be sent again."""

    # Whether the archive was asked, else the stream.
    is_of_archive: bool
    # When the first and the last entry that are there were added, in Unix milliseconds.
    stream: tuple[int, int] | None
    # Whether anything was ever removed from the stream.
    is_trimmed: bool
    # When the first and the last event in the archive happened; None where nothing is, or nobody asked.
    archive: tuple[datetime, datetime] | None


def note(reach: Reach, from_ms: int, *, is_empty: bool) -> str | None:
    """What is there, where nothing was found, or where what was asked for begins before it."""
    if is_empty:
        return f"There was nothing to send: {_stream(reach)}; {_archive(reach)}."
    if reach.stream is None or reach.is_of_archive or not reach.is_trimmed:
        return None
    if from_ms < reach.stream[0]:
        return (
            f"The stream reaches back to {_moment(reach.stream[0])}: what was added before is in the archive,"
            " where there is one (--source archive)."
        )
    return None


def _stream(reach: Reach) -> str:
    if reach.stream is None:
        return "the stream is empty"
    first_ms, last_ms = reach.stream
    return f"the stream holds what was added from {_moment(first_ms)} to {_moment(last_ms)}"


def _archive(reach: Reach) -> str:
    if reach.archive is None:
        return "nothing is archived"
    first, last = reach.archive
    return f"the archive holds events from {_written(first)} to {_written(last)}"


def _moment(ms: int) -> str:
    try:
        return _written(datetime_of(ms))
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
