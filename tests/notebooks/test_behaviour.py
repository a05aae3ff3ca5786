"""Sessions and styles of play, held against what was planted and against a recount of the events."""

from __future__ import annotations

import functools
import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from sqlalchemy import Engine

from analytics import behaviour, data, words
from analytics.behaviour import FEATURES, FEWEST_EVENTS, Styles
from analytics.period import Period, ending
from analytics.plots import behaviour as plots
from analytics.plots import style
from infamous.embedded.servers import Servers
from pipeline.event import Event
from producer.simulate import DAY_MS, MINUTE_MS, PLANTED, Persona
from producer.truth import SESSION_GAP_MS
from tests.integration import dashboards
from tests.notebooks import planted
from tests.unit.samples import payload

# The whole history, and days with a past before and a future after them.
PERIODS = [
    pytest.param(planted.ALL, id="all"),
    pytest.param(ending(planted.LAST - timedelta(days=9), 14), id="two weeks before"),
]
DAY_MIN = 24 * 60


class Session(NamedTuple):
    """From a first event to a last."""

    player: str
    start_ms: int
    end_ms: int

    @property
    def start(self) -> datetime:
        """When it began."""
        return datetime.fromtimestamp(self.start_ms / 1000, UTC)

    @property
    def minutes(self) -> float:
        """How long it was."""
        return (self.end_ms - self.start_ms) / 60_000


@functools.cache
def of_player() -> dict[str, list[Event]]:
    """Each player's events, in order."""
    found: dict[str, list[Event]] = defaultdict(list)
    for event in planted.events():
        found[event.player].append(event)
    return found


@functools.cache
def sessions() -> tuple[Session, ...]:
    """All of them, cut at pauses."""

    def cut(player: str, events: list[Event]) -> Iterator[Session]:
        begun = last = events[0].ts_ms
        for event in events[1:]:
            if event.ts_ms - last > SESSION_GAP_MS:
                yield Session(player, begun, last)
                begun = event.ts_ms
            last = event.ts_ms
        yield Session(player, begun, last)

    return tuple(one for player, events in of_player().items() for one in cut(player, events))


def begun_in(period: Period) -> list[Session]:
    """Those that began in it."""
    return [one for one in sessions() if period.since <= one.start < period.until]


# --- sessions


def test_sessions_are_the_simulators(engine: Engine) -> None:
    """Their number, the mean and the median of their length are what the simulator counted itself."""
    known = planted.known()["realised"]["sessions"]
    found = behaviour.length(engine, planted.ALL)
    assert found.sessions == known["count"]
    assert 60 * found.mean == pytest.approx(known["mean_length_s"], abs=0.001)
    assert 60 * found.median == pytest.approx(known["median_length_s"], abs=0.001)


@pytest.mark.parametrize("period", PERIODS)
def test_sessions_are_those_of_the_events(engine: Engine, period: Period) -> None:
    """By length, by day and player, by day and hour: counted again."""
    begun = begun_in(period)
    found = behaviour.length(engine, period)
    minutes = [one.minutes for one in begun]
    assert found.sessions == len(begun)
    assert found.mean == pytest.approx(mean(minutes))
    assert found.median == pytest.approx(median(minutes))
    assert found.p90 == pytest.approx(np.quantile(minutes, 0.9))
    lengths = behaviour.lengths(engine, period)
    assert dict(lengths.itertuples(index=False)) == Counter(int(one) for one in minutes)
    on_days = Counter((one.player, one.start.date()) for one in begun)
    a_day = behaviour.sessions_a_day(engine, period)
    assert dict(a_day.itertuples(index=False)) == Counter(on_days.values())
    starts = behaviour.starts(engine, period)
    in_hours = {(day.date(), hour): count for day, hour, count in starts.itertuples(index=False)}
    assert in_hours == Counter((one.start.date(), one.start.hour) for one in begun)


_CELLS = 4  # of a minute


