"""What a producer sent: events flow in once Redis has them, lines for the operator flow out."""

from __future__ import annotations

import time

from pipeline import log
from pipeline.event import Event


class Teller:
    """Tells what was sent: an event a line while that can be read, else a sum a second."""

    def __init__(self, *, by_event: bool) -> None:
        self._by_event = by_event
        self._log = log.get("producer")
        self._sent = self._told = 0
        self._due_s = 0.0
        self._told_of_another = False

    def tell(self, events: list[Event]) -> None:
        """Take note of events that Redis has."""
        self._sent += len(events)
        if self._by_event:
            for event in events:
                self._log.info(
                    f"{event.player}: {event.action}",
                    xp=f"{event.xp_delta:+d}",
                    karma=f"{event.karma_total} ({event.karma_delta:+d})",
                    rank=event.rank,
                )
        elif time.monotonic() >= self._due_s:
            self._log.info("Sent", events=self._sent - self._told, total=self._sent)
            self._told = self._sent
            self._due_s = time.monotonic() + 1.0

    def tell_of_another(self) -> None:
        """Say, once, that somebody else plays too."""
        if not self._told_of_another:
            self._log.warning(
                "Another producer plays the same players; the two take turns and no chain forks"
            )
        self._told_of_another = True

    def close(self) -> None:
        """The last word."""
        self._log.info("Done", sent=self._sent)
