"""``python -m infamous.prove.stranger``: another studio's sender; good and bad entries flow onto the stream.

It knows no transaction and no token, as most senders in the world: it adds entries one by one, some with
many events in each, and where it is not sure that they arrived it sends them again. What it sends it notes
in a journal beforehand, with what a consumer should make of it. Its players are its own, new ones at every
start.
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final, NamedTuple
from zlib import crc32

import redis
import typer

from infamous.prove.poison import REASONS, Poison, made, poison
from pipeline import log, stream
from pipeline.entry import Form, array_of
from pipeline.event import Reason, encode
from pipeline.patience import Stopped, first_line, wait_for
from pipeline.settings import SettingsError
from pipeline.stop import on_signals
from pipeline.stream import Stream
from pipeline.streams import Streams, number_of
from pipeline.tombstone import player_in
from pipeline.transaction import NotReplicated
from producer.journal import STORED, Journal, JournalError
from producer.pace import Pace
from producer.simulate import Player, population, step

_PLAYERS: Final = 40
_PARCEL_ENTRIES: Final = (1, 50)
# Of the parcels: after so many an earlier one is sent again, and so many hold the same bad bytes often.
_REPEATED_SHARE: Final = 0.01
_FIXED_SHARE: Final = 0.01
_FIXED_TIMES: Final = (5, 20)
# Small, and refused at three different places: by the parser, by a rule, by the database.
_FIXED_REASONS: Final = (Reason.NOT_JSON, Reason.BAD_RANK, Reason.DATABASE)
# Of the parcels, those whose events share entries, and how many share one.
_SHARING_SHARE: Final = 0.5
_SHARE: Final = (2, 20)
_MOST_NESTED: Final = 100
# How far back an earlier parcel may lie: a minute or so at the usual rate.
_KEPT_PARCELS: Final = 1000
# So long replicas have to take what was sent.
_REPLICAS_MS: Final = 1000

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Item(NamedTuple):
    """An event, or poison, to be sent."""

    # What an entry of its own holds: names and values in turn, as XADD takes them.
    fields: tuple[bytes, ...]
    # What the pipeline stores or quarantines of it.
    payload: bytes
    # What a consumer should make of it, as the journal says it.
    expected: str


class Parcel(NamedTuple):
    """What is sent at once, and the entries that carry it, by the partition they belong on."""

    items: list[Item]
    entries: dict[int, list[tuple[bytes, ...]]]


class Studio:
    """Where the parcels come from. It neither sends nor waits."""

    def __init__(
        self, rng: random.Random, poison_share: float, name: str, now_ms: int, partitions: int = 1
    ) -> None:
        """``name`` must be another one at every start, or two starts would fork each other's chains."""
        self._rng = rng
        self._partitions = partitions
        self._poison_share = poison_share
        self._players = _players(name, now_ms)
        # Anywhere in the round, so that a sender that is often killed comes to the later reasons, too.
        self._poisoned = rng.randrange(10 * len(REASONS))
        self._fixed = _bad(made(rng.choice(_FIXED_REASONS), 0, rng, now_ms))

    def parcel(self, now_ms: int) -> Parcel:
        """The next entries, of this moment: never empty."""
        rng = self._rng
        items = [self._item(now_ms) for _ in range(rng.randint(*_PARCEL_ENTRIES))]
        if rng.random() < _FIXED_SHARE:
            items += [self._fixed] * rng.randint(*_FIXED_TIMES)
        share = rng.randint(*_SHARE) if rng.random() < _SHARING_SHARE else 1
        pieces: dict[int, list[Item]] = {}
        for item in items:
            pieces.setdefault(self._partition(item), []).append(item)
        return Parcel(items, {number: packed_up(some, share) for number, some in pieces.items()})

    def _partition(self, item: Item) -> int:
        """Its player's; what names no player goes where its bytes say."""
        player = player_in(item.payload) if self._partitions > 1 else None
        if player is None:
            return crc32(item.payload) % self._partitions
        return number_of(player, self._partitions)

    def _item(self, now_ms: int) -> Item:
        if self._rng.random() < self._poison_share:
            self._poisoned += 1
            return _bad(poison(self._poisoned, self._rng, now_ms))
        payload = encode(step(self._rng.choice(self._players), now_ms))
        return Item((Form.EVENT.value, payload), payload, STORED)


def _players(name: str, now_ms: int) -> list[Player]:
    players = population(random.Random(name).getrandbits(63), _PLAYERS, now_ms, 0)  # noqa: S311
    for player in players:
        player.name = f"{player.name} of {name}"
    return players


def _bad(entry: Poison) -> Item:
    return Item(entry.fields, entry.payload, entry.reason.value)


