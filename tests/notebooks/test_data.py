"""Questions to a real server: what comes back has its types, comes in parts, and nothing is changed by it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from analytics import notebook
from analytics.ask import ask, questions
from analytics.data import chunks, connect, query, reader, verbatim
from analytics.frames import RANKS
from analytics.period import DAYS, UNTIL, ending
from pipeline.settings import SettingsError
from tests.conftest import World
from tests.integration import dashboards
from tests.integration.consuming import now_ms
from tests.integration.test_roles import url_of
from tests.notebooks import planted
from tests.unit.samples import chains

# One column of each type that our tables, and people's questions, have.
_EVERYTHING = """
select * from (
    select id, ts, player, action, karma_total, rank, seq, details, ingested_at,
           cast(ts as date) as day, ts at time zone 'UTC' as local, now() - ts as age,
           sum(xp_delta) over () as xp, cast(1.5 as numeric) as amount, true as is_so,
           array[player, action] as words, null as nothing, cast('x' as bytea) as raw
    from game_events
) as everything
where ts >= :since
order by ts
"""
_KINDS = {
    "id": "str", "ts": "datetime64[us, UTC]", "player": "category", "action": "category",
    "karma_total": "int64", "rank": "category", "seq": "int64", "details": "object",
    "ingested_at": "datetime64[us, UTC]", "day": "datetime64[s]", "local": "datetime64[us]",
    "age": "timedelta64[us]", "xp": "int64", "amount": "float64", "is_so": "boolean",
    "words": "object", "nothing": "str", "raw": "object",
}  # fmt: skip


def _kinds(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(kind) for name, kind in frame.dtypes.items()}


@contextmanager
def _as_role(world: World) -> Iterator[Engine]:
    """The world as notebooks reach it, given the URL of its owner."""
    engine = reader(world.database_url)
    yield engine
    engine.dispose()


def test_an_answer_has_its_types_with_and_without_rows(engine: Engine) -> None:
    """What is drawn of an empty answer is an empty plot, and no error."""
    full = query(engine, _EVERYTHING, since=ending(planted.LAST, 1).since)
    empty = query(engine, _EVERYTHING, since=datetime(2100, 1, 1, tzinfo=UTC))
    assert len(full) > 100
    assert empty.empty
    assert _kinds(full) == _kinds(empty) == _KINDS
    assert tuple(full["rank"].cat.categories) == RANKS
    newest = planted.events()[-1]
    row = full.iloc[-1]
    assert (uuid.UUID(row["id"]), row["player"], row["seq"]) == (
        newest.id,
        newest.player,
        newest.seq,
    )
    assert row["ts"] == datetime.fromtimestamp(newest.ts_ms / 1000, UTC)
    assert row["day"] == pd.Timestamp(planted.LAST)
    assert row["raw"] == b"x"


def test_days_and_moments_are_those_of_utc(engine: Engine) -> None:
    """Whatever time zone the session, or this machine, is in."""
    sql = "select set_config('timezone', 'Asia/Kolkata', true) as zone, now() as now"
    found = query(engine, sql)
    assert str(found["now"].dt.tz) == "UTC"
    assert abs(found["now"].iloc[0] - datetime.now(UTC)) < timedelta(hours=1)


def test_a_part_at_a_time_is_all_of_it(engine: Engine) -> None:
    """However the parts are cut, one after the other they are the whole answer, each with its types."""
    since = ending(planted.LAST, 1).since
    sql = "select id, ts, seq, details from game_events where ts >= :since order by ts, id"
    whole = query(engine, sql, since=since)
    for rows in (len(whole), len(whole) - 1, 500):
        parts = list(chunks(engine, sql, rows=rows, since=since))
        assert [len(part) for part in parts[:-1]] == [rows] * (len(parts) - 1)
        assert 0 < len(parts[-1]) <= rows
        pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)
        assert all(_kinds(part) == _kinds(whole) for part in parts)


def test_no_more_than_a_part_is_in_memory(engine: Engine) -> None:
    """The first part is here before the database has come to row 20,001, at which the question fails."""
    sql = (
        "select 1 / (n - 20001) as x, repeat('x', 100) as y from generate_series(1, 10000000) as n"
    )
    parts = chunks(engine, sql, rows=10_000)
    assert len(next(parts)) == len(next(parts)) == 10_000
    with pytest.raises(DBAPIError, match="division by zero"):
        next(parts)


def test_nothing_comes_as_one_empty_part(engine: Engine) -> None:
    """Whoever counts over the parts has the columns."""
    (part,) = chunks(engine, _EVERYTHING, since=datetime(2100, 1, 1, tzinfo=UTC))
    assert part.empty
    assert _kinds(part) == _KINDS


def test_all_parts_are_of_one_moment(world: World) -> None:
    """What is stored while somebody reads is no part of the answer."""
    dashboards.store(world, chains(30, start_ms=now_ms() - 60_000))
    with _as_role(world) as engine:
        parts = chunks(engine, "select id from game_events", rows=10)
        first = next(parts)
        dashboards.store(world, chains(30, seed=2, start_ms=now_ms() - 30_000))
        assert len(first) + sum(len(part) for part in parts) == 30
        assert world.count("game_events") == 60


def test_parts_that_nobody_wants_are_given_back(world: World) -> None:
    """A notebook that stops in the middle keeps no connection, and so no role's last one."""
    dashboards.store(world, chains(30, start_ms=now_ms() - 60_000))
    with _as_role(world) as engine:
        parts = chunks(engine, "select id from game_events", rows=10)
        next(parts)
        parts.close()  # type: ignore[attr-defined]
    sql = "select count(*) from pg_stat_activity where application_name = 'notebook' and datname = :name"
    with world.engine.connect() as connection:
        assert connection.execute(text(sql), {"name": world.name}).scalar_one() == 0


