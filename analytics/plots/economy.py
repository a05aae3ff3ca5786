"""Plots of the economy: what XP and energy come from and go into."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.container import BarContainer

from analytics import words
from analytics.economy import (
    EARNED_BY,
    SPENDING,
    balance_finding,
    drain_finding,
    fight_finding,
    flow_finding,
    person_shares,
    plain,
    source_finding,
    upgrade_finding,
    xp_finding,
)
from analytics.plots import style

# More days than this are put together by sevens: a bar must be wide enough to be seen.
_MOST_DAYS: Final = 100
_MOST_ROWS: Final = 20
_LONGEST: Final = 26


def xp_days(days: pd.DataFrame) -> Axes:
    """XP earned above and spent below zero, by day or by week, of :func:`analytics.economy.xp_days`."""
    axes = style.canvas()
    moved = [action for action in (*EARNED_BY, SPENDING) if days[f"{action}_xp"].any()]
    if not moved:
        return style.nothing(axes, xp_finding(days), "No event of these days moved XP.")
    by_week = len(days) > _MOST_DAYS
    shown, width = (_by_sevens(days), 6.3) if by_week else (days, 0.9)
    up = pd.Series(0, index=shown.index)
    for action in moved:
        xp = shown[f"{action}_xp"]
        is_earned = action != SPENDING
        axes.bar(
            shown["day"], xp, bottom=up if is_earned else 0, width=width,
            align="edge" if by_week else "center", color=style.OF_ACTION[action],
            label=EARNED_BY.get(action, "spent on upgrades"),
        )  # fmt: skip
        up = up + xp if is_earned else up
    middle = shown["day"] + pd.Timedelta(days=3 if by_week else 0)
    axes.plot(
        middle, shown["net_xp"], color=style.INK, lw=1.6, drawstyle="steps-mid", label="left over"
    )
    axes.axhline(0, color=style.INK, lw=0.8)
    axes.set(xlabel="first of seven UTC days" if by_week else "UTC day", ylabel="XP")
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(axes.xaxis.get_major_locator()))
    style.thousands_axis(axes.yaxis)
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.05)
    axes.figure.legend(loc="outside lower center", ncols=min(len(moved) + 1, 4), fontsize="small")
    return style.headed(
        axes,
        xp_finding(days),
        f"XP {'in seven days' if by_week else 'a day'}: earned above the line, spent below it",
    )


def flows(flows: pd.DataFrame) -> Axes:
    """All that was earned and spent, by what for, of :func:`analytics.economy.flows`."""
    if flows.empty:
        return style.nothing(
            style.canvas(), flow_finding(flows), "No event of these days moved XP."
        )
    shown = flows.head(_MOST_ROWS)
    axes = _rows([str(name) for name in shown["name"]])
    bars = axes.barh(
        np.arange(len(shown)), shown["xp"], height=0.8,
        color=[style.OF_ACTION[action] for action in shown["action"]],
    )  # fmt: skip
    _labelled(
        axes,
        bars,
        [
            f"{words.whole(abs(xp))} ({words.percent(share)})"
            for xp, share in zip(shown["xp"], shown["share"], strict=True)
        ],
    )
    axes.axvline(0, color=style.INK, lw=0.8)
    axes.margins(x=0.28)
    axes.set(xlabel="XP")
    axes.xaxis.set_major_formatter(lambda xp, _: words.whole(abs(xp)))
    return style.headed(
        axes,
        flow_finding(flows),
        "XP earned, to the right, and spent on upgrades, to the left; % of all earned or spent"
        f"{_cut(flows, shown)}",
    )


def balances(balances: pd.DataFrame, price: float | None = None) -> Axes:
    """XP in hand by missions completed, of :func:`analytics.economy.balances`, beside the price of an
    upgrade, where that is known.
    """
    axes = style.canvas()
    if balances.empty:
        return style.nothing(axes, balance_finding(balances, price), "Nobody was active.")
    places = np.arange(len(balances))
    axes.bar(places, balances["xp_p90"], color=style.PALE, width=0.8, label="90th percentile")
    axes.bar(places, balances["xp_p50"], color=style.MAIN, width=0.5, label="median")
    axes.set_xticks(
        places,
        [
            f"{missions}\n({players:,})"
            for missions, players in zip(balances["missions"], balances["players"], strict=True)
        ],
        fontsize=10,
    )
    if price is not None:
        axes.axhline(price, color=style.INK, lw=1.5, ls="--", label="price of an upgrade, mean")
    axes.set(xlabel="missions completed (players)", ylabel="XP in hand")
    axes.set_xlim(-0.6, max(len(balances), 3) - 0.4)
    style.thousands_axis(axes.yaxis)
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.2)
    axes.legend(loc="upper right", ncols=3, fontsize="small")
    return style.headed(
        axes,
        balance_finding(balances, price),
        "XP unspent, of who was active in these days, by how many runs of missions they completed",
    )


def upgrades(bought: pd.DataFrame) -> Axes:
    """How often each level of each ability was bought, and for how much, of
    :func:`analytics.economy.upgrades`.
    """
    if not bought["upgrades"].sum():
        return style.nothing(
            style.canvas(), upgrade_finding(bought), "No event of these days is one."
        )
    told = bought.assign(
        ability=bought["ability"].astype("str"), level=bought["level"].astype("str")
    )
    names = list(dict.fromkeys(told["ability"]))
    levels = sorted(dict.fromkeys(told["level"]), key=_in_order)
    drawn = names[:_MOST_ROWS]
    counts = told.pivot(index="ability", columns="level", values="upgrades").loc[drawn, levels]
    prices = told.pivot(index="ability", columns="level", values="price").loc[drawn, levels]
    said = counts.copy().astype("object")
    for name in drawn:
        for level in levels:
            count, price = counts.loc[name, level], prices.loc[name, level]
            said.loc[name, level] = f"{count:,.0f} at {price:,.0f}" if count else "·"
    axes = style.canvas(height=1.9 + 0.32 * max(len(drawn), 5))
    sns.heatmap(
        counts.astype("float64"), ax=axes, cmap=style.AMOUNT, vmin=0, annot=said, fmt="", cbar=False,
        # Names may be long: they are cut below, and it would make room for all of them.
        xticklabels=False, yticklabels=False, linewidths=0.6, linecolor="white",
        annot_kws={"fontsize": 10 if len(levels) <= 5 else 7},
    )  # fmt: skip
    axes.set_yticks(
        np.arange(len(drawn)) + 0.5, [words.name(name, _LONGEST) for name in drawn], rotation=0
    )
    axes.set_xticks(np.arange(len(levels)) + 0.5, levels)
    axes.grid(visible=False)
    axes.set(xlabel="", ylabel="")
    cut = f"; {len(drawn)} abilities of {len(names)}" if len(names) > len(drawn) else ""
    return style.headed(
        axes,
        upgrade_finding(bought),
        f"How often a level was bought, and at which mean price in XP{cut}",
    )


def sources(sources: pd.DataFrame) -> Axes:
    """Share of each source in the recharges of a district, of :func:`analytics.economy.sources`."""
    if sources.empty:
        return style.nothing(
            style.canvas(), source_finding(sources), "No event of these days is a recharge."
        )
    told = sources.assign(
        district=sources["district"].astype("str"), source=sources["source"].astype("str")
    )
    districts, names = (list(dict.fromkeys(told[column])) for column in ("district", "source"))
    shares = told.pivot(index="source", columns="district", values="district_pct").loc[
        names, districts
    ]
    counts = told.groupby("district")["recharges"].sum()
    axes = style.canvas(height=2.2 + 0.36 * max(len(names), 4))
    sns.heatmap(
        shares, ax=axes, cmap=style.AMOUNT, vmin=0, annot=shares.map(lambda pct: f"{pct:.0f}%"), fmt="",
        cbar=False, annot_kws={"fontsize": 11 if len(districts) <= 6 else 8}, linewidths=0.6,
        linecolor="white", xticklabels=False, yticklabels=False,
    )  # fmt: skip
    is_few = len(districts) <= 6
    axes.set_xticks(
        np.arange(len(districts)) + 0.5,
        [
            f"{words.name(name, 16)}{chr(10) if is_few else ' '}({counts[name]:,})"
            for name in districts
        ],
    )
    axes.tick_params(axis="x", rotation=0 if is_few else 90, labelsize=11 if is_few else 9)
    axes.set_yticks(
        np.arange(len(names)) + 0.5,
        [words.name(plain(name), _LONGEST) for name in names],
        rotation=0,
    )
    axes.grid(visible=False)
    axes.set(xlabel="district (recharges)", ylabel="")
    return style.headed(
        axes,
        source_finding(sources),
        "What is drained: of 100 recharges in a district, how many are from each source",
    )


def districts(districts: pd.DataFrame) -> Axes:
    """Recharges per 100 kills by district, of :func:`analytics.economy.districts`."""
    shown = districts[districts["recharges_per_100_kills"].notna()].head(_MOST_ROWS)
    if shown.empty:
        return style.nothing(
            style.canvas(), fight_finding(districts), "It takes a kill to know what one takes."
        )
    axes = _rows([str(name) for name in shown["district"]])
    rate = shown["recharges_per_100_kills"].astype("float64")
    bars = axes.barh(np.arange(len(shown)), rate, color=style.OF_ACTION["recharge"], height=0.7)
    _labelled(
        axes,
        bars,
        [
            f"{words.number(one)}  ({words.whole(recharges)} for {words.counted(kills, 'kill')})"
            for one, recharges, kills in zip(rate, shown["recharges"], shown["kills"], strict=True)
        ],
    )
    axes.set(xlabel="recharges per 100 enemies killed", xlim=(0, 1.45 * rate.max() or 1))
    return style.headed(
        axes,
        fight_finding(shown),
        f"By district, the one with the most events on top{_cut(districts, shown)}",
    )


def drains(drains: pd.DataFrame) -> Axes:
    """How often each rank drains a person, of :func:`analytics.economy.drains`."""
    shares = person_shares(drains).iloc[::-1]
    if shares.empty:
        return style.nothing(
            style.canvas(), drain_finding(shares), "No event of these days is a recharge."
        )
    ranks = [str(rank) for rank in shares["rank"]]
    axes = _rows(ranks)
    bars = axes.barh(
        np.arange(len(shares)),
        shares["share"],
        color=[style.OF_RANK[rank] for rank in ranks],
        height=0.8,
    )
    _labelled(
        axes,
        bars,
        [
            f"{words.percent(share, 1)}  ({words.whole(persons)} of {words.whole(recharges)})"
            for share, persons, recharges in zip(
                shares["share"], shares["persons"], shares["recharges"], strict=True
            )
        ],
    )
    axes.set(xlabel="of their recharges", xlim=(0, 1.3 * shares["share"].max() or 1))
    style.percent_axis(axes.xaxis)
    return style.headed(
        axes,
        drain_finding(shares),
        "Recharges from a person, of all recharges of players of that rank at that moment",
    )


def _by_sevens(days: pd.DataFrame) -> pd.DataFrame:
    """Whole sevens of days, the last of which ends the period; days before the first are left out."""
    of = days.tail(len(days) // 7 * 7)
    place = np.arange(len(of)) // 7
    sums = of.drop(columns="day").groupby(place).sum()
    return sums.assign(day=of["day"].to_numpy()[::7])


def _cut(all_of: pd.DataFrame, shown: pd.DataFrame) -> str:
    return f"; {len(shown)} of {len(all_of)} rows" if len(shown) < len(all_of) else ""


def _rows(names: list[str]) -> Axes:
    """An empty plot with a row a name, the first on top."""
    axes = style.canvas(height=1.9 + 0.3 * max(len(names), 5))
    axes.set_yticks(np.arange(len(names)), [words.name(name, _LONGEST) for name in names])
    axes.set_ylim(max(len(names), 3) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    return axes


def _labelled(axes: Axes, bars: BarContainer, labels: list[str]) -> None:
    axes.bar_label(bars, labels, padding=4, fontsize=10, color=style.SOFT)


def _in_order(level: str) -> tuple[bool, int, str]:
    """Level 2 before level 10, and what has no number last."""
    number = re.search(r"\d+", level)
    return number is None, int(number[0]) if number else 0, level
