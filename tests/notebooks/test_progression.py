"""Progression, held against what was planted: how far, how long, how hard, and where players leave."""

from __future__ import annotations

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import groupby, pairwise
from typing import Final

import matplotlib as mpl
import msgspec
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from sqlalchemy import Engine

from analytics import progression
from analytics.plots import progression as plots
from analytics.plots import style
from pipeline.event import Event
from producer import game
from producer.simulate import HOUR_MS, PLANTED
from producer.truth import SESSION_GAP_MS
from tests.notebooks import planted

GAME: Final = [mission.name for mission in game.MISSIONS]
GONE: Final = planted.LAST - timedelta(days=progression.GONE_DAYS)
# Nobody who goes on has completed the spike with so few kills.
SPIKE_KILLS: Final = next(m.kills for m in game.MISSIONS if m.name == game.SPIKE) * 85 // 100

Run = tuple[str, str, int]


@functools.cache
def runs() -> dict[Run, list[Event]]:
    """The events of each player, mission and playthrough, in the order they were begun."""
    found: defaultdict[Run, list[Event]] = defaultdict(list)
    for event in planted.events():
        told = msgspec.json.decode(event.details)
        found[event.player, told["mission"], told["playthrough"]].append(event)
    return found


def is_completed(events: list[Event]) -> bool:
    """Whether that is how they end."""
    return events[-1].action == "mission_complete"


def day_of(event: Event) -> date:
    """Its UTC day."""
    return datetime.fromtimestamp(event.ts_ms / 1000, UTC).date()


@functools.cache
def last_seen() -> dict[str, date]:
    """The day of each player's last event."""
    return {event.player: day_of(event) for event in planted.events()}


@functools.cache
def left() -> dict[str, Run]:
    """In which run each player left who left in one, a week ago or before."""
    ends = {run[0]: run for run in runs()}
    return {
        player: run
        for player, run in ends.items()
        if last_seen()[player] <= GONE and not is_completed(runs()[run])
    }


def hours_played(events: list[Event]) -> float:
    """What lies between one's events, but for the nights, and for what a full hour cuts in two."""
    return sum(
        (after.ts_ms - before.ts_ms) / HOUR_MS
        for before, after in pairwise(events)
        if after.ts_ms - before.ts_ms <= SESSION_GAP_MS
        and before.ts_ms // HOUR_MS == after.ts_ms // HOUR_MS
    )


