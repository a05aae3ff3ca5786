"""Plots of behaviour: when and how long people play, and in which styles."""

from __future__ import annotations

from calendar import day_abbr
from typing import Final

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analytics import behaviour, words
from analytics.behaviour import FEATURES, WEAK, Agreement, Feature, Length, Styles
from analytics.plots import style

# Of styles; none is that of a side.
_COLORS: Final = (
    style.GREEN, style.PURPLE, style.AMBER, style.SKY, style.INK, "#b3a300", style.GREY, "#7f3b08",
)  # fmt: skip
# What lasts longer, or comes more often on a day, is put together.
_MOST_MINUTES: Final = 120
_MOST_SESSIONS: Final = 6
_BARS: Final = 40
_FEWEST_MINUTES: Final = 10
_FEW_PLAYERS: Final = "It takes {} players who did at least {} things each, and not all the same."


def session_lengths(lengths: pd.DataFrame, numbers: Length) -> Axes:
    """Sessions by length, of :func:`analytics.behaviour.lengths` and :func:`analytics.behaviour.length`."""
    axes = style.canvas()
    if not numbers.sessions:
        return style.nothing(axes, numbers.finding, "A session begins with an event.")
    end = min(int(lengths["minutes"].max()), _MOST_MINUTES) + 1
    width = max(1, -(-end // _BARS))
    start = lengths["minutes"].clip(upper=_MOST_MINUTES) // width * width
    bars = lengths.groupby(start)["sessions"].sum()
    axes.bar(bars.index, bars, width=0.92 * width, align="edge", color=style.MAIN)
    last = max(end, _FEWEST_MINUTES)
    for minutes, name in ((numbers.median, "median"), (numbers.p90, "nine in ten")):
        if minutes <= _MOST_MINUTES and numbers.sessions > 1:
            is_left = minutes > 0.85 * last
            axes.axvline(minutes, color=style.INK, lw=1.6, ls="--")
            axes.annotate(
                name, (minutes, 1), xycoords=("data", "axes fraction"), fontsize="small",
                xytext=(-5 if is_left else 5, -4), textcoords="offset points", va="top",
                ha="right" if is_left else "left", color=style.INK,
            )  # fmt: skip
    axes.set(xlabel="minutes", ylabel="sessions", xlim=(0, last))
    axes.margins(y=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    style.thousands_axis(axes.yaxis)
    axes.grid(visible=False, axis="x")
    longer = int(lengths.loc[lengths["minutes"] >= _MOST_MINUTES, "sessions"].sum())
    return style.headed(
        axes,
        numbers.finding,
        f"{words.counted(numbers.sessions, 'session')}, first event to last;"
        " a pause of over 30 minutes ends one"
        + (f"; last bar: {_MOST_MINUTES}+" if longer else ""),
    )


def sessions_a_day(a_day: pd.DataFrame) -> Axes:
    """How often players play on a day, of :func:`analytics.behaviour.sessions_a_day`."""
    axes = style.canvas(height=3.8)
    finding = behaviour.sessions_a_day_finding(a_day)
    if a_day.empty:
        return style.nothing(axes, finding, "A session begins with an event.")
    days = a_day.groupby(a_day["sessions"].clip(upper=_MOST_SESSIONS))["player_days"].sum()
    days = days.reindex(range(1, int(days.index.max()) + 1), fill_value=0)
    shares = days / days.sum()
    bars = axes.bar(days.index, shares, width=0.7, color=style.MAIN)
    axes.bar_label(bars, [words.percent(share) for share in shares], padding=3, fontweight="bold")
    named = [f"{number}+" if number == _MOST_SESSIONS else str(number) for number in days.index]
    axes.set_xticks(days.index, named)
    axes.set(xlabel="sessions begun on the day", ylabel="days played")
    axes.set_xlim(0.4, max(3, len(days)) + 0.6)
    axes.margins(y=0.15)
    style.percent_axis(axes.yaxis)
    axes.grid(visible=False, axis="x")
    return style.headed(
        axes,
        finding,
        f"Of {words.counted(int(days.sum()), 'day')} on which a player played (UTC): by sessions begun",
    )


def week(starts: pd.DataFrame) -> Axes:
    """When sessions begin, by hour and weekday, of :func:`analytics.behaviour.starts`."""
    axes = style.canvas(height=4.0)
    finding = behaviour.starts_finding(starts)
    if starts.empty:
        return style.nothing(axes, finding, "A session begins with an event.")
    table = behaviour.week(starts)
    sns.heatmap(
        table, ax=axes, cmap=style.AMOUNT, vmin=0, linewidths=0.6, linecolor="white",
        cbar_kws={"label": "sessions begun in the hour", "pad": 0.02},
    )  # fmt: skip
    axes.set_yticks(np.arange(7) + 0.5, list(day_abbr), rotation=0)
    axes.set_xticks(np.arange(0, 24, 2) + 0.5, [str(hour) for hour in range(0, 24, 2)], rotation=0)
    axes.set(xlabel="hour of the day (UTC)", ylabel="")
    axes.grid(visible=False)
    return style.headed(
        axes, finding, "Mean of the days with any session; white: no such weekday was among them"
    )


def silhouettes(found: Styles | None) -> Axes:
    """How well each number of styles sets players apart, of :func:`analytics.behaviour.styles`."""
    axes = style.canvas(height=3.4)
    if found is None:
        return _no_styles(axes)
    curve, number = found.silhouettes, len(found.names)
    axes.plot(curve.index, curve, color=style.MAIN, marker="o")
    axes.plot(number, found.silhouette, "o", color=style.MAIN, markersize=13)
    axes.axhline(WEAK, color=style.SOFT, lw=1.2, ls="--")
    axes.set(xlabel="number of styles", ylabel="mean silhouette")
    axes.set_ylim(0, max(0.5, 1.15 * found.silhouette))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return style.headed(
        axes,
        f"{number} styles set players apart best",
        "Silhouette: 1: far apart, 0: run into one another; below the dashed line no style is clear",
    )


def styles(found: Styles | None) -> Axes:
    """What each style is, of :func:`analytics.behaviour.styles`."""
    if found is None:
        return _no_styles(style.canvas())
    axes = style.canvas(height=2.3 + 0.62 * len(found.names))
    features = [one for one in FEATURES if one.key in found.apart.columns]
    written = np.array(
        [[_written(one, mean) for mean in found.means[one.key]] for one in features]
    ).T
    sns.heatmap(
        found.apart[[one.key for one in features]], ax=axes, cmap="PRGn", vmin=-1.5, vmax=1.5,
        annot=written, fmt="", annot_kws={"fontsize": 11}, linewidths=1, linecolor="white",
        cbar=False,
    )  # fmt: skip
    axes.set_xticks(np.arange(len(features)) + 0.5, [one.label for one in features], rotation=0)
    axes.tick_params(axis="x", labelsize="small")
    axes.set_yticks(np.arange(len(found.names)) + 0.5, _labels(found), rotation=0)
    axes.grid(visible=False)
    axes.set(xlabel="", ylabel="")
    return style.headed(
        axes,
        found.finding,
        "A row: its means; green: above the mean of all players, purple: below",
    )


def styles_map(found: Styles | None) -> Axes:
    """Players on a map, near those who play alike, of :func:`analytics.behaviour.styles`."""
    if found is None:
        return _no_styles(style.canvas())
    many = len(found.names) > 4
    axes = style.canvas(height=5.2 + 0.26 * len(found.names) * many)
    # The small ones on top: the large ones would hide them.
    for number, name in enumerate(_labels(found, "")):
        here = found.players[found.players["style"] == number]
        axes.scatter(
            here["x"], here["y"], s=max(6.0, min(40.0, 9000 / len(found.players))), alpha=0.6, lw=0,
            color=_COLORS[number], label=name,
        )  # fmt: skip
    (across, sideways), (upward, up) = found.axes
    left, right, top = (
        behaviour.way_of(axis, sign) for axis, sign in ((sideways, -1), (sideways, 1), (up, 1))
    )
    axes.set_xlabel(f"← {left}    ({words.percent(across)})    {right} →")
    axes.set_ylabel(f"({words.percent(upward)})    {top} →".replace(", ", ",\n"))
    axes.set(xticks=[], yticks=[])
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=1 if many else 2,
        markerscale=1.4,
    )  # fmt: skip
    return style.headed(
        axes,
        f"The map shows {words.percent(across + upward)} of what sets players apart",
        "A dot: a player, near those who play alike (principal components); in brackets: an axis's part",
    )


def agreement(found: Styles, both: Agreement) -> Axes:
    """Styles beside groups known from elsewhere, of :func:`analytics.behaviour.agreement`."""
    axes = style.canvas(height=2.3 + 0.62 * len(found.names))
    shares = both.table / both.table.sum()
    sns.heatmap(
        shares, ax=axes, cmap=style.AMOUNT, vmin=0, vmax=1, annot=both.table, fmt=",d",
        annot_kws={"fontsize": 12}, linewidths=1, linecolor="white", cbar=False,
    )  # fmt: skip
    axes.set_yticks(np.arange(len(found.names)) + 0.5, _labels(found), rotation=0)
    axes.tick_params(axis="x", rotation=0)
    axes.grid(visible=False)
    axes.set(xlabel="", ylabel="")
    return style.headed(
        axes,
        both.finding,
        "Players of each style (row) by known group (column); darker: more of it",
    )


def _written(feature: Feature, mean: float) -> str:
    return words.DASH if words.is_missing(mean) else f"{mean:.{feature.digits}f}{feature.unit}"


def _labels(found: Styles, line: str = "\n") -> list[str]:
    """The name of each style with its size; with ``line`` between the two things that it says."""
    names = [name.replace(" and ", f" and{line or ' '}") for name in found.names]
    return [f"{name} ({size:,})" for name, size in zip(names, found.sizes, strict=True)]


def _no_styles(axes: Axes) -> Axes:
    return style.nothing(
        axes,
        "Too few players to tell styles apart",
        _FEW_PLAYERS.format(behaviour.FEWEST_PLAYERS, behaviour.FEWEST_EVENTS),
    )
