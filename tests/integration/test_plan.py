"""``infamous plan``: real servers still agree with its constants, and what it cannot plan it tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import text

from bench.constants import EVENT_BYTES, WAL_BYTES
from bench.workload import HOUR_MS, simulated
from consumer.batch import Limits
from infamous.constants import MEASURED
from jobs import archiver
from jobs.storage import Storage
from pipeline.event import encode
from pipeline.stream import ARCHIVE_GROUP, STREAM, Stream
from tests.commands import Command, beginning
from tests.conftest import World
from tests.integration.consuming import is_drained, now_ms, until, working
from tests.unit.samples import RETENTION_DAYS

EVENTS = 20_000
# As consumers do without settings.
LIMITS = Limits(rows=5000, bytes=8 * 1024 * 1024, age_s=0.5)
# Servers differ a little from version to version; a constant that is further off plans something else.
CLOSE = 0.25


def test_bytes_are_as_many_as_the_plan_says(world: World, tmp_path: Path) -> None:
    """An event takes on the stream, in the table, its index and the archive what was measured once."""
    to_ms = now_ms()
    world.source.append([encode(event) for event in simulated(EVENTS, to_ms - HOUR_MS, to_ms)])
    stream_bytes = world.client.memory_usage(STREAM, samples=0)
    with world.engine.connect() as connection:
        before = connection.execute(text(EVENT_BYTES)).one()
        (wal,) = connection.execute(text(WAL_BYTES)).one()
    with working(world, limits=LIMITS):
        until(lambda: is_drained(world), "all to be stored")
    with world.engine.connect() as connection:
        (wal_bytes,) = connection.execute(text(WAL_BYTES)).one()
        after = connection.execute(text(EVENT_BYTES)).one()
    assert world.count("game_events") == EVENTS
    archiver.archive(
        Stream(world.client, group=ARCHIVE_GROUP),
        Storage(str(tmp_path / "archive")),
        retention_days=RETENTION_DAYS,
    )
    files = [path for path in (tmp_path / "archive").rglob("*") if path.is_file()]
    found = {
        "redis_bytes": stream_bytes or 0,
        "heap_bytes": after[0] - before[0],
        "index_bytes": after[1] - before[1],
        # Of the whole server, whose other databases rest meanwhile.
        "wal_bytes": wal_bytes - wal,
        "parquet_bytes": sum(path.stat().st_size for path in files),
    }
    assert {name: size / EVENTS for name, size in found.items()} == {
        name: pytest.approx(getattr(MEASURED, name), rel=CLOSE) for name in found
    }


@pytest.fixture
def plan(tmp_path: Path) -> Command:
    """The command, in a folder without settings; no server is named."""
    return beginning("infamous", "plan", cwd=tmp_path, environment={})


def test_a_plan_needs_no_server(plan: Command, tmp_path: Path) -> None:
    """It is asked before anything is there: it starts nothing and makes no folder."""
    told = plan("--events-per-second", "500", "--days", "365")
    assert (told.returncode, told.stderr) == (0, "")
    assert "\nPostgres\n" in told.stdout
    as_json = plan("--events-per-second", "500", "--days", "365", "--json")
    assert json.loads(as_json.stdout)["events_a_day"] == 43_200_000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--events-per-second", "0", "--days", "1"),
        ("--events-per-second", "-1", "--days", "1"),
        ("--events-per-second", "nan", "--days", "1"),
        ("--events-per-second", "1e300", "--days", "1"),
        ("--events-per-second", "1", "--days", "0"),
        ("--events-per-second", "1", "--days", "1", "--redis-hours", "0"),
        ("--events-per-second", "1", "--days", "1", "--players", "999999999"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(plan: Command, arguments: tuple[str, ...]) -> None:
    """Exit code 2, a sentence that says what may be given, and no traceback."""
    told = plan(*arguments)
    assert (told.returncode, told.stdout) == (2, "")
    (line,) = told.stderr.splitlines()
    assert "cannot" in line
    assert line.endswith(".")
