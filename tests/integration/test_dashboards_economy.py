"""The dashboard Economy: XP and energy are those that were earned, spent and drained."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import pytest

from infamous.embedded.servers import Servers
from pipeline.event import ACTIONS, Event
from producer.simulate import HOUR_MS
from producer.truth import SESSION_GAP_MS
from tests.conftest import World
from tests.integration import played
from tests.integration.dashboards import ask, roll_up, rolled_up, store
from tests.integration.played import ALL, DAY, FIRST, LAST
from tests.unit.samples import payload

HOUR: Final = timedelta(hours=1)
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


def hours_played() -> dict[date, float]:
    """Of each day, how long the sessions were that began on it."""
    hours: defaultdict[date, float] = defaultdict(float)
    for of in played.grouped(played.events(), lambda event: event.player).values():
        session = of[0]
        for before, event in zip(of, [*of[1:], None], strict=True):
            if event is None or event.ts_ms - before.ts_ms > SESSION_GAP_MS:
                hours[played.day_of(session)] += (before.ts_ms - session.ts_ms) / HOUR_MS
                session = event or session
    return hours


def xp_by_action(events: list[Event]) -> Counter[str]:
    """The sum of what each kind of action moved."""
    xp: Counter[str] = Counter()
    for event in events:
        xp[event.action] += event.xp_delta
    return xp


# --- XP


@pytest.mark.parametrize(("days", "last"), WINDOWS)
def test_xp_of_each_day(past: World, days: str, last: date) -> None:
    """What each kind of action brought or cost on a day, and what that is an hour played; zeros included."""
    first, _ = window(days, last)
    hours = hours_played()
    rows = ask(past, "daily_xp", days=days, until=str(last))
    assert [row["day"] for row in rows] == [first + n * DAY for n in range(int(days))]
    for row in rows:
        xp = xp_by_action(played.between(row["day"], row["day"]))
        spent = xp["ability_upgrade"]
        assert {action: row[f"{action}_xp"] for action in ACTIONS} == {a: xp[a] for a in ACTIONS}
        assert (row["net_xp"], row["earned_xp"]) == (xp.total(), xp.total() - spent)
        assert row["hours_played"] == pytest.approx(hours[row["day"]])
        if hours[row["day"]]:
            assert row["xp_per_hour"] == pytest.approx(row["earned_xp"] / hours[row["day"]])
        else:
            assert row["xp_per_hour"] is None


def test_xp_is_the_simulators_own(past: World) -> None:
    """All that was earned by action, all that was spent, and what is left in the players' hands."""
    known = played.realised()["xp"]
    rows = ask(past, "daily_xp", days=ALL)
    earned = {
        action: sum(row[f"{action}_xp"] for row in rows)
        for action in ACTIONS
        if action != "ability_upgrade"
    }
    assert {action: xp for action, xp in earned.items() if xp} == known["earned_by_action"]
    assert -sum(row["ability_upgrade_xp"] for row in rows) == sum(
        known["spent_by_ability"].values()
    )
    assert sum(row["net_xp"] for row in rows) == known["balance"]


@pytest.mark.parametrize(("days", "last"), WINDOWS)
def test_xp_in_numbers(past: World, days: str, last: date) -> None:
    """The window altogether."""
    first, _ = window(days, last)
    xp = xp_by_action(played.between(first, last))
    spent = -xp["ability_upgrade"]
    earned = xp.total() + spent
    hours = sum(length for day, length in hours_played().items() if first <= day <= last)
    assert ask(past, "xp_totals", days=days, until=str(last)) == [
        {
            "earned_xp": earned,
            "spent_xp": spent,
            "net_xp": earned - spent,
            "spent_pct": pytest.approx(100 * spent / earned),
            "hours_played": pytest.approx(hours),
            "xp_per_hour": pytest.approx(earned / hours),
        }
    ]


def quantile(values: list[int], share: float) -> float:
    """The value at that share of the way, between two if need be."""
    place = share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)


