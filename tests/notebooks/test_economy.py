"""The economy, held against what was planted: XP by source and sink, prices, and what is drained."""

from __future__ import annotations

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from statistics import median
from typing import Final

import msgspec
import pandas as pd
import pytest
from matplotlib.axes import Axes
from sqlalchemy import Engine

from analytics import economy
from analytics.frames import SIDE_OF
from analytics.plots import economy as plots
from pipeline.event import RANK_BY_KARMA, Event
from producer import game
from producer.simulate import DAY_MS, history, population
from tests.notebooks import planted

MISSION_OF: Final = {mission.name: mission for mission in game.MISSIONS}


class Told(msgspec.Struct):
    """Of an event's details, what is counted here."""

    mission: str
    district: str
    ability: str = ""
    level: int = 0


@functools.cache
def told() -> list[tuple[Event, Told, int]]:
    """Every event, what it tells, and the way its player leant at that moment."""
    players = population(planted.SEED, planted.PLAYERS, planted.START_MS, planted.DAYS)
    details = msgspec.json.Decoder(Told)
    return [
        (event, details.decode(event.details), player.side)
        for player, event in history(players, planted.START_MS + planted.DAYS * DAY_MS)
    ]


def shares_planted(district: str, side: int) -> dict[str, float]:
    """How often a player who leans that way turns to each source there."""
    sources = next(one.sources for one in game.DISTRICTS if one.name == district)
    weights: Counter[str] = Counter()
    for source in sources:
        weights[source.name] += source.good_weight if side == game.GOOD else source.evil_weight
    return {name: weight / weights.total() for name, weight in weights.items()}


def assert_as_planted(
    found: dict[tuple[str, str], int], group_of: Callable[[Event, Told], str]
) -> None:
    """Of the recharges of each group, each source has its planted share, within its error."""
    expected: defaultdict[tuple[str, str], float] = defaultdict(float)
    variance: defaultdict[tuple[str, str], float] = defaultdict(float)
    for event, details, side in told():
        if event.action == "recharge":
            for source, share in shares_planted(details.district, side).items():
                key = group_of(event, details), source
                expected[key] += share
                variance[key] += share * (1 - share)
    assert set(found) <= set(expected)
    for key, right in expected.items():
        assert found.get(key, 0) == pytest.approx(
            right, abs=planted.SIGMAS * math.sqrt(variance[key])
        ), key


def test_xp_by_action_and_by_ability_is_the_simulators(engine: Engine) -> None:
    """What each kind of action gave, and each ability took, to the last XP; what is left is in hand."""
    known = planted.known()["realised"]["xp"]
    days = economy.xp_days(engine, planted.ALL)
    found = economy.flows(days, economy.upgrades(engine, planted.ALL))
    earned, spent = found[found["xp"] > 0], found[found["xp"] < 0]
    assert dict(zip(earned["action"], earned["xp"], strict=True)) == known["earned_by_action"]
    assert dict(zip(spent["name"], -spent["xp"], strict=True)) == known["spent_by_ability"]
    assert found["xp"].sum() == days["net_xp"].sum() == known["balance"]
    assert earned["share"].sum() == pytest.approx(1)
    assert spent["share"].sum() == pytest.approx(1)


def test_upgrades_are_bought_at_the_games_prices(engine: Engine) -> None:
    """Each level of each ability was bought as often as in a recount, at the planted price."""
    found = economy.upgrades(engine, planted.ALL)
    bought = Counter(
        (details.ability, f"level {details.level}")
        for event, details, _ in told()
        if event.action == "ability_upgrade"
    )
    prices = {
        (ability.name, f"level {number}"): level.price
        for ability in game.ABILITIES
        for number, level in enumerate(ability.levels, start=1)
    }
    some = found[found["upgrades"] > 0]
    keys = list(zip(some["ability"], some["level"], strict=True))
    assert dict(zip(keys, some["upgrades"], strict=True)) == bought
    assert dict(zip(keys, some["price"], strict=True)) == {key: prices[key] for key in bought}
    assert found.loc[found["upgrades"] == 0, "price"].isna().all()
    spent = sum(prices[key] * count for key, count in bought.items())
    assert economy.mean_price(found) == pytest.approx(spent / bought.total())


