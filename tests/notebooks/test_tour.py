"""The tour of the data, held against a recount of the planted events."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import msgspec
import pandas as pd
import pytest
from matplotlib.axes import Axes
from sqlalchemy import Engine

from analytics import tour
from analytics.data import chunks
from analytics.frames import typed
from analytics.period import ending
from analytics.plots import style
from analytics.plots import tour as plots
from analytics.tour import Contents, Story
from pipeline.event import ACTIONS, RANK_BY_KARMA, Event, datetime_of
from producer.simulate import COLE, HOUR_MS
from producer.truth import SESSION_GAP_MS
from tests.notebooks import planted


def title(axes: Axes) -> str:
    """What a plot says."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    return style.title_of(figure)


@pytest.fixture(scope="module")
def contents(engine: Engine) -> Contents:
    """What is in the planted tables."""
    return tour.contents(engine, planted.ALL)


@pytest.fixture(scope="module")
def hours(engine: Engine) -> pd.DataFrame:
    """Their events by hour."""
    return tour.hours(engine, planted.ALL)


@pytest.fixture(scope="module")
def story(engine: Engine) -> Story:
    """That of the player who did the most."""
    return tour.story(engine, planted.ALL)


def test_how_much_there_is_is_what_was_stored(contents: Contents) -> None:
    """Events, players, the first day and the newest moment are those of the simulator."""
    done = Counter(event.player for event in planted.events())
    busiest = sorted(done.values(), reverse=True)[: -(-len(done) // 10)]
    assert contents.events == contents.period_events == planted.known()["realised"]["events"]
    assert contents.players == contents.active_players == len(done)
    assert contents.of_busiest_tenth == sum(busiest)
    assert contents.first_day == planted.FIRST
    assert contents.newest_at == datetime_of(planted.events()[-1].ts_ms)
    assert f"{contents.events:,} events of {contents.players} players" in contents.finding
    assert f"{contents.events:,}" in set(contents.table["how much"])


def test_how_much_of_it_is_of_the_period(engine: Engine) -> None:
    """A week's events are that week's, while the table is counted as a whole."""
    week = ending(planted.LAST, 7)
    found = tour.contents(engine, week)
    since_ms = int(week.since.timestamp() * 1000)
    lately = [event for event in planted.events() if event.ts_ms >= since_ms]
    assert found.events == len(planted.events())
    assert found.period_events == len(lately)
    assert found.active_players == len({event.player for event in lately})


def test_a_row_is_explained_by_the_newest_event(engine: Engine) -> None:
    """Every column has a meaning, and an example that is one event's."""
    found = tour.columns(engine).set_index("column")
    newest = planted.events()[-1]
    assert found.loc["id", "example"] == str(newest.id)
    assert found.loc["player", "example"] == newest.player
    assert found.loc["energy_source", "example"] == (newest.energy_source or "–")
    assert found["meaning"].str.len().min() > 5


def test_events_by_day_are_a_recount(hours: pd.DataFrame) -> None:
    """Each action on each UTC day is as often as the simulator did it; a day without has zeros."""
    counts = Counter((datetime_of(e.ts_ms).date(), e.action) for e in planted.events())
    table = tour.by_day(hours)
    assert [day.date() for day in table.index] == [
        planted.FIRST + timedelta(days=day) for day in range(planted.DAYS)
    ]
    for day, row in table.iterrows():
        assert row.to_dict() == {action: counts[day.date(), action] for action in ACTIONS}  # type: ignore[attr-defined]
    assert table.sum().to_dict() == planted.known()["realised"]["events_by_action"]


def test_the_rhythm_is_a_recount(hours: pd.DataFrame) -> None:
    """An hour of the week holds the mean of all such hours, those without events included."""
    counts = Counter(event.ts_ms // HOUR_MS for event in planted.events())
    first = planted.events()[0].ts_ms // HOUR_MS
    means: dict[tuple[int, int], list[int]] = defaultdict(list)
    for hour in range(first, (planted.START_MS // HOUR_MS) + 24 * planted.DAYS):
        when = datetime.fromtimestamp(hour * 3600, UTC)
        means[when.weekday(), when.hour].append(counts[hour])
    table = tour.rhythm(hours)
    assert table.shape == (7, 24)
    for (weekday, hour), each in means.items():
        assert table.loc[weekday, hour] == pytest.approx(statistics.fmean(each))
    # Planted: mostly in the evening.
    assert int(table.mean().idxmax()) in range(18, 23)  # type: ignore[call-overload]


def _of(player: str | None) -> list[Event]:
    return [event for event in planted.events() if event.player == player]


def _ends(events: list[Event]) -> list[Event]:
    """The last event of each session, or of its part within an hour."""
    return [
        one
        for one, following in itertools.pairwise([*events, None])
        if one is not None
        and (
            following is None
            or following.ts_ms - one.ts_ms > SESSION_GAP_MS
            or following.ts_ms // HOUR_MS != one.ts_ms // HOUR_MS
        )
    ]


def test_the_story_is_what_the_player_lived_through(story: Story) -> None:
    """Whoever plays every day did the most; karma, XP and choices are those of the events, one by one."""
    events = _of(COLE)
    earned = dict(
        zip(
            (event.id for event in events),
            itertools.accumulate(event.xp_delta for event in events),
            strict=True,
        )
    )
    ends = _ends(events)
    assert story.player == COLE
    assert story.path["ts"].tolist() == [datetime_of(event.ts_ms) for event in ends]
    assert story.path["karma"].tolist() == [event.karma_total for event in ends]
    assert story.path["xp"].tolist() == [earned[event.id] for event in ends]
    choices = [event for event in events if event.action == "moral_choice"]
    assert story.choices["ts"].tolist() == [datetime_of(event.ts_ms) for event in choices]
    sides = [msgspec.json.decode(bytes(event.details))["side"] for event in choices]
    assert story.choices["side"].tolist() == sides


def test_a_story_begins_with_what_was_earned_before(engine: Engine) -> None:
    """XP in hand is that of a lifetime, also where the period begins in the middle of it."""
    week = ending(planted.LAST, 7)
    story = tour.story(engine, week)
    events = _of(story.player)
    assert events[0].ts_ms < int(week.since.timestamp() * 1000)
    assert story.path["xp"].iloc[-1] == sum(event.xp_delta for event in events)


def test_a_story_says_how_it_ends(story: Story) -> None:
    """The sentence has the last karma, its rank, and the changes of rank that the plot shows."""
    karma = [event.karma_total for event in _ends(_of(COLE))]
    ranks = [RANK_BY_KARMA[one] for one in karma]
    changes = sum(one != following for one, following in itertools.pairwise(ranks))
    said = title(plots.player_story(story))
    assert f"{abs(karma[-1])} ({ranks[-1]})" in said
    assert f"after {changes} changes of rank" in said


def test_plots_say_what_is_in_the_frames(hours: pd.DataFrame) -> None:
    """The share of the most frequent action, the busiest day, and the busiest hour."""
    done = planted.known()["realised"]["events_by_action"]
    days = Counter(datetime_of(event.ts_ms).date() for event in planted.events())
    said = title(plots.daily_events(hours))
    assert said.startswith(f"{100 * done['kill_enemy'] / sum(done.values()):.0f}% of ")
    assert said.endswith(f"{max(days.values()):,}")
    busiest = int(tour.rhythm(hours).mean().idxmax())  # type: ignore[call-overload]
    assert f"at {busiest}:00 UTC" in title(plots.weekly_rhythm(hours))


def _hours(counts: dict[tuple[int, str], int], known: int) -> pd.DataFrame:
    """So many hours of the first of November, with these events."""
    first = datetime(2026, 11, 1, tzinfo=UTC)
    rows = [
        (first + timedelta(hours=hour), action, counts.get((hour, action), 0))
        for hour in range(known)
        for action in ACTIONS
    ]
    return typed(rows, [("hour", 1184), ("action", 25), ("events", 20)])


def test_a_sentence_claims_no_more_than_there_is() -> None:
    """One event has no share, three hours no rhythm, and an even week no busiest day."""
    one = _hours({(2, "recharge"): 1}, 3)
    assert plots.daily_events(one).get_title(loc="left") == "Events by UTC day and action"
    assert title(plots.daily_events(one)) == "There is one event: recharge"
    assert title(plots.weekly_rhythm(one)) == "Not every hour of a day has been seen yet"
    even = _hours({(hour, "recharge"): 5 for hour in range(24 * 14)}, 24 * 14)
    assert plots.rhythm_finding(even) == "It is as busy at any hour; weekdays hardly differ"
    assert title(plots.daily_events(even)).startswith("All 1,680 events are recharges")


def test_a_gap_is_said() -> None:
    """Days without a single event are counted under the title: they may be a loss."""
    gap = _hours({(hour, "recharge"): 1 for hour in (0, 24 * 8)}, 24 * 9)
    assert plots.daily_events(gap).get_title(loc="left").endswith("7 of 9 days without any")


def test_nothing_is_drawn_as_nothing() -> None:
    """Neither an empty frame nor a player without karma is an error or a warning."""
    empty = _hours({}, 0)
    assert title(plots.daily_events(empty)) == "Nothing happened"
    assert title(plots.weekly_rhythm(empty)) == "No rhythm yet"
    path = typed([], [("ts", 1184), ("karma", 23), ("xp", 20)])
    choices = typed([], [("ts", 1184), ("side", 25)])
    assert title(plots.player_story(Story(None, path, choices))) == "Nobody played"
    unknown = typed(
        [(datetime(2026, 11, 1, tzinfo=UTC), None, 5)], [("ts", 1184), ("karma", 23), ("xp", 20)]
    )
    assert "nobody knows" in title(plots.player_story(Story("Zeke", unknown, choices)))


def test_an_empty_table_says_how_to_fill_it(contents: Contents) -> None:
    """A newcomer who starts with the notebook learns what to do; and one without a worker, too."""
    empty = dataclasses.replace(
        contents, events=0, players=0, first_day=None, period_events=0, newest_at=None
    )
    assert "`infamous up`" in empty.finding
    assert empty.share_of_busiest_tenth is None
    assert "–" in set(empty.table["how much"])
    assert "is a worker running?" in dataclasses.replace(contents, events=0).finding


def test_keys_of_details_are_counted_over_parts(engine: Engine) -> None:
    """Each event that has a key counts once, however the rows are cut, and one without details not at all."""
    last = ending(planted.LAST, 1)
    sql = "select details from game_events where ts >= :since and ts < :until"
    found = tour.detail_keys(chunks(engine, sql, rows=100, since=last.since, until=last.until))
    since_ms = int(last.since.timestamp() * 1000)
    expected = Counter(
        key
        for event in planted.events()
        if event.ts_ms >= since_ms
        for key in msgspec.json.decode(bytes(event.details))
    )
    assert dict(zip(found["key"], found["events"], strict=True)) == expected
    none = typed([(None,), ({"b": 1, "a": 2},), ({"a": 3},)], [("details", 3802)])
    assert tour.detail_keys([none]).values.tolist() == [["a", 2], ["b", 1]]
