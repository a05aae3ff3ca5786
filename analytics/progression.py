"""Progression: how far players come, how hard it is, and where they leave: a database flows in, frames and
findings flow out.

Missions stand in the order of the game, which is learned from the players: the later a mission, the fewer
have begun it.
"""

from __future__ import annotations

from typing import Final

import pandas as pd
from scipy import stats
from sqlalchemy import Engine

from analytics import words
from analytics.ask import ask
from analytics.data import query
from analytics.period import Period

# So many days without a sign of somebody, after a mission that was not completed, count as having left in it.
# It is what the dashboard says; a longer wait would leave too little of a month to look at.
GONE_DAYS: Final = 7
# A mission is a spike if it takes so many times the kills of the two before and the two after it.
SPIKE_TIMES: Final = 2
# Of fewer completed runs, a mean says more of chance than of the mission.
FEWEST_RUNS: Final = 5
# Quartiles and shares of fewer players say more of those players than of the mission.
FEWEST_PLAYERS: Final = 10

_TIMES: Final = """
with seen as (
    select distinct player from mission_runs where playthrough = '1' and started_on between :first and :last
), moments as (
    -- Runs among what was played, in the order of time: each is then a look at a running total, where a join
    -- would pair every run with every session before it.
    select player, started_at as at, ended_at, ended_at - started_at as length,
           null as mission, null as playthrough
    from session_parts join seen using (player)
    where started_at < :until
    union all
    select player, started_at, null, null, mission, playthrough
    from mission_runs join seen using (player)
    where started_on <= :last
), summed as (
    select player, at, mission, playthrough,
           coalesce(sum(length) over so_far - greatest(max(ended_at) over so_far - at, interval '0'),
                    interval '0') as played
    from moments
    window so_far as (partition by player order by at, mission is not null rows unbounded preceding)
), timed as (
    select mission, playthrough, at,
           date_part('epoch', at - first_value(at) over of_player) / 3600 as hours,
           date_part('epoch', played - first_value(played) over of_player) / 3600 as played
    from summed
    where mission is not null
    window of_player as (partition by player order by at)
)
select mission,
       percentile_cont(0.25) within group (order by hours) as hours_p25,
       percentile_cont(0.5) within group (order by hours) as hours_p50,
       percentile_cont(0.75) within group (order by hours) as hours_p75,
       percentile_cont(0.25) within group (order by played) as played_p25,
       percentile_cont(0.5) within group (order by played) as played_p50,
       percentile_cont(0.75) within group (order by played) as played_p75
from timed
where playthrough = '1' and at >= :since
group by mission
"""

# In the runs that the stops are of, without what lies between two hours.
_HOURS: Final = """
select mission,
       sum(date_part('epoch', least(part.ended_at, run.completed_at) - part.started_at)) / 3600 as hours
from mission_runs run
join mission_parts part using (player, mission, playthrough)
where started_on between :first and :gone
  and part.started_at <= coalesce(run.completed_at, part.started_at)
  and part.started_at < :until
group by mission
"""

_TRIES: Final = """
with gone_players as (
    select player from player_days where day <= :last group by player having max(day) <= :gone
)
select run.player, run.playthrough, events, kills,
       coalesce(completed_on <= :last, false) as is_completed,
       not coalesce(completed_on <= :last, false)
           and gone_players.player is not null
           and not exists (
               select from mission_runs later
               where later.player = run.player and later.started_on <= :last
                 and (later.started_at, later.mission, later.playthrough)
                     > (run.started_at, run.mission, run.playthrough)
           ) as has_left
from mission_runs run
left join gone_players using (player)
where mission = :mission and started_on between :first and :gone
order by run.player, run.playthrough
"""


def funnel(engine: Engine, period: Period) -> pd.DataFrame:
    """How far those came who played for the first time in the period: ``mission``, ``players_started`` and
    ``players_completed`` up to its last day, and what those are in percent: ``started_pct`` of all newcomers,
    ``completed_pct`` of who began it; and ``newcomers``, how many there were.
    """
    found = ask(engine, "newcomer_funnel", period)
    newcomers = (100 * found["players_started"] / found["started_pct"]).round().astype("int64")
    return found.assign(newcomers=newcomers)


