"""Karma, ranks and choices, held against what was planted and against a recount of the events."""

from __future__ import annotations

import functools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.axes import Axes
from sqlalchemy import Engine

from analytics import data, karma, words
from analytics.frames import HERO, NEUTRAL, RANKS, SIDE_OF, SIDES, VILLAIN
from analytics.period import Period, ending
from analytics.plots import karma as plots
from analytics.plots import style
from infamous.embedded.servers import Servers
from pipeline.event import Event
from producer.game import GOOD
from producer.simulate import DAY_MS, PLANTED, Persona, history, population
from tests.integration import dashboards
from tests.notebooks import planted
from tests.unit.samples import payload

# The whole history, and days with a past before them.
PERIODS = [
    pytest.param(planted.ALL, id="all"),
    pytest.param(ending(planted.LAST, 14), id="two weeks"),
    pytest.param(ending(planted.LAST - timedelta(days=9), 7), id="a week before"),
]


def day_of(event: Event) -> date:
    """Its UTC day."""
    return planted.FIRST + timedelta(days=(event.ts_ms - planted.START_MS) // DAY_MS)


@functools.cache
def ends() -> dict[str, dict[date, Event]]:
    """Each player's last event of each day played, in order."""
    found: dict[str, dict[date, Event]] = defaultdict(dict)
    for event in planted.events():
        found[event.player][day_of(event)] = event
    return found


def sides(last: date) -> dict[str, str]:
    """Each player's side at the end of the last day played up to this."""
    return {
        player: SIDE_OF[days[max(day for day in days if day <= last)].rank]
        for player, days in ends().items()
        if min(days) <= last
    }


@functools.cache
def leanings() -> tuple[tuple[Persona, bool, Event], ...]:
    """Each choice and each kill, with the persona, and whether the player leaned to good then."""
    players = population(planted.SEED, planted.PLAYERS, planted.START_MS, planted.DAYS)
    until_ms = planted.START_MS + planted.DAYS * DAY_MS
    return tuple(
        (player.persona, player.side == GOOD, event)
        for player, event in history(players, until_ms)
        if event.action in {"moral_choice", "kill_enemy", "kill_civilian"}
    )


def is_likely(found: float, chances: Iterable[float]) -> bool:
    """Whether so many of draws with these chances came true as may, within the sampling error."""
    drawn = list(chances)
    error = math.sqrt(sum(chance * (1 - chance) for chance in drawn))
    return abs(found - sum(drawn)) <= planted.SIGMAS * error


# --- ranks


def test_players_of_each_rank_are_the_simulators(engine: Engine) -> None:
    """Where players stand at the end is where the simulator's own players do."""
    known: Counter[str] = Counter()
    for of_persona in planted.known()["realised"]["karma"].values():
        known.update(of_persona["players_by_rank"])
    now = karma.karma_now(engine, planted.ALL)
    found = now.astype({"rank": "str"}).groupby("rank")["players"].sum()
    assert found.to_dict() == {rank: players for rank, players in known.items() if players}


def test_ranks_of_a_day_are_those_at_its_end(engine: Engine) -> None:
    """Every day, every rank: the players whose last event of the day has it."""
    expected = Counter((day, e.rank) for days in ends().values() for day, e in days.items())
    ranks = karma.ranks_by_day(engine, planted.ALL)
    found = {
        (day.date(), str(rank)): players
        for day, rank, players in zip(ranks["day"], ranks["rank"], ranks["players"], strict=True)
    }
    assert {place: players for place, players in found.items() if players} == expected
    assert len(found) == planted.DAYS * len(RANKS)


@pytest.mark.parametrize("period", PERIODS)
def test_changes_of_rank_are_those_of_the_events(engine: Engine, period: Period) -> None:
    """From one day played to the next and the one after it: counted again, also across the period's edge."""
    expected: Counter[tuple[str | None, str, str]] = Counter()
    for days in ends().values():
        ranks: list[str | None] = [None]
        for day, event in days.items():
            if ranks[-1] is not None and period.first <= day <= period.last:
                expected[ranks[-2], ranks[-1], event.rank] += 1
            ranks.append(event.rank)
    changes = karma.changes(engine, period)
    found = {
        (None if pd.isna(before_that) else str(before_that), str(before), str(rank)): times
        for before_that, before, rank, times in changes.itertuples(index=False)
    }
    assert found == expected
    table = karma.transitions(changes)
    pairs = Counter[tuple[str, str]]()
    for (_, before, rank), times in expected.items():
        pairs[before, rank] += times
    assert len(table) == len(RANKS) ** 2
    for row in table.to_dict("records"):
        before = str(row["rank_before"])
        of = sum(times for (left, _), times in pairs.items() if left == before)
        assert (row["times"], row["of"]) == (pairs[before, str(row["rank"])], of)
        assert row["share"] == pytest.approx(row["times"] / of, nan_ok=True) if of else True


# --- karma over time


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("side", [None, *SIDES])
def test_the_spread_of_karma_is_that_of_the_events(
    engine: Engine, period: Period, side: str | None
) -> None:
    """Quantiles and sides of everyone who came, day by day, with the karma that held on that day."""
    steps = karma.steps(engine, period)
    if side is not None:
        steps = steps[steps["first_side"] == side]
    held: dict[int, list[int]] = defaultdict(list)
    for days in ends().values():
        first = min(days)
        if not period.first <= first <= period.last or side not in {
            None,
            SIDE_OF[days[first].rank],
        }:
            continue
        now = 0
        for since in range((period.last - first).days + 1):
            event = days.get(first + timedelta(days=since))
            now = now if event is None else event.karma_total
            held[since].append(now)
    bands = karma.bands(steps)
    assert bands["days_since"].tolist() == sorted(held)
    for row in bands.to_dict("records"):
        values = np.array(held[row["days_since"]])
        assert row["players"] == len(values)
        expected = np.quantile(values, karma.QUANTILES, method="inverted_cdf")
        assert [row[quantile] for quantile in karma.QUANTILES] == expected.tolist()
        assert row[HERO] == pytest.approx((values >= 15).mean())
        assert row[VILLAIN] == pytest.approx((values <= -15).mean())
        assert row[NEUTRAL] == pytest.approx((abs(values) < 15).mean())


def test_a_drawn_path_is_a_players_own(engine: Engine) -> None:
    """A few players, the same each time, each with the karma at the end of each day played."""
    paths = karma.drawn_paths(engine, planted.ALL)
    pd.testing.assert_frame_equal(paths, karma.drawn_paths(engine, planted.ALL))
    drawn = paths.groupby("player", observed=True)
    assert len(drawn) == 12
    for player, path in drawn:
        days = ends()[str(player)]
        first = min(days)
        expected = [((day - first).days, e.karma_total, e.rank) for day, e in days.items()]
        found = path[["days_since", "karma", "rank"]].itertuples(index=False, name=None)
        assert list(found) == expected
        assert len(expected) >= 5


# --- the long run


def table_of(times: Any) -> pd.DataFrame:
    """Transitions of these counts, from the lowest rank to the highest."""
    rows = [
        (None, before, rank, int(times[row][column]))
        for row, before in enumerate(RANKS)
        for column, rank in enumerate(RANKS)
    ]
    return karma.transitions(
        pd.DataFrame(rows, columns=["rank_before_that", "rank_before", "rank", "times"])
    )


def two_ranks(stay_evil: int, leave_evil: int, leave_good: int, stay_good: int) -> pd.DataFrame:
    """Transitions of a game in which there is nothing but Infamous and Hero."""
    times = np.zeros((7, 7))
    times[0, 0], times[0, 6], times[6, 0], times[6, 6] = (
        stay_evil, leave_evil, leave_good, stay_good,
    )  # fmt: skip
    return table_of(times)


def test_the_long_run_of_two_ranks_is_known() -> None:
    """Of who leaves evil twice as easily as good, two in three are good in the end; the interval holds it."""
    found = karma.long_run(two_ranks(800, 200, 100, 900))
    assert found is not None
    hero = found.by_rank.iloc[6]
    assert hero["long_run"] == pytest.approx(2 / 3)
    assert hero["seen"] == pytest.approx(1100 / 2000)
    # By the delta method: the logarithm of the ratio of the two chances to leave.
    error = 2 / 9 * math.sqrt(0.8 / 200 + 0.9 / 100)
    assert hero["low"] == pytest.approx(2 / 3 - 1.96 * error, abs=0.2 * error)
    assert hero["high"] == pytest.approx(2 / 3 + 1.96 * error, abs=0.2 * error)
    assert karma.long_run_finding(found).startswith("In the long run 67% would end a day as heroes")


def test_ranks_that_do_not_mix_stay_as_they_are() -> None:
    """Nobody leaves: the long run is what there is now."""
    found = karma.long_run(two_ranks(30, 0, 0, 10))
    assert found is not None
    assert found.by_side["long_run"].tolist() == pytest.approx([0.75, 0, 0.25])


@pytest.mark.parametrize("counts", [(43, 0, 0, 95), (43, 1, 0, 95)])
def test_what_was_not_seen_is_not_impossible(counts: tuple[int, int, int, int]) -> None:
    """That nobody left a rank in a few dozen days does not say that nobody ever will: little is known."""
    found = karma.long_run(two_ranks(*counts))
    assert found is not None
    hero = found.by_rank.iloc[6]
    assert hero["high"] - hero["low"] > 0.5
    assert karma.long_run_finding(found).startswith("Too few change sides")


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (0, 5, 0, 0), (3, 1, 0, 0)])
def test_a_rank_nobody_left_yet_leads_nowhere(counts: tuple[int, int, int, int]) -> None:
    """It would look as if everybody came to rest there, for want of a second day."""
    assert karma.long_run(two_ranks(*counts)) is None


