"""The dashboard Players and the lists of values: what they answer is what was played, to the last player."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any, Final

import pytest

from infamous.embedded.servers import Servers
from pipeline.event import Event
from producer.simulate import DAY_MS, history, population
from producer.truth import SESSION_GAP_MS, truth
from tests.conftest import World
from tests.integration.consuming import now_ms
from tests.integration.dashboards import (
    SIDES,
    Row,
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

QUERIES: Final = of_dashboards("players")
SEED: Final = 7
PLAYERS: Final = 30
DAYS: Final = 40
DAY: Final = timedelta(days=1)
# The last whole day of the history is yesterday.
START_MS: Final = (now_ms() // DAY_MS - DAYS) * DAY_MS
FIRST: Final = datetime.fromtimestamp(START_MS / 1000, UTC).date()
LAST: Final = FIRST + (DAYS - 1) * DAY
ALL: Final = "90"  # days, more than were played
HOSTILE: Final = ("x'; drop table game_events; --", "{{ days }}", 'a"b\\c%s', "<b>%(x)s</b>")


@pytest.fixture(scope="module")
def played() -> list[Event]:
    """Forty days of thirty players."""
    players = population(SEED, PLAYERS, START_MS, DAYS)
    return [event for _, event in history(players, START_MS + DAYS * DAY_MS)]


@pytest.fixture(scope="module")
def past(servers: Servers, template: str, played: list[Event]) -> Iterator[World]:
    """A world with that history, rolled up. Nobody changes it."""
    yield from rolled_up(servers, template, played)


@pytest.fixture(scope="module")
def realised() -> dict[str, Any]:
    """What the simulator knows of it."""
    found: dict[str, Any] = truth(SEED, PLAYERS, START_MS, DAYS)["realised"]
    return found


def day_of(event: Event) -> date:
    """The UTC day on which it happened."""
    return FIRST + timedelta(days=(event.ts_ms - START_MS) // DAY_MS)


def active_days(played: list[Event]) -> dict[str, set[date]]:
    """The days on which each player did anything."""
    days: defaultdict[str, set[date]] = defaultdict(set)
    for event in played:
        days[event.player].add(day_of(event))
    return days


def sides(played: list[Event], until: date) -> dict[str, str]:
    """Each player's side by the rank of its last event up to a day."""
    ranks = {event.player: event.rank for event in played if day_of(event) <= until}
    side = dict.fromkeys(("Guardian", "Champion", "Hero"), "hero")
    side |= dict.fromkeys(("Thug", "Outlaw", "Infamous"), "villain")
    return {player: side.get(rank, "neutral") for player, rank in ranks.items()}


def kept_to(played: list[Event], side: str, until: date) -> list[Event]:
    """What was played up to a day by those of a side."""
    of = sides(played, until)
    return [e for e in played if day_of(e) <= until and side in ("everyone", of[e.player])]


def at(moment: datetime) -> int:
    """Unix milliseconds."""
    return int(moment.timestamp() * 1000)


# --- equal to the truth


def test_active_players_are_those_who_played(past: World, realised: dict[str, Any]) -> None:
    """Daily actives and new players are the simulator's own numbers, also of days before anybody played."""
    rows = ask(past, "daily_actives", days=ALL)
    assert [row["day"] for row in rows] == [LAST - n * DAY for n in range(int(ALL))]
    by_day = {row["day"]: row for row in rows}
    days = [by_day[FIRST + n * DAY] for n in range(DAYS)]
    assert [row["active_players"] for row in days] == realised["active_players_by_day"]
    assert [row["new_players"] for row in days] == realised["arrivals_by_day"]
    assert all(r["active_players"] - r["new_players"] == r["returning_players"] for r in rows)
    before = [row for row in rows if row["day"] < FIRST]
    assert before
    assert {
        (r["active_players"], r["active_players_30_days"], r["stickiness_pct"]) for r in before
    } == {(0, 0, None)}


