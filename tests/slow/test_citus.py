"""Citus: the table spread over servers, by commands that the README gives, where the extension is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, pool, text

from infamous import schema
from infamous.embedded.servers import Servers, joined
from jobs import check, rollup
from pipeline.event import encode
from tests.conftest import World, world_of
from tests.integration.consuming import is_drained, now_ms, until, working
from tests.unit.samples import chains

_MISSING = "the Postgres that runs here has no extension citus: see Citus' pages for its package"
BY_ID = ("select create_distributed_table('game_events', 'id', colocate_with => 'none')",)
# The key of a table that is spread holds what it is spread by.
BY_PLAYER = (
    "alter table game_events drop constraint game_events_pkey, add primary key (ts, id, player)",
    "select create_distributed_table('game_events', 'player', colocate_with => 'none')",
)


@pytest.fixture(scope="module")
def spread(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers of their own, since every backend has to load the extension at the start."""
    engine = create_engine(servers.database_url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        found = connection.execute(
            text("select exists (select from pg_available_extensions where name = 'citus')")
        ).scalar_one()
    if not found:
        pytest.skip(_MISSING)
    home: Path = tmp_path_factory.mktemp("citus") / "home"
    with joined(home, None, None) as first:
        engine = create_engine(first.database_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("alter system set shared_preload_libraries = 'citus'"))
        engine.dispose()
    with joined(home, None, None) as again:
        yield again


@pytest.mark.parametrize("commands", [BY_ID, BY_PLAYER], ids=["by id", "by player"])
def test_what_is_spread_is_stored_once(spread: Servers, commands: tuple[str, ...]) -> None:
    """Events that come twice are rows once, days to come get their partitions, and rollups are right."""
    with world_of(spread, "template0") as world:
        with world.engine.begin() as connection:
            connection.execute(text("create extension citus"))
        schema.migrate(world.engine)
        with world.engine.begin() as connection:
            for command in commands:
                connection.execute(text(command))
        _store(world, 500, days_ago=0)
        _store(world, 500, days_ago=40)
        _store(world, 500, days_ago=40)
        assert world.count("game_events") == 1000
        rollup.roll_up_touched(world.engine)
        assert check.check(world.engine).wrong == ()


def _store(world: World, count: int, *, days_ago: int) -> None:
    events = chains(count, start_ms=now_ms() - 60_000 - 86_400_000 * days_ago)
    world.source.append([encode(event) for event in events])
    with working(world):
        until(lambda: is_drained(world), "the events to be stored")
