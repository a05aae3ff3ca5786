"""Quality: whether the data can be trusted: a database flows in, frames, sentences and verdicts flow out.

What has to read raw events reads the newest of them, up to a stated number: it takes as long on ten million
rows as on one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import pandas as pd
from sqlalchemy import Engine

from analytics import words
from analytics.ask import ask
from analytics.data import query
from analytics.period import Period
from pipeline.rules import BROKEN, RULES

# So many raw events are looked at, or those of one hour where these are more.
MOST_EVENTS: Final = 1_000_000
# What was sent so long after it happened is no delay of the pipeline's; clocks may differ by as much.
LATE_S: Final = 300
# As dashboards raise the alarm: later than this, or more of 1 refused.
SLOW_S: Final = 300
MOST_REFUSED: Final = 0.01
# Of the rows that break a rule, so many are shown.
SAMPLES: Final = 5
# What becomes of an entry of the stream.
OUTCOMES: Final = ("stored", "duplicates", "quarantined", "forgotten", "lost")

_HOURS: Final = """
select hour, cast(sum(events) as bigint) as events
from hourly_totals
where hour >= :since and hour < :until
group by hour
order by hour desc
"""
_AUDIT: Final = f"""
with earned as (
    -- A player's XP at the beginning, from the rollups.
    select player, sum(xp_delta) as xp
    from (
        select player, xp_delta from player_days where day < cast(:midnight at time zone 'UTC' as date)
        union all
        select player, xp_delta from hourly_rollups where hour >= :midnight and hour < :since
    ) as before
    group by player
), chained as (
    select player, seq, id, ts, karma_delta, karma_total, rank,
           lag(seq) over in_order as previous_seq,
           lag(karma_total) over in_order as previous_karma,
           coalesce(earned.xp, 0) + sum(xp_delta) over (in_order rows unbounded preceding) as xp
    from game_events left join earned using (player)
    where ts >= :since and ts < :until
    window in_order as (partition by player order by seq, ts, id)
), broken as (
    select {BROKEN} as rule, player, seq, id, ts
    from chained
), numbered as (
    select *, count(*) over (partition by rule) as broken_rows,
           row_number() over (partition by rule order by player, seq, ts, id) as number
    from broken
    -- What is missing at an edge may lie beyond it, since clocks run back at times, or be on its way.
    where rule <> 'seq'
       or ts >= :since + interval '5 minutes' and ts < least(:until, now()) - interval '5 minutes'
)
select rule, broken_rows, player, seq, ts from numbered where number <= :samples
order by rule, number
"""  # noqa: S608  # the rules are ours
_ROWS: Final = """
select count(*) as rows, count(*) filter (where seq is null) as unsequenced
from game_events
where ts >= :since and ts < :until
"""
# Of what was sent late, none of the time is the pipeline's but what entries waited in that minute.
_DELAYS: Final = """
with waited as (
    select minute, max(age_p99_s) as waited_s
    from pipeline_health
    where minute >= :since
    group by minute
), arrived as (
    select date_bin('1 hour', ts, 'epoch') as hour, extract(epoch from ingested_at - ts) as delay_s,
           extract(epoch from ingested_at - ts) - coalesce(waited_s, 0) > :late_s as is_late
    from game_events left join waited on minute = date_bin('1 minute', ingested_at, 'epoch')
    where ts >= :since and ts < :until
)
select hour, count(*) filter (where not is_late) as events, count(*) filter (where is_late) as sent_late,
       percentile_cont(0.5) within group (order by delay_s) filter (where not is_late) as p50_s,
       percentile_cont(0.95) within group (order by delay_s) filter (where not is_late) as p95_s,
       percentile_cont(0.99) within group (order by delay_s) filter (where not is_late) as p99_s