@pytest.mark.parametrize(("days", "last"), WINDOWS)
def test_xp_in_hand_by_missions_completed(past: World, days: str, last: date) -> None:
    """What the active hold of all they ever earned, by how many runs they have completed."""
    first, _ = window(days, last)
    held: Counter[str] = Counter()
    for event in played.between(FIRST, last):
        held[event.player] += event.xp_delta
    won = Counter(run.player for run in played.runs() if run.completed_on(last))
    active = {event.player for event in played.between(first, last)}
    bands = played.grouped(active, lambda player: min(-(-won[player] // 5), 8))
    names = ["none", *(f"{5 * n + 1} to {5 * n + 5}" for n in range(7)), "36 and more"]
    expected = []
    for band, players in sorted(bands.items()):
        values = sorted(held[player] for player in players)
        expected.append(
            {
                "missions": names[band],
                "players": len(players),
                "xp_p50": pytest.approx(quantile(values, 0.5)),
                "xp_p90": pytest.approx(quantile(values, 0.9)),
            }
        )
    assert ask(past, "xp_balances", days=days, until=str(last)) == expected
    assert len(expected) > 2


# --- energy


@pytest.mark.parametrize(("days", "last"), WINDOWS)
def test_energy_by_district_and_source(past: World, days: str, last: date) -> None:
    """What was drained where, each source in each district, those that nobody drained included."""
    drained: Counter[tuple[str, str]] = Counter()
    districts: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    for event in played.between(*window(days, last)):
        if event.energy_source is not None:
            district = played.details(event)["district"]
            drained[district, event.energy_source] += 1
            districts[district] += 1
            sources[event.energy_source] += 1
    assert ask(past, "energy_sources", days=days, until=str(last)) == [
        {
            "district": district,
            "source": source,
            "recharges": drained[district, source],
            "district_pct": pytest.approx(100 * drained[district, source] / districts[district]),
        }
        for district in sorted(districts, key=lambda name: (-districts[name], name))
        for source in sorted(sources, key=lambda name: (-sources[name], name))
    ]
    assert drained


def test_energy_is_the_simulators_own(past: World) -> None:
    """All recharges by source."""
    found: Counter[str] = Counter()
    for row in ask(past, "energy_sources", days=ALL):
        found[row["source"]] += row["recharges"]
    assert found == played.realised()["recharges_by_source"]


@pytest.mark.parametrize(("days", "last"), WINDOWS)
def test_recharges_beside_kills_by_district(past: World, days: str, last: date) -> None:
    """Recharges for a hundred enemies killed."""
    counts: Counter[tuple[str, str]] = Counter()
    for event in played.between(*window(days, last)):
        counts[played.details(event)["district"], event.action] += 1
    expected: list[dict[str, Any]] = [
        {
            "district": district,
            "kills": counts[district, "kill_enemy"],
            "recharges": counts[district, "recharge"],
            "recharges_per_100_kills": pytest.approx(
                100 * counts[district, "recharge"] / counts[district, "kill_enemy"]
            ),
        }
        for district in {district for district, _ in counts}
    ]
    expected.sort(key=lambda row: -row["kills"] - row["recharges"])
    assert ask(past, "district_recharges", days=days, until=str(last)) == expected


# --- hours


@pytest.mark.parametrize(
    ("days", "last"), [pytest.param("7", LAST, id="latest"), ("7", LAST - 4 * DAY), ("90", LAST)]
)
def test_hourly_rates_are_those_of_the_events(past: World, days: str, last: date) -> None:
    """Each hour and kind of action, zeros included, up to the last hour of the day with data."""

    def hour_of(event: Event) -> datetime:
        return datetime.fromtimestamp(event.ts_ms // HOUR_MS * 3600, UTC)

    until = datetime.combine(last + DAY, time(), UTC)
    hours = [hour for event in played.events() if (hour := hour_of(event)) < until]
    end = min(max(map(hour_of, played.events())), until - HOUR)
    begin = max(min(hours), end - (24 * int(days) - 1) * HOUR)
    sums: dict[tuple[datetime, str], Counter[str]] = {}
    for event in played.events():
        if begin <= hour_of(event) <= end:
            of_hour = sums.setdefault((hour_of(event), event.action), Counter())
            of_hour.update(events=1, xp_delta=event.xp_delta, karma_delta=event.karma_delta)
    actions = sorted({action for _, action in sums})
    value = "latest" if last == LAST else str(last)
    rows = ask(past, "hourly_rates", days=days, until=value)
    found = {(row.pop("hour").astimezone(UTC), row.pop("action")): row for row in rows}
    assert list(found) == [
        (begin + n * HOUR, action) for n in range((end - begin) // HOUR + 1) for action in actions
    ]
    assert {key: row for key, row in found.items() if row["events"]} == sums
    assert not any(any(row.values()) for key, row in found.items() if key not in sums)


# --- what senders of their own say


def test_names_that_are_not_told_or_too_many(world: World) -> None:
    """An event without details is counted as not told; of very many names those with the most are shown."""
    at = played.START_MS
    said: list[dict[str, Any]] = [
        {"action": "recharge", "energy_source": None, "details": None},
        *(
            {"action": "recharge", "energy_source": f"s{n:02}", "details": {"district": f"d{n:02}"}}
            for n in range(40)
        ),
        {"action": "recharge", "energy_source": "s07", "details": {"district": "d07"}},
        {"action": "ability_upgrade", "xp_delta": 0, "details": {"ability": ["a"], "level": {"x": 1}}},
        {"action": "ability_upgrade", "xp_delta": 7, "details": None},
        {"action": "kill_enemy", "details": {"district": "d07"}},
    ]  # fmt: skip
    store(world, [payload(at + n, n + 1, player="Zeke", **one) for n, one in enumerate(said)])
    roll_up(world)
    energy = ask(world, "energy_sources")
    assert len(energy) == 12 * 15
    assert (energy[0]["district"], energy[0]["source"], energy[0]["recharges"]) == ("d07", "s07", 2)
    assert "(not told)" in {row["district"] for row in energy}
    rows = {row["district"]: row for row in ask(world, "district_recharges")}
    assert len(rows) == 30
    assert rows["d07"]["recharges_per_100_kills"] == 200
    assert rows["(not told)"]["recharges_per_100_kills"] is None
    bought = {(row["ability"], row["level"]): row for row in ask(world, "ability_upgrades")}
    assert bought['["a"]', 'level {"x": 1}']["upgrades"] == 1
    # A sender may give XP for an upgrade: then it is spent the other way round.
    assert bought["(not told)", "(not told)"]["xp_spent"] == -7
    (totals,) = ask(world, "xp_totals")
    assert (totals["earned_xp"], totals["spent_xp"], totals["net_xp"]) == (5 * 43, -7, 5 * 43 + 7)
