"""What KEDA asks: the number by which consumers are scaled, of the table of what they saw themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml
from psycopg2.extensions import connection as Connection  # noqa: N812  # psycopg2's class name
from sqlalchemy import make_url, text

from infamous import schema
from pipeline.event import encode
from pipeline.settings import libpq_url
from tests.conftest import World
from tests.integration.consuming import now_ms, until, working
from tests.unit.samples import chains

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes" / "keda"
SCALED: dict[str, Any] = next(
    found
    for found in yaml.safe_load_all((FOLDER / "scaledobject.yaml").read_text(encoding="utf-8"))
    if found["kind"] == "ScaledObject"
)
(TRIGGER,) = SCALED["spec"]["triggers"]
NOTE = text("""
insert into pipeline_health (minute, process, seen_at, undelivered, updated_at)
values (date_trunc('minute', now()), :process, now() - make_interval(secs => :seen_s), :undelivered,
        now() - make_interval(secs => :written_s))
""")


@pytest.fixture
def reader(world: World) -> Iterator[Connection]:
    """A session of whoever KEDA logs in as."""
    schema.migrate(world.engine)  # roles are not copied with a database
    with world.engine.begin() as connection:
        connection.execute(text("alter role infamous_bi login password 'for this test'"))
    url = make_url(world.database_url).set(username="infamous_bi", password="for this test")  # noqa: S106
    with closing(psycopg2.connect(libpq_url(url.render_as_string(hide_password=False)))) as session:
        session.autocommit = True
        yield session


def asked(reader: Connection) -> float:
    """What KEDA reads: one row of one number, whatever the table holds; it takes none for an error."""
    with reader.cursor() as cursor:
        cursor.execute(TRIGGER["metadata"]["query"])
        ((number,),) = cursor.fetchall()
        return float(number)


def note(
    world: World, process: str, undelivered: int | None, seen_s: float, written_s: float
) -> None:
    """A consumer's row, as it was so long ago."""
    told = {
        "process": process,
        "undelivered": undelivered,
        "seen_s": seen_s,
        "written_s": written_s,
    }
    with world.engine.begin() as connection:
        connection.execute(NOTE, told)


def test_the_newest_look_counts(world: World, reader: Connection) -> None:
    """Of several consumers the one that looked last; not their sum, for all look at the same stream."""
    assert asked(reader) == 0
    note(world, "one", 900_000, 20, 5)
    note(world, "two", 400_000, 5, 5)
    note(world, "three", None, 0, 0)
    assert asked(reader) == 400_000


def test_what_nobody_has_seen_for_long_counts_no_more(world: World, reader: Connection) -> None:
    """A number that all who knew it took with them would keep consumers running for ever."""
    note(world, "gone", 900_000, 90, 90)
    assert asked(reader) == 0


def test_a_consumer_tells_what_waits(world: World, reader: Connection) -> None:
    """What a real one writes is what is asked for: it sees that nothing is left, and says so."""
    world.source.append([encode(event) for event in chains(50, start_ms=now_ms() - 1000)])
    note(world, "another", 900_000, 30, 30)
    assert asked(reader) == 900_000
    with working(world):
        until(lambda: asked(reader) == 0, "the consumer's own look")
        until(lambda: world.count("game_events") == 50, "all to be stored")
