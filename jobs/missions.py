"""Missions: an hour of raw events flows in, the missions played in it flow out; of a day, the runs that those
hours make up, and how many began and ended when.

A run is one of a player, a mission and a playthrough, and may go over days. It is not remembered as such but
put together from the hours it was played in: so events may come late, be removed, or leave with retention,
and the run is what is known of it. Both names are the sender's own: cut, they fit into an index whatever
they are.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Final

from sqlalchemy import Connection, text

from jobs.summary import Summary, from_day, of_day, of_hour

PARTS: Final = Summary(
    "mission_parts",
    "hour",
    ("player", "mission", "playthrough"),
    ("is_completed",),
    """
    select date_bin('1 hour', ts, 'epoch') as hour, player, left(details ->> 'mission', 64) as mission,
           left(coalesce(details ->> 'playthrough', '1'), 64) as playthrough,
           bool_or(action = 'mission_complete') as is_completed
    from game_events
    where ts >= :begin and ts < :end and details ->> 'mission' is not null
    group by 1, 2, 3, 4
    """,
)
DAILY: Final = Summary(
    "daily_missions",
    "day",
    ("mission",),
    ("runs_started", "runs_completed", "players_started", "players_completed"),
    """
    select day, mission, count(*) filter (where is_start) as runs_started,
           count(*) filter (where not is_start) as runs_completed,
           count(*) filter (where is_start and playthrough = '1') as players_started,
           count(*) filter (where not is_start and playthrough = '1') as players_completed
    from (
        select started_on as day, mission, playthrough, true as is_start
        from mission_runs where started_on >= :day and started_on < :next_day
        union all
        select completed_on, mission, playthrough, false
        from mission_runs where completed_on >= :day and completed_on < :next_day
    ) as steps
    group by day, mission
    """,
)

_PUT_TOGETHER: Final = """
select player, mission, playthrough, (min(hour) at time zone 'UTC')::date as started_on,
       (min(hour) filter (where is_completed) at time zone 'UTC')::date as completed_on
from mission_parts
"""
# A day's hours can change runs that were played in them, and those that were said to begin or end there.
RENEW_RUNS: Final = text(f"""
with concerned as (
    select player, mission, playthrough from mission_parts where hour >= :begin and hour < :end
    union
    select player, mission, playthrough from mission_runs where started_on = :day
    union
    select player, mission, playthrough from mission_runs where completed_on = :day
), runs as (
    {_PUT_TOGETHER} join concerned using (player, mission, playthrough)
    group by player, mission, playthrough
), gone as (
    delete from mission_runs using (
        select * from concerned except select player, mission, playthrough from runs
    ) as lost
    where (mission_runs.player, mission_runs.mission, mission_runs.playthrough)
        = (lost.player, lost.mission, lost.playthrough)
)
insert into mission_runs as known (player, mission, playthrough, started_on, completed_on)
select * from runs
on conflict (player, mission, playthrough) do update set
    started_on = excluded.started_on, completed_on = excluded.completed_on
where (known.started_on, known.completed_on)
    is distinct from (excluded.started_on, excluded.completed_on)
""")  # noqa: S608  # the names are ours
# The days on which runs begin or end, or should, of which something is wrong.
WRONG_RUNS: Final = text(f"""
with runs as ({_PUT_TOGETHER} group by player, mission, playthrough)
select distinct array_remove(array[
    runs.started_on, runs.completed_on, known.started_on, known.completed_on
], null)
from runs full join mission_runs as known using (player, mission, playthrough)
where (runs.started_on, runs.completed_on) is distinct from (known.started_on, known.completed_on)
""")  # noqa: S608


def make(connection: Connection, hour: datetime) -> None:
    """Make the missions played in an hour anew from its raw events."""
    span = of_hour(hour)
    connection.execute(PARTS.forget, span)
    connection.execute(PARTS.note, span)


def sum_up(connection: Connection, day: date) -> None:
    """Put the runs together anew that a UTC day has to do with; count what began and ended from it on."""
    connection.execute(RENEW_RUNS, of_day(day))
    later = from_day(day)
    connection.execute(DAILY.forget, later)
    connection.execute(DAILY.note, later)