def _planted_sessions() -> tuple[list[float], float]:
    """What was planted for a day played, midnight taken into account, which no session goes past: the chance
    of a first, a second and a third session, and the mean minutes of all. On a grid of quarter minutes.
    """
    size = DAY_MIN * _CELLS
    start = np.zeros(size)
    for hour in PLANTED.first_hour_utc:
        start[hour * 60 * _CELLS : (hour + 1) * 60 * _CELLS] += 1
    start /= start.sum()
    # A session lasts so many minutes, and a part of one more.
    length = np.zeros(size)
    for minutes in PLANTED.session_minutes:
        length[minutes * _CELLS : (minutes + 1) * _CELLS] += 1
    length /= length.sum()
    gap = np.zeros(size)
    gap[[minutes * _CELLS for minutes in range(*PLANTED.session_gap_min)]] = 1
    gap /= gap.sum()
    left = (size - np.arange(size))[:, None]
    lasts = np.minimum(np.arange(size)[None, :] + 0.5, left) @ length / _CELLS
    chances, spent = [], 0.0
    for number in (1, 2, 3):
        wanted = mean(count >= number for count in PLANTED.sessions_a_day)
        chances.append(wanted * start.sum())
        spent += wanted * float(start @ lasts)
        start = np.convolve(np.convolve(start, length)[:size], gap)[:size]
    # The last event comes before the end: by the mean of what is left of a gap between two.
    low, high = PLANTED.event_gap_ms
    rest = (high**3 - low**3) / (3 * (high**2 - low**2)) / 60_000
    return chances, spent / sum(chances) - rest


def test_sessions_are_as_long_as_was_planted(engine: Engine) -> None:
    """The mean length is the planted one, but for those that were cut short by who left at the spike."""
    found = behaviour.length(engine, planted.ALL)
    cut_short = len(planted.known()["realised"]["left_at_spike"])
    longest = max(PLANTED.session_minutes) + 1
    _, expected = _planted_sessions()
    error = planted.SIGMAS * np.std(PLANTED.session_minutes) / math.sqrt(found.sessions)
    assert expected - error - cut_short * longest / found.sessions < found.mean < expected + error


def test_there_are_as_many_sessions_on_a_day_as_was_planted(engine: Engine) -> None:
    """Days with two and with three sessions are as frequent as planted, but for who left at the spike."""
    a_day = behaviour.sessions_a_day(engine, planted.ALL).set_index("sessions")["player_days"]
    days = a_day.sum()
    cut_short = len(planted.known()["realised"]["left_at_spike"]) / days
    assert a_day.index.tolist() == [1, 2, 3]
    chances, _ = _planted_sessions()
    for number in (2, 3):
        share, expected = a_day.loc[number:].sum() / days, chances[number - 1]
        error = planted.share_error(expected, days)
        assert expected - error - cut_short < share < expected + error, number


def test_a_week_is_the_mean_of_its_days() -> None:
    """Two Mondays and a Tuesday without a noon: means of days that had any, and nothing for other days."""
    monday = pd.Timestamp("2026-11-02")
    rows = [
        (monday, 0, 4),
        (monday + pd.Timedelta(days=7), 12, 3),
        (monday + pd.Timedelta(days=1), 23, 5),
    ]
    week = behaviour.week(pd.DataFrame(rows, columns=["day", "hour", "sessions"]))
    assert week.shape == (7, 24)
    assert (week.loc[0, 0], week.loc[0, 12], week.loc[1, 23], week.loc[1, 12]) == (2, 1.5, 5, 0)
    assert week.loc[2:].isna().all(axis=None)
    assert not week.loc[:1].isna().any(axis=None)


@given(st.lists(st.integers(0, 50), min_size=24, max_size=24).filter(any))
def test_the_busiest_hours_hold_half(by_hour: list[int]) -> None:
    """Half of all sessions begin in them, and not in any fewer hours; also around midnight."""
    day = pd.Timestamp("2026-11-02")
    rows = [(day, hour, count) for hour, count in enumerate(by_hour) if count]
    starts = pd.DataFrame(rows, columns=["day", "hour", "sessions"])
    first, last = behaviour.busiest_hours(starts)
    span = (last - first) % 24 + 1
    twice = by_hour * 2
    assert sum(twice[first : first + span]) >= sum(by_hour) / 2
    assert all(sum(twice[hour : hour + span - 1]) < sum(by_hour) / 2 for hour in range(24))


@pytest.fixture
def midnight(servers: Servers, template: str) -> Iterator[Engine]:
    """A night of another studio's player, who says nothing of details: an event every ten minutes."""
    start_ms = planted.START_MS + DAY_MS - 20 * MINUTE_MS
    night = [
        payload(start_ms + 10 * number * MINUTE_MS, number, details=None, seq=None)
        for number in range(6)
    ]
    for world in dashboards.rolled_up(servers, template, night):
        yield data.reader(world.database_url)


