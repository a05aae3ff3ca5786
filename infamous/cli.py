"""The command line: arguments flow in, one call to the part that does it, its answer and exit code flow out.

Exit codes: 0 done, 1 a check failed or a server cannot be used, 2 bad arguments or settings.
"""

from __future__ import annotations

import functools
import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID

import redis
import typer
from rich.console import Console
from sqlalchemy import Engine, create_engine, pool
from sqlalchemy.exc import DBAPIError, ProgrammingError

import consumer.__main__
import jobs.__main__
import producer.__main__
from infamous import audit as audits
from infamous import logins, report, schema
from infamous import status as statuses
from infamous import trace as traces
from infamous import up as ups
from infamous.children import ChildFailed
from infamous.embedded import servers
from infamous.prove import run as proofs
from infamous.prove import soak as soaks
from infamous.prove.faults import Kind
from jobs import replay as replays
from pipeline import log, settings, stream
from pipeline.patience import first_line
from pipeline.settings import Settings, SettingsError
from pipeline.stop import on_signals
from pipeline.stream import Stream
from producer import history
from producer.__main__ import (
    DEFAULT_PLAYERS,
    DEFAULT_SEED,
    History,
    MetricsPort,
    Players,
    Rate,
    Seed,
)
from producer.outbox import BadState

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Infamous Game Analytics: game events from a Redis stream into Postgres.",
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@dataclass(frozen=True)
class House:
    """Everything a command needs to reach the pipeline."""

    config: Settings
    servers: servers.Servers
    engine: Engine
    source: Stream


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([smhd]?)", text.strip(), re.ASCII)
    if match is None:
        raise typer.BadParameter(f"{text} is not understood: give a time, as in 20s, 5m or 1h.")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


_FOR_EVER_MS = 2**63


def _moment_ms(text: str) -> int:
    """A time as Unix milliseconds: RFC 3339, or so long ago."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        try:
            ago_s = _seconds(text)
        except typer.BadParameter:
            raise typer.BadParameter(
                f"{text} is not understood: give 2026-11-24T18:00:00Z, or 2h for two hours ago."
            ) from None
        return time.time_ns() // 1_000_000 - int(ago_s * 1000)
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text} has no offset: end it with Z for UTC, or with +01:00.")
    return int(moment.timestamp() * 1000)


@app.command()
def up(
    *,
    rate: Rate = 1.0,
    players: Players = DEFAULT_PLAYERS,
    consumers: Annotated[int, typer.Option(min=1, max=64, help="Consumer processes.")] = 2,
    days: History = 30,
    seed: Seed = DEFAULT_SEED,
    for_s: Annotated[
        float | None,
        typer.Option(
            "--for",
            parser=_seconds,
            metavar="TIME",
            help="End after so long of live play: 20s, 5m, 1h. Else at Ctrl-C.",
        ),
    ] = None,
) -> None:
    """Run the whole pipeline on this machine and show it."""
    history.check_days(days, settings.load().retention_days)
    console = ups.console()
    plan = ups.Plan(rate, players, consumers, days, seed, for_s)
    with _stoppable(), _house(say=console.print) as house:
        ups.up(house.config, plan, house.servers, house.engine, console)


@app.command()
def migrate(
    *,
    login: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Let the role of the database URL in this file log in with its password; repeatable.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the database's schema to this version and make the partitions ahead."""
    urls = [
        settings.load({"DATABASE_URL_FILE": str(path)}).database_url or "" for path in login or ()
    ]
    with _house() as house:
        log.adopt("alembic")  # it may have something to say: that it gives way, or may not grant
        done = schema.migrate(house.engine)
        logins.allow(house.engine, urls)
    if as_json:
        _print_json(
            {"before": done.before, "after": done.after, "partitions": done.partitions_made}
        )
    else:
        print(report.migrated(done))


@app.command()
@functools.wraps(producer.__main__.produce)
def produce(**options: Any) -> None:  # noqa: D103  # the text is the wrapped one's
    history.check_days(options["days"], settings.load().retention_days)
    if options["show_truth"]:  # needs no server
        producer.__main__.produce(**options)
        return
    with _stoppable(), _house() as house:
        _export(house.servers)
        producer.__main__.produce(**options)


