"""What a consumer did: counts flow in from the loop; log lines, metrics and health notes flow out."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from consumer.batch import Batch
from consumer.flood import Flood
from consumer.health import Notes, Seen, this_minute_s
from consumer.load import Stored
from consumer.reader import Look
from pipeline import log
from pipeline.metrics import (
    EVENTS_BOUNDS,
    SECONDS_BOUNDS,
    SECONDS_SHOWN,
    Distribution,
    Histogram,
    Metric,
)
from pipeline.pulse import Pulse
from pipeline.stream import Claimed

REPORT_EVERY_S: Final = 10.0
# Senders choose the names of unknown keys: so many are told apart, no more.
_MAX_DRIFT_KEYS: Final = 100
# Of a batch, so many entries' ages are taken, evenly spread: the rest are like them.
_AGES_A_BATCH: Final = 100
_AGES_OVER_S: Final = 60.0


class Tally:
    """Counts since the process started, and those who want to know of them.

    It observes waits (patience.Observer), answers scrapes (``metrics``) and hands out what is not in the
    health table yet (``notes``).
    """

    def __init__(self, name: str, pulse: Pulse | None = None) -> None:
        self.rows = self.duplicates = self.quarantined = self.lost = 0
        self.pulse = pulse or Pulse()
        self.flood = Flood()
        self._reported = 0
        self._report_due_s = 0.0
        self._drift: Counter[str] = Counter()
        self._is_flooded = False
        self._log = log.get("consumer").bind(consumer=name)
        # For Prometheus: since the start.
        self._refused: Counter[str] = Counter()
        self._claimed = self._groups_made = 0
        self._waited_s: dict[str, float] = {}
        self._waiting_since_s: dict[str, float] = {}
        self._has_lost_connections = False
        self._batch_events = Histogram(EVENTS_BOUNDS)
        self._batch_s, self._age_s = Histogram(SECONDS_BOUNDS), Histogram(SECONDS_BOUNDS)
        self._look: Look | None = None
        self._away: tuple[str, ...] = ()
        # For the health table: since the minute began.
        self._notes = Notes()
        # The thread that stores tells of waits while the loop tells of what it finds.
        self._noting = threading.Lock()
        self._recent_age_s = Histogram(SECONDS_BOUNDS)
        self._recent_until_s = 0.0

    @property
    def has_lost_connections(self) -> bool:
        """Whether a call to Redis ever went astray: it may still be on its way."""
        return self._has_lost_connections or "Redis" in self._waiting_since_s

    @property
    def events(self) -> int:
        """Events dealt with, one way or another."""
        return self.rows + self.duplicates + self.quarantined

    def add(self, stored: Stored, batch: Batch, took_s: float) -> None:
        """Count a batch that is in the database, and took so long to get there."""
        self.rows += stored.rows
        self.duplicates += stored.duplicates
        self.quarantined += stored.quarantined
        self._refused.update(stored.refused)
        self._observe(batch, took_s)
        self.flood.add_late(stored.quarantined - len(batch.refusals))
        self._raise_or_end_alarm()
        if stored.refused:
            self._log.warning(
                "Quarantined entries that are not events; `infamous status` counts them by reason",
                entries=stored.quarantined,
                reasons=",".join(sorted(stored.refused)),
            )
        for key, events in batch.drift.items():
            if key not in self._drift and len(self._drift) < _MAX_DRIFT_KEYS:
                self._log.warning(
                    "Events carry a key this version does not know; it is kept in details", key=key
                )
            if key in self._drift or len(self._drift) < _MAX_DRIFT_KEYS:
                self._drift[key] += events

    def _observe(self, batch: Batch, took_s: float) -> None:
        self._batch_events.observe(batch.taken)
        self._batch_s.observe(took_s)
        now_s = time.time()
        if now_s >= self._recent_until_s:
            self._recent_age_s = Histogram(SECONDS_BOUNDS)
            self._recent_until_s = now_s + _AGES_OVER_S
        step = -(-len(batch.ids) // _AGES_A_BATCH)
        for place in range(0, len(batch.ids), step):
            added_ms = int(batch.ids[place].partition(b"-")[0])
            age_s, stands_for = max(0.0, now_s - added_ms / 1000), min(step, len(batch.ids) - place)
            self._age_s.observe(age_s, stands_for)
            self._recent_age_s.observe(age_s, stands_for)
        with self._noting:
            notes = self._notes
            self._notes = replace(
                notes,
                batch_rows_max=max(notes.batch_rows_max, batch.taken),
                batch_s_sum=notes.batch_s_sum + took_s,
                batch_s_max=max(notes.batch_s_max, took_s),
            )

    def refused(self, batch: Batch) -> None:
        """Look at what a batch had refused, before it is stored."""
        self.flood.add(batch.taken, batch.refused_at)
        self._raise_or_end_alarm()

    def _raise_or_end_alarm(self) -> None:
        if self.flood.is_on == self._is_flooded:
            return
        self._is_flooded = self.flood.is_on
        if self._is_flooded:
            self._log.error(
                "Bad entries flood the stream: they are quarantined and the good ones stored;"
                " `infamous status` tells their reasons, look for a sender that changed",
                refused=self.flood.recent,
                of_the_last=self.flood.window,
            )
        else:
            self._log.info("The flood of bad entries is over")

    def claimed(self, claimed: Claimed) -> None:
        """Tell what was taken over, and what was found to be lost."""
        if claimed.entries:
            self._claimed += len(claimed.entries)
            self._add_to_notes(claimed=len(claimed.entries))
            self._log.info("Took over entries that were left pending", entries=len(claimed.entries))
        self.found_lost(claimed.lost)

    def found_lost(self, entries: int) -> None:
        """Tell of entries that left the stream before they were stored."""
        if not entries:
            return
        self.lost += entries
        self._add_to_notes(lost=entries)
        self._log.error(
            "Entries were trimmed from the stream before they were acknowledged: they are lost here, but for"
            " those that a consumer still has in hand",
            entries=entries,
        )

    def suspect_lost(self, entries: int) -> None:
        """Tell of a gap whose size a crash of the server may have spoiled."""
        if entries:
            self._log.warning(
                "The stream was trimmed past what was read last, and Redis was started again since it"
                " last counted right: entries may have been lost here, this many at most",
                entries=entries,
            )

    def streams_away(self, keys: tuple[str, ...]) -> None:
        """Tell of streams that cannot be reached while others can, and when they are back."""
        if keys == self._away:
            return
        gone = [key for key in keys if key not in self._away]
        back = [key for key in self._away if key not in keys]
        self._away = keys
        if gone:
            self._log.warning(
                "Streams cannot be reached, since the node that holds them is away; the others go on, and"
                " these are tried until they are back",
                streams=",".join(gone),
            )
        if back:
            self._log.info("Streams are back", streams=",".join(back))

    def flooded(self) -> None:
        """The limit is reached: let the health table say so, however low it is."""
        self._is_flooded = True

    def group_made_again(self) -> None:
        """Tell that the group was gone."""
        self._groups_made += 1
        self._add_to_notes(groups_made=1)
        self._log.warning(
            "The stream's consumer group was gone and was made again from the stream's beginning; "
            "what is stored already will be absorbed as duplicates"
        )

    def left_pending(self, entries: int, error: str) -> None:
        """Tell what a stop in the middle of an outage leaves behind."""
        self._log.warning(
            "Stopped while a server was away; another consumer will store what was in hand",
            entries=entries,
            error=error,
        )

    def report(self, now_s: float | None) -> None:
        """Tell the counts, if they moved and it is time; ``now_s`` None means now."""
        if self.events == self._reported or (now_s is not None and now_s < self._report_due_s):
            return
        self._log.info(
            "Stored",
            new=self.events - self._reported,
            rows=self.rows,
            duplicates=self.duplicates,
            quarantined=self.quarantined,
        )
        self._reported = self.events
        self._report_due_s = (now_s or 0.0) + REPORT_EVERY_S

    # --- waits, as patience.Observer

    def tries(self) -> None:
        """Whoever waits with patience lives."""
        self.pulse.beat()

    def waits(self, server: str) -> None:
        """The wait for a server began, or goes on."""
        self._waiting_since_s.setdefault(server, time.monotonic())

    def is_back(self, server: str) -> None:
        """The wait is over."""
        waited_s = time.monotonic() - self._waiting_since_s[server]
        self._waited_s[server] = self._waited_s.get(server, 0.0) + waited_s
        # After the sum, or a scrape between the two would see time go backwards.
        del self._waiting_since_s[server]
        self._has_lost_connections |= server == "Redis"
        self._add_to_notes(**{f"waited_{server.lower()}_s": waited_s})

    # --- the health table

    def saw(self, look: Look) -> None:
        """Take note of the streams."""
        self._look = look
        seen = Seen.of(look.state)
        if look.away:  # who knows what waits there, and since when
            seen = replace(seen, oldest_waiting_at=None, complete_to=None)
        with self._noting:
            self._notes = replace(self._notes, seen=seen)

    def _add_to_notes(self, **more: float) -> None:
        with self._noting:
            sums = {name: getattr(self._notes, name) + value for name, value in more.items()}
            self._notes = replace(self._notes, **sums)

    def notes(self) -> Notes:
        """The minute's row as it stands, with the percentiles and the alarm.

        The first call after a minute is over tells that minute to its end, and begins the next.
        """
        with self._noting:
            notes = self._notes
            if notes.minute_s != this_minute_s():
                self._notes = Notes()
        ages, is_recent = self._recent_age_s, time.time() < self._recent_until_s
        return replace(
            notes,
            age_p50_s=ages.quantile(0.5) if is_recent else None,
            age_p95_s=ages.quantile(0.95) if is_recent else None,
            age_p99_s=ages.quantile(0.99) if is_recent else None,
            is_flooded=self._is_flooded,
        )

    # --- Prometheus

    def metrics(self) -> Iterator[Metric | Distribution]:
        """The present numbers. Called from another thread: it copies what may change meanwhile."""
        for name, value, text in (
            ("stored_events", self.rows, "Events that became rows"),
            ("duplicate_events", self.duplicates, "Events that were rows already"),
            ("claimed_entries", self._claimed, "Entries taken over from another consumer"),
            ("lost_entries", self.lost, "Entries trimmed before they were stored"),
            ("groups_made", self._groups_made, "Times the consumer group was gone"),
            ("unknown_keys", sum(self._drift.copy().values()), "Keys kept in details"),
        ):
            yield Metric(name, text, "counter", value)
        refused = self._refused.copy()
        yield Metric("quarantined_entries", "Refused, by reason", "counter", refused, "reason")
        yield Distribution("batch_events", "Events of a batch", self._batch_events)
        for name, text, histogram in (
            ("batch_seconds", "Time to store a batch", self._batch_s),
            ("age_seconds", "From the stream to the commit", self._age_s),
        ):
            yield Distribution(name, text, histogram, SECONDS_SHOWN)
        now_s, since_s = time.monotonic(), self._waiting_since_s.copy()
        servers = ("Redis", "Postgres")
        is_waiting = {server: float(server in since_s) for server in servers}
        waited_s = {s: self._waited_s.get(s, 0.0) + now_s - since_s.get(s, now_s) for s in servers}
        yield Metric("waiting", "1 while it waits for the server", "gauge", is_waiting, "server")
        yield Metric("waited_seconds", "Time spent waiting for it", "counter", waited_s, "server")
        yield Metric("flooded", "1 while bad entries flood in", "gauge", float(self._is_flooded))
        yield Metric("beat_timestamp_seconds", "Last turn of the loop", "gauge", self.pulse.last_s)
        yield from self._stream_metrics()

    def _stream_metrics(self) -> Iterator[Metric]:
        away = self._away
        yield Metric("away_streams", "Streams that cannot be reached", "gauge", len(away))
        look = self._look
        if look is None:
            return
        state = look.state
        if state.added is not None:
            yield Metric("produced_entries", "Entries ever added", "counter", state.added)
        now_ms = time.time() * 1000
        waiting_s = {
            key: 0.0
            if one.oldest_waiting_ms is None
            else max(0.0, (now_ms - one.oldest_waiting_ms) / 1000)
            for key, one in look.by_key.items()
        }
        gauges: tuple[tuple[str, float, str], ...] = (
            ("undelivered_entries", state.undelivered, "Entries nobody has read"),
            ("pending_entries", state.pending, "Entries read and not acknowledged"),
            # It grows between two looks, and while a call hangs nobody looks.
            (
                "oldest_waiting_seconds",
                max(waiting_s.values(), default=0.0),
                "Age of the oldest of those, if it still waits",
            ),
            ("seen_timestamp_seconds", state.at_ms / 1000, "When the stream was last looked at"),
        )
        for name, value, text in gauges:
            yield Metric(name, text, "gauge", value)
        if not look.away:
            yield Metric(
                "complete_to_timestamp_seconds",
                "What was added before is stored or quarantined",
                "gauge",
                state.complete_to_ms / 1000,
            )
        if len(look.by_key) > 1:
            unread: dict[str, float] = {k: one.undelivered for k, one in look.by_key.items()}
            text = "Entries nobody has read, by stream"
            yield Metric("stream_undelivered_entries", text, "gauge", unread, "stream")
            text = "Age of the oldest entry of a stream that waits"
            yield Metric("stream_oldest_waiting_seconds", text, "gauge", waiting_s, "stream")