from arrived
group by grouping sets ((hour), ())
order by hour nulls last
"""
_OUTCOMES: Final = """
with known as (
    select greatest(:since, min(minute)) as since, least(:until, now()) as until
    from pipeline_health
    having count(*) > 0
), span as (
    select date_bin(step, since, 'epoch') as first, until, step
    from (
        select *, case when until - since <= interval '14 days' then interval '1 hour'
                       else interval '24 hours' end as step
        from known
    ) as stepped
), minutes as (
    select minute, sum(stored) as stored, sum(duplicates) as duplicates, sum(quarantined) as quarantined,
           sum(forgotten) as forgotten, sum(lost) as lost, max(age_p50_s) as age_p50_s,
           max(age_p95_s) as age_p95_s, max(age_p99_s) as age_p99_s
    from pipeline_health
    where minute >= :since and minute < :until
    group by minute
), counted as (
    select date_bin(step, minute, 'epoch') as begins_at,
           sum(stored) as stored, sum(duplicates) as duplicates, sum(quarantined) as quarantined,
           sum(forgotten) as forgotten, sum(lost) as lost, max(age_p50_s) as age_p50_s,
           max(age_p95_s) as age_p95_s, max(age_p99_s) as age_p99_s
    from span cross join minutes
    group by 1
)
select begins_at,
       cast(coalesce(stored, 0) as bigint) as stored, cast(coalesce(duplicates, 0) as bigint) as duplicates,
       cast(coalesce(quarantined, 0) as bigint) as quarantined,
       cast(coalesce(forgotten, 0) as bigint) as forgotten, cast(coalesce(lost, 0) as bigint) as lost,
       age_p50_s, age_p95_s, age_p99_s
from span
cross join generate_series(first, until - interval '1 microsecond', step) as begins_at
left join counted using (begins_at)
order by begins_at
"""
_REFUSED: Final = """
select key as reason, cast(sum(cast(value as bigint)) as bigint) as refused
from pipeline_health cross join jsonb_each_text(quarantined_by_reason)
where minute >= :since and minute < :until and quarantined > 0
group by key
order by 2 desc, 1
"""
_DAYS: Final = """
select cast(days.day as date) as day, cast(coalesce(events, 0) as bigint) as events,
       partitions.day is not null as has_raw
from (select greatest(:first, min(day)) as first from daily_cohorts having count(*) > 0) as span
cross join generate_series(cast(first as timestamp), cast(:last as timestamp), interval '1 day') as days (day)
left join (
    select cast(hour at time zone 'UTC' as date) as day, sum(events) as events
    from hourly_totals
    where hour >= :since and hour < :until
    group by 1
) as counted on counted.day = days.day
left join (
    select distinct to_date(substring(relname from 13 for 8), 'YYYYMMDD') as day
    from pg_partition_tree('game_events') join pg_class on oid = relid
    where isleaf and relname ~ '^game_events_[0-9]{8}(_[0-9]{2})?$'
) as partitions on partitions.day = days.day
order by days.day
"""
_CHECKS: Final = """
select count(*) as checks, cast(coalesce(sum(hours), 0) as bigint) as hours,
       cast(coalesce(sum(wrong), 0) as bigint) as wrong, max(checked_at) as checked_at
