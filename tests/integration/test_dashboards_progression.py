"""The dashboard Progression: how far players come, and what stops them, is what was played."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date
from statistics import fmean, median
from typing import Final

import pytest

from infamous.embedded.servers import Servers
from producer.simulate import DAY_MS, HOUR_MS, PLANTED
from tests.conftest import World
from tests.integration import played
from tests.integration.dashboards import SIDES, ask, roll_up, rolled_up, store
from tests.integration.played import ALL, DAY, GAME, LAST, Run
from tests.unit.samples import payload

WEEK: Final = 7 * DAY
WINDOWS: Final = [
    pytest.param("7", LAST, "everyone", id="the last week"),
    pytest.param("14", LAST - 8 * DAY, "everyone", id="two weeks before"),
    pytest.param("30", LAST - 2 * DAY, "hero", id="heroes"),
    pytest.param("14", LAST, "villain", id="villains"),
]


@pytest.fixture(scope="module")
def past(servers: Servers, template: str) -> Iterator[World]:
    """A world with that history, rolled up. Nobody changes it."""
    yield from rolled_up(servers, template, played.events())


def begun(first: date, last: date, side: str, until: date) -> dict[str, list[Run]]:
    """The runs that players of a side began from one day to another, by mission."""
    return played.grouped(
        (
            run
            for run in played.runs()
            if first <= run.begun_on <= last and played.is_of(side, run.player, until)
        ),
        lambda run: run.mission,
    )


def completed(first: date, last: date, side: str) -> dict[str, list[Run]]:
    """The same of those that were completed in these days, whenever they were begun."""
    return played.grouped(
        (
            run
            for run in played.runs()
            if (day := run.completed_on(last)) is not None
            and day >= first
            and played.is_of(side, run.player, last)
        ),
        lambda run: run.mission,
    )


def first_of(days: str, last: date) -> date:
    """The first day of a window."""
    return last - (int(days) - 1) * DAY


# --- the funnel


def test_the_funnel_is_the_simulators_own(past: World) -> None:
    """Runs begun and completed are the simulator's counts, missions in the order of the game."""
    missions = [row for row in played.realised()["missions"] if row["started"]]
    rows = ask(past, "mission_funnel", days=ALL)
    assert [(row["mission"], row["runs_started"], row["runs_completed"]) for row in rows] == [
        (row["mission"], row["started"], row["completed"]) for row in missions
    ]
    assert rows[0]["players_started"] == played.PLAYERS


def test_half_of_the_runs_completed_are_fifty_percent(world: World) -> None:
    """Completed of begun, and not of begun and completed together: 50 of 100 reads as 50 %."""
    at = played.START_MS
    runs = [payload(at + n, n + 1, player=f"p{n}", details={"mission": "M"}) for n in range(100)]
    wins = [
        payload(at + DAY_MS + n, n + 1, player=f"p{n}", action="mission_complete", details={"mission": "M"})
        for n in range(50)
    ]  # fmt: skip
    store(world, runs + wins)
    roll_up(world)
    (row,) = ask(world, "mission_funnel", days=ALL)
    assert (row["runs_started"], row["runs_completed"], row["completed_pct"]) == (100, 50, 50.0)
    (row,) = ask(world, "newcomer_funnel", days=ALL)
    assert (row["started_pct"], row["completed_pct"]) == (100.0, 50.0)
    # On the day before they were not completed yet.
    yesterday = str(played.FIRST)
    (row,) = ask(world, "mission_funnel", until=yesterday)
    assert (row["runs_started"], row["completed_pct"]) == (100, 0.0)
    # And on the day of the completion alone none was begun.
    assert ask(world, "mission_funnel", days="7", until=str(LAST)) == []


@pytest.mark.parametrize(("days", "last", "side"), WINDOWS)
def test_the_funnel_of_a_window(past: World, days: str, last: date, side: str) -> None:
    """What was begun in the window counts, and is completed if it was by its end; a player once."""
    found = begun(first_of(days, last), last, side, last)
    expected = {}
    for mission, runs in found.items():
        first_runs = [run for run in runs if run.playthrough == 1]
        won = [run for run in runs if run.completed_on(last)]
        expected[mission] = {
            "mission": mission,
            "players_started": len(first_runs),
            "players_completed": sum(run in won for run in first_runs),
            "runs_started": len(runs),
            "runs_completed": len(won),
            "completed_pct": pytest.approx(100 * len(won) / len(runs)),
        }
    rows = ask(past, "mission_funnel", days=days, until=str(last), side=side)
    assert rows == [expected[mission] for mission in GAME if mission in expected]
    assert rows