def hours_within(events: list[Event]) -> float:
    """From the first to the last in each hour of the clock."""
    return sum(
        (of[-1].ts_ms - of[0].ts_ms) / HOUR_MS
        for _, group in groupby(events, lambda event: event.ts_ms // HOUR_MS)
        for of in [list(group)]
    )


def test_the_funnel_is_what_was_played(engine: Engine) -> None:
    """Each newcomer counts once where they began a mission and where they completed it; as the game goes."""
    first = {run: events for run, events in runs().items() if run[2] == 1}
    begun = Counter(mission for _, mission, _ in first)
    won = Counter(mission for (_, mission, _), events in first.items() if is_completed(events))
    found = progression.funnel(engine, planted.ALL)
    assert found["mission"].to_list() == [mission for mission in GAME if begun[mission]]
    assert found["players_started"].to_list() == [begun[m] for m in GAME if begun[m]]
    assert found["players_completed"].to_list() == [won[m] for m in GAME if begun[m]]
    assert found["newcomers"].eq(planted.PLAYERS).all()


def test_time_to_each_mission_is_what_was_played(engine: Engine) -> None:
    """Quartiles of the hours since a player's first event, and of those at play, are those of a recount."""
    of: defaultdict[str, list[Event]] = defaultdict(list)
    for event in planted.events():
        of[event.player].append(event)
    waited: defaultdict[str, list[float]] = defaultdict(list)
    played: defaultdict[str, list[float]] = defaultdict(list)
    for (player, mission, playthrough), events in runs().items():
        if playthrough == 1:
            until = events[0].ts_ms
            waited[mission].append((until - of[player][0].ts_ms) / HOUR_MS)
            played[mission].append(hours_played([e for e in of[player] if e.ts_ms <= until]))
    found = progression.times(engine, planted.ALL).set_index("mission")
    assert found.index.to_list() == [mission for mission in GAME if waited[mission]]
    for mission in found.index:
        row = found.loc[mission]
        for name, hours in (("hours", waited[str(mission)]), ("played", played[str(mission)])):
            quartiles = [row[f"{name}_{quartile}"] for quartile in ("p25", "p50", "p75")]
            assert quartiles == pytest.approx(np.percentile(hours, [25, 50, 75]), abs=1e-6)


def test_the_spike_is_found_and_nothing_else(engine: Engine) -> None:
    """The rule names the planted mission, by the planted amount, and no other; the kills are the planted."""
    found = progression.difficulty(engine, planted.ALL)
    assert progression.spikes(found)["mission"].to_list() == [PLANTED.spike]
    assert progression.spike_finding(found).startswith(f"{PLANTED.spike} takes 13")
    known = {row["mission"]: row for row in planted.known()["realised"]["missions"]}
    takes = {m.name: [m.kills * pct // 100 for pct in range(85, 116)] for m in game.MISSIONS}
    assert len(found) > 30
    for row in found.to_dict("records"):
        mission, runs_completed = row["mission"], known[row["mission"]]["completed"]
        assert row["runs_completed"] == runs_completed
        assert row["kills"] == pytest.approx(known[mission]["kills_per_completion"], abs=0.001)
        assert row["recharges"] == pytest.approx(
            known[mission]["recharges_per_completion"], abs=0.001
        )
        error = planted.SIGMAS * float(np.std(takes[mission])) / math.sqrt(runs_completed)
        assert row["kills"] == pytest.approx(np.mean(takes[mission]), abs=error)


def test_where_players_leave_is_where_they_left(engine: Engine) -> None:
    """Who left in each mission, of how many, and how long all of them had played in it, is a recount's."""
    begun = {run: events for run, events in runs().items() if day_of(events[0]) <= GONE}
    players = {mission: {run[0] for run in begun if run[1] == mission} for mission in GAME}
    stopped = Counter(run[1] for run in left().values())
    hours: defaultdict[str, float] = defaultdict(float)
    for run, events in begun.items():
        hours[run[1]] += hours_within(events)
    found = progression.stops(engine, planted.ALL)
    assert found["mission"].to_list() == [mission for mission in GAME if players[mission]]
    for row in found.to_dict("records"):
        mission = row["mission"]
        assert row["players_started"] == len(players[mission])
        assert row["players_stopped"] == stopped[mission]
        assert row["hours"] == pytest.approx(hours[mission])
        assert row["left_per_100_hours"] == pytest.approx(100 * stopped[mission] / hours[mission])
        assert row["low"] <= row["left_per_100_hours"] <= row["high"]


def test_most_leave_at_the_spike_beyond_its_length(engine: Engine) -> None:
    """The planted spike is where most leave, and the interval of its rate lies above the rate elsewhere."""
    found = progression.stops(engine, planted.ALL)
    assert progression.worst_stop(found) == PLANTED.spike
    others = found[found["mission"] != PLANTED.spike]
    elsewhere = 100 * others["players_stopped"].sum() / others["hours"].sum()
    assert found.loc[found["mission"] == PLANTED.spike, "low"].item() > elsewhere
    assert PLANTED.spike in progression.stop_finding(found)


def test_who_leaves_at_the_spike_does_so_as_was_planted(engine: Engine) -> None:
    """After each event in it, those who were made to give up do with the planted chance, within its error."""
    found = progression.tries(engine, planted.ALL, PLANTED.spike)
    assert set(found.loc[found["has_left"], "player"]) == {
        player for player, run in left().items() if run[1] == PLANTED.spike
    }
    begun = [run for run, of in runs().items() if run[1] == PLANTED.spike and day_of(of[0]) <= GONE]
    assert len(found) == len(begun)
    gave_up = planted.known()["realised"]["left_at_spike"]
    # Who did in the last days cannot be told yet from who comes back.
    told = found[found["player"].map(planted.persona_of()).eq("quitter")]
    told = told[told["has_left"] | ~told["player"].isin(gave_up)]
    assert set(told["player"]) >= {player for player in gave_up if last_seen()[player] <= GONE}
    # At its end they are made to leave, whatever the chance.
    quit_there = told["player"].isin(gave_up) & (told["kills"] < SPIKE_KILLS)
    chance, events = PLANTED.quit_pct / 100, float(told["events"].sum())
    assert quit_there.sum() > 30
    assert quit_there.sum() / events == pytest.approx(
        chance, abs=planted.share_error(chance, events)
    )


def difficulty(*kills: float, runs_completed: int = 20) -> pd.DataFrame:
    """A game of missions that take so many kills, with those of the two before and after each."""
    series = pd.Series(kills, dtype="float64")
    around = [
        pd.concat(
            [series.iloc[max(place - 2, 0) : place], series.iloc[place + 1 : place + 3]]
        ).mean()
        for place in range(len(series))
    ]
    return pd.DataFrame(
        {
            "mission": pd.Series([f"M{n + 1}" for n in range(len(series))], dtype="str"),
            "runs_completed": pd.Series(runs_completed, index=series.index, dtype="int64"),
            "kills": series,
            "around_kills": pd.Series(around, dtype="float64"),
            "recharges": series / 10,
            "minutes": series / 5,
        }
    )


@pytest.mark.parametrize(
    ("game_of", "expected", "finding"),
    [
        ((), [], "No mission was completed"),
        ((10,), [], "No mission takes twice the kills of those around it"),
        ((10, 20, 30, 40, 50, 60), [], "No mission takes twice the kills of those around it"),
        ((10, 10, 20, 10, 10), ["M3"], "M3 takes 20 kills, 2.0 times those of the missions around it"),
        ((0, 0, 0.3, 0.1, 0.1), [], "No mission takes twice the kills of those around it"),
        (
            (10, 10, 50, 10, 10, 10, 40, 10, 10),
            ["M3", "M7"],
            "M3 and M7 take at least twice the kills of the missions around them",
        ),
    ],
)  # fmt: skip
def test_a_spike_is_twice_what_is_around_it(
    game_of: tuple[float, ...], expected: list[str], finding: str
) -> None:
    """A game that gets harder and harder has none, nor has one without kills; the worst comes first."""
    found = difficulty(*game_of)
    assert progression.spikes(found)["mission"].to_list() == expected
    assert progression.spike_finding(found) == finding


def test_one_lucky_run_is_no_spike() -> None:
    """The mean of a few runs says nothing of the mission."""
    few = difficulty(10, 10, 90, 10, 10, runs_completed=progression.FEWEST_RUNS - 1)
    assert progression.spikes(few).empty
    assert progression.spike_finding(few).endswith(
        "9.0 times the kills of the missions around it, in no more than 4 runs"
    )


@pytest.mark.parametrize(
    ("low", "players", "said"),
    [
        (13.7, 30, "9 of 30 who began it, 3.0 times as many per hour played as elsewhere"),
        (9.9, 30, "9 of 30 who began it, not clearly more per hour played than elsewhere"),
        (13.7, 9, "9 of 9 who began it"),
    ],
)
def test_a_rate_is_compared_where_chance_does_not_explain_it(
    low: float, players: int, said: str
) -> None:
    """A mission is blamed for more than its length only by enough players, and beyond the interval."""
    found = STOPS.assign(low=[1.2, low], players_started=[40, players])
    assert progression.stop_finding(found) == f"Most leave in B: {said}"


def test_a_name_from_elsewhere_is_drawn_as_it_is() -> None:
    """Dollars are no formula, and a long name is cut."""
    named = difficulty(9, 9).assign(mission=["$x_{1$ and much, much more of the same", "B"])
    with mpl.rc_context():
        style.use()
        axes = plots.difficulty(named)
        assert title_of(axes)
    (label, _) = axes.figure.axes[1].get_yticklabels()
    assert label.get_text() == "$x_{1$ and much, much mor…"


FUNNEL: Final = pd.DataFrame(
    {
        "mission": ["A", "B"],
        "players_started": [10, 6],
        "players_completed": [9, 2],
        "started_pct": [100.0, 60.0],
        "completed_pct": [90.0, 33.3],
        "newcomers": [10, 10],
    }
)
TIMES: Final = pd.DataFrame(
    {
        "mission": ["A", "B"],
        "players_started": [20, 12],
        **{
            f"hours_{p}": [0.0, hours] for p, hours in (("p25", 24.0), ("p50", 72.0), ("p75", 99.0))
        },
        **{f"played_{p}": [0.0, hours] for p, hours in (("p25", 1.0), ("p50", 1.5), ("p75", 2.0))},
    }
)
STOPS: Final = pd.DataFrame(
    {
        "mission": ["A", "B"],
        "players_started": [40, 30],
        "players_stopped": [2, 9],
        "stopped_pct": [5.0, 30.0],
        "hours": [20.0, 30.0],
        "left_per_100_hours": [10.0, 30.0],
        "low": [1.2, 13.7],
        "high": [36.1, 56.9],
    }
)
TRIES: Final = pd.DataFrame(
    {
        "player": ["a", "b", "c"],
        "playthrough": ["1", "1", "1"],
        "events": [12, 22, 60],
        "kills": [10, 21, 50],
        "is_completed": [False, False, True],
        "has_left": [True, True, False],
    }
)


def leaving(tries: pd.DataFrame) -> Axes:
    """The plot of one mission."""
    return plots.leaving(tries, "B")


def title_of(axes: Axes) -> str:
    """What stands above it."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    return figure.get_suptitle()


@pytest.mark.parametrize(
    ("draw", "frame", "title"),
    [
        (plots.funnel, FUNNEL, "B holds up the most newcomers: 4 of 6 who began it"),
        (plots.times, TIMES, "B comes after 1.5 h of play, spread over 3 days"),
        (plots.difficulty, difficulty(9, 9, 27, 9, 9), "M3 takes 27 kills, 3.0 times"),
        (plots.stops, STOPS, "Most leave in B: 9 of 30 who began it, 3.0 times as many per hour played"),
        (leaving, TRIES, "Half of the 2 who left in B had killed 15 enemies or fewer of the 50 it takes"),
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
        (plots.funnel, FUNNEL, ["No newcomer began", "A holds up the most newcomers: 1 of 10 who"]),
        (plots.times, TIMES, ["Nobody began", "Nobody has come further than A"]),
        (plots.difficulty, difficulty(9), ["No mission was completed", "No mission takes twice"]),
        (plots.stops, STOPS, ["Nobody can be missed yet", "Most leave in A: 2 of 40 who began it"]),
        (leaving, TRIES, ["Nobody has left in B", "The one who left in B had killed 10 enemies"]),
    ],
)  # fmt: skip
def test_nothing_and_one_row_are_drawn(
    draw: Callable[[pd.DataFrame], Axes], frame: pd.DataFrame, said: list[str]
) -> None:
    """A day on which nothing happened, or one thing, is a plot that says so."""
    for rows, title in enumerate(said):
        assert title_of(draw(frame.head(rows))).startswith(title)


def test_what_was_not_counted_is_left_out_of_a_plot() -> None:
    """Runs from before kills were counted are known to be completed, and no more."""
    unknown = difficulty(9, 9, 9).assign(kills=math.nan, around_kills=math.nan, recharges=math.nan)
    assert title_of(plots.difficulty(unknown)).startswith("No mission takes twice")
    uncounted = TRIES.assign(kills=pd.array([None, None, None], dtype="Int64"))
    assert title_of(leaving(uncounted)) == "Nobody has left in B"