def packed_up(items: list[Item], share: int) -> list[tuple[bytes, ...]]:
    """The entries that carry these items: one each, or up to ``share`` in each where they can be put so."""
    entries: list[tuple[bytes, ...]] = []
    array: list[bytes] = []
    for item in items:
        if share == 1 or not _may_share(item):
            entries.append(item.fields)
            continue
        array.append(item.payload)
        if len(array) == share:
            entries.append((Form.EVENTS.value, array_of(array)))
            array = []
    return [*entries, (Form.EVENTS.value, array_of(array))] if array else entries


def _may_share(item: Item) -> bool:
    """Whether its bytes can stand in an array and still be told from their neighbours."""
    if item.fields[0::2] != (Form.EVENT.value,) or item.payload.count(b"[") > _MOST_NESTED:
        return False
    try:
        # Whatever the strings hold; in Latin-1 every byte is a character.
        json.loads(item.payload.decode("latin-1"), strict=False)
    except ValueError:
        return False
    return item.payload == item.payload.strip()  # around an element, space is the array's


def note(journal: Journal, token: bytes, parcel: Parcel) -> None:
    """Tell the journal what is about to be sent."""
    payloads: dict[str, list[bytes]] = {}
    for item in parcel.items:
        payloads.setdefault(item.expected, []).append(item.payload)
    for expected, some in payloads.items():
        journal.tried(token, some, expected)


def send(streams: Streams, parcel: Parcel, stop: threading.Event) -> None:
    """Add the parcel, all of it again where that fails: some entries may then be there twice.

    Raises Stopped when asked to stop in an outage.
    """

    def add() -> None:
        for number, entries in parcel.entries.items():
            _add(streams.written[number], entries)

    wait_for("Redis", add, is_temporary=stream.is_temporary, stop=stop)


def _add(to: Stream, entries: list[tuple[bytes, ...]]) -> None:
    with to.client.pipeline(transaction=False) as pipe:
        for fields in entries:
            pipe.execute_command("XADD", to.key, "*", *fields)  # type: ignore[no-untyped-call]
        if to.replicas:
            pipe.execute_command("WAIT", to.replicas, _REPLICAS_MS)  # type: ignore[no-untyped-call]
        *_, copies = pipe.execute()
    if to.replicas and copies < to.replicas:
        raise NotReplicated(f"{copies} of {to.replicas} replicas have taken what was sent")


def run(
    streams: Streams, journal: Journal, stop: threading.Event, studio: Studio,
    rng: random.Random, rate: float,
) -> None:  # fmt: skip
    """Send until ``stop`` is set. Raises Stopped when asked to stop in an outage."""
    wait_for("Redis", streams.note, is_temporary=stream.is_temporary, stop=stop)
    pace = Pace(rate, time.monotonic())
    earlier: deque[Parcel] = deque(maxlen=_KEPT_PARCELS)
    sent = 0
    while not stop.is_set():
        parcel = studio.parcel(time.time_ns() // 1_000_000)
        token = uuid.uuid4().hex.encode()
        note(journal, token, parcel)
        send(streams, parcel, stop)
        journal.acknowledged(token)
        earlier.append(parcel)
        if rng.random() < _REPEATED_SHARE:
            send(streams, rng.choice(earlier), stop)
        sent += len(parcel.items)
        stop.wait(max(0.0, pace.due_s(sent) - time.monotonic()))


@app.command()
def stranger(
    *,
    redis_url: Annotated[str, typer.Option(help="Where the stream is.")],
    journal: Annotated[Path, typer.Option(metavar="FILE", help="Notes what is sent.")],
    seed: Annotated[int, typer.Option(help="The same seed sends the same kinds of things.")],
    rate: Annotated[float, typer.Option(min=0.001, help="Events a second.")] = 500.0,
    poison_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Of the events, those to be refused.")
    ] = 0.005,
    partitions: Annotated[int, typer.Option(min=1, help="Into how many streams.")] = 1,
    replicas: Annotated[int, typer.Option(min=0, help="So many must have what was sent.")] = 0,
) -> None:
    """Send events and poison until stopped, as a sender that resends whatever is in doubt."""
    log.configure()
    rng = random.Random(seed)  # noqa: S311
    name, now_ms = uuid.uuid4().hex[:12], time.time_ns() // 1_000_000
    studio = Studio(rng, poison_share, name, now_ms, partitions)
    with on_signals() as stop:
        try:
            streams = Streams(redis_url, partitions, replicas=replicas)
            with closing(Journal(journal)) as book, closing(streams):
                run(streams, book, stop, studio, rng, rate)
        except Stopped:
            pass  # what is in doubt is tried in the journal, and not acknowledged
        except (JournalError, SettingsError) as error:
            raise SystemExit(_fail(str(error))) from None
        except redis.RedisError as error:
            raise SystemExit(_fail(f"Redis cannot be used: {first_line(error)}.")) from None


def _fail(message: str) -> int:
    log.complain(message)
    return 1


if __name__ == "__main__":
    app(prog_name="python -m infamous.prove.stranger")
