"""Choices: an hour of raw events flows in, the moral choices made in it flow out, one by one.

They are few, and a change of sides shows only from one to the next: so each is kept, also when its raw event
has left with retention.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from jobs.summary import Summary, of_hour

# A side that the event does not name, or not by these names, is the way in which karma went.
CHOICES: Final = Summary(
    "moral_choices",
    "hour",
    ("player", "ts", "id"),
    ("mission", "choice", "side"),
    """
    select date_bin('1 hour', ts, 'epoch') as hour, player, ts, id,
           left(details ->> 'mission', 64) as mission, left(details ->> 'choice', 64) as choice,
           case when details ->> 'side' in ('good', 'evil') then details ->> 'side'
                when karma_delta > 0 then 'good' when karma_delta < 0 then 'evil' end as side
    from game_events where ts >= :begin and ts < :end and action = 'moral_choice'
    """,
)


def make(connection: Connection, hour: datetime) -> None:
    """Note the choices of an hour anew from its raw events."""
    span = of_hour(hour)
    connection.execute(CHOICES.forget, span)
    connection.execute(CHOICES.note, span)
