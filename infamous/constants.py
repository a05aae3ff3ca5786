"""Constants: what one event costs each part, as `python -m bench.constants` measured it, flows out. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Constants:
    """Of the simulator's events, which are about 180 bytes of JSON with an object of details."""

    # Redis' memory and its append-only file, where each event is an entry.
    redis_bytes: float
    redis_log_bytes: float
    # A core's time for all of it: added, read, acknowledged.
    redis_us: float
    # What one consumer stores, with both servers on the same cores.
    consumer_events_per_s: float
    # Its memory at full speed, at the most.
    consumer_bytes: float
    # What Postgres takes of ready-made rows by binary COPY on one connection.
    copy_events_per_s: float
    # A row, and its part of the primary key's index.
    heap_bytes: float
    index_bytes: float
    wal_bytes: float
    # Rollups: what grows with who plays on a day, with what is done, and with the clock.
    player_day_bytes: float
    rollup_event_bytes: float
    hour_bytes: float
    # How much a simulated player does on a day with anything at all.
    player_day_events: float
    # Time to count an event in its hour's rollups, to sum it up with all others of its day, which each turn
    # does, and to write it into the archive.
    rollup_us: float
    day_us: float
    archive_us: float
    parquet_bytes: float


# `python -m bench.constants --events 300000` on two cores of an AMD EPYC, which both servers shared with what
# was measured: Postgres 15, Valkey 9.1, Python 3.11. Bytes are the same elsewhere, times are not.
MEASURED: Final = Constants(
    redis_bytes=370,
    redis_log_bytes=434,
    redis_us=7.9,
    consumer_events_per_s=78_000,
    consumer_bytes=70_500_000,
    copy_events_per_s=217_000,
    heap_bytes=305,
    index_bytes=40.5,
    wal_bytes=366,
    player_day_bytes=2_520,
    rollup_event_bytes=15.3,
    hour_bytes=6_390,
    player_day_events=144,
    rollup_us=8.83,
    day_us=1.33,
    archive_us=10.8,
    parquet_bytes=30.5,
)
