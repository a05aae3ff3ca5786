"""The consumer's loop: read, batch, store, and only then acknowledge.

Stopped at any point, even by kill -9, it loses nothing: what is not acknowledged is delivered again, to
this consumer or to another, and storing it again changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from consumer import load
from consumer.batch import Batch, Limits
from consumer.tally import Tally
from pipeline import failpoint, stream
from pipeline.event import Entry, Window
from pipeline.patience import Stopped, first_line, wait_for
from pipeline.stream import Stream

T = TypeVar("T")

# How often the stream is looked at for the health table, and a row of it written by an idle consumer.
LOOK_EVERY_S: Final = 10.0
# How often the names of the dead are removed, in times of CLAIM_AFTER_S.
_BURY_EVERY: Final = 10


class Flooded(Exception):
    """More entries were refused than QUARANTINE_LIMIT allows."""

    def __init__(self, batch: Batch) -> None:
        last = batch.refusals[-1]
        reasons = sorted({refusal.reason.value for refusal in batch.refusals})
        super().__init__(f"{', '.join(reasons)}; the last is entry {last.entry.id.decode()}")


class Worker:
    """One consumer process. ``name`` is unique among living consumers."""

    def __init__(
        self,
        source: Stream,
        loader: load.Loader,
        tally: Tally,
        name: str,
        limits: Limits,
        *,
        claim_after_s: float,
        retention_days: int,
        stop: threading.Event,
        quarantine_limit: int | None = None,
    ) -> None:
        self.source, self.loader, self.tally = source, loader, tally
        self.name, self.limits, self.stop = name, limits, stop
        self.claim_after_s, self.retention_days = claim_after_s, retention_days
        self.quarantine_limit = quarantine_limit
        self._claim_start = stream.FIRST
        self._claim_due_s = self._look_due_s = self._bury_due_s = 0.0

    def run(self) -> None:
        """Work until ``stop`` is set, then store and acknowledge what is in hand.

        Raises Stopped when a server is away then, and Flooded when bad entries are too many: in both
        cases what is in hand stays pending under this name.
        """
        batch = Batch(self.limits)
        try:
            while not self.stop.is_set():
                room = batch.room()
                entries = self._next(batch)
                failpoint.reached("after_read")
                window = Window.at(time.time_ns() // 1_000_000, self.retention_days)
                now_s = time.monotonic()
                for entry in entries:
                    batch.take(entry, window, now_s)
                if batch.is_due(now_s, is_drained=len(entries) < room):
                    self._finish(batch)
                    batch = Batch(self.limits, batch.mean_bytes())
                if not batch.ids and now_s >= self._look_due_s:
                    self._look()
                self.tally.report(now_s)
            self._finish(batch)
            with suppress(Stopped):  # what the health table misses then, it can do without
                self._note()
        except Stopped as stopped:
            self.tally.left_pending(len(batch.ids), first_line(stopped.__cause__))
            raise
        finally:
            self.tally.report(now_s=None)

    def _finish(self, batch: Batch) -> None:
        """COMMIT, then XACK. Both may be repeated, and a crash between them repeats both."""
        if not batch.ids:
            return
        self.tally.refused(batch)
        if self.quarantine_limit is not None and self.tally.flood.recent > self.quarantine_limit:
            self.tally.flooded()
            self._note()
            raise Flooded(batch)
        began_s, notes = time.monotonic(), self.tally.notes()
        stored = self._postgres(lambda: self.loader.store(batch, notes))
        failpoint.reached("after_commit")
        self.tally.add(stored, batch, time.monotonic() - began_s)
        self._redis(lambda: self.source.ack(batch.ids))
        failpoint.reached("after_ack")

    def _next(self, batch: Batch) -> list[Entry]:
        """New entries, or every so often those that another consumer, or a lost reply, left behind."""
        room = batch.room()
        if time.monotonic() >= self._claim_due_s:
            claimed = self._claim(room)
            if claimed:
                return claimed
        delivered = self._redis(lambda: self.source.read(self.name, room))
        self.tally.found_lost(delivered.lost)
        self.tally.suspect_lost(delivered.suspected)
        if not delivered.entries and not batch.ids:
            block_ms = stream.BLOCK_MS
            self._redis(lambda: self.source.wait(delivered.last_id, block_ms=block_ms))
        return delivered.entries

    def _claim(self, room: int) -> list[Entry]:
        """A step of the walk through what is pending; at its end the names of the dead are removed."""
        idle_s, start = self.claim_after_s, self._claim_start
        claimed = self._redis(
            lambda: self.source.claim(self.name, idle_s=idle_s, count=room, start=start)
        )
        failpoint.reached("in_claim")
        self.tally.claimed(claimed)
        self._claim_start = claimed.next_start
        if claimed.next_start == stream.FIRST:
            self._claim_due_s = time.monotonic() + self.claim_after_s / 2
            self._bury()
        return claimed.entries

    def _bury(self) -> None:
        """Seldom: it takes over what is pending, which then has been so for no time at all."""
        if time.monotonic() >= self._bury_due_s:
            self._bury_due_s = time.monotonic() + _BURY_EVERY * self.claim_after_s
            after_s = self.claim_after_s
            self.tally.claimed(
                self._redis(lambda: self.source.bury(self.name, claim_after_s=after_s))
            )

    def _look(self) -> None:
        """Look at the stream, and write down what is to be known of it and of this consumer."""
        self._look_due_s = time.monotonic() + LOOK_EVERY_S
        self._redis(self.source.vouch)
        self.tally.saw(self._redis(self.source.state))
        self._note()

    def _note(self) -> None:
        notes = self.tally.notes()
        self._postgres(lambda: self.loader.note(notes))

    # --- the edge: what a call does when its server is away, or the group is gone

    def _postgres(self, call: Callable[[], T]) -> T:
        return wait_for(
            "Postgres", call, is_temporary=load.is_temporary, stop=self.stop, observer=self.tally
        )

    def _redis(self, call: Callable[[], T]) -> T:
        while True:
            try:
                return self._wait_for_redis(call)
            except stream.GroupLost:
                # From the beginning, never from the end: what is there may not have been stored.
                if self._wait_for_redis(self.source.ensure_group):
                    self.tally.group_made_again()

    def _wait_for_redis(self, call: Callable[[], T]) -> T:
        return wait_for(
            "Redis", call, is_temporary=stream.is_temporary, stop=self.stop, observer=self.tally
        )
