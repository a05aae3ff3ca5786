"""The past, played fast: a population flows in, its events of some days up to now flow onto the stream.

It can be broken off anywhere and goes on where it was: each parcel carries the players' states.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from pipeline import stream
from pipeline.patience import Observer, Stopped, Unobserved, wait_for
from producer.courier import carry, deliver
from producer.outbox import (
    ARRAY_EVENTS,
    PARCEL_EVENTS,
    History,
    Ledger,
    Overtaken,
    Parcel,
    Sender,
    pack_written,
)
from producer.simulate import Player, population, written_history

DAY_MS: Final = 86_400_000
# A parcel for many partitions at most.
_MANY_EVENTS: Final = 10_000


class BadDays(Exception):
    """What was asked for is no span of days that can be played."""


def parse_days(text: str) -> int:
    """``30d`` or ``0`` as a number of days."""
    match = re.fullmatch(r"(\d{1,6})d?", text.strip(), re.ASCII)
    if match is None:
        raise BadDays(f"{text} is not understood: give days, as in 30d, or 0 for none.")
    return int(match.group(1))


def check_days(days: int, retention_days: int) -> None:
    """Raise BadDays when the first of the events would be refused as too old."""
    # The first day began up to a day earlier than its number says, and playing takes a while.
    if days and days > retention_days - 2:
        raise BadDays(
            f"--history {days}d goes back past RETENTION_DAYS={retention_days}, so its first events"
            f" would be refused: give at most {max(retention_days - 2, 0)}d, or raise RETENTION_DAYS."
        )


def planned(ledger: Ledger, days: int, now_ms: int, retention_days: int) -> History | None:
    """The history that is still to be played: a new one, the rest of one broken off, or none.

    Once a live event was sent there is no past to make up any more. Of a history broken off so long
    ago that its rest would be refused as too old, the rest is let go.
    """
    if ledger.history is not None:
        is_too_old = ledger.history.start_ms < now_ms - (retention_days - 1) * DAY_MS
        return None if ledger.history.is_done or is_too_old else ledger.history
    if days == 0 or ledger.players:
        return None
    # Days of the simulation are UTC days, so that retention by day means what analysts mean by it.
    today_ms = now_ms - now_ms % DAY_MS
    return History(today_ms - days * DAY_MS, now_ms, is_done=False)


def play(
    outbox: Sender,
    ledger: Ledger,
    plan: History,
    *,
    seed: int,
    size: int,
    stop: threading.Event,
    progress: Callable[[int, int], None],
    observer: Observer = Unobserved(),  # noqa: B008  # it holds nothing
) -> int:
    """Play ``plan`` to its end; ``progress`` gets the game's time in ms and the events sent so far.

    Returns the events sent by this call. Raises Stopped when asked to stop. Another producer that plays
    the same history at the same time takes turns with this one.
    """
    sent = 0

    def played(at_ms: int, events: int) -> None:
        nonlocal sent
        sent += events
        progress(at_ms, sent)

    rest: History | None = plan
    while rest is not None:
        try:
            _play(outbox, ledger, rest, seed, size, stop, played, observer)
        except Overtaken:
            ledger = wait_for("Redis", outbox.open, is_temporary=stream.is_temporary, stop=stop)
            rest = None if ledger.history is None or ledger.history.is_done else ledger.history
        else:
            break
    return sent


def _play(
    outbox: Sender,
    ledger: Ledger,
    plan: History,
    seed: int,
    size: int,
    stop: threading.Event,
    played: Callable[[int, int], None],
    observer: Observer,
) -> None:
    """Raises Overtaken, too."""
    days = -(-(plan.until_ms - plan.start_ms) // DAY_MS)
    players = [
        ledger.players.get(player.name, player)
        for player in population(seed, size, plan.start_ms, days)
    ]
    events = min(PARCEL_EVENTS * outbox.partitions, _MANY_EVENTS)
    for parcel in carry(outbox, _parcels(players, plan, events), stop, observer):
        played(parcel.at_ms, len(parcel.payloads))
    if stop.is_set():
        raise Stopped
    # Also those who never played get a state: the population is complete in Redis.
    done = History(plan.start_ms, plan.until_ms, is_done=True)
    deliver(outbox, pack_written([], players, done), stop, observer)


def _parcels(players: list[Player], plan: History, size: int) -> Iterator[Parcel]:
    events = written_history(players, plan.until_ms)
    while happened := list(islice(events, size)):
        turns = [player for player, _ in happened]
        touched = {player.name: player for player in turns}
        payloads = [payload for _, payload in happened]
        yield pack_written(payloads, touched.values(), plan, share=ARRAY_EVENTS, turns=turns)