def test_a_session_goes_on_past_midnight(midnight: Engine) -> None:
    """It counts whole, once, on the day on which it began."""
    days = [planted.FIRST + timedelta(days=number) for number in (0, 1)]
    found = [behaviour.length(midnight, Period(day, day)) for day in days]
    assert [(one.sessions, one.median) for one in found if one.sessions] == [(1, 50)]
    assert found[0].finding == "The only session lasted 50 min"
    a_day = [len(behaviour.sessions_a_day(midnight, Period(day, day))) for day in days]
    assert a_day == [1, 0]
    for day in days:
        assert all(title(draw()) for draw in drawn(midnight, Period(day, day)).values())


# --- what players do


def _did(player: str, period: Period) -> dict[str, Any]:
    """What a player did in a period, counted again."""
    found: Counter[str] = Counter()
    days: set[date] = set()
    side_before = None
    for event in of_player()[player]:
        at = datetime.fromtimestamp(event.ts_ms / 1000, UTC)
        if not period.since <= at < period.until:
            continue
        found["events"] += 1
        days.add(at.date())
        found["civilians"] += event.action == "kill_civilian"
        found["kills"] += event.action in {"kill_enemy", "kill_civilian"}
        found["recharges"] += event.action == "recharge"
        found["drains"] += event.energy_source == "person"
        if event.action == "moral_choice":
            side = json.loads(bytes(event.details))["side"]
            found["choices"] += 1
            found["good"] += side == "good"
            found["compared"] += side_before is not None
            found["switches"] += side_before not in {None, side}
            side_before = side
    first = datetime.fromtimestamp(of_player()[player][0].ts_ms / 1000, UTC).date()
    begun = [one for one in begun_of()[player] if period.since <= one.start < period.until]
    return found | {
        "player": player,
        "days": len(days),
        "days_known": (period.last - max(first, period.first)).days + 1,
        "sessions": len(begun),
        "minutes": pytest.approx(sum(one.minutes for one in begun)),
    }


@functools.cache
def begun_of() -> dict[str, list[Session]]:
    """Each player's sessions."""
    found: dict[str, list[Session]] = defaultdict(list)
    for one in sessions():
        found[one.player].append(one)
    return found


@pytest.mark.parametrize("period", PERIODS)
def test_doings_are_those_of_the_events(engine: Engine, period: Period) -> None:
    """Everything that styles are made from, of everyone who did enough, and how many did not."""
    events = Counter(
        event.player
        for event in planted.events()
        if period.since.timestamp() * 1000 <= event.ts_ms < period.until.timestamp() * 1000
    )
    enough = {player for player, count in events.items() if count >= FEWEST_EVENTS}
    found, chosen = behaviour.doings(engine, period)
    assert (chosen.players, chosen.enough, chosen.looked_at) == (
        len(events), len(enough), len(enough),
    )  # fmt: skip
    assert 0 < len(enough) < len(events)
    assert f"{len(events) - len(enough):,} of them" in chosen.finding
    rows = found.astype({"player": "str"}).to_dict("records")
    assert {row["player"] for row in rows} == enough
    for row in rows:
        expected = _did(str(row["player"]), period)
        assert row == {name: expected.get(str(name), 0) for name in row}


