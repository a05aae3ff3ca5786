"""Missions: an hour of raw events flows in, the missions played in it flow out; of a day, the runs that those
hours make up, and how many began and ended when.

A run is one of a player, a mission and a playthrough, and may go over days. It is not remembered as such but
put together from the hours it was played in: so events may come late, be removed, or leave with retention,
and the run is what is known of it. It ends with its first completion: what a sender tells of it afterwards
is not counted. Both names are the sender's own: cut, they fit into an index whatever they are.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Final

from sqlalchemy import Connection, text

from jobs.summary import Summary, from_day, of_day, of_hour
from pipeline.event import INT64_MAX

# Whether an event comes before the first completion in its hour, or is it.
_COUNTS: Final = """(
    completed.ts is null or (played.ts, played.seq, played.id) <= (completed.ts, completed.seq, completed.id)
)"""
PARTS: Final = Summary(
    "mission_parts",
    "hour",
    ("player", "mission", "playthrough"),
    ("started_at", "ended_at", "completed_at", "events", "kills", "recharges"),
    f"""
    with played as (
        select date_bin('1 hour', ts, 'epoch') as hour, player, left(details ->> 'mission', 64) as mission,
               left(coalesce(details ->> 'playthrough', '1'), 64) as playthrough,
               action, ts, coalesce(seq, {INT64_MAX}) as seq, id
        from game_events
        where ts >= :begin and ts < :end and details ->> 'mission' is not null
    ), completed as (
        select distinct on (hour, player, mission, playthrough) *
        from played where action = 'mission_complete'
        order by hour, player, mission, playthrough, ts, seq, id
    )
    select hour, player, mission, playthrough, min(played.ts) as started_at, max(played.ts) as ended_at,
           min(completed.ts) as completed_at, count(*) filter (where {_COUNTS}) as events,
           count(*) filter (where {_COUNTS} and played.action = 'kill_enemy') as kills,
           count(*) filter (where {_COUNTS} and played.action = 'recharge') as recharges
    from played left join completed using (hour, player, mission, playthrough)
    group by hour, player, mission, playthrough
    """,  # noqa: S608  # the names are ours
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

# Where the events of one part were never counted, those of the run are not known either.
_PUT_TOGETHER: Final = """
select player, mission, playthrough, (min(started_at) at time zone 'UTC')::date as started_on,
       (min(completed_at) at time zone 'UTC')::date as completed_on, min(started_at) as started_at,
       min(completed_at) as completed_at, coalesce(min(completed_at), max(ended_at)) as ended_at,
       case when count(events) = count(*) then sum(events)::bigint end as events,
       case when count(kills) = count(*) then sum(kills)::bigint end as kills,
       case when count(recharges) = count(*) then sum(recharges)::bigint end as recharges
from (
    select *, min(completed_at) over (partition by player, mission, playthrough) as ended
    from mission_parts {concerned}
) as parts
where hour <= coalesce(ended, 'infinity')
group by player, mission, playthrough
"""
_OF_RUN: Final = (
    "started_on", "completed_on", "started_at", "completed_at", "ended_at", "events", "kills", "recharges",
)  # fmt: skip
_KNOWN: Final = ", ".join(f"known.{name}" for name in _OF_RUN)
# A day's hours can change runs that were played in them, and those that were said to go on there: of these
# they may have lost all events.
RENEW_RUNS: Final = text(f"""
with concerned as (
    select player, mission, playthrough from mission_parts where hour >= :begin and hour < :end
    union
    select player, mission, playthrough from mission_runs
    where started_at < :end and ended_at >= :begin or started_on = :day or completed_on = :day
), runs as (
    {_PUT_TOGETHER.format(concerned="join concerned using (player, mission, playthrough)")}
), gone as (
    delete from mission_runs using (
        select * from concerned except select player, mission, playthrough from runs
    ) as lost
    where (mission_runs.player, mission_runs.mission, mission_runs.playthrough)
        = (lost.player, lost.mission, lost.playthrough)
)
insert into mission_runs as known (player, mission, playthrough, {", ".join(_OF_RUN)})
select * from runs
on conflict (player, mission, playthrough) do update set
    {", ".join(f"{name} = excluded.{name}" for name in _OF_RUN)}
where ({_KNOWN}) is distinct from ({", ".join(f"excluded.{name}" for name in _OF_RUN)})
""")  # noqa: S608  # the names are ours
# The days on which runs begin or end, or should, of which something is wrong.
WRONG_RUNS: Final = text(f"""
with runs as ({_PUT_TOGETHER.format(concerned="")})
select distinct array_remove(array[
    runs.started_on, (runs.ended_at at time zone 'UTC')::date,
    known.started_on, known.completed_on,
    (known.started_at at time zone 'UTC')::date, (known.ended_at at time zone 'UTC')::date
], null)
from runs full join mission_runs as known using (player, mission, playthrough)
where ({", ".join(f"runs.{name}" for name in _OF_RUN)}) is distinct from ({_KNOWN})
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
