"""The dashboard Karma: ranks, sides and choices are those that were played."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from statistics import fmean
from typing import Any, Final

import pytest

from infamous.embedded.servers import Servers
from pipeline.event import RANK_BY_KARMA, Event
from producer.simulate import DAY_MS
from tests.conftest import World
from tests.integration import played
from tests.integration.dashboards import SIDES, ask, roll_up, rolled_up, store
from tests.integration.played import ALL, DAY, DAYS, FIRST, LAST
from tests.unit.samples import payload

RANKS: Final = ("Infamous", "Outlaw", "Thug", "Neutral", "Guardian", "Champion", "Hero")
WEEK: Final = 7 * DAY
WINDOWS: Final = [
    pytest.param(ALL, LAST, id="all"),
    pytest.param("7", LAST, id="the last week"),
    pytest.param("14", LAST - 8 * DAY, id="two weeks before"),
]


@pytest.fixture(scope="module")
def past(servers: Servers, template: str) -> Iterator[World]:
    """A world with that history, rolled up. Nobody changes it."""
    yield from rolled_up(servers, template, played.events())


def window(days: str, last: date) -> tuple[date, date]:
    """The first day and the last."""
    return last - (int(days) - 1) * DAY, last


def last_events(first: date, last: date) -> dict[str, Event]:
    """Each player's last event from one day to another."""
    return {event.player: event for event in played.between(first, last)}


def percent(part: float, whole: float) -> Any:
    """Part of 100, or None of nothing."""
    return pytest.approx(100 * part / whole) if whole else None


# --- ranks


@pytest.mark.parametrize(("days", "last"), WINDOWS)
def test_ranks_of_a_day_are_those_at_its_end(past: World, days: str, last: date) -> None:
    """The active players by the rank after their last event of the day, a row for each day and rank."""
    first, _ = window(days, last)
    expected = []
    for number in range(int(days)):
        day = first + number * DAY
        ranks = Counter(event.rank for event in last_events(day, day).values())
        expected += [
            {
                "day": day,
                "rank": rank,
                "players": ranks[rank],
                "players_pct": percent(ranks[rank], ranks.total()),
            }
            for rank in RANKS
        ]
    assert ask(past, "daily_ranks", days=days, until=str(last)) == expected


