"""The shadow: days built beside the table, compared with it, and swapped while events flow."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from rich.console import Console
from sqlalchemy import Connection, Engine, create_engine, event, make_url, pool, text

from consumer.load import Loader
from infamous import schema, shadow, shadow_report
from infamous.audit import audit
from infamous.difference import DayDifference, compare
from infamous.shadow import SCHEMA, Built, ShadowError, build, pages
from infamous.swap import BEFORE, Swapped, SwappedDay, swap
from jobs.owner import NotTheOwner
from jobs.rollup import rollup
from pipeline.entry import Entry, packed_up
from pipeline.event import Event, encode
from producer.simulate import population, step
from tests import commands
from tests.commands import Command
from tests.conftest import World
from tests.integration.consuming import batch_of, is_drained, until, working
from tests.unit.samples import RETENTION_DAYS, chains

DAY = timedelta(days=1)
CONTENT = """
select id, ts, player, action, xp_delta, karma_delta, karma_total, rank, energy_source, seq, details::text
from game_events order by ts, id
"""


@pytest.fixture
def world(bare_world: World) -> World:
    """A database that was migrated itself: what its owner may do in one is not copied with its tables."""
    schema.migrate(bare_world.engine)
    return bare_world


@pytest.fixture
def owner(world: World) -> Engine:
    """The database as infamous_migrator, who is no superuser."""
    with world.engine.begin() as connection:
        connection.execute(text("alter role infamous_migrator login password 'for this test'"))
    url = make_url(world.database_url).set(username="infamous_migrator", password="for this test")  # noqa: S106
    return create_engine(url, poolclass=pool.NullPool)


@pytest.fixture
def command(world: World, tmp_path: Path) -> Command:
    """``infamous`` with these arguments, and with more or other variables."""
    return commands.beginning("infamous", cwd=tmp_path, environment=world.environment)


def rows(world: World, query: str, **values: Any) -> list[Any]:
    """What a query answers, one value a row."""
    with world.engine.connect() as connection:
        return list(connection.execute(text(query), values).scalars())


def change(world: World, *statements: str) -> None:
    """Change something in the database."""
    with world.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def content(world: World) -> str:
    """A hash over all rows in order, but for when they were stored."""
    with world.engine.connect() as connection:
        found = connection.execute(text(CONTENT)).all()
    return hashlib.sha256(repr([tuple(row) for row in found]).encode()).hexdigest()


def today() -> date:
    """By UTC."""
    return datetime.now(UTC).date()


def of_day(day: date, events: int, *, seed: int = 1, at: time = time(11, 59, 59)) -> list[Event]:
    """Healthy events from a time of a UTC day on."""
    start_ms = int(datetime.combine(day, at, UTC).timestamp() * 1000)
    return chains(events, seed=seed, start_ms=start_ms)


def encoded(events: Sequence[Event]) -> list[bytes]:
    """Events as they go onto the stream."""
    return [encode(event) for event in events]


def settle(world: World) -> None:
    """Let a worker store all that is on the stream."""
    with working(world):
        until(lambda: is_drained(world), "the stream to be read")


def store(world: World, events: Sequence[Event]) -> None:
    """Put events into the table, past the stream."""
    loader = Loader(world.database_url, "test")
    loader.store(batch_of(encoded(events)))
    loader.close()


def built(world: World, engine: Engine, first: date, last: date, **options: Any) -> Built:
    """A shadow made of what is on the stream."""
    return build(
        engine, pages(world.streams, first), first, last, retention_days=RETENTION_DAYS, **options
    )


def long_ago(world: World) -> None:
    """What is stored was so long before the build that begins now."""
    change(world, "update game_events set ingested_at = ingested_at - interval '1 hour'")


# --- built


def test_a_truncated_table_is_rebuilt(world: World, owner: Engine) -> None:
    """Someone's bad day: all rows are gone. Build, compare, swap: the same rows are back, and prove it."""
    first = today() - 2 * DAY
    midnight_ms = int(datetime.combine(first + DAY, time(), UTC).timestamp() * 1000)
    players = population(1, 5, midnight_ms, 0)
    day_ms = 86_400_000
    moments = [*range(midnight_ms - 100, midnight_ms + 200)]
    moments += range(midnight_ms + day_ms, midnight_ms + day_ms + 200)
    events = [step(players[number % 5], ms) for number, ms in enumerate(moments)]
    singles = encoded(events[:150])
    world.source.append([*singles, b"no event"])
    world.source.append_entries(packed_up(encoded(events[150:]), 40))
    settle(world)
    long_ago(world)
    before = content(world)
    assert (world.count("game_events"), world.count("quarantined_events")) == (500, 1)
    change(world, "truncate game_events")
    done = built(world, owner, first, today())
    assert (done.rows, done.duplicates, done.is_complete) == (500, 0, True)
    assert done.refused == {"not_json": 1}
    found = compare(owner)
    assert [(day.live, day.shadow, day.only_shadow) for day in found.days] == [
        (0, 100, 100),
        (0, 200, 200),
        (0, 200, 200),
    ]
    assert (found.live.events, found.shadow.events, found.shadow.players) == (0, 500, 5)
    assert world.count("game_events") == 0
    swapped = swap(owner)
    assert [(day.rows, day.copied, day.set_aside) for day in swapped.days] == [
        (100, 0, 0),
        (200, 0, 0),
        (200, 0, 0),
    ]
    assert content(world) == before
    assert audit(world.engine).passed
    assert world.count("quarantined_events") == 1
    # Nothing is left of it, and everything belongs to the owner.
    with pytest.raises(ShadowError, match=r"^There is no shadow: `infamous shadow build` makes"):
        swap(owner)
    assert rows(
        world, f"select count(*) from pg_class where relnamespace = '{BEFORE}'::regnamespace"
    ) == [0]
    owners = "select distinct tableowner from pg_tables where schemaname = 'public'"
    assert rows(world, owners) == ["infamous_owner"]
    bounds = "select count(*) from pg_constraint where conname = 'swap_bounds'"
    assert rows(world, bounds) == [0]