def funnel_finding(funnel: pd.DataFrame) -> str:
    """Where the most are held up, in a sentence."""
    if funnel.empty:
        return "No newcomer began a mission"
    left_over = funnel["players_started"] - funnel["players_completed"]
    if not left_over.max():
        return "Newcomers completed every mission that they began"
    worst = funnel.iloc[int(left_over.argmax())]
    return (
        f"{words.name(worst['mission'])} holds up the most newcomers: {words.whole(left_over.max())} of"
        f" {words.whole(worst['players_started'])} who began it"
    )


def times(engine: Engine, period: Period) -> pd.DataFrame:
    """How long it takes to come to each mission, of who began it in the period for the first time:
    ``mission``, ``players_started``, quartiles of the ``hours_`` since the beginning of their first mission,
    ``p25``, ``p50`` and ``p75``, and of the hours ``played_`` of those.

    Played is from the first event of a session to the last; minutes between two hours of the clock are lost.
    """
    order = ask(engine, "mission_times", period)[["mission", "players_started"]]
    days = {
        "first": period.first,
        "last": period.last,
        "since": period.since,
        "until": period.until,
    }
    found = query(engine, _TIMES, **days)
    return order.astype({"mission": "str"}).merge(found.astype({"mission": "str"}), on="mission")


def times_finding(times: pd.DataFrame) -> str:
    """How long it takes to come to the last of these missions, in a sentence."""
    if times.empty:
        return "Nobody began a mission"
    last = times.iloc[-1]
    name = words.name(last["mission"])
    if not last["hours_p50"]:
        return f"Nobody has come further than {name}"
    days = round(last["hours_p50"] / 24)
    spread = words.counted(days, "day") if days > 1 else words.lasting(3600 * last["hours_p50"])
    if not last["played_p50"]:
        return f"{name} comes {spread} after the first mission"
    return f"{name} comes after {words.lasting(3600 * last['played_p50'])} of play, spread over {spread}"


def difficulty(engine: Engine, period: Period) -> pd.DataFrame:
    """What a run takes, of those completed in the period: ``mission``, ``runs_completed``, the means of
    ``kills``, ``recharges`` and ``minutes`` played, and ``around_kills``, the mean of the kills of the two
    missions before and the two after it. NaN where the raw events were gone before they were counted.
    """
    columns = ["mission", "runs_completed", "kills", "around_kills", "recharges", "minutes"]
    return ask(engine, "mission_difficulty", period)[columns]


def spikes(difficulty: pd.DataFrame) -> pd.DataFrame:
    """The missions that stand out, the worst first, with how many ``times`` the kills around them they take:
    SPIKE_TIMES or more, in FEWEST_RUNS completed runs or more.

    A rule of thumb and no test: it asks what a player would, whether this is much harder than what lies
    around it, and holds for games that get harder all the way.
    """
    found = _standing_out(difficulty)
    return found[found["runs_completed"] >= FEWEST_RUNS].reset_index(drop=True)


def _standing_out(difficulty: pd.DataFrame) -> pd.DataFrame:
    times = difficulty["kills"] / difficulty["around_kills"].where(difficulty["around_kills"] > 0)
    # A mission without a fight cannot be a hard one.
    stands_out = (times >= SPIKE_TIMES) & (difficulty["kills"] >= 1)
    return difficulty.assign(times=times)[stands_out].sort_values(
        "times", ascending=False, kind="stable"
    )


def spike_finding(difficulty: pd.DataFrame) -> str:
    """Which mission stands out, in a sentence."""
    if difficulty.empty:
        return "No mission was completed"
    found, rare = spikes(difficulty), _standing_out(difficulty)
    if rare.empty:
        return "No mission takes twice the kills of those around it"
    if found.empty:
        runs = words.counted(rare["runs_completed"].iloc[0], "run")
        return (
            f"{words.name(rare['mission'].iloc[0])} takes {words.number(rare['times'].iloc[0])} times the"
            f" kills of the missions around it, in no more than {runs}"
        )
    if len(found) == 1:
        spike = found.iloc[0]
        return (
            f"{words.name(spike['mission'])} takes {words.whole(spike['kills'])} kills,"
            f" {words.number(spike['times'])} times those of the missions around it"
        )
    names = [words.name(str(name)) for name in found["mission"]]
    which = (
        words.listed(names) if len(names) < 3 else f"{len(names)} missions, most of all {names[0]},"
    )
    return f"{which} take at least twice the kills of the missions around them"


