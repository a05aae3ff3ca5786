"""Plots of players: who comes, who comes back, how long they stay."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib import dates
from matplotlib.axes import Axes

from analytics import words
from analytics.frames import HERO, VILLAIN
from analytics.players import AWAY_DAYS, median_days, retention
from analytics.plots import style

# More cohorts than this, or smaller ones, are put together by week: a row of two players says nothing.
_MOST_COHORTS = 31
_FEWEST_PLAYERS = 20
_SHOWN_SHARES = 31


def daily_actives(actives: pd.DataFrame) -> Axes:
    """New and returning players a day, stacked, of :func:`analytics.players.actives`."""
    axes = style.canvas()
    if not actives["active_players"].sum():
        return style.nothing(axes, "Nobody played", "No player did anything on these days.")
    days = actives["day"]
    axes.bar(days, actives["returning_players"], color=style.MAIN, width=0.9, label="returning")
    axes.bar(
        days, actives["new_players"], bottom=actives["returning_players"], color=style.OTHER,
        width=0.9, label="on their first day",
    )  # fmt: skip
    axes.set(xlabel="UTC day", ylabel="players")
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(axes.xaxis.get_major_locator()))
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper right", ncols=2)
    axes.margins(y=0.16)
    mean = actives["active_players"].mean()
    peak = actives.iloc[int(actives["active_players"].argmax())]
    return style.headed(
        axes,
        f"{words.number(mean)} players a day, at most {words.whole(peak['active_players'])}"
        f" on {peak['day']:%-d %b}",
        "Active players by UTC day: whoever did anything on it",
    )


def cohort_heat_map(cohorts: pd.DataFrame) -> Axes:
    """Share of each cohort that is back on the nth day, of :func:`analytics.players.cohorts`."""
    if cohorts.empty:
        return style.nothing(
            style.canvas(), "No cohort to follow yet", "Nobody's second day is over."
        )
    sizes = cohorts.groupby("cohort")["players"].max()
    by_week = len(sizes) > _MOST_COHORTS or sizes.median() < _FEWEST_PLAYERS
    came = cohorts["cohort"].dt.to_period("W").dt.start_time if by_week else cohorts["cohort"]
    counts = (
        cohorts.assign(came=came)
        .groupby(["came", "days_since"], as_index=False)[["players", "active_players"]]
        .sum()
    )
    counts["share"] = counts["active_players"] / counts["players"]
    table = counts.pivot_table(index="came", columns="days_since", values="share")
    size = counts.groupby("came")["players"].max()
    axes = style.canvas(height=1.9 + 0.32 * max(len(table), 5))
    top = min(1.0, max(0.05, float(counts["share"].quantile(0.98))))
    sns.heatmap(
        table, ax=axes, cmap=style.AMOUNT, vmin=0, vmax=top, annot=len(table.columns) <= _SHOWN_SHARES,
        fmt=".0%", annot_kws={"fontsize": 7}, linewidths=0.6, linecolor="white", cbar=False,
    )  # fmt: skip
    for text in axes.texts:
        text.set_text(text.get_text().rstrip("%"))
    axes.set_yticks(
        [place + 0.5 for place in range(len(table))],
        [f"{day:%-d %b} ({size[day]:,})" for day in table.index],
        rotation=0,
    )
    axes.tick_params(axis="x", rotation=0)
    axes.grid(visible=False)
    axes.set(xlabel="days after the first", ylabel="")
    next_day = table[1].dropna() if 1 in table.columns else table.iloc[:, 0].dropna()
    low, high = words.percent(next_day.min()), words.percent(next_day.max())
    unit = "week" if by_week else "day"
    said = low if low == high else f"{low} to {high}"
    return style.headed(
        axes,
        f"Of who came in a {unit}, {said} are back on the next day",
        f"A row: who came {'in the week from' if by_week else 'on'} that day (how many);"
        " a cell: % of them active on exactly that day",
    )


def return_curve(curve: pd.DataFrame) -> Axes:
    """Classic retention by days since the first, with its uncertainty, of
    :func:`analytics.players.return_curve`.
    """
    axes = style.canvas()
    shown = curve[(curve["days_since"] > 0) & curve["share"].notna()]
    found = retention(curve)
    if shown.empty:
        return style.nothing(
            axes, found.finding, "Retention begins with a second day that is over."
        )
    axes.fill_between(
        shown["days_since"], shown["low"], shown["high"], color=style.MAIN, alpha=0.18, lw=0
    )
    axes.plot(shown["days_since"], shown["share"], color=style.MAIN, marker="o", markersize=4)
    axes.set(
        xlabel="days after the first",
        ylabel="back on exactly that day",
        ylim=(0, None),
        xlim=(0.5, None),
    )
    style.percent_axis(axes.yaxis)
    for day in (1, 7, 30):
        here = shown[shown["days_since"] == day]
        if not here.empty:
            share = float(here["share"].iloc[0])
            axes.annotate(
                words.percent(share), (day, share), xytext=(4, 10), textcoords="offset points",
                fontweight="bold", color=style.MAIN,
            )  # fmt: skip
    return style.headed(
        axes,
        found.finding,
        "Classic retention by UTC days, all who came; band: 95% interval (Wilson)",
    )


def survival(curves: dict[str, pd.DataFrame]) -> Axes:
    """Share of players still there by days since the first, by name of the group; each of
    :func:`analytics.players.survival`. ``hero`` and ``villain`` have the colours of their sides.
    """
    axes = style.canvas()
    drawn = {name: curve for name, curve in curves.items() if not curve.empty}
    subtitle = (
        f"Kaplan and Meier's estimate; left: {AWAY_DAYS} days without a sign; band: 95% interval"
    )
    if not drawn:
        return style.nothing(
            axes,
            "Nobody can be missed yet",
            f"It takes {AWAY_DAYS} days without a sign to have left.",
        )
    for place, (name, curve) in enumerate(drawn.items()):
        color = style.OF_SIDE.get(name, (style.INK, style.GREEN, style.PURPLE)[place % 3])
        days = pd.concat([pd.Series([0]), curve["days"] + 1], ignore_index=True)
        share = pd.concat([pd.Series([1.0]), curve["share"]], ignore_index=True)
        low = pd.concat([pd.Series([1.0]), curve["low"]], ignore_index=True)
        high = pd.concat([pd.Series([1.0]), curve["high"]], ignore_index=True)
        axes.fill_between(days, low, high, step="post", color=color, alpha=0.15, lw=0)
        axes.step(days, share, where="post", color=color)
        style.named_line(axes, float(days.iloc[-1]), float(share.iloc[-1]), name, color)
    axes.set(xlabel="days since the first", ylabel="still playing", ylim=(0, 1.02), xlim=(0, None))
    axes.margins(x=0.08)
    style.percent_axis(axes.yaxis)
    axes.axhline(0.5, color=style.PALE, lw=1, zorder=0)
    return style.headed(axes, survival_finding(drawn), subtitle)


def survival_finding(curves: dict[str, pd.DataFrame]) -> str:
    """What the curves say, in a sentence."""
    first = next(iter(curves))
    if curves[first].empty:
        return "Nobody can be missed yet"
    half = median_days(curves[first])
    told = (
        f"Half of {'all' if first not in style.OF_SIDE else first + 's'} have left after"
        f" {words.counted(half + 1, 'day')}"
        if half is not None
        else "Fewer than half have left"
    )
    if HERO in curves and VILLAIN in curves:
        hero, villain = median_days(curves[HERO]), median_days(curves[VILLAIN])
        if hero is not None and villain is not None and hero != villain:
            stay, go = ("Heroes", "villains") if hero > villain else ("Villains", "heroes")
            told += f"; {stay.lower()} stay longer than {go}"
    return told
