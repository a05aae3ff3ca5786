"""The consumer's loop: read, batch, store, and only then acknowledge.

While a batch is being stored, from a thread beside, the next is read and made ready; and while a page of it
is looked through, another thread reads the page after it, where one waits. Stopped at any point,
even by kill -9, it loses nothing: what is not acknowledged is delivered again, to this consumer or to
another, and storing it again changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from consumer import load
from consumer.batch import Batch, Limits, handfuls
from consumer.load import Stored
from consumer.reader import Page, Reader
from consumer.tally import Tally
from pipeline import failpoint, stream
from pipeline.event import Window
from pipeline.patience import Stopped, first_line, wait_for

T = TypeVar("T")

# How often the stream is looked at for the health table, and a row of it written by an idle consumer.
LOOK_EVERY_S: Final = 10.0
# A consumer for whom little waits reads no more often than this, so that a trickle does not cost a core. An
# entry that comes alone finds that time gone by and waits for nothing.
_GATHER_S: Final = 0.005
# How often the names of the dead are removed, in times of CLAIM_AFTER_S.
_BURY_EVERY: Final = 10


class Flooded(Exception):
    """More entries were refused than QUARANTINE_LIMIT allows."""

    def __init__(self, batch: Batch) -> None:
        last = batch.refusals[-1]
        reasons = sorted({refusal.reason.value for refusal in batch.refusals})
        super().__init__(f"{', '.join(reasons)}; the last is entry {last.entry.id.decode()}")


@dataclass(frozen=True)
class _Storing:
    """A batch that is on its way into the database."""

    batch: Batch
    began_s: float
    stored: Future[Stored]


class Worker:
    """One consumer process. ``name`` is unique among living consumers."""

    def __init__(
        self,
        source: Reader,
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
        self._claim_due_s = self._look_due_s = self._bury_due_s = 0.0
        self._storing: _Storing | None = None
        # Nothing more waits, as far as is known.
        self._is_at_rest = False
        self._gather_until_s = 0.0
        # A page that was asked for before it was needed.
        self._ahead: Future[Page] | None = None
        self._beside = ThreadPoolExecutor(2, thread_name_prefix="beside")

    def run(self) -> None:
        """Work until ``stop`` is set, then store and acknowledge what is in hand.

        Raises Stopped when a server is away then, and Flooded when bad entries are too many: in both
        cases what is in hand stays pending under this name.
        """
        batch = Batch(self.limits)
        try:
            while not self.stop.is_set():
                page = self._next(batch)
                failpoint.reached("after_read")
                now_s = time.monotonic()
                if not page.is_last:
                    self._read_ahead(batch.room(len(page.entries)))
                for entries in handfuls(page.entries):
                    batch = self._begin_if_due(batch, now_s)
                    batch.take(entries, self._window(), now_s, page.key)
                if page.is_last:  # time for this; what comes meanwhile makes the next batch larger
                    self._finish()
                batch = self._begin_if_due(batch, now_s, is_drained=page.is_last)
                if not batch.ids and now_s >= self._look_due_s:
                    self._look()
                self.tally.report(now_s)
            self._begin(batch)
            self._begin(self._rest())
            self._finish()
            with suppress(Stopped):  # what the health table misses then, it can do without
                self._note()
        except Stopped as stopped:
            self.tally.left_pending(self._in_hand(batch), first_line(stopped.__cause__))
            raise
        finally:
            self._let_go()
            self.tally.report(now_s=None)

    def _begin_if_due(self, batch: Batch, now_s: float, *, is_drained: bool = False) -> Batch:
        """The batch to go on with."""
        if not batch.is_due(now_s, is_drained=is_drained):
            return batch
        self._begin(batch)
        return Batch(self.limits, batch.mean())

    def _begin(self, batch: Batch) -> None:
        """Begin to store a batch once the one before it is stored, which is acknowledged meanwhile."""
        rows = load.rows_of(batch)
        self._collect()
        if not batch.ids:
            return self._acknowledge()
        self.tally.refused(batch)
        if self.quarantine_limit is not None and self.tally.flood.recent > self.quarantine_limit:
            self.tally.flooded()
            self._note()
            raise Flooded(batch)
        store = partial(self.loader.store, batch, self.tally.notes(), rows)
        stored = self._beside.submit(self._postgres, store)
        self._storing = _Storing(batch, time.monotonic(), stored)
        return self._acknowledge()

    def _finish(self) -> None:
        """COMMIT, then XACK. Both may be repeated, and a crash between them repeats both."""
        self._collect()
        self._acknowledge()

    def _collect(self) -> None:
        if self._storing is not None:
            batch, stored = self._storing.batch, self._storing.stored.result()
            took_s = time.monotonic() - self._storing.began_s
            self._storing = None
            self.source.owe(batch.by_key)
            failpoint.reached("after_commit")
            self.tally.add(stored, batch, took_s)

    def _acknowledge(self) -> None:
        if self.source.owes:
            self._redis(self.source.ack)
            failpoint.reached("after_ack")

    def _rest(self) -> Batch:
        """What was read ahead when the loop ended."""
        batch = Batch(self.limits)
        if self._ahead is not None:
            page = self._take_page(count=1)
            batch.take(page.entries, self._window(), time.monotonic(), page.key)
        return batch

    def _in_hand(self, batch: Batch) -> int:
        storing = None if self._storing is None else self._storing.batch
        held = len(batch.ids) + (0 if storing is None else len(storing.ids))
        return held + self.source.owed

    def _let_go(self) -> None:
        """See the thread beside off. After an error it must not wait for a server any longer."""
        if self._storing is not None:
            self.stop.set()
        self._beside.shutdown()

    def _window(self) -> Window:
        return Window.at(time.time_ns() // 1_000_000, self.retention_days)

    def _next(self, batch: Batch) -> Page:
        """New entries, or every so often those that another consumer, or a lost reply, left behind."""
        if self._ahead is None and time.monotonic() >= self._claim_due_s:
            claimed = self._claim(batch.room())
            if claimed.entries:
                self._is_at_rest = (
                    False  # to be stored with what comes after, not after a wait for it
                )
                return claimed
        if self._is_at_rest:
            self._wait()
        page = self._take_page(batch.room())
        self._is_at_rest = page.is_last
        return page

    def _wait(self) -> None:
        """Wait for more; where it comes thick and fast, let a little of it gather."""
        self._finish()
        self._redis(self.source.wait)
        self.stop.wait(max(0.0, self._gather_until_s - time.monotonic()))
        self._gather_until_s = time.monotonic() + _GATHER_S

    def _take_page(self, count: int) -> Page:
        page = self._redis(lambda: self._read(count))
        self.tally.found_lost(page.lost)
        self.tally.suspect_lost(page.suspected)
        self.tally.streams_away(self.source.away)
        return page

    def _read_ahead(self, count: int) -> None:
        if self._ahead is None and time.monotonic() < self._claim_due_s:
            self._ahead = self._beside.submit(self.source.read, count)

    def _read(self, count: int) -> Page:
        """The page that was read ahead, once, whatever came of it; else one that is read now."""
        ahead, self._ahead = self._ahead, None
        return self.source.read(count) if ahead is None else ahead.result()

    def _claim(self, room: int) -> Page:
        """A step of the walk through what is pending; at its end the names of the dead are removed."""
        self._finish()  # or it would take over what it has in hand itself
        found = self._redis(lambda: self.source.claim(room, idle_s=self.claim_after_s))
        failpoint.reached("in_claim")
        if found is None:
            self._claim_due_s = time.monotonic() + self.claim_after_s / 2
            self._bury()
            return Page()
        key, claimed = found
        self.tally.claimed(claimed)
        return Page(key, claimed.entries)

    def _bury(self) -> None:
        """Seldom: it takes over what is pending, which then has been so for no time at all."""
        if time.monotonic() >= self._bury_due_s:
            self._bury_due_s = time.monotonic() + _BURY_EVERY * self.claim_after_s
            after_s = self.claim_after_s
            self.tally.found_lost(self._redis(lambda: self.source.bury(claim_after_s=after_s)))

    def _look(self) -> None:
        """Look at the streams, and write down what is to be known of them and of this consumer."""
        self._look_due_s = time.monotonic() + LOOK_EVERY_S
        self.tally.saw(self._redis(self.source.look))
        self._note()

    def _note(self) -> None:
        self._finish()  # the connection is one
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
                if self._wait_for_redis(self.source.ensure_groups):
                    self.tally.group_made_again()

    def _wait_for_redis(self, call: Callable[[], T]) -> T:
        return wait_for(
            "Redis", call, is_temporary=stream.is_temporary, stop=self.stop, observer=self.tally
        )