def test_building_again_adds_nothing(world: World, owner: Engine) -> None:
    """The second build finds all of it there; --fresh begins anew, with other days perhaps."""
    day = today() - DAY
    world.source.append(encoded(of_day(day, 120)))
    done = built(world, owner, day, day)
    assert (done.entries, done.rows, done.duplicates) == (120, 120, 0)
    again = built(world, owner, day, day)
    assert (again.entries, again.rows, again.duplicates) == (120, 0, 120)
    with pytest.raises(ShadowError, match=f"^The shadow holds {day} to {day}: name these days"):
        built(world, owner, day - DAY, day)
    fresh = built(world, owner, day - DAY, day, is_fresh=True)
    assert (fresh.rows, fresh.duplicates) == (120, 0)
    # Nothing of it shows in the tables that others look at.
    for table in ("game_events", "quarantined_events", "touched_hours", "pipeline_health"):
        assert world.count(table) == 0


def test_a_build_keeps_to_its_days(world: World, owner: Engine) -> None:
    """Whole UTC days, both ends included, whenever their events came; a neighbour's are left out."""
    day = today() - 2 * DAY
    edges = [
        *of_day(day - DAY, 1, at=time(23, 59, 59, 999_000)),
        *of_day(day, 1, seed=2, at=time(0)),
        *of_day(day, 1, seed=3, at=time(23, 59, 59, 999_000)),
        *of_day(day + DAY, 1, seed=4, at=time(0)),
    ]
    # From a clock that was ahead: its entry was added the day before.
    midnight_ms = int(datetime.combine(day, time(), UTC).timestamp() * 1000)
    early = of_day(day, 1, seed=5, at=time(0, 0, 1))
    client, key = world.source.client, world.source.key
    client.xadd(key, {"event": encode(early[0])}, id=f"{midnight_ms - 240_000}-0")
    world.source.append(encoded(edges[::-1]))
    done = built(world, owner, day, day)
    assert (done.entries, done.rows, done.refused) == (5, 3, {})
    stored = rows(world, f"select id from {SCHEMA}.game_events order by ts")
    assert stored == [edges[1].id, early[0].id, edges[2].id]


