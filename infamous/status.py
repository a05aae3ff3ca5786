"""The status: both servers flow in, the facts about streams and tables at this moment flow out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import redis
from sqlalchemy import Connection, Engine, text

from infamous import caught_up, schema
from infamous.caught_up import Behind
from pipeline import partitions
from pipeline.event import datetime_of
from pipeline.patience import first_line
from pipeline.stream import Holder, Memory, Stream, StreamState, is_temporary
from pipeline.streams import Streams, furthest_behind, shortest, together

COUNT_ROWS: Final = text("select count(*) from game_events")
NEWEST_EVENT: Final = text("""
select ts, ingested_at from game_events order by ts desc, id desc limit 1
""")
QUARANTINED: Final = text("""
select reason, count(*) as entries from quarantined_events where released_at is null
group by reason order by 2 desc, 1
""")
PARTITIONS: Final = text(partitions.DAYS)
# A consumer writes its row at least every ten seconds; one that stopped over a flood writes no more.
FLOODED: Final = text("""
select process from pipeline_health
where is_flooded and updated_at > now() - interval '10 minutes'
  and (process, minute) in (select process, max(minute) from pipeline_health
                            where minute > now() - interval '15 minutes' group by process)
order by 1
""")
LOST: Final = text("""
select coalesce(sum(lost), 0)::bigint from pipeline_health where minute > now() - interval '7 days'
""")


@dataclass(frozen=True)
class Tables:
    """What is stored. Rows are counted, not estimated."""

    rows: int
    newest_ts: datetime | None
    newest_ingested_at: datetime | None
    quarantined: Mapping[str, int]
    partitions: int
    last_partition: date | None
    # How many days after today have partitions, up to the first that has none.
    days_ahead: int
    # Consumers that bad entries flood at present.
    flooded: tuple[str, ...] = ()
    # Entries that were trimmed from the stream before they were stored, in the last week.
    lost: int = 0


@dataclass(frozen=True)
class Part:
    """One of the streams."""

    key: str
    # Host and port of the node that holds it, where there are several.
    node: str | None
    state: StreamState
    # Why nobody can say more of it; None where it answers.
    away: str | None = None


@dataclass(frozen=True)
class Status:
    """Everything ``infamous status`` shows."""

    # All streams as one; those that are away are missing in it, and in all else that is told of them.
    stream: StreamState
    # Events the producer says it sent, ever; 0 when another program feeds the stream.
    produced: int
    tables: Tables | None  # None: the database was never migrated
    redis_version: str
    postgres_version: str
    schema_revision: str | None
    schema_head: str | None
    at: datetime
    memory: Memory
    # The group that keeps entries from being trimmed; None where all are done with all.
    holder: Holder | None
    # Each stream that exists, is written into, or is away.
    parts: tuple[Part, ...] = ()
    # None: nobody named another database to be read.
    behind: Behind | None = None

    @property
    def oldest_waiting_s(self) -> float | None:
        """Age of the oldest entry that is not acknowledged, in seconds."""
        return self.waiting_s(self.stream)

    def waiting_s(self, state: StreamState) -> float | None:
        """The same of one stream."""
        if state.oldest_waiting_ms is None:
            return None
        return max(0.0, self.at.timestamp() - state.oldest_waiting_ms / 1000)

    @property
    def away(self) -> tuple[Part, ...]:
        """The streams that are away."""
        return tuple(part for part in self.parts if part.away is not None)

    @property
    def complete_to(self) -> datetime | None:
        """Whatever was added to the streams before this is stored or quarantined; None where nobody reads
        them, and while one is away: what waits on that one may be older.
        """
        if self.away or not self.stream.group_exists:
            return None
        return datetime_of(self.stream.complete_to_ms)

    @property
    def freshness_s(self) -> float | None:
        """How far the newest event that is stored lies behind now, in seconds."""
        if self.tables is None or self.tables.newest_ts is None:
            return None
        return max(0.0, (self.at - self.tables.newest_ts).total_seconds())


@dataclass(frozen=True)
class _Seen:
    """What one stream, and its server, say of themselves."""

    state: StreamState
    produced: int
    memory: Memory
    holder: Holder | None


def _seen(source: Stream) -> _Seen:
    return _Seen(source.state(), source.produced(), source.memory(), source.holder())


def status(streams: Streams, engine: Engine, reader: Engine | None = None) -> Status:
    """Ask both servers, and the one at which is read, where that is another. Raises what redis-py raises
    where no stream answers.
    """
    with engine.connect() as connection:
        revision = schema.revision(engine)
        version = str(connection.execute(text("show server_version")).scalar_one())
        tables = None if revision is None else look(connection, has_health=revision >= "0002")
    answers = streams.look_and_ask(_seen)
    seen = answers.some()
    return Status(
        stream=together(one.state for one in seen.values()),
        produced=sum(one.produced for one in seen.values()),
        tables=tables,
        redis_version=redis_version(streams),
        postgres_version=version.split(" ", maxsplit=1)[0],
        schema_revision=revision,
        schema_head=schema.head(),
        at=datetime_of(time.time_ns() // 1_000_000),
        memory=shortest(one.memory for one in seen.values()),
        holder=furthest_behind(one.holder for one in seen.values()),
        parts=_parts(streams, seen, answers.reasons),
        behind=None if reader is None else caught_up.look(engine, reader),
    )


def _parts(
    streams: Streams, seen: Mapping[str, _Seen], away: Mapping[str, str]
) -> tuple[Part, ...]:
    found = [
        Part(source.key, _node_of(streams, source), seen[source.key].state)
        for source in streams.all
        if source.key in seen and (source in streams.written or seen[source.key].state.exists)
    ]
    lost = [Part(key, None, StreamState(), reason) for key, reason in away.items()]
    return tuple(sorted([*found, *lost], key=lambda part: in_order(part.key)))


def in_order(key: str) -> tuple[str, int]:
    """Streams as people count them: the tenth comes after the second."""
    stem, _, number = key.rstrip("}").partition("{")
    return stem, int(number) if number.isdecimal() else -1


def _node_of(streams: Streams, source: Stream) -> str | None:
    try:
        return streams.node_of(source) if streams.is_cluster() else None
    except redis.RedisError as error:
        if not is_temporary(error):
            raise
        return first_line(error)


def look(connection: Connection, *, has_health: bool = True) -> Tables:
    """Read the tables. A database that waits for its migration has no health table yet."""
    newest = connection.execute(NEWEST_EVENT).one_or_none()
    days = {row.day: row.partitions for row in connection.execute(PARTITIONS)}
    return Tables(
        rows=connection.execute(COUNT_ROWS).scalar_one(),
        newest_ts=newest.ts if newest else None,
        newest_ingested_at=newest.ingested_at if newest else None,
        quarantined={row.reason: row.entries for row in connection.execute(QUARANTINED)},
        partitions=sum(days.values()),
        last_partition=max(days, default=None),
        flooded=tuple(connection.execute(FLOODED).scalars()) if has_health else (),
        lost=connection.execute(LOST).scalar_one() if has_health else 0,
        days_ahead=partitions.ahead(days, datetime.now(UTC).date()),
    )


def redis_version(streams: Streams) -> str:
    """Name and version of the first server that answers: Valkey calls itself Redis where a client asks for
    Redis'.
    """
    info: Any = streams.first(lambda one: one.client.info("server"))
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}"


def as_json(now: Status) -> dict[str, Any]:
    """The same facts for scripts: plain values, ISO times, flat where a script looks first."""
    tables = now.tables
    facts: dict[str, Any] = {
        "at": now.at,
        "entries": now.stream.entries,
        "undelivered": now.stream.undelivered,
        "undelivered_is_estimate": now.stream.undelivered_is_estimate,
        "pending": now.stream.pending,
        "consumers": {
            name: {"pending": consumer.entries, "idle_s": consumer.idle_ms / 1000}
            for name, consumer in now.stream.consumers.items()
        },
        "oldest_waiting_s": now.oldest_waiting_s,
        "produced": now.produced,
        "rows": tables.rows if tables else None,
        "quarantined": {
            "total": sum(tables.quarantined.values()) if tables else None,
            "by_reason": dict(tables.quarantined) if tables else {},
        },
        "newest_ts": tables.newest_ts if tables else None,
        "newest_ingested_at": tables.newest_ingested_at if tables else None,
        "freshness_s": now.freshness_s,
        "complete_to": now.complete_to,
        "flooded": list(tables.flooded) if tables else [],
        "lost": tables.lost if tables else None,
        "partitions": tables.partitions if tables else None,
        "last_partition": tables.last_partition if tables else None,
        "partition_days_ahead": tables.days_ahead if tables else None,
        "memory": {
            "used_bytes": now.memory.used_bytes,
            "limit_bytes": now.memory.limit_bytes,
            "share": round(now.memory.share, 3),
        },
        "held_by": None
        if now.holder is None
        else {
            "group": now.holder.group,
            "entries": now.holder.entries,
            "entries_is_estimate": now.holder.is_estimate,
            "since_s": now.holder.since_s,
        },
        "streams": [
            {
                "key": part.key,
                "node": part.node,
                "entries": None if part.away else part.state.entries,
                "undelivered": None if part.away else part.state.undelivered,
                "pending": None if part.away else part.state.pending,
                "oldest_waiting_s": None if part.away else now.waiting_s(part.state),
                "away": part.away,
            }
            for part in now.parts
        ],
        "servers": {"redis": now.redis_version, "postgres": f"Postgres {now.postgres_version}"},
        "schema": {"revision": now.schema_revision, "head": now.schema_head},
    }
    if now.behind is not None:
        replica = now.behind.replica
        facts["replica"] = {
            "is_replica": replica is not None,
            "is_caught_up": replica.has_all if replica else None,
            "delay_s": replica.delay_s if replica else None,
            "trouble": now.behind.trouble,
        }
    return facts
