"""Karma: who is good, who is evil, and who changes: a database flows in, frames and findings flow out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from sqlalchemy import Engine

from analytics import words
from analytics.ask import ask
from analytics.data import query
from analytics.frames import HERO, NEUTRAL, RANKS, SIDE_OF, SIDES, VILLAIN
from analytics.period import Period
from analytics.shares import with_share

Array: TypeAlias = npt.NDArray[Any]

# Fewer than so many, and a share says more of chance than of players.
FEWEST: Final = 10
QUANTILES: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
# How many paths can be told apart in one plot; and how many days make one.
_PATHS: Final = 12
_PATH_DAYS: Final = 5
# Redrawings of the table of transitions, of which the long run's interval is taken.
_REDRAWN: Final = 2000
# A share that may be off by so much, all in all, says nothing.
_TOO_WIDE: Final = 0.5

# A player's karma holds from one day played to the next: it comes into the count of its value on the first
# of them, and leaves it on the second, or when nobody knows yet how it goes on.
_STEPS: Final = """
with known as (
    select day - first_day as since, karma_total,
           first_value(rank) over (partition by player order by day) as first_rank,
           lead(day) over (partition by player order by day) - first_day as next_since,
           :last - first_day + 1 as unknown_since
    from player_days
    where first_day between :first and :last and day <= :last and karma_total is not null
)
select first_rank, days_since, karma, cast(sum(players) as bigint) as players
from (
    select first_rank, since as days_since, karma_total as karma, count(*) as players
    from known group by 1, 2, 3
    union all
    select first_rank, coalesce(next_since, unknown_since), karma_total, -count(*)
    from known group by 1, 2, 3
) as steps
group by 1, 2, 3
order by 1, 2, 3
"""

# Whoever was seen once has no path: those seen on more days go first, up to what makes a path.
_DRAWN: Final = """
with drawn as (
    select player
    from player_days
    where first_day between :first and :last and day <= :last and karma_total is not null
    group by player
    order by least(count(*), :days) desc, md5(player)
    limit :players
)
select player, day - first_day as days_since, karma_total as karma, rank
from player_days join drawn using (player)
where day <= :last and karma_total is not null
order by player, day
"""

_CHANGES: Final = """
with ended as (
    select day, rank,
           lag(rank) over in_order as rank_before,
           lag(rank, 2) over in_order as rank_before_that
    from player_days
    where day <= :last and rank is not null
    window in_order as (partition by player order by day)
)
select rank_before_that, rank_before, rank, count(*) as times
from ended
where day >= :first and rank_before is not null
group by 1, 2, 3
"""

_KILLS: Final = """
with sided as (
    select distinct on (player) player, rank
    from player_days
    where day <= :last
    order by player, rank is null, day desc
), killed as (
    select player,
           sum(events) as kills,
           coalesce(sum(events) filter (where action = 'kill_civilian'), 0) as civilians
    from daily_rollups
    where day between :first and :last and action in ('kill_enemy', 'kill_civilian')
    group by player
)
select rank, count(*) as players, cast(sum(kills) as bigint) as kills,
       cast(sum(civilians) as bigint) as civilians