def test_an_owner_reads_as_who_can_only_read(world: World) -> None:
    """A slip of a notebook on embedded servers, whose URL is a superuser's, changes and tells nothing."""
    with _as_role(world) as engine:
        assert query(engine, "select current_user as name")["name"].tolist() == ["infamous_bi"]
        (part,) = chunks(engine, "select current_user as name")
        assert part["name"].tolist() == ["infamous_bi"]
        with pytest.raises(ProgrammingError, match="permission denied"):
            query(engine, "select raw from quarantined_events")
        for statement in ("delete from game_events", "create table mine (id int)"):
            with pytest.raises(DBAPIError), engine.begin() as connection:
                connection.execute(text(statement))


@pytest.mark.parametrize("role", ["infamous_bi", "infamous_writer"])
def test_who_is_no_superuser_stays_what_it_is(world: World, role: str) -> None:
    """Whoever may not become the reader is still in a transaction that only reads."""
    engine = reader(url_of(world, role))
    assert query(engine, "select current_user as name")["name"].tolist() == [role]
    with pytest.raises(DBAPIError, match="read-only"), engine.begin() as connection:
        connection.execute(text("insert into touched_hours (hour) values (now())"))


def test_before_the_first_migration_it_reads_all_the_same(bare_world: World) -> None:
    """Where no role was ever made there is nothing to become, and still nothing can be written."""
    renamed = "alter role infamous_bi rename to infamous_bi_away"
    back = "alter role infamous_bi_away rename to infamous_bi"
    with bare_world.engine.begin() as connection:
        connection.execute(text(renamed))
    try:
        with _as_role(bare_world) as engine:
            assert query(engine, "select 7 as seven")["seven"].tolist() == [7]
            with pytest.raises(DBAPIError, match="read-only"), engine.begin() as connection:
                connection.execute(text("create table mine (id int)"))
    finally:
        with bare_world.engine.begin() as connection:
            connection.execute(text(back))


def test_sql_as_it_is_keeps_its_colons_and_percent_signs(engine: Engine) -> None:
    """A dashboard's question is not read for values."""
    sql = "select ':since %(x)s 100%' as a, '12:30' like '%:%' as b, cast(7 as int)::text as c, 7 % 4 as d"
    assert verbatim(engine, sql).values.tolist() == [[":since %(x)s 100%", True, "7", 3]]


