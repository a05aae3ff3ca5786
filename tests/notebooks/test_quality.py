"""The quality of the data: damage that is done is found, and what is healthy is called so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from sqlalchemy import Engine, text

from analytics import quality
from analytics.data import reader
from analytics.frames import typed
from analytics.period import Period, ending
from analytics.plots import quality as plots
from analytics.plots import style
from analytics.quality import OUTCOMES, Audit, Checks, Delays, Fresh, Verdict, Window
from infamous import audit as whole_table
from pipeline.event import Event, datetime_of, encode
from pipeline.rules import RULES
from producer.simulate import COLE, DAY_MS, HOUR_MS
from tests.conftest import World
from tests.integration import dashboards
from tests.integration.consuming import is_drained, now_ms, until, working
from tests.integration.test_audit import DAMAGE, one
from tests.notebooks import planted
from tests.unit.samples import chains

_NOON_MS = (now_ms() // DAY_MS - 2) * DAY_MS + DAY_MS // 2
_NOON = datetime_of(_NOON_MS)
_DAYS = Period(_NOON.date(), _NOON.date())
_AT_NOON = Window(_NOON - timedelta(hours=1), _NOON + timedelta(hours=2), 300)


def title(axes: Axes) -> str:
    """What a plot says."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    return style.title_of(figure)


def run(world: World, statement: str, **values: Any) -> None:
    """Change something in the database."""
    with world.engine.begin() as connection:
        connection.execute(text(statement), values)