from killed join sided using (player)
group by rank
"""


# --- karma over time


def steps(engine: Engine, period: Period) -> pd.DataFrame:
    """How many more (or fewer) have a karma than on the day before, of those who came in the period:
    ``first_side`` at the end of the first day (later ranks would tell what is asked), ``days_since`` the
    first, ``karma``, ``players``.

    It is as of the end of the last day played, whether or not they come back; and up to the last day of the
    period. Small however many players there are: :func:`bands` sums it up.
    """
    found = query(engine, _STEPS, first=period.first, last=period.last)
    side = found["first_rank"].astype("object").map(SIDE_OF)
    return found.drop(columns="first_rank").assign(first_side=side)


def bands(steps: pd.DataFrame) -> pd.DataFrame:
    """The spread of karma by days since the first, of :func:`steps` or some of them: ``days_since`` from 0
    on, ``players`` of whom it is known, the shares ``hero``, ``neutral`` and ``villain`` of them, and a
    column for each of QUANTILES: the least karma that so many have at most.
    """
    columns = ["days_since", "players", *SIDES, *QUANTILES]
    if steps.empty:
        return pd.DataFrame({name: pd.Series(dtype="float64") for name in columns})
    last = int(steps["days_since"].max())
    changes = steps.pivot_table(
        index="days_since", columns="karma", values="players", aggfunc="sum", fill_value=0
    )
    # On the last of the days everybody has left the count.
    counts = changes.reindex(range(last), fill_value=0).cumsum()
    players = counts.sum(axis=1)
    counts, players = counts[players > 0], players[players > 0]
    karma = counts.columns.to_numpy()
    under = counts.cumsum(axis=1).div(players, axis=0).to_numpy()
    made = pd.DataFrame({"days_since": counts.index, "players": players.to_numpy()})
    for side, has in ((HERO, karma >= 15), (NEUTRAL, abs(karma) < 15), (VILLAIN, karma <= -15)):
        made[side] = (counts.loc[:, has].sum(axis=1) / players).to_numpy()
    for quantile in QUANTILES:
        # A tiny step back: a sum of shares may fall short of what it should be.
        made[quantile] = karma[(under >= quantile - 1e-9).argmax(axis=1)]
    return made[columns]


def drawn_paths(engine: Engine, period: Period) -> pd.DataFrame:
    """Karma at the end of each day played of a few who came in the period: ``player``, ``days_since``,
    ``karma``, ``rank``. Always the same few: those with the least MD5 among who was seen often enough.
    """
    return query(
        engine, _DRAWN, first=period.first, last=period.last, players=_PATHS, days=_PATH_DAYS
    )


def sides_finding(bands: pd.DataFrame) -> str:
    """Who is on which side a week after the first day, or as long after as is known, in a sentence."""
    known = bands[(bands["days_since"] <= 7) & (bands["players"] >= FEWEST)]
    if known.empty:
        return f"Fewer than {FEWEST} players with known karma came in these days"
    row = known.iloc[-1]
    days = int(row["days_since"])
    when = {0: "At the end of their first day", 7: "A week after they came"}.get(
        days, f"{words.counted(days, 'day').capitalize()} after they came"
    )
    return (
        f"{when} {words.percent(row[HERO])} are heroes, {words.percent(row[VILLAIN])} villains"
        f" and {words.percent(row[NEUTRAL])} neutral"
    )


# --- ranks


def ranks_by_day(engine: Engine, period: Period) -> pd.DataFrame:
    """Active players by their rank at the end of the day: ``day``, ``rank``, ``players``, and
    ``players_pct`` of 100 on that day.
    """
    return ask(engine, "daily_ranks", period)


def karma_now(engine: Engine, period: Period) -> pd.DataFrame:
    """Players active in the period by their last karma in steps of ten: ``karma_from``, ``rank``,
    ``players``.
    """
    return ask(engine, "karma_now", period)


def changes(engine: Engine, period: Period) -> pd.DataFrame:
    """From the rank at the end of one day played to that at the end of the next, which is of the period:
    ``rank_before_that`` at the end of the day played before both (missing where there was none),
    ``rank_before``, ``rank``, and how many ``times``.
    """
    frame = query(engine, _CHANGES, first=period.first, last=period.last)
    return frame.assign(
        **{
            name: pd.Categorical(frame[name], list(RANKS), ordered=True)
            for name in ("rank_before_that", "rank_before", "rank")
        }
    )


def transitions(changes: pd.DataFrame) -> pd.DataFrame:
    """Each rank to each, of :func:`changes`: ``rank_before``, ``rank``, ``times``, ``of`` so many with that
    rank before, the ``share`` of them and its 95 % interval ``low`` to ``high`` (Wilson).

    The interval takes each change for a draw of its own. Those of one player resemble each other, so that it
    is a little too narrow where few play much.
    """
    pairs = pd.MultiIndex.from_product([RANKS, RANKS], names=["rank_before", "rank"])
    times = changes.astype({"rank_before": "str", "rank": "str"}).groupby(
        ["rank_before", "rank"]
    )["times"].sum().reindex(pairs, fill_value=0)  # fmt: skip
    frame = times.astype("int64").reset_index()
    frame["of"] = frame.groupby("rank_before")["times"].transform("sum")
    return with_share(_in_order(frame, "rank_before", "rank"), "times", "of")


@dataclass(frozen=True)
class LongRun:
    """Where changes of rank lead: ``by_rank`` has ``rank``, ``by_side`` has ``side``; both have the share
    ``seen`` at the end of a day, that in the ``long_run``, and its 95 % interval ``low`` to ``high``.
    """

    by_rank: pd.DataFrame
    by_side: pd.DataFrame


def long_run(transitions: pd.DataFrame) -> LongRun | None:
    """Where the :func:`transitions` lead from where players are, if they go on for ever. None where nobody
    was seen yet to leave a rank that somebody has.

    It is the stationary distribution of the Markov chain, the shares that one more day played leaves as they
    are; where groups of ranks do not mix, the one reached from today's shares. It takes for granted that a
    player's next rank depends on nothing but the present one, that nobody leaves, and that the game stays as
    it is: :func:`memory` asks whether the first of these holds.

    The interval is that of tables redrawn row by row (seeded) from the Dirichlet distribution of what was
    seen and of one change more, spread evenly over all ranks (Perks 1947): what was never seen is rare, not
    impossible. Resampling what was seen would take a rank that nobody left for one that nobody ever will.
    """
    times = _table(transitions)
    left, entered = times.sum(axis=1), times.sum(axis=0)
    if not entered.any() or (entered[left == 0] > 0).any():
        return None
    seen = entered / entered.sum()
    # One more, from and to ranks that anybody has.
    had = (left + entered > 0).astype("float64")
    more = np.outer(had, had) / had.sum()
    random = np.random.default_rng(0)
    redrawn = (random.gamma(times + more) for _ in range(_REDRAWN))
    found = [_limit(seen, times), *(_limit(seen, table) for table in redrawn)]
    by_rank = np.vstack([seen, *found])
    on_side = np.array([[SIDE_OF[rank] == side for side in SIDES] for rank in RANKS])
    return LongRun(
        _summed_up(by_rank).assign(rank=pd.Categorical(RANKS, list(RANKS), ordered=True)),
        _summed_up(by_rank @ on_side).assign(side=list(SIDES)),
    )


def _summed_up(shares: Array) -> pd.DataFrame:
    """A first row of what was seen, one of what was found of it, and those of the tables redrawn."""
    low, high = np.quantile(shares[2:], [0.025, 0.975], axis=0)
    return pd.DataFrame({"seen": shares[0], "long_run": shares[1], "low": low, "high": high})


def _limit(start: Array, weights: Array) -> Array:
    """Where a chain comes to from ``start``, whose steps from each row have these weights, after 2 ** 50
    steps, at each of which half of all wait: that changes nothing in the end, and lets also come to rest what
    would go to and fro.
    """
    left = weights.sum(axis=1, keepdims=True)
    step = np.where(left > 0, weights / np.where(left > 0, left, 1), np.eye(len(weights)))
    step = (step + np.eye(len(weights))) / 2
    for _ in range(50):
        step = step @ step
        step /= step.sum(axis=1, keepdims=True)
    limit: Array = start @ step
    return limit


def _table(transitions: pd.DataFrame) -> Array:
    table = transitions.pivot_table(
        index="rank_before", columns="rank", values="times", observed=False
    )
    times: Array = table.to_numpy(dtype="int64")
    return times


@dataclass(frozen=True)
class Memory:
    """Of so many (``of``) threes of days played in a row, the share ``seen`` to end with the rank they began
    with, its interval ``low`` to ``high``, and the share ``expected`` if the day between told it all.
    """

    of: int
    seen: float
    low: float
    high: float
    expected: float

    @property
    def matters(self) -> bool:
        """Whether the days before the present one do."""
        return not self.low <= self.expected <= self.high


def memory(changes: pd.DataFrame) -> Memory | None:
    """Whether the rank before the present one matters, which a Markov chain denies, of :func:`changes`;
    None where fewer than FEWEST played on three days.
    """
    threes = changes[changes["rank_before_that"].notna()]
    every = int(threes["times"].sum())
    if every < FEWEST:
        return None
    back = int(threes.loc[threes["rank"] == threes["rank_before_that"], "times"].sum())
    before = threes.assign(rank=threes["rank_before"], rank_before=threes["rank_before_that"])
    first, then = _table(transitions(before)), _table(transitions(threes))
    then = then / np.maximum(then.sum(axis=1, keepdims=True), 1)
    row = with_share(pd.DataFrame({"back": [back], "of": [every]}), "back", "of").iloc[0]
    return Memory(
        every, float(row["share"]), float(row["low"]), float(row["high"]),
        float((first * then.T).sum() / every),
    )  # fmt: skip


def transitions_finding(transitions: pd.DataFrame) -> str:
    """How often a rank lasts, in a sentence."""
    every = int(transitions["times"].sum())
    if not every:
        return "Nobody with a known rank has played on two days yet"
    stayed = transitions.loc[transitions["rank"] == transitions["rank_before"], "times"].sum()
    across = transitions[
        transitions["rank_before"].astype("object").map(SIDE_OF).map({HERO: 1, VILLAIN: -1})
        * transitions["rank"].astype("object").map(SIDE_OF).map({HERO: 1, VILLAIN: -1})
        == -1
    ]["times"].sum()
    return (
        f"From one day played to the next {words.percent(stayed / every)} keep their rank,"
        f" and {words.percent(across / every, 0 if across / every >= 0.1 else 1)} cross to the other side"
    )


def long_run_finding(long_run: LongRun | None) -> str:
    """Where it leads, in a sentence."""
    if long_run is None:
        return "The long run cannot be told: nobody was seen yet to leave a rank that somebody has"
    hero = long_run.by_side[long_run.by_side["side"] == HERO].iloc[0]
    low, high = words.percent(hero["low"]), words.percent(hero["high"])
    if hero["high"] - hero["low"] > _TOO_WIDE:
        return f"Too few change sides to tell the long run: {low} to {high} would be heroes"
    return (
        f"In the long run {words.percent(hero['long_run'])} would end a day as heroes"
        f" ({low} to {high}); {words.percent(hero['seen'])} do so now"
    )


def memory_finding(memory: Memory | None) -> str:
    """How far to trust the long run, in a sentence."""
    if memory is None:
        return "Too few have played on three days to say whether the past matters"
    told = (
        f"Two days played later {words.percent(memory.seen)} have the rank they had;"
        f" if only the present rank mattered, {words.percent(memory.expected)} would"
    )
    if memory.matters:
        return f"{told}: the past matters, and the long run is a rough guide"
    return f"{told}: nothing speaks against the long run"


# --- choices


def switches_by_day(engine: Engine, period: Period) -> pd.DataFrame:
    """Moral choices beside the same player's one before: ``day``, ``choices``, ``first_choices``, ``kept``,
    ``switches``, and ``switched_pct`` of 100 that were not a first one.
    """
    return ask(engine, "daily_switches", period)


def switches_by_side(engine: Engine, period: Period) -> pd.DataFrame:
    """The same by ``side`` of the player's last known rank, and of everyone: ``compared`` choices that were
    not the first one, ``switches``, their ``share``, its interval ``low`` to ``high``.
    """
    rows = []
    for side in (*reversed(SIDES), "everyone"):
        days = ask(engine, "daily_switches", period, side=side)
        switches = int(days["switches"].sum())
        rows.append(
            {"side": side, "compared": int(days["kept"].sum()) + switches, "switches": switches}
        )
    return with_share(pd.DataFrame(rows), "switches", "compared")


def choices(engine: Engine, period: Period) -> pd.DataFrame:
    """Moral choices by ``mission`` and ``choice``, the 50 most frequent: ``good`` and ``evil`` ones,
    ``known`` of both, the ``share`` of good ones and its interval ``low`` to ``high``.
    """
    frame = ask(engine, "mission_choices", period)
    return with_share(frame.assign(known=frame["good"] + frame["evil"]), "good", "known")


def civilians(engine: Engine, period: Period) -> pd.DataFrame:
    """Civilians among those killed, by ``side`` of the player's last known rank: ``players`` who killed
    anybody, ``kills`` of enemies and civilians, ``civilians`` of them, their ``share``, ``low``, ``high``.

    Somebody whose karma nobody knows is neutral, as on the dashboards.
    """
    found = query(engine, _KILLS, first=period.first, last=period.last)
    side = found["rank"].astype("object").map(SIDE_OF).fillna(NEUTRAL)
    counts = found.groupby(side)[["players", "kills", "civilians"]].sum()
    frame = counts.reindex(list(reversed(SIDES)), fill_value=0).rename_axis("side").reset_index()
    return with_share(frame, "civilians", "kills")


def switches_finding(by_side: pd.DataFrame) -> str:
    """How often sides are changed, and by whom, in a sentence."""
    every, hero, villain = (
        by_side[by_side["side"] == side].iloc[0] for side in ("everyone", HERO, VILLAIN)
    )
    if not every["compared"]:
        return "Nobody has made two moral choices yet"
    told = f"{words.percent(every['share'])} of moral choices go the other way than the one before"
    if hero["high"] < villain["low"] or villain["high"] < hero["low"]:
        apart = f"villains {words.percent(villain['share'])}, heroes {words.percent(hero['share'])}"
        return f"{told} ({apart})"
    return told


def choices_finding(choices: pd.DataFrame) -> str:
    """Which choices tempt most, in a sentence."""
    known = choices[choices["known"] >= FEWEST]
    if known.empty:
        return f"No moral choice was made {FEWEST} times yet"
    total = words.percent(choices["good"].sum() / choices["known"].sum())
    if len(known) == 1:
        return f"{total} of moral choices are good"
    least = known.iloc[int(known["share"].argmin())]
    return (
        f"{total} of moral choices are good; fewest in {words.name(least['mission'])}"
        f" ({words.percent(least['share'])})"
    )


def civilians_finding(civilians: pd.DataFrame) -> str:
    """Who kills civilians, in a sentence."""
    if civilians["kills"].sum() < FEWEST:
        return f"Fewer than {FEWEST} were killed in these days"
    share = civilians.set_index("side")["share"]
    per_100 = {side: words.number(100 * float(share[side]), 2) for side in SIDES}
    if civilians.loc[civilians["side"].isin([HERO, VILLAIN]), "kills"].min() < FEWEST:
        overall = civilians["civilians"].sum() / civilians["kills"].sum()
        return f"Of 100 killed, {words.number(100 * overall, 2)} are civilians"
    return (
        f"Of 100 that villains kill, {per_100[VILLAIN]} are civilians; of 100 that heroes kill,"
        f" {per_100[HERO]}"
    )


def _in_order(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    return frame.assign(
        **{name: pd.Categorical(frame[name], list(RANKS), ordered=True) for name in columns}
    )
