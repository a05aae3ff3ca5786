"""The consumer's loop: read, batch, store, and only then acknowledge.

Stopped at any point, even by kill -9, it loses nothing: what is not acknowledged is delivered again, to
this consumer or to another, and storing it again changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from consumer import load
from consumer.batch import Batch, Limits
from consumer.tally import Tally
from pipeline import stream
from pipeline.event import Entry, Window
from pipeline.patience import Stopped, first_line, wait_for
from pipeline.stream import Stream

T = TypeVar("T")


class Worker:
    """One consumer process. ``name`` is unique among living consumers."""

    def __init__(
        self,
        source: Stream,
        loader: load.Loader,
        name: str,
        limits: Limits,
        *,
        claim_after_s: float,
        retention_days: int,
        stop: threading.Event,
    ) -> None:
        self.source, self.loader, self.name, self.limits = source, loader, name, limits
        self.claim_after_s, self.retention_days, self.stop = claim_after_s, retention_days, stop
        self.tally = Tally(name)
        self._claim_start = stream.FIRST
        self._claim_due_s = 0.0

    def run(self) -> None:
        """Work until ``stop`` is set, then store and acknowledge what is in hand.

        Raises Stopped when a server is away then, so that entries stay pending under this name.
        """
        batch = Batch(self.limits)
        try:
            while not self.stop.is_set():
                room = batch.room()
                entries = self._next(batch)
                window = Window.at(time.time_ns() // 1_000_000, self.retention_days)
                now_s = time.monotonic()
                for entry in entries:
                    batch.take(entry, window, now_s)
                if batch.is_due(now_s, is_drained=len(entries) < room):
                    self._finish(batch)
                    batch = Batch(self.limits, batch.mean_bytes())
                self.tally.report(now_s)
            self._finish(batch)
        except Stopped as stopped:
            self.tally.left_pending(len(batch.ids), first_line(stopped.__cause__))
            raise
        finally:
            self.tally.report(now_s=None)

    def _finish(self, batch: Batch) -> None:
        """COMMIT, then XACK. Both may be repeated, and a crash between them repeats both."""
        if batch.ids:
            stored = self._postgres(lambda: self.loader.store(batch))
            self.tally.add(stored, batch)
            self._redis(lambda: self.source.ack(batch.ids))

    def _next(self, batch: Batch) -> list[Entry]:
        """New entries, or every so often those that another consumer, or a lost reply, left behind."""
        room = batch.room()
        if time.monotonic() >= self._claim_due_s:
            claimed = self._redis(lambda: self._claim(room))
            if claimed:
                return claimed
        # With a batch in hand, nobody waits for more to come.
        block_ms = None if batch.ids else stream.BLOCK_MS
        return self._redis(lambda: self.source.read(self.name, room, block_ms=block_ms))

    def _claim(self, room: int) -> list[Entry]:
        claimed = self.source.claim(
            self.name, idle_s=self.claim_after_s, count=room, start=self._claim_start
        )
        self._claim_start = claimed.next_start
        if claimed.next_start == stream.FIRST:
            self._claim_due_s = time.monotonic() + self.claim_after_s / 2
        self.tally.claimed(claimed)
        return claimed.entries

    # --- the edge: what a call does when its server is away, or the group is gone

    def _postgres(self, call: Callable[[], T]) -> T:
        return wait_for("Postgres", call, is_temporary=load.is_temporary, stop=self.stop)

    def _redis(self, call: Callable[[], T]) -> T:
        while True:
            try:
                return wait_for("Redis", call, is_temporary=stream.is_temporary, stop=self.stop)
            except stream.GroupLost:
                # From the beginning, never from the end: what is there may not have been stored.
                made = wait_for(
                    "Redis",
                    self.source.ensure_group,
                    is_temporary=stream.is_temporary,
                    stop=self.stop,
                )
                if made:
                    self.tally.group_made_again()
