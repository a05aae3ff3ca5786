"""Sessions: an hour of raw events flows in, its sessions flow out; two days of those flow in, the numbers of
the sessions that began on the first flow out.

A gap of more than 30 minutes ends a session. Sessions are cut by UTC hour, so that an hour can be made anew
alone. A part is continued from the hour directly before it or from none, because half an hour is shorter
than an hour; so a change in an hour reaches no further than what the next hour's parts continue.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Final

from sqlalchemy import Connection, text

from jobs.summary import DAY, HOUR, Summary, of_day, of_hour

# Events exactly so far apart are of the same session.
_GAP: Final = "interval '30 minutes'"
# Written out where it is used: joined as a table of one row, it takes a sixth of the time.
_HOUR: Final = "date_bin('1 hour', ts, 'epoch')"

PARTS: Final = Summary(
    "session_parts",
    "hour",
    ("player", "started_at"),
    ("ended_at", "events", "xp_delta", "karma_delta", "karma_total"),
    f"""
    select hour, player, min(ts) as started_at, max(ts) as ended_at, count(*) as events,
           sum(xp_delta) as xp_delta, sum(karma_delta) as karma_delta,
           max(karma_total) filter (where is_end) as karma_total
    from (
        select *, count(*) filter (where is_start) over (partition by player, hour order by ts) as part
        from (
            select {_HOUR} as hour, player, ts, xp_delta, karma_delta, karma_total,
                   ts - lag(ts) over in_order > {_GAP} as is_start,
                   coalesce(lead(ts) over in_order - ts > {_GAP}, true) as is_end
            from game_events where ts >= :begin and ts < :end
            window in_order as (partition by player, {_HOUR} order by ts, seq, id)
        ) as spaced
    ) as numbered
    group by hour, player, part
    """,  # noqa: S608  # the names are ours
)
_FOLLOWS: Final = f"""
exists (
    select from session_parts before
    where before.hour = part.hour - interval '1 hour' and before.player = part.player
      and before.ended_at >= part.started_at - {_GAP}
)
"""
NOTE_PARTS: Final = text(f"""
insert into session_parts
    (hour, player, started_at, ended_at, events, xp_delta, karma_delta, karma_total, is_continued)
select part.*, {_FOLLOWS} from ({PARTS.count}) as part
""")  # noqa: S608
LINK: Final = text(f"""
update session_parts part set is_continued = not is_continued
where hour >= :begin and hour < :end and is_continued <> {_FOLLOWS}
""")  # noqa: S608
# Those hours of a span in which a part is said to be continued that is not, or the other way round.
MISLINKED: Final = text(f"""
select distinct hour from session_parts part
where hour >= :begin and hour < :end and is_continued <> {_FOLLOWS}
""")  # noqa: S608

# Followed to the end of the next day, so that a player who never stops costs two days and no more.
DAILY: Final = Summary(
    "daily_sessions",
    "day",
    (),
    ("sessions", "players", "seconds_sum", "seconds_p50", "seconds_p90"),
    """
    select cast(:day as date) as day, count(*) as sessions, count(distinct player) as players,
           cast(sum(seconds) as double precision) as seconds_sum,
           percentile_cont(0.5) within group (order by seconds) as seconds_p50,
           percentile_cont(0.9) within group (order by seconds) as seconds_p90
    from (
        select player, extract(epoch from max(ended_at) - min(started_at)) as seconds
        from (
            select player, started_at, ended_at,
                   count(*) filter (where not is_continued)
                       over (partition by player order by started_at) as session
            from session_parts
            where hour >= :begin and hour < cast(:end as timestamptz) + interval '24 hours'
        ) as numbered
        where session > 0
        group by player, session
        having min(started_at) < :end
    ) as begun
    having count(*) > 0
    """,
)


def days_of(hour: datetime) -> set[date]:
    """The days whose sessions a change in that UTC hour may change: they go on into the next day, and the
    last hour of a day says which go on into the next one, and so do not begin there.
    """
    day = hour.date()
    return {day - DAY, day, (hour + HOUR).date()}


def make(connection: Connection, hour: datetime) -> None:
    """Make the parts of an hour anew from its raw events."""
    span = of_hour(hour)
    connection.execute(PARTS.forget, span)
    connection.execute(NOTE_PARTS, span)


def link(connection: Connection, hour: datetime) -> None:
    """Say anew of the parts of an hour, and of the next, whether they are continued.

    Those of the hour itself are right if it was just made. They are not where it could not be made, and
    what is kept of its players was changed by another.
    """
    connection.execute(LINK, {"begin": hour, "end": hour + 2 * HOUR})


def sum_up(connection: Connection, day: date) -> None:
    """Make the numbers of the sessions that began on a UTC day anew from its parts and those of the next."""
    span = of_day(day)
    connection.execute(DAILY.forget, span)
    connection.execute(DAILY.note, span)