def test_a_build_takes_pages_from_anywhere(world: World, owner: Engine) -> None:
    """An archive's pages are as good as the stream's, large ones too; told as it goes, stopped when asked."""
    day = today() - DAY
    events = encoded(of_day(day, 12_000))
    forms = packed_up(events, 400)
    page = [Entry(b"%d-0" % n, payload, form) for n, (form, payload) in enumerate(forms, 1)]
    told: list[int] = []
    stop = threading.Event()

    def tell(done: int, _total: int | None) -> None:
        told.append(done)
        stop.set()

    options: dict[str, Any] = {"retention_days": RETENTION_DAYS}
    done = build(owner, [page, page], day, day, tell=tell, stop=stop, **options)
    assert not done.is_complete
    assert 0 < done.rows <= 12_000
    with pytest.raises(ShadowError, match=r"^The shadow is not complete: run its build again"):
        swap(owner)
    done = build(owner, [page], day, day, **options)
    assert (done.is_complete, done.rows + done.duplicates) == (True, 12_000)
    assert rows(world, f"select count(*) from {SCHEMA}.game_events") == [12_000]
    assert told == sorted(told)


@pytest.mark.parametrize("is_fresh", [False, True])
def test_a_damaged_archive_makes_no_shadow_and_drops_none(
    world: World, command: Command, tmp_path: Path, *, is_fresh: bool
) -> None:
    """What cannot be read is known before anything is made, or the shadow that is there is dropped."""
    day = today() - DAY
    own = {"ARCHIVE_URL": str(tmp_path / "archive")}
    world.source.append(encoded(of_day(day, 60)))
    arguments = ["shadow", "build", "--from", str(day), "--to", str(day), "--source", "archive"]
    if is_fresh:
        arguments.append("--fresh")
        assert command(*arguments, **own).returncode == 0
    else:
        assert command("archive", "run", **own).returncode == 0
    for path in tmp_path.glob("archive/events/**/*.parquet"):
        path.write_bytes(b"harmed")
    failed = command(*arguments, **own)
    assert failed.returncode == 1
    assert "does not match its manifest" in failed.stderr
    there = rows(world, "select 1 from pg_namespace where nspname = 'infamous_shadow'")
    assert len(there) == is_fresh
    if is_fresh:
        assert rows(world, f"select count(*) from {SCHEMA}.game_events") == [60]


def test_a_build_killed_in_the_middle_goes_on(world: World, command: Command) -> None:
    """What was stored stays; the next build adds the rest, and only then may it be swapped."""
    day = today() - DAY
    world.source.append_entries(packed_up(encoded(of_day(day, 12_000)), 500))
    arguments = ("shadow", "build", "--from", str(day), "--to", str(day))
    killed = command(*arguments, FAILPOINT="in_shadow")
    assert killed.returncode == -signal.SIGKILL
    half = rows(world, f"select count(*) from {SCHEMA}.game_events")[0]
    assert 0 < half < 12_000
    refused = command("shadow", "swap")
    assert refused.returncode == 1
    assert refused.stderr == "The shadow is not complete: run its build again, and it goes on.\n"
    done = json.loads(command(*arguments, "--json").stdout)
    assert (done["rows"], done["duplicates"]) == (12_000 - half, half)


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (1, 0, "is later than"),
        (0, 1, "has not begun"),
        (-RETENTION_DAYS - 2, -1, r"is out of retention.*raise RETENTION_DAYS \(90\)"),
    ],
)
def test_days_that_cannot_be_built_are_told(
    world: World, owner: Engine, first: int, last: int, words: str
) -> None:
    """Nothing is made for them."""
    with pytest.raises(ShadowError, match=words):
        built(world, owner, today() + first * DAY, today() + last * DAY)
    assert rows(world, "select count(*) from pg_namespace where nspname = 'infamous_shadow'") == [0]


def test_the_shadow_is_cut_as_the_table_is(world: World, owner: Engine) -> None:
    """A day in parts stays in parts when it is swapped."""
    day = today() - 2 * DAY
    yesterday = f"game_events_{today() - DAY:%Y%m%d}"
    change(world, f"update pg_class set reltuples = 41e6 where relname = '{yesterday}'")
    world.source.append(encoded(of_day(day, 200)))
    settle(world)
    before = content(world)
    built(world, owner, day, day)
    swap(owner)
    parts = (
        "select relname from pg_class where relkind = 'r' and relispartition and relname like :stem"
    )
    assert len(rows(world, parts, stem=f"game_events_{day:%Y%m%d}%")) == 4
    assert content(world) == before


# --- compared


