"""The plan on the screen: sizes flow in; a line each with the sum that made it, or values for scripts, flow
out. Pure.

What stands behind ``=`` can be worked out with what stands there; a note comes behind a semicolon.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from infamous.plan import (
    ALARM_SHARE,
    ARCHIVING_S,
    BUSY_SHARE,
    COPIES_IN_MEMORY,
    COPIES_ON_DISK,
    DAY_S,
    FEWEST,
    FULL_SHARE,
    HOUR_S,
    KEEP_S,
    LEAST_REDIS_BYTES,
    LEAST_WAL_BYTES,
    MB,
    ROLLED_HOURS,
    TRIM_SHARE,
    TURN_S,
    WAL_S,
    Plan,
)

_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB", "PB")


class Row(NamedTuple):
    """What, how much, and by which sum; an empty sum where there is none."""

    what: str
    value: str
    sum: str = ""
    note: str = ""


def text(made: Plan) -> str:
    """A section a part, its limits, and what to watch."""
    return "\n".join(_lines(made))


def as_json(made: Plan) -> dict[str, Any]:
    """The same for scripts; bytes, seconds and events as they are."""
    return asdict(made) | {"settings": dict(settings(made))}


def settings(made: Plan) -> Mapping[str, str]:
    """What to set, as `.env` and compose.yaml take it."""
    return {
        "REDIS_MAXMEMORY": f"{_megabytes(made.redis.maxmemory_bytes)}mb",
        "REDIS_MEMORY": f"{_megabytes(made.redis.memory_bytes)}m",
        "RETENTION_DAYS": f"{made.wish.days}",
        "CONSUMERS": f"{made.consumers.count}",
    }


def _lines(made: Plan) -> Iterator[str]:
    wish = made.wish
    yield (
        f"{_number(wish.events_per_s)} events a second, kept for {wish.days:,} days, on a stream that holds"
        f" {_number(wish.redis_hours)} hours without Postgres"
    )
    for title, rows in _sections(made).items():
        yield ""
        yield title
        for row in rows:
            how = f"  = {row.sum}" if row.sum else ""
            note = f"; {row.note}" if row.note else ""
            yield f"  {row.what:<22} {row.value:>14}{how}{note}".rstrip()
    yield ""
    yield "settings"
    yield "  " + " ".join(f"{name}={value}" for name, value in settings(made).items())
    for warning in made.warnings:
        yield ""
        yield f"WARNING  {warning}"


def _sections(made: Plan) -> Mapping[str, list[Row]]:
    return {
        "events": _events(made),
        "Redis": _redis(made),
        "Postgres": _postgres(made),
        "consumers": _consumers(made),
        "archive": _archive(made),
        "workers": _workers(made),
        "what gives way first": [
            Row(limit.part, f"{_number(limit.events_per_s)}/s", note)
            for limit, note in ((limit, _how_limited(made, limit.part)) for limit in made.limits)
        ],
    }


def _events(made: Plan) -> list[Row]:
    wish = made.wish
    return [
        Row("a day", _count(made.events_a_day), f"{_number(wish.events_per_s)} × {DAY_S:,} s"),
        Row("in all", _count(made.events), f"{_count(made.events_a_day)} × {wish.days:,} days"),
    ]


def _redis(made: Plan) -> list[Row]:
    wish, constants, redis = made.wish, made.constants, made.redis
    rate, event = _number(wish.events_per_s), _number(constants.redis_bytes)
    most = f"{_size(redis.maxmemory_bytes)}"
    is_least = redis.maxmemory_bytes <= LEAST_REDIS_BYTES
    is_a_day = redis.replay_s >= KEEP_S
    return [
        Row(
            "held in the outage",
            _size(redis.held_bytes),
            f"{rate} × {_number(wish.redis_hours)} h × {HOUR_S:,} s × {event} bytes",
        ),
        Row(
            "REDIS_MAXMEMORY",
            most,
            "" if is_least else f"{_size(redis.held_bytes)} / {ALARM_SHARE}",
            "the least" if is_least else "`infamous status` is red from there on",
        ),
        Row(
            "REDIS_MEMORY",
            _size(redis.memory_bytes),
            f"{most} × {COPIES_IN_MEMORY}",
            "its log is written anew from a copy",
        ),
        Row(
            "disk",
            _size(redis.disk_bytes),
            f"{most} × {COPIES_ON_DISK} × {_number(constants.redis_log_bytes)} bytes / {event} bytes",
            "twice the data, and the new log",
        ),
        Row(
            "kept for a replay",
            f"{_number(redis.replay_s / HOUR_S)} h",
            "" if is_a_day else f"{most} × {TRIM_SHARE} / ({rate} × {event} bytes × {HOUR_S:,} s)",
            "a trim leaves no more than a day" if is_a_day else "",
        ),
    ]


def _postgres(made: Plan) -> list[Row]:
    wish, constants, postgres = made.wish, made.constants, made.postgres
    events, days = _count(made.events), f"{wish.days:,} days"
    players = _number(postgres.players)
    least = postgres.wal_bytes <= LEAST_WAL_BYTES
    parts = (
        postgres.heap_bytes,
        postgres.index_bytes,
        postgres.player_day_bytes,
        postgres.rollup_event_bytes,
        postgres.hour_bytes,
        postgres.wal_bytes,
    )
    return [
        Row(
            "rows", _size(postgres.heap_bytes), f"{events} × {_number(constants.heap_bytes)} bytes"
        ),
        Row(
            "their index",
            _size(postgres.index_bytes),
            f"{events} × {_number(constants.index_bytes)} bytes",
        ),
        Row(
            "players a day",
            players,
            ""
            if wish.players
            else f"{_count(made.events_a_day)} / {_number(constants.player_day_events)} events",
            "" if wish.players else "as the simulator's; --players says else",
        ),
        Row(
            "rollups by player",
            _size(postgres.player_day_bytes),
            f"{players} × {days} × {_number(constants.player_day_bytes)} bytes",
            "they stay",
        ),
        Row(
            "rollups by event",
            _size(postgres.rollup_event_bytes),
            f"{events} × {_number(constants.rollup_event_bytes)} bytes",
            "missions and choices; they stay",
        ),
        Row(
            "rollups by hour",
            _size(postgres.hour_bytes),
            f"{days} × 24 h × {_number(constants.hour_bytes)} bytes",
            "they stay",
        ),
        Row(
            "max_wal_size",
            _size(postgres.wal_bytes),
            ""
            if least
            else f"{_number(wish.events_per_s)} × {WAL_S} s × {_number(constants.wal_bytes)} bytes",
            "the least" if least else "two checkpoints",
        ),
        Row("in all", _size(postgres.used_bytes), " + ".join(map(_size, parts))),
        Row("disk", _size(postgres.disk_bytes), f"{_size(postgres.used_bytes)} / {FULL_SHARE}"),
        Row("partitions", f"{postgres.partitions:,}", f"{days} × {postgres.parts_a_day} a day"),
    ]


def _consumers(made: Plan) -> list[Row]:
    wish, constants, consumers = made.wish, made.constants, made.consumers
    rate, one = _number(wish.events_per_s), _number(constants.consumer_events_per_s)
    missed = f"{rate} × {_number(wish.redis_hours)} h × {HOUR_S:,} s"
    catch_up = (
        Row("catching up", "never")
        if consumers.catch_up_s is None
        else Row(
            "catching up",
            f"{_number(consumers.catch_up_s)} s",
            f"{missed} / ({_number(consumers.events_per_s)} - {rate})",
            "after that outage",
        )
    )
    return [
        Row(
            "needed",
            _number(wish.events_per_s / (BUSY_SHARE * constants.consumer_events_per_s)),
            f"{rate} / ({one} × {BUSY_SHARE})",
            "one stores so many a second, half is spare",
        ),
        Row("CONSUMERS", f"{consumers.count}", "", f"whole ones, {FEWEST} at the least"),
        Row(
            "memory",
            _size(consumers.memory_bytes),
            f"{consumers.count} × {_size(constants.consumer_bytes)}",
        ),
        catch_up,
    ]


def _archive(made: Plan) -> list[Row]:
    event = f"{_number(made.constants.parquet_bytes)} bytes"
    return [
        Row("a day", _size(made.archive.day_bytes), f"{_count(made.events_a_day)} × {event}"),
        Row("in all", _size(made.archive.total_bytes), f"{_count(made.events)} × {event}"),
    ]


def _workers(made: Plan) -> list[Row]:
    rate, constants, workers = _number(made.wish.events_per_s), made.constants, made.workers
    return [
        Row(
            "rolling up",
            f"{_number(workers.rollup_s)} s",
            f"{rate} × {_rollup(made)}",
            f"of each {TURN_S} s",
        ),
        Row(
            "archiving",
            f"{_number(workers.archive_s)} s",
            f"{rate} × {TURN_S} s × {_number(constants.archive_us)} µs",
            f"of each {TURN_S} s",
        ),
        Row("RQ workers", f"{workers.count}", "", "one to trim beside those"),
    ]


def _how_limited(made: Plan, part: str) -> str:
    constants = made.constants
    return {
        "rollups": f"{TURN_S} s / {_rollup(made)}",
        "archive": f"{ARCHIVING_S} s / {TURN_S} s / {_number(constants.archive_us)} µs",
        "one Redis": f"{BUSY_SHARE} / {_number(constants.redis_us)} µs",
        "one Postgres": f"{_number(constants.copy_events_per_s)} × {BUSY_SHARE}",
    }[part]


def _rollup(made: Plan) -> str:
    hour, day = _number(made.constants.rollup_us), _number(made.constants.day_us)
    return f"({ROLLED_HOURS} h × {HOUR_S:,} s × {hour} µs + {DAY_S:,} s × {day} µs)"


def _megabytes(size_bytes: float) -> int:
    return max(1, -int(-size_bytes // MB))


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else _number(value)


def _number(value: float) -> str:
    """Three digits, or all that stand before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 0.001:
        return f"{value:.3g}"
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _size(size_bytes: float) -> str:
    """Three digits of the unit that people would say; a kB is 1024 bytes."""
    for unit in _UNITS:
        if size_bytes < 1000 or unit == _UNITS[-1]:
            break
        size_bytes /= 1024
    return f"{_number(size_bytes)} {unit}"
