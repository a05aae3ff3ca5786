"""The promise under any order of events: real servers, moves chosen by chance, nothing lost or doubled.

Hypothesis plays senders, three consumers, the trimmer and whoever deletes groups, a move at a time, and
looks into the tables and the stream after each. A failing game is shrunk to its shortest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from uuid import UUID

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, text

from consumer.batch import Batch
from consumer.load import Loader
from pipeline.entry import Entry
from pipeline.event import Window
from pipeline.stream import GroupLost, Stream
from tests.conftest import World
from tests.integration.consuming import LIMITS, now_ms
from tests.unit.samples import NOW_MS, RETENTION_DAYS, fields
from tests.unit.wire_events import json_texts, mutated, wire_fields

T = TypeVar("T")

DAY_MS: Final = 86_400_000
CONSUMERS: Final = 3
HEALTH: Final = """
select coalesce(sum(stored), 0)::bigint as stored, coalesce(sum(quarantined), 0)::bigint as quarantined
from pipeline_health
"""
TIMES_SEEN: Final = "select coalesce(sum(times_seen), 0)::bigint from quarantined_events"

consumers = st.integers(0, CONSUMERS - 1)
counts = st.integers(1, 8)


@dataclass
class Consumer:
    """What one consumer has in its hands; all of it is gone when it crashes."""

    name: str
    loader: Loader
    # Read or claimed, not stored yet.
    held: list[Entry] = field(default_factory=list)
    # Stored, not acknowledged yet.
    stored: list[bytes] = field(default_factory=list)
    acknowledged: list[bytes] = field(default_factory=list)


def batch_of(entries: list[Entry], at_ms: int) -> Batch:
    """A batch as the worker fills it."""
    batch = Batch(LIMITS)
    window = Window.at(at_ms, RETENTION_DAYS)
    for entry in entries:
        batch.take([entry], window, 0.0)
    return batch


class Promise(RuleBasedStateMachine):
    """Everything that may happen to the stream and the tables, in any order."""

    def __init__(self, source: Stream, connection: Connection, loaders: list[Loader]) -> None:
        super().__init__()
        self.source, self.connection = source, connection
        self.good: dict[UUID, bytes] = {}
        self.bad: set[bytes] = set()
        # Every entry ever added, by id.
        self.sent: dict[bytes, bytes] = {}
        self.acknowledged: set[bytes] = set()
        self.consumers = [
            Consumer(f"consumer-{number}", loader) for number, loader in enumerate(loaders)
        ]
        self.names = CONSUMERS
        self.source.client.delete(source.key)
        for table in ("game_events", "quarantined_events", "pipeline_health"):
            self.connection.execute(text(f"delete from {table}"))

    # --- senders

    @rule(count=counts)
    def send_good(self, count: int) -> None:
        """A sender adds events."""
        payloads = []
        for _ in range(count):
            event = fields(now_ms(), len(self.good), seq=None)
            payloads.append(json.dumps(event).encode())
            self.good[UUID(event["id"])] = payloads[-1]
        self._append(payloads)

    @rule(payloads=st.lists(st.binary(max_size=4), min_size=1, max_size=4))
    def send_bad(self, payloads: list[bytes]) -> None:
        """A sender adds what is none, some of it not for the first time."""
        self.bad.update(payloads)
        self._append(payloads)

    @precondition(lambda self: self.sent)
    @rule(place=st.integers(0, 10_000), count=counts)
    def send_again(self, place: int, count: int) -> None:
        """A sender that lost a reply adds the same entries once more."""
        before = list(self.sent.values())
        place %= len(before)
        self._append(before[place : place + count])

    def _append(self, payloads: list[bytes]) -> None:
        ids = self.source.append(payloads)
        self.sent.update(zip(ids, payloads, strict=True))

    # --- consumers

    @rule(number=consumers, count=counts)
    def read(self, number: int, count: int) -> None:
        """A consumer reads, and finds nothing lost."""
        one = self.consumers[number]
        delivered = self._redis(lambda: self.source.read(one.name, count))
        assert delivered.lost == 0
        one.held += delivered.entries

    @rule(number=consumers, count=counts)
    def claim(self, number: int, count: int) -> None:
        """A consumer takes over whatever is pending, from the living as well, and from itself."""
        one = self.consumers[number]
        claimed = self._redis(lambda: self.source.claim(one.name, idle_s=0, count=count))
        assert claimed.lost == 0
        one.held += claimed.entries

    @rule(number=consumers)
    def bury(self, number: int) -> None:
        """A consumer removes the names that hold nothing, though their owners live."""
        one = self.consumers[number]
        assert self.source.bury(one.name, claim_after_s=0).lost == 0

    @rule(number=consumers, times=st.sampled_from([1, 1, 1, 2]))
    def commit(self, number: int, times: int) -> None:
        """A consumer stores what it holds; twice, where the first reply was lost."""
        one = self.consumers[number]
        batch = batch_of(one.held, now_ms())
        for _ in range(times):
            stored = one.loader.store(batch)
            assert stored.rows + stored.duplicates + stored.quarantined == len(one.held)
        one.stored += batch.ids
        one.held = []

    @rule(number=consumers)
    def acknowledge(self, number: int) -> None:
        """A consumer acknowledges what it has stored."""
        one = self.consumers[number]
        self.source.ack(one.stored)
        self.acknowledged.update(one.stored)
        one.acknowledged, one.stored = one.stored, []

    @rule(number=consumers)
    def acknowledge_again(self, number: int) -> None:
        """A consumer whose reply was lost repeats its acknowledgement."""
        self.source.ack(self.consumers[number].acknowledged)

    @rule(number=consumers, keeps_name=st.booleans())
    def crash(self, number: int, keeps_name: bool) -> None:
        """A consumer dies with all it holds; what it read stays pending under its name."""
        one = self.consumers[number]
        name = one.name
        if not keeps_name:
            name, self.names = f"consumer-{self.names}", self.names + 1
        self.consumers[number] = Consumer(name, one.loader)

    # --- operators

    @rule()
    def trim(self) -> None:
        """The trimmer drops what everybody has acknowledged, however young."""
        self.source.trim(keep_s=0)

    @precondition(lambda self: self.sent)  # without a stream there is nothing to delete
    @rule()
    def lose_group(self) -> None:
        """Somebody deletes the group; whoever reads next makes it again."""
        self.source.client.xgroup_destroy(self.source.key, self.source.group)

    @rule()
    def ensure_group(self) -> None:
        """A consumer that starts makes the group if it is missing."""
        self.source.ensure_group()

    def _redis(self, call: Callable[[], T]) -> T:
        """As the worker does it."""
        while True:
            try:
                return call()
            except GroupLost:
                self.source.ensure_group()

    # --- what must hold

    @invariant()
    def nothing_is_lost(self) -> None:
        """What was acknowledged is stored or quarantined; what is neither is still on the stream."""
        rows, kept = self._rows(), self._kept()
        assert rows <= self.good.keys()
        assert kept <= self.bad
        safe = kept | {self.good[one] for one in rows}
        missing = {id_ for id_, payload in self.sent.items() if payload not in safe}
        assert not missing & self.acknowledged
        assert missing <= self._on_the_stream()

    def teardown(self) -> None:
        """Whatever happened: a consumer that is left to itself brings everything home."""
        self._converge()
        assert self._rows() == set(self.good)
        assert self._kept() == self.bad
        state = self.source.state()
        assert (state.undelivered, state.pending) == (0, 0)
        health = self.connection.execute(text(HEALTH)).one()
        times_seen = self.connection.execute(text(TIMES_SEEN)).scalar_one()
        assert health == (len(self.good), times_seen)

    def _converge(self) -> None:
        self.source.ensure_group()
        heir = Consumer("heir", self.consumers[0].loader)
        while True:
            claimed = self.source.claim(heir.name, idle_s=0, count=1000)
            delivered = self.source.read(heir.name, 1000)
            assert (claimed.lost, delivered.lost) == (0, 0)
            entries = claimed.entries + delivered.entries
            if not entries:
                return
            batch = batch_of(entries, now_ms())
            heir.loader.store(batch)
            self.source.ack(batch.ids)

    def _on_the_stream(self) -> set[bytes]:
        pages = self.source.walk(from_ms=0, to_ms=2**62)
        return {entry.id for page in pages for entry in page}

    def _rows(self) -> set[UUID]:
        found = self.connection.execute(text("select id from game_events")).scalars().all()
        assert len(found) == len(set(found))
        return set(found)

    def _kept(self) -> set[bytes]:
        found = self.connection.execute(text("select raw from quarantined_events")).scalars()
        return {bytes(raw) for raw in found}


@contextmanager
def small_nodes(world: World) -> Iterator[None]:
    """Streams of two entries a node, so that a trim has whole nodes to drop."""
    name = "stream-node-max-entries"
    before = str(world.client.config_get(name)[name])
    world.client.config_set(name, 2)
    try:
        yield
    finally:
        world.client.config_set(name, before)


@pytest.mark.timeout(600)  # a game that failed is worth the minutes it takes to shrink it
def test_no_order_of_events_loses_or_repeats(world: World) -> None:
    """Crashes, takeovers, lost replies, lost groups and trims in any order: each event is one row."""
    loaders = [Loader(world.database_url, f"test-{number}") for number in range(CONSUMERS)]
    options = {"isolation_level": "AUTOCOMMIT"}
    settings = hypothesis.settings(max_examples=80, stateful_step_count=40, deadline=None)
    try:
        with small_nodes(world), world.engine.connect().execution_options(**options) as connection:

            class Here(Promise):
                """The game on this world's servers."""

                def __init__(self) -> None:
                    super().__init__(world.source, connection, loaders)

            run_state_machine_as_test(Here, settings=settings)
    finally:
        for loader in loaders:
            loader.close()