def test_differences_of_each_kind_are_found(world: World, owner: Engine) -> None:
    """Rows that are missing on either side, that differ in any column, and what came since: all counted."""
    day = today() - DAY
    events = of_day(day, 300)
    world.source.append(encoded(events))
    settle(world)
    long_ago(world)
    built(world, owner, day, day)
    assert compare(owner).is_same
    ids = [str(event.id) for event in events]
    change(world, f"delete from game_events where id = any('{{{','.join(ids[:7])}}}')")
    change(world, f"delete from {SCHEMA}.game_events where id = any('{{{','.join(ids[10:15])}}}')")
    columns = (
        "player = player || '!'", "action = 'moral_choice', xp_delta = 0, energy_source = null",
        "xp_delta = xp_delta + 1", "karma_delta = karma_delta + 1", "seq = seq + 1000", "seq = null",
        "details = null", "details = details || '{\"new\": 1}'",
        "energy_source = 'sun', action = 'recharge', xp_delta = 3", "karma_total = 20, rank = 'Guardian'",
    )  # fmt: skip
    for number, column in enumerate(columns, 20):
        change(world, f"update game_events set {column} where id = '{ids[number]}'")
    store(world, of_day(day, 4, seed=9, at=time(1)))
    found = compare(owner)
    assert found.days == (
        DayDifference(
            day=day, live=297, shadow=295, to_copy=4, only_live=5, only_shadow=7, differing=10
        ),
    )
    assert not found.is_same
    assert (found.live.events, found.shadow.events) == (297, 295)
    sums = "select sum(greatest(xp_delta, 0))::int, sum(karma_delta)::int, count(distinct player)::int from "
    with world.engine.connect() as connection:
        for side, table in ((found.live, "game_events"), (found.shadow, f"{SCHEMA}.game_events")):
            summed = tuple(connection.execute(text(sums + table)).one())
            assert (side.xp_gained, side.karma_change, side.players) == summed
            assert side.daily_actives == side.players
    with pytest.raises(ShadowError, match=rf"^5 rows of the live table .* of {day}: look at `inf"):
        swap(owner)
    assert compare(owner) == found


def test_the_comparison_reads_well(world: World, owner: Engine) -> None:
    """A table of days, one of figures, and what to do next."""
    day = today() - DAY
    world.source.append(encoded(of_day(day, 1500)))
    built(world, owner, day, day)
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(shadow_report.difference(compare(owner)))
    lines = capture.get().splitlines()
    assert any(line.split() == [str(day), "0", "1,500", "0", "0", "1,500", "0"] for line in lines)
    assert any(line.split() == ["events", "0", "1,500", "+1,500"] for line in lines)
    assert lines[-1].startswith("The shadow holds all that is stored; `infamous shadow swap`")


# --- swapped


def test_what_is_only_in_the_table_is_set_aside(world: World, owner: Engine) -> None:
    """Asked for, not by chance; it stands beside until it is dropped, also when a day is swapped twice."""
    day = today() - DAY
    store(world, of_day(day, 30, seed=2))
    long_ago(world)
    world.source.append(encoded(of_day(day, 50, at=time(1))))
    for number in (1, 2):
        built(world, owner, day, day)
        dry = swap(owner, is_dry_run=True)
        assert dry.days == (SwappedDay(day, 50, 0, 30 if number == 1 else 0),)
        assert swap(owner, may_set_aside=True) == dry
    aside = f"select relname from pg_class where relnamespace = '{BEFORE}'::regnamespace and relkind = 'r'"
    name = f"game_events_before_{day:%Y%m%d}"
    assert sorted(rows(world, aside)) == [name, f"{name}_2"]
    assert world.count(f"{BEFORE}.{name}") == 30
    assert world.count(f"{BEFORE}.{name}_2") == 50
    assert world.count("game_events") == 50
    assert shadow.drop(owner, BEFORE)
    assert not shadow.drop(owner, BEFORE)


def test_rollups_are_made_anew(world: World, owner: Engine) -> None:
    """All hours of a day that was swapped are told as changed; the ones of other days are not."""
    day = today() - DAY
    world.source.append(encoded(of_day(day, 50)))
    built(world, owner, day, day)
    swap(owner)
    begin = datetime.combine(day, time(), UTC)
    hours = rows(world, "select hour from touched_hours order by 1")
    assert hours == [begin + timedelta(hours=hour) for hour in range(24)]
    rollup(world.engine, begin, begin + DAY)
    assert rows(world, "select sum(events)::int from hourly_rollups") == [50]


