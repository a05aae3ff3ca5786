"""What rollups keep of the game: karma, runs of missions, moral choices, and what events were about."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final

import pytest
from alembic import command

from infamous import schema
from jobs.check import check
from jobs.forget import forget
from jobs.items import MOST, OTHER
from jobs.rollup import roll_up_touched, rollup
from pipeline.event import RANK_BY_KARMA, encode
from producer.simulate import DAY_MS, history, population
from producer.truth import truth
from tests.conftest import World
from tests.integration.recount import Row, kept
from tests.integration.test_rollups import (
    DAY,
    DAYS,
    GAP,
    HOUR,
    MS,
    START,
    assert_right,
    change,
    deed,
    played,
    remove,
    rows,
    store,
)

SECOND: Final = timedelta(seconds=1)
ITEMS: Final = """
select district, subject, variant, events, xp_delta, karma_delta from hourly_items where action = :action
order by events desc, subject collate "C", variant collate "C", district collate "C"
"""
# A run by what is known of it.
RUN: Final = "select started_at, completed_at, ended_at, events, kills, recharges from mission_runs"


# --- equal to the truth


@pytest.mark.parametrize("seed", [7, 12])
def test_what_is_kept_of_the_game_is_what_was_played(world: World, seed: int) -> None:
    """Whatever the simulator knows comes out of the rollups alone, without the raw events."""
    start_ms, size = round(START.timestamp() * 1000), 60
    cast = population(seed, size, start_ms, DAYS)
    store(world, [encode(event) for _, event in history(cast, start_ms + DAYS * DAY_MS)])
    roll_up_touched(world.engine)
    assert_right(world)
    change(world, "truncate game_events")
    realised: dict[str, Any] = truth(seed, size, start_ms, DAYS)["realised"]
    persona_of = realised["players"]["persona_of"]
    tables = kept(world)

    runs: defaultdict[str, list[Row]] = defaultdict(list)
    for run in tables["mission_runs"]:
        runs[run["mission"]].append(run)
    for mission in realised["missions"]:
        of_mission = runs.get(mission["mission"], [])
        done = [run for run in of_mission if run["completed_at"] is not None]
        assert (len(of_mission), len(done)) == (mission["started"], mission["completed"])
        assert sum(run["kills"] for run in of_mission) == mission["kills"]
        assert sum(run["recharges"] for run in of_mission) == mission["recharges"]
        for name in ("kills", "recharges"):
            mean = round(sum(run[name] for run in done) / len(done), 3) if done else None
            assert mean == mission[f"{name}_per_completion"]
    assert sum(row["events"] for row in tables["mission_runs"]) == realised["events"]

    sides: defaultdict[str, list[str]] = defaultdict(list)
    for choice in sorted(tables["moral_choices"], key=lambda row: (row["ts"], row["id"])):
        sides[choice["player"]].append(choice["side"])
    found = {persona: Counter[str]() for persona in realised["choices"]}
    for player, line in sides.items():
        found[persona_of[player]].update(line)
        found[persona_of[player]]["switches"] += sum(a != b for a, b in pairwise(line))
    names = ("good", "evil", "switches")
    assert {
        persona: {name: counts[name] for name in names} for persona, counts in found.items()
    } == realised["choices"]

    items = tables["hourly_items"]
    assert not [row for row in items if row["subject"] in {"", OTHER}]
    by_source, spent, earned = Counter[str](), Counter[str](), Counter[str]()
    for row in items:
        if row["action"] == "recharge":
            by_source[row["subject"]] += row["events"]
        if row["action"] == "ability_upgrade":
            spent[row["subject"]] -= row["xp_delta"]
        elif row["xp_delta"]:
            earned[row["action"]] += row["xp_delta"]
    assert by_source == realised["recharges_by_source"]
    assert spent == realised["xp"]["spent_by_ability"]
    assert earned == realised["xp"]["earned_by_action"]
    balance = sum(row["xp_delta"] for row in tables["player_days"])
    assert balance == realised["xp"]["balance"]

    last = {row["player"]: row for row in sorted(tables["player_days"], key=lambda row: row["day"])}
    ranks = {persona: Counter[str]() for persona in realised["karma"]}
    for player, row in last.items():
        ranks[persona_of[player]][row["rank"]] += 1
    for persona, karma in realised["karma"].items():
        assert {rank: ranks[persona][rank] for rank in karma["players_by_rank"]} == karma[
            "players_by_rank"
        ]


# --- karma


def test_karma_is_that_of_the_last_event(world: World) -> None:
    """Of one millisecond the order is that of seq, and what is not counted comes last."""
    at = START + 5 * HOUR

    def karma(number: int, total: int, seq: int | None, more: timedelta = 0 * MS) -> bytes:
        rank = RANK_BY_KARMA[total]
        return deed(at + more, number=number, seq=seq, karma_total=total, rank=rank)

    played(world, [karma(9, 50, 1), karma(1, -20, 3), karma(5, 80, 2)])
    ends = "select part.karma_total, day.rank from session_parts part, player_days day"
    assert rows(world, ends) == [{"karma_total": -20, "rank": "Thug"}]
    played(world, [karma(2, 16, None)])
    assert rows(world, ends) == [{"karma_total": 16, "rank": "Guardian"}]
    played(world, [karma(7, 0, 4, GAP + MS), karma(8, -75, 5, 3 * GAP)])
    parts = rows(world, "select karma_total from session_parts order by started_at")
    assert [row["karma_total"] for row in parts] == [16, 0, -75]
    assert rows(world, "select rank, karma_total from player_days") == [
        {"rank": "Infamous", "karma_total": -75}
    ]
    remove(world, "seq = 5")
    roll_up_touched(world.engine)
    assert rows(world, "select rank from player_days") == [{"rank": "Neutral"}]
    assert_right(world)


def test_each_karma_goes_by_its_rank(world: World) -> None:
    """All of them, from one end to the other, as the contract names them."""
    deeds = [
        deed(START + HOUR, f"player {total}", 101 + total, karma_total=total, rank=rank)
        for total, rank in RANK_BY_KARMA.items()
    ]
    played(world, deeds)
    found = rows(world, "select karma_total, rank from player_days")
    assert {row["karma_total"]: row["rank"] for row in found} == RANK_BY_KARMA
    assert len(found) == len(RANK_BY_KARMA)


# --- runs of missions


def test_a_run_is_what_it_took_to_complete_it(world: World) -> None:
    """What comes after the first completion is not counted, in the same millisecond, hour or day."""
    at = START + 5 * HOUR + GAP
    done, kill, charge = "mission_complete", "kill_enemy", "recharge"
    steps = [
        *((at - 2 * HOUR, kill, 1), (at - SECOND, charge, 2), (at, kill, 3), (at, done, 4)),
        *((at, kill, 5), (at + SECOND, charge, 6), (at + 2 * SECOND, done, 7)),
        *((at + HOUR, kill, 8), (at + DAY, done, 9)),
    ]
    played(world, [deed(when, number=n, action=action) for when, action, n in steps])
    known = {"started_at": at - 2 * HOUR, "kills": 2, "recharges": 1}
    assert rows(world, RUN) == [known | {"completed_at": at, "ended_at": at, "events": 4}]
    assert_right(world)
    remove(world, "seq = 4")
    roll_up_touched(world.engine)
    then = at + 2 * SECOND
    known |= {"kills": 3, "recharges": 2, "completed_at": then, "ended_at": then}
    assert rows(world, RUN) == [known | {"events": 6}]
    assert_right(world)
    for seq in (7, 9):
        remove(world, "seq = :seq", seq=seq)
        roll_up_touched(world.engine)
        assert_right(world)
    known |= {"kills": 4, "completed_at": None, "ended_at": at + HOUR}
    assert rows(world, RUN) == [known | {"events": 6}]


def test_a_run_forgets_what_is_removed_in_the_middle(world: World) -> None:
    """Of a day on which nothing of it is left, which is neither its first nor its last."""
    steps = [START + n * DAY + HOUR for n in range(4)]
    played(
        world,
        [
            deed(at, number=n + 1, action="kill_enemy" if n < 3 else "mission_complete")
            for n, at in enumerate(steps)
        ],
    )
    for seq, events in ((3, 3), (2, 2)):
        remove(world, "seq = :seq", seq=seq)
        roll_up_touched(world.engine)
        assert [row["events"] for row in rows(world, RUN)] == [events]
        assert_right(world)
    change(world, "truncate touched_hours")
    assert check(world.engine).wrong == ()


def test_the_check_waits_for_a_day_in_the_middle_of_a_run(world: World) -> None:
    """Its hours were made anew and the day was not summed up yet: the run is old, and that is known."""
    played(world, [deed(START + n * DAY, number=n + 1) for n in range(3)])
    store(world, [deed(START + DAY + SECOND, number=9)])
    change(world, "update mission_parts set events = 2 where hour = :hour", hour=START + DAY)
    assert check(world.engine).wrong == ()
    roll_up_touched(world.engine)
    assert_right(world)


# --- moral choices


def test_a_side_is_what_the_event_says_or_karma_does(world: World) -> None:
    """Another word for it, or none, leaves it to the sign of karma, and where that stood still it is open."""
    told: list[tuple[Any, int, str | None]] = [
        ("good", -5, "good"), ("evil", 5, "evil"), ("GOOD", -5, "evil"), (None, 5, "good"),
        (["good"], 0, None), (7, 0, None), ("evil", 0, "evil"),
    ]  # fmt: skip
    played(
        world,
        [
            deed(
                START + n * SECOND,
                number=n + 1,
                action="moral_choice",
                karma_delta=karma,
                details={"side": side, "choice": "c" * 70, "mission": "M"},
            )
            for n, (side, karma, _) in enumerate(told)
        ],
    )
    found = rows(world, "select * from moral_choices order by ts")
    assert [row["side"] for row in found] == [side for *_, side in told]
    assert {(row["mission"], row["choice"], row["hour"]) for row in found} == {
        ("M", "c" * 64, START)
    }
    assert_right(world)


def test_choices_stay_when_the_raw_events_are_gone(world: World) -> None:
    """A change of sides shows between one that left with retention and one that did not."""
    deeds = [
        deed(
            START + n * DAY,
            number=n + 1,
            action="moral_choice",
            details={"side": ("good", "evil")[n % 2]},
        )
        for n in range(3)
    ]
    played(world, deeds)
    before = kept(world)
    change(world, f"drop table game_events_{START:%Y%m%d}")
    assert rollup(world.engine, START, START + 3 * DAY).without_raw == 24
    assert kept(world) == before
    assert [row["side"] for row in rows(world, "select side from moral_choices order by ts")] == [
        "good", "evil", "good",
    ]  # fmt: skip


# --- what events were about


def test_only_the_most_frequent_keep_their_names(world: World) -> None:
    """A hundred of an hour and action, ties in the order of their bytes; the rest is one row."""
    at = START + 5 * HOUR
    # The first twice; capitals come before small letters, and both before the accented.
    names = [*(f"e{n:03}" for n in range(MOST - 2)), "É", "Z", "a"]
    deeds = [deed(at, number=1, details={"enemy": "e000", "ability": "Bolt"}, xp_delta=1)]
    deeds += [
        deed(at + n * MS, number=n + 2, details={"enemy": name, "ability": "Bolt"}, xp_delta=n)
        for n, name in enumerate(names)
    ]
    # Others of the hour do not count among them.
    deeds.append(deed(at, number=999, action="kill_civilian", details={"civilian": "a"}))
    deeds.append(deed(at + HOUR, number=999, details={"enemy": "a"}))
    played(world, deeds)
    hour = {"hour": at.replace(minute=0)}
    found = rows(
        world,
        "select district, subject, variant, events, xp_delta from hourly_items"
        " where action = 'kill_enemy' and hour = :hour order by xp_delta",
        **hour,
    )
    assert len(found) == MOST + 1
    over = {"district": OTHER, "subject": OTHER, "variant": "", "events": 1}
    assert found[-3] | over | {"xp_delta": MOST - 2} == found[-3]  # "É"
    assert [row["subject"] for row in found[-2:]] == ["Z", "a"]
    assert_right(world)
    # With one more of it, another must go: the last of the rest.
    played(world, [deed(at, number=1000, details={"enemy": "É", "ability": "Bolt"})])
    assert rows(world, ITEMS, action="kill_enemy")[1]["subject"] == "É"
    assert_right(world)
    remove(world, "details ->> 'enemy' < 'e050'")
    roll_up_touched(world.engine)
    assert not rows(world, "select from hourly_items where subject = :other", other=OTHER)
    assert_right(world)


def test_a_name_like_the_rest_is_summed_up_with_it(world: World) -> None:
    """A sender may call a thing as the rest is called: there is one such row, and it counts both."""
    at = START + HOUR
    deeds = [
        deed(at + n * MS, number=n + 1, details={"enemy": f"e{n:03}"}) for n in range(MOST + 5)
    ]
    like_the_rest = {"district": OTHER, "enemy": OTHER}
    deeds += [deed(at, number=500 + n, details=like_the_rest) for n in range(3)]
    played(world, deeds)
    first, *others = rows(world, ITEMS, action="kill_enemy")
    assert (first["subject"], first["events"]) == (OTHER, 3 + 6)
    assert len(others) == MOST - 1
    assert_right(world)


def test_names_may_be_anything(world: World) -> None:
    """No details, none of these, odd types, any length and any characters: counted, and no rollup fails."""
    chance = random.Random(3)
    odd: list[Any] = [
        None, "", "x" * 3900, "ї" * 500, "\U0001f9db" * 300, 'a"\\\t\n\u2028', 7, 1.50, True, [], ["a", 1],
        {"b": {"c": None}}, "(other)", "e\u0301", " ",
    ]  # fmt: skip
    keys = (
        "district", "enemy", "civilian", "mission", "ability", "choice", "side", "kind", "level",
        "playthrough",
    )  # fmt: skip
    actions = (
        "kill_enemy", "kill_civilian", "recharge", "mission_complete", "ability_upgrade", "moral_choice",
    )  # fmt: skip
    deeds = []
    for number in range(1, 241):
        one = chance.choice(keys)
        short = [value for value in odd if len(str(value)) < 50]
        details = {key: chance.choice(short) for key in keys} | {one: chance.choice(odd)}
        action = actions[number % len(actions)]
        deeds.append(
            deed(
                START + number * SECOND,
                number=number,
                action=action,
                energy_source=chance.choice(["car", "", "ї" * 99])
                if action == "recharge"
                else None,
                details=chance.choice([details, details, {}, None]),
            )
        )
    played(world, deeds)
    assert_right(world)
    assert max(len(row["subject"]) for row in rows(world, ITEMS, action="recharge")) == 64
    # Past the contract: what is no object names nothing.
    for odd_details in ("null", '"text"', "[1]", "7"):
        change(world, "update game_events set details = cast(:odd as jsonb)", odd=odd_details)
        rollup(world.engine, START, START + HOUR)
        assert_right(world)
    assert rows(world, "select distinct district, variant from hourly_items") == [
        {"district": "", "variant": ""}
    ]


# --- a player that is forgotten


@pytest.mark.parametrize("keep_as_pseudonym", [False, True])
@pytest.mark.parametrize("has_raw", [True, False])
def test_a_forgotten_player_leaves_no_choice(
    world: World, has_raw: bool, keep_as_pseudonym: bool
) -> None:
    """Nor any other row by that name; what has no names is counted without them, if it still can be."""
    deeds = [
        deed(
            START + n * HOUR,
            who,
            n + 1,
            action="moral_choice",
            details={"choice": f"by {who}", "side": "good"},
        )
        for n in range(4)
        for who in ("Zeke", "Moya")
    ]
    played(world, deeds)
    before = kept(world)
    if not has_raw:
        change(world, f"drop table game_events_{START:%Y%m%d}")
    done = forget(
        world.engine, world.streams, "Zeke", keep_as_pseudonym=keep_as_pseudonym, patience_s=0.0
    )
    assert done.removed.rollups > 4
    after = kept(world)
    choices = [row | {"player": done.pseudonym} if row["player"] == "Zeke" else row
               for row in before["moral_choices"]
               if keep_as_pseudonym or row["player"] != "Zeke"]  # fmt: skip
    assert sorted(map(str, after["moral_choices"])) == sorted(map(str, choices))
    of_zeke = [row for row in after["hourly_items"] if row["subject"] == "by Zeke"]
    assert len(of_zeke) == (0 if has_raw and not keep_as_pseudonym else 4)
    assert [row for row in after["hourly_items"] if row["subject"] == "by Moya"] == [
        row for row in before["hourly_items"] if row["subject"] == "by Moya"
    ]
    if has_raw:
        assert_right(world)


# --- a database from before


def test_going_back_keeps_what_was_known_before(world: World) -> None:
    """Whether a part was completed is what the version before asks, and it is told."""
    played(
        world,
        [
            deed(START + n * HOUR, number=n + 1, action=action)
            for n, action in enumerate(("kill_enemy", "mission_complete", "kill_enemy"))
        ],
    )
    before = kept(world)
    config = schema._config(world.engine)
    command.downgrade(config, "0012")
    parts = rows(world, "select hour, is_completed from mission_parts order by hour")
    assert [row["is_completed"] for row in parts] == [False, True, False]
    command.upgrade(config, "head")
    filled = rows(world, "select day, player, events, xp_delta, karma_delta from player_days")
    assert filled == [
        {name: row[name] for name in ("day", "player", "events", "xp_delta", "karma_delta")}
        for row in before["player_days"]
    ]
    roll_up_touched(world.engine)
    assert kept(world) == before
    assert check(world.engine).wrong == ()