@pytest.mark.parametrize("side", ["everyone", *SIDES])
@pytest.mark.parametrize(("until", "length"), [(LAST, 7), (LAST - 17 * DAY, 30)])
def test_a_player_counts_once_in_seven_and_thirty_days(
    past: World, played: list[Event], side: str, until: date, length: int
) -> None:
    """WAU and MAU are distinct players, however often each came, of whichever side and window."""
    active = active_days(kept_to(played, side, until))

    def distinct(day: date, days_back: int) -> int:
        span = {day - n * DAY for n in range(days_back)}
        return sum(bool(days & span) for days in active.values())

    rows = ask(past, "daily_actives", days=str(length), until=str(until), side=side)
    assert len(rows) == length
    for row in rows:
        day, daily, monthly = row["day"], distinct(row["day"], 1), distinct(row["day"], 30)
        assert row["active_players"] == daily
        assert row["new_players"] == sum(min(days) == day for days in active.values())
        assert row["active_players_7_days"] == distinct(day, 7)
        assert row["active_players_30_days"] == monthly
        assert row["active_players_week_before"] == distinct(day - 7 * DAY, 1)
        share = 100 * daily / monthly if monthly else None
        assert row["stickiness_pct"] == pytest.approx(share, abs=0.005)


def test_retention_is_what_was_planted(past: World, realised: dict[str, Any]) -> None:
    """Of all who have had their nth day, those who played on it: the simulator's own counts, day 0 to 30."""
    rows = ask(past, "retention_curve", days=ALL)
    assert [
        {"day": r["days_since"], "eligible": r["players"], "active": r["active_players"]}
        for r in rows
    ] == [
        {key: row[key] for key in ("day", "eligible", "active")}
        for row in realised["retention"]["all"]
    ]
    assert rows[30]["players"] > 0
    for row in rows:
        assert row["active_pct"] == pytest.approx(
            100 * row["active_players"] / row["players"], abs=0.005
        )


@pytest.mark.parametrize("side", ["everyone", "hero"])
def test_retention_of_a_window_counts_the_days_in_it(
    past: World, played: list[Event], side: str
) -> None:
    """A window of a week shows how many were back on their nth day in that week, for each n."""
    until = LAST - 5 * DAY
    active = active_days(kept_to(played, side, until))
    window = [until - n * DAY for n in range(7)]
    for row in ask(past, "retention_curve", days="7", until=str(until), side=side):
        since = row["days_since"] * DAY
        had = [days for days in active.values() if min(days) + since in window]
        assert row["players"] == len(had)
        assert row["active_players"] == sum(min(days) + since in days for days in had)


@pytest.mark.parametrize("days", [30, 90])
def test_cohorts_are_who_came_on_a_day(past: World, played: list[Event], days: int) -> None:
    """Each cohort has a row for each day that it has had, and no more; who came never changes with it."""
    active = active_days(played)
    came = Counter(min(days) for days in active.values())
    first = LAST - (days - 1) * DAY
    expected = [
        (day, n, came[day], sum(min(on) == day and day + n * DAY in on for on in active.values()))
        for day in sorted(came)
        if day >= first
        for n in range(1, 31)
        if day + n * DAY <= LAST
    ]
    rows = ask(past, "retention", days=str(days))
    assert [
        (r["cohort"], r["days_since"], r["players"], r["active_players"]) for r in rows
    ] == expected
    assert all(
        row["active_pct"] == pytest.approx(100 * row["active_players"] / row["players"], abs=0.005)
        for row in rows
    )


def test_sessions_are_those_that_were_played(
    past: World, played: list[Event], realised: dict[str, Any]
) -> None:
    """Their number and mean length are the simulator's; by day they are those of a recount."""
    rows = ask(past, "sessions", days=ALL)
    known = realised["sessions"]
    assert sum(row["sessions"] for row in rows) == known["count"]
    seconds = sum(60 * row["minutes_mean"] * row["sessions"] for row in rows if row["sessions"])
    assert seconds / known["count"] == pytest.approx(known["mean_length_s"], abs=0.001)
    lengths: defaultdict[date, list[float]] = defaultdict(list)
    players: defaultdict[date, set[str]] = defaultdict(set)
    by_player: defaultdict[str, list[Event]] = defaultdict(list)
    for event in played:
        by_player[event.player].append(event)
    for name, events in by_player.items():
        breaks = [
            n + 1 for n, (a, b) in enumerate(pairwise(events)) if b.ts_ms - a.ts_ms > SESSION_GAP_MS
        ]
        for begin, end in pairwise([0, *breaks, len(events)]):
            day = day_of(events[begin])
            lengths[day].append((events[end - 1].ts_ms - events[begin].ts_ms) / 60_000)
            players[day].add(name)
    for row in rows:
        day = row["day"]
        assert (row["sessions"], row["players"]) == (len(lengths[day]), len(players[day]))
        if not lengths[day]:
            assert row["sessions_per_player"] is row["minutes_p50"] is row["minutes_mean"] is None
            continue
        assert row["minutes_p50"] == pytest.approx(median(lengths[day]))
        assert row["sessions_per_player"] == pytest.approx(
            len(lengths[day]) / len(players[day]), abs=0.0005
        )