@given(arrays.arrays(np.int64, (7, 7), elements=st.integers(0, 200)))
def test_one_more_day_leaves_the_long_run_as_it_is(times: Any) -> None:
    """Whatever the counts, shares of 1 come out that the table of changes maps onto themselves."""
    times = times + np.eye(7, dtype="int64")
    found = karma.long_run(table_of(times))
    assert found is not None
    shares = found.by_rank["long_run"].to_numpy()
    assert shares.sum() == pytest.approx(1)
    assert shares.min() >= 0
    step = times / times.sum(axis=1, keepdims=True)
    assert shares @ step == pytest.approx(shares, abs=1e-9)
    by_side = found.by_side.set_index("side")["long_run"]
    assert by_side[HERO] == pytest.approx(shares[4:].sum())


def test_a_past_that_matters_is_noticed() -> None:
    """Who comes back to where they were, whatever lay between, has a memory; who draws anew has none."""
    columns = ["rank_before_that", "rank_before", "rank", "times"]
    faithful = [("Hero", "Neutral", "Hero", 50), ("Thug", "Neutral", "Thug", 50)]
    fickle = [(start, "Neutral", end, 25) for start in ("Hero", "Thug") for end in ("Hero", "Thug")]
    for rows, seen, matters in ((faithful, 1.0, True), (fickle, 0.5, False)):
        changes = pd.DataFrame(rows, columns=columns)
        memory = karma.memory(changes)
        assert memory is not None
        assert (memory.of, memory.seen, memory.matters) == (100, seen, matters)
        assert memory.expected == pytest.approx(0.5)
        assert ("the past matters" in karma.memory_finding(memory)) is matters
    assert karma.memory(pd.DataFrame(faithful, columns=columns).assign(times=4)) is None


