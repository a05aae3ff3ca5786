"""The house: settings flow in, servers that answer flow out; how a command reaches them, and how it ends.

Exit codes: 0 done, 1 a check failed or a server cannot be used, 2 bad arguments or settings.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, NoReturn

import typer
from sqlalchemy import Engine, create_engine, pool

from infamous.embedded import servers
from pipeline import log, settings
from pipeline.settings import Settings
from pipeline.streams import Streams

# Named, so that none is started.
_NO_REDIS: Final = ""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def commands() -> typer.Typer:
    """A group of commands, as every part of the command line makes one."""
    return typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


@dataclass(frozen=True)
class House:
    """Everything a command needs to reach the pipeline."""

    config: Settings
    servers: servers.Servers
    engine: Engine
    streams: Streams

    @contextmanager
    def owner(self) -> Iterator[Engine]:
        """The same database, as whoever may change its schema, and erase."""
        with _opened(self.config.migrator_database_url or self.servers.database_url) as engine:
            yield engine

    @contextmanager
    def reader(self) -> Iterator[Engine | None]:
        """Where is read, where that is another database."""
        with _reader(self.config) as engine:
            yield engine


@contextmanager
def stoppable() -> Iterator[None]:
    """Count Ctrl-C, SIGTERM and SIGHUP as a clean end while servers start and stop.

    In between, what runs has handlers of its own that let it finish first.
    """

    def end(*_: object) -> NoReturn:
        raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    yield


@dataclass(frozen=True)
class Tables:
    """Everything that a command needs which only looks at what is stored."""

    config: Settings
    # Where to read.
    reading_url: str
    engine: Engine
    # For the pass_fds of children that read: the server runs as long as they do.
    lock_fds: tuple[int, ...]

    @contextmanager
    def reader(self) -> Iterator[Engine | None]:
        """Where is read, where that is another database."""
        with _reader(self.config) as engine:
            yield engine


@contextmanager
def tables() -> Iterator[Tables]:
    """Join the database alone: whoever reads what is stored may have no way to the stream."""
    config = settings.load()
    log.configure(config.log_format, config.log_level)
    # Who knows no other database than the one to read has all that is needed.
    url = config.database_url or config.read_database_url
    if url is None:
        _require_data(config)
    with (
        servers.joined(config.home, url, _NO_REDIS, say=log.complain) as found,
        _opened(found.database_url) as engine,
    ):
        reading_url = config.read_database_url or found.database_url
        yield Tables(config, reading_url, engine, found.lock_fds)


@contextmanager
def joined(*, must_exist: bool = False, say: Any = log.complain) -> Iterator[House]:
    """Join the servers. ``must_exist``: do not make a data folder only to find it empty."""
    config = settings.load()
    log.configure(config.log_format, config.log_level)
    is_embedded = config.database_url is None or config.redis_url is None
    if must_exist and is_embedded:
        _require_data(config)
    with servers.joined(config.home, config.database_url, config.redis_url, say=say) as found:
        streams = Streams(found.redis_url, config.stream_partitions, replicas=config.redis_replicas)
        with closing(streams), _opened(found.database_url) as engine:
            yield House(config, found, engine, streams)


@contextmanager
def _opened(url: str) -> Iterator[Engine]:
    engine = create_engine(
        url,
        poolclass=pool.NullPool,
        connect_args={"connect_timeout": 5, "tcp_user_timeout": 10_000},
    )
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _reader(config: Settings) -> Iterator[Engine | None]:
    if config.read_database_url is None:
        yield None
        return
    with _opened(config.read_database_url) as engine:
        yield engine


def _require_data(config: Settings) -> None:
    home = config.home
    if not home.exists() or (home.is_dir() and not (home / "embedded.json").exists()):
        end(f"There is no data in {home} yet: `infamous up` makes some.")


def export(found: servers.Servers, archive: str | None = None) -> None:
    """Let a part that reads its own settings find the servers that were found, and the archive."""
    os.environ["DATABASE_URL"] = found.database_url
    os.environ["REDIS_URL"] = found.redis_url
    if archive is not None:
        os.environ["ARCHIVE_URL"] = archive


def print_json(value: Any) -> None:
    """Print a value for scripts; times in ISO format."""
    print(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def end(message: str, code: int = 1) -> NoReturn:
    """Say in a sentence what is wrong, and end with the exit code."""
    log.complain(message)
    raise SystemExit(code)
