"""Days: rolled-up hours and raw events of a day flow in, what the dashboards read flows out.

``daily_cohorts`` and ``daily_missions`` are a few rows a day, however many events and players there are.
They are counted from what is remembered of each player (``player_days``) and each run of a mission
(``mission_runs``). An event that comes late can move a player's first day, or a run's, to an earlier one
and so change the counts of later days: those are always counted anew from the day on.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from sqlalchemy import Connection, text

from pipeline import failpoint

# Any number, the same for every rollup. One for all days, since one day's work can reach into others.
LOCK: Final = 4_815_162_344

LOCK_DAYS: Final = text("select pg_advisory_xact_lock(:lock)")
FORGET_PLAYERS: Final = text("delete from player_days where day = :day")
# All rows of a player carry its first day, but a day that has just been forgotten may have been it.
NOTE_PLAYERS: Final = text("""
insert into player_days (day, player, first_day)
select :day, player, least(:day, (
    select min(known.day) from player_days known where known.player = active.player
))
from (
    select distinct player from hourly_rollups where hour >= :midnight and hour < :next_midnight
) as active
""")
# Of the later rows those are wrong whose player turns out to have been there on this day already, and those
# of which this day was the first and is no longer there.
MOVE_FIRST_DAYS: Final = text("""
update player_days later
set first_day = (select min(known.day) from player_days known where known.player = later.player)
where day > :day and first_day >= :day
  and (first_day > :day) = exists (
      select from player_days today where today.day = :day and today.player = later.player
  )
""")
FORGET_COHORTS: Final = text("delete from daily_cohorts where day >= :day")
COUNT_COHORTS: Final = text("""
insert into daily_cohorts (day, first_day, players)
select day, first_day, count(*) from player_days where day >= :day group by day, first_day
""")
# A run is one of a player, a mission and a playthrough: it may go over days, and it is seen again when its
# hour is. So its row is only ever moved to an earlier day, which may be repeated in any order. Both names
# are the sender's own: cut, they fit into the index whatever they are.
NOTE_RUNS: Final = text("""
insert into mission_runs as known (player, mission, playthrough, started_on, completed_on)
select player, left(details ->> 'mission', 64), left(coalesce(details ->> 'playthrough', '1'), 64),
       :day, case when bool_or(action = 'mission_complete') then cast(:day as date) end
from game_events
where ts >= :begin and ts < :end and details ->> 'mission' is not null
group by 1, 2, 3
on conflict (player, mission, playthrough) do update set
    started_on = least(known.started_on, excluded.started_on),
    completed_on = least(known.completed_on, excluded.completed_on)
where (known.started_on, known.completed_on) is distinct from
      (least(known.started_on, excluded.started_on), least(known.completed_on, excluded.completed_on))
""")
FORGET_MISSIONS: Final = text("delete from daily_missions where day >= :day")
COUNT_MISSIONS: Final = text("""
insert into daily_missions
    (day, mission, runs_started, runs_completed, players_started, players_completed)
select day, mission, count(*) filter (where is_start), count(*) filter (where not is_start),
       count(*) filter (where is_start and playthrough = '1'),
       count(*) filter (where not is_start and playthrough = '1')
from (
    select started_on as day, mission, playthrough, true as is_start
    from mission_runs where started_on >= :day
    union all
    select completed_on, mission, playthrough, false
    from mission_runs where completed_on >= :day
) as steps
group by day, mission
""")


def sum_up(connection: Connection, day: date, begin: datetime, end: datetime) -> None:
    """Make what is kept of a UTC day anew from its rolled-up hours, in one transaction.

    ``begin`` and ``end`` say which part of the day's raw events is looked through for missions. Several
    at once wait for each other. Repeated or broken off, it does no harm.
    """
    midnight = datetime.combine(day, time(), UTC)
    span = {
        "day": day,
        "midnight": midnight,
        "next_midnight": midnight + timedelta(days=1),
        "begin": begin,
        "end": end,
    }
    with connection.begin():
        connection.execute(LOCK_DAYS, {"lock": LOCK})
        connection.execute(FORGET_PLAYERS, span)
        connection.execute(NOTE_PLAYERS, span)
        connection.execute(MOVE_FIRST_DAYS, span)
        connection.execute(FORGET_COHORTS, span)
        connection.execute(COUNT_COHORTS, span)
        failpoint.reached("in_rollup")
        connection.execute(NOTE_RUNS, span)
        connection.execute(FORGET_MISSIONS, span)
        connection.execute(COUNT_MISSIONS, span)


def count_from(connection: Connection, first_day: date) -> None:
    """Count what is kept of all players anew from a day on; in the caller's transaction, with its lock."""
    for statement in (FORGET_COHORTS, COUNT_COHORTS, FORGET_MISSIONS, COUNT_MISSIONS):
        connection.execute(statement, {"day": first_day})
