"""SQL through the fake gives what it gave through Redash, on a real Postgres."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from tests.conftest import World
from tests.redash.fake import Fake
from tests.redash.player import Player
from tests.redash.sql import options_of
from tests.redash.story import ON_POSTGRES, on_postgres


def test_sql_gives_what_it_gave_redash(redash: Fake, bare_world: World) -> None:
    """Types and values of 22 Postgres types, and Postgres' own error in Redash's frame."""
    with bare_world.engine.begin() as connection:
        connection.execute(text("create table orders (id integer)"))
    player = Player(redash)
    on_postgres(player, bare_world.database_url)
    assert player.played == set(ON_POSTGRES)


def test_sql_runs_on_the_given_postgres(redash: Fake, bare_world: World) -> None:
    """Its tables, the last of several statements, doubled names, no numbers, and the ways to have no rows."""
    player = Player(redash)
    source = {"name": "s", "type": "pg", "options": options_of(bare_world.database_url)}
    player.done("POST", "/api/data_sources", source)

    def run(text: str) -> Any:
        body = {"query": text, "data_source_id": 1, "max_age": 0}
        job = player.run("/api/query_results", body)
        if job["status"] == 4:
            return job["error"]
        return player.done("GET", f"/api/query_results/{job['result']}")["query_result"]["data"]

    assert run("create table t (id integer)") == "Query completed but it returned no data."
    assert run("select 1; select 2 as b")["rows"] == [{"b": 2}]
    assert run("select 1 as a, 'nan'::float8 as a")["rows"] == [{"a": 1, "a1": None}]
    assert run("-- nothing") == "can't execute an empty query"
    job = player.done("GET", "/api/data_sources/1/schema")["job"]["id"]
    tables = player.done("GET", f"/api/jobs/{job}")["job"]["result"]
    assert tables == [{"name": "t", "columns": [{"name": "id", "type": "integer"}]}]
