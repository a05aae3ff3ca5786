"""``python -m jobs``: wires the jobs to Redis, Postgres and the signals; each prints what it did.

Exit codes: 0 done, or stopped; 1 a server cannot be used; 2 bad arguments or settings.
"""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

import redis
import typer
from sqlalchemy import Engine, create_engine, pool
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError

from jobs import release as releases
from jobs import replay as replays
from jobs import rollup as rollups
from jobs import schedule as schedules
from jobs import tasks
from jobs import trim as trims
from jobs import worker as workers
from jobs.backpressure import NobodyReads
from jobs.queue import NAME, NEEDS_PLAIN, REPORTS, require_plain
from pipeline import log, settings, stream
from pipeline.event import Reason
from pipeline.patience import Stopped, first_line, wait_for
from pipeline.pulse import Pulse
from pipeline.settings import Settings, SettingsError
from pipeline.stop import on_signals
from pipeline.streams import Streams

_YEAR_S = 31_536_000
# How long a worker leaves a Redis alone that is full.
_FULL_PAUSE_S = 5.0

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Reports = Annotated[
    bool, typer.Option("--reports", help="Reports, which wait by themselves, and nothing else.")
]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="What is done now and then to the data.",
)


@dataclass(frozen=True)
class House:
    """Everything a job needs to reach the pipeline."""

    config: Settings
    stop: threading.Event