@pytest.mark.parametrize("side", ["everyone", "villain"])
def test_the_most_active_are_those_with_the_most_events(
    past: World, played: list[Event], side: str
) -> None:
    """Players in the order of what they did in the window, with where they stand."""
    until = LAST - 2 * DAY
    known = kept_to(played, side, until)
    first_days = {player: min(days) for player, days in active_days(known).items()}
    window = [event for event in known if day_of(event) > until - 14 * DAY]
    last = {event.player: event for event in window}
    events, xp = Counter(event.player for event in window), Counter[str]()
    for event in window:
        xp[event.player] += event.xp_delta
    expected = [
        {
            "player": player,
            "events": count,
            "days_active": len(active_days(window)[player]),
            "rank": last[player].rank,
            "karma": last[player].karma_total,
            "xp_earned_net": xp[player],
            "first_day": first_days[player],
            "last_day": day_of(last[player]),
        }
        for player, count in sorted(events.items(), key=lambda item: (-item[1], item[0]))
    ][:50]
    assert ask(past, "top_players", days="14", until=str(until), side=side) == expected
    assert expected


def test_who_did_the_least_drops_out_first(world: World) -> None:
    """Of more players than a table takes, those with the most events are shown."""
    old_ms = now_ms() - DAY_MS
    many = [payload(old_ms + n, n, player=f"Conduit {n // 2:02}") for n in range(100)]
    store(world, [*many, payload(old_ms, 100, player="Aaron")])
    roll_up(world)
    assert [row["player"] for row in ask(world, "top_players")] == [
        f"Conduit {number:02}" for number in range(50)
    ]


# --- the lists of values


def test_days_to_choose_from_are_those_with_data(past: World, played: list[Event]) -> None:
    """The newest first, behind the word for it."""
    days = sorted({day_of(event) for event in played}, reverse=True)
    values = ["latest", *map(str, days)]
    assert ask(past, "last_days") == [{"name": value, "value": value} for value in values]


def test_players_to_choose_from_are_those_of_late(past: World, played: list[Event]) -> None:
    """The busiest first; the value of a name is a digest of it, so no name gets into SQL."""
    counts = Counter(event.player for event in played if day_of(event) > LAST - 7 * DAY)
    names = sorted(counts, key=lambda name: (-counts[name], name))
    assert ask(past, "players") == [
        {"name": "the busiest today", "value": "busiest"},
        *({"name": name, "value": hashlib.md5(name.encode()).hexdigest()} for name in names),  # noqa: S324
    ]


# --- whatever is chosen


@pytest.mark.parametrize("key", QUERIES)
def test_every_value_gives_an_answer(past: World, key: str) -> None:
    """Whatever is chosen of a list, the query runs and keeps its promise."""
    for values in each_value(past, key):
        ask(past, key, **values)


@pytest.mark.parametrize(
    ("key", "columns"),
    [
        ("daily_actives", ("active_players", "active_players_7_days", "active_players_30_days")),
        ("retention_curve", ("players", "active_players")),
        ("retention", ("active_players",)),
        ("top_players", ("events", "xp_earned_net")),
    ],
)  # fmt: skip
def test_the_sides_sum_up_to_everyone(past: World, key: str, columns: tuple[str, ...]) -> None:
    """Each player is of one side, of none twice, and of none not at all."""

    def sums(rows: list[Row]) -> Counter[str]:
        return Counter({name: sum(row[name] for row in rows) for name in columns})

    for until in ("latest", str(LAST - 20 * DAY)):
        parts = [sums(ask(past, key, side=side, until=until)) for side in SIDES]
        assert sum(parts, Counter()) == sums(ask(past, key, until=until))


