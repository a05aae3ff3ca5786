"""Economy: what XP and energy come from and go into: a database flows in, frames and findings flow out."""

from __future__ import annotations

from typing import Final

import pandas as pd
from sqlalchemy import Engine

from analytics import words
from analytics.ask import ask
from analytics.data import query
from analytics.frames import HERO, NEUTRAL, RANKS, SIDE_OF, VILLAIN
from analytics.period import Period
from pipeline.event import KARMA_MAX, KARMA_MIN, RANK_BY_KARMA

# What a recharge from a living person names as its source.
PERSON: Final = "person"
# What moves XP, as a reader says it.
EARNED_BY: Final = {
    "mission_complete": "missions",
    "kill_enemy": "enemies",
    "kill_civilian": "civilians",
    "moral_choice": "choices",
    "recharge": "recharges",
}
SPENDING: Final = "ability_upgrade"
_CALLED: Final = {HERO: "Heroes", VILLAIN: "Villains"}
# A band of fewer players says more of those than of the game.
FEWEST_PLAYERS: Final = 10

# The karma before the recharge, which may move it. Raw events alone tell whose it was, and what from.
_DRAINS: Final = """
with counted as (
    select karma_total - karma_delta as karma, coalesce(energy_source, '(not told)') as source,
           count(*) as recharges
    from game_events
    where action = 'recharge' and ts >= :since and ts < :until
    group by 1, 2
), often as (
    select source from counted group by source order by sum(recharges) desc, source limit 15
)
select karma,
       case when source = :person or source in (select source from often) then source else '(other)' end
           as source,
       cast(sum(recharges) as bigint) as recharges
from counted
group by 1, 2
order by 1, 2
"""


def xp_days(engine: Engine, period: Period) -> pd.DataFrame:
    """XP by UTC day: ``day``, what each action moved as ``ACTION_xp``, below 0 for upgrades, ``earned_xp``
    and ``net_xp``, ``hours_played`` in the sessions begun on the day, and ``xp_per_hour`` of those.
    """
    return ask(engine, "daily_xp", period)


def balances(engine: Engine, period: Period) -> pd.DataFrame:
    """What those active in the period hold unspent on its last day, by ``missions`` completed, in words:
    ``players``, and of their XP the median ``xp_p50`` and the 90th percentile ``xp_p90``.
    """
    return ask(engine, "xp_balances", period)


def upgrades(engine: Engine, period: Period) -> pd.DataFrame:
    """What was bought: ``ability``, ``level``, how many ``upgrades``, the ``xp_spent`` on them, and the mean
    ``price`` of one, NaN where nobody bought it; the 30 abilities and 10 levels bought the most.
    """
    found = ask(engine, "ability_upgrades", period)
    return found.assign(price=found["xp_spent"] / found["upgrades"].where(found["upgrades"] > 0))


def sources(engine: Engine, period: Period) -> pd.DataFrame:
    """What was drained where: ``district``, ``source``, ``recharges``, and those of 100 in the district,
    ``district_pct``; the 12 districts and 15 sources of the most.
    """
    return ask(engine, "energy_sources", period)


def districts(engine: Engine, period: Period) -> pd.DataFrame:
    """What fights take: ``district``, enemies killed there as ``kills``, ``recharges``, and
    ``recharges_per_100_kills``, null where nobody was killed; 30 districts at most.
    """
    return ask(engine, "district_recharges", period)


def drains(engine: Engine, period: Period) -> pd.DataFrame:
    """What each rank recharges from: ``rank`` before the recharge, its ``side``, ``source`` and how many
    ``recharges``; the 15 sources of the most, and persons.

    Of raw events alone: where old ones were dropped, it is about the days that are left.
    """
    found = query(engine, _DRAINS, since=period.since, until=period.until, person=PERSON)
    karma = found["karma"].clip(KARMA_MIN, KARMA_MAX)
    rank = pd.Categorical(karma.map(RANK_BY_KARMA), RANKS, ordered=True)
    summed = found.assign(rank=rank).groupby(["rank", "source"], as_index=False, observed=True)
    counted = summed[["recharges"]].sum()
    return counted.assign(side=counted["rank"].map(SIDE_OF).astype("str"))


def flows(days: pd.DataFrame, bought: pd.DataFrame) -> pd.DataFrame:
    """Where XP came from and went to altogether, of :func:`xp_days` and :func:`upgrades`: ``name`` in words,
    the ``action``, ``xp``, below 0 where it was spent, and its ``share`` of all earned or spent; the largest
    first, what was earned before what was spent.
    """
    earned = pd.DataFrame(
        {
            "name": list(EARNED_BY.values()),
            "action": list(EARNED_BY),
            "xp": [int(days[f"{action}_xp"].sum()) for action in EARNED_BY],
        }
    )
    by_ability = -bought.groupby(bought["ability"].astype("str"), sort=False)["xp_spent"].sum()
    names, xp = by_ability.index.to_list(), by_ability.to_list()
    # Abilities past the thirtieth.
    rest = int(days[f"{SPENDING}_xp"].sum()) - sum(xp)
    spent = pd.DataFrame({"name": [*names, "the rest"], "action": SPENDING, "xp": [*xp, rest]})
    parts = [
        part[part["xp"] != 0].sort_values("xp", key=abs, ascending=False)
        for part in (earned, spent)
    ]
    return pd.concat(
        [part.assign(share=part["xp"] / part["xp"].sum()) for part in parts], ignore_index=True
    ).astype({"name": "str", "xp": "int64", "share": "float64"})