@pytest.mark.parametrize(
    ("days", "last", "side"),
    [*WINDOWS, pytest.param(ALL, LAST, "everyone", id="all")],
)
def test_newcomers_are_followed_through_the_game(
    past: World, days: str, last: date, side: str
) -> None:
    """Of those who came in the window, and nobody else, how many got to each mission."""
    first = first_of(days, last)
    came = {
        player
        for player, active in played.active_days(last).items()
        if min(active) >= first and played.is_of(side, player, last)
    }
    found = begun(first, last, "everyone", last)
    expected = {}
    for mission, runs in found.items():
        of = [run for run in runs if run.player in came and run.playthrough == 1]
        won = sum(run.completed_on(last) is not None for run in of)
        if of:
            expected[mission] = {
                "mission": mission,
                "players_started": len(of),
                "players_completed": won,
                "started_pct": pytest.approx(100 * len(of) / len(came)),
                "completed_pct": pytest.approx(100 * won / len(of)),
            }
    rows = ask(past, "newcomer_funnel", days=days, until=str(last), side=side)
    assert rows == [expected[mission] for mission in GAME if mission in expected]
    begun_by = [row["players_started"] for row in rows]
    assert begun_by == sorted(begun_by, reverse=True)


# --- how long, and how hard


@pytest.mark.parametrize(
    ("days", "last", "side"),
    [*WINDOWS, pytest.param(ALL, LAST, "everyone", id="all")],
)
def test_time_to_each_mission(past: World, days: str, last: date, side: str) -> None:
    """The median hours from a player's first event until it began, and completed, a mission."""
    came_ms = {event.player: event.ts_ms for event in reversed(played.events())}
    expected = {}
    for mission, runs in begun(first_of(days, last), last, side, last).items():
        of = [run for run in runs if run.playthrough == 1]
        to_begin = [(run.events[0].ts_ms - came_ms[run.player]) / HOUR_MS for run in of]
        to_complete = [
            (run.events[-1].ts_ms - came_ms[run.player]) / HOUR_MS
            for run in of
            if run.completed_on(last)
        ]
        if of:
            expected[mission] = {
                "mission": mission,
                "players_started": len(of),
                "players_completed": len(to_complete),
                "hours_to_begin_p50": pytest.approx(median(to_begin)),
                "hours_to_complete_p50": (
                    pytest.approx(median(to_complete)) if to_complete else None
                ),
            }
    rows = ask(past, "mission_times", days=days, until=str(last), side=side)
    assert rows == [expected[mission] for mission in GAME if mission in expected]


def test_difficulty_is_what_was_planted(past: World) -> None:
    """Kills and recharges for a completed run are the simulator's; its spike, and only that, stands out."""
    rows = {row["mission"]: row for row in ask(past, "mission_difficulty", days=ALL)}
    known = {row["mission"]: row for row in played.realised()["missions"] if row["completed"]}
    assert list(rows) == list(known)
    for mission, row in rows.items():
        assert row["runs_completed"] == known[mission]["completed"]
        assert row["kills"] == pytest.approx(known[mission]["kills_per_completion"], abs=0.001)
        recharges = known[mission]["recharges_per_completion"]
        assert row["recharges"] == pytest.approx(recharges, abs=0.001)
    assert [m for m, row in rows.items() if row["spike_kills"] is not None] == [PLANTED.spike]
    assert all((row["usual_kills"] is None) == (m == PLANTED.spike) for m, row in rows.items())


@pytest.mark.parametrize(("days", "last", "side"), WINDOWS)
def test_difficulty_of_a_window(past: World, days: str, last: date, side: str) -> None:
    """Of the runs completed in the window: kills, recharges and minutes played, without the nights."""
    found = completed(first_of(days, last), last, side)
    order = [mission for mission in GAME if mission in found]
    kills = {
        mission: fmean(run.count("kill_enemy") for run in runs) for mission, runs in found.items()
    }
    rows = ask(past, "mission_difficulty", days=days, until=str(last), side=side)
    assert [row["mission"] for row in rows] == order
    for place, row in enumerate(rows):
        runs = found[row["mission"]]
        around = order[max(place - 2, 0) : place] + order[place + 1 : place + 3]
        assert row["runs_completed"] == len(runs)
        assert row["kills"] == pytest.approx(kills[row["mission"]])
        assert row["recharges"] == pytest.approx(fmean(run.count("recharge") for run in runs))
        assert row["minutes"] == pytest.approx(60 * fmean(run.hours_played for run in runs))
        if around:
            assert row["around_kills"] == pytest.approx(fmean(kills[one] for one in around))


# --- where they stop


@pytest.mark.parametrize(
    ("days", "last", "side"),
    [*WINDOWS, pytest.param(ALL, LAST, "everyone", id="all")],
)
def test_where_players_stop(past: World, days: str, last: date, side: str) -> None:
    """Those who left in a mission: it was their last, is not completed, and they did not come for a week."""
    gone = last - WEEK
    runs = [run for run in played.runs() if run.begun_on <= last]
    last_runs = {run.player: run for run in runs}  # they come in the order of time
    left = {player for player, active in played.active_days(last).items() if max(active) <= gone}
    found = begun(first_of(days, last) - WEEK, gone, side, last)
    started = {mission: {run.player for run in of} for mission, of in found.items()}
    stopped = Counter(
        mission
        for mission, of in found.items()
        for run in of
        if run is last_runs[run.player] and run.player in left and not run.completed_on(last)
    )
    rows = ask(past, "mission_stops", days=days, until=str(last), side=side)
    assert rows == [
        {
            "mission": mission,
            "players_started": len(started[mission]),
            "players_stopped": stopped[mission],
            "stopped_pct": pytest.approx(100 * stopped[mission] / len(started[mission])),
            "stops_pct": (
                pytest.approx(100 * stopped[mission] / stopped.total()) if stopped else None
            ),
        }
        for mission in GAME
        if mission in started
    ]