# --- choices


def test_choices_and_switches_are_the_simulators(engine: Engine) -> None:
    """All of them, of all personas together; and the sides sum up to everyone."""
    known = planted.known()["realised"]["choices"].values()
    days = karma.switches_by_day(engine, planted.ALL)
    switches = sum(one["switches"] for one in known)
    assert days["switches"].sum() == switches
    assert days["choices"].sum() == sum(one["good"] + one["evil"] for one in known)
    by_side = karma.switches_by_side(engine, planted.ALL).set_index("side")
    assert by_side.loc["everyone", "switches"] == switches
    assert by_side.loc[list(SIDES), "switches"].sum() == switches
    assert by_side.loc[list(SIDES), "compared"].sum() == by_side.loc["everyone", "compared"]
    choices = karma.choices(engine, planted.ALL)
    for way in ("good", "evil"):
        assert choices[way].sum() == sum(one[way] for one in known)


def test_a_long_name_leaves_room_for_what_is_said_of_it() -> None:
    """A studio's missions may be called anything: the title is one that fits, as those of other plots."""
    frame = pd.DataFrame({"mission": [99 * "x", "Short"], "good": [5, 20], "known": [20, 20]})
    said = karma.choices_finding(frame.assign(share=frame["good"] / frame["known"]))
    assert said == f"62% of moral choices are good; fewest in {27 * 'x'}… (25%)"


