"""Raw: the partitions of game_events flow in, of which hours the raw events are there flows out.

Retention drops partitions: what was rolled up of their hours is then all there is, and stays. An hour whose
partition is there and empty is another thing: its events were removed, and so are its rollups. Partitions
are known by their bounds, for they may be days or parts of one.

A day that was dropped may come back: RETENTION_DAYS is raised, and somebody's old events are sent again. Its
raw events are then some of those that were, and a recount would take the others out of the rollups. So the
rule is: an hour that was rolled up when its partition was dropped is never counted from raw events again. The
events are stored, and not rolled up; most of them were so already. Which hours these are is noted by the
database when it makes a partition where rollups are (``kept_hours``), so whoever dropped the one before need
say nothing; hours of the last day, which retention never drops, are no such hours. Only a day that is built
anew as a whole, and swapped in, is counted again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, text

from jobs.summary import HOUR

# One that is about to be detached is passed over by questions already.
_SPANS: Final = r"""
select cast(bounds[1] as timestamptz) as first, cast(bounds[2] as timestamptz) as beyond
from pg_inherits join pg_class partition on partition.oid = inhrelid,
     regexp_match(
         pg_get_expr(relpartbound, partition.oid), $$FOR VALUES FROM \('(.+)'\) TO \('(.+)'\)$$
     ) as bounds
where inhparent = cast('game_events' as regclass) and not inhdetachpending
"""
HAS_RAW: Final = text(f"""
select exists (select from ({_SPANS}) as spans where first <= :begin and beyond >= :end)
   and not exists (select from kept_hours where hour = :begin)
""")  # noqa: S608  # the names are ours
HOURS: Final = text(f"""
select hour from ({_SPANS}) as spans, generate_series(first, beyond, '1 hour') as hour
where hour + interval '1 hour' <= beyond and hour < clock_timestamp()
  and hour not in (select kept.hour from kept_hours kept)
order by hour
""")  # noqa: S608


def has_hour(connection: Connection, hour: datetime) -> bool:
    """Whether all raw events of the UTC hour that begins then are there, as far as there were any."""
    span = {"begin": hour, "end": hour + HOUR}
    return bool(connection.execute(HAS_RAW, span).scalar_one())


def hours(connection: Connection) -> list[datetime]:
    """All such hours, up to the current one."""
    return [hour.astimezone(UTC) for hour in connection.execute(HOURS).scalars()]
