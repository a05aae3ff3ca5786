"""What a consumer did: counts flow in from the loop, a line for the operator flows out now and then."""

from __future__ import annotations

from typing import Final

from consumer.batch import Batch
from consumer.load import Stored
from pipeline import log
from pipeline.stream import Claimed

REPORT_EVERY_S: Final = 10.0
# Senders choose the names of unknown keys: so many are told apart, no more.
_MAX_DRIFT_KEYS: Final = 100


class Tally:
    """Counts since the process started, and the lines that tell them."""

    def __init__(self, name: str) -> None:
        self.rows = self.duplicates = self.quarantined = 0
        self._reported = 0
        self._report_due_s = 0.0
        self._drift: set[str] = set()
        self._log = log.get("consumer").bind(consumer=name)

    @property
    def entries(self) -> int:
        """Entries dealt with, one way or another."""
        return self.rows + self.duplicates + self.quarantined

    def add(self, stored: Stored, batch: Batch) -> None:
        """Count a batch that is in the database."""
        self.rows += stored.rows
        self.duplicates += stored.duplicates
        self.quarantined += stored.quarantined
        if batch.refusals:
            reasons = sorted({refusal.reason.value for refusal in batch.refusals})
            self._log.warning(
                "Quarantined entries that are not events; `infamous status` counts them by reason",
                entries=stored.quarantined,
                reasons=",".join(reasons),
            )
        for key in batch.drift.keys() - self._drift:
            if len(self._drift) < _MAX_DRIFT_KEYS:
                self._drift.add(key)
                self._log.warning(
                    "Events carry a key this version does not know; it is kept in details", key=key
                )

    def claimed(self, claimed: Claimed) -> None:
        """Tell what was taken over, and what was found to be lost."""
        if claimed.entries:
            self._log.info("Took over entries that were left pending", entries=len(claimed.entries))
        if claimed.lost:
            self._log.error(
                "Entries were trimmed from the stream before they were stored: they are lost here",
                entries=claimed.lost,
            )

    def group_made_again(self) -> None:
        """Tell that the group was gone."""
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
        if self.entries == self._reported or (now_s is not None and now_s < self._report_due_s):
            return
        self._log.info(
            "Stored",
            new=self.entries - self._reported,
            rows=self.rows,
            duplicates=self.duplicates,
            quarantined=self.quarantined,
        )
        self._reported = self.entries
        self._report_due_s = (now_s or 0.0) + REPORT_EVERY_S
