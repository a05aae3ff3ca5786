"""Real servers for the tests: started once a run, an empty Redis database and a fresh Postgres one a test."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import redis
from hypothesis import settings
from sqlalchemy import Engine, create_engine, make_url, pool, text

from infamous import schema
from infamous.embedded.servers import Servers, joined
from pipeline import stream
from pipeline.entry import Form, split
from pipeline.event import Refused
from pipeline.stream import Stream
from pipeline.streams import Streams

_REDIS_DATABASES = 16
_TEMPLATE = "template_infamous"
_FOR_THE_DISK = ("fsync", "synchronous_commit", "full_page_writes")
# Linux has it, and pytest makes a folder of its own there; where it is small, as in containers: the disk.
_MEMORY = Path("/dev/shm")  # noqa: S108
_ROOM_BYTES = 4_000_000_000
PLACE = "PYTEST_DEBUG_TEMPROOT"  # pytest's, for its temporary folders


def pytest_configure() -> None:
    """Keep the clock out of the tests, and their files in memory.

    A database is 400 files, which a disk takes ten times as long to make. Whoever names a place of their own,
    or a --basetemp, keeps it; pytest removes the files of tests that passed.
    """
    # How long an example takes says how busy the machine is.
    settings.register_profile("any machine", deadline=None)
    settings.load_profile("any machine")
    if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES:
        os.environ.setdefault(PLACE, str(_MEMORY))


# Where our producer keeps the players of the undivided stream, and what it notes of itself.
PLAYERS: Final = "{game-events}:players"
PRODUCER: Final = "{game-events}:producer"


@dataclass(frozen=True)
class World:
    """The servers as one test sees them: nothing in them but what the test puts there."""

    database_url: str
    redis_url: str
    engine: Engine
    source: Stream
    # All streams, of which the source is the only one that is written into.
    streams: Streams
    # For looks that are repeated until they show something: a connection of its own that stays.
    looks: Engine

    @property
    def client(self) -> redis.Redis:
        """The client behind the stream."""
        return self.source.client

    @property
    def name(self) -> str:
        """The database's."""
        return str(make_url(self.database_url).database)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find this world."""
        return {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}

    def payloads(self) -> list[bytes]:
        """What is on the stream, in order: events, alone or out of arrays, and what is none."""
        found: list[bytes] = []
        for page in self.source.walk(from_ms=0, to_ms=2**63):
            for entry in page:
                try:
                    found += split(entry.payload) if entry.form is Form.EVENTS else [entry.payload]
                except Refused:
                    found.append(entry.payload)
        return found

    def count(self, table: str) -> int:
        """Rows of a table."""
        with self.looks.connect() as connection:
            return int(connection.execute(text(f"select count(*) from {table}")).scalar_one())


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Embedded servers of the test run's own; it leaves none behind."""
    with joined(tmp_path_factory.mktemp("servers") / "home", None, None) as running:
        # A database a test, and none is to outlive the machine: having it on the disk takes most of the time.
        _administer(running, *(f"alter system set {name} = off" for name in _FOR_THE_DISK))
        _administer(running, "select pg_reload_conf()")
        yield running
        _office(running.database_url).dispose()


def _url(servers: Servers, database: str) -> str:
    url = make_url(servers.database_url).set(database=database)
    return url.render_as_string(hide_password=False)


@functools.cache
def _office(database_url: str) -> Engine:
    return create_engine(
        database_url, pool_size=1, pool_pre_ping=True, isolation_level="AUTOCOMMIT"
    )


def _administer(servers: Servers, *statements: str) -> None:
    with _office(servers.database_url).connect() as connection:
        for statement in statements:
            connection.execute(text(statement))


@pytest.fixture(scope="session")
def template(servers: Servers) -> str:
    """A migrated database that each test's own is cloned from: 40 ms instead of a migration."""
    _administer(servers, f"create database {_TEMPLATE}")
    engine = create_engine(_url(servers, _TEMPLATE), poolclass=pool.NullPool)
    schema.migrate(engine)
    return _TEMPLATE


@functools.cache
def _strategy(servers: Servers) -> str:
    """How a database is cloned: file by file, where that has to be said."""
    with _office(servers.database_url).connect() as connection:
        version = int(connection.execute(text("show server_version_num")).scalar_one())
    return "strategy file_copy" if version >= 150_000 else ""


_redis_numbers = itertools.cycle(range(1, _REDIS_DATABASES))


@contextmanager
def world_of(servers: Servers, source_database: str) -> Iterator[World]:
    """A copy of this database and an empty stream; both are gone afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    _administer(servers, f"create database {name} template {source_database} {_strategy(servers)}")
    redis_url = servers.redis_url.replace("db=0", f"db={next(_redis_numbers)}")
    source, streams = Stream(stream.connect(redis_url)), Streams(redis_url)
    source.client.flushdb()
    url = _url(servers, name)
    engine = create_engine(url, poolclass=pool.NullPool)
    looks = create_engine(url, pool_size=1, pool_pre_ping=True)
    try:
        yield World(url, redis_url, engine, source, streams, looks)
    finally:
        looks.dispose()
        engine.dispose()
        source.client.flushdb()
        source.client.close()
        streams.close()
        _administer(servers, f"drop database {name} with (force)")


@pytest.fixture
def world(servers: Servers, template: str) -> Iterator[World]:
    """A migrated database and an empty stream."""
    with world_of(servers, template) as made:
        yield made


@pytest.fixture
def bare_world(servers: Servers) -> Iterator[World]:
    """A database that was never migrated and an empty stream."""
    with world_of(servers, "template0") as made:
        yield made


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The developer's settings and data folder are no part of a test."""
    for name in (
        "DATABASE_URL",
        "READ_DATABASE_URL",
        "MIGRATOR_DATABASE_URL",
        "REDIS_URL",
        "RQ_REDIS_URL",
        "STREAM_PARTITIONS",
        "REDIS_REPLICAS",
        "LOG_LEVEL",
        "LOG_FORMAT",
        "RETENTION_DAYS",
        "ARCHIVE_URL",
        "REPORT_DIR",
        "REPORTS_KEPT",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INFAMOUS_HOME", str(tmp_path / "home"))
