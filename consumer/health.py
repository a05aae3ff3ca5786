"""Health: what a consumer sees of itself and of the stream flows in, columns of a table flow out.

What a batch did to the tables is counted by the transaction that did it; these are the other facts.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from pipeline.event import datetime_of
from pipeline.stream import StreamState


@dataclass(frozen=True)
class Seen:
    """The stream as it was looked at."""

    seen_at: datetime | None = None
    added: int | None = None
    undelivered: int | None = None
    pending: int | None = None
    oldest_waiting_at: datetime | None = None
    complete_to: datetime | None = None

    @classmethod
    def of(cls, state: StreamState) -> Seen:
        """The columns for a state of the stream."""
        oldest_ms = state.oldest_waiting_ms
        return cls(
            seen_at=datetime_of(state.at_ms),
            added=state.added,
            undelivered=state.undelivered,
            pending=state.pending,
            oldest_waiting_at=None if oldest_ms is None else datetime_of(oldest_ms),
            complete_to=datetime_of(state.complete_to_ms),
        )


@dataclass(frozen=True)
class Notes:
    """A consumer's row of a minute, beside the counts of its batches.

    These are sums of the whole minute so far, so that writing them again changes nothing.
    """

    # Unix seconds at which the minute began, by the consumer's clock.
    minute_s: int = field(default_factory=lambda: this_minute_s())
    batch_rows_max: int = 0
    batch_s_sum: float = 0.0
    batch_s_max: float = 0.0
    # Of the last minute or so; None when nothing was stored.
    age_p50_s: float | None = None
    age_p95_s: float | None = None
    age_p99_s: float | None = None
    claimed: int = 0
    groups_made: int = 0
    lost: int = 0
    waited_redis_s: float = 0.0
    waited_postgres_s: float = 0.0
    is_flooded: bool = False
    seen: Seen = Seen()

    def columns(self) -> dict[str, Any]:
        """Names and values of the columns."""
        flat = asdict(self)
        seen: dict[str, Any] = flat.pop("seen")
        minute = datetime_of(flat.pop("minute_s") * 1000)
        return flat | seen | {"minute": minute}


def this_minute_s() -> int:
    """When the present minute began, in Unix seconds."""
    now_s = int(time.time())
    return now_s - now_s % 60
