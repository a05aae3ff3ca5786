"""Plots of quality: what checks came to, how late events are, what became of what came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from analytics import words
from analytics.plots import style
from analytics.quality import LATE_S, OUTCOMES, Delays, Verdict, verdict_finding

_MARKS: Final = {True: ("✓", style.BLUE), False: ("✗", style.VERMILION), None: ("–", style.GREY)}
# Seconds that an axis of delays is marked with.
_TIMES: Final = (0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 6 * 3600, 86_400, 10 * 86_400)
_SHARES: Final = {
    "p50_s": ("half are quicker", style.BLUE),
    "p95_s": ("95 of 100 are", style.AMBER),
    "p99_s": ("99 of 100 are", style.PURPLE),
}
_NOT_STORED: Final = {
    "duplicates": ("were rows already", style.PALE),
    "forgotten": ("of forgotten players", style.SKY),
    "quarantined": ("refused", style.AMBER),
    "lost": ("lost", style.VERMILION),
}
_MOST_REASONS: Final = 12
# Of more than so many points, lines are thin.
_MOST_POINTS: Final = 120


def scorecard(verdicts: Sequence[Verdict]) -> Axes:
    """Each check, whether it is well, and what was found, of :func:`analytics.quality.verdicts`."""
    axes = style.canvas(height=0.9 + 0.56 * len(verdicts))
    axes.set(xlim=(0, 1), ylim=(len(verdicts), 0))
    axes.set_axis_off()
    for place, one in enumerate(verdicts):
        mark, color = _MARKS[one.is_well]
        axes.text(0.01, place + 0.5, mark, color=color, fontsize=20, va="center", fontweight="bold")
        axes.text(0.06, place + 0.32, one.claim, va="center", fontweight="bold")
        axes.text(0.06, place + 0.7, one.found, va="center", color=style.SOFT, fontsize="small")
    return style.headed(axes, verdict_finding(verdicts))


def delays(delays: Delays) -> Axes:
    """How long events take to be a row, by the hour they happened in, of :func:`analytics.quality.delays`."""
    axes = style.canvas()
    late = words.counted(delays.sent_late, "event")
    shown = delays.hours[delays.hours["events"] > 0]
    if shown.empty:
        why = (
            f"{late} came over {words.lasting(LATE_S)} late.\n"
            "They were imported, replayed, or kept by a device that was offline."
            if delays.sent_late
            else "There are no raw events in these hours."
        )
        return style.nothing(axes, delays.finding, why)
    _times(axes, shown["hour"], shown, pd.Timedelta(hours=1))
    left_out = (
        f"; {late} sent over {words.lasting(LATE_S)} late left out" if delays.sent_late else ""
    )
    return style.headed(
        axes, delays.finding, f"From when it happened to its row, by UTC hour{left_out}"
    )


def ages(outcomes: pd.DataFrame) -> Axes:
    """How long events take through the pipeline, of :func:`analytics.quality.outcomes`."""
    axes = style.canvas()
    shown = outcomes[outcomes["age_p95_s"].notna()]
    if shown.empty:
        return style.nothing(
            axes, "No consumer stored anything", "There is no batch on these days."
        )
    step = outcomes["begins_at"].diff().max()
    ages = shown.rename(columns={f"age_{name}": name for name in _SHARES})
    _times(axes, shown["begins_at"], ages, pd.Timedelta(hours=1) if pd.isna(step) else step)
    worst = words.lasting(shown["age_p95_s"].max())
    return style.headed(
        axes,
        f"95 of 100 events are through the pipeline within {worst}, even in the worst minute",
        "From the stream to the commit: the worst minute of each"
        f" {'day' if step > pd.Timedelta(hours=1) else 'hour'}, UTC",
    )


def _times(axes: Axes, begins: pd.Series, times: pd.DataFrame, step: pd.Timedelta) -> None:
    """Lines of delays over time on a scale on which milliseconds and hours can both be read."""
    lw = 1.8 if len(begins) <= _MOST_POINTS else 0.9
    for name, (label, color) in _SHARES.items():
        # A sender's clock may run ahead of ours, and a time below zero has no place here.
        seconds = times[name].clip(lower=_TIMES[0])
        whole = seconds.set_axis(begins)
        if len(whole) > 1:
            # Where there is nothing, there is no line.
            whole = whole.reindex(pd.date_range(begins.iloc[0], begins.iloc[-1], freq=step))
        axes.plot(
            whole.index,
            whole,
            color=color,
            label=label,
            marker="o",
            markersize=5 if len(begins) < 10 else lw,
            lw=lw,
        )
    axes.set(yscale="log", xlabel="UTC", ylabel="seconds")
    low, high = times[[*_SHARES]].min().min(), times[[*_SHARES]].max().max()
    marks = [
        mark
        for mark, after in zip(_TIMES, (*_TIMES[1:], np.inf), strict=True)
        if after > low and mark <= 10 * high
    ]
    axes.yaxis.set_major_locator(FixedLocator(marks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: words.lasting(seconds)))
    axes.set(ylabel="", ylim=(marks[0] / 1.5, max(high, marks[-1]) * 1.5))
    axes.set_xlim(begins.min() - step, begins.max() + step)
    _days(axes.xaxis)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5))


def outcomes(outcomes: pd.DataFrame) -> Axes:
    """What did not become a row, over time, of :func:`analytics.quality.outcomes`."""
    axes = style.canvas()
    counts = {name: int(outcomes[name].sum()) for name in OUTCOMES}
    came = sum(counts.values())
    if not came:
        return style.nothing(axes, "Nothing came", "No consumer stored anything on these days.")
    stored = words.sentence(words.percent(counts["stored"] / came, 1))
    if counts["stored"] == came:
        all_of = f"All {words.whole(came)}" if came > 1 else "The one entry"
        return style.nothing(
            axes,
            f"{all_of} became a row" if came == 1 else f"{all_of} entries became rows",
            "Nothing was refused, lost, or there already.",
        )
    step = outcomes["begins_at"].diff().max()
    step = pd.Timedelta(hours=1) if pd.isna(step) else step
    edges = dates.date2num([*outcomes["begins_at"], outcomes["begins_at"].iloc[-1] + step])
    base = np.zeros(len(outcomes))
    for name, (label, color) in _NOT_STORED.items():
        if counts[name]:
            top = base + outcomes[name].to_numpy()
            axes.stairs(top, edges, baseline=base, fill=True, color=color, lw=0, label=label)
            base = top
    axes.xaxis_date(tz="UTC")
    _days(axes.xaxis)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 2.5, 5, 10]))
    style.thousands_axis(axes.yaxis)
    axes.grid(visible=False, axis="x")
    axes.set(xlabel="UTC", ylabel="entries", xlim=(edges[0], edges[-1]), ylim=(0, None))
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5))
    was = "were" if counts["lost"] > 1 else "was"
    lost = f"{words.whole(counts['lost']) if counts['lost'] else 'none'} {was} lost"
    return style.headed(
        axes,
        f"{stored} of {words.whole(came)} entries became rows; {lost}",
        f"Entries of the stream that did not, by UTC {'day' if step > pd.Timedelta(hours=1) else 'hour'}",
    )


def reasons(refused: pd.DataFrame) -> Axes:
    """Why anything was refused, of :func:`analytics.quality.refused`."""
    shown = refused[refused["refused"] > 0].head(_MOST_REASONS)
    if shown.empty:
        return style.nothing(
            style.canvas(height=2.4),
            "Nothing was refused",
            "All that came on these days were events.",
        )
    axes = style.canvas(height=1.9 + 0.36 * len(shown))
    axes.barh(shown["reason"], shown["refused"], color=style.AMBER)
    for place, count in enumerate(shown["refused"]):
        axes.annotate(
            words.whole(count),
            (count, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(visible=False)
    axes.xaxis.set_visible(False)
    total = int(refused["refused"].sum())
    first = shown.iloc[0]
    share = "all" if first["refused"] == total else words.percent(first["refused"] / total)
    waiting = words.whole(refused["waiting"].sum())
    return style.headed(
        axes,
        f"{first['reason']} is why {share} of {words.whole(total)} entries were refused"
        if total > 1
        else f"One entry was refused: {first['reason']}",
        f"Refused by reason, re-deliveries included; waiting in the quarantine: {waiting}",
    )


def _days(axis: Axis) -> None:
    axis.set_major_formatter(dates.ConciseDateFormatter(axis.get_major_locator()))
