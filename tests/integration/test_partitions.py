"""Partitions by row rate: a busy day is followed by days in parts, and whoever asks by day finds them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from consumer.load import Loader
from infamous import schema, status
from jobs import tasks
from pipeline import partitions
from pipeline.event import encode
from tests.conftest import World
from tests.integration.consuming import batch_of
from tests.unit.samples import chains

DAY = timedelta(days=1)
FAR = date(2030, 5, 1)


def rows(world: World, query: str, **values: Any) -> list[Any]:
    """What a query answers, one value a row."""
    with world.engine.begin() as connection:
        return list(connection.execute(text(query), values).scalars())


def change(world: World, *statements: str) -> None:
    """Change something in the database."""
    with world.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def ensure(world: World, first: date, last: date | None = None) -> int:
    """Make partitions; says how many were made."""
    (made,) = rows(world, partitions.ENSURE, first_day=first, last_day=last or first)
    return int(made)


def counted(world: World, day: date, total: float) -> None:
    """Let the planner believe that it counted so many rows in a day's first partition."""
    change(
        world,
        f"update pg_class set reltuples = {total} where oid = ("
        "select min(oid) from pg_class where relkind = 'r'"
        f" and relname like 'game\\_events\\_{day:%Y%m%d}%')",
    )


def of_day(world: World, day: date) -> list[str]:
    """The names of what is attached for a day."""
    query = f"""
        select child.relname from pg_inherits join pg_class child on child.oid = inhrelid
        where inhparent = 'game_events'::regclass and child.relname like 'game\\_events\\_{day:%Y%m%d}%'
        order by 1
    """
    return rows(world, query)


def today() -> date:
    """By UTC."""
    return datetime.now(UTC).date()


@pytest.mark.parametrize(
    ("total", "made"),
    [(-1, 1), (0, 1), (40_000_000, 1), (41_000_000, 4), (200_000_000, 4), (201_000_000, 24)],
)
def test_a_new_day_is_cut_by_the_rows_of_the_last(world: World, total: float, made: int) -> None:
    """Whole, in four or in twenty-four; one never counted says nothing. Asked again, none is made."""
    counted(world, today() - DAY, total)
    assert ensure(world, FAR) == made
    assert ensure(world, FAR) == 0
    hours = 24 // made
    stem = f"game_events_{FAR:%Y%m%d}"
    expected = [stem] if made == 1 else [f"{stem}_{hour:02d}" for hour in range(0, 24, hours)]
    assert of_day(world, FAR) == expected


def test_the_parts_of_a_day_are_counted_together(world: World) -> None:
    """After a day in parts their sum counts; days that lie ahead, or were never counted, do not."""
    yesterday = today() - DAY
    counted(world, today() + DAY, 1e9)
    counted(world, yesterday, 150e6)
    ensure(world, yesterday - 30 * DAY)
    assert ensure(world, FAR) == 4
    change(world, f"drop table game_events_{yesterday:%Y%m%d}")
    counted(world, yesterday - 30 * DAY, 150e6)
    assert ensure(world, yesterday) == 4
    assert ensure(world, FAR + 2 * DAY) == 4
    for hour in (0, 6, 12):
        name = f"game_events_{yesterday:%Y%m%d}_{hour:02d}"
        change(world, f"update pg_class set reltuples = 70e6 where relname = '{name}'")
    assert ensure(world, FAR + DAY) == 24


def test_days_that_are_there_stay_as_they_are(world: World) -> None:
    """A higher rate cuts new days; those that were made before are not touched, in parts or whole."""
    counted(world, today() - DAY, 41e6)
    ensure(world, FAR)
    counted(world, today() - DAY, 201e6)
    assert ensure(world, FAR, FAR + DAY) == 24
    assert len(of_day(world, FAR)) == 4
    counted(world, today() - DAY, 1)
    assert ensure(world, FAR, FAR + 2 * DAY) == 1


def test_a_part_that_is_gone_is_made_again(world: World) -> None:
    """As long as its neighbours are, whatever the rate is by now."""
    counted(world, today() - DAY, 41e6)
    ensure(world, FAR)
    change(world, f"drop table game_events_{FAR:%Y%m%d}_06, game_events_{FAR:%Y%m%d}_18")
    counted(world, today() - DAY, 1)
    assert ensure(world, FAR) == 2
    assert len(of_day(world, FAR)) == 4


@pytest.mark.parametrize("total", [1, 41e6])
def test_a_part_that_is_detached_is_told(world: World, total: float) -> None:
    """Somebody holds it in hand: to make another in its place would hide that."""
    counted(world, today() - DAY, total)
    ensure(world, FAR)
    name = of_day(world, FAR)[-1]
    change(world, f"alter table game_events detach partition {name}")
    with pytest.raises(OperationalError, match=f"partition {name} is detached: attach it again"):
        ensure(world, FAR)