def stops(engine: Engine, period: Period) -> pd.DataFrame:
    """Where players leave for good: ``mission``, ``players_started``, ``players_stopped`` of those, in
    percent ``stopped_pct``; the ``hours`` played in these runs, in each hour of the clock from the first
    event to the last; and ``left_per_100_hours`` with its 95 % interval ``low`` to ``high``, since a long
    mission has more time to lose somebody in.

    To leave in it: it is the player's last, not completed, and they were not seen for GONE_DAYS. So the days
    are as many as those of the period, but end that much earlier. Source of the interval: Garwood's, exact
    for counts.
    """
    found = ask(engine, "mission_stops", period).astype({"mission": "str"})
    days = _followed(period)
    hours = query(engine, _HOURS, first=days.first, gone=days.last, until=period.until)
    found = found.merge(hours.astype({"mission": "str"}), on="mission", how="left")
    per_100 = 100 / found["hours"].where(found["hours"] > 0)
    stopped = found["players_stopped"].astype("float64")
    return (
        found[["mission", "players_started", "players_stopped", "stopped_pct", "hours"]]
        .assign(
            left_per_100_hours=stopped * per_100,
            low=stats.chi2.ppf(0.025, 2 * stopped) / 2 * per_100.where(stopped > 0),
            high=stats.chi2.ppf(0.975, 2 * stopped + 2) / 2 * per_100,
        )
        .fillna({"low": 0.0})
    )


def worst_stop(stops: pd.DataFrame) -> str | None:
    """The mission in which the most leave; None where nobody has left."""
    if stops.empty or not stops["players_stopped"].max():
        return None
    return str(stops["mission"].iloc[int(stops["players_stopped"].argmax())])


def stop_finding(stops: pd.DataFrame) -> str:
    """Where most leave, and whether that is more than its length explains, in a sentence."""
    worst = worst_stop(stops)
    if worst is None:
        return "Nobody has left in a mission"
    is_worst = stops["mission"] == worst
    here, others = stops[is_worst].iloc[0], stops[~is_worst]
    told = (
        f"Most leave in {words.name(worst)}: {words.whole(here['players_stopped'])} of"
        f" {words.whole(here['players_started'])} who began it"
    )
    elsewhere = 100 * others["players_stopped"].sum() / (others["hours"].sum() or float("nan"))
    is_known = not words.is_missing(here["left_per_100_hours"])
    if not is_known or here["players_started"] < FEWEST_PLAYERS or not elsewhere > 0:
        return told
    if not here["low"] > elsewhere:
        return f"{told}, not clearly more per hour played than elsewhere"
    times = here["left_per_100_hours"] / elsewhere
    return f"{told}, {words.number(times)} times as many per hour played as elsewhere"


def tries(engine: Engine, period: Period, mission: str) -> pd.DataFrame:
    """The runs of one mission begun in the days that :func:`stops` is of: ``player``, ``playthrough``,
    ``events`` and ``kills`` in it up to the completion or so far, whether it ``is_completed``, and whether
    the player ``has_left`` in it.
    """
    days = _followed(period)
    return query(
        engine, _TRIES, mission=mission, first=days.first, gone=days.last, last=period.last
    )  # fmt: skip


def leaving_finding(tries: pd.DataFrame, mission: str) -> str:
    """How far into a mission those came who left in it, in a sentence."""
    left = tries.loc[tries["has_left"], "kills"].dropna()
    won = tries.loc[tries["is_completed"], "kills"].dropna()
    if left.empty:
        return f"Nobody has left in {words.name(mission)}"
    half, name = float(left.median()) // 1, words.name(mission)
    kills = words.counted(half, "enemy", "enemies")
    told = (
        f"Half of the {words.whole(len(left))} who left in {name} had killed {kills} or fewer"
        if len(left) > 1
        else f"The one who left in {name} had killed {kills}"
    )
    return f"{told} of the {words.whole(won.median())} it takes" if won.median() > half else told


def _followed(period: Period) -> Period:
    """As many days, which end early enough for everyone to be missed."""
    gone = pd.Timedelta(days=GONE_DAYS)
    return Period(period.first - gone, period.last - gone)