@pytest.mark.parametrize("key", QUERIES)
def test_the_past_is_read_from_rollups(past: World, key: str) -> None:
    """However much is stored, no raw event is read."""
    query = spec().queries[key]
    for values in ({"days": "365"} if has(query, "days") else {}, {}):
        tables = scanned(past, key, **values)
        assert tables
        assert tables <= {"player_days", "daily_cohorts", "daily_sessions"}


# --- little, late and strange


@pytest.mark.parametrize("key", QUERIES)
def test_nothing_is_no_error(world: World, key: str) -> None:
    """Before the first event a dashboard is empty, not broken."""
    rows = ask(world, key)
    assert not any(row.get("players") or row.get("active_players") for row in rows)
    if has(spec().queries[key], "side"):
        ask(world, key, side="hero")


def test_today_is_not_over(world: World) -> None:
    """What still grows is shown where it is a count, and left out where it would be a verdict."""
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    store(
        world,
        [
            payload(at(midnight - DAY + timedelta(hours=3)), 1, player="Zeke"),
            payload(at(midnight - 2 * DAY), 2, player="Zeke"),
            payload(at(midnight), 3, player="Moya"),
        ],
    )
    roll_up(world)
    today = midnight.date()
    rows = ask(world, "daily_actives", days="7")
    # A counter shows the first row.
    assert [row["day"] for row in rows] == [today - n * DAY for n in (1, 2, 3, 4, 5, 6, 0)]
    assert (rows[0]["active_players"], rows[0]["stickiness_pct"]) == (1, 100)
    assert (rows[-1]["active_players"], rows[-1]["new_players"]) == (1, 1)
    assert (rows[-1]["active_players_7_days"], rows[-1]["stickiness_pct"]) == (2, None)
    curve = ask(world, "retention_curve", days="7")
    assert [(row["players"], row["active_players"]) for row in curve[:3]] == [
        (1, 1),
        (1, 1),
        (0, 0),
    ]
    (cohort,) = ask(world, "retention", days="7")
    assert (cohort["cohort"], cohort["days_since"], cohort["active_players"]) == (
        today - 2 * DAY,
        1,
        1,
    )


def test_a_side_begins_where_its_first_rank_does(world: World) -> None:
    """A Guardian is a hero and a Thug a villain, by no point of karma more or less."""
    karma = {"Guardian": 15, "almost": 14, "hardly": -14, "Thug": -15}
    store(
        world,
        [
            payload(
                now_ms() - DAY_MS, n, player=name, karma_total=total,
                rank=name if abs(total) == 15 else "Neutral",
            )
            for n, (name, total) in enumerate(karma.items())
        ],
    )  # fmt: skip
    roll_up(world)
    found = {
        side: [row["player"] for row in ask(world, "top_players", side=side)] for side in SIDES
    }
    assert found == {"hero": ["Guardian"], "neutral": ["almost", "hardly"], "villain": ["Thug"]}


def test_a_player_of_unknown_karma_is_neutral(world: World) -> None:
    """Old rollups do not know karma where the raw events are gone: the player is counted all the same."""
    store(
        world, [payload(now_ms() - 2 * DAY_MS, 1, player="Zeke", karma_total=50, rank="Champion")]
    )
    roll_up(world)
    assert [len(ask(world, "top_players", side=side)) for side in SIDES] == [1, 0, 0]
    with world.engine.begin() as connection:
        connection.exec_driver_sql("update player_days set karma_total = null, rank = null")
    assert [len(ask(world, "top_players", side=side)) for side in SIDES] == [0, 1, 0]


@pytest.mark.parametrize("key", QUERIES)
def test_what_senders_write_is_no_sql(world: World, key: str) -> None:
    """Names and details of any kind are counted like others, and nothing of them is run."""
    details: list[Any] = [
        None,
        {},
        {"mission": {"a": [1]}},
        {"mission": "'; drop table player_days; --"},
    ]
    store(
        world,
        [
            payload(now_ms() - DAY_MS - n, n + 1, player=name, details=details[n])
            for n, name in enumerate(HOSTILE)
        ],
    )
    roll_up(world)
    for values in each_value(world, key):
        ask(world, key, **values)
    assert {row["name"] for row in ask(world, "players")} == {"the busiest today", *HOSTILE}
    assert {row["player"] for row in ask(world, "top_players")} == set(HOSTILE)
    assert world.count("game_events") == len(HOSTILE)
