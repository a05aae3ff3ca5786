"""Items: an hour of raw events flows in; how often each thing was fought, drained, bought or done flows out.

No player is in it, so it stays as it is where a player is forgotten whose raw events are gone already: what
is left of them there are counts. A sender may name as many things as it likes; of one hour and action only
the most frequent keep their names, so the table stays small whatever is sent.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from jobs.summary import Summary, of_hour

# Things with a name, an hour and action; what is over goes by the other.
MOST: Final = 100
OTHER: Final = "(other)"

# Names are compared as bytes: which of two comes first must not hang on the database's language.
ITEMS: Final = Summary(
    "hourly_items",
    "hour",
    ("action", "district", "subject", "variant"),
    ("events", "xp_delta", "karma_delta"),
    f"""
    select hour, action, case when place <= {MOST} then district else '{OTHER}' end as district,
           case when place <= {MOST} then subject else '{OTHER}' end as subject,
           case when place <= {MOST} then variant else '' end as variant,
           sum(events)::bigint as events, sum(xp_delta)::bigint as xp_delta,
           sum(karma_delta)::bigint as karma_delta
    from (
        select *, row_number() over (
            partition by hour, action
            order by events desc, district collate "C", subject collate "C", variant collate "C"
        ) as place
        from (
            select date_bin('1 hour', ts, 'epoch') as hour, action,
                   left(coalesce(details ->> 'district', ''), 64) as district,
                   left(coalesce(case action
                       when 'kill_enemy' then details ->> 'enemy'
                       when 'kill_civilian' then details ->> 'civilian'
                       when 'recharge' then energy_source
                       when 'mission_complete' then details ->> 'mission'
                       when 'ability_upgrade' then details ->> 'ability'
                       when 'moral_choice' then details ->> 'choice'
                   end, ''), 64) as subject,
                   left(coalesce(case action
                       when 'kill_enemy' then details ->> 'ability'
                       when 'kill_civilian' then details ->> 'ability'
                       when 'mission_complete' then details ->> 'kind'
                       when 'ability_upgrade' then details ->> 'level'
                       when 'moral_choice' then details ->> 'side'
                   end, ''), 64) as variant,
                   count(*) as events, sum(xp_delta) as xp_delta, sum(karma_delta) as karma_delta
            from game_events where ts >= :begin and ts < :end
            group by 1, 2, 3, 4, 5
        ) as counted
    ) as placed
    group by 1, 2, 3, 4, 5
    """,  # noqa: S608  # the names are ours
)


def make(connection: Connection, hour: datetime) -> None:
    """Count the things of an hour anew from its raw events."""
    span = of_hour(hour)
    connection.execute(ITEMS.forget, span)
    connection.execute(ITEMS.note, span)
