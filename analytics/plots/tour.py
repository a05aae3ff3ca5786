"""Plots of the tour: what happens when, and one player's story."""

from __future__ import annotations

from typing import Final

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analytics import words
from analytics.frames import HERO, RANKS, VILLAIN
from analytics.plots import style
from analytics.tour import WEEKDAYS, Story, by_day, rhythm
from pipeline.event import RANK_BY_KARMA

_DONE: Final = {
    "kill_enemy": "kills of enemies",
    "kill_civilian": "kills of civilians",
    "moral_choice": "moral choices",
    "recharge": "recharges",
    "mission_complete": "completions of missions",
    "ability_upgrade": "upgrades of abilities",
}
# Up to so many days each has its tick.
_MOST_DAYS: Final = 10
# Less than so many times the mean is no difference to speak of.
_DIFFERS: Final = 1.1
# Up to so many sessions each has its point; beyond, points are a caterpillar.
_MOST_POINTS: Final = 60


def daily_events(hours: pd.DataFrame) -> Axes:
    """Events a UTC day by action, stacked, of :func:`analytics.tour.hours`."""
    axes = style.canvas()
    total = int(hours["events"].sum())
    if not total:
        return style.nothing(axes, "Nothing happened", "There is no event on these days.")
    table = by_day(hours)
    # A day's events stand over its tick.
    edges = np.append(dates.date2num(table.index), dates.date2num(table.index[-1]) + 1) - 0.5
    base = np.zeros(len(table))
    for action in table.columns:
        top = base + table[action].to_numpy()
        # An action that never happened is named all the same: it could.
        axes.stairs(
            top, edges, baseline=base, fill=True, color=style.OF_ACTION[action], lw=0, label=action
        )
        base = top
    locator = dates.DayLocator() if len(table) <= _MOST_DAYS else dates.AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(
        dates.ConciseDateFormatter(locator) if len(table) > 1 else dates.DateFormatter("%-d %b")
    )
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 2.5, 5, 10]))
    style.thousands_axis(axes.yaxis)
    axes.grid(visible=False, axis="x")
    axes.set(xlabel="UTC day", ylabel="events", xlim=(edges[0], edges[-1]))
    handles, labels = axes.get_legend_handles_labels()
    # As they are stacked.
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5))
    silent = int((table.sum(axis="columns") == 0).sum())
    told = f"; {silent} of {words.counted(len(table), 'day')} without any" if silent else ""
    return style.headed(axes, _most(table, total), f"Events by UTC day and action{told}")


def _most(table: pd.DataFrame, total: int) -> str:
    action, done = table.columns[0], int(table.iloc[:, 0].sum())
    if total == 1:
        return f"There is one event: {action}"
    share = f"{words.sentence(words.percent(done / total))} of" if done < total else "All"
    told = f"{share} {words.whole(total)} events are {_DONE[action]}"
    daily = table.sum(axis="columns")
    if len(daily) < 2:
        return told
    return f"{told}; most came on {daily.idxmax():%-d\u00a0%b}: {words.whole(daily.max())}"


def weekly_rhythm(hours: pd.DataFrame) -> Axes:
    """The mean events of each hour of the week, UTC, of :func:`analytics.tour.hours`."""
    axes = style.canvas(height=3.9)
    if not hours["events"].sum():
        return style.nothing(axes, "No rhythm yet", "There is no event on these days.")
    table = rhythm(hours)
    sns.heatmap(
        table, ax=axes, cmap=style.AMOUNT, vmin=0, vmax=max(1, float(table.max().max())),
        linewidths=0.8, linecolor="white", cbar=False,
    )  # fmt: skip
    bar = axes.figure.colorbar(axes.collections[0], ax=axes, label="events in the hour", pad=0.02)
    # As many as fit would be others once it is laid out, and wider.
    bar.ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    style.thousands_axis(bar.ax.yaxis)
    bar.outline.set_visible(False)
    axes.set_yticks([place + 0.5 for place in range(7)], [day[:3] for day in WEEKDAYS], rotation=0)
    hours_shown = range(0, 24, 3)
    axes.set_xticks(
        [hour + 0.5 for hour in hours_shown], [f"{hour}" for hour in hours_shown], rotation=0
    )
    axes.grid(visible=False)
    axes.set(xlabel="hour of the day, UTC", ylabel="")
    # Zero is nearly white.
    axes.set_facecolor(style.PALE)
    told = "; grey: no such hour yet" if table.isna().to_numpy().any() else ""
    return style.headed(
        axes, rhythm_finding(hours), f"Mean events of each UTC hour of the week{told}"
    )


