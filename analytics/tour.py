"""Tour: what is in the tables, when it happens, and one player's story: a database flows in, frames flow out.

All but the newest event is read from rollups: a table of ten million events is looked over as fast as a small
one.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import pandas as pd
from sqlalchemy import Engine

from analytics import words
from analytics.ask import ask
from analytics.data import query
from analytics.frames import RANKS
from analytics.period import Period
from pipeline.event import ACTIONS, RANK_BY_KARMA

# An example is cut to so many characters: details may be of 4 KiB.
EXAMPLE_CHARS: Final = 120
# And a name in a title, which is not broken within a word.
NAME_CHARS: Final = 24
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_CONTENTS: Final = """
select now() as asked_at,
       (select cast(sum(events) as bigint) from hourly_totals) as events,
       (select cast(sum(players) as bigint) from daily_cohorts where day = first_day) as players,
       (select min(day) from daily_cohorts) as first_day,
       (select max(ts) from game_events) as newest_at
"""
_BUSIEST: Final = """
select count(*) as players,
       cast(coalesce(sum(events), 0) as bigint) as events,
       cast(coalesce(sum(events) filter (where 10 * (place - 1) < players), 0) as bigint) as of_busiest_tenth
from (
    select events, row_number() over (order by events desc, player) as place, count(*) over () as players
    from (
        select player, sum(events) as events
        from player_days
        where day between :first and :last
        group by player
    ) as played
) as placed
"""
_COLUMNS: Final = """
select attname as "column", format_type(atttypid, atttypmod) as type,
       coalesce(col_description(attrelid, attnum), '') as meaning
from pg_attribute
where attrelid = cast('game_events' as regclass) and attnum > 0 and not attisdropped
order by attnum
"""
_NEWEST: Final = "select * from game_events order by ts desc, id desc limit 1"
# An hour without events has zeros, from the first that is known to the last that has begun.
_HOURS: Final = """
select hours.hour, action, coalesce(events, 0) as events
from generate_series(
    greatest(:since, (select min(hour) from hourly_totals)),
    least(:until - interval '1 hour', date_trunc('hour', now())),
    interval '1 hour'
) as hours (hour)
cross join unnest(cast(:actions as text[])) with ordinality as actions (action, place)
left join hourly_totals using (hour, action)
where exists (select from hourly_totals)
order by hours.hour, place
"""
_SESSIONS: Final = """
select ended_at as ts, karma_total, xp_delta, events
from session_parts
where hour >= :since and hour < :until and player = :player
order by ended_at
"""
_BEFORE: Final = """
select cast(coalesce(sum(xp_delta), 0) as bigint) as xp,
       (max(array[day - date '2000-01-01', karma_total]) filter (where karma_total is not null))[2] as karma
from player_days
where player = :player and day < :first
"""
_CHOICES: Final = """
select ts, side from moral_choices
where player = :player and ts >= :since and ts < :until and side is not null
order by ts, id
"""


@dataclass(frozen=True)
class Contents:
    """What is in the tables, whenever it happened; ``players`` and ``events`` as far as summed up."""

    asked_at: datetime
    events: int
    players: int
    first_day: date | None
    newest_at: datetime | None
    # Of the period: who played, what they did, and how much of that is of the busiest tenth of them.
    period: Period
    active_players: int
    period_events: int
    of_busiest_tenth: int

    @property
    def age_s(self) -> float | None:
        """Seconds since the newest event happened; None where there is none."""
        if self.newest_at is None:
            return None
        # A sender's clock may run ahead of ours.
        return max(0.0, (self.asked_at - self.newest_at).total_seconds())

    @property
    def share_of_busiest_tenth(self) -> float | None:
        """Of the period's events; None where there are none."""
        return self.of_busiest_tenth / self.period_events if self.period_events else None

    @property
    def table(self) -> pd.DataFrame:
        """For people: ``what`` and ``how much``."""
        first, newest = self.first_day, self.newest_at
        rows = {
            "Events": words.whole(self.events),
            "Players": words.whole(self.players),
            "First day": f"{first:%-d %b %Y}" if first else words.DASH,
            "Newest event": f"{newest:%-d %b %Y, %H:%M:%S} UTC" if newest else words.DASH,
            "Its age": words.lasting(self.age_s),
            f"Events, {self.period}": words.whole(self.period_events),
            f"Players, {self.period}": words.whole(self.active_players),
            "Of these, the busiest tenth did": words.percent(self.share_of_busiest_tenth),
        }
        return pd.DataFrame({"what": list(rows), "how much": list(rows.values())})

    @property
    def finding(self) -> str:
        """In a sentence or two."""
        if self.newest_at is None and not self.events:
            return "The table is empty: `infamous up` plays the game and fills it"
        if not self.events:
            return "Events are stored, but none is summed up yet: is a worker running?"
        told = (
            f"{words.counted(self.events, 'event')} of {words.counted(self.players, 'player')}"
            f" since {self.first_day:%-d %b %Y}"
        )
        if not self.newest_at:
            return told
        age = (
            "under a minute"
            if self.age_s is not None and self.age_s < 60
            else words.lasting(self.age_s)
        )
        return f"{told}; the newest is {age} old"


