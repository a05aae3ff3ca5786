"""The replica: a database flows in, how far it is behind the one that is written to flows out.

The time of what it replayed last says how far it is behind while something is written; on a quiet primary
that moment grows old and nothing is missing. So one that has replayed all there is counts as up to date.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from analytics import words

# What was written a moment ago is on its way: it is looked at again for so long.
PATIENCE_S: Final = 1.0
_LOOK_EVERY_S: Final = 0.05
# Behind for so long, it does not catch up by itself: the bound of the dashboards' alert.
LATE: Final = timedelta(minutes=5)
# A read-only transaction is broken off with this for nothing else.
_CONFLICT: Final = "40001"
_IN_WORDS: Final = "conflict with recovery"

# Without a receiver nobody tells the replica what it lacks. A position is a number of bytes.
LOOK: Final = text("""
select clock_timestamp() as at, pg_last_xact_replay_timestamp() as replayed_at,
       pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint as position,
       exists (select from pg_stat_wal_receiver)
           and pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn() as has_all
where pg_is_in_recovery()
""")


class Cancelled(Exception):
    """A replica broke a question off; the message is a sentence for people."""

    def __init__(self) -> None:
        super().__init__(
            "The replica broke the question off to replay what the primary did meanwhile: ask it again, and"
            " where that happens often, raise max_standby_streaming_delay there, or set hot_standby_feedback."
        )


@dataclass(frozen=True)
class Replica:
    """How far a replica is at a moment of its own clock."""

    at: datetime
    # When what it replayed last was committed; None where it has replayed nothing since it started.
    replayed_at: datetime | None
    # How far it has replayed.
    position: int
    # Whether that is all there is.
    has_all: bool

    @property
    def delay_s(self) -> float | None:
        """How far it is behind, in seconds; None where nobody knows."""
        if self.has_all:
            return 0.0
        if self.replayed_at is None:
            return None
        return max(0.0, (self.at - self.replayed_at).total_seconds())

    @property
    def is_late(self) -> bool:
        """Whether it should be looked after."""
        return self.delay_s is None or self.delay_s > LATE.total_seconds()

    def told(self) -> str:
        """How far it is behind, as the end of a sentence."""
        if self.has_all:
            return "has all there is"
        if self.delay_s is None:
            return "is behind, nobody knows how far"
        return f"is {words.lasting(self.delay_s)} behind"


def look(
    engine: Engine,
    position: int | None = None,
    *,
    patience_s: float = PATIENCE_S,
    stop: threading.Event | None = None,
) -> Replica | None:
    """The replica, once it has all there is, or after so long; None where the database is none.

    ``position`` is how far the primary is; where it is not known, all there is is what was received.
    """
    stop, until_s = stop or threading.Event(), time.monotonic() + patience_s
    while True:
        with engine.connect() as connection:
            row = connection.execute(LOOK).one_or_none()
        if row is None:
            return None
        seen = Replica(*row)
        if position is not None:
            seen = replace(seen, has_all=seen.position >= position)
        if seen.has_all or time.monotonic() >= until_s or stop.wait(_LOOK_EVERY_S):
            return seen


def is_conflict(error: DBAPIError) -> bool:
    """Whether a replica broke a question off, or ended its session, because of what it has to replay."""
    return getattr(error.orig, "pgcode", None) == _CONFLICT or _IN_WORDS in str(error.orig)