def rhythm_finding(hours: pd.DataFrame) -> str:
    """The busiest hour of the day and the busiest day of the week, in a sentence."""
    if not hours["events"].sum():
        return "There is no rhythm yet"
    table = rhythm(hours)
    by_hour, by_weekday = table.mean(), table.mean(axis="columns")
    if by_hour.isna().any():
        return "Not every hour of a day has been seen yet"
    busiest = int(np.argmax(by_hour))
    times = by_hour.max() / by_hour.mean()
    if times < _DIFFERS:
        told = "It is as busy at any hour"
    else:
        told = (
            f"The busiest hour begins at {busiest}:00 UTC,"
            f" with {words.number(times)} times the events of a mean hour"
        )
    if by_weekday.isna().any():
        return told
    if by_weekday.max() < _DIFFERS * by_weekday.mean():
        return f"{told}; weekdays hardly differ"
    return f"{told}; the busiest day is {WEEKDAYS[int(np.argmax(by_weekday))]}"


def player_story(story: Story) -> Axes:
    """Karma and XP of one player over time, of :func:`analytics.tour.story`."""
    path = story.path.dropna(subset=["karma"])
    if story.player is None or path.empty:
        why = "The story is told by sessions; there is none on these days."
        return style.nothing(style.canvas(), story.finding, why)
    figure, (karma, xp) = plt.subplots(
        2, sharex=True, figsize=(9.0, 5.6), height_ratios=(3, 2), gridspec_kw={"hspace": 0.05}
    )
    marker = "o" if len(path) <= _MOST_POINTS else None
    _ranks(karma)
    karma.step(
        path["ts"], path["karma"].astype("float64"), where="post", color=style.INK, lw=1.6,
        marker=marker, markersize=4,
    )  # fmt: skip
    _choices(karma, story.choices)
    karma.set(ylabel="karma", ylim=(-142, 104), yticks=(-100, -50, 0, 50, 100))
    xp.fill_between(path["ts"], path["xp"], step="post", color=style.GREEN, alpha=0.2, lw=0)
    xp.step(
        path["ts"], path["xp"], where="post", color=style.GREEN, lw=1.6, marker=marker, markersize=4
    )
    xp.set(ylabel="XP in hand", xlabel="UTC")
    xp.margins(y=0.1)
    first, last = path["ts"].min(), path["ts"].max()
    room = max((last - first) / 20, pd.Timedelta(hours=12))
    xp.set_xlim(first - room, last + room)
    style.thousands_axis(xp.yaxis)
    xp.xaxis.set_major_formatter(dates.ConciseDateFormatter(xp.xaxis.get_major_locator()))
    for axes in (karma, xp):
        axes.grid(visible=False, axis="x")
    figure.align_ylabels()
    sns.despine(ax=xp, left=True)
    return style.headed(
        karma, story.finding, "Karma and XP at the end of each session; below karma, moral choices"
    )


def _ranks(axes: Axes) -> None:
    """Bands of the ranks, named on the right."""
    for rank in RANKS:
        of = [karma for karma, name in RANK_BY_KARMA.items() if name == rank]
        axes.axhspan(min(of) - 0.5, max(of) + 0.5, color=style.OF_RANK[rank], alpha=0.2, lw=0)
        _beside(axes, (min(of) + max(of)) / 2, rank, style.SOFT)


def _choices(axes: Axes, choices: pd.DataFrame) -> None:
    """A mark for each choice under the scale: good ones in the heroes' colour, evil ones in the villains'."""
    for side, of, marker, y in (("good", HERO, "^", -112), ("evil", VILLAIN, "v", -130)):
        ts = choices.loc[choices["side"] == side, "ts"]
        color = style.OF_SIDE[of]
        axes.plot(ts, np.full(len(ts), y), marker, color=color, markersize=5)
        _beside(axes, y, f"{side} choice", color)


def _beside(axes: Axes, y: float, text: str, color: str) -> None:
    axes.annotate(
        text, (1, y), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
        va="center", fontsize="small", color=color, annotation_clip=False,
    )  # fmt: skip
