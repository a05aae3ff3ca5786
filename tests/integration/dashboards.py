"""The dashboards' queries for tests: a rolled-up world and parameters flow in, answers and plans flow out.

They are asked as Redash asks them: as the role of the dashboards, in a session of whatever time zone, with
the values pasted into the SQL. Each answer is held against the columns that its query promises.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import psycopg2
from psycopg2.extensions import cursor as Cursor  # noqa: N812  # psycopg2's class name

from analytics.redash import folder
from analytics.redash.model import Query, Spec
from analytics.redash.render import rendered
from analytics.redash.run import Answer, broken_promise
from consumer.load import Loader
from infamous.embedded.servers import Servers
from jobs.rollup import hours, roll_up_touched
from pipeline.event import Event, encode
from pipeline.settings import libpq_url
from tests.conftest import World, world_of
from tests.integration.consuming import batch_of

Row = dict[str, Any]

SIDES: Final = ("hero", "neutral", "villain")
# What Redash calls the types of Postgres; of others it says nothing.
_TYPES: Final = {
    16: "boolean", 20: "integer", 21: "integer", 23: "integer", 700: "float", 701: "float", 1700: "float",
    1082: "date", 1114: "datetime", 1184: "datetime",
}  # fmt: skip
_BATCH: Final = 5000


@dataclass(frozen=True)
class Asked:
    """An answer, and what the database took for now."""

    rows: list[Row]
    now: datetime


@functools.cache
def spec() -> Spec:
    """All queries and dashboards of this project."""
    return folder.read(folder.OURS)


def of_dashboards(*keys: str) -> list[str]:
    """The keys of the queries that these dashboards show, and of those that list their values."""
    shown = {
        widget.query
        for key in keys
        for widget in spec().dashboards[key].widgets
        if widget.query is not None
    }
    lists = {p.source for key in shown for p in spec().queries[key].parameters if p.source}
    return sorted(shown | lists)


def ask(world: World, key: str, **values: str) -> list[Row]:
    """What a query answers with these values, and the defaults of the others; it keeps its promise."""
    return asked(world, key, **values).rows


def asked(world: World, key: str, **values: str) -> Asked:
    """The same, with the time at which it was asked."""
    query = spec().queries[key]
    with _session(world) as cursor:
        cursor.execute("select now()")
        ((now,),) = cursor.fetchall()
        cursor.execute(rendered(query, **values))
        columns = [(one.name, _TYPES.get(one.type_code)) for one in cursor.description or ()]
        rows = cursor.fetchall()
    assert query.columns, f"{key}.sql says nothing of its columns"
    assert broken_promise(query.columns, Answer(key, None, tuple(columns))) is None, key
    names = [name for name, _ in columns]
    return Asked(
        [dict(zip(names, map(_plain, row), strict=True)) for row in rows], now.astimezone(UTC)
    )


def _plain(value: Any) -> Any:
    """As Redash hands it on."""
    return float(value) if isinstance(value, Decimal) else value


def scanned(world: World, key: str, **values: str) -> set[str]:
    """The tables, and partitions of game_events, that the query's plan would read."""
    found: set[str] = set()

    def look(node: dict[str, Any]) -> None:
        if "Relation Name" in node:
            found.add(node["Relation Name"])
        for below in node.get("Plans", ()):
            look(below)

    with _session(world) as cursor:
        cursor.execute(f"explain (format json) {rendered(spec().queries[key], **values)}")
        ((plans,),) = cursor.fetchall()
    for plan in plans if isinstance(plans, list) else json.loads(plans):
        look(plan["Plan"])
    return found


def each_value(world: World, key: str) -> Iterator[dict[str, str]]:
    """Each value that each of a query's parameters may have, the others at their defaults."""
    query = spec().queries[key]
    for parameter in query.parameters:
        values = parameter.values
        if parameter.source is not None:
            values = tuple(row["value"] for row in ask(world, parameter.source))
        assert parameter.default in values, f"{key}: {parameter.name}"
        yield from ({parameter.name: value} for value in values)


def has(query: Query, parameter: str) -> bool:
    """Whether it has a parameter of that name."""
    return parameter in query.defaults


def store(world: World, events: Iterable[Event | bytes]) -> None:
    """Put events into the table, and tell the rollups."""
    payloads = [event if isinstance(event, bytes) else encode(event) for event in events]
    loader = Loader(world.database_url, "test")
    for begin in range(0, len(payloads), _BATCH):
        assert loader.store(batch_of(payloads[begin : begin + _BATCH])).quarantined == 0
    loader.close()


def roll_up(world: World) -> None:
    """Roll up what was stored, and the hours of now."""
    now = datetime.now(UTC)
    roll_up_touched(world.engine, hours(now - timedelta(hours=1), now))


def rolled_up(servers: Servers, template: str, events: Iterable[Event | bytes]) -> Iterator[World]:
    """A world of such a past, for a fixture of a module: nobody changes it."""
    with world_of(servers, template) as world:
        store(world, events)
        roll_up(world)
        yield world


@contextmanager
def _session(world: World) -> Iterator[Cursor]:
    connection = psycopg2.connect(libpq_url(world.database_url))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("set local role infamous_bi")
            # Days and hours are those of UTC, wherever the session is.
            cursor.execute("set local timezone = 'Asia/Kolkata'")
            cursor.execute("set local datestyle = 'ISO, DMY'")
            cursor.execute("set transaction read only")
            yield cursor
    finally:
        connection.close()
