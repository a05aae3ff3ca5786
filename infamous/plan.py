"""The plan: events a second, days, and an outage to be outlived flow in; how large each part must be, and
which of them gives way first, flow out. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from infamous.constants import MEASURED, Constants

DAY_S: Final = 86_400
HOUR_S: Final = 3_600
MB: Final = 1024 * 1024

RATES: Final = 0.001, 1_000_000.0
MOST_DAYS: Final = 3_650
# A month: who does not mend Postgres within that does not wait for a stream.
MOST_HOURS: Final = 720.0

# What the other rooms do, which this one may not ask: tests compare.
# Of Redis' memory: above it what all have stored is trimmed sooner, and the status turns red.
TRIM_SHARE: Final = 0.5
ALARM_SHARE: Final = 0.8
KEEP_S: Final = DAY_S
# Every so often the last hours are rolled up anew, and the archive is written, for so long at the most.
TURN_S: Final = 300
ROLLED_HOURS: Final = 2
ARCHIVING_S: Final = 120
# Rows of a day above which a day is cut into parts, and how many.
MANY_ROWS: Final = 40_000_000
MOST_ROWS: Final = 200_000_000
# The least, as compose.yaml sets it: of Redis' memory, which holds what is on its way to consumers as well,
# and of the log that Postgres keeps.
LEAST_REDIS_BYTES: Final = 384 * MB
LEAST_WAL_BYTES: Final = 2048 * MB

# A core, a disk or a consumer that is busier than this has nothing left for a bad day.
BUSY_SHARE: Final = 0.5
FULL_SHARE: Final = 0.8
# While Redis writes its log anew there is a copy of what changes meanwhile; on the disk, the log, which has
# grown to twice the data by then, and the new one beside it.
COPIES_IN_MEMORY: Final = 2
COPIES_ON_DISK: Final = 3
# One may be killed, or be updated, while another goes on.
FEWEST: Final = 2
# From one checkpoint to the end of the next: twice the five minutes that Postgres begins with.
WAL_S: Final = 600
# A count over the whole table locks each partition and its index; Postgres begins with 64 locks for each of
# 100 sessions.
MOST_LOCKS: Final = 6_400
LOCKS_A_PARTITION: Final = 2
# Above these somebody should think again: a fork of Redis, and a backup of Postgres, take their time.
LARGE_REDIS_BYTES: Final = 64 * 1024 * MB
LARGE_POSTGRES_BYTES: Final = 2 * 1024 * 1024 * MB
USUAL_DAYS: Final = 90


class BadPlan(Exception):
    """What was asked for cannot be planned; the message is a sentence for people."""


@dataclass(frozen=True)
class Wish:
    """What is asked for."""

    events_per_s: float
    # So long events stay in Postgres.
    days: int
    # So long Postgres may be away before Redis is full.
    redis_hours: float = 4.0
    # Who plays on a day; None: as many as there are where each does as much as the simulator's.
    players: int | None = None

    def __post_init__(self) -> None:
        low, high = RATES
        if not low <= self.events_per_s <= high:
            raise BadPlan(
                f"{self.events_per_s:g} events a second cannot be planned: give {low:g} to {high:,.0f}."
            )
        if not 1 <= self.days <= MOST_DAYS:
            raise BadPlan(f"{self.days:,} days cannot be planned: give 1 to {MOST_DAYS:,}.")
        if not 0 < self.redis_hours <= MOST_HOURS:
            raise BadPlan(
                f"An outage of {self.redis_hours:g} hours cannot be planned: give more than 0, up to"
                f" {MOST_HOURS:g}."
            )
        if self.players is not None and not 1 <= self.players <= self.events_a_day:
            raise BadPlan(
                f"{self.players:,} players cannot play on a day of {self.events_a_day:,.0f} events: give 1"
                " to as many as there are events."
            )

    @property
    def events_a_day(self) -> float:
        """How many come in a day."""
        return self.events_per_s * DAY_S


@dataclass(frozen=True)
class Redis:
    """The stream's server."""

    held_bytes: float
    maxmemory_bytes: float
    memory_bytes: float
    disk_bytes: float
    # How much of what is stored stays for a replay, on a day when nothing goes wrong.
    replay_s: float