# --- any bytes

ANY_BYTES: Final = (
    st.binary(max_size=300)
    | json_texts().map(str.encode)
    | mutated()
    | wire_fields(oldest_ms=NOW_MS - 2 * DAY_MS).map(lambda one: json.dumps(one).encode())
)


@hypothesis.settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(ANY_BYTES, min_size=20, max_size=30))
def test_any_bytes_are_stored_or_quarantined(world: World, sent: list[bytes]) -> None:
    """A batch of whatever senders write is stored whole: each entry a row, a duplicate or a refusal."""
    entries = [Entry(b"%d-0" % number, raw) for number, raw in enumerate(sent)]
    batch = batch_of(entries, NOW_MS)
    loader = Loader(world.database_url, "test")
    try:
        stored = loader.store(batch)
    finally:
        loader.close()
    assert stored.rows + stored.duplicates + stored.quarantined == len(sent)
    with world.engine.begin() as connection:
        ids = connection.execute(text("select id from game_events")).scalars().all()
        kept: list[Any] = list(
            connection.execute(text("select raw, times_seen, reason from quarantined_events"))
        )
        connection.execute(text("delete from game_events"))
        connection.execute(text("delete from quarantined_events"))
    assert sorted(ids) == sorted({event.id for event in batch.events})
    assert stored.rows == len(ids)
    refused = Counter(refusal.entry.payload for refusal in batch.refusals)
    assert {bytes(one.raw): one.times_seen for one in kept} == refused
    assert "database" not in {one.reason for one in kept}