@app.command()
def consume(*, metrics_port: MetricsPort = None) -> None:
    """Store events from the stream until stopped. Start as many as you like."""
    if metrics_port is not None:
        os.environ["METRICS_PORT"] = str(metrics_port)
    with _stoppable(), _house() as house:
        if house.config.database_url is None:  # a database of ours may be brand-new
            schema.migrate(house.engine)
        _export(house.servers)
        raise SystemExit(consumer.__main__.main())


@app.command()
def worker() -> None:
    """Run the jobs that wait on RQ's queue until stopped. Start as many as you like."""
    with _stoppable(), _house() as house:
        _export(house.servers)
        jobs.__main__.work()


@app.command()
def schedule() -> None:
    """Put jobs on RQ's queue when they are due: partitions, rollups, trim."""
    with _stoppable(), _house() as house:
        _export(house.servers)
        jobs.__main__.schedule()


@app.command()
def replay(
    *,
    from_ms: Annotated[
        int,
        typer.Option(
            "--from",
            parser=_moment_ms,
            metavar="TIME",
            help="The first moment to send again: 2026-11-24T18:00:00Z, or 2h for two hours ago.",
        ),
    ],
    to_ms: Annotated[
        int | None,
        typer.Option(
            "--to", parser=_moment_ms, metavar="TIME", help="The last; else all that is there."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send what was put on the stream in a span of time again; what is stored already stays as it is."""
    # Not this machine's now: the times are Redis', whose clock may be ahead.
    to_ms = _FOR_EVER_MS if to_ms is None else to_ms
    if from_ms > to_ms:
        _end("--from is later than --to: give the earlier time first.", code=2)
    with _house(must_exist=True) as house, on_signals() as stop:
        done = replays.replay(house.source, from_ms, to_ms, stop=stop)
    if as_json:
        _print_json(asdict(done))
    else:
        print(jobs.__main__.replayed(done))


@app.command()
def status(*, as_json: AsJson = False) -> None:
    """Show what is on the stream, what waits, and what is stored."""
    with _house(must_exist=True) as house:
        now = statuses.status(house.source, house.engine)
    if as_json:
        _print_json(statuses.as_json(now))
    else:
        ups.console().print(report.status(now))


@app.command()
def audit(*, as_json: AsJson = False) -> None:
    """Check that the stored events prove themselves: seq, karma, rank, XP and time, over the whole table."""
    with _house(must_exist=True) as house:
        result = audits.audit(house.engine)
    if as_json:
        _print_json(report.audit_json(result))
    else:
        print(report.audit(result))
    raise SystemExit(0 if result.passed else 1)


@app.command()
def trace(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The event's id, a UUID.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Tell where an event is and when it came, or why it was refused."""
    try:
        parsed = UUID(event_id)
    except ValueError:
        _end(f"{event_id} is not an event id: give a UUID, as in the column id.", code=2)
    with _house(must_exist=True) as house:
        found = traces.trace(house.source, house.engine, parsed)
    if as_json:
        _print_json(report.trace_json(found))
    else:
        print(report.trace(found))
    raise SystemExit(0 if found.is_found else 1)


def _faults(text: str | None) -> tuple[Kind, ...] | None:
    if text is None:
        return None
    try:
        return tuple(Kind(name.strip()) for name in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text} is not understood: name some of {', '.join(Kind)}."
        ) from None


@app.command()
def prove(
    *,
    seconds: Annotated[
        float, typer.Option(min=5, max=86_400, help="How long; from 45 on, every class of fault.")
    ] = 60,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same faults.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Consumer processes.")] = 4,
    rate: Annotated[
        float | None,
        typer.Option(
            min=10,
            max=100_000,
            help=f"Events a second: {proofs.DEFAULT_RATE:g}, in a soak {soaks.RATE:g}.",
        ),
    ] = None,
    soak: Annotated[
        bool,
        typer.Option(
            "--soak", help="A steady rate, Postgres away for a fifth of it, and memory watched."
        ),
    ] = False,
    control: Annotated[
        proofs.Control | None, typer.Option(help="Break a promise, to see that it is noticed.")
    ] = None,
    faults: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Only these classes of fault.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the data, journals and logs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ill-treat a pipeline of its own on purpose, and account for every event."""
    seed = random.randrange(2**31) if seed is None else seed  # noqa: S311  # nothing secret
    console = Console(stderr=True, highlight=False, markup=False) if as_json else ups.console()
    if rate is None:
        rate = soaks.RATE if soak else proofs.DEFAULT_RATE
    options = proofs.Options(seconds, seed, workers, rate, control, _faults(faults), keep, soak)
    outcome = proofs.prove(options, console)
    if as_json:
        _print_json(outcome.as_json())
    else:
        console.print("\n".join(outcome.lines()))
    raise SystemExit(0 if outcome.is_proven else 1)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def bench(context: typer.Context) -> None:
    """Measure how fast the pipeline is here, beside its servers' own limits: `bench --help` tells more."""
    # The bench stands above this command line and imports from it, so it is a program of its own.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "bench", *context.args])  # noqa: S606


def main() -> None:
    """Run the command; whatever is wrong is told in a sentence."""
    try:
        app()
    except (SettingsError, history.BadDays) as error:
        _end(str(error), code=2)
    except (
        servers.ServerError,
        schema.NewerSchema,
        schema.Locked,
        ups.AlreadyUp,
        ChildFailed,
        stream.Evicts,
        BadState,
        proofs.Interrupted,
        replays.NobodyReads,
    ) as error:
        _end(str(error))
    except ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) is None:  # libpq does not understand the URL
            _end(f"DATABASE_URL cannot be used: {first_line(error.orig)}.", code=2)
        _end(f"The tables cannot be used ({first_line(error.orig)}): run `infamous migrate`.")
    except DBAPIError as error:
        _end(f"Postgres cannot be used: {first_line(error.orig)}.")
    except redis.RedisError as error:
        _end(f"Redis cannot be used: {first_line(error)}.")
    except BrokenPipeError:  # `infamous status | head`; what a shell reports of a killed writer
        sys.stderr.close()
        raise SystemExit(141) from None
    except OSError as error:
        _end(f"{error.filename or 'A file'} cannot be used: {error.strerror}.")


@contextmanager
def _stoppable() -> Iterator[None]:
    """Count Ctrl-C, SIGTERM and SIGHUP as a clean end while servers start and stop.

    In between, what runs has handlers of its own that let it finish first.
    """

    def end(*_: object) -> NoReturn:
        raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    yield


@contextmanager
def _house(*, must_exist: bool = False, say: Any = log.complain) -> Iterator[House]:
    """Join the servers. ``must_exist``: do not make a data folder only to find it empty."""
    config = settings.load()
    log.configure(config.log_format, config.log_level)
    is_embedded = config.database_url is None or config.redis_url is None
    if must_exist and is_embedded and _is_unused(config.home):
        _end(f"There is no data in {config.home} yet: `infamous up` makes some.")
    with servers.joined(config.home, config.database_url, config.redis_url, say=say) as joined:
        engine = create_engine(
            joined.database_url,
            poolclass=pool.NullPool,
            connect_args={"connect_timeout": 5, "tcp_user_timeout": 10_000},
        )
        source = Stream(stream.connect(joined.redis_url))
        try:
            yield House(config, joined, engine, source)
        finally:
            source.client.close()
            engine.dispose()


def _is_unused(home: Path) -> bool:
    return not home.exists() or (home.is_dir() and not (home / "embedded.json").exists())


def _export(joined: servers.Servers) -> None:
    """Let a part that reads its own settings find the servers that were joined."""
    os.environ["DATABASE_URL"] = joined.database_url
    os.environ["REDIS_URL"] = joined.redis_url


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _end(message: str, code: int = 1) -> NoReturn:
    log.complain(message)
    raise SystemExit(code)