@pytest.fixture
def bi(world: World) -> Iterator[Engine]:
    """An empty world as notebooks reach it."""
    engine = reader(world.database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def events(world: World) -> list[Event]:
    """Stored events of three healthy players, a hundred each, in a day that is over."""
    made = chains(300, start_ms=_NOON_MS)
    dashboards.store(world, made)
    dashboards.roll_up(world)
    return made


# --- which events are looked at


def test_the_newest_events_are_looked_at_as_far_as_they_are_few_enough(engine: Engine) -> None:
    """Whole hours, as many as hold no more events than asked for, up to the end of the period."""
    for most in (1, 1000, 20_000, 10**9):
        found = quality.window(engine, planted.ALL, most)
        since_ms = int(found.since.timestamp() * 1000)
        counted = sum(event.ts_ms >= since_ms for event in planted.events())
        assert found.until == planted.ALL.until
        assert found.events == counted
        before = sum(since_ms - HOUR_MS <= event.ts_ms < since_ms for event in planted.events())
        assert counted <= most or since_ms % HOUR_MS == 0
        assert found.since == planted.ALL.since or counted + before >= min(most, counted + before)
    assert quality.window(engine, planted.ALL, 10**9).since == planted.ALL.since


def _hours(*events: int) -> pd.DataFrame:
    rows = [(_DAYS.until - timedelta(hours=place + 1), each) for place, each in enumerate(events)]
    return typed(rows, [("hour", 1184), ("events", 20)])


@pytest.mark.parametrize(
    ("events", "most", "hours"),
    [((5, 5, 5), 10, 2), ((5, 5, 5), 9, 1), ((50, 5), 10, 1), ((), 10, 24)],
)
def test_an_hour_at_least_is_looked_at(events: tuple[int, ...], most: int, hours: int) -> None:
    """However many events it holds; and a day where nobody knows how many there are."""
    found = quality.newest(_hours(*events), _DAYS, most)
    assert found.until - found.since == timedelta(hours=hours)
    assert found.events == sum(events[:hours])


def test_a_few_events_are_looked_at_from_the_beginning_of_the_period() -> None:
    """Hours before the first event are empty, and known to be."""
    assert quality.newest(_hours(5, 5), _DAYS, 10).since == _DAYS.since


# --- whether they are whole


@pytest.mark.parametrize("most", [500, 5000, 40_000, 10**9])
def test_a_healthy_past_breaks_no_rule_wherever_it_is_cut(engine: Engine, most: int) -> None:
    """A chain that begins before the window is whole, and XP is counted from a player's first event on."""
    window = quality.window(engine, planted.ALL, most)
    found = quality.audit(engine, window)
    assert found.rows == window.events > 0
    assert found.unsequenced == 0
    assert found.broken.empty
    assert found.finding == f"Every rule holds in {window.events:,} events"
    assert found.table["broken rows"].tolist() == [0] * len(RULES)


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_damage_is_found_as_the_audit_finds_it(
    world: World, bi: Engine, events: list[Event], damage: str
) -> None:
    """The same rules, first rows and counts as of the whole table, but for a beginning that is missing."""
    statement, rules, _ = DAMAGE[damage]
    run(world, "alter table game_events drop constraint game_events_rank_check")
    assert quality.audit(bi, _AT_NOON).broken.empty
    known = {"id": one(events, 50).id, "first": one(events, 1).id}
    run(world, statement, **{key: value for key, value in known.items() if f":{key}" in statement})
    expected = {
        broken.rule: (broken.rows, broken.samples[0]["player"], broken.samples[0]["seq"])
        for broken in whole_table.audit(world.engine).broken
    }
    assert rules <= set(expected)
    if damage == "the first row is missing":
        del expected["seq"]
    found = quality.audit(bi, _AT_NOON)
    first = found.broken.drop_duplicates("rule").set_index("rule")
    assert {
        rule: (row["broken_rows"], row["player"], row["seq"]) for rule, row in first.iterrows()
    } == expected
    assert (found.table["broken rows"] > 0).sum() == len(expected)
    if expected:
        assert COLE in set(found.samples["player"])
        assert f"break the rule of {next(iter(first.index))}" in found.finding


def test_what_may_lie_beyond_an_edge_is_not_missing(
    world: World, bi: Engine, events: list[Event]
) -> None:
    """Clocks run back at times: five minutes from either end of the window, a gap may be none."""
    run(world, "delete from game_events where id = :id", id=one(events, 50).id)
    at = datetime_of(one(events, 51).ts_ms)
    for since_min, until_min, is_found in ((-6, 6, True), (-4, 6, False), (-6, 4, False)):
        window = Window(at + timedelta(minutes=since_min), at + timedelta(minutes=until_min), 0)
        assert ("seq" in set(quality.audit(bi, window).broken["rule"])) is is_found


def test_rows_that_nobody_counts_are_told(world: World, bi: Engine, events: list[Event]) -> None:
    """Their order is not known: nothing is said of their chain, and that is said."""
    run(world, "update game_events set seq = null where player = :player", player=COLE)
    run(world, "update game_events set karma_delta = karma_delta + 1 where player = :p", p=COLE)
    found = quality.audit(bi, _AT_NOON)
    assert found.broken.empty
    assert found.unsequenced == sum(event.player == COLE for event in events)
    assert f"{found.unsequenced} of them" in found.finding


# --- how late they are


def test_delays_are_those_of_events_that_were_sent_when_they_happened(
    world: World, bi: Engine, events: list[Event]
) -> None:
    """What was imported or replayed is no delay, however old; what waited for the pipeline is."""
    quick, waited, imported = events[:100], events[100:150], events[150:]
    rng = np.random.default_rng(1)
    delays = {event.id: float(rng.uniform(0.001, 2)) for event in quick}
    delays |= {event.id: 7200.0 + float(rng.uniform(0, 60)) for event in waited}
    for event in events:
        delay = delays.get(event.id, 86_400.0 + 7200 * (event.ts_ms % 2))
        run(
            world,
            "update game_events set ingested_at = ts + :delay where id = :id",
            id=event.id, delay=timedelta(seconds=delay),
        )  # fmt: skip
    # The outage: in the minutes in which these were stored, the slowest had waited for two hours.
    run(
        world,
        """
        insert into pipeline_health (minute, process, age_p99_s)
        select minute, 'worker', 7100
        from generate_series(cast(:since as timestamptz), cast(:until as timestamptz), '1 minute') as minute
        """,
        since=_NOON + timedelta(hours=2), until=_NOON + timedelta(hours=2, minutes=5),
    )  # fmt: skip
    found = quality.delays(bi, _AT_NOON)
    live = np.array([delays[event.id] for event in (*quick, *waited)])
    assert (found.events, found.sent_late) == (len(live), len(imported))
    expected = np.percentile(live, [50, 95, 99])
    assert [found.p50_s, found.p95_s, found.p99_s] == pytest.approx(list(expected), abs=1e-3)
    assert found.hours["events"].tolist() == [len(live)]
    assert found.hours["p99_s"].tolist() == pytest.approx([expected[2]], abs=1e-3)
    said = title(plots.delays(found))
    assert said == found.finding
    assert said.endswith("within 2 h")
    assert "150 events sent over 5 min late" in plots.delays(found).get_title(loc="left")


def test_an_imported_past_has_no_delays(engine: Engine) -> None:
    """The planted past was stored at once, weeks after it happened: nobody's delay."""
    found = quality.delays(engine, quality.window(engine, planted.ALL, 20_000))
    assert found.events == 0
    assert found.sent_late > 0
    assert (found.p50_s, found.p99_s) == (None, None)
    assert title(plots.delays(found)) == "No event came while it was new"


# --- what became of what came


def test_a_consumer_s_account_is_told(world: World, bi: Engine) -> None:
    """Rows, duplicates and refusals are those that were sent; and the verdict is that too much is refused."""
    made = [encode(event) for event in chains(50, start_ms=now_ms() - 1000)]
    world.source.append([*made, *made[:10], b"bad", b"worse"])
    with working(world):
        until(lambda: is_drained(world), "the stream to drain")
    today = ending(datetime.now(UTC).date(), 2)
    found = quality.outcomes(bi, today)
    assert {name: int(found[name].sum()) for name in OUTCOMES} == {
        "stored": 50, "duplicates": 10, "quarantined": 2, "forgotten": 0, "lost": 0,
    }  # fmt: skip
    refused = quality.refused(bi, today)
    assert refused[["reason", "refused", "waiting", "released"]].values.tolist() == [
        ["not_json", 2, 2, 0]
    ]
    assert title(plots.outcomes(found)) == "80.6% of 62 entries became rows; none was lost"
    assert title(plots.reasons(refused)) == "not_json is why all of 2 entries were refused"
    assert "through the pipeline within" in title(plots.ages(found))
    assert quality.fresh(bi).consumers == 1
    verdicts = _verdicts(outcomes=found, refused=refused)
    assert verdicts["losses"].is_well
    assert verdicts["duplicates"].found == "10 of 62 entries were there already"
    assert verdicts["refusals"].is_well is False
    assert "3.2% of 62 entries, mostly as not_json; 2 waiting" in verdicts["refusals"].found


def test_the_account_is_summed_up_by_the_hour_and_over_weeks_by_the_day(
    world: World, bi: Engine
) -> None:
    """Every minute of every consumer counts once, ages are those of the worst, and an empty step is one."""
    days, weeks = ending(_NOON.date(), 3), ending(_NOON.date(), 20)
    run(
        world,
        """
        insert into pipeline_health (minute, process, stored, duplicates, lost, age_p95_s)
        select minute, process, 10, 1, 0, extract(minute from minute)
        from generate_series(cast(:since as timestamptz), cast(:until as timestamptz), '7 minutes') as minute
        cross join unnest(array['a', 'b']) as process
        where extract(hour from minute at time zone 'UTC') <> 5
        """,
        since=weeks.since, until=weeks.until,
    )  # fmt: skip
    by_hour = quality.outcomes(bi, days)
    by_day = quality.outcomes(bi, weeks)
    for found, period, step in ((by_hour, days, "h"), (by_day, weeks, "D")):
        minutes = pd.date_range(weeks.since, period.until, freq="7min", inclusive="left")
        counted = [m for m in minutes if m.hour != 5 and m >= pd.Timestamp(period.since)]
        steps = pd.date_range(period.since, period.until, freq=step, inclusive="left")
        assert found["begins_at"].tolist() == list(steps)
        assert found["stored"].sum() == 20 * len(counted)
        assert found["duplicates"].sum() == 2 * len(counted)
        assert found["age_p95_s"].max() == max(minute.minute for minute in counted)
    silent = by_hour[by_hour["begins_at"].dt.hour == 5]
    assert silent["stored"].tolist() == [0] * 3
    assert silent["age_p95_s"].isna().all()


# --- days, sums


def test_days_without_events_are_found(world: World, bi: Engine) -> None:
    """Runs of them, with their first and last day; before the first event nothing was to be expected."""
    noons = [_NOON_MS - days * DAY_MS for days in (0, 1, 5, 9)]
    for seed, noon_ms in enumerate(noons):
        dashboards.store(world, chains(3, seed=seed, start_ms=noon_ms))
    dashboards.roll_up(world)
    found = quality.days(bi, ending(_NOON.date(), 30))
    days = [(_NOON - timedelta(days=ago)).date() for ago in range(10)][::-1]
    assert [day.date() for day in found["day"]] == days
    assert found["events"].tolist() == [3, 0, 0, 0, 3, 0, 0, 0, 3, 3]
    assert found["has_raw"].tolist()[0]
    gaps = quality.gaps(found)
    assert gaps.values.tolist() == [
        [pd.Timestamp(days[1]), pd.Timestamp(days[3]), 3],
        [pd.Timestamp(days[5]), pd.Timestamp(days[7]), 3],
    ]
    verdict = _verdicts(days=found)["days"]
    assert verdict.is_well is False
    assert verdict.found.startswith("6 of 10 days without any, at most 3 in a row, from ")


def test_days_whose_raw_events_are_gone_are_told(world: World, bi: Engine) -> None:
    """Their rollups stay, and so do their events in the count."""
    dashboards.store(world, chains(3, start_ms=_NOON_MS))
    dashboards.roll_up(world)
    run(world, f"drop table game_events_{_NOON:%Y%m%d}")
    found = quality.days(bi, _DAYS)
    assert found[["events", "has_raw"]].values.tolist() == [[3, False]]
    assert _verdicts(days=found)["days"].found == "All of 1 day; raw events are kept of 0"


def test_wrong_rollups_are_told(world: World, bi: Engine) -> None:
    """Those found since the period began, whenever it ended: a check is made the night after."""
    insert = "insert into rollup_checks values (:at, :at, :at, 24, :wrong)"
    for days, wrong in ((5, 7), (1, 2), (0, 0)):
        run(world, insert, at=datetime.now(UTC) - timedelta(days=days), wrong=wrong)
    found = quality.rollup_checks(bi, _DAYS)
    assert found == Checks(checks=2, hours=48, wrong=2)
    verdict = _verdicts(checks=found)["sums"]
    assert (verdict.is_well, verdict.found) == (
        False,
        "2 of 48 hours in 2 checks were wrong, and summed up anew",
    )


# --- what it comes to

_NO_ROWS = typed([], [("rule", 25), ("broken_rows", 20), ("player", 25), ("seq", 20), ("ts", 1184)])
_NO_OUTCOMES = typed(
    [], [("begins_at", 1184), *((name, 20) for name in OUTCOMES), ("age_p95_s", 701)]
)
_NO_REFUSALS = typed([], [("reason", 25), ("refused", 20), ("waiting", 20), ("released", 20)])
_NO_DAYS = typed([], [("day", 1082), ("events", 20), ("has_raw", 16)])
_NO_HOURS = typed(
    [],
    [("hour", 1184), ("events", 20), ("sent_late", 20), *((f"p{n}_s", 701) for n in (50, 95, 99))],
)
_NOTHING: dict[str, Any] = {
    "audit": Audit(_AT_NOON, 0, 0, _NO_ROWS),
    "delays": Delays(_AT_NOON, _NO_HOURS, 0, 0, None, None, None),
    "outcomes": _NO_OUTCOMES,
    "refused": _NO_REFUSALS,
    "days": _NO_DAYS,
    "checks": Checks(0, 0, 0),
    "fresh": Fresh(None, 0),
}


def _verdicts(**known: Any) -> dict[str, Verdict]:
    return {one.about: one for one in quality.verdicts(**(_NOTHING | known))}


def test_where_there_is_nothing_no_check_is_well_or_ill() -> None:
    """An empty database is neither trusted nor blamed."""
    verdicts = list(_verdicts().values())
    assert len(verdicts) == 8
    assert {one.is_well for one in verdicts} == {None}
    assert quality.verdict_finding(verdicts) == "There is nothing to check yet"
    assert title(plots.scorecard(verdicts)) == "There is nothing to check yet"


@pytest.mark.parametrize(
    ("known", "about", "is_well"),
    [
        ({"delays": Delays(_AT_NOON, _NO_HOURS, 9, 0, 0.1, 1.0, 300.0)}, "delays", True),
        ({"delays": Delays(_AT_NOON, _NO_HOURS, 9, 0, 0.1, 1.0, 301.0)}, "delays", False),
        ({"fresh": Fresh(299.0, 1)}, "freshness", True),
        ({"fresh": Fresh(301.0, 0)}, "freshness", False),
        ({"checks": Checks(1, 24, 0)}, "sums", True),
        ({"audit": Audit(_AT_NOON, 5, 0, _NO_ROWS)}, "chains", True),
    ],
)
def test_a_check_is_ill_where_dashboards_raise_the_alarm(
    known: dict[str, Any], about: str, is_well: bool
) -> None:
    """Five minutes, one in a hundred, and nothing wrong at all."""
    assert _verdicts(**known)[about].is_well is is_well


def _outcome(**counts: int) -> pd.DataFrame:
    row = (_NOON, *(counts.get(name, 0) for name in OUTCOMES), 0.1)
    columns = [("begins_at", 1184), *((name, 20) for name in OUTCOMES), ("age_p95_s", 701)]
    return typed([row], columns)


def test_a_lost_entry_is_never_well() -> None:
    """One of a million is one that nobody will see again."""
    verdicts = _verdicts(outcomes=_outcome(stored=999_999, lost=1))
    assert verdicts["losses"].is_well is False
    assert verdicts["losses"].found == "1 of 1,000,000 entries left the stream unread"
    told = title(plots.outcomes(_outcome(stored=999_999, lost=1)))
    assert told == "Over 99.9% of 1,000,000 entries became rows; 1 was lost"


def test_refusals_are_well_up_to_one_in_a_hundred() -> None:
    """As the dashboard Live has it."""
    assert _verdicts(outcomes=_outcome(stored=99, quarantined=1))["refusals"].is_well
    assert not _verdicts(outcomes=_outcome(stored=98, quarantined=2))["refusals"].is_well


def test_the_finding_names_what_to_look_at() -> None:
    """And says how much could not be looked at."""
    some = _verdicts(
        outcomes=_outcome(stored=1, lost=1), fresh=Fresh(1.0, 2), checks=Checks(1, 1, 1)
    )
    told = quality.verdict_finding(list(some.values()))
    assert told == "3 of 8 checks are well; look at losses and sums; 3 had nothing to look at"
    well = [Verdict("sums", "Sums are right", True, "None wrong")] * 3
    assert quality.verdict_finding(well) == "All 3 checks are well"


def test_nothing_is_drawn_as_nothing() -> None:
    """Empty frames are neither an error nor a warning."""
    assert title(plots.delays(_NOTHING["delays"])) == "No event came"
    assert title(plots.outcomes(_NO_OUTCOMES)) == "Nothing came"
    assert title(plots.ages(_NO_OUTCOMES)) == "No consumer stored anything"
    assert title(plots.reasons(_NO_REFUSALS)) == "Nothing was refused"
    assert title(plots.outcomes(_outcome(stored=7))) == "All 7 entries became rows"
    assert _NOTHING["audit"].samples.empty
