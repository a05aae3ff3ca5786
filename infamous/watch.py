"""Watching the pipeline: both servers flow in, a glimpse of it now and then flows out.

A server that is away, or hangs, is part of the picture, not an error. Counting the rows of a large table
takes a while: it is done so rarely that it takes a twentieth of the time at most.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import redis
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from infamous.status import COUNT_ROWS, QUARANTINED
from pipeline.patience import first_line
from pipeline.stream import StreamState
from pipeline.streams import Streams

# Long enough that a second more or less at its edges does not show.
RATE_WINDOW_S: Final = 30.0
_COUNT_SHARE: Final = 20
_COUNT_PAUSE_S: Final = 30.0
# A look that takes longer than this is broken off; the stop of the whole pipeline waits for it.
LIMIT_LOOK: Final = text("set local statement_timeout = '3s'; set local lock_timeout = '1s'")
_QUERY_CANCELED: Final = "57014"
# For tables too large to count within a look; autovacuum keeps it fresh.
ESTIMATE_ROWS: Final = text("""
select coalesce(sum(greatest(reltuples, 0)), 0)::bigint from pg_class
join pg_inherits on inhrelid = oid and inhparent = 'game_events'::regclass
""")
LAST_EVENTS: Final = text("""
select ts, player, action, xp_delta, karma_delta, karma_total, rank, energy_source, details
from game_events order by ts desc, id desc limit :events
""")
LAST_OF_PLAYER: Final = text("""
select ts, seq, karma_total, rank, details from game_events
where player = :player and ts > now() - interval '1 day' order by ts desc, id desc limit 1
""")


@dataclass(frozen=True)
class Glimpse:
    """The pipeline at a moment. Rates are events a second over the last seconds."""

    state: StreamState = field(default_factory=StreamState)
    produced: int = 0
    rows: int = 0
    quarantined: int = 0
    in_rate: float = 0.0
    out_rate: float = 0.0
    oldest_s: float = 0.0
    events: list[dict[str, Any]] = field(default_factory=list)
    hero: dict[str, Any] | None = None
    # What is wrong, in a few words; the rest of the glimpse is then the last that was seen.
    trouble: str | None = None


class Watcher:
    """Looks at both servers, again and again."""

    def __init__(self, streams: Streams, engine: Engine, player: str, events: int) -> None:
        self._streams, self._engine = streams, engine
        self._player, self._events = player, events
        self._seen: deque[tuple[float, int, int]] = deque()
        self._count_due_s = 0.0
        self._rows = self._quarantined = 0
        self._last = Glimpse()
        self._is_troubled = False

    def look(self, *, count: bool = False) -> Glimpse:
        """One look at everything. ``count``: count the rows now, however long ago that was done."""
        if count:
            self._count_due_s = 0.0
        self._is_troubled = True
        try:
            self._last = self._look()
        except redis.RedisError as error:
            return self._troubled(f"Redis: {first_line(error)}")
        except DBAPIError as error:
            return self._troubled(f"Postgres: {first_line(error.orig)}")
        self._is_troubled = False
        return self._last

    @property
    def is_troubled(self) -> bool:
        """Whether a server was away when it was last looked at."""
        return self._is_troubled

    def _look(self) -> Glimpse:
        self._streams.look()
        state = self._streams.state(exact=False)
        sent = self._streams.produced()
        with self._engine.connect() as connection:
            connection.execute(LIMIT_LOOK)
            events = connection.execute(LAST_EVENTS, {"events": self._events}).mappings().all()
            hero = (
                connection.execute(LAST_OF_PLAYER, {"player": self._player})
                .mappings()
                .one_or_none()
            )
        self._count()
        now_s = time.monotonic()
        # Not what was added to the stream: an entry may carry many events.
        self._seen.append((now_s, sent, self._rows + self._quarantined))
        while now_s - self._seen[0][0] > RATE_WINDOW_S:
            self._seen.popleft()
        then_s, then_sent, then_stored = self._seen[0]
        span_s = now_s - then_s
        oldest_ms = state.oldest_waiting_ms
        return Glimpse(
            state=state,
            produced=sent,
            rows=self._rows,
            quarantined=self._quarantined,
            in_rate=(sent - then_sent) / span_s if span_s else 0.0,
            out_rate=(self._rows + self._quarantined - then_stored) / span_s if span_s else 0.0,
            oldest_s=0.0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000),
            events=[dict(event) for event in events],
            hero=dict(hero) if hero else None,
        )

    def _count(self) -> None:
        began_s = time.monotonic()
        if began_s < self._count_due_s:
            return
        with self._engine.connect() as connection:
            connection.execute(LIMIT_LOOK)
            self._quarantined = sum(row.entries for row in connection.execute(QUARANTINED))
            try:
                self._rows = connection.execute(COUNT_ROWS).scalar_one()
            except DBAPIError as error:
                if getattr(error.orig, "pgcode", None) != _QUERY_CANCELED:
                    raise
                connection.rollback()
                self._rows = connection.execute(ESTIMATE_ROWS).scalar_one()
        now_s = time.monotonic()
        self._count_due_s = now_s + min((now_s - began_s) * _COUNT_SHARE, _COUNT_PAUSE_S)

    def _troubled(self, trouble: str) -> Glimpse:
        self._seen.clear()
        last = self._last
        return Glimpse(
            last.state, last.produced, last.rows, last.quarantined, 0.0, 0.0, last.oldest_s,
            last.events, last.hero, trouble,
        )  # fmt: skip