def test_a_day_that_was_dropped_and_is_built_anew_is_counted_again(
    world: World, owner: Engine
) -> None:
    """Some of it that came back alone was not; all of it is."""
    day = today() - 3 * DAY
    events = of_day(day, 90)
    begin = datetime.combine(day, time(), UTC)
    world.source.append(encoded(events))
    store(world, events)
    rollup(world.engine, begin, begin + DAY)
    change(world, f"drop table game_events_{day:%Y%m%d}", "update hourly_rollups set events = 7")
    store(world, events[:10])
    assert rollup(world.engine, begin, begin + DAY).without_raw > 0
    assert rows(world, "select distinct events from hourly_rollups") == [7]
    built(world, owner, day, day)
    swap(owner)
    assert rollup(world.engine, begin, begin + DAY).without_raw == 0
    assert rows(world, "select sum(events)::int from hourly_rollups") == [90]


def test_events_flow_while_days_are_swapped(world: World, owner: Engine) -> None:
    """Stored while it is built, swapped and after: every event is a row, once, and no store fails."""
    day = today()
    start_ms = int(datetime.combine(day, time(), UTC).timestamp() * 1000)
    known = chains(2000, seed=1, start_ms=start_ms)
    world.source.append(encoded(known))
    settle(world)
    stored: list[int] = []
    failed: list[BaseException] = []
    stop = threading.Event()

    def flow() -> None:
        loader = Loader(world.database_url, "flow")
        number = 0
        try:
            while not stop.is_set():
                number += 1
                events = chains(20, seed=1000 + number, start_ms=start_ms + 10_000 * (number % 5))
                stored.append(loader.store(batch_of(encoded(events))).rows)
        except BaseException as error:  # told below
            failed.append(error)
        finally:
            loader.close()

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        until(lambda: len(stored) > 3, "events to flow")
        for _ in range(3):
            built(world, owner, day, day)
            assert [one.day for one in swap(owner).days] == [day]
            count = len(stored)
            until(lambda count=count: len(stored) > count + 3, "events to flow on")  # type: ignore[misc]
    finally:
        stop.set()
        thread.join(30)
    assert failed == []
    assert set(stored) == {20}
    assert world.count("game_events") == 2000 + sum(stored)
    assert rows(world, "select count(distinct id) from game_events") == [2000 + sum(stored)]


def test_a_row_sent_right_after_the_swap_is_stored(world: World, owner: Engine) -> None:
    """A consumer that knew the day's former partition stores in the new one, and knows what is there."""
    day = today() - DAY
    events = of_day(day, 100)
    world.source.append(encoded(events))
    loader = Loader(world.database_url, "test")
    loader.store(batch_of(encoded(events)))
    built(world, owner, day, day)
    swap(owner)
    more = of_day(day, 10, seed=7, at=time(5))
    done = loader.store(batch_of(encoded([*events, *more])))
    assert (done.rows, done.duplicates) == (10, 100)
    loader.close()
    assert world.count("game_events") == 110


def test_a_swap_gives_way_and_tries_again(world: World, owner: Engine) -> None:
    """A long question is not waited behind: events are stored meanwhile, and the swap comes after it."""
    day = today() - DAY
    world.source.append(encoded(of_day(day, 100)))
    built(world, owner, day, day)
    waits = "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'"
    done: list[Swapped] = []
    swapping = threading.Thread(target=lambda: done.append(swap(owner)))
    with world.engine.begin() as question:
        question.execute(text("select count(*) from game_events"))
        swapping.start()
        until(lambda: rows(world, waits) == [1], "the swap to wait")
        store(world, of_day(day, 10, seed=5))
        assert not done
    swapping.join(60)
    assert [one.copied for one in done[0].days] == [10]
    assert world.count("game_events") == 110


@contextmanager
def looked_over(engine: Engine, on: Callable[[], None]) -> Iterator[list[str]]:
    """The plans of what reads or writes rows while the table is locked; ``on`` is called just before."""
    plans: list[str] = []
    is_locked = False

    def look(_: Connection, cursor: Any, statement: str, parameters: Any, *_more: object) -> None:
        nonlocal is_locked
        if statement.startswith("lock table public.game_events"):
            on()
            is_locked = True
        elif is_locked and f"insert into {SCHEMA}.game_events" in statement:
            cursor.execute(f"explain {statement}", parameters)
            plans.append("\n".join(line for (line,) in cursor.fetchall()))

    event.listen(engine, "before_cursor_execute", look)
    try:
        yield plans
    finally:
        event.remove(engine, "before_cursor_execute", look)


