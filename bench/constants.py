"""``python -m bench.constants``: what one event costs each part is measured here; a table beside what
`infamous plan` counts with, or JSON, flows out.

Exit codes: 0 measured, whatever was found; 1 something went wrong on the way; 2 bad arguments.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from statistics import median
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from bench import crew, drain, growth, ingest, machine, proc
from bench.home import home, stoppable, told
from bench.house import BenchError, House, built
from bench.report import number
from bench.workload import DAY_MS, PLAYERS
from infamous.constants import MEASURED, Constants
from jobs import archiver, days
from jobs.rollup import hours, rollup
from jobs.storage import Storage
from pipeline.event import datetime_of
from pipeline.stream import ARCHIVE_GROUP, Stream

_WIDTH: Final = 110
_ROUNDS: Final = 3
# What an event goes through both servers' files, over and over.
_BYTES_AN_EVENT: Final = 15_000
_DAYS: Final = 30

# What grows with who plays on a day; with what is done; and, however much of both there is, with the clock.
BY_PLAYER_DAY: Final = ("hourly_rollups", "daily_rollups", "player_days", "session_parts")
BY_EVENT: Final = ("mission_parts", "mission_runs", "moral_choices")
BY_CLOCK: Final = (
    "hourly_totals",
    "hourly_items",
    "daily_cohorts",
    "daily_missions",
    "daily_sessions",
)
EVENT_BYTES: Final = """
select sum(pg_table_size(inhrelid))::bigint, sum(pg_indexes_size(inhrelid))::bigint
from pg_inherits where inhparent = 'game_events'::regclass
"""
TABLE_BYTES: Final = """
select sum(pg_total_relation_size(name::regclass))::bigint from unnest(%s) as name
"""
PLAYER_DAYS: Final = "select count(*) from player_days"
WAL_BYTES: Final = "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
Found = Mapping[str, float]


@app.command()
def constants(
    *,
    events: Annotated[
        int, typer.Option(min=1000, max=5_000_000, help="Events of each measurement.")
    ] = 200_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Measure what one event costs each part, beside what `infamous plan` counts with."""
    if sys.platform != "linux":
        raise BenchError("A process's memory is read from /proc here: run it on Linux.")
    err = Console(stderr=True, highlight=False, markup=False)
    with stoppable(), home(_BYTES_AN_EVENT * events) as folder, built(folder) as house:
        facts = machine.facts(house)
        found = measured(house, events, err.print)
    if as_json:
        told = {"machine": facts, "here": asdict(found), "in_the_code": asdict(MEASURED)}
        print(json.dumps(told, indent=2))  # noqa: T201
        return
    out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH)
    out.print(f"{facts['cpu']}, {facts['cores']} cores, version {facts['commit']}", table(found))


def table(found: Constants) -> Table:
    """A row a constant."""
    made = Table(box=None, pad_edge=False)
    made.add_column("constant")
    for name in ("here", "in the code", "ratio"):
        made.add_column(name, justify="right")
    for name, here in asdict(found).items():
        there = getattr(MEASURED, name)
        made.add_row(name, number(here), number(there), f"{here / there:.2f}")
    return made


def measured(house: House, events: int, say: Callable[[str], None]) -> Constants:
    """All of them. ``say`` gets a line about each part."""
    found: dict[str, float] = {}
    for part in (_stream, _storing, _limit, _archive, _rollups):
        told = part(house, events)
        found |= told
        say(", ".join(f"{name} {number(value)}" for name, value in told.items()))
    return Constants(**found)


def _stream(house: House, events: int) -> Found:
    """Bytes of an event on the stream and in its file, and what adding it costs."""
    file_bytes, cpu_s = _log_bytes(house), _redis_s(house)
    alone = growth.event_bytes(house, events, 1)
    added_us = 1e6 * (_redis_s(house) - cpu_s) / events
    file_bytes = _log_bytes(house) - file_bytes
    drained_us = median(_drained_us(house, events) for _ in range(_ROUNDS))
    return {
        "redis_bytes": alone,
        "redis_log_bytes": file_bytes / events,
        "redis_us": added_us + drained_us,
    }


def _drained_us(house: House, events: int) -> float:
    workload = house.clean(events, players=PLAYERS)
    house.empty()
    drain.stage(house, workload)
    with crew.consumers(house, 1) as consumers:
        cpu_s = _redis_s(house)
        drain.seconds(house, consumers)
        return 1e6 * (_redis_s(house) - cpu_s) / events