@pytest.mark.parametrize(("total", "parts"), [(41e6, 4), (201e6, 24)])
def test_rows_of_every_hour_land(world: World, total: float, parts: int) -> None:
    """Events of a whole day, its first and last millisecond among them, are stored through the one door."""
    day = today() - 3 * DAY
    counted(world, today() - DAY, total)
    midnight_ms = int(datetime.combine(day, time(), UTC).timestamp() * 1000)
    moments = [midnight_ms + hour * 3_600_000 for hour in range(24)] + [midnight_ms + 86_399_999]
    events = [
        encode(event)
        for number, ms in enumerate(moments)
        for event in chains(1, seed=number, start_ms=ms)
    ]
    loader = Loader(world.database_url, "test")
    assert loader.store(batch_of(events)).rows == 25
    loader.close()
    assert len(of_day(world, day)) == parts
    query = "select count(distinct tableoid) from game_events"
    assert rows(world, query) == [parts]


def test_wherever_the_session_is_the_parts_meet_at_utc_hours(world: World) -> None:
    """Also where its clocks change that day, and dates are written the other way round."""
    counted(world, today() - DAY, 201e6)
    day = date(2025, 3, 30)
    for zone in ("America/New_York", "Europe/Dublin", "Asia/Kolkata"):
        with world.engine.begin() as connection:
            connection.execute(
                text(f"set local timezone = '{zone}'; set local datestyle = 'SQL, DMY'")
            )
            found = connection.execute(text(partitions.ENSURE), {"first_day": day, "last_day": day})
            made = found.scalar_one()
        assert made == (24 if zone == "America/New_York" else 0)
    bounds = rows(
        world,
        "select pg_get_expr(relpartbound, oid) from pg_class"
        " where relname like 'game\\_events\\_20250330\\_%' and relkind = 'r' order by relname",
    )
    begins = [datetime.combine(day, time(hour), UTC) for hour in range(24)]
    expected = [
        f"FOR VALUES FROM ('{begin:%Y-%m-%d %H:%M:%S}+00')"
        f" TO ('{begin + timedelta(hours=1):%Y-%m-%d %H:%M:%S}+00')"
        for begin in begins
    ]
    assert bounds == expected


def test_down_and_up_with_a_day_in_parts(world: World) -> None:
    """The version before knows whole days alone: it gets them, with their rows; and it works."""
    counted(world, today() - DAY, 41e6)
    day = today() - 3 * DAY
    start_ms = int(datetime.combine(day, time(5, 59, 59, 900_000), UTC).timestamp() * 1000)
    loader = Loader(world.database_url, "test")
    loader.store(batch_of([encode(event) for event in chains(200, start_ms=start_ms)]))
    loader.close()
    assert len(of_day(world, day)) == 4
    was = "select prosecdef from pg_proc where proname = 'ensure_game_events_partitions'"
    config = schema._config(world.engine)
    assert rows(world, was) == [True]
    command.downgrade(config, "0008")
    assert rows(world, was) == [True]
    assert of_day(world, day) == [f"game_events_{day:%Y%m%d}"]
    assert world.count("game_events") == 200
    assert ensure(world, day, day + DAY) == 1
    command.upgrade(config, "head")
    assert rows(world, was) == [True]
    command.check(config)
    assert ensure(world, FAR) == 4


# --- how far ahead they reach


def test_the_status_says_how_many_days_lie_ahead(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the first gap, parts and whole days alike; the task that makes them says the same."""
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    assert status.status(world.streams, world.engine).tables is not None
    with world.engine.connect() as connection:
        assert status.look(connection).days_ahead == 7
    change(world, f"drop table game_events_{today() + 3 * DAY:%Y%m%d}")
    with world.engine.connect() as connection:
        seen = status.look(connection)
    assert (seen.days_ahead, seen.partitions) == (2, 8)
    assert seen.last_partition == today() + 7 * DAY
    counted(world, today() - DAY, 41e6)
    assert tasks.make_partitions() == {"made": 4, "ahead_days": 7}
    with world.engine.connect() as connection:
        seen = status.look(connection)
    assert (seen.days_ahead, seen.partitions) == (7, 12)
    # What somebody keeps under a name of his own is no day.
    change(world, "create table game_events_old partition of game_events default")
    with world.engine.connect() as connection:
        assert status.look(connection) == seen


@pytest.mark.parametrize(
    ("days", "expected"), [([], 0), ([0], 0), ([1, 2], 2), ([0, 1, 3], 1), ([2, 3], 0)]
)
def test_ahead_ends_at_the_first_gap(days: list[int], expected: int) -> None:
    """A partition far away does not make up for one that is missing tomorrow."""
    assert partitions.ahead({FAR + day * DAY for day in days}, FAR) == expected
