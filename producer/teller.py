"""What a producer sent: events flow in once Redis has them; lines for the operator and metrics flow out."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from pipeline import log
from pipeline.event import Event
from pipeline.metrics import Metric
from pipeline.pulse import Pulse


class Teller:
    """Tells what was sent: an event a line while that can be read, else a sum a second.

    It observes waits (patience.Observer) and answers scrapes (``metrics``).
    """

    def __init__(self, *, by_event: bool, pulse: Pulse | None = None) -> None:
        self._pulse = pulse or Pulse()
        self._waiting_since_s: float | None = None
        self._waited_s = 0.0
        self._by_event = by_event
        self._log = log.get("producer")
        self._sent = self._told = 0
        self._due_s = 0.0
        self._told_of_another = False

    def tell(self, payloads: list[bytes]) -> None:
        """Take note of events that Redis has."""
        self._sent += len(payloads)
        if self._by_event:
            for payload in payloads:
                event = msgspec.json.decode(payload, type=Event)
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

    # --- waits, as patience.Observer

    def tries(self) -> None:
        """The loop turns, or waits with patience: either way it lives."""
        self._pulse.beat()

    def waits(self, server: str) -> None:  # noqa: ARG002  # it knows one server only
        """The wait for Redis began, or goes on."""
        if self._waiting_since_s is None:
            self._waiting_since_s = time.monotonic()

    def is_back(self, server: str) -> None:  # noqa: ARG002
        """The wait is over."""
        self._waited_s += self._waiting_s()
        self._waiting_since_s = None

    def _waiting_s(self) -> float:
        since_s = self._waiting_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    # --- Prometheus

    def metrics(self) -> Iterator[Metric]:
        """The present numbers. Called from another thread."""
        is_waiting = float(self._waiting_since_s is not None)
        waited_s = self._waited_s + self._waiting_s()
        yield Metric("sent_events", "Events that Redis has", "counter", self._sent)
        for name, text, kind, value in (
            ("waiting", "1 while it waits for the server", "gauge", is_waiting),
            ("waited_seconds", "Time spent waiting for it", "counter", waited_s),
        ):
            yield Metric(name, text, kind, {"Redis": value}, "server")  # type: ignore[arg-type]
        yield Metric("beat_timestamp_seconds", "Last turn of the loop", "gauge", self._pulse.last_s)