from rollup_checks
where checked_at >= :since
"""


@dataclass(frozen=True)
class Window:
    """Whole hours whose raw events are looked at, and how many these are as far as they are summed up."""

    since: datetime
    until: datetime
    events: int

    def __str__(self) -> str:
        """For people."""
        return f"{self.since:%-d %b %Y, %H:%M} to {self.until:%-d %b %Y, %H:%M} UTC"


def window(engine: Engine, period: Period, most: int = MOST_EVENTS) -> Window:
    """The newest hours of the period that hold no more events than that; one at least, or a day where nothing
    is known of hours.
    """
    hours = query(engine, _HOURS, since=period.since, until=period.until)
    return newest(hours, period, most)


def newest(hours: pd.DataFrame, period: Period, most: int) -> Window:
    """The same of ``events`` by ``hour``, the newest first."""
    if hours.empty:
        return Window(period.until - timedelta(days=1), period.until, 0)
    total = hours["events"].cumsum()
    taken = max(1, int((total <= most).sum()))
    since = period.since if taken == len(hours) else hours["hour"].iloc[taken - 1].to_pydatetime()
    return Window(since, period.until, int(total.iloc[taken - 1]))


@dataclass(frozen=True)
class Audit:
    """The rules of pipeline/rules.py, as far as a window of events can tell."""

    window: Window
    rows: int
    # Rows that their sender does not count: their order is not known, and seq, karma and XP are not checked.
    unsequenced: int
    # rule, broken_rows, player, seq, ts: of each rule that does not hold the first rows that break it
    broken: pd.DataFrame

    @property
    def table(self) -> pd.DataFrame:
        """``rule``, in words, and ``broken rows``."""
        counts = dict(zip(self.broken["rule"], self.broken["broken_rows"], strict=True))
        rows = [(meaning, int(counts.get(rule, 0))) for rule, meaning in RULES.items()]
        return pd.DataFrame(rows, columns=["rule", "broken rows"])

    @property
    def samples(self) -> pd.DataFrame:
        """The first events that break a rule: ``rule``, ``player``, ``seq``, ``happened at``."""
        shown = self.broken[["rule", "player", "seq", "ts"]].rename(columns={"ts": "happened at"})
        return shown.assign(player=[words.name(player) for player in shown["player"]])

    @property
    def finding(self) -> str:
        """In a sentence."""
        if not self.rows:
            return "There are no raw events to check"
        table = self.table[self.table["broken rows"] > 0]
        if table.empty:
            checked = (
                ""
                if not self.unsequenced
                else f", {words.whole(self.unsequenced)} of them not counted"
            )
            return f"Every rule holds in {words.counted(self.rows, 'event')}{checked}"
        counts = self.broken.drop_duplicates("rule")
        told = [
            f"{words.whole(count)} break the rule of {rule}"
            for rule, count in zip(counts["rule"], counts["broken_rows"], strict=True)
        ]
        return f"Of {words.counted(self.rows, 'event')}, {words.listed(told)}"


def audit(engine: Engine, window: Window) -> Audit:
    """Check the events of a window: each player's chain within it, and XP from what rollups know of before.

    What ``infamous audit`` checks beside is that a chain begins with 1.
    """
    span = {"since": window.since, "until": window.until}
    rows = query(engine, _ROWS, **span).iloc[0]
    midnight = window.since.replace(hour=0)
    broken = query(engine, _AUDIT, midnight=midnight, samples=SAMPLES, **span)
    return Audit(window, int(rows["rows"]), int(rows["unsequenced"]), broken)


@dataclass(frozen=True)
class Delays:
    """From when an event happened to when it was stored, in a window; those sent late are counted apart."""

    window: Window
    # hour in which they happened, events, sent_late, p50_s, p95_s, p99_s of those not sent late
    hours: pd.DataFrame
    events: int
    sent_late: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None

    @property
    def finding(self) -> str:
        """In a sentence."""
        if not self.events:
            return "No event came while it was new" if self.sent_late else "No event came"
        return (
            f"Half of the events are stored within {words.lasting(self.p50_s)},"
            f" 99 of 100 within {words.lasting(self.p99_s)}"
        )


def delays(engine: Engine, window: Window) -> Delays:
    """How long events take from when they happened to their row, by the hour in which they happened.

    An event was *sent late* if it was older than LATE_S when it came, whatever the pipeline did: imported,
    replayed, or kept by a device that was offline. It is told by its age when stored, less what the slowest
    entries had waited in the stream in that minute (pipeline_health): after an outage of the pipeline events
    are old too, and these are delays.
    """
    found = query(engine, _DELAYS, since=window.since, until=window.until, late_s=LATE_S)
    is_total = found["hour"].isna()
    total = found[is_total].iloc[0]
    return Delays(
        window,
        found[~is_total].reset_index(drop=True),
        int(total["events"]),
        int(total["sent_late"]),
        *(
            None if pd.isna(total[name]) else float(total[name])
            for name in ("p50_s", "p95_s", "p99_s")
        ),
    )


def outcomes(engine: Engine, period: Period) -> pd.DataFrame:
    """What became of all that came, by UTC hour or, where more than 14 days are known, by day: ``begins_at``,
    the counts OUTCOMES, and ``age_p50_s``, ``age_p95_s``, ``age_p99_s``: seconds from the stream to the
    commit in the worst minute, NaN where nothing was stored. It begins with the first that is known.
    """
    return query(engine, _OUTCOMES, since=period.since, until=period.until)


def refused(engine: Engine, period: Period) -> pd.DataFrame:
    """Why anything was ``refused`` in the period, re-deliveries included, by ``reason``; and what is kept of
    it, whenever it came: different ones ``waiting`` to be looked at, and ``released``, sent again.
    """
    lately = query(engine, _REFUSED, since=period.since, until=period.until)
    kept = ask(engine, "quarantine_reasons")[["reason", "waiting", "released"]]
    counts = ["refused", "waiting", "released"]
    both = lately.merge(kept, on="reason", how="outer")
    both[counts] = both[counts].fillna(0).astype("int64")
    return both.sort_values([*counts, "reason"], ascending=[False] * 3 + [True], ignore_index=True)


def days(engine: Engine, period: Period) -> pd.DataFrame:
    """Each UTC ``day`` from the first that is known: its ``events``, and whether it ``has_raw``: a partition
    of raw events, as it has not where these were dropped for their age.
    """
    return query(
        engine, _DAYS, first=period.first, last=period.last, since=period.since, until=period.until
    )


def gaps(days: pd.DataFrame) -> pd.DataFrame:
    """Runs of days without an event, of :func:`days`: ``first``, ``last``, ``days``."""
    is_empty = days["events"] == 0
    run = (is_empty != is_empty.shift()).cumsum()
    runs = days[is_empty].groupby(run[is_empty])["day"]
    return pd.DataFrame(
        {"first": runs.min(), "last": runs.max(), "days": runs.count()}
    ).reset_index(drop=True)


@dataclass(frozen=True)
class Checks:
    """How often rollups were compared with a recount since the period began, and what came of it."""

    checks: int
    hours: int
    wrong: int


def rollup_checks(engine: Engine, period: Period) -> Checks:
    """Those since the period began."""
    found = query(engine, _CHECKS, since=period.since).iloc[0]
    return Checks(int(found["checks"]), int(found["hours"]), int(found["wrong"]))


@dataclass(frozen=True)
class Fresh:
    """How far behind the data are now: seconds, None before any consumer ran."""

    delay_s: float | None
    consumers: int


def fresh(engine: Engine) -> Fresh:
    """As the dashboard Live tells it."""
    now = ask(engine, "live_delay").iloc[0]
    delay = now["delay_seconds"]
    return Fresh(None if pd.isna(delay) else float(delay), int(now["consumers"]))


@dataclass(frozen=True)
class Verdict:
    """A check of the data; ``is_well`` is None where there was nothing to check."""

    about: str
    claim: str
    is_well: bool | None
    found: str


def verdicts(
    audit: Audit,
    delays: Delays,
    outcomes: pd.DataFrame,
    refused: pd.DataFrame,
    days: pd.DataFrame,
    checks: Checks,
    fresh: Fresh,
) -> list[Verdict]:
    """What all of it comes to, the gravest first."""
    is_whole = audit.broken.empty if audit.rows else None
    is_quick = None if delays.p99_s is None else delays.p99_s <= SLOW_S
    return [
        Verdict("chains", "Events are whole and in order", is_whole, audit.finding),
        *_of_outcomes({name: int(outcomes[name].sum()) for name in OUTCOMES}, refused),
        Verdict("delays", "Events are stored as they happen", is_quick, delays.finding),
        _of_days(days),
        _of_checks(checks),
        _of_now(fresh),
    ]


def _of_outcomes(counts: dict[str, int], refused: pd.DataFrame) -> Iterator[Verdict]:
    losses = "losses", "Nothing is lost on the way"
    refusals = "refusals", "Hardly anything is refused"
    duplicates = "duplicates", "What came twice is stored once"
    came = sum(counts.values())
    if not came:
        for about in (losses, refusals, duplicates):
            yield Verdict(*about, None, "No consumer stored anything on these days")
        return
    lost, bad, twice = counts["lost"], counts["quarantined"], counts["duplicates"]
    of = f"of {words.counted(came, 'entry', 'entries')}"
    yield Verdict(*losses, lost == 0, f"{_none(lost)} {of} left the stream unread")
    mostly = f", mostly as {refused['reason'].iloc[0]}" if bad and len(refused) else ""
    waiting = f"{_none(int(refused['waiting'].sum())).lower()} waiting in the quarantine"
    share = words.sentence(words.percent(bad / came, 1)) if bad else "None"
    yield Verdict(*refusals, bad / came <= MOST_REFUSED, f"{share} {of}{mostly}; {waiting}")
    yield Verdict(*duplicates, True, f"{_none(twice)} {of} {_was(twice)} there already")


def _of_days(days: pd.DataFrame) -> Verdict:
    about, missing = ("days", "There are events of every day"), gaps(days)
    if days.empty:
        return Verdict(*about, None, "No event is summed up")
    raw = f"raw events are kept of {words.whole(int(days['has_raw'].sum()))}"
    if missing.empty:
        return Verdict(*about, True, f"All of {words.counted(len(days), 'day')}; {raw}")
    empty = words.whole(int(missing["days"].sum()))
    most = int(missing["days"].max())
    since = missing.loc[missing["days"] == most, "first"].iloc[0]
    run = f"at most {words.whole(most)} in a row, from {since:%-d %b}"
    return Verdict(
        *about, False, f"{empty} of {words.counted(len(days), 'day')} without any, {run}; {raw}"
    )


def _of_checks(checks: Checks) -> Verdict:
    about = "sums", "Sums are what a recount gives"
    if not checks.checks:
        return Verdict(*about, None, "The rollups were not checked since these days began")
    of = f"of {words.counted(checks.hours, 'hour')} in {words.counted(checks.checks, 'check')}"
    told = f"{_none(checks.wrong)} {of} {_was(checks.wrong)} wrong"
    return Verdict(
        *about, checks.wrong == 0, f"{told}, and summed up anew" if checks.wrong else told
    )


def _of_now(fresh: Fresh) -> Verdict:
    about = "freshness", "The data are up to date"
    if fresh.delay_s is None:
        return Verdict(*about, None, "No consumer has run yet")
    at_work = f"{words.counted(fresh.consumers, 'consumer')} at work"
    behind = f"Complete up to {words.lasting(fresh.delay_s)} ago"
    return Verdict(*about, fresh.delay_s <= SLOW_S, f"{behind}; {at_work}")


def _was(count: int) -> str:
    return "were" if count > 1 else "was"


def _none(count: int) -> str:
    return words.whole(count) if count else "None"


def verdict_finding(verdicts: Sequence[Verdict]) -> str:
    """How many are well, and what should be looked at, in a sentence."""
    ill = [one.about for one in verdicts if one.is_well is False]
    unknown = sum(one.is_well is None for one in verdicts)
    well = len(verdicts) - len(ill) - unknown
    if unknown == len(verdicts):
        return "There is nothing to check yet"
    told = f"{'All' if well == len(verdicts) else f'{well} of'} {len(verdicts)} checks are well"
    if ill:
        told += f"; look at {words.listed(ill)}"
    return f"{told}; {unknown} had nothing to look at" if unknown else told