def contents(engine: Engine, period: Period) -> Contents:
    """How much there is, from whom, and how fresh it is; and how much of it in the period."""
    known = query(engine, _CONTENTS).iloc[0]
    played = query(engine, _BUSIEST, first=period.first, last=period.last).iloc[0]
    return Contents(
        asked_at=known["asked_at"],
        events=_count(known["events"]),
        players=_count(known["players"]),
        first_day=None if pd.isna(known["first_day"]) else known["first_day"].date(),
        newest_at=None if pd.isna(known["newest_at"]) else known["newest_at"],
        period=period,
        active_players=_count(played["players"]),
        period_events=_count(played["events"]),
        of_busiest_tenth=_count(played["of_busiest_tenth"]),
    )


def columns(engine: Engine) -> pd.DataFrame:
    """The columns of an event: ``column``, ``type``, ``meaning`` as the database knows it, and an
    ``example``: what the newest event has there, as text; a dash where it has nothing.
    """
    found = query(engine, _COLUMNS)
    newest = query(engine, _NEWEST)
    row = dict(newest.iloc[0]) if len(newest) else {}
    return found.assign(example=[_example(row.get(name)) for name in found["column"]])


def hours(engine: Engine, period: Period) -> pd.DataFrame:
    """``events`` by ``hour`` and ``action``, each of the six in each hour, from the first that is known or of
    the period, to the last that has begun; no row where nothing is known.
    """
    values = {"since": period.since, "until": period.until, "actions": list(ACTIONS)}
    return query(engine, _HOURS, **values)


def by_day(hours: pd.DataFrame) -> pd.DataFrame:
    """The same by UTC day: an index of ``day``, and a column for each action, the most frequent first."""
    day = hours["hour"].dt.tz_localize(None).dt.normalize().rename("day")
    table = hours.groupby([day, "action"], observed=False)["events"].sum().unstack("action")
    table.columns = table.columns.astype("str")
    return table[table.sum().sort_values(ascending=False, kind="stable").index]


def rhythm(hours: pd.DataFrame) -> pd.DataFrame:
    """The mean events of an hour of the week: rows are weekdays, 0 is Monday, columns the hours of a UTC day;
    NA where no such hour is in :func:`hours`.
    """
    each = hours.groupby("hour", as_index=False)["events"].sum()
    when = each["hour"].dt
    table = each.groupby([when.day_of_week.rename("weekday"), when.hour.rename("hour")])["events"]
    means: pd.DataFrame = table.mean().unstack("hour")
    return means.reindex(index=range(7), columns=range(24))


@dataclass(frozen=True)
class Story:
    """One player over the period. ``player`` is None where nobody played."""

    player: str | None
    # ts, karma, xp in hand, at the end of each session, or of its part within an hour
    path: pd.DataFrame
    # ts, side (good, evil)
    choices: pd.DataFrame

    @property
    def rank_changes(self) -> int:
        """How often the rank at the end of a session was not that of the one before."""
        ranks = [RANK_BY_KARMA[int(karma)] for karma in self.path["karma"].dropna()]
        return sum(before != after for before, after in itertools.pairwise(ranks))

    @property
    def ranks(self) -> tuple[str, ...]:
        """Those it had, in the order from Infamous to Hero."""
        had = {RANK_BY_KARMA[int(karma)] for karma in self.path["karma"].dropna()}
        return tuple(rank for rank in RANKS if rank in had)

    @property
    def finding(self) -> str:
        """In a sentence."""
        if self.player is None:
            return "Nobody played"
        name, karma = words.name(self.player, NAME_CHARS), self.path["karma"].dropna()
        if karma.empty:
            return f"{name} played, and nobody knows with which karma"
        rank = RANK_BY_KARMA[int(karma.iloc[-1])]
        told = f"{name} stands at karma {words.signed(karma.iloc[-1])} ({rank})"
        changes = self.rank_changes
        return f"{told}, after {words.counted(changes, 'change')} of rank" if changes else told


def story(engine: Engine, period: Period) -> Story:
    """That of the player who did the most in the period."""
    top = ask(engine, "top_players", period)
    player = None if top.empty else str(top["player"].iloc[0])
    span = {"player": player, "since": period.since, "until": period.until}
    before = query(engine, _BEFORE, player=player, first=period.first).iloc[0]
    sessions = query(engine, _SESSIONS, **span)
    path = pd.DataFrame(
        {
            "ts": sessions["ts"],
            "karma": sessions["karma_total"].astype("Int64"),
            "xp": sessions["xp_delta"].cumsum() + int(before["xp"]),
        }
    )
    return Story(player, path, query(engine, _CHOICES, **span))


def detail_keys(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Which keys senders write into ``details``, of frames with that column: ``key`` and ``events`` with it,
    the most frequent first. The frames are read one after the other.
    """
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(key for details in part["details"].dropna() for key in details)
    found = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return pd.DataFrame(found, columns=["key", "events"]).astype({"key": "str", "events": "int64"})


def _count(value: Any) -> int:
    return 0 if pd.isna(value) else int(value)


def _example(value: Any) -> str:
    if isinstance(value, dict):
        text = json.dumps(value, ensure_ascii=False)
    elif value is None or pd.isna(value):
        return words.DASH
    else:
        text = str(value)
    return words.name(text, EXAMPLE_CHARS)