@dataclass(frozen=True)
class Postgres:
    """The tables' server, after all the days."""

    heap_bytes: float
    index_bytes: float
    players: float
    player_day_bytes: float
    rollup_event_bytes: float
    hour_bytes: float
    wal_bytes: float
    used_bytes: float
    disk_bytes: float
    parts_a_day: int
    partitions: int


@dataclass(frozen=True)
class Consumers:
    """Who stores."""

    count: int
    events_per_s: float
    memory_bytes: float
    # Until what came in the outage is stored; None: never.
    catch_up_s: float | None


@dataclass(frozen=True)
class Archive:
    """The Parquet files, which nobody drops."""

    day_bytes: float
    total_bytes: float


@dataclass(frozen=True)
class Workers:
    """RQ's, who roll up, archive and trim."""

    # Of each five minutes.
    rollup_s: float
    archive_s: float
    count: int


@dataclass(frozen=True)
class Limit:
    """A part, from how many events a second on it is the one that gives way, and what to do then."""

    part: str
    events_per_s: float
    advice: str


@dataclass(frozen=True)
class Plan:
    """How large everything must be."""

    wish: Wish
    constants: Constants
    events_a_day: float
    events: float
    redis: Redis
    postgres: Postgres
    consumers: Consumers
    archive: Archive
    workers: Workers
    # The nearest first.
    limits: tuple[Limit, ...]
    warnings: tuple[str, ...]


def plan(wish: Wish, constants: Constants = MEASURED) -> Plan:
    """Everything that follows from what is asked for."""
    redis, postgres = _redis(wish, constants), _postgres(wish, constants)
    ways = limits(constants)
    events = wish.events_a_day * wish.days
    return Plan(
        wish,
        constants,
        wish.events_a_day,
        events,
        redis,
        postgres,
        _consumers(wish, constants),
        Archive(wish.events_a_day * constants.parquet_bytes, events * constants.parquet_bytes),
        _workers(wish, constants),
        ways,
        (
            *(f"{way.part}: {way.advice}" for way in ways if way.events_per_s < wish.events_per_s),
            *_warnings(wish, constants, redis, postgres),
        ),
    )


def limits(constants: Constants) -> tuple[Limit, ...]:
    """The rate at which each part has nothing left, the lowest first."""
    found = (
        Limit(
            "rollups",
            TURN_S * 1e6 / _rollup_us(constants),
            "two hours and their day take longer to roll up than the five minutes until the next turn, so the"
            " dashboards fall behind while every event is stored all the same: give Postgres faster cores, or"
            " divide the players among several such systems.",
        ),
        Limit(
            "archive",
            ARCHIVING_S / TURN_S * 1e6 / constants.archive_us,
            "more comes than is archived in two minutes of five, and the stream keeps what is not archived"
            " until Redis is full: let `infamous archive run` go on beside the workers, or do without an"
            " archive (`infamous archive leave`).",
        ),
        Limit(
            "one Redis",
            BUSY_SHARE * 1e6 / constants.redis_us,
            "half of the one core it uses is taken: send a hundred events an entry (`events`), which costs"
            " it far less, or divide the stream over a Redis Cluster (STREAM_PARTITIONS).",
        ),
        Limit(
            "one Postgres",
            BUSY_SHARE * constants.copy_events_per_s,
            "half of what one connection can write by COPY is taken, and more consumers add little: give"
            " Postgres more and faster cores and a disk of its own, or divide the players among several such"
            " systems.",
        ),
    )
    return tuple(sorted(found, key=lambda limit: limit.events_per_s))


def _rollup_us(constants: Constants) -> float:
    """What a turn takes late in the day, for each event a second."""
    return ROLLED_HOURS * HOUR_S * constants.rollup_us + DAY_S * constants.day_us


def _redis(wish: Wish, constants: Constants) -> Redis:
    held_bytes = wish.events_per_s * wish.redis_hours * HOUR_S * constants.redis_bytes
    maxmemory_bytes = max(float(LEAST_REDIS_BYTES), held_bytes / ALARM_SHARE)
    room_s = TRIM_SHARE * maxmemory_bytes / (wish.events_per_s * constants.redis_bytes)
    return Redis(
        held_bytes,
        maxmemory_bytes,
        COPIES_IN_MEMORY * maxmemory_bytes,
        # Its file holds more bytes an event than its memory does.
        COPIES_ON_DISK * maxmemory_bytes * constants.redis_log_bytes / constants.redis_bytes,
        min(float(KEEP_S), room_s),
    )