def test_under_the_lock_only_the_last_rows_are_looked_for(world: World, owner: Engine) -> None:
    """However large a day is; those that came at the last moment are found in whatever place they are."""
    day = today() - DAY
    name = f"game_events_{day:%Y%m%d}"
    known = of_day(day, 2000)
    store(world, known)
    long_ago(world)
    world.source.append(encoded(known))
    built(world, owner, day, day)
    # Room between the rows, which the last ones fill.
    gone = [str(event.id) for event in known[:400]]
    change(world, f"delete from game_events where id = any('{{{','.join(gone)}}}')")
    with world.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"vacuum (freeze, analyze) {name}")
    late = of_day(day, 300, seed=5, at=time(5))
    with looked_over(owner, lambda: store(world, late)) as plans:
        assert [one.copied for one in swap(owner, may_set_aside=True).days] == [300]
    assert len(plans) == 1
    assert f"Bitmap Index Scan on {name}_swap" in plans[0]
    assert "Seq Scan" not in plans[0]
    assert world.count("game_events") == 2300
    # It went with the day.
    assert rows(world, "select count(*) from pg_class where relname like '%\\_swap'") == [0]


def test_a_swap_that_cannot_have_the_table_says_so(world: World, owner: Engine) -> None:
    """Its day stays as it was, and whoever else works on the shadow meanwhile is refused in a sentence."""
    day = today() - DAY
    world.source.append(encoded(of_day(day, 100)))
    built(world, owner, day, day)
    with world.engine.begin() as question:
        question.execute(text("select count(*) from game_events"))
        with pytest.raises(ShadowError, match=f"so {day} and what follows were not swapped: end"):
            swap(owner, patience_s=0.0)
    with shadow.alone(owner), patch.object(shadow, "_TURN_S", 0.1):
        for call in (swap, lambda engine: built(world, engine, day, day)):
            with pytest.raises(ShadowError, match="Another build or swap of a shadow is under way"):
                call(owner)
    assert world.count("game_events") == 0
    assert [one.rows for one in swap(owner).days] == [100]


def test_a_swap_killed_in_the_middle_goes_on(world: World, command: Command) -> None:
    """Days are whole: those before the kill are in place, the one in hand is as it was."""
    days = [today() - 3 * DAY, today() - 2 * DAY, today() - DAY]
    for number, day in enumerate(days):
        world.source.append(encoded(of_day(day, 40, seed=number)))
    settle(world)
    before = content(world)
    change(world, "truncate game_events")
    arguments = ("--from", str(days[0]), "--to", str(days[2]))
    assert command("shadow", "build", *arguments).returncode == 0
    killed = command("shadow", "swap", FAILPOINT="in_swap:2")
    assert killed.returncode == -signal.SIGKILL
    per_day = "select count(*) from game_events group by ts::date order by ts::date"
    assert rows(world, per_day) == [40]
    assert "were swapped already" in command("shadow", "build", *arguments).stderr
    dry = command("shadow", "swap", "--dry-run")
    assert [line.split()[0] for line in dry.stdout.splitlines()] == [str(day) for day in days[1:]]
    assert rows(world, per_day) == [40]
    again = command("shadow", "swap", "--json")
    assert [day["rows"] for day in json.loads(again.stdout)["days"]] == [40, 40]
    assert content(world) == before
    assert command("shadow", "diff").stderr.startswith("There is no shadow:")


def test_a_swap_stops_when_asked(world: World, owner: Engine) -> None:
    """No day is begun after that; the next swap goes on."""
    day = today() - DAY
    world.source.append(encoded(of_day(day, 10)))
    built(world, owner, day, day)
    stop = threading.Event()
    stop.set()
    assert swap(owner, stop=stop) == Swapped((), is_complete=False)
    assert world.count("game_events") == 0
    assert swap(owner).is_complete


