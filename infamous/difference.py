"""The difference: the shadow and the live table flow in, how they differ by day, and what that does to the
figures everybody looks at, flows out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Engine, TextClause, text

from infamous.shadow import SCHEMA, Shadow, ShadowError, find, midnight
from jobs.progress import Progress, untold

# All that an event says; when it was stored is no part of it.
_COLUMNS: Final = (
    "player", "action", "xp_delta", "karma_delta", "karma_total", "rank", "energy_source", "seq", "details",
)  # fmt: skip


@dataclass(frozen=True)
class DayDifference:
    """A day in both tables, in rows."""

    day: date
    live: int
    shadow: int
    # Only in the live table, and stored while the shadow was built or since: a swap takes them along.
    to_copy: int
    # Only in the live table, and older: a swap sets them aside.
    only_live: int
    only_shadow: int
    # In both, and not the same.
    differing: int

    @property
    def is_same(self) -> bool:
        """Whether a swap would change nothing."""
        return self.only_live == self.only_shadow == self.differing == 0


@dataclass(frozen=True)
class Metrics:
    """What everybody looks at, of all the days together; ``daily_actives`` is the mean of the days."""

    events: int
    players: int
    xp_gained: int
    karma_change: int
    missions_completed: int
    daily_actives: float


@dataclass(frozen=True)
class Difference:
    """Both tables, side by side, over the days that were not swapped yet."""

    days: tuple[DayDifference, ...]
    live: Metrics
    shadow: Metrics

    @property
    def is_same(self) -> bool:
        """Whether a swap would change nothing."""
        return all(day.is_same for day in self.days)


def compare(engine: Engine, tell: Progress = untold) -> Difference:
    """Compare every row of the days that were not swapped yet, in one snapshot. Raises ShadowError."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        return _compare(connection, find(connection), tell)


def _compare(connection: Connection, shadow: Shadow, tell: Progress) -> Difference:
    days = shadow.waiting
    if not days:
        raise ShadowError("All days of the shadow are in place: `infamous shadow drop` removes it.")
    found = []
    for number, day in enumerate(days):
        tell(number, len(days))
        found.append(compare_day(connection, shadow, day))
    tell(len(days), len(days))
    span = {"begin": midnight(days[0]), "end": midnight(days[-1] + timedelta(days=1))}
    live, beside = (
        _metrics(connection, _figures(schema), span, len(days)) for schema in (shadow.live, SCHEMA)
    )
    return Difference(tuple(found), live, beside)


def compare_day(connection: Connection, shadow: Shadow, day: date) -> DayDifference:
    """Compare the rows of one day."""
    span: dict[str, datetime] = {
        "begin": midnight(day),
        "end": midnight(day + timedelta(days=1)),
        "newer_than": shadow.newer_than,
    }
    row = connection.execute(_rows(shadow.live), span).one()
    return DayDifference(day, *row)


def _rows(live: str) -> TextClause:
    ours, theirs = (", ".join(f"{side}.{name}" for name in _COLUMNS) for side in ("l", "s"))
    return text(f"""
        select count(l.id), count(s.id),
               count(*) filter (where s.id is null and l.ingested_at >= :newer_than),
               count(*) filter (where s.id is null and l.ingested_at < :newer_than),
               count(*) filter (where l.id is null),
               count(*) filter (where l.id is not null and s.id is not null
                                  and ({ours}) is distinct from ({theirs}))
        from (select * from {live}.game_events where ts >= :begin and ts < :end) l
        full join (select * from {SCHEMA}.game_events where ts >= :begin and ts < :end) s
            on l.ts = s.ts and l.id = s.id
    """)  # noqa: S608  # the names are ours


def _figures(schema: str) -> TextClause:
    """A row for each day, and one for all of them together."""
    return text(f"""
        select (ts at time zone 'UTC')::date as day, count(*) as events,
               count(distinct player) as players,
               coalesce(sum(xp_delta) filter (where xp_delta > 0), 0)::bigint as xp_gained,
               coalesce(sum(karma_delta), 0)::bigint as karma_change,
               count(*) filter (where action = 'mission_complete') as missions_completed
        from {schema}.game_events where ts >= :begin and ts < :end
        group by grouping sets ((1), ())
    """)  # noqa: S608  # the names are ours


def _metrics(
    connection: Connection, figures: TextClause, span: dict[str, Any], days: int
) -> Metrics:
    rows = connection.execute(figures, span).all()
    (whole,) = (row for row in rows if row.day is None)
    return Metrics(
        events=whole.events,
        players=whole.players,
        xp_gained=whole.xp_gained,
        karma_change=whole.karma_change,
        missions_completed=whole.missions_completed,
        daily_actives=sum(row.players for row in rows if row.day is not None) / days,
    )