def test_most_stop_at_the_spike(past: World) -> None:
    """Whom the simulator made give up at the spike a week ago or before is counted there."""
    active = played.active_days()
    gave_up = [p for p in played.realised()["left_at_spike"] if max(active[p]) <= LAST - WEEK]
    rows = ask(past, "mission_stops", days=ALL)
    spike = next(row for row in rows if row["mission"] == PLANTED.spike)
    assert gave_up
    assert spike["players_stopped"] >= len(gave_up)
    assert spike["players_stopped"] == max(row["players_stopped"] for row in rows)


def test_only_the_last_run_is_where_somebody_stopped(world: World) -> None:
    """Neither a mission that was left for another nor one that was completed is where a player stopped."""
    at = played.START_MS
    played_by: dict[str, list[tuple[str, str]]] = {
        "left for another": [("A", "kill_enemy"), ("B", "kill_enemy")],
        "left after winning": [("A", "kill_enemy"), ("A", "mission_complete")],
        "came back lately": [("A", "kill_enemy")],
    }
    told = [
        payload(at + n, 10 * number + n, player=player, action=action, details={"mission": mission})
        for number, (player, steps) in enumerate(played_by.items())
        for n, (mission, action) in enumerate(steps)
    ]
    told.append(payload(at + 10 * DAY_MS, 9, player="came back lately", details=None))
    store(world, told)
    roll_up(world)
    rows = ask(world, "mission_stops")
    assert [(r["mission"], r["players_started"], r["players_stopped"]) for r in rows] == [
        ("A", 3, 0),
        ("B", 1, 1),
    ]
    # Before the third came back it was gone, too.
    until = str(played.FIRST + 10 * DAY)
    assert until == ask(world, "last_days")[1]["value"]
    later = [payload(at + 20 * DAY_MS, 1, player="another", details=None)]
    store(world, later)
    roll_up(world)
    rows = ask(world, "mission_stops")
    assert [(r["mission"], r["players_stopped"]) for r in rows] == [("A", 1), ("B", 1)]
    rows = ask(world, "mission_stops", until=until)
    assert [(r["mission"], r["players_stopped"]) for r in rows] == [("A", 0), ("B", 1)]


# --- upgrades


@pytest.mark.parametrize(("days", "last"), [(ALL, LAST), ("7", LAST - 5 * DAY)])
def test_upgrades_by_ability_and_level(past: World, days: str, last: date) -> None:
    """How often each level was bought, and for how much; a level nobody bought is there with a zero."""
    bought = [
        event
        for event in played.between(first_of(days, last), last)
        if event.action == "ability_upgrade"
    ]
    of_level: Counter[tuple[str, str]] = Counter()
    of_ability: Counter[str] = Counter()
    spent: Counter[tuple[str, str]] = Counter()
    for event in bought:
        said = played.details(event)
        key = said["ability"], f"level {said['level']}"
        of_level[key] += 1
        of_ability[said["ability"]] += 1
        spent[key] -= event.xp_delta
    levels = sorted({level for _, level in of_level})
    assert ask(past, "ability_upgrades", days=days, until=str(last)) == [
        {
            "ability": ability,
            "level": level,
            "upgrades": of_level[ability, level],
            "xp_spent": spent[ability, level],
        }
        for ability, _ in sorted(of_ability.items(), key=lambda item: (-item[1], item[0]))
        for level in levels
    ]
    assert of_level


def test_what_is_spent_is_the_simulators_own(past: World) -> None:
    """The prices paid by ability, to the last XP."""
    spent: Counter[str] = Counter()
    for row in ask(past, "ability_upgrades", days=ALL):
        spent[row["ability"]] += row["xp_spent"]
    assert spent == played.realised()["xp"]["spent_by_ability"]


@pytest.mark.parametrize("key", ["mission_funnel", "mission_stops", "mission_times"])
def test_the_sides_sum_up_to_everyone(past: World, key: str) -> None:
    """Each player is of one side, of none twice, and of none not at all."""
    for until in ("latest", str(LAST - 9 * DAY)):
        sums: Counter[str] = Counter()
        for side in SIDES:
            for row in ask(past, key, side=side, until=until):
                sums[row["mission"]] += row["players_started"]
        assert sums == {
            row["mission"]: row["players_started"] for row in ask(past, key, until=until)
        }