def test_choices_go_as_loyally_as_was_planted(engine: Engine) -> None:
    """In each mission as many are good as the loyalty of those who made them says, within its error."""
    chances: dict[str, list[float]] = defaultdict(list)
    for persona, leans_to_good, event in leanings():
        if event.action == "moral_choice":
            loyal = PLANTED.personas[persona].loyal_pct / 100
            mission = json.loads(bytes(event.details))["mission"]
            chances[mission].append(loyal if leans_to_good else 1 - loyal)
    found = karma.choices(engine, planted.ALL).set_index("mission")
    good = found["good"]
    assert set(found.index) == set(chances)
    for mission, drawn in chances.items():
        assert found.loc[mission, "known"] == len(drawn)
        assert is_likely(good[mission], drawn), mission


@pytest.mark.parametrize("period", PERIODS)
def test_civilians_are_those_of_the_events(engine: Engine, period: Period) -> None:
    """By side at the end of the period: who killed, how many, and how many civilians."""
    side_of = sides(period.last)
    counts: Counter[tuple[str, str]] = Counter()
    killers: dict[str, set[str]] = defaultdict(set)
    for _, _, event in leanings():
        if event.action != "moral_choice" and period.first <= day_of(event) <= period.last:
            side = side_of[event.player]
            counts[side, event.action] += 1
            killers[side].add(event.player)
    for row in karma.civilians(engine, period).to_dict("records"):
        side, civilians = row["side"], counts[row["side"], "kill_civilian"]
        assert row["civilians"] == civilians
        assert row["kills"] == civilians + counts[side, "kill_enemy"]
        assert row["players"] == len(killers[side])


def test_civilians_die_as_often_as_was_planted(engine: Engine) -> None:
    """On each side as many as the leaning of who killed them says, within its error."""
    pct = {True: PLANTED.civilian_pct_good, False: PLANTED.civilian_pct_evil}
    side_of = sides(planted.LAST)
    chances: dict[str, list[float]] = defaultdict(list)
    for _, leans_to_good, event in leanings():
        if event.action != "moral_choice":
            chances[side_of[event.player]].append(pct[leans_to_good] / 100)
    found = karma.civilians(engine, planted.ALL).set_index("side")["civilians"]
    for side in SIDES:
        assert is_likely(found[side], chances[side]), side


def test_a_stranger_says_little(servers: Servers, template: str) -> None:
    """Events of another studio, without missions and sides: choices go by how karma went; all is drawn."""
    choices = [
        payload(
            planted.START_MS + number * DAY_MS, number, action="moral_choice", details=None, seq=None,
            karma_delta=change, karma_total=karma_total, rank=rank,
        )
        for number, (change, karma_total, rank) in enumerate(
            [(20, 20, "Guardian"), (-40, -20, "Thug"), (0, -20, "Thug")]
        )
    ]  # fmt: skip
    for world in dashboards.rolled_up(servers, template, choices):
        engine = data.reader(world.database_url)
        (row,) = karma.choices(engine, planted.ALL).to_dict("records")
        assert (row["mission"], row["good"], row["evil"]) == ("(not told)", 1, 1)
        every = karma.switches_by_side(engine, planted.ALL).set_index("side").loc["everyone"]
        assert (every["compared"], every["switches"]) == (1, 1)
        for name, draw in drawn(engine, planted.ALL).items():
            said = title(draw())
            assert said, name
            assert "nan" not in said, name


# --- plots


