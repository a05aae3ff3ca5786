"""Release: quarantined entries flow in, their bytes flow onto the stream once more.

They come through the same door as live events and are judged anew: what is an event now becomes a row,
what is still none comes back to its row of the quarantine, whose key is made of the same bytes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Engine, text

from pipeline import failpoint
from pipeline.entry import Form
from pipeline.event import Reason
from pipeline.stream import Stream

# Few at once: each may hold a megabyte.
_CHUNK: Final = 50

# A release that is frozen with rows in its hands would keep consumers waiting that bring those bytes
# again: the server takes the rows away from it.
LIMIT_IDLE: Final = text("set local idle_in_transaction_session_timeout = '15s'")
# Past the last key, so that what comes back at once is not sent out again by the same run. Skipped, not
# waited for: what is locked is in the hands of another release, or of a consumer that brings it again.
TAKE: Final = text("""
select sha256, raw, reason from quarantined_events
where released_at is null and sha256 > :after
  and reason <> :not_ours and size_bytes = length(raw)
  and (cast(:reason as text) is null or reason = :reason)
order by sha256 limit :count for update skip locked
""")
MARK: Final = text("update quarantined_events set released_at = now() where sha256 = any(:keys)")
COUNT_STUCK: Final = text("""
select count(*) filter (where reason = :not_ours),
       count(*) filter (where reason <> :not_ours and size_bytes <> length(raw))
from quarantined_events
where released_at is null and (cast(:reason as text) is null or reason = :reason)
""")


@dataclass(frozen=True)
class Released:
    """What a release did."""

    entries: int
    # Foreign entries: their raw is all fields of an entry, not bytes that stood in one.
    foreign: int
    # Larger than what the quarantine keeps: the rest of the bytes is gone.
    cut: int
    # Whether it came to the end, or to its limit; else it was stopped before.
    is_complete: bool


def release(
    engine: Engine,
    source: Stream,
    *,
    reason: Reason | None = None,
    limit: int | None = None,
    stop: threading.Event | None = None,
) -> Released:
    """Append what the quarantine holds whole and was not released yet, and mark it as released.

    ``reason`` and ``limit`` choose some of it. Several at once share the work. After a crash between
    appending and marking, the next release appends the same again, which is harmless: the second copy of
    an event is dropped by the primary key, and the second copy of anything else counts once more in the
    same row of the quarantine.
    """
    chosen = {
        "reason": None if reason is None else reason.value,
        "not_ours": Reason.NOT_AN_EVENT_ENTRY.value,
    }
    sent, after, is_complete = 0, b"", True
    with engine.connect() as connection:
        with connection.begin():
            foreign, cut = connection.execute(COUNT_STUCK, chosen).one()
        while True:
            if stop is not None and stop.is_set():
                is_complete = False
                break
            count = _CHUNK if limit is None else min(_CHUNK, limit - sent)
            keys = _send_some(connection, source, chosen | {"after": after, "count": count})
            if not keys:
                break
            sent, after = sent + len(keys), keys[-1]
    return Released(sent, foreign, cut, is_complete)


def _send_some(connection: Connection, source: Stream, chosen: dict[str, object]) -> list[bytes]:
    """Append and mark a chunk in one transaction; returns its keys.

    The rows stay locked from the look to the mark, so that a consumer which refuses the same bytes again
    writes its verdict after the mark, never under it.
    """
    with connection.begin():
        connection.execute(LIMIT_IDLE)
        taken = connection.execute(TAKE, chosen).all()
        keys = [bytes(key) for key, _, _ in taken]
        if keys:
            source.append_entries([(_form(reason), bytes(raw)) for _, raw, reason in taken])
            failpoint.reached("in_release")
            connection.execute(MARK, {"keys": keys})
    return keys


def _form(reason: str) -> Form:
    """What the bytes were: an array that could not be taken apart was refused whole, for that reason."""
    return Form.EVENTS if reason == Reason.BAD_ARRAY else Form.EVENT
