"""The trace of one event: its id flows in, where it is and how it got there flows out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Engine, text

from pipeline.event import MAX_AHEAD_MS, datetime_of
from pipeline.stream import Found, Stream
from pipeline.streams import Streams

FIND_EVENT: Final = text("select * from game_events where ts = :ts and id = :id")
# The id stands in the raw bytes as text, if it stands there at all; the quarantine is small.
FIND_QUARANTINED: Final = text("""
select * from quarantined_events where position(:id in raw) > 0 order by last_seen_at desc limit 1
""")


@dataclass(frozen=True)
class Trace:
    """Where an event is. At most one of ``row`` and ``quarantined`` is set, unless it came twice."""

    id: UUID
    # The time in the id; None when it is no UUIDv7, or past the calendar's end.
    at: datetime | None
    row: dict[str, Any] | None
    quarantined: dict[str, Any] | None
    # Its entry, if it is still on a stream, and on which.
    entry: Found | None
    stream: str | None = None
    # Streams that are away, and why, where it was not found on another.
    away: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_found(self) -> bool:
        """Whether it is anywhere."""
        return bool(self.row or self.quarantined or self.entry)


def trace(streams: Streams, engine: Engine, event_id: UUID) -> Trace:
    """Look for an event in the table, the quarantine and the streams, in that order."""
    at = _time_in(event_id)
    with engine.connect() as connection:
        row = connection.execute(FIND_EVENT, {"ts": at, "id": event_id}).mappings().one_or_none()
        refused = (
            connection.execute(FIND_QUARANTINED, {"id": str(event_id).encode()})
            .mappings()
            .one_or_none()
        )
    # A producer's clock may run ahead of the stream's by as much as is tolerated.
    since_ms = 0 if at is None else (event_id.int >> 80) - MAX_AHEAD_MS
    entry, key, away = _find(streams, str(event_id).encode(), since_ms)
    return Trace(
        event_id,
        at,
        dict(row) if row else None,
        dict(refused) if refused else None,
        entry,
        key,
        away,
    )


def _find(
    streams: Streams, needle: bytes, since_ms: int
) -> tuple[Found | None, str | None, dict[str, str]]:
    """The entry, the key of its stream, and what was away while it was looked for.

    Raises what redis-py raises where all streams are away.
    """
    found: dict[str, Found] = {}

    def look(source: Stream) -> None:
        entry = None if found else source.find(needle, since_ms=since_ms)
        if entry is not None:
            found[source.key] = entry

    answers = streams.look_and_ask(look)
    answers.some()
    if not found:
        return None, None, answers.reasons
    ((key, entry),) = found.items()
    return entry, key, {}


def _time_in(event_id: UUID) -> datetime | None:
    if event_id.version != 7:
        return None
    try:
        return datetime_of(event_id.int >> 80)
    except (OverflowError, ValueError, OSError):
        return None