def title(axes: Axes) -> str:
    """What stands above a plot, once it is drawn."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    return style.title_of(figure)


def drawn(engine: Engine, period: Period) -> dict[str, Callable[[], Axes]]:
    """Each plot of a period."""
    table = karma.transitions(karma.changes(engine, period))
    switches = karma.switches_by_side(engine, period)
    return {
        "now": lambda: plots.karma_now(karma.karma_now(engine, period)),
        "paths": lambda: plots.karma_paths(
            karma.steps(engine, period), karma.drawn_paths(engine, period)
        ),
        "ranks": lambda: plots.rank_shares(karma.ranks_by_day(engine, period)),
        "transitions": lambda: plots.transitions(table),
        "long run": lambda: plots.long_run(karma.long_run(table)),
        "switches": lambda: plots.switches_by_day(karma.switches_by_day(engine, period)),
        "switches by side": lambda: plots.switches_by_side(switches),
        "choices": lambda: plots.choices(karma.choices(engine, period)),
        "civilians": lambda: plots.civilians(karma.civilians(engine, period)),
    }


def test_titles_say_what_the_events_say(engine: Engine) -> None:
    """Numbers in headings, counted again from the events."""
    of_kind: Counter[str] = Counter()
    for days in ends().values():
        ranks = [event.rank for event in days.values()]
        for before, rank in pairwise(ranks):
            of_kind["all"] += 1
            of_kind["kept"] += before == rank
            of_kind["crossed"] += {SIDE_OF[before], SIDE_OF[rank]} == {HERO, VILLAIN}
    said = {name: title(draw()) for name, draw in drawn(engine, planted.ALL).items()}
    assert said["transitions"] == (
        f"From one day played to the next {words.percent(of_kind['kept'] / of_kind['all'])} keep"
        f" their rank, and {words.percent(of_kind['crossed'] / of_kind['all'], 1)} cross to the"
        " other side"
    )
    last = Counter(max(days.items())[1].rank for days in ends().values())
    far = (last["Hero"] + last["Infamous"]) / last.total()
    assert said["now"].startswith(f"{words.percent(far)} of players have gone all the way")
    by_day = Counter(SIDE_OF[e.rank] for days in ends().values() for e in days.values())
    assert said["ranks"] == (
        f"Of those who play on a day, {words.percent(by_day[HERO] / by_day.total())} end it as heroes,"
        f" {words.percent(by_day[VILLAIN] / by_day.total())} as villains"
    )
    side_of = sides(planted.LAST)
    made: Counter[tuple[str, str]] = Counter()
    dead: Counter[tuple[str, str]] = Counter()
    for _, _, event in leanings():
        if event.action == "moral_choice":
            told = json.loads(bytes(event.details))
            made[told["mission"], told["side"]] += 1
        else:
            dead[side_of[event.player], event.action] += 1
    good = {
        mission: made[mission, "good"] / (made[mission, "good"] + made[mission, "evil"])
        for mission, _ in made
    }
    least = min(good, key=good.__getitem__)
    every = sum(count for (_, side), count in made.items() if side == "good") / made.total()
    assert said["choices"] == (
        f"{words.percent(every)} of moral choices are good; fewest in {least}"
        f" ({words.percent(good[least])})"
    )
    per_100 = {
        side: 100 * dead[side, "kill_civilian"]
        / (dead[side, "kill_civilian"] + dead[side, "kill_enemy"])
        for side in (HERO, VILLAIN)
    }  # fmt: skip
    assert said["civilians"] == (
        f"Of 100 that villains kill, {per_100[VILLAIN]:.2f} are civilians; of 100 that heroes kill,"
        f" {per_100[HERO]:.2f}"
    )
    week = [
        SIDE_OF[max((day, e.rank) for day, e in days.items() if (day - min(days)).days <= 7)[1]]
        for days in ends().values()
        if (planted.LAST - min(days)).days >= 7
    ]
    assert (
        f"A week after they came {words.percent(week.count(HERO) / len(week))} are heroes"
        in (said["paths"])
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("period", planted.LITTLE.values(), ids=planted.LITTLE.keys())
def test_a_plot_of_little_says_so(engine: Engine, period: Period) -> None:
    """Nobody, a first day, a gap: each plot is drawn, with a heading, without a warning."""
    for name, draw in drawn(engine, period).items():
        said = title(draw())
        assert said, name
        assert "nan" not in said, name
        assert words.DASH not in said, name
