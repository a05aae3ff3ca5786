"""The truth agrees with the events, and the events with what was planted."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise
from math import sqrt
from typing import Any

import msgspec
import pytest

from pipeline.event import Event
from producer import game
from producer.simulate import COLE, DAY_MS, PLANTED, history, population
from producer.truth import SESSION_GAP_MS, truth

START_MS = 1_790_035_200_000  # a midnight, UTC


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    """Two weeks of 80 players."""
    return truth(3, 80, START_MS, 14)


@pytest.fixture(scope="module")
def events() -> list[Event]:
    """The events that ``small`` speaks of."""
    return [event for _, event in history(population(3, 80, START_MS, 14), START_MS + 14 * DAY_MS)]


@pytest.fixture(scope="module")
def large() -> dict[str, Any]:
    """Enough players for a curve to show: two weeks of 2000."""
    return truth(11, 2000, START_MS, 14)


def test_it_is_json_and_always_the_same(small: dict[str, Any]) -> None:
    """The truth can be stored beside the data, and asked for again later."""
    assert json.loads(json.dumps(small)) == small
    assert truth(3, 80, START_MS, 14) == small


def test_it_counts_what_the_events_say(small: dict[str, Any], events: list[Event]) -> None:
    """A dashboard that counts the events gets the realised numbers, to the last one."""
    realised = small["realised"]
    assert realised["events"] == len(events)
    actions = Counter(event.action for event in events)
    assert Counter(realised["events_by_action"]) == actions
    sources = Counter(event.energy_source for event in events if event.energy_source)
    assert realised["recharges_by_source"] == sources
    earned: Counter[str] = Counter()
    for event in events:
        if event.xp_delta > 0:
            earned[event.action] += event.xp_delta
    assert realised["xp"]["earned_by_action"] == earned
    spent = sum(realised["xp"]["spent_by_ability"].values())
    assert realised["xp"]["balance"] == earned.total() - spent


def test_it_sees_the_missions_that_the_events_show(
    small: dict[str, Any], events: list[Event]
) -> None:
    """Started, completed and their kills can be found from details alone."""
    started: set[tuple[str, int, str]] = set()
    counts: Counter[tuple[str, str]] = Counter()
    for event in events:
        details = msgspec.json.decode(event.details)
        started.add((event.player, details["playthrough"], details["mission"]))
        counts[details["mission"], event.action] += 1
    begun = Counter(mission for _, _, mission in started)
    missions = small["realised"]["missions"]
    assert [m["mission"] for m in missions] == [m.name for m in game.MISSIONS]
    for row in missions:
        name = row["mission"]
        assert row["started"] == begun[name]
        assert row["completed"] == counts[name, "mission_complete"]
        assert row["kills"] == counts[name, "kill_enemy"]
        assert row["recharges"] == counts[name, "recharge"]


def test_it_sees_the_days_and_sessions_of_the_events(
    small: dict[str, Any], events: list[Event]
) -> None:
    """Active players, retention and sessions follow from player and time alone."""
    days: dict[str, set[int]] = defaultdict(set)
    times: dict[str, list[int]] = defaultdict(list)
    for event in events:
        days[event.player].add((event.ts_ms - START_MS) // DAY_MS)
        times[event.player].append(event.ts_ms)
    realised = small["realised"]
    active = Counter(day for seen in days.values() for day in seen)
    assert realised["active_players_by_day"] == [active[day] for day in range(14)]
    arrivals = Counter(min(seen) for seen in days.values())
    assert realised["arrivals_by_day"] == [arrivals[day] for day in range(14)]
    for row in realised["retention"]["all"]:
        eligible = [seen for seen in days.values() if min(seen) + row["day"] < 14]
        assert row["eligible"] == len(eligible)
        assert row["active"] == sum(min(seen) + row["day"] in seen for seen in eligible)
    sessions = sum(
        1 + sum(b - a > SESSION_GAP_MS for a, b in pairwise(line)) for line in times.values()
    )
    assert realised["sessions"]["count"] == sessions


@pytest.mark.parametrize("who", ["all", "hero", "villain", "wavering", "quitter"])
@pytest.mark.parametrize("day", [1, 3, 7])
def test_retention_is_what_was_planted(large: dict[str, Any], who: str, day: int) -> None:
    """D1, D3 and D7 come out as planted, within four standard errors."""
    row = large["realised"]["retention"][who][day]
    share = row["expected"] / row["eligible"]
    error = sqrt(row["eligible"] * share * (1 - share))
    assert abs(row["active"] - row["expected"]) < 4 * error
    assert row["expected"] < row["planted"] or who not in {"all", "quitter"}


def test_retention_is_plausible(large: dict[str, Any]) -> None:
    """The curve looks like that of a decent game: D1 over 40%, D7 around 20%."""
    rows = large["realised"]["retention"]["all"]
    assert rows[0]["active"] == rows[0]["eligible"] == 2000
    assert 0.38 < rows[1]["active"] / rows[1]["eligible"] < 0.47
    assert 0.16 < rows[7]["active"] / rows[7]["eligible"] < 0.24


def test_the_spike_stands_out(large: dict[str, Any]) -> None:
    """One mission takes three times the kills and recharges of those around it, and loses players."""
    story = [m for m in large["realised"]["missions"] if m["kind"] == "story"]
    at = next(i for i, m in enumerate(story) if m["spike"])
    before, spike, after = story[at - 1 : at + 2]
    assert spike["mission"] == PLANTED.spike
    for key in ("kills_per_completion", "recharges_per_completion"):
        around = (before[key] + after[key]) / 2
        assert 2.5 < spike[key] / around < 3.5
    rates = [m["completed"] / m["started"] for m in (before, spike, after)]
    assert rates[1] < min(rates[0], rates[2]) - 0.1
    left = large["realised"]["left_at_spike"]
    assert spike["started"] - spike["completed"] >= len(left) > 100


def test_personas_come_in_the_planted_mix(large: dict[str, Any]) -> None:
    """The population is mixed as planted, within four standard errors."""
    counts = large["realised"]["players"]["by_persona"]
    for name, character in PLANTED.personas.items():
        share = character.share_pct / 100
        assert abs(counts[name] - 2000 * share) < 4 * sqrt(2000 * share * (1 - share))
    assert large["realised"]["players"]["persona_of"][COLE] == "wavering"


def test_sessions_last_as_on_a_console(large: dict[str, Any]) -> None:
    """A session takes a quarter of an hour or so."""
    assert 8 * 60 < large["realised"]["sessions"]["median_length_s"] < 20 * 60


@pytest.mark.parametrize(("size", "days"), [(0, 30), (5, 0), (1, 1)])
def test_little_or_nothing_has_a_truth_too(size: int, days: int) -> None:
    """An empty window or population gives zeros and nulls, not an error."""
    answer = truth(1, size, START_MS, days)
    assert (answer["realised"]["events"] == 0) == (size * days == 0)
    json.dumps(answer, allow_nan=False)