def test_of_very_many_players_some_are_drawn(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than MOST_PLAYERS are looked at, always the same, and it is said."""
    every, _ = behaviour.doings(engine, planted.ALL)
    monkeypatch.setattr(behaviour, "MOST_PLAYERS", 50)
    some, chosen = behaviour.doings(engine, planted.ALL)
    assert some["player"].tolist() == every["player"].tolist()[:50]
    assert (chosen.enough, chosen.looked_at) == (len(every), 50)
    assert chosen.finding.endswith("; of the others 50 were drawn by lot")


@pytest.mark.parametrize("persona", ["hero", "villain"])
def test_a_persona_does_as_was_planted(engine: Engine, persona: Persona) -> None:
    """Loyalty in choices and civilians among the killed, of all players of a persona, within their error."""
    found, _ = behaviour.doings(engine, planted.ALL)
    of = found[found["player"].astype("str").map(planted.persona_of()) == persona]
    sums = of[["good", "choices", "civilians", "kills"]].sum()
    loyal = PLANTED.personas[persona].loyal_pct / 100
    good = loyal if persona == "hero" else 1 - loyal
    error = planted.share_error(good, sums["choices"])
    assert sums["good"] / sums["choices"] == pytest.approx(good, abs=error)
    pct = PLANTED.civilian_pct_good if persona == "hero" else PLANTED.civilian_pct_evil
    error = planted.share_error(pct / 100, sums["kills"])
    assert sums["civilians"] / sums["kills"] == pytest.approx(pct / 100, abs=error)


# --- styles


@pytest.fixture(scope="session")
def found(engine: Engine) -> Styles:
    """The styles of the planted players."""
    styles = behaviour.styles(behaviour.measured(behaviour.doings(engine, planted.ALL)[0]))
    assert styles is not None
    return styles


def test_heroes_and_villains_are_of_different_styles(found: Styles) -> None:
    """Nearly all heroes play in one style, and nearly all villains in another.

    Who did as much as is asked made some 170 kills and 20 recharges. A hero is expected to have killed
    0.7 civilians and to have drained fewer than one person, a villain 5 and 6: one in fifty may be taken
    for the other. By chance it would be one in two.
    """
    both = behaviour.agreement(found, dict(planted.persona_of()))
    heroes, villains = both.table["hero"], both.table["villain"]
    good, evil = int(heroes.argmax()), int(villains.argmax())
    assert good != evil
    assert heroes.iloc[evil] <= 0.02 * heroes.sum()
    assert villains.iloc[good] <= 0.02 * villains.sum()
    right = heroes.max() + villains.max()
    assert right >= 0.9 * (heroes.sum() + villains.sum())


def test_styles_agree_with_personas_beyond_chance(found: Styles) -> None:
    """Personas dealt out anew agree with the styles by chance: never a tenth as well as the true ones."""
    persona_of: dict[str, str] = dict(planted.persona_of())
    right = behaviour.agreement(found, persona_of).rand
    dealer = random.Random(1)
    for _ in range(200):
        dealt = list(persona_of.values())
        dealer.shuffle(dealt)
        by_chance = behaviour.agreement(found, dict(zip(persona_of, dealt, strict=True))).rand
        assert abs(by_chance) < right / 10


def test_the_same_players_give_the_same_styles(engine: Engine, found: Styles) -> None:
    """Asked again, everything is as it was, to the last place on the map."""
    again = behaviour.styles(behaviour.measured(behaviour.doings(engine, planted.ALL)[0]))
    assert again is not None
    pd.testing.assert_frame_equal(again.players, found.players)
    assert again.names == found.names
    pd.testing.assert_series_equal(again.silhouettes, found.silhouettes)


def test_sizes_and_means_are_those_of_the_players(engine: Engine, found: Styles) -> None:
    """The largest style first; its mean is that of its players, in the feature's unit."""
    doings, _ = behaviour.doings(engine, planted.ALL)
    assert list(found.sizes) == sorted(found.sizes, reverse=True)
    assert sum(found.sizes) == len(doings)
    of = doings[(found.players["style"] == 0).to_numpy()]
    assert found.sizes[0] == len(of)
    assert found.means.loc[0, "minutes"] == pytest.approx((of["minutes"] / of["sessions"]).mean())
    good = (of["good"] / of["choices"])[of["choices"] > 0]
    assert found.means.loc[0, "good"] == pytest.approx(100 * good.mean())


def players_of(*groups: tuple[int, dict[str, float]]) -> pd.DataFrame:
    """So many players of each group around these means of features."""
    drawn = np.random.default_rng(1)
    rows = [
        {key: value + drawn.normal() for key, value in means.items()}
        for count, means in groups
        for _ in range(count)
    ]
    return pd.DataFrame(rows, index=[f"player {number}" for number in range(len(rows))])


def test_groups_that_are_there_are_found() -> None:
    """Three clouds far apart: three styles, called by what sets them apart, the largest first."""
    measured = players_of(
        (30, {"good": 80.0, "civilians": 0.0, "minutes": 10.0}),
        (40, {"good": 20.0, "civilians": 30.0, "minutes": 10.0}),
        (20, {"good": 80.0, "civilians": 0.0, "minutes": 60.0}),
    )
    found = behaviour.styles(measured)
    assert found is not None
    assert found.sizes == (40, 30, 20)
    assert found.players["style"].tolist() == [1] * 30 + [0] * 40 + [2] * 20
    assert set(found.names[0].split(" and ")) == {"choose evil", "kill civilians"}
    assert found.names[2].startswith("play long")
    assert found.silhouette > 0.8
    assert found.finding.startswith("Players fall into 3 styles: 44% ")


def test_one_cloud_is_not_called_styles() -> None:
    """Where players differ by chance alone, the finding says that styles run into one another."""
    of_all = dict.fromkeys([one.key for one in FEATURES], 50.0)
    found = behaviour.styles(players_of((300, of_all)))
    assert found is not None
    assert found.silhouette < behaviour.WEAK
    assert found.finding.startswith("Styles of play run into one another")


@pytest.mark.parametrize(
    "measured",
    [
        pytest.param(players_of((19, {"good": 50, "minutes": 10})), id="too few players"),
        pytest.param(players_of((50, {"good": 50})), id="one feature"),
        pytest.param(
            pd.DataFrame({"good": [1.0, 2.0] * 30, "days": [1.0, 2.0] * 30}), id="two kinds"
        ),
        pytest.param(pd.DataFrame({"good": [], "days": []}, dtype="float64"), id="nobody"),
    ],
)
def test_without_differences_there_are_no_styles(measured: pd.DataFrame) -> None:
    """Too few players, or all alike: none rather than made-up ones."""
    assert behaviour.styles(measured) is None


def test_what_nobody_had_occasion_for_is_not_measured() -> None:
    """Another studio's events say nothing of choices; all play once a day: neither can set players apart."""
    names = {name for one in FEATURES for name in (one.part, one.whole)}
    doings = pd.DataFrame({name: [0, 0, 0] for name in sorted(names)}).assign(
        player=["a", "b", "c"], kills=[10, 20, 0], civilians=[1, 1, 0], sessions=2, days=2,
        minutes=[10.0, 30.0, 20.0],
    )  # fmt: skip
    measured = behaviour.measured(doings)
    assert list(measured) == ["civilians", "minutes"]
    assert measured["civilians"].tolist() == pytest.approx([10.0, 5.0, math.nan], nan_ok=True)
    assert measured["minutes"].tolist() == [5.0, 15.0, 10.0]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(20, 60))