def test_values_go_in_by_name(engine: Engine) -> None:
    """Whatever is in them: they are never SQL."""
    hostile = "x'; drop table game_events; -- :day % %(a)s"
    found = query(
        engine, "select :word as word, '50%' as half, 7 % :by as rest", word=hostile, by=4
    )
    assert found.values.tolist() == [[hostile, "50%", 3]]
    days = query(
        engine, "select :day as day, :days as days", day=date(2026, 11, 1), days=["a", "b"]
    )
    assert days["day"].tolist() == [pd.Timestamp(2026, 11, 1)]
    assert days["days"].tolist() == [["a", "b"]]


def test_a_dashboards_question_is_asked_of_a_period(engine: Engine) -> None:
    """The days of a period go into it, other values by name, and a wrong name is an error."""
    week = ending(planted.LAST - timedelta(days=3), 7)
    found = ask(engine, "daily_actives", week)
    assert {day.date() for day in found["day"]} == {
        week.first + timedelta(days=number) for number in range(7)
    }
    assert len(ask(engine, "daily_actives", week, days="3")) == 3
    # It has no parameter of a period, and is asked all the same.
    assert len(ask(engine, "storage", week)) == 1
    with pytest.raises(KeyError):
        ask(engine, "daily_actives", week, player="Zeke")
    with pytest.raises(FileNotFoundError):
        ask(engine, "no_such_question")


def test_every_dashboards_question_can_be_asked(engine: Engine) -> None:
    """Each that is listed has an answer whose columns are those that its file promises."""
    found = questions()
    spec = dashboards.spec()
    assert set(found["key"]) <= set(spec.queries)
    for key in found["key"]:
        answer = ask(engine, key, planted.ALL)
        assert list(answer) == [column.name for column in spec.queries[key].columns], key
    assert found["question"].str.endswith("?").mean() > 0.9
    assert not set(found["key"]) & {"last_days", "players"}


def test_without_an_address_it_says_what_to_do() -> None:
    """A sentence, before any query."""
    with pytest.raises(SettingsError, match="DATABASE_URL must name a database"):
        connect()


def test_an_address_may_be_in_a_file(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As containers are given theirs."""
    secret = tmp_path / "url"
    secret.write_text(world.database_url + "\n", encoding="utf-8")
    monkeypatch.setenv("DATABASE_URL_FILE", str(secret))
    assert query(connect(), "select 7 as seven")["seven"].tolist() == [7]


def test_a_notebook_is_about_the_days_up_to_yesterday(
    planted_world: World, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Today is not over: its bars would look like a fall. It counts only where it is all there is."""
    today = _today()
    monkeypatch.setenv("DATABASE_URL", planted_world.database_url)
    chosen = notebook.start(7).period
    assert today - timedelta(days=1) <= chosen.last <= _today() - timedelta(days=1)
    assert chosen.days == 7
    monkeypatch.setenv("DATABASE_URL", world.database_url)
    assert today <= notebook.start(7).period.last <= _today()


def _today() -> date:
    """By UTC; another one is none of a test's business that runs over midnight."""
    return datetime.now(UTC).date()


def test_a_report_chooses_the_days(planted_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a notebook would have chosen."""
    monkeypatch.setenv("DATABASE_URL", planted_world.database_url)
    monkeypatch.setenv(DAYS, "3")
    assert notebook.start(7).period.days == 3
    monkeypatch.setenv(UNTIL, "2026-02-03")
    assert notebook.start(7).period == ending(date(2026, 2, 3), 3)


def test_two_answers_of_one_moment_are_equal(engine: Engine) -> None:
    """Nothing of an answer depends on when it was asked, or on what was asked before."""
    sql = "select player, action, count(*) as events from game_events group by 1, 2 order by 1, 2"
    first, second = query(engine, sql), query(engine, sql)
    pd.testing.assert_frame_equal(first, second)
    counts = itertools.groupby(sorted((e.player, e.action) for e in planted.events()))
    assert [(r.player, r.action, r.events) for r in first.itertuples()] == [
        (*key, sum(1 for _ in each)) for key, each in counts
    ]
