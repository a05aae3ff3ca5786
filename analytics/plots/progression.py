"""Plots of progression: how far players come, how long it takes, how hard it is, where they leave.

Missions run down the page in the order of the game, so that their names can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.ticker import MaxNLocator

from analytics import words
from analytics.plots import style
from analytics.progression import (
    FEWEST_PLAYERS,
    GONE_DAYS,
    funnel_finding,
    leaving_finding,
    spike_finding,
    spikes,
    stop_finding,
    times_finding,
    worst_stop,
)

# The first so many missions are drawn: more cannot be read.
_MOST: Final = 40
_LONGEST: Final = 26
_BINS: Final = 20


def funnel(funnel: pd.DataFrame) -> Axes:
    """Newcomers who began and who completed each mission, of :func:`analytics.progression.funnel`."""
    if funnel.empty:
        return style.nothing(
            style.canvas(), "No newcomer began a mission", "No event of theirs names a mission."
        )
    shown = funnel.head(_MOST)
    (axes,) = _panels(shown, 1)
    places = np.arange(len(shown))
    begun = axes.barh(
        places, shown["players_started"], color=style.SKY, height=0.8, label="began it"
    )
    axes.barh(
        places, shown["players_completed"], color=style.MAIN, height=0.8, label="completed it"
    )
    _labelled(axes, begun, [
        f"{words.whole(started)}  ({words.percent(pct / 100)})"
        for started, pct in zip(shown["players_started"], shown["started_pct"], strict=True)
    ])  # fmt: skip
    axes.set(xlabel="newcomers")
    axes.margins(x=0.14)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.figure.legend(loc="outside lower center", ncols=2)
    return _headed(
        [axes],
        funnel_finding(funnel),
        f"{words.counted(shown['newcomers'].iloc[0], 'newcomer')}; beside a bar who began it so far,"
        f" and % of all{_cut(funnel)}",
    )


def times(times: pd.DataFrame) -> Axes:
    """Quartiles of the days and of the hours played until each mission, of
    :func:`analytics.progression.times`.
    """
    if times.empty:
        return style.nothing(
            style.canvas(), "Nobody began a mission", "No event of these days names a mission."
        )
    known, of = _begun_by_many(times)
    shown = known.head(_MOST)
    days, hours = _panels(shown, 2)
    for axes, column, size, unit in (
        (days, "hours", 24, "days since the first mission"),
        (hours, "played", 1, "hours played since then"),
    ):
        low, half, high = (
            shown[f"{column}_{quartile}"] / size for quartile in ("p25", "p50", "p75")
        )
        places = np.arange(len(shown))
        axes.hlines(places, low, high, color=style.SKY, lw=6)
        axes.plot(half, places, "o", color=style.MAIN, markersize=6)
        axes.set(xlabel=unit, xlim=(0, 1.08 * high.max() or 1))
    return _headed(
        [days, hours],
        times_finding(shown),
        f"Until each mission is begun; dot: median, bar: the middle half{of}{_cut(known)}",
        ["By the calendar", "At play"],
    )


def difficulty(difficulty: pd.DataFrame) -> Axes:
    """Kills, recharges and minutes of a completed run, of :func:`analytics.progression.difficulty`; spikes
    in a colour of their own.
    """
    if difficulty.empty:
        return style.nothing(
            style.canvas(), spike_finding(difficulty), "A run counts when it is completed."
        )
    shown = difficulty.head(_MOST)
    is_spike = shown["mission"].isin(spikes(difficulty)["mission"]).tolist()
    panels = _panels(shown, 3, is_spike)
    for axes, column in zip(panels, ("kills", "recharges", "minutes"), strict=True):
        digits = 0 if shown[column].max() >= 20 else 1
        _bars(axes, shown[column], is_spike, [words.number(mean, digits) for mean in shown[column]])
    return _headed(
        panels,
        spike_finding(difficulty),
        "Means of completed runs; a spike: at least twice the kills of the missions around it"
        f"{_cut(difficulty)}",
        ["Enemies killed", "Recharges", "Minutes played"],
    )


def stops(stops: pd.DataFrame) -> Axes:
    """Share of players who leave in each mission, and the same by hours played, of
    :func:`analytics.progression.stops`.
    """
    if stops.empty:
        return style.nothing(
            style.canvas(),
            "Nobody can be missed yet",
            f"It takes {GONE_DAYS} days without a sign to have left in a mission.",
        )
    if worst_stop(stops) is None:
        return style.nothing(
            style.canvas(),
            stop_finding(stops),
            f"Everyone's last mission is completed, or they were seen in the last {GONE_DAYS} days.",
        )
    known, of = _begun_by_many(stops)
    shown = known.head(_MOST)
    is_worst = [mission == worst_stop(stops) for mission in shown["mission"]]
    share, rate = panels = _panels(shown, 2, is_worst)
    _bars(share, shown["stopped_pct"] / 100, is_worst, [
        f"{words.whole(stopped)} of {words.whole(started)}"
        for stopped, started in zip(shown["players_stopped"], shown["players_started"], strict=True)
    ])  # fmt: skip
    share.set(xlabel="of the players who began it")
    style.percent_axis(share.xaxis)
    _bars(rate, shown["left_per_100_hours"], is_worst)
    rate.hlines(np.arange(len(shown)), shown["low"], shown["high"], color=style.INK, lw=1)
    top = shown["left_per_100_hours"].max()
    rate.set(xlabel="players", xlim=(0, 2.2 * top if top > 0 else 1))
    return _headed(
        panels,
        stop_finding(stops),
        f"Left: not completed, and not seen for {GONE_DAYS} days{of}{_cut(known)}",
        ["Players who left in it", "Per 100 hours played; line: 95%"],
    )


def leaving(tries: pd.DataFrame, mission: str) -> Axes:
    """How far into a mission those came who left in it, of :func:`analytics.progression.tries`."""
    left = tries.loc[tries["has_left"], "kills"].dropna().astype("float64")
    won = tries.loc[tries["is_completed"], "kills"].dropna().astype("float64")
    axes = style.canvas(height=3.8)
    if left.empty:
        return style.nothing(
            axes,
            leaving_finding(tries, mission),
            f"It takes {GONE_DAYS} days without a sign to have left.",
        )
    need = float(won.median()) if not won.empty else None
    far = max(float(left.max()), need or 0.0, 1.0)
    width = max(1, int(np.ceil((far + 1) / _BINS)))
    edges = np.arange(0, far + 1 + width, width)
    axes.hist(left, bins=edges.tolist(), color=style.OTHER, edgecolor="white")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(
        xlabel="enemies killed in it before leaving", ylabel="players who left", xlim=(0, None)
    )
    axes.margins(y=0.15)
    axes.grid(visible=False, axis="x")
    if need is not None:
        axes.axvline(need, color=style.INK, lw=1.5, ls="--")
        side, shift = ("right", -6) if need > far / 2 else ("left", 6)
        axes.annotate(
            "completed\n(median)", (need, 1), xycoords=("data", "axes fraction"), xytext=(shift, -4),
            textcoords="offset points", ha=side, va="top", color=style.INK,
        )  # fmt: skip
    return style.headed(
        axes,
        leaving_finding(tries, mission),
        f"{words.name(mission)}: players who left in it, by the enemies they had killed there"
        f" ({words.counted(width, 'kill')} a bar)",
    )


def _begun_by_many(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """What is of enough players, if anything is, and what to say of it."""
    many = frame[frame["players_started"] >= FEWEST_PLAYERS]
    if many.empty or len(many) == len(frame):
        return frame, ""
    return many, f"; missions of {FEWEST_PLAYERS} players or more"


def _panels(shown: pd.DataFrame, count: int, bold: Sequence[bool] = ()) -> list[Axes]:
    """So many plots side by side, a row a mission, the first on top."""
    figure = plt.figure(figsize=(9.0, 2.0 + 0.22 * max(len(shown), 6)))
    grid = figure.add_gridspec(2, count, height_ratios=(0.001, 1))
    # The heading is above all of them: above one of them it would push the others away.
    figure.add_subplot(grid[0, :]).set_axis_off()
    panels = [figure.add_subplot(grid[1, 0])]
    panels += [figure.add_subplot(grid[1, place], sharey=panels[0]) for place in range(1, count)]
    names = [words.name(str(mission), _LONGEST) for mission in shown["mission"]]
    panels[0].set_yticks(np.arange(len(shown)), names, fontsize=10)
    panels[0].set_ylim(max(len(shown), 3) - 0.4, -0.6)
    for label, is_bold in zip(panels[0].get_yticklabels(), bold, strict=False):
        if is_bold:
            label.set(fontweight="bold", color=style.INK)
    for axes in panels:
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="x", labelsize=10)
        axes.tick_params(axis="y", labelleft=axes is panels[0])
        sns.despine(ax=axes, left=True)
    return panels


def _bars(
    axes: Axes, values: pd.Series[float], marked: Sequence[bool], labels: Sequence[str] = ()
) -> None:
    """A bar a mission, and what is said beside it."""
    colors = [style.OTHER if is_marked else style.GREY for is_marked in marked]
    bars = axes.barh(np.arange(len(values)), values.astype("float64"), color=colors, height=0.8)
    axes.set_xlim(0, 1.25 * values.max() if values.max() > 0 else 1)
    if labels:
        _labelled(axes, bars, labels)


def _labelled(axes: Axes, bars: BarContainer, labels: Sequence[str]) -> None:
    axes.bar_label(bars, labels, padding=4, fontsize=9, color=style.SOFT)


def _headed(panels: Sequence[Axes], title: str, subtitle: str, names: Sequence[str] = ()) -> Axes:
    """A heading over all, and a name over each."""
    for axes, name in zip(panels, names, strict=False):
        axes.set_title(name, loc="left", fontsize="small", color=style.INK)
    return style.headed(panels[0].figure.axes[0], title, subtitle)


def _cut(frame: pd.DataFrame) -> str:
    return f"; the first {_MOST} of {len(frame)} missions" if len(frame) > _MOST else ""