def test_what_is_in_hand_is_what_was_not_spent(engine: Engine) -> None:
    """The median of what players hold, by how many runs they completed, is a recount's."""
    held: Counter[str] = Counter()
    won: Counter[str] = Counter()
    for event, _, _ in told():
        held[event.player] += event.xp_delta
        won[event.player] += event.action == "mission_complete"
    bands: defaultdict[int, list[int]] = defaultdict(list)
    for player, xp in held.items():
        bands[min(-(-won[player] // 5), 8)].append(xp)
    found = economy.balances(engine, planted.ALL)
    assert found["players"].to_list() == [len(bands[band]) for band in sorted(bands)]
    assert found["xp_p50"].to_list() == [median(bands[band]) for band in sorted(bands)]


def test_sources_of_energy_are_drained_as_planted(engine: Engine) -> None:
    """Recharges by source are the simulator's count; in each district they have the planted weights."""
    found = economy.sources(engine, planted.ALL)
    by_source = found.groupby(found["source"].astype("str"))["recharges"].sum()
    assert by_source.to_dict() == planted.known()["realised"]["recharges_by_source"]
    counts = {
        (str(row["district"]), str(row["source"])): int(row["recharges"])
        for row in found.to_dict("records")
        if row["recharges"]
    }
    assert_as_planted(counts, lambda _, details: details.district)


def test_fights_take_what_they_took(engine: Engine) -> None:
    """Recharges and kills by district are a recount's."""
    counts = Counter((event.action, details.district) for event, details, _ in told())
    found = economy.districts(engine, planted.ALL)
    assert len(found) == len(game.DISTRICTS)
    for row in found.to_dict("records"):
        kills, recharges = (
            counts[action, row["district"]] for action in ("kill_enemy", "recharge")
        )
        assert (row["kills"], row["recharges"]) == (kills, recharges)
        assert row["recharges_per_100_kills"] == pytest.approx(100 * recharges / kills)


def rank_before(event: Event, _: Told) -> str:
    """That of the player's karma before the event."""
    return RANK_BY_KARMA[event.karma_total - event.karma_delta]


def test_each_rank_drains_what_was_recounted(engine: Engine) -> None:
    """By the rank before the recharge and the source, to the last one; and as planted for the side that the
    players leant to at that moment.
    """
    counts = Counter(
        (rank_before(event, details), event.energy_source)
        for event, details, _ in told()
        if event.action == "recharge"
    )
    found = economy.drains(engine, planted.ALL)
    by_rank = {
        (str(row["rank"]), str(row["source"])): int(row["recharges"])
        for row in found.to_dict("records")
    }
    assert by_rank == counts
    assert_as_planted(by_rank, rank_before)


def test_villains_drain_persons_and_heroes_hardly_do(engine: Engine) -> None:
    """By side, the share of persons is what the weights of who leant which way make of it."""
    shares = economy.person_shares(economy.drains(engine, planted.ALL))
    for side in ("hero", "neutral", "villain"):
        chances = [
            shares_planted(details.district, leant)[game.DRAIN]
            for event, details, leant in told()
            if event.action == "recharge" and SIDE_OF[rank_before(event, details)] == side
        ]
        of = shares[shares["side"] == side]
        assert of["recharges"].sum() == len(chances)
        error = planted.SIGMAS * math.sqrt(sum(chance * (1 - chance) for chance in chances))
        assert of["persons"].sum() == pytest.approx(sum(chances), abs=error)
    assert economy.drain_finding(shares).startswith("Villains drain a person in 2")
    assert economy.PERSON == game.DRAIN


def xp(**of: int) -> dict[Hashable, int]:
    """A day on which these actions moved so much."""
    moved: dict[Hashable, int] = {f"{action}_xp": of.get(action, 0) for action in economy.EARNED_BY}
    spent = of.get("ability_upgrade", 0)
    earned = sum(moved.values())
    return moved | {"ability_upgrade_xp": spent, "earned_xp": earned, "net_xp": earned + spent}


def days(*rows: dict[Hashable, int]) -> pd.DataFrame:
    """These days, one after the other."""
    made = pd.DataFrame(list(rows) or [xp()]).iloc[: len(rows)]
    return made.assign(day=pd.date_range("2026-01-01", periods=len(rows), unit="s"))


DAYS: Final = days(
    xp(kill_enemy=60, mission_complete=40, ability_upgrade=-30), xp(), xp(kill_enemy=20)
)
BOUGHT: Final = pd.DataFrame(
    {
        "ability": ["Bolt", "Bolt", "Drain", "Drain"],
        "level": ["level 2", "level 10", "level 2", "level 10"],
        "upgrades": [2, 1, 1, 0],
        "xp_spent": [10, 15, 5, 0],
        "price": [5.0, 15.0, 5.0, math.nan],
    }
)
BALANCES: Final = pd.DataFrame(
    {
        "missions": ["none", "1 to 5"],
        "players": [12, 30],
        "xp_p50": [10.0, 15.0],
        "xp_p90": [20.0, 60.0],
    }
)
SOURCES: Final = pd.DataFrame(
    {
        "district": ["Neon", "Neon", "Warren", "Warren"],
        "source": ["street_light", "car", "street_light", "car"],
        "recharges": [6, 2, 0, 2],
        "district_pct": [75.0, 25.0, 0.0, 100.0],
    }
)
DISTRICTS: Final = pd.DataFrame(
    {
        "district": ["Neon", "Warren"],
        "kills": [100, 20],
        "recharges": [8, 2],
        "recharges_per_100_kills": [8.0, 10.0],
    }
)
DRAINS: Final = pd.DataFrame(
    {
        "rank": ["Infamous", "Infamous", "Neutral", "Hero"],
        "side": ["villain", "villain", "neutral", "hero"],
        "source": ["person", "car", "car", "car"],
        "recharges": [1, 3, 5, 7],
    }
)


def test_what_is_earned_stands_before_what_is_spent() -> None:
    """The largest first; what nothing came of is left out, what abilities do not account for is told."""
    found = economy.flows(DAYS, BOUGHT.head(2))
    assert found["name"].to_list() == ["enemies", "missions", "Bolt", "the rest"]
    assert found["xp"].to_list() == [80, 40, -25, -5]
    assert found["share"].to_list() == pytest.approx([2 / 3, 1 / 3, 5 / 6, 1 / 6])


def title_of(axes: Axes) -> str:
    """What stands above it."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    return figure.get_suptitle()


def flows(of: pd.DataFrame) -> Axes:
    """The plot of all of these days."""
    return plots.flows(
        economy.flows(of, BOUGHT.head(3) if len(of) == len(DAYS) else BOUGHT.head(0))
    )


def balances(of: pd.DataFrame) -> Axes:
    """The plot beside a price."""
    return plots.balances(of, 7.5)


@pytest.mark.parametrize(
    ("draw", "frame", "title"),
    [
        (plots.xp_days, DAYS, "Players earned 120 XP and spent 25% of it"),
        (flows, DAYS, "Enemies give 67% of the XP; Bolt takes the most, 83%"),
        (balances, BALANCES, "Players hold the most XP after 1 to 5 missions: a median of 15, 2.0 times"),
        (plots.upgrades, BOUGHT, "Bolt is bought most: 3 times, at 5 to 15 XP"),
        (plots.sources, SOURCES, "Street light is drained most: 60% of recharges"),
        (plots.districts, DISTRICTS, "Fights take the most energy in Warren: 10.0 recharges"),
        (plots.drains, DRAINS, "Villains drain a person in 25% of recharges, heroes in 0%"),
    ],
)  # fmt: skip
def test_a_title_says_what_is_drawn(
    draw: Callable[[pd.DataFrame], Axes], frame: pd.DataFrame, title: str
) -> None:
    """The heading's numbers are the frame's."""
    assert title_of(draw(frame)).startswith(title)


@pytest.mark.parametrize(
    ("draw", "frame", "said"),
    [
        (plots.xp_days, DAYS, ["No XP was earned", "Players earned 100 XP and spent 30% of it"]),
        (flows, DAYS, ["No XP was earned or spent", "Enemies give 60% of the XP; the rest takes"]),
        (plots.balances, BALANCES, ["Nobody has XP", "Players hold the most XP before any mission: a"]),
        (plots.upgrades, BOUGHT, ["No upgrade was bought", "Bolt is bought most: 2 times, at 5 XP"]),
        (plots.sources, SOURCES, ["Nobody recharged", "Street light is drained most: 100%"]),
        (plots.districts, DISTRICTS, ["No enemy was killed", "Fights take 8.0 recharges per 100 kills"]),
        (plots.drains, DRAINS, ["Nobody recharged", "Villains drain a person in 100% of recharges"]),
        (plots.drains, DRAINS.tail(2), ["Nobody recharged", "Nobody drained a person"]),
    ],
)  # fmt: skip
def test_nothing_and_one_row_are_drawn(
    draw: Callable[[pd.DataFrame], Axes], frame: pd.DataFrame, said: list[str]
) -> None:
    """A day on which nothing happened, or one thing, is a plot that says so."""
    for rows, title in enumerate(said):
        assert title_of(draw(frame.head(rows))).startswith(title)


def test_a_long_history_is_drawn_by_whole_weeks() -> None:
    """Each bar is of seven days, so that none is short because its week is; and the title is of all days."""
    long = days(*[xp(kill_enemy=1)] * 200)
    axes = plots.xp_days(long)
    heights = {bar.get_height() for bar in axes.containers[0]}
    assert heights == {7}
    assert len(axes.containers[0]) == 200 // 7
    assert title_of(axes) == "Players earned 200 XP and spent 0% of it"


def test_levels_stand_in_their_order() -> None:
    """Level 10 comes after level 2."""
    axes = plots.upgrades(BOUGHT)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["level 2", "level 10"]