@pytest.mark.parametrize(("days", "last"), WINDOWS)
def test_karma_of_players_is_their_last(past: World, days: str, last: date) -> None:
    """Those who were active, in steps of ten, the last step with its upper end."""
    karma = [event.karma_total for event in last_events(*window(days, last)).values()]
    steps = Counter((min(one // 10 * 10, 90), RANK_BY_KARMA[one]) for one in karma)
    rows = ask(past, "karma_now", days=days, until=str(last))
    assert {(row["karma_from"], row["rank"]): row["players"] for row in rows} == steps
    assert len(rows) == len(steps)
    places = [(row["karma_from"], RANKS.index(row["rank"])) for row in rows]
    assert places == sorted(places)


def test_ranks_at_the_end_are_the_simulators_own(past: World) -> None:
    """The players of each rank, of all personas together."""
    known: Counter[str] = Counter()
    for of_persona in played.realised()["karma"].values():
        known.update(of_persona["players_by_rank"])
    found: Counter[str] = Counter()
    for row in ask(past, "karma_now", days=ALL):
        found[row["rank"]] += row["players"]
    assert found == known


@pytest.mark.parametrize(("days", "last"), WINDOWS)
def test_sides_in_numbers(past: World, days: str, last: date) -> None:
    """How many active players are on each side, and the civilians among those they killed."""
    first, _ = window(days, last)
    ends = last_events(first, last).values()
    sides = Counter(played.side_of(event.rank) for event in ends)
    kills = Counter(event.action for event in played.between(first, last))
    civilians, enemies = kills["kill_civilian"], kills["kill_enemy"]
    assert ask(past, "karma_totals", days=days, until=str(last)) == [
        {
            "players": len(ends),
            **{f"{side}_players": sides[side] for side in SIDES},
            **{f"{side}_pct": percent(sides[side], len(ends)) for side in SIDES},
            "karma_mean": pytest.approx(fmean(event.karma_total for event in ends)),
            "civilians_per_100_kills": percent(civilians, civilians + enemies),
        }
    ]


def test_heroes_and_villains_are_who_was_planted_so(past: World) -> None:
    """Rank tells the persona: the simulator's heroes end as heroes, and its villains as villains."""
    persona = played.realised()["players"]["persona_of"]
    sides = played.sides(LAST)
    (row,) = ask(past, "karma_totals", days=ALL)
    for planted in ("hero", "villain"):
        of = [player for player in sides if persona[player] == planted]
        assert row[f"{planted}_players"] >= sum(sides[player] == planted for player in of) > 0
        assert sum(sides[player] == planted for player in of) > 0.7 * len(of)


# --- choices


def choices(first: date, last: date, side: str) -> list[Event]:
    """The moral choices of players of a side from one day to another."""
    return [
        event
        for event in played.between(first, last)
        if event.action == "moral_choice" and played.is_of(side, event.player, last)
    ]


def test_switches_are_the_simulators_own(past: World) -> None:
    """All choices and all switches of side, of all personas together."""
    rows = ask(past, "daily_switches", days=ALL)
    known = played.realised()["choices"].values()
    assert sum(row["choices"] for row in rows) == sum(one["good"] + one["evil"] for one in known)
    assert sum(row["switches"] for row in rows) == sum(one["switches"] for one in known)


@pytest.mark.parametrize("side", ["everyone", "villain"])
@pytest.mark.parametrize(("days", "last"), WINDOWS)
def test_a_switch_is_seen_across_the_windows_edge(
    past: World, days: str, last: date, side: str
) -> None:
    """A choice is compared with the player's one before, also where that lies before the window."""
    first, _ = window(days, last)
    counts: Counter[tuple[date, str]] = Counter()
    for of in played.grouped(choices(FIRST, last, side), lambda event: event.player).values():
        counts[played.day_of(of[0]), "first_choices"] += 1
        for before, event in pairwise(of):
            is_switch = played.details(before)["side"] != played.details(event)["side"]
            counts[played.day_of(event), "switches" if is_switch else "kept"] += 1
    expected = []
    for number in range(int(days)):
        day = first + number * DAY
        found = {kind: counts[day, kind] for kind in ("first_choices", "kept", "switches")}
        compared = found["kept"] + found["switches"]
        expected.append(
            {"day": day, "choices": compared + found["first_choices"]}
            | found
            | {"switched_pct": percent(found["switches"], compared)}
        )
    rows = ask(past, "daily_switches", days=days, until=str(last), side=side)
    assert rows == expected
    assert any(row["switches"] for row in rows)


@pytest.mark.parametrize("side", ["everyone", "hero"])
@pytest.mark.parametrize(("days", "last"), WINDOWS)
def test_choices_by_mission(past: World, days: str, last: date, side: str) -> None:
    """How often each choice went the good and the evil way."""
    made: Counter[tuple[str, str, str]] = Counter()
    for event in choices(*window(days, last), side):
        said = played.details(event)
        made[said["mission"], said["choice"], said["side"]] += 1
    expected = [
        {
            "mission": mission,
            "choice": choice,
            "good": made[mission, choice, "good"],
            "evil": made[mission, choice, "evil"],
            "good_pct": percent(
                made[mission, choice, "good"],
                made[mission, choice, "good"] + made[mission, choice, "evil"],
            ),
        }
        for mission, choice in {(mission, choice) for mission, choice, _ in made}
    ]
    expected.sort(key=lambda row: (-row["good"] - row["evil"], row["mission"], row["choice"]))
    assert ask(past, "mission_choices", days=days, until=str(last), side=side) == expected
    assert expected


@pytest.mark.parametrize(
    ("key", "column"), [("daily_switches", "choices"), ("mission_choices", "good")]
)
def test_the_sides_sum_up_to_everyone(past: World, key: str, column: str) -> None:
    """Each player is of one side, of none twice, and of none not at all."""
    for until in ("latest", str(LAST - 9 * DAY)):
        parts = [row[column] for s in SIDES for row in ask(past, key, side=s, until=until)]
        assert sum(parts) == sum(row[column] for row in ask(past, key, until=until))


# --- who leaves


@pytest.mark.parametrize(("days", "last"), WINDOWS)
def test_civilians_on_the_last_day_before_leaving(past: World, days: str, last: date) -> None:
    """The kills of the last days of those who left stand apart from all others, by side and altogether."""
    gone = last - WEEK
    first = gone - (int(days) - 1) * DAY
    ends = {player: max(active) for player, active in played.active_days(last).items()}
    kills: Counter[tuple[str, str, str]] = Counter()
    left: dict[str, set[str]] = {side: set() for side in (*SIDES, "everyone")}
    for event in played.between(first, gone):
        if event.action not in {"kill_enemy", "kill_civilian"}:
            continue
        is_last = played.day_of(event) == ends[event.player]
        for side in (played.sides(last)[event.player], "everyone"):
            kills[side, "last_day" if is_last else "other_days", event.action] += 1
            if is_last:
                left[side].add(event.player)
    expected = []
    for side in (*SIDES, "everyone"):
        row: dict[str, Any] = {"side": side, "players_left": len(left[side])}
        for which in ("last_day", "other_days"):
            civilians = kills[side, which, "kill_civilian"]
            total = civilians + kills[side, which, "kill_enemy"]
            row[f"{which}_kills"], row[f"{which}_civilians"] = total, civilians
            row[f"{which}_per_100"] = percent(civilians, total)
        expected.append(row)
    rows = ask(past, "civilians_before_leaving", days=days, until=str(last))
    assert rows == expected


@pytest.mark.parametrize(("days", "last"), WINDOWS)
def test_retention_is_by_the_side_of_the_first_day(past: World, days: str, last: date) -> None:
    """Of those whose nth day lies in the window, by side as they ended their first day, who came on it."""
    first, _ = window(days, last)
    active = played.active_days(last)
    first_days = {player: min(found) for player, found in active.items()}
    ends = {
        event.player: played.side_of(event.rank)
        for event in played.between(FIRST, last)
        if played.day_of(event) == first_days[event.player]
    }
    expected = []
    for side in SIDES:
        for since in range(1, 31):
            had = [
                player
                for player, of in ends.items()
                if of == side and first <= first_days[player] + since * DAY <= last
            ]
            back = sum(first_days[player] + since * DAY in active[player] for player in had)
            expected.append(
                {
                    "side": side,
                    "days_since": since,
                    "players": len(had),
                    "active_players": back,
                    "active_pct": percent(back, len(had)),
                }
            )
    assert ask(past, "side_retention", days=days, until=str(last)) == expected
    assert any(row["active_players"] for row in expected)


def test_retention_of_all_sides_is_the_simulators_own(past: World) -> None:
    """Heroes, neutrals and villains together come back as the simulator says."""
    rows = ask(past, "side_retention", days=ALL)
    known = played.realised()["retention"]["all"]
    for since in range(1, DAYS):
        of_day = [row for row in rows if row["days_since"] == since]
        assert sum(row["players"] for row in of_day) == known[since]["eligible"]
        assert sum(row["active_players"] for row in of_day) == known[since]["active"]


# --- what is not known


def test_choices_that_say_little(world: World) -> None:
    """A choice without a mission, a name or a side is counted, and compared with none."""
    at = played.START_MS
    karma: list[dict[str, Any]] = [
        {"karma_delta": 0, "details": None},
        {"karma_delta": 5, "details": {}},
        {"karma_delta": -5, "details": {"side": "neither", "mission": "M"}},
        {"karma_delta": 0, "details": {"side": "evil", "choice": "the bus"}},
    ]
    store(
        world,
        [
            payload(at + n * DAY_MS, n + 1, player="Zeke", action="moral_choice", **said)
            for n, said in enumerate(karma)
        ],
    )
    roll_up(world)
    days = ask(world, "daily_switches")
    assert [
        (row["choices"], row["first_choices"], row["kept"], row["switches"])
        for row in days
        if row["choices"]
    ] == [(1, 1, 0, 0), (1, 0, 0, 1), (1, 0, 1, 0)]
    assert [
        (row["mission"], row["choice"], row["good"], row["evil"], row["good_pct"])
        for row in ask(world, "mission_choices")
    ] == [
        ("(not told)", "(not told)", 1, 0, 100.0),
        ("(not told)", "the bus", 0, 1, 0.0),
        ("M", "(not told)", 0, 1, 0.0),
    ]


def test_a_player_of_unknown_karma_is_neutral(world: World) -> None:
    """Old rollups do not know karma where the raw events are gone: the player is counted all the same."""
    store(world, [payload(played.START_MS, player="Zeke", karma_total=50, rank="Champion")])
    roll_up(world)
    (before,) = ask(world, "karma_totals")
    with world.engine.begin() as connection:
        connection.exec_driver_sql("update player_days set karma_total = null, rank = null")
    (after,) = ask(world, "karma_totals")
    assert (before["hero_pct"], before["neutral_pct"]) == (100.0, 0.0)
    assert (after["hero_pct"], after["neutral_pct"], after["karma_mean"]) == (0.0, 100.0, None)
    assert ask(world, "karma_now") == []
