"""Plots of karma: who is good and who is evil, how ranks change, and what is done about it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analytics import karma, words
from analytics.frames import HERO, NEUTRAL, RANKS, SIDE_OF, SIDES, VILLAIN
from analytics.karma import FEWEST, LongRun
from analytics.plots import style
from analytics.shares import with_share

# The least karma of each rank above the lowest.
_STEPS_OF_RANK: Final = (-75, -40, -15, 15, 40, 75)
_MIDDLES_OF_RANK: Final = (-87.5, -57.5, -27.5, 0, 27.5, 57.5, 87.5)
# More missions than that do not fit on a screen.
_MISSIONS: Final = 20
_NAME: Final = 44
_NAME_INCH: Final = 3.6
# More days than that are too thin to be told apart; and after so many, karma has settled.
_MOST_DAYS: Final = 62
_FOLLOWED_DAYS: Final = 60


def karma_paths(steps: pd.DataFrame, paths: pd.DataFrame) -> Axes:
    """Spread of karma by days since the first, apart for each side at the end of the first day, of
    :func:`analytics.karma.steps`; and some players' own way, of :func:`analytics.karma.drawn_paths`, in the
    colour of the side they came to.
    """
    axes = style.canvas(height=5.2)
    if paths.empty:
        return style.nothing(
            axes, "No karma to follow", "Nobody whose karma is known came in these days."
        )
    for side in SIDES:
        bands = karma.bands(steps[steps["first_side"] == side])
        shown = bands[(bands["players"] >= FEWEST) & (bands["days_since"] <= _FOLLOWED_DAYS)]
        color = style.OF_SIDE[side]
        axes.fill_between(
            shown["days_since"], shown[0.25], shown[0.75], color=color, alpha=0.18, lw=0
        )
        axes.plot(shown["days_since"], shown[0.5], color=color, lw=4, alpha=0.9)
    drawn = [path for _, path in paths.groupby("player", observed=True)]
    for path in drawn:
        axes.plot(
            path["days_since"], path["karma"], color=style.OF_SIDE[SIDE_OF[str(path["rank"].iloc[-1])]],
            lw=1, alpha=0.8, marker="o", markersize=3,
        )  # fmt: skip
    axes.set(xlabel="days after the first", ylabel="karma", ylim=(-106, 106))
    axes.set_yticks(range(-100, 101, 50))
    last = min(_FOLLOWED_DAYS, max(1, steps["days_since"].max() - 1))
    axes.set_xlim(-0.02 * last, 1.02 * last)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _name_ranks(axes)
    days = min(len(path) for path in drawn)
    return style.headed(
        axes,
        karma.sides_finding(karma.bands(steps)),
        "Thick: median, band: middle half, by side on the first day;"
        f" thin: {words.counted(len(drawn), 'player')} seen on {days}+ days",
    )


def _name_ranks(axes: Axes) -> None:
    """Lines where ranks begin, and their names on the right."""
    for step in _STEPS_OF_RANK:
        axes.axhline(step, color=style.PALE, lw=0.8, zorder=0)
    axes.grid(visible=False, axis="y")
    for rank, middle in zip(RANKS, _MIDDLES_OF_RANK, strict=True):
        axes.annotate(
            rank, (1, middle), xycoords=("axes fraction", "data"), xytext=(6, 0),
            textcoords="offset points", va="center", color=style.OF_SIDE[SIDE_OF[rank]],
            fontsize="small", annotation_clip=False,
        )  # fmt: skip


def rank_shares(ranks: pd.DataFrame) -> Axes:
    """Active players by rank, in % of each day, of :func:`analytics.karma.ranks_by_day`."""
    axes = style.canvas()
    players = ranks.pivot_table(
        index="day", columns="rank", values="players", aggfunc="sum", observed=False
    )
    by_week = len(players) > _MOST_DAYS
    if by_week:
        players = players.groupby(pd.DatetimeIndex(players.index).to_period("W").start_time).sum()
    every = players.sum(axis=1)
    if not every.sum():
        return style.nothing(axes, "No ranks to show", "Nobody whose karma is known played.")
    shares = players.div(every.where(every > 0), axis=0)
    below = pd.Series(0.0, shares.index)
    for rank in RANKS:
        axes.bar(
            shares.index, shares[rank], bottom=below, width=7 if by_week else 1,
            align="edge" if by_week else "center", lw=0, color=style.OF_RANK[rank],
            label=rank,
        )  # fmt: skip
        below = below + shares[rank].fillna(0)
    axes.set(xlabel="UTC week" if by_week else "UTC day", ylabel="active players", ylim=(0, 1))
    axes.margins(x=0)
    style.percent_axis(axes.yaxis)
    style.day_axis(axes.xaxis, len(ranks["day"].unique()))
    axes.grid(visible=False)
    axes.legend(reverse=True, loc="center left", bbox_to_anchor=(1.0, 0.5))
    side = [SIDE_OF[str(rank)] for rank in players.columns]
    of_side = players.sum().groupby(side).sum() / every.sum()
    return style.headed(
        axes,
        f"Of those who play on a day, {words.percent(of_side[HERO])} end it as heroes,"
        f" {words.percent(of_side[VILLAIN])} as villains",
        "Active players by their rank after the day's last event; a gap: nobody played",
    )


def karma_now(now: pd.DataFrame) -> Axes:
    """Players by their last karma, of :func:`analytics.karma.karma_now`."""
    axes = style.canvas()
    every = now["players"].sum()
    if not every:
        return style.nothing(axes, "No karma to show", "Nobody whose karma is known played.")
    table = now.pivot_table(
        index="karma_from", columns="rank", values="players", aggfunc="sum", observed=False
    ).fillna(0)
    below = pd.Series(0.0, table.index)
    for rank in RANKS:
        axes.bar(
            table.index + 5, table[rank], bottom=below, width=9.4, color=style.OF_RANK[rank], label=rank,
        )  # fmt: skip
        below = below + table[rank]
    axes.set(xlabel="last karma, in steps of 10", ylabel="players", xlim=(-102, 102))
    style.thousands_axis(axes.yaxis)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(visible=False, axis="x")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), reverse=True)
    ends = now.loc[now["rank"].isin(["Infamous", "Hero"]), "players"].sum() / every
    who = f"{words.percent(ends)} of players have" if ends else "No player has"
    return style.headed(
        axes,
        f"{who} gone all the way, to Hero or to Infamous",
        f"Players active in these days ({every:,}) by their last karma, -100 to 100",
    )


def transitions(table: pd.DataFrame) -> Axes:
    """From rank to rank, in % of the row, of :func:`analytics.karma.transitions`."""
    axes = style.canvas(height=5.6)
    if not table["times"].sum():
        return style.nothing(
            axes,
            karma.transitions_finding(table),
            "A change takes a player's second day whose karma is known.",
        )
    half = (table["high"] - table["low"]) / 2
    written = [
        words.DASH if words.is_missing(share) else f"{_percent(share)}\n±{100 * room:.0f}"
        for share, room in zip(table["share"], half, strict=True)
    ]
    cells = table.assign(said=written).set_index(["rank_before", "rank"])
    share, said = (cells[name].unstack().loc[::-1] for name in ("share", "said"))
    of = table.groupby("rank_before", observed=False)["of"].max()
    sns.heatmap(
        share, ax=axes, cmap=style.AMOUNT, vmin=0, vmax=1, annot=said, fmt="", cbar=False,
        annot_kws={"fontsize": 9.5}, linewidths=1, linecolor="white",
    )  # fmt: skip
    axes.set_yticks(
        [place + 0.5 for place in range(len(share))],
        [f"{rank} ({of[rank]:,})" for rank in share.index],
        rotation=0,
    )
    axes.tick_params(axis="x", rotation=0)
    axes.grid(visible=False)
    axes.set(
        xlabel="rank at the end of the next day played",
        ylabel="rank at the end of a day (how often)",
    )
    return style.headed(
        axes,
        karma.transitions_finding(table),
        "A row: where they are next, in %; ±: half of the 95% interval (Wilson), in points",
    )


def long_run(found: LongRun | None) -> Axes:
    """Where the changes of rank lead, beside where players are, of :func:`analytics.karma.long_run`."""
    axes = style.canvas()
    if found is None:
        return style.nothing(
            axes,
            "The long run cannot be told yet",
            "It takes somebody who leaves a rank, for each rank that somebody has.",
        )
    ranks = found.by_rank
    place = np.arange(len(ranks))
    colors = [style.OF_RANK[rank] for rank in ranks["rank"]]
    axes.bar(place - 0.2, ranks["seen"], width=0.38, color=colors, alpha=0.45)
    axes.bar(place + 0.2, ranks["long_run"], width=0.38, color=colors)
    axes.vlines(place + 0.2, ranks["low"], ranks["high"], color=style.INK, lw=1.6)
    axes.set_xticks(place, list(ranks["rank"]))
    axes.set(xlabel="rank at the end of a day played", ylabel="of all", ylim=(0, 1.0))
    style.percent_axis(axes.yaxis)
    axes.grid(visible=False, axis="x")
    return style.headed(
        axes,
        karma.long_run_finding(found),
        "Pale: as seen; full: if the changes went on for ever; line: 95% interval (Dirichlet)",
    )


def switches_by_day(days: pd.DataFrame) -> Axes:
    """Share of choices that go to the other side, of :func:`analytics.karma.switches_by_day`."""
    axes = style.canvas()
    counts = days.set_index("day")[["kept", "switches"]].astype("int64")
    compared = counts.sum(axis=1)
    if not compared.sum():
        return style.nothing(
            axes, "No choices to compare", "A switch takes a player's second moral choice."
        )
    is_long = len(days) > _MOST_DAYS
    window = 28 if is_long else 7
    sums = counts.rolling(window, min_periods=1).sum()
    line = with_share(sums.assign(of=sums.sum(axis=1)), "switches", "of")
    line.loc[line["of"] < FEWEST, ["share", "low", "high"]] = np.nan
    axes.fill_between(line.index, line["low"], line["high"], color=style.PURPLE, alpha=0.18, lw=0)
    axes.plot(line.index, line["share"], color=style.PURPLE)
    if not is_long:
        had = compared > 0
        axes.scatter(
            counts.index[had], (counts["switches"] / compared)[had], color=style.PURPLE, alpha=0.45,
            lw=0, s=10 + 60 * compared[had] / compared.max(),
        )  # fmt: skip
    axes.set(xlabel="UTC day", ylabel="to the other side", ylim=(0, min(1.02, axes.get_ylim()[1])))
    style.percent_axis(axes.yaxis)
    style.day_axis(axes.xaxis, len(days))
    share = counts["switches"].sum() / compared.sum()
    return style.headed(
        axes,
        f"{words.percent(share)} of {words.whole(compared.sum())} moral choices go the other way"
        " than the one before",
        f"Line: of the choices of {window} days, with its 95% interval (Wilson)"
        + ("" if is_long else "; a dot: of a day, by how many"),
    )


def switches_by_side(sides: pd.DataFrame) -> Axes:
    """The same by side, of :func:`analytics.karma.switches_by_side`."""
    shown = sides[sides["side"] != "everyone"]
    axes = style.canvas(height=3.2)
    if not shown["compared"].sum():
        return style.nothing(
            axes, "No choices to compare", "A switch takes a player's second moral choice."
        )
    _by_side(axes, shown, "compared")
    axes.set(xlabel="choices that go to the other side than the player's one before")
    style.percent_axis(axes.xaxis)
    return style.headed(
        axes,
        karma.switches_finding(sides),
        "By the side of a player's last known rank (choices compared); line: 95% interval (Wilson)",
    )


def civilians(sides: pd.DataFrame) -> Axes:
    """Civilians of 100 killed by side, of :func:`analytics.karma.civilians`."""
    axes = style.canvas(height=3.2)
    if not sides["kills"].sum():
        return style.nothing(axes, karma.civilians_finding(sides), "No enemy, and no civilian.")
    per_100 = sides.assign(**{name: 100 * sides[name] for name in ("share", "low", "high")})
    _by_side(axes, per_100, "kills", digits=2)
    axes.set(xlabel="civilians of 100 killed")
    return style.headed(
        axes,
        karma.civilians_finding(sides),
        "By the side of a player's last known rank (all killed); line: 95% interval (Wilson)",
    )


def _by_side(axes: Axes, sides: pd.DataFrame, of: str, digits: int | None = None) -> None:
    """A dot and its interval for each side, and its number: a share, or one with so many digits."""
    for place, row in enumerate(sides.iloc[::-1].to_dict("records")):
        if words.is_missing(row["share"]):
            continue
        color = style.OF_SIDE[row["side"]]
        axes.hlines(place, row["low"], row["high"], color=color, lw=3)
        axes.plot(row["share"], place, "o", color=color, markersize=10)
        axes.annotate(
            _percent(row["share"]) if digits is None else words.number(row["share"], digits),
            (row["share"], place), xytext=(0, 10), textcoords="offset points", ha="center", color=color,
            fontweight="bold",
        )  # fmt: skip
    names = [f"{side} ({of:,})" for side, of in zip(sides["side"], sides[of], strict=True)]
    axes.set_yticks(range(len(names)), names[::-1])
    axes.set(ylim=(-0.5, len(names) - 0.3), ylabel="")
    axes.set_xlim(0, max(1.08 * float(sides["high"].max()), 1e-3))
    axes.grid(visible=False, axis="y")


def _percent(share: float) -> str:
    """With a digit more where it is small."""
    return words.percent(share, 0 if share >= 0.0995 or not share else 1)


def choices(found: pd.DataFrame) -> Axes:
    """Share of good choices by mission, of :func:`analytics.karma.choices`."""
    known = found[found["known"] > 0].head(_MISSIONS)
    if known.empty:
        return style.nothing(
            style.canvas(), "No moral choice was made", "None whose side is known, in these days."
        )
    shown = known.sort_values("share", kind="stable", ignore_index=True)
    axes = style.canvas(height=1.9 + 0.32 * max(len(shown), 4))
    rows = shown.to_dict("records")
    for place, row in enumerate(rows):
        side = HERO if row["low"] > 0.5 else VILLAIN if row["high"] < 0.5 else NEUTRAL
        axes.hlines(place, row["low"], row["high"], color=style.OF_SIDE[side], lw=3)
        axes.plot(row["share"], place, "o", color=style.OF_SIDE[side], markersize=8)
    axes.axvline(0.5, color=style.PALE, lw=1.2, zorder=0)
    axes.set_yticks(range(len(shown)), [_named(row) for row in rows])
    axes.set(xlim=(0, 1), ylim=(-0.6, len(shown) - 0.4), xlabel="good choices", ylabel="")
    style.percent_axis(axes.xaxis)
    axes.grid(visible=False, axis="y")
    left_out = len(found) - len(known)
    return style.headed(
        axes,
        karma.choices_finding(found),
        "A mission's choice (how often made): those that were good, 95% interval (Wilson);"
        f" grey: neither more often{f'; the {len(known)} most frequent' if left_out else ''}",
    )


def _named(row: Mapping[Hashable, Any]) -> str:
    """The mission and what its choice is about, cut to what fits beside a plot."""
    name = words.name(f"{row['mission']}: {row['choice']}", _NAME)
    return f"{style.cut(name, _NAME_INCH)} ({row['known']:,})"