def test_a_swap_that_waits_stops_when_asked(world: World, owner: Engine) -> None:
    """Somebody holds the table for long: whoever has had enough of waiting need not wait on."""
    day = today() - DAY
    world.source.append(encoded(of_day(day, 10)))
    built(world, owner, day, day)
    stop = threading.Event()
    done: list[Swapped] = []
    swapping = threading.Thread(target=lambda: done.append(swap(owner, stop=stop)))
    waits = "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'"
    with world.engine.begin() as question:
        question.execute(text("select count(*) from game_events"))
        swapping.start()
        until(lambda: rows(world, waits) == [1], "the swap to wait")
        stop.set()
        swapping.join(60)
        assert done == [Swapped((), is_complete=False)]
    assert swap(owner).is_complete


def test_who_is_forgotten_does_not_come_back(world: World, owner: Engine) -> None:
    """Forgotten before the build, while it stands or never: only the last is there after the swap."""
    day = today() - DAY
    events = of_day(day, 300)
    before, meanwhile, never = sorted({event.player for event in events})
    forget = (
        "insert into forgotten_players (player_sha256) values (sha256(convert_to('{}', 'UTF8')))"
    )
    change(world, forget.format(before))
    world.source.append(encoded(events))
    done = built(world, owner, day, day)
    assert (done.rows, done.forgotten) == (200, 100)
    change(world, forget.format(meanwhile))
    assert swap(owner).days == (SwappedDay(day, 100, 0, 0),)
    assert rows(world, "select distinct player from game_events") == [never]


# --- by whom, and of what version


def test_who_may_not_is_told_what_to_name(world: World) -> None:
    """The jobs' role can neither build nor swap, and changes nothing."""
    with world.engine.begin() as connection:
        connection.execute(text("alter role infamous_jobs login password 'for this test'"))
    url = make_url(world.database_url).set(username="infamous_jobs", password="for this test")  # noqa: S106
    jobs = create_engine(url, poolclass=pool.NullPool)
    with pytest.raises(NotTheOwner, match="MIGRATOR_DATABASE_URL"):
        built(world, jobs, today(), today())
    with pytest.raises(NotTheOwner):
        swap(jobs)


def test_a_superuser_builds_as_the_owner(world: World) -> None:
    """On embedded servers there is nobody else: what is swapped in belongs to the owner all the same."""
    day = today() - DAY
    world.source.append(encoded(of_day(day, 10)))
    built(world, world.engine, day, day)
    swap(world.engine)
    owners = "select distinct tableowner from pg_tables where schemaname = 'public'"
    assert rows(world, owners) == ["infamous_owner"]
    assert world.count("game_events") == 10


def test_a_shadow_of_another_version_is_refused(world: World, owner: Engine) -> None:
    """Its columns may be others: it is built anew."""
    built(world, owner, today(), today())
    change(world, f"update {SCHEMA}.alembic_version set version_num = '0001'")
    for call in (compare, swap, lambda engine: built(world, engine, today(), today())):
        with pytest.raises(ShadowError, match=r"by another version .* with --fresh\.$"):
            call(owner)
    assert built(world, owner, today(), today(), is_fresh=True).is_complete


def test_the_commands_say_what_they_did(world: World, command: Command) -> None:
    """Build, compare, swap and drop, each in lines for people; and what is wrong in a sentence."""
    day = today() - DAY
    world.source.append([*encoded(of_day(day, 60)), b"bad"])
    said = command("shadow", "build", "--from", str(day), "--to", str(day))
    assert said.stdout.splitlines() == [
        f"Built the shadow of {day} to {day}: 60 rows of 61 entries, 0 were there already.",
        "1 left out as not_json",
    ], said.stderr
    found = json.loads(command("shadow", "diff", "--json").stdout)
    assert (found["days"][0]["only_shadow"], found["is_same"]) == (60, False)
    assert "missions completed" in command("shadow", "diff").stdout
    dry = command("shadow", "swap", "--dry-run").stdout
    assert dry == f"{day}  would swap: 60 rows, 0 of them taken along, 0 set aside\n"
    assert "All days are in place." in command("shadow", "swap").stdout
    assert command("shadow", "drop").stdout == "There is no schema infamous_shadow.\n"
    tried = command("shadow", "drop", "--before", "--dry-run").stdout
    assert tried == "Would drop the schema infamous_before_swap.\n"
    assert (
        command("shadow", "drop", "--before").stdout == "Dropped the schema infamous_before_swap.\n"
    )
    wrong = command("shadow", "build", "--from", "yesterday", "--to", str(day))
    assert wrong.returncode == 2
    assert "give one as in 2026-11-24" in wrong.stderr