def person_shares(drains: pd.DataFrame) -> pd.DataFrame:
    """How often each rank drains a person, of :func:`drains`: ``rank``, ``side``, all its ``recharges``,
    those from ``persons``, and their ``share``; from the lowest karma to the highest.
    """
    persons = drains["recharges"].where(drains["source"].eq(PERSON), 0)
    shares = (
        drains.assign(persons=persons)
        .groupby(["rank", "side"], as_index=False, observed=True)[["recharges", "persons"]]
        .sum()
    )
    return shares.assign(share=shares["persons"] / shares["recharges"])


def xp_finding(days: pd.DataFrame) -> str:
    """How much was earned and spent, in a sentence."""
    earned, spent = days["earned_xp"].sum(), -days[f"{SPENDING}_xp"].sum()
    if not earned:
        return (
            "No XP was earned" if not spent else f"{words.whole(spent)} XP were spent, none earned"
        )
    return (
        f"Players earned {words.whole(earned)} XP and spent {words.percent(spent / earned)} of it"
    )


def flow_finding(flows: pd.DataFrame) -> str:
    """What gives the most and what takes the most, in a sentence."""
    earned, spent = flows[flows["xp"] > 0], flows[flows["xp"] < 0]
    told = []
    if not earned.empty:
        top = earned.iloc[0]
        told.append(f"{str(top['name']).capitalize()} give {words.percent(top['share'])} of the XP")
    if not spent.empty:
        top = spent.iloc[0]
        told.append(f"{words.name(top['name'])} takes the most, {words.percent(top['share'])}")
    return "; ".join(told) if told else "No XP was earned or spent"


def balance_finding(balances: pd.DataFrame, price: float | None) -> str:
    """When players hold the most, in a sentence; measured by what an upgrade costs, where that is known."""
    if balances.empty:
        return "Nobody has XP to hold"
    many = balances[balances["players"] >= FEWEST_PLAYERS]
    held = many if not many.empty else balances
    top = held.iloc[int(held["xp_p50"].argmax())]
    when = (
        f"after {top['missions']} missions" if top["missions"] != "none" else "before any mission"
    )
    told = f"Players hold the most XP {when}: a median of {words.whole(top['xp_p50'])}"
    if price is None or not price > 0:
        return told
    return f"{told}, {words.number(top['xp_p50'] / price)} times the price of an upgrade"


def mean_price(bought: pd.DataFrame) -> float | None:
    """What an upgrade costs, the mean of all that were bought; None where none was."""
    count = int(bought["upgrades"].sum())
    return float(bought["xp_spent"].sum()) / count if count else None


def upgrade_finding(bought: pd.DataFrame) -> str:
    """What is bought most, and at which prices, in a sentence."""
    if not bought["upgrades"].sum():
        return "No upgrade was bought"
    name = str(bought["ability"].iloc[0])  # the answer begins with what was bought most
    prices = bought.loc[bought["ability"].astype("str").eq(name), ["upgrades", "price"]]
    low, high = words.whole(prices["price"].min()), words.whole(prices["price"].max())
    at = low if low == high else f"{low} to {high}"
    times = words.counted(prices["upgrades"].sum(), "time")
    return f"{words.name(name)} is bought most: {times}, at {at} XP"


def source_finding(sources: pd.DataFrame) -> str:
    """What is drained most, in a sentence."""
    if sources.empty:
        return "Nobody recharged"
    by_source = sources.groupby(sources["source"].astype("str"), sort=False)["recharges"].sum()
    of_all = by_source.max() / by_source.sum()
    name = plain(str(by_source.idxmax()))
    return f"{words.name(name).capitalize()} is drained most: {words.percent(of_all)} of recharges"


def fight_finding(districts: pd.DataFrame) -> str:
    """Where a fight takes the most energy, in a sentence."""
    found = districts[districts["recharges_per_100_kills"].notna()]
    if found.empty:
        return "No enemy was killed"
    top = found.iloc[int(found["recharges_per_100_kills"].argmax())]
    rate = f"{words.number(top['recharges_per_100_kills'])} recharges per 100 kills"
    if len(found) == 1:
        return f"Fights take {rate}"
    return f"Fights take the most energy in {words.name(top['district'])}: {rate}"


def drain_finding(shares: pd.DataFrame) -> str:
    """Who drains persons, in a sentence, of :func:`person_shares`."""
    if shares.empty:
        return "Nobody recharged"
    if not shares["persons"].sum():
        return "Nobody drained a person"
    sums = shares.groupby("side")[["persons", "recharges"]].sum()
    share = {side: sums.loc[side, "persons"] / sums.loc[side, "recharges"] for side in sums.index}
    both = sorted(
        (side for side in (HERO, VILLAIN) if side in share), key=lambda side: -share[side]
    )
    if not both:
        return f"A person is drained in {words.percent(share[NEUTRAL])} of recharges"
    more, *less = both
    told = f"{_CALLED[more]} drain a person in {words.percent(share[more])} of recharges"
    if less:
        told += f", {_CALLED[less[0]].lower()} in {words.percent(share[less[0]])}"
    return told


def plain(name: str) -> str:
    """A source's name as it is read."""
    return name.replace("_", " ")
