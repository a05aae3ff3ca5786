"""Progression, Karma and Economy, whatever is chosen and whatever is stored: an answer, of rollups alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from infamous.embedded.servers import Servers
from producer.simulate import DAY_MS, history, population
from tests.conftest import World
from tests.integration.consuming import now_ms
from tests.integration.dashboards import (
    ask,
    each_value,
    has,
    of_dashboards,
    roll_up,
    rolled_up,
    scanned,
    spec,
    store,
)
from tests.unit.samples import payload

PAGES: Final = ("progression", "karma", "economy")
QUERIES: Final = of_dashboards(*PAGES)
PLAYERS: Final = 12
DAYS: Final = 6
# What grows with players and days, and not with every event.
ROLLUPS: Final = {
    "daily_cohorts", "daily_missions", "daily_rollups", "daily_sessions", "hourly_items", "hourly_totals",
    "mission_parts", "mission_runs", "moral_choices", "player_days",
}  # fmt: skip
HOSTILE: Final = ("x'; drop table game_events; --", "{{ days }}", 'a"b\\c%s', "<b>%(x)s</b>")
# Of what details say, that which is shown.
NAMED: Final = ("mission", "district", "ability", "level", "choice", "side", "enemy")


@pytest.fixture(scope="module")
def past(servers: Servers, template: str) -> Iterator[World]:
    """A few days of a few players. Nobody changes it."""
    start_ms = (now_ms() // DAY_MS - DAYS) * DAY_MS
    players = population(3, PLAYERS, start_ms, DAYS)
    events = [event for _, event in history(players, start_ms + DAYS * DAY_MS)]
    yield from rolled_up(servers, template, events)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_what_it_shows(page: str) -> None:
    """Each query has a question as its description, a schedule, its page's tag and no free text."""
    assert spec().dashboards[page].name == page.title()
    for key in of_dashboards(page):
        query = spec().queries[key]
        assert "?" in query.description
        assert query.schedule is not None
        assert key == "last_days" or page in query.tags
        for parameter in query.parameters:
            assert parameter.type in {"enum", "query"}


@pytest.mark.parametrize("key", QUERIES)
def test_every_value_gives_an_answer(past: World, key: str) -> None:
    """Whatever is chosen of a list, the query runs and keeps its promise."""
    for values in each_value(past, key):
        ask(past, key, **values)


@pytest.mark.parametrize("key", QUERIES)
def test_the_past_is_read_from_rollups(past: World, key: str) -> None:
    """However much is stored, no raw event is read."""
    query = spec().queries[key]
    chosen: list[dict[str, str]] = [{}]
    if has(query, "days"):
        chosen.append({"days": "365"})
    if has(query, "side"):
        chosen.append({"side": "villain", "until": ask(past, "last_days")[2]["value"]})
    for values in chosen:
        assert scanned(past, key, **values)
        assert scanned(past, key, **values) <= ROLLUPS


@pytest.mark.parametrize("key", QUERIES)
def test_nothing_is_no_error(world: World, key: str) -> None:
    """Before the first event a dashboard is empty, not broken."""
    counts = ("players", "players_started", "choices", "events", "kills", "recharges", "upgrades")
    for values in [{}, {"side": "hero"}] if has(spec().queries[key], "side") else [{}]:
        rows = ask(world, key, **values)
        assert not any(row.get(name) for row in rows for name in counts)


@pytest.mark.parametrize("details", [None, {}, {"mission": "M", "playthrough": "x"}])
def test_one_event_is_no_error(world: World, details: Any) -> None:
    """One kill of one player, who says little of it, divides nothing by zero."""
    store(world, [payload(now_ms() - DAY_MS, player="Zeke", details=details)])
    roll_up(world)
    for key in QUERIES:
        for values in each_value(world, key):
            ask(world, key, **values)
    (totals,) = ask(world, "xp_totals")
    assert (totals["earned_xp"], totals["hours_played"], totals["xp_per_hour"]) == (5, 0, None)
    (karma,) = ask(world, "karma_totals")
    assert (karma["players"], karma["civilians_per_100_kills"]) == (1, 0)


def test_what_senders_write_is_no_sql(world: World) -> None:
    """Names and details of any kind are counted like others, and nothing of them is run."""
    said: dict[str, dict[str, Any]] = {
        "kill_enemy": {},
        "recharge": {"energy_source": HOSTILE[0]},
        "mission_complete": {},
        "moral_choice": {},
        "ability_upgrade": {"xp_delta": -1},
    }
    store(
        world,
        [
            payload(
                now_ms() - DAY_MS + n, 100 * number + n, player=name, action=action, **more,
                details=dict.fromkeys(NAMED, name),
            )
            for number, name in enumerate(HOSTILE, start=1)
            for n, (action, more) in enumerate(said.items())
        ],
    )  # fmt: skip
    roll_up(world)
    for key in QUERIES:
        for values in each_value(world, key):
            ask(world, key, **values)
    assert {row["mission"] for row in ask(world, "mission_funnel")} == set(HOSTILE)
    assert {row["district"] for row in ask(world, "energy_sources")} == set(HOSTILE)
    assert {row["ability"] for row in ask(world, "ability_upgrades")} == set(HOSTILE)
    assert world.count("game_events") == len(HOSTILE) * len(said)
