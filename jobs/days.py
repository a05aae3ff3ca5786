"""Days: rolled-up hours of a day flow in, what the dashboards read flows out.

``daily_cohorts`` and ``daily_missions`` are a few rows a day, however many events and players there are.
They are counted from what is remembered of each player (``player_days``) and each run of a mission
(``mission_runs``). An event that comes late can move a player's first day, or a run's, to an earlier one,
and one that is removed to a later one, and so change the counts of later days: those are always counted
anew from the day on. All of it is made from hours that were rolled up, never from raw events, so a day
whose raw events are gone can be summed up as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Final

from sqlalchemy import Connection, text

from jobs import missions, sessions, touched
from jobs.summary import Summary, from_day, of_day
from jobs.touched import Told
from pipeline import failpoint
from pipeline.event import EVIL_RANKS, GOOD_RANKS

# Any number, the same for every rollup. One for all days, since one day's work can reach into others.
LOCK: Final = 4_815_162_344

LOCK_DAYS: Final = text("select pg_advisory_xact_lock(:lock)")
ROLLUPS: Final = Summary(
    "daily_rollups",
    "day",
    ("player", "action"),
    ("events", "xp_delta", "karma_delta"),
    """
    select (hour at time zone 'UTC')::date as day, player, action, sum(events)::bigint as events,
           sum(xp_delta)::bigint as xp_delta, sum(karma_delta)::bigint as karma_delta
    from hourly_rollups where hour >= :begin and hour < :end
    group by 1, 2, 3
    """,
)
_RANK: Final = " ".join(
    [
        "case",
        *(f"when karma_total <= {limit} then '{rank}'" for limit, rank in EVIL_RANKS),
        *(f"when karma_total >= {limit} then '{rank}'" for limit, rank in GOOD_RANKS),
        "when karma_total is not null then 'Neutral' end",
    ]
)
# All rows of a player carry its first day, but a day that has just been forgotten may have been it.
PLAYERS: Final = Summary(
    "player_days",
    "day",
    ("player",),
    ("first_day", "events", "xp_delta", "karma_delta", "karma_total", "rank"),
    f"""
    select cast(:day as date) as day, player, least(:day, (
        select min(known.day) from player_days known where known.player = active.player
    )) as first_day, events, xp_delta, karma_delta, karma_total, {_RANK} as rank
    from (
        select player, sum(events)::bigint as events, sum(xp_delta)::bigint as xp_delta,
               sum(karma_delta)::bigint as karma_delta
        from hourly_rollups where hour >= :begin and hour < :end
        group by player
    ) as active
    left join (
        select distinct on (player) player, karma_total
        from session_parts where hour >= :begin and hour < :end
        order by player, started_at desc
    ) as last_part using (player)
    """,  # noqa: S608  # the names are ours
)
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
COHORTS: Final = Summary(
    "daily_cohorts",
    "day",
    ("first_day",),
    ("players",),
    """
    select day, first_day, count(*) as players
    from player_days where day >= :day and day < :next_day group by day, first_day
    """,
)


def sum_up(
    connection: Connection, day: date, made: Sequence[datetime], told: Sequence[Told] = ()
) -> None:
    """Make what is kept of a UTC day anew from its rolled-up hours, in one transaction.

    ``made`` are those of its hours that changed, or may have; ``told`` is what is done with then: see
    touched.py. Several at once wait for each other. Repeated or broken off, it does no harm.
    """
    span, later = of_day(day), from_day(day)
    with connection.begin():
        connection.execute(LOCK_DAYS, {"lock": LOCK})
        connection.execute(ROLLUPS.forget, span)
        connection.execute(ROLLUPS.note, span)
        connection.execute(PLAYERS.forget, span)
        connection.execute(PLAYERS.note, span)
        connection.execute(MOVE_FIRST_DAYS, span)
        connection.execute(COHORTS.forget, later)
        connection.execute(COHORTS.note, later)
        failpoint.reached("in_rollup")
        missions.sum_up(connection, day)
        for other in sorted(set().union(*map(sessions.days_of, made))):
            sessions.sum_up(connection, other)
        touched.remove(connection, told)