def test_styles_of_any_players_can_be_told(seed: int, count: int) -> None:
    """Whatever they do, missing occasions and outliers included, everybody has a style and a place."""
    drawn = np.random.default_rng(seed)
    values = drawn.standard_cauchy((count, len(FEATURES)))
    values[drawn.random(values.shape) < 0.3] = math.nan
    measured = pd.DataFrame(values, columns=[one.key for one in FEATURES])
    measured.index = pd.Index([f"player {number}" for number in range(count)])
    found = behaviour.styles(measured)
    assert found is not None
    assert not found.players.isna().any(axis=None)
    assert sum(found.sizes) == count
    assert title(plots.styles(found))
    assert title(plots.styles_map(found))


def test_the_same_groups_agree_entirely(found: Styles) -> None:
    """The index of the styles with themselves is 1; of nobody known there is none."""
    own = {str(name): f"group {number}" for name, number in found.players["style"].items()}
    both = behaviour.agreement(found, own)
    assert both.rand == 1
    assert both.table.to_numpy().sum() == len(found.players)
    with pytest.raises(ValueError, match="Nobody"):
        behaviour.agreement(found, {})


# --- plots


def title(axes: Axes) -> str:
    """What stands above a plot, once it is drawn."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    return style.title_of(figure)


def drawn(engine: Engine, period: Period) -> dict[str, Callable[[], Axes]]:
    """Each plot of a period."""
    length = behaviour.length(engine, period)
    styles = behaviour.styles(behaviour.measured(behaviour.doings(engine, period)[0]))
    return {
        "lengths": lambda: plots.session_lengths(behaviour.lengths(engine, period), length),
        "a day": lambda: plots.sessions_a_day(behaviour.sessions_a_day(engine, period)),
        "week": lambda: plots.week(behaviour.starts(engine, period)),
        "silhouettes": lambda: plots.silhouettes(styles),
        "styles": lambda: plots.styles(styles),
        "map": lambda: plots.styles_map(styles),
    }


def test_titles_say_what_the_events_say(engine: Engine, found: Styles) -> None:
    """Numbers in headings, counted again from the events."""
    said = {name: title(draw()) for name, draw in drawn(engine, planted.ALL).items()}
    minutes = [one.minutes for one in sessions()]
    assert said["lengths"] == (
        f"Half of all sessions last up to {median(minutes):.0f} min, nine in ten"
        f" up to {np.quantile(minutes, 0.9):.0f} min"
    )
    on_days = Counter(Counter((one.player, one.start.date()) for one in sessions()).values())
    assert said["a day"] == (
        f"Who plays on a day does so {len(minutes) / on_days.total():.2f} times;"
        f" {words.percent(on_days[1] / on_days.total())} play once"
    )
    assert said["styles"] == found.finding
    assert (
        f"{words.percent(found.sizes[0] / len(found.players))} {found.names[0]}" in said["styles"]
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
