"""The lanes: parcels flow in, each part goes down the lane of its partition, and what became of it flows out.

A lane is a thread that sends one part after the other, and waits with the part in its hands while its
partition is away. So a partition that is away, or says nothing, holds up its own players: after a short
patience they are out of the game, and the others play on.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

import redis
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_when_event_set,
    wait_random_exponential,
)

from pipeline import log
from pipeline.patience import MAX_PAUSE_S, Observer, first_line
from pipeline.stream import is_temporary
from producer.outbox import Overtaken, Parcel
from producer.outboxes import Outboxes, divided

# So long everybody waits for the slowest partition.
PATIENCE_S: Final = 1.0
# At the end parts are tried at this pace, for there is little time.
_LAST_PAUSE_S: Final = 0.1
# Lanes that have nothing to send end within this time.
_END_S: Final = 0.5
_SERVER: Final = "Redis"


def held_up(held: frozenset[int], since_s: Mapping[int, float], before_s: float) -> frozenset[int]:
    """The partitions that nobody waits for: a part of theirs was begun before such a time. Pure.

    ``since_s`` says when the oldest part was begun that has not arrived. One that was held up stays so until
    nothing of it is on its way.
    """
    return frozenset(n for n, at_s in since_s.items() if n in held or at_s <= before_s)


def sentence(worst: int, away: int, partitions: int) -> str | None:
    """What there is to say of so many that are away, where ``worst`` was the most so far. Pure."""
    if away <= worst:
        return None
    if away == partitions:
        return f"{_SERVER} is away; trying again until it is back"
    if worst:
        return None
    return f"{_SERVER} is away for a part of the players; they wait, and the others play on"


class _Job(NamedTuple):
    # None: read anew how another producer left the players.
    part: Parcel | None
    since_s: float


class _Outcome(NamedTuple):
    number: int
    error: BaseException | None


class Lanes:
    """One lane for each partition. All but the sending happens in the caller's thread."""

    def __init__(
        self, outboxes: Outboxes, observer: Observer, patience_s: float = PATIENCE_S
    ) -> None:
        self._outboxes, self._observer, self._patience_s = outboxes, observer, patience_s
        self._log = log.get("wait")
        numbers = range(outboxes.partitions)
        self._jobs: dict[int, deque[_Job]] = {number: deque() for number in numbers}
        self._outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._inboxes: list[queue.SimpleQueue[_Job | None]] = [queue.SimpleQueue() for _ in numbers]
        # Why a partition was not to be had when it was last tried.
        self._errors: dict[int, redis.RedisError] = {}
        self._hurry, self._give_up = threading.Event(), threading.Event()
        # Who sits out: a part of theirs is held up; another producer has played them.
        self._held: frozenset[int] = frozenset()
        self._overtaken: set[int] = set()
        self._retaken: set[int] = set()
        self._arrived: list[Parcel] = []
        self._worst, self._away_since_s = 0, 0.0
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"lane-{number}", daemon=True)
            for number in numbers
        ]
        for thread in self._threads:
            thread.start()

    # --- what is where

    @property
    def out(self) -> frozenset[int]:
        """The partitions whose players sit out."""
        return self._held | self._overtaken | self._retaken

    @property
    def under_way(self) -> int:
        """Events that were sent and are not known to have arrived."""
        return sum(
            len(job.part.payloads) for jobs in self._jobs.values() for job in jobs if job.part
        )

    @property
    def is_idle(self) -> bool:
        """Whether no lane has anything to do."""
        return not any(self._jobs.values())

    def has_room(self, parts: int) -> bool:
        """Whether those who play have no more than so many parts before them."""
        return all(len(jobs) <= parts for n, jobs in self._jobs.items() if n not in self.out)

    @property
    def error(self) -> redis.RedisError:
        """Why a partition is away."""
        for number, jobs in self._jobs.items():
            if jobs and number in self._errors:
                return self._errors[number]
        return redis.TimeoutError("it has not answered yet")

    # --- what goes in and comes out

    def send(self, parcel: Parcel) -> None:
        """Send the parts of a parcel, none of whose players may sit out."""
        for number, part in divided(parcel, self._outboxes.partitions).items():
            self._put(number, part)

    def arrived(self) -> list[Parcel]:
        """Parts that Redis has now, each of them once."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def retaken(self) -> frozenset[int]:
        """Partitions whose players have to be taken up anew: they are back in the game with this."""
        retaken = frozenset(self._retaken)
        self._retaken.clear()
        return retaken

    def wait(self, at_most_s: float) -> None:
        """Wait for something to happen, and see who sits out. Raises what waiting does not help."""
        self._observer.tries()
        try:
            self._book(self._outcomes.get(timeout=at_most_s))
            while True:
                self._book(self._outcomes.get_nowait())
        except queue.Empty:
            pass
        self._look()

    def hurry(self) -> None:
        """Try what is held up without pauses: there is little time left."""
        self._hurry.set()

    def close(self) -> None:
        """End; a lane whose partition says nothing ends when its line is closed."""
        self._give_up.set()
        self._hurry.set()
        for inbox in self._inboxes:
            inbox.put(None)
        end_s = time.monotonic() + _END_S
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))

    def _put(self, number: int, part: Parcel | None) -> None:
        job = _Job(part, time.monotonic())
        self._jobs[number].append(job)
        self._inboxes[number].put(job)

    def _book(self, outcome: _Outcome) -> None:
        number = outcome.number
        part = self._jobs[number].popleft().part
        self._errors.pop(number, None)
        if isinstance(outcome.error, Overtaken):
            self._overtaken.add(number)
        elif outcome.error is not None:
            raise outcome.error
        elif part is None:
            self._overtaken.remove(number)
            self._retaken.add(number)
        else:
            self._arrived.append(part)
        # What was made after the part that was overtaken is overtaken as well, and is waited for.
        if number in self._overtaken and not self._jobs[number]:
            self._put(number, None)

    def _look(self) -> None:
        now_s = time.monotonic()
        since_s = {number: jobs[0].since_s for number, jobs in self._jobs.items() if jobs}
        self._held = held_up(self._held, since_s, now_s - self._patience_s)
        away = len(self._held)
        if away:
            text = sentence(self._worst, away, self._outboxes.partitions)
            if not self._worst:
                self._away_since_s = now_s - self._patience_s
            self._worst = max(self._worst, away)
            self._observer.waits(_SERVER)
            if text:
                self._log.warning(text, partitions=away, error=first_line(self.error))
        elif self._worst:
            self._worst = 0
            self._observer.is_back(_SERVER)
            away_s = round(now_s - self._away_since_s, 1)
            self._log.info(f"{_SERVER} is back; all players play", away_s=away_s)

    # --- the threads

    def _run(self, number: int) -> None:
        error: BaseException | None = None
        # What waiting does not help ends the lane: a part after one that is lost would leave a gap.
        while error is None or isinstance(error, Overtaken):
            job = self._inboxes[number].get()
            if job is None:
                return
            error = None
            try:
                self._see_through(number, job.part)
            except BaseException as caught:  # ``wait`` raises it
                error = caught
            self._outcomes.put(_Outcome(number, error))

    def _see_through(self, number: int, part: Parcel | None) -> None:
        def note(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if isinstance(error, redis.RedisError):
                self._errors[number] = error

        retrying = Retrying(
            retry=retry_if_exception(is_temporary),
            wait=wait_random_exponential(multiplier=0.1, max=MAX_PAUSE_S),
            stop=stop_when_event_set(self._give_up),
            sleep=self._pause,
            before_sleep=note,
            reraise=True,
        )
        if part is None:
            retrying(self._outboxes.retake, number)
        else:
            retrying(self._outboxes.send_part, number, part)

    def _pause(self, seconds: float) -> None:
        if self._hurry.wait(seconds):
            self._give_up.wait(_LAST_PAUSE_S)
