"""How large everything must be: the sums, what they grow with, and that the text shows what it adds."""

from __future__ import annotations

import re
import runpy
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from infamous import plan as plans
from infamous import plan_report, report
from infamous.constants import MEASURED, Constants
from infamous.plan import BadPlan, Wish, plan
from jobs import schedule, tasks
from pipeline.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
RATES = st.floats(0.01, 500_000)
DAYS = st.integers(1, 1000)
HOURS = st.floats(0.1, 300)
WISHES = st.builds(Wish, RATES, DAYS, HOURS)
# As the text writes sizes.
UNITS = {"kB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40, "PB": 2**50, "µs": 1e-6}


def sizes(wish: Wish) -> dict[str, float]:
    """What must be proportional to the events, and is no least size."""
    made = plan(wish)
    return {
        "events": made.events,
        "held": made.redis.held_bytes,
        "rows": made.postgres.heap_bytes,
        "index": made.postgres.index_bytes,
        "players": made.postgres.players,
        "rollups": made.postgres.player_day_bytes + made.postgres.rollup_event_bytes,
        "archive": made.archive.total_bytes,
        "rolling up": made.workers.rollup_s,
        "archiving": made.workers.archive_s,
    }


@given(WISHES)
def test_twice_the_rate_takes_twice_as_much(wish: Wish) -> None:
    """Who doubles the rate finds no part that was forgotten in the sum."""
    once, twice = sizes(wish), sizes(replace(wish, events_per_s=2 * wish.events_per_s))
    assert twice == pytest.approx({name: 2 * size for name, size in once.items()})


@given(WISHES)
def test_more_days_change_what_stays_and_nothing_that_passes(wish: Wish) -> None:
    """Days are paid for in Postgres and in the archive, never in Redis or in processes."""
    less, more = plan(wish), plan(replace(wish, days=2 * wish.days))
    assert (less.redis, less.consumers, less.workers) == (more.redis, more.consumers, more.workers)
    assert more.archive.total_bytes == pytest.approx(2 * less.archive.total_bytes)
    stays = [made.postgres.used_bytes - made.postgres.wal_bytes for made in (less, more)]
    assert stays[1] == pytest.approx(2 * stays[0])
    assert more.postgres.partitions == 2 * less.postgres.partitions


@given(WISHES)
def test_a_longer_outage_is_paid_for_in_redis_alone(wish: Wish) -> None:
    """The hours that the stream holds are memory, and longer catching up, and nothing else."""
    less, more = plan(wish), plan(replace(wish, redis_hours=2 * wish.redis_hours))
    assert more.redis.held_bytes == pytest.approx(2 * less.redis.held_bytes)
    assert (less.postgres, less.archive, less.workers) == (
        more.postgres,
        more.archive,
        more.workers,
    )


@given(WISHES)
def test_nothing_is_planned_to_its_brim(wish: Wish) -> None:
    """Redis turns red before the outage ends, not full; disks and consumers have room; nobody is alone."""
    made = plan(wish)
    assert made.redis.held_bytes <= plans.ALARM_SHARE * made.redis.maxmemory_bytes * 1.000001
    assert made.redis.memory_bytes == 2 * made.redis.maxmemory_bytes
    assert made.postgres.used_bytes <= plans.FULL_SHARE * made.postgres.disk_bytes * 1.000001
    assert made.postgres.wal_bytes >= plans.LEAST_WAL_BYTES
    assert made.redis.maxmemory_bytes >= plans.LEAST_REDIS_BYTES
    assert made.consumers.count >= plans.FEWEST
    assert made.consumers.count * MEASURED.consumer_events_per_s >= 2 * wish.events_per_s * 0.999999
    assert 2 <= made.workers.count <= 3


@given(WISHES)
def test_a_rate_above_a_limit_is_warned_of_and_no_other(wish: Wish) -> None:
    """Each part that gives way is named, with what to do; a rate below all of them is left alone."""
    made = plan(wish)
    told = {warning.partition(":")[0] for warning in made.warnings}
    assert {limit.part for limit in made.limits if limit.part in told} == {
        limit.part for limit in made.limits if limit.events_per_s < wish.events_per_s
    }
    rates = [limit.events_per_s for limit in made.limits]
    assert rates == sorted(rates)
    assert all(warning.endswith(".") for warning in made.warnings)


def worked_out(text: str) -> float:
    """What a sum of the text comes to."""
    text = re.sub(r"(?<=\d),(?=\d)", "", text).replace("×", "*")
    for unit, factor in UNITS.items():
        text = re.sub(rf"([\d.]+) {unit}\b", rf"(\1 * {factor!r})", text)
    text = re.sub(r"\b(?!e[-+]?\d)(bytes|events|days|a day|h|s)\b", "", text)
    assert re.fullmatch(r"[\d.e()+*/ -]+", text), text
    return float(eval(text))  # noqa: S307  # digits and signs alone


@given(WISHES)
def test_every_line_is_what_its_sum_comes_to(wish: Wish) -> None:
    """A reader with a calculator arrives at each number, with the rounded ones that stand there."""
    lines = plan_report.text(plan(wish)).splitlines()
    sums = [line for line in lines if "  = " in line]
    assert len(sums) >= 20
    for line in sums:
        value, how = line.split("  = ")
        value = value[24:].strip().removesuffix("/s").replace(" h", "").replace(" s", "")
        wanted = worked_out(value)
        assert worked_out(how.partition(";")[0]) == pytest.approx(wanted, rel=0.03, abs=0.006), line


@given(WISHES)
def test_the_disk_is_the_sum_of_what_stands_above_it(wish: Wish) -> None:
    """The text adds every table that was counted, and nothing that it does not show."""
    made = plan(wish)
    lines = plan_report.text(made).split("\nPostgres\n")[1].split("\n\n")[0].splitlines()
    shown = {line[2:24].strip(): line[24:].split("  = ")[0].split(";")[0].strip() for line in lines}
    parts = (
        "rows",
        "their index",
        "rollups by player",
        "rollups by event",
        "rollups by hour",
        "max_wal_size",
    )
    added = sum(worked_out(shown[name]) for name in parts)
    assert worked_out(shown["in all"]) == pytest.approx(added, rel=0.02)
    assert made.postgres.used_bytes == pytest.approx(added, rel=0.02)


def test_a_day_is_cut_where_the_database_cuts_it() -> None:
    """The partitions that are counted are those that will be there."""
    migration = runpy.run_path(
        str(ROOT / "alembic" / "versions" / "0009_partitions_by_row_rate.py")
    )
    assert (migration["MANY_ROWS"], migration["MOST_ROWS"]) == (plans.MANY_ROWS, plans.MOST_ROWS)
    assert [plans.parts_a_day(rows) for rows in (4e7, 4.1e7, 2e8, 2.1e8)] == [1, 4, 4, 24]


def test_the_plan_knows_what_the_jobs_do() -> None:
    """It is pure and may not ask them: what it says of trims, turns and red lines must stay true."""
    entries = {entry.task: entry for entry in schedule.SCHEDULE}
    rolls, archives = entries[tasks.roll_up], entries[tasks.archive_stream]
    assert (rolls.every_s, rolls.arguments["hours"]) == (plans.TURN_S, plans.ROLLED_HOURS)
    assert archives.every_s == plans.TURN_S
    assert tasks.MOST_ARCHIVING_S == plans.ARCHIVING_S
    assert tasks.MOST_MEMORY == plans.TRIM_SHARE
    assert schedule.KEEP_S == plans.KEEP_S
    assert report._MOST_MEMORY == plans.ALARM_SHARE
    assert Settings().retention_days == plans.USUAL_DAYS


def test_the_plan_knows_what_compose_sets() -> None:
    """Its settings are names of the file, and what it takes for granted is there."""
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    assert f"max_wal_size={plans.LEAST_WAL_BYTES // 2**30}GB" in text
    service = yaml.safe_load(text)["services"]["redis"]
    given_bytes, limit_bytes = (
        int(re.search(r":-(\d+)m", word)[1])  # type: ignore[index]
        for word in (service["command"][-1], service["mem_limit"])
    )
    assert limit_bytes == plans.COPIES_IN_MEMORY * given_bytes
    assert given_bytes * plans.MB == plans.LEAST_REDIS_BYTES
    for name in plan_report.settings(plan(Wish(500, 365))):
        assert f"${{{name}:-" in text or f"${{{name}}}" in text, name


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ((0, 1), "0 events a second"),
        ((-5, 1), "-5 events a second"),
        ((float("nan"), 1), "nan events a second"),
        ((float("inf"), 1), "inf events a second"),
        ((1e9, 1), r"1e\+09 events a second"),
        ((1, 0), "0 days"),
        ((1, -3), "-3 days"),
        ((1, 10**9), "1,000,000,000 days"),
        ((1, 1, 0), "An outage of 0 hours"),
        ((1, 1, -1), "An outage of -1 hours"),
        ((1, 1, float("nan")), "An outage of nan hours"),
        ((1, 1, 1e6), "An outage of"),
        ((1, 1, 1, 0), "0 players"),
        ((1, 1, 1, 86_401), "86,401 players"),
    ],
)
def test_what_cannot_be_planned_is_told_in_a_sentence(wish: tuple[Any, ...], told: str) -> None:
    """Nothing, less than nothing and more than there is: what was given, and what may be."""
    with pytest.raises(BadPlan, match=rf"^{told} .*cannot .*: give .*\.$"):
        Wish(*wish)