@app.command()
def trim(
    *,
    keep_s: Annotated[
        float,
        typer.Option("--keep", min=0, max=_YEAR_S, help="Seconds of the stream that stay."),
    ] = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Drop old entries that every group of their stream has acknowledged."""
    with _house() as house, _redis(house) as streams:
        done = trims.trim(streams, keep_s)
    away = f" These are away, and were left: {', '.join(done.away)}." if done.away else ""
    sentence = f"Trimmed {done.entries:,} entries that all have acknowledged.{away}"
    _tell(done, sentence, as_json=as_json)


@app.command()
def replay(
    *,
    since_s: Annotated[
        float, typer.Option("--since", min=0, max=_YEAR_S, help="Begin so many seconds ago.")
    ],
    until_s: Annotated[
        float, typer.Option("--until", min=0, max=_YEAR_S, help="End so many seconds ago.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Send what is on the stream again; what is stored already stays as it is."""
    with _house() as house, _redis(house) as streams:
        now_ms = _now_ms(streams)
        done = replays.replay(
            streams,
            now_ms - int(since_s * 1000),
            now_ms - int(until_s * 1000),
            retention_days=house.config.retention_days,
            stop=house.stop,
        )
    _tell(done, replayed(done), as_json=as_json)


def replayed(done: replays.Replayed) -> str:
    """What a replay did, in a sentence."""
    left_out = [
        f"{count:,} {what}"
        for count, what in (
            (done.foreign, "foreign entries"),
            (done.refused, "that are no events"),
            (done.too_old, "events older than RETENTION_DAYS"),
            (done.repeated, "that this run had sent before"),
        )
        if count
    ]
    left = f"; left out: {', '.join(left_out)}" if left_out else ""
    if done.unchecked:
        left += (
            f"; the last {done.unchecked:,} were too many to be remembered, and may have gone twice"
        )
    return (
        f"Sent {done.entries:,} entries again, with {done.events:,} events in them{left}"
        f"{ending(is_complete=done.is_complete)}"
    )


@app.command()
def release(
    *,
    reason: Annotated[
        Reason | None, typer.Option(help="Only what was refused for this; else all.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many entries.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send quarantined entries again, to be judged anew."""
    with _house() as house, _redis(house) as streams, _postgres(house) as engine:
        done = releases.release(engine, streams, reason=reason, limit=limit, stop=house.stop)
    _tell(done, released(done), as_json=as_json)


def released(done: releases.Released) -> str:
    """What a release did, in a sentence."""
    return (
        f"Released {done.entries:,} entries; {done.foreign:,} foreign and {done.cut:,} cut ones"
        f" cannot be released{ending(is_complete=done.is_complete)}"
    )


@app.command()
def rollup(
    *,
    count: Annotated[
        int,
        typer.Option("--hours", min=1, max=_YEAR_S // 3600, help="So many, up to the current one."),
    ] = 2,
    as_json: AsJson = False,
) -> None:
    """Sum the events of the last hours up anew."""
    now = datetime.now(UTC)
    with _house() as house, _postgres(house) as engine:
        done = rollups.rollup(engine, now - timedelta(hours=count - 1), now, stop=house.stop)
    _tell(done, rolled_up(done), as_json=as_json)


def rolled_up(done: rollups.RolledUp) -> str:
    """What a rollup did, in a sentence."""
    kept = (
        f"; {done.without_raw:,} hours whose raw events were dropped keep what was rolled up of them, and"
        " events that came since are stored but not counted"
        if done.without_raw
        else ""
    )
    return (
        f"Rolled {done.hours:,} hours up into {done.rows:,} rows{kept}"
        f"{ending(is_complete=done.is_complete)}"
    )


@app.command()
def work(
    *,
    forks: Annotated[
        bool,
        typer.Option(
            "--fork/--no-fork", help="Each job in a process of its own, or all in this one."
        ),
    ] = True,
    reports: Reports = False,
) -> None:
    """Run jobs from RQ's queue until stopped; start as many as you like."""
    queue_name = REPORTS if reports else NAME
    with _house(has_signals=False) as house, _queue(house) as connection, _pulse(house) as pulse:
        # RQ says several lines a job; ours says one.
        level = "DEBUG" if house.config.log_level == "debug" else "WARNING"
        while True:
            # RQ takes a name once, and whoever had it may not be off its books.
            name = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
            log.get("worker").info("Working", worker=name, redis=_queue_at(house))
            try:
                workers.worker(connection, pulse, name, forks=forks, queue_name=queue_name).work(
                    logging_level=level
                )
            except redis.exceptions.OutOfMemoryError as error:
                log.get("worker").warning(
                    "Redis is full; making room and trying again", error=first_line(error)
                )
            else:
                return
            with on_signals() as stop:
                if not reports:  # who makes those has no say over the stream
                    _make_room()
                pulse.beat()
                if stop.wait(_FULL_PAUSE_S):
                    return


def _make_room() -> None:
    """Trim the stream here and now: a full Redis takes no job that says so, and would stay full."""
    try:
        tasks.trim_stream(schedules.KEEP_S)
    except (redis.RedisError, SettingsError) as error:
        log.get("worker").warning("The stream cannot be trimmed", error=first_line(error))


@app.command()
def schedule() -> None:
    """Put jobs on RQ's queue when they are due, until stopped; a second one stands by."""
    with _house() as house, _queue(house) as connection, _pulse(house) as pulse:
        logger = log.get("scheduler")
        logger.info("Keeping to the schedule", redis=_queue_at(house))
        schedules.keep(
            connection, house.stop, pulse, lambda turn: logger.debug("A job is due", job=turn)
        )


def main() -> None:
    """Run the command; ends the process with its exit code."""
    app(prog_name="python -m jobs")


# --- the edge: servers that are waited for when a job starts, and end it when they go away later


@contextmanager
def _house(*, has_signals: bool = True) -> Iterator[House]:
    """Settings and signals, unless RQ has its own; whatever goes wrong inside is told in a sentence."""
    try:
        config = settings.load()
        log.configure(config.log_format, config.log_level)
        with on_signals() if has_signals else nullcontext(threading.Event()) as stop:
            yield House(config, stop)
    except SettingsError as error:
        raise SystemExit(_fail(str(error), code=2)) from None
    except Stopped:
        raise SystemExit(0) from None
    except (NobodyReads, replays.BrokenOff) as error:
        raise SystemExit(_fail(str(error))) from None


@contextmanager
def _redis(house: House) -> Iterator[Streams]:
    config, url = house.config, house.config.redis_url
    if url is None:
        raise SettingsError("REDIS_URL must name a server: set it.")
    streams = Streams(url, config.stream_partitions, replicas=config.redis_replicas)
    try:
        with closing(streams):
            wait_for(
                "Redis",
                streams.ping,
                is_temporary=stream.is_temporary,
                stop=house.stop,
                at_most_s=house.config.connect_timeout_s,
            )
            yield streams
    except redis.RedisError as error:
        at, line = settings.shown_url(url), first_line(error)
        raise SystemExit(_fail(f"Redis at {at} cannot be used: {line}. Run it again.")) from None


@contextmanager
def _queue(house: House) -> Iterator[redis.Redis]:
    """The Redis that RQ uses, once it answers; RQ waits for it in its own way."""
    url = house.config.queue_url
    if url is None:
        raise SettingsError("RQ_REDIS_URL or REDIS_URL must name a server: set one of them.")
    if len(settings.each_host(url)) > 1:
        raise SettingsError(NEEDS_PLAIN)
    client = redis.Redis.from_url(url)
    try:
        with closing(client):
            wait_for(
                "Redis",
                partial(require_plain, client),
                is_temporary=stream.is_temporary,
                stop=house.stop,
                at_most_s=house.config.connect_timeout_s,
            )
            yield client
    except redis.RedisError as error:
        raise SystemExit(
            _fail(f"Redis at {_queue_at(house)} cannot be used: {first_line(error)}.")
        ) from None


def _queue_at(house: House) -> str:
    return settings.shown_url(house.config.queue_url or "")


@contextmanager
def _pulse(house: House) -> Iterator[Pulse]:
    pulse = Pulse(house.config.liveness_file)
    pulse.begin()
    with closing(pulse):
        yield pulse


@contextmanager
def _postgres(house: House) -> Iterator[Engine]:
    url = house.config.database_url
    if url is None:
        raise SettingsError("DATABASE_URL must name a server: set it.")
    engine = create_engine(
        url,
        poolclass=pool.NullPool,
        connect_args={"connect_timeout": 5, "tcp_user_timeout": 30_000},
    )

    def look() -> None:
        with engine.connect():
            pass

    try:
        wait_for(
            "Postgres",
            look,
            is_temporary=lambda error: isinstance(error, OperationalError | InterfaceError),
            stop=house.stop,
            at_most_s=house.config.connect_timeout_s,
        )
        yield engine
    except ProgrammingError as error:
        line = first_line(error.orig)
        if getattr(error.orig, "pgcode", None) is None:  # libpq does not understand the URL
            raise SettingsError(f"DATABASE_URL cannot be used: {line}.") from None
        message = f"The tables cannot be used ({line}): run `infamous migrate`."
        raise SystemExit(_fail(message)) from None
    except DBAPIError as error:
        at, line = settings.shown_url(url), first_line(error.orig)
        raise SystemExit(_fail(f"Postgres at {at} cannot be used: {line}. Run it again.")) from None
    finally:
        engine.dispose()


def _now_ms(streams: Streams) -> int:
    """Redis' clock, which the entries' times were taken from."""
    seconds, micros = streams.written[0].client.time()
    return seconds * 1000 + micros // 1000


def ending(*, is_complete: bool) -> str:
    """How a sentence on what was done ends."""
    return "." if is_complete else "; it was stopped before the end."


def _tell(done: object, sentence: str, *, as_json: bool) -> None:
    print(json.dumps(asdict(done)) if as_json else sentence)  # type: ignore[call-overload]  # noqa: T201


def _fail(message: str, code: int = 1) -> int:
    log.complain(message)
    return code


if __name__ == "__main__":
    main()