def _postgres(wish: Wish, constants: Constants) -> Postgres:
    events = wish.events_a_day * wish.days
    players = wish.players or wish.events_a_day / constants.player_day_events
    heap_bytes, index_bytes = events * constants.heap_bytes, events * constants.index_bytes
    player_day_bytes = players * wish.days * constants.player_day_bytes
    rollup_event_bytes = events * constants.rollup_event_bytes
    hour_bytes = 24 * wish.days * constants.hour_bytes
    wal_bytes = max(float(LEAST_WAL_BYTES), wish.events_per_s * WAL_S * constants.wal_bytes)
    used_bytes = (
        heap_bytes + index_bytes + player_day_bytes + rollup_event_bytes + hour_bytes + wal_bytes
    )
    parts = parts_a_day(wish.events_a_day)
    return Postgres(
        heap_bytes,
        index_bytes,
        players,
        player_day_bytes,
        rollup_event_bytes,
        hour_bytes,
        wal_bytes,
        used_bytes,
        used_bytes / FULL_SHARE,
        parts,
        parts * wish.days,
    )


def parts_a_day(rows: float) -> int:
    """How many partitions a day of so many rows is cut into."""
    if rows > MOST_ROWS:
        return 24
    return 4 if rows > MANY_ROWS else 1


def _consumers(wish: Wish, constants: Constants) -> Consumers:
    count = max(
        FEWEST, math.ceil(wish.events_per_s / (BUSY_SHARE * constants.consumer_events_per_s))
    )
    # However many they are, they write into one Postgres.
    together = min(count * constants.consumer_events_per_s, constants.copy_events_per_s)
    spare = together - wish.events_per_s
    missed = wish.events_per_s * wish.redis_hours * HOUR_S
    return Consumers(
        count, together, count * constants.consumer_bytes, missed / spare if spare > 0 else None
    )


def _workers(wish: Wish, constants: Constants) -> Workers:
    rollup_s = wish.events_per_s * _rollup_us(constants) / 1e6
    archive_s = wish.events_per_s * TURN_S * constants.archive_us / 1e6
    # Rollups wait for each other, as archivers do: of each, one at a time. One more trims meanwhile.
    busy = min(rollup_s / TURN_S, 1.0) + min(archive_s / TURN_S, 1.0)
    return Workers(rollup_s, archive_s, 1 + math.ceil(busy))


def _warnings(
    wish: Wish, constants: Constants, redis: Redis, postgres: Postgres
) -> tuple[str, ...]:
    found = []
    if redis.maxmemory_bytes > LARGE_REDIS_BYTES:
        hours = wish.redis_hours * LARGE_REDIS_BYTES / redis.maxmemory_bytes
        found.append(
            "Redis' memory: a server of that size takes long to start and to write its log anew: let"
            f" the stream hold a shorter outage (--redis-hours {hours:.2g} fits into 64 GB), or divide the"
            " players among several such systems."
        )
    if postgres.used_bytes > LARGE_POSTGRES_BYTES and wish.days > USUAL_DAYS:
        usual = _postgres(Wish(wish.events_per_s, USUAL_DAYS, players=wish.players), constants)
        share = usual.used_bytes / postgres.used_bytes
        found.append(
            "Postgres' disk: backups and restores of that size take long: with"
            f" RETENTION_DAYS={USUAL_DAYS} it is {share:.0%} of it, the rollups stay beside that, and the"
            " archive has the rest."
        )
    elif postgres.used_bytes > LARGE_POSTGRES_BYTES:
        found.append(
            "Postgres' disk: backups and restores of that size take long: keep fewer days in it; rollups"
            " stay, and the archive has the rest."
        )
    locks = LOCKS_A_PARTITION * postgres.partitions
    if locks > MOST_LOCKS:
        found.append(
            f"Postgres' partitions: to count the whole table takes {locks:,} locks, and it begins with room"
            f" for about {MOST_LOCKS:,}: set max_locks_per_transaction={math.ceil(2 * locks / 100)}, or"
            " keep fewer days."
        )
    return tuple(found)