def test_what_is_too_large_for_one_server_is_said() -> None:
    """More memory than a fork is quick for, a disk that no backup is quick for, more locks than there are."""
    made = plan(Wish(100_000, 365, redis_hours=24))
    told = {warning.partition(":")[0] for warning in made.warnings}
    assert {"Redis' memory", "Postgres' disk", "Postgres' partitions"} <= told
    assert not plan(Wish(1, 30)).warnings
    (fits,) = (
        re.search(r"--redis-hours (\S+)", warning)
        for warning in made.warnings
        if "--redis" in warning
    )
    assert fits is not None
    shorter = plan(replace(made.wish, redis_hours=float(fits[1])))
    assert shorter.redis.maxmemory_bytes == pytest.approx(plans.LARGE_REDIS_BYTES, rel=0.05)


def test_players_that_are_named_replace_the_simulators() -> None:
    """Few who play much leave fewer rollups than many who play little."""
    few, many = (plan(Wish(100, 30, players=players)).postgres for players in (1000, 100_000))
    assert (few.players, many.players) == (1000, 100_000)
    assert many.player_day_bytes == pytest.approx(100 * few.player_day_bytes)
    assert few.heap_bytes == many.heap_bytes


def test_json_has_all_numbers_and_the_settings() -> None:
    """A script finds what the text shows, unrounded, and by the names of its fields."""
    made = plan(Wish(500, 365))
    told = plan_report.as_json(made)
    assert told["redis"]["maxmemory_bytes"] == made.redis.maxmemory_bytes
    assert told["constants"] == asdict(MEASURED)
    assert told["wish"]["events_per_s"] == 500
    assert int(told["settings"]["REDIS_MAXMEMORY"].removesuffix("mb")) * plans.MB >= (
        made.redis.maxmemory_bytes
    )


@pytest.mark.parametrize("name", [field.name for field in fields(Constants)])
def test_every_constant_counts(name: str) -> None:
    """What is measured is used: a constant that is twice as large changes the plan."""
    doubled = replace(MEASURED, **{name: 2 * getattr(MEASURED, name)})
    wish = Wish(50_000, 30)
    told = [
        plan_report.as_json(plan(wish, constants)) | {"constants": None}
        for constants in (MEASURED, doubled)
    ]
    assert told[0] != told[1]
