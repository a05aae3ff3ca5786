"""The dashboards Live and Pipeline: what they answer is what happens now, and what consumers did."""

from __future__ import annotations

import hashlib
import json
import operator
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from sqlalchemy import text

from consumer.batch import Limits
from infamous.embedded.servers import Servers
from pipeline import partitions
from pipeline.event import Event, datetime_of
from producer.simulate import COLE, Player, population, step
from tests.conftest import World, world_of
from tests.integration.consuming import is_drained, now_ms, until, working
from tests.integration.dashboards import (
    Row,
    ask,
    asked,
    each_value,
    of_dashboards,
    roll_up,
    scanned,
    spec,
    store,
)
from tests.integration.test_health import BAD, looking_often
from tests.integration.test_worker import good
from tests.unit.samples import payload

LIVE: Final = of_dashboards("live")
QUERIES: Final = of_dashboards("live", "pipeline")
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
HOSTILE: Final = "x'; drop table game_events; --"
_BELOW_MS: Final = 20 * 60_000
_OPERATORS: Final = {">": operator.gt, "<": operator.lt}


@pytest.fixture(scope="module")
def cast() -> list[Player]:
    """Six players, as they are when all was played."""
    return population(3, 6, now_ms(), 0)


@pytest.fixture(scope="module")
def played(cast: list[Player]) -> list[Event]:
    """The last thirty hours: an event each 20 seconds, every other one Cole's."""
    until_ms = now_ms()
    times = range(until_ms - 30 * 3_600_000, until_ms, 20_000)
    return [
        step(cast[0 if number % 2 else 1 + number // 2 % 5], ms) for number, ms in enumerate(times)
    ]


@pytest.fixture(scope="module")
def live(servers: Servers, template: str, played: list[Event]) -> Iterator[World]:
    """A world with that; what is of the last 20 minutes came after the last rollup. Nobody changes it."""
    with world_of(servers, template) as world:
        edge_ms = now_ms() - _BELOW_MS
        store(world, [event for event in played if event.ts_ms < edge_ms])
        roll_up(world)
        store(world, [event for event in played if event.ts_ms >= edge_ms])
        yield world


def digest(name: str) -> str:
    """The value of a player's name."""
    return hashlib.md5(name.encode()).hexdigest()  # noqa: S324


def minute_of(moment: datetime) -> datetime:
    """The beginning of its minute."""
    return moment.replace(second=0, microsecond=0)


def bare(moment: datetime) -> datetime:
    """As a dashboard shows it: UTC, and no more said of it."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def midnight() -> datetime:
    """The beginning of the UTC day."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def between(events: list[Event], begin: datetime, end: datetime) -> list[Event]:
    """The events of a span."""
    return [event for event in events if begin <= datetime_of(event.ts_ms) < end]


def worked(world: World, minute: datetime, process: str = "a", **counts: Any) -> None:
    """Write a row of the health table as a consumer would."""
    values = {"minute": minute, "process": process, **counts}
    if "quarantined_by_reason" in values:
        values["quarantined_by_reason"] = json.dumps(values["quarantined_by_reason"])
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    change(world, f"insert into pipeline_health ({names}) values ({marks})", **values)


def change(world: World, statement: str, **values: Any) -> None:
    """Change something in the database."""
    with world.engine.begin() as connection:
        connection.execute(text(statement), values)


# --- Live: what is played


def test_events_by_minute_are_those_that_happened(live: World, played: list[Event]) -> None:
    """A row for each action and whole minute of the last hour; what is not over yet is not there."""
    answer = asked(live, "live_events")
    end = minute_of(answer.now)
    counts = Counter(
        (minute_of(datetime_of(event.ts_ms)), event.action)
        for event in between(played, end - HOUR, end)
    )
    found = {(row["minute"], row["action"]): row["events"] for row in answer.rows}
    assert len(found) == len(answer.rows) == 60 * 6
    assert {minute for minute, _ in found} == {bare(end - n * MINUTE) for n in range(1, 61)}
    assert {key: count for key, count in found.items() if count} == {
        (bare(minute), action): count for (minute, action), count in counts.items()
    }
    assert counts


def test_who_plays_now_is_counted_once(live: World, played: list[Event]) -> None:
    """Players of 15 minutes, an hour and today, from what is rolled up and what is not."""
    answer = asked(live, "live_now")
    now = answer.now
    minute = minute_of(now)
    (row,) = answer.rows

    def players(begin: datetime) -> int:
        return len({event.player for event in between(played, begin, now)})

    assert row["players_15_minutes"] == players(now - 15 * MINUTE)
    assert row["players_60_minutes"] == players(now - HOUR)
    assert row["players_today"] == players(now.replace(hour=0, minute=0, second=0, microsecond=0))
    assert row["events_last_minute"] == len(between(played, minute - MINUTE, minute))
    assert row["newest_event_at"] == bare(datetime_of(played[-1].ts_ms))


def test_today_is_what_is_rolled_up_and_the_last_hour(world: World) -> None:
    """Who played this morning counts today though its events are not read again; yesterday's do not."""
    today = midnight()
    change(
        world,
        "insert into player_days (day, player, first_day, events, xp_delta, karma_delta)"
        " values (:today, 'Zeke', :today, 1, 0, 0), (:before, 'Trish', :before, 1, 0, 0)",
        today=today.date(),
        before=today.date() - DAY,
    )
    store(world, [payload(now_ms(), 1, player="Moya"), payload(now_ms(), 2, player="Zeke")])
    (row,) = ask(world, "live_now")
    assert (row["players_today"], row["players_15_minutes"]) == (2, 2)


def test_a_player_stands_where_the_game_says(live: World, cast: list[Player]) -> None:
    """Karma, rank and XP of each player are the simulator's own, whatever is rolled up by now."""
    values = {row["name"]: row["value"] for row in ask(live, "players")}
    assert set(values) == {"the busiest today", *(player.name for player in cast)}
    for player in cast:
        (row,) = ask(live, "player_now", player=values[player.name])
        assert (row["player"], row["karma"], row["xp"]) == (player.name, player.karma, player.xp)
        assert row["last_event_at"] == bare(datetime_of(player.last_ms))
    assert ask(live, "player_now") == ask(live, "player_now", player=values[COLE])


def test_a_player_of_the_past_stands_where_it_was_left(world: World) -> None:
    """Without an event of today, karma and XP are those of the rollups; of nobody there is nothing."""
    old_ms = now_ms() - 3 * 86_400_000
    store(
        world,
        [
            payload(old_ms, 1, xp_delta=40, karma_total=80, rank="Hero"),
            payload(old_ms + 1, 2, xp_delta=-15, karma_total=75, rank="Hero", action="ability_upgrade"),
        ],
    )  # fmt: skip
    roll_up(world)
    change(world, "truncate game_events")
    (row,) = ask(world, "player_now")
    assert (row["player"], row["rank"], row["karma"], row["xp"]) == ("Zeke", "Hero", 75, 25)
    assert (row["last_event_at"], row["last_day"]) == (None, datetime_of(old_ms).date())
    (nobody,) = ask(world, "player_now", player=digest("Nobody"))
    assert set(nobody.values()) == {None}


def test_a_player_s_last_hour_is_what_it_did(live: World, played: list[Event]) -> None:
    """By minute: how much, where karma stood after the last of it, what was earned and spent."""
    answer = asked(live, "player_hour", player=digest(COLE))
    end = minute_of(answer.now)
    by_minute: defaultdict[datetime, list[Event]] = defaultdict(list)
    for event in between(played, end - HOUR, end):
        if event.player == COLE:
            by_minute[bare(minute_of(datetime_of(event.ts_ms)))].append(event)
    assert [row["minute"] for row in answer.rows] == [
        bare(end - n * MINUTE) for n in range(60, 0, -1)
    ]
    for row in answer.rows:
        events = by_minute[row["minute"]]
        assert row["events"] == len(events)
        assert row["karma"] == (events[-1].karma_total if events else None)
        assert row["xp_earned"] == sum(max(event.xp_delta, 0) for event in events)
        assert row["xp_spent"] == sum(max(-event.xp_delta, 0) for event in events)
    assert by_minute


def test_in_one_millisecond_the_sender_s_count_decides(world: World) -> None:
    """Of events of the same time, the last is the one with the highest number."""
    same_ms = now_ms() - 5 * 60_000
    numbers = ((1, 2, 20), (2, 3, 30), (3, 1, 25))
    store(
        world,
        [
            payload(same_ms, n, seq=seq, karma_total=total, rank="Guardian", xp_delta=0)
            for n, seq, total in numbers
        ],
    )
    roll_up(world)
    assert ask(world, "player_now")[0]["karma"] == 30
    assert {row["karma"] for row in ask(world, "player_hour")} == {None, 30}


@pytest.mark.parametrize("key", LIVE)
def test_of_raw_events_only_the_last_hours_are_read(live: World, key: str) -> None:
    """However much is stored, no partition is read but those in which the last two hours lie."""
    now = datetime.now(UTC)
    # One of tomorrow is there for clocks that are ahead.
    last_hours = {now - 2 * HOUR - MINUTE, now + 6 * MINUTE}
    read = {table for table in scanned(live, key) if table.startswith("game_events")}
    assert read <= {f"game_events_{moment:%Y%m%d}" for moment in last_hours}
    assert bool(read) == (key in {"live_events", "live_now", "player_now", "player_hour"})


@pytest.mark.parametrize("key", [key for key in QUERIES if key not in LIVE])
def test_the_pipeline_is_seen_without_events(live: World, key: str) -> None:
    """What consumers noted is read, and the catalog; never the events."""
    assert not {table for table in scanned(live, key) if table.startswith("game_events")}


# --- what consumers did


def test_the_numbers_are_the_consumers_own(world: World) -> None:
    """Good, duplicate and bad entries through two consumers: each dashboard tells as many of each."""
    events = good(500)
    world.source.append([*events, *BAD, *events[:50], *BAD[:3]])
    limits = Limits(90, 10**6, 60.0, read=30)
    with looking_often(), working(world, "a", limits), working(world, "b", limits):
        until(lambda: is_drained(world), "the stream to drain")
        until(lambda: (ask(world, "live_delay")[0]["consumers"]) == 2, "both to write a row")
        until(lambda: ask(world, "live_delay")[0]["waiting_entries"] == 0, "a look at the end")
        (delay,) = ask(world, "live_delay")
        assert delay["delay_seconds"] < 30
        assert delay["oldest_waiting_seconds"] is None
        assert delay["complete_to"] == delay["seen_at"]
        assert delay["flooded_consumers"] == 0
    bad = len(BAD) + 3
    (totals,) = ask(world, "pipeline_totals")
    assert (totals["stored"], totals["duplicates"], totals["quarantined"]) == (500, 50, bad)
    assert totals["duplicates_pct"] == pytest.approx(100 * 50 / (550 + bad), abs=0.0005)
    assert totals["quarantined_pct"] == pytest.approx(100 * bad / (550 + bad), abs=0.0005)
    (rate,) = ask(world, "live_quarantine")
    assert (rate["events"], rate["quarantined"]) == (550 + bad, bad)
    assert rate["quarantined_pct"] == totals["quarantined_pct"]
    reasons = ask(world, "quarantine_reasons")
    assert sum(row["refused"] for row in reasons) == bad
    assert sum(row["waiting"] for row in reasons) == world.count("quarantined_events")
    history = ask(world, "pipeline_history")
    assert sum(row["stored"] for row in history) == world.count("game_events") == 500


def test_a_pipeline_that_stands_still_falls_behind(world: World) -> None:
    """The delay grows when nobody looks at the stream any more, and is unknown before anybody did."""
    assert ask(world, "live_delay")[0] == dict.fromkeys(
        ("complete_to", "delay_seconds", "waiting_entries", "oldest_waiting_seconds", "seen_at")
    ) | {"consumers": 0, "flooded_consumers": 0}
    now = datetime.now(UTC)
    for back, process in ((40, "a"), (40, "b"), (30, "a")):
        seen = now - back * MINUTE + (5 if process == "b" else 0) * timedelta(seconds=1)
        worked(
            world, minute_of(seen), process, seen_at=seen, complete_to=seen - MINUTE, undelivered=3,
            pending=4, oldest_waiting_at=seen - MINUTE, updated_at=seen,
        )  # fmt: skip
    answer = asked(world, "live_delay")
    (row,) = answer.rows
    seen = now - 30 * MINUTE
    assert row["delay_seconds"] == pytest.approx((answer.now - seen + MINUTE).total_seconds())
    assert row["oldest_waiting_seconds"] == pytest.approx(row["delay_seconds"])
    assert (row["waiting_entries"], row["consumers"], row["seen_at"]) == (7, 0, bare(seen))


def test_throughput_names_who_stores_the_most(world: World) -> None:
    """Seven consumers have their names, the rest are others; each has a row for each minute."""
    end = minute_of(datetime.now(UTC))
    for number in range(9):
        worked(world, end - 30 * MINUTE, f"c{number}", stored=100 - number)
        worked(world, end - 31 * MINUTE, f"c{number}", stored=100 - number)
    worked(world, end - 40 * MINUTE, "c8", stored=1)
    worked(world, end - 181 * MINUTE, "c8", stored=1000)
    worked(world, end - 190 * MINUTE, "before", stored=1000)
    rows = ask(world, "throughput")
    names = [f"c{number}" for number in range(7)]
    assert {row["consumer"] for row in rows} == {*names, "(others)"}
    assert len(rows) == 180 * 8
    found = {(row["minute"], row["consumer"]): row["stored"] for row in rows if row["stored"]}
    expected = {
        (bare(end - back * MINUTE), name): 100 - number
        for back in (30, 31)
        for number, name in enumerate(names)
    }
    expected |= {(bare(end - back * MINUTE), "(others)"): 93 + 92 for back in (30, 31)}
    assert found == expected | {(bare(end - 40 * MINUTE), "(others)"): 1}


def test_the_slowest_consumer_counts(world: World) -> None:
    """Ages and backlog of a minute are those of the consumer that has the worst; of no minute, none."""
    minute = minute_of(datetime.now(UTC)) - 5 * MINUTE
    worked(
        world, minute, "a", age_p50_s=0.5, age_p95_s=9.0, age_p99_s=9.5, undelivered=1, pending=2
    )
    worked(
        world, minute, "b", age_p50_s=0.7, age_p95_s=1.0, age_p99_s=1.5, undelivered=4, pending=5
    )
    worked(world, minute - MINUTE, "b")
    rows = {row.pop("minute"): row for row in ask(world, "stream_minutes")}
    assert len(rows) == 180
    assert rows.pop(bare(minute)) == {
        "age_p50_s": 0.7, "age_p95_s": 9.0, "age_p99_s": 9.5, "waiting_entries": 9,
    }  # fmt: skip
    assert {value for row in rows.values() for value in row.values()} == {None}


@pytest.mark.parametrize(("days", "step"), [("7", HOUR), ("14", HOUR), ("30", DAY), ("90", DAY)])
def test_history_is_complete_and_sums_up(world: World, days: str, step: timedelta) -> None:
    """A row for each hour or day of the window, and what is in them sums up to the totals."""
    first = midnight() - (int(days) - 1) * DAY
    for minute in (first - MINUTE, first, first + MINUTE, first + HOUR, midnight()):
        for process, stored in (("a", 60), ("b", 40)):
            worked(
                world, minute, process, stored=stored, duplicates=1, quarantined=2, forgotten=3, lost=4,
                age_p95_s=float(stored), waited_redis_s=1.5, waited_postgres_s=2.0,
            )  # fmt: skip
    answer = asked(world, "pipeline_history", days=days)
    begins = [row["begins_at"] for row in answer.rows]
    assert begins == [bare(first + n * step) for n in range(len(begins))]
    assert bare(answer.now) - step < begins[-1] <= bare(answer.now)
    (totals,) = ask(world, "pipeline_totals", days=days)
    for name, each in (
        ("stored", 100),
        ("duplicates", 2),
        ("quarantined", 4),
        ("forgotten", 6),
        ("lost", 8),
    ):
        assert sum(row[name] for row in answer.rows) == totals[name] == 4 * each
    row = answer.rows[0]
    counted = 2 if step == HOUR else 3
    assert (row["stored"], row["stored_busiest_minute"], row["age_p95_s"]) == (
        100 * counted,
        100,
        60,
    )
    assert row["stored_per_minute"] == pytest.approx(100 * counted * MINUTE / step)
    assert row["waited_s"] == pytest.approx(7 * counted)


def test_reasons_are_told_wherever_they_are_known(world: World) -> None:
    """A reason counts also where only the consumers know of it, or only the quarantine does."""
    now = datetime.now(UTC)
    worked(
        world, minute_of(now), quarantined=5, quarantined_by_reason={"not_json": 3, "bad_rank": 2}
    )
    worked(world, minute_of(now), "b", quarantined=1, quarantined_by_reason={"not_json": 1})
    worked(world, minute_of(now) - 8 * DAY, quarantined=9, quarantined_by_reason={"not_json": 9})
    for number, (reason, released) in enumerate(
        [("not_json", None), ("not_json", now), ("bad_id", None)]
    ):
        change(
            world,
            "insert into quarantined_events (sha256, raw, size_bytes, reason, detail, entry_id, last_seen_at,"
            " released_at) values (:key, '', 0, :reason, 'x', '1-0', :seen, :released)",
            key=bytes([number]), reason=reason, seen=now - number * MINUTE, released=released,
        )  # fmt: skip
    assert [tuple(row.values()) for row in ask(world, "quarantine_reasons")] == [
        ("not_json", 4, 1, 1, bare(now)),
        ("bad_rank", 2, 0, 0, None),
        ("bad_id", 0, 1, 0, bare(now - 2 * MINUTE)),
    ]


# --- what is kept


def test_partitions_are_counted_by_day(world: World) -> None:
    """Each day of the window and ahead has a row, a day in parts one; a day without partitions is a gap."""
    today = midnight()
    far = today + 10 * DAY
    for begin, hours in ((far, 6), (far + 6 * HOUR, 18)):
        change(
            world,
            f"create table game_events_{begin:%Y%m%d}_{begin:%H} partition of game_events"
            f" for values from ('{begin}') to ('{begin + hours * HOUR}')",
        )
    store(world, [payload(now_ms(), number) for number in range(50)])
    with world.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(
            "analyze game_events"
        )
    rows = {row.pop("day"): row for row in ask(world, "partition_days")}
    assert list(rows) == [today.date() + n * DAY for n in range(10, -7, -1)]
    counts = {day: row["partitions"] for day, row in rows.items() if row["partitions"]}
    with world.engine.connect() as connection:
        days = {row.day: row.partitions for row in connection.execute(text(partitions.DAYS))}
    assert counts == {day: count for day, count in days.items() if day > today.date() - 7 * DAY}
    assert counts[far.date()] == 2
    assert sum(row["estimated_rows"] for row in rows.values()) == 50
    assert rows[today.date()]["size_mb"] > rows[far.date() - DAY]["size_mb"] == 0
    (storage,) = ask(world, "storage")
    assert storage["days_ahead"] == partitions.ahead(days, today.date()) == partitions.DAYS_AHEAD
    assert (storage["partitions"], storage["estimated_rows"]) == (sum(days.values()), 50)
    assert storage["first_day"] == min(days)
    assert storage["database_mb"] > storage["raw_mb"] > 0
    change(world, f"drop table game_events_{today + 3 * DAY:%Y%m%d}")
    assert ask(world, "storage")[0]["days_ahead"] == 2


def test_checks_are_shown_newest_first(world: World) -> None:
    """Those of the window; a counter shows what the last one found."""
    today = midnight()
    for back, wrong in ((8, 5), (2, 4), (1, 0)):
        checked(world, today - back * DAY, wrong)
    rows = ask(world, "rollup_checks")
    assert [(row["checked_at"], row["wrong"]) for row in rows] == [
        (bare(today - DAY), 0),
        (bare(today - 2 * DAY), 4),
    ]
    assert rows[0]["first_hour"] == bare(today - 3 * DAY)


def checked(world: World, at: datetime, wrong: int) -> None:
    """Note a check."""
    change(
        world,
        "insert into rollup_checks values (:at, :first, :last, 24, :wrong)",
        at=at, first=at - 2 * DAY, last=at - DAY, wrong=wrong,
    )  # fmt: skip


# --- alerts


def rings(world: World) -> set[str]:
    """The alerts that would be told of now."""
    told = set()
    for key, query in spec().queries.items():
        for alert in query.alerts:
            assert alert.selector == "first"
            rows = ask(world, key)
            value = rows[0][alert.column] if rows else None
            if value is not None and _OPERATORS[alert.op](value, alert.value):
                told.add(alert.name)
    return told


def test_alerts_tell_of_what_they_are_for(world: World) -> None:
    """A healthy pipeline rings no bell, before its first event neither; each fault rings its own."""
    assert rings(world) == set()
    now = datetime.now(UTC)
    worked(world, minute_of(now), stored=990, quarantined=10, seen_at=now, complete_to=now - MINUTE)
    checked(world, now - HOUR, 0)
    assert rings(world) == set()
    change(world, "update pipeline_health set quarantined = 11")
    assert rings(world) == {"More than 1 % is quarantined"}
    change(
        world,
        "update pipeline_health set quarantined = 0, complete_to = now() - interval '6 minutes'",
    )
    assert rings(world) == {"Data are late"}
    change(world, "update pipeline_health set complete_to = now()")
    checked(world, now, 1)
    assert rings(world) == {"Rollups were wrong"}
    change(world, "truncate rollup_checks")
    change(world, f"drop table game_events_{midnight() + 3 * DAY:%Y%m%d}")
    assert rings(world) == {"Fewer than 3 days of partitions ahead"}


# --- whatever is chosen, and whatever is there


@pytest.mark.parametrize("key", QUERIES)
def test_every_value_gives_an_answer(live: World, key: str) -> None:
    """Whatever is chosen of a list, the query runs and keeps its promise."""
    ask(live, key)
    for values in each_value(live, key):
        ask(live, key, **values)


@pytest.mark.parametrize("key", QUERIES)
def test_nothing_is_no_error(world: World, key: str) -> None:
    """Before the first event a dashboard is empty, not broken; what is counted is 0."""
    counts = ("events", "stored", "players_today", "quarantined", "lost", "estimated_rows")
    rows: list[Row] = ask(world, key)
    assert {row[name] for row in rows for name in counts if name in row} <= {0}


def test_what_senders_write_is_no_sql(world: World) -> None:
    """A player of any name, with details of any kind, can be looked at; nothing of it is run."""
    now = now_ms()
    details: list[Any] = [None, {"mission": [1, {"a": "'"}]}, {"mission": "%s {{ player }}" * 20}]
    store(
        world, [payload(now - 9 + n, n, player=HOSTILE, details=d) for n, d in enumerate(details)]
    )
    roll_up(world)
    for key in QUERIES:
        for values in each_value(world, key):
            ask(world, key, **values)
    (row,) = ask(world, "player_now", player=digest(HOSTILE))
    assert (row["player"], len(row["mission"])) == (HOSTILE, 64)
    assert world.count("game_events") == len(details)