def _storing(house: House, events: int) -> Found:
    """What one consumer stores, with what memory, and what becomes of it on Postgres' disk."""
    rates, peaks, sizes = [], [], []
    workload = house.clean(events, players=PLAYERS)
    for _ in range(_ROUNDS):
        house.empty()
        before = _ask(house, EVENT_BYTES)
        drain.stage(house, workload)
        with crew.consumers(house, 1) as consumers:
            (begun,) = _ask(house, WAL_BYTES)
            rates.append(events / drain.seconds(house, consumers))
            peaks.append(proc.peak_bytes(consumers[0].pid))
        (ended,) = _ask(house, WAL_BYTES)
        after = _ask(house, EVENT_BYTES)
        sizes.append(
            [(b - a) / events for a, b in zip((*before, begun), (*after, ended), strict=True)]
        )
    heap_bytes, index_bytes, wal_bytes = map(median, zip(*sizes, strict=True))
    return {
        "consumer_events_per_s": median(rates),
        "consumer_bytes": max(peaks),
        "heap_bytes": heap_bytes,
        "index_bytes": index_bytes,
        "wal_bytes": wal_bytes,
    }


def _limit(house: House, events: int) -> Found:
    return {"copy_events_per_s": median(ingest.copy_rate(house, events) for _ in range(_ROUNDS))}


def _archive(house: House, events: int) -> Found:
    """Bytes of an event in the archive, and how long it takes to get there."""
    house.empty()
    drain.stage(house, house.clean(events, players=PLAYERS))
    with crew.consumers(house, 1) as consumers:
        drain.seconds(house, consumers)
    folder = house.home / "archive"
    begun_s = time.perf_counter()
    done = archiver.archive(
        Stream(house.client, group=ARCHIVE_GROUP), Storage(str(folder)), retention_days=_DAYS
    )
    took_s = time.perf_counter() - begun_s
    if done.events != events:
        raise BenchError(f"{done.events:,} of {events:,} events were archived: run it again.")
    size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"archive_us": 1e6 * took_s / events, "parquet_bytes": size_bytes / events}


def _rollups(house: House, events: int) -> Found:
    """What a month as the game plays it leaves, and the time it takes to make a day of it anew."""
    until = datetime_of(house.until_ms)
    house.keep_month(events)
    rollup(house.engine, until - timedelta(days=_DAYS + 1), until)
    (player_days,) = _ask(house, PLAYER_DAYS)
    by_player_day, by_event, by_clock = (
        _ask(house, TABLE_BYTES, [list(names)])[0] for names in (BY_PLAYER_DAY, BY_EVENT, BY_CLOCK)
    )
    day = until.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    house.forget_workloads()
    house.keep_played(events, 1, int(day.timestamp() * 1000) + DAY_MS)
    whole_s, summing_s = zip(*(_made_anew(house, day) for _ in range(1 + _ROUNDS)), strict=True)
    # The first time there is less to remove.
    day_s = median(summing_s[1:])
    return {
        "rollup_us": 1e6 * (median(whole_s[1:]) - day_s) / events,
        "day_us": 1e6 * day_s / events,
        "player_day_events": events / player_days,
        "player_day_bytes": by_player_day / player_days,
        "rollup_event_bytes": by_event / events,
        "hour_bytes": by_clock / (24 * _DAYS),
    }


def _made_anew(house: House, day: datetime) -> tuple[float, float]:
    """Seconds to roll all hours of a day up and sum it up; and, of those, to sum it up."""
    begun_s = time.perf_counter()
    rollup(house.engine, day, day + timedelta(days=1))
    rolled_s = time.perf_counter()
    with house.engine.connect() as connection:
        days.sum_up(connection, day.date(), hours(day, day + timedelta(days=1)))
    return rolled_s - begun_s, time.perf_counter() - rolled_s


def _ask(house: House, question: str, values: Any = None) -> tuple[int, ...]:
    with house.connected(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(question, values)
        return tuple(cursor.fetchone() or ())


def _log_bytes(house: House) -> int:
    return int(house.client.info("persistence")["aof_current_size"])


def _redis_s(house: House) -> float:
    """Seconds of CPU that Redis has used."""
    used: Any = house.client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def main() -> None:
    """Run the command; whatever is wrong is told in a sentence."""
    with told("Interrupted: nothing was measured to the end."):
        app(prog_name="python -m bench.constants")


if __name__ == "__main__":
    main()
