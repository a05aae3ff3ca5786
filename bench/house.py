"""The house: an empty folder flows in; two servers with a migrated database, and ways to fill both, flow out.

What is measured on a table that holds rows already finds them in the day before its own events, so that they
share partitions with them as far as the calendar allows.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import psycopg2
import redis
from psycopg2.extensions import connection as Connection  # noqa: N812  # psycopg2's class name
from sqlalchemy import Engine, create_engine, pool

from bench.workload import (
    BATCH_ROWS,
    DAY_MS,
    HOUR_MS,
    Workload,
    clean,
    partly_refused,
    played,
    simulated,
)
from consumer.load import COPY_EVENTS
from consumer.rows import copy_binary
from infamous import schema
from infamous.prove import servers
from pipeline import stream
from pipeline.event import Event, datetime_of
from pipeline.settings import libpq_url
from pipeline.stream import GROUP, STREAM

# Entries a round trip when a stream is filled.
_PIPELINE: Final = 1000
TRUNCATE: Final = "truncate game_events, quarantined_events, pipeline_health"
FORGET_NEW: Final = "delete from game_events where ts >= %s"
FORGET_REST: Final = "truncate quarantined_events, pipeline_health"
MAKE_PARTITIONS: Final = "select ensure_game_events_partitions(%s, %s)"


class BenchError(Exception):
    """What was to be measured went wrong; the message is a sentence for people."""


@dataclass
class House:
    """The servers, and what they hold."""

    home: Path
    servers: servers.Servers
    engine: Engine
    client: redis.Redis
    # The moment before which all events happened.
    until_ms: int
    # Rows that were there before anything was measured; they are older than every other.
    kept_rows: int = 0
    _laid: dict[str, Workload] = field(default_factory=dict)

    @property
    def logs(self) -> Path:
        """Where processes write what they have to say."""
        folder = self.home / "logs"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def database_url(self) -> str:
        """As libpq reads it."""
        return libpq_url(self.servers.postgres.url)

    @property
    def redis_url(self) -> str:
        """As redis-py reads it."""
        return self.servers.redis.url

    @contextmanager
    def connected(self, *, autocommit: bool = False) -> Iterator[Connection]:
        """A connection of its own to the database."""
        connection = psycopg2.connect(self.database_url)
        connection.autocommit = autocommit
        try:
            yield connection
        finally:
            connection.close()

    def clean(self, count: int, *, players: int, share: int = 1) -> Workload:
        """The workload of that size, on a stream of its own; made at the first call."""
        name = f"bench:{count}:{players}:{share}"
        if name not in self._laid:
            self._lay(clean(name, count, self.until_ms, players=players, share=share))
        return self._laid[name]

    def partly_refused(self, count: int, *, players: int) -> Workload:
        """The same with one entry in a hundred that is to be refused."""
        name = f"bench:{count}:{players}:refused"
        if name not in self._laid:
            clean_one = self.clean(count, players=players)
            self._lay(partly_refused(name, clean_one, self.until_ms))
        return self._laid[name]

    def _lay(self, workload: Workload) -> None:
        entries = iter(workload.entries)
        while page := list(islice(entries, _PIPELINE)):
            pipeline: Any = self.client.pipeline(transaction=False)
            for fields in page:
                pipeline.execute_command("XADD", workload.name, "*", *fields)
            pipeline.execute()
        self.client.xgroup_create(workload.name, GROUP, id="0")
        self._laid[workload.name] = workload

    def forget_workloads(self) -> None:
        """Give their memory back."""
        for name in self._laid:
            self.client.delete(name)
        self._laid.clear()

    def empty(self) -> None:
        """No entry on the stream, its group ready, and no row but those that are kept."""
        self.client.delete(STREAM)
        self.client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        with self.connected(autocommit=True) as connection, connection.cursor() as cursor:
            if self.kept_rows:
                cursor.execute(FORGET_NEW, (datetime_of(self.until_ms - HOUR_MS),))
                cursor.execute(FORGET_REST)
                cursor.execute("vacuum game_events")
            else:
                cursor.execute(TRUNCATE)
            # So that none falls into the middle of what comes next.
            cursor.execute("checkpoint")

    def keep(self, rows: int) -> None:
        """Have so many rows in the table that stay, of the day before everything else."""
        if rows < self.kept_rows or rows == 0:
            self.kept_rows = 0
        self.empty()
        to_ms = self.until_ms - HOUR_MS
        more = rows - self.kept_rows
        # Another seed, so that none of them is there already.
        self._fill(simulated(more, to_ms - DAY_MS, to_ms, seed=2 + self.kept_rows), to_ms - DAY_MS)
        self.kept_rows = rows

    def keep_month(self, rows: int) -> None:
        """The same with a month as the game plays it."""
        self.keep_played(rows, 30, self.until_ms - HOUR_MS)

    def keep_played(self, rows: int, days: int, to_ms: int) -> None:
        """The same with so many days before a moment as the game plays them."""
        self.keep(0)
        self._fill(played(rows, days, to_ms), to_ms - days * DAY_MS)
        self.kept_rows = rows

    def _fill(self, events: Iterable[Event], from_ms: int) -> None:
        span = (datetime_of(from_ms).date(), datetime_of(self.until_ms).date())
        with self.connected(autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(MAKE_PARTITIONS, span)
        copy_all(self, chunks(events))
        with self.connected(autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("vacuum analyze game_events")


def chunks(events: Iterable[Event]) -> Iterator[bytes]:
    """The rows of a COPY each, as many as a consumer stores at once."""
    rest = iter(events)
    while part := list(islice(rest, BATCH_ROWS)):
        yield copy_binary(part)


def copy_all(house: House, ready: Iterable[bytes]) -> float:
    """COPY and commit each of these; returns the seconds it took."""
    with house.connected() as connection, connection.cursor() as cursor:
        begun_s = time.perf_counter()
        for rows in ready:
            cursor.copy_expert(COPY_EVENTS, io.BytesIO(rows), size=len(rows))
            connection.commit()
        return time.perf_counter() - begun_s


@contextmanager
def built(home: Path) -> Iterator[House]:
    """A house in an empty folder; its servers are gone when this ends, the folder stays.

    Raises ServerError where a server cannot be started. Call it from the main thread.
    """
    with servers.running(home / "servers") as both:
        engine = create_engine(both.postgres.url, poolclass=pool.NullPool)
        client = stream.connect(both.redis.url)
        try:
            # A rewrite of its file in the middle of a case would be charged to that case alone.
            client.config_set("auto-aof-rewrite-percentage", 0)
            schema.migrate(engine)
            yield House(home, both, engine, client, time.time_ns() // 1_000_000)
        finally:
            client.close()
            engine.dispose()
