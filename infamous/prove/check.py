"""The checker: journals and a drained database flow in, an account of every event and poison flows out.

It trusts nothing of the pipeline it checks: what was sent is copied into a schema of its own, as the bytes
that were sent, and Postgres itself takes them apart and compares them with what is stored.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812  # psycopg2's class names
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from sqlalchemy import Engine

from infamous.audit import Audit, audit
from infamous.prove.remains import Remains, alone, commands, hashes
from pipeline.rules import RULES
from pipeline.stream import Stream
from pipeline.streams import Streams
from producer import journal

# How many of the offenders of one kind are named.
SAMPLES: Final = 5

# Lines wait here until they are worth a COPY; with them, memory is bounded however long the journals are.
_COPY_BYTES: Final = 4 * 1024 * 1024
# Spelled out: the checker must not take it from the code it checks.
_QUARANTINE_BYTES: Final = 1024 * 1024
_FOR_EVER_MS: Final = 2**63
# Poison need not be JSON: its id, by which a row is known to be poison, is looked for in the bytes.
_ID: Final = re.compile(rb'"id"\s*:\s*"([0-9a-fA-F]{8}(-?)(?:[0-9a-fA-F]{4}\2){3}[0-9a-fA-F]{12})"')

# The schema stays when the check is over, for whoever wants to look further. Parallel workers share tables
# in /dev/shm, which containers keep small.
CREATE_TABLES: Final = """
set local client_min_messages = warning;
set local work_mem = '64MB';
set local jit = off;
set local max_parallel_workers_per_gather = 0;
-- Everything is joined whole, by columns that no index is made for: a plan of loops would take minutes.
set local enable_nestloop = off;
drop schema if exists prove cascade;
create schema prove;
create unlogged table prove.tried_events (
    id uuid not null generated always as ((payload ->> 'id')::uuid) stored,
    token text not null, sha256 bytea not null, payload jsonb not null
);
create unlogged table prove.tried_poison (
    token text not null, sha256 bytea not null, reason text not null, size_bytes bigint not null,
    head_sha256 bytea not null, id uuid
);
create unlogged table prove.acknowledged (token text not null);
-- What a dead master alone had, and whether it was in nobody's hands (remains.py).
create unlogged table prove.unreplicated (sha256 bytea primary key, is_free boolean not null);
"""
COPY_EVENT: Final = "copy prove.tried_events (token, sha256, payload) from stdin (encoding 'UTF8')"
COPY_POISON: Final = "copy prove.tried_poison from stdin (encoding 'UTF8')"
COPY_ACKNOWLEDGED: Final = "copy prove.acknowledged from stdin (encoding 'UTF8')"
COPY_UNREPLICATED: Final = "copy prove.unreplicated from stdin"

# One row an identity, with what became of it.
SUM_UP: Final = """
-- Autovacuum comes when it comes, and after a crash has forgotten what it knew.
analyze prove.tried_events, prove.tried_poison, prove.acknowledged, game_events, quarantined_events;

create unlogged table prove.stored as
select id, count(*) as rows, min(player) as player from game_events group by id;

create unlogged table prove.events as
select tried.id, bool_or(acknowledged.token is not null) as is_acknowledged,
       bool_or(refused.sha256 is not null) as is_quarantined,
       bool_or(unreplicated.sha256 is not null) as is_unreplicated,
       bool_or(coalesce(unreplicated.is_free, false)) as is_excused,
       count(*) > 1 as is_repeated
from prove.tried_events tried
left join (select distinct token from prove.acknowledged) acknowledged using (token)
left join quarantined_events refused using (sha256)
left join prove.unreplicated using (sha256)
group by tried.id;
analyze prove.stored, prove.events;

create unlogged table prove.poison as
select tried.*, stored.id is not null and sent.id is null as is_stored,
       coalesce(unreplicated.is_free, false) as is_excused
from (
    select sha256, size_bytes, head_sha256, id, min(reason) as reason,
           min(reason) <> max(reason) as is_ambiguous,
           bool_or(acknowledged.token is not null) as is_acknowledged
    from prove.tried_poison
    left join (select distinct token from prove.acknowledged) acknowledged using (token)
    group by sha256, size_bytes, head_sha256, id
) tried
left join prove.stored stored using (id)
left join prove.events sent using (id)
left join prove.unreplicated using (sha256);
analyze prove.poison;
"""
COUNTS: Final = """
select (select count(*) from prove.events) + (select count(*) from prove.poison),
       (select count(*) from prove.events where is_acknowledged)
       + (select count(*) from prove.poison where is_acknowledged),
       (select count(*) from prove.stored),
       (select count(*) from quarantined_events)
"""

# From here on each statement lists what breaks one promise: how much it counts, and words that name it.
MISSING_EVENTS: Final = """
select 1 as amount, id::text as sample
from prove.events left join prove.stored using (id)
where is_acknowledged and not is_quarantined and stored.id is null and not is_excused
"""
MISSING_POISON: Final = """
select 1 as amount, encode(sha256, 'hex') || ' (' || poison.reason || ')' as sample
from prove.poison left join quarantined_events refused using (sha256)
where is_acknowledged and not is_stored and refused.sha256 is null and not is_excused
"""
REPEATED_ROWS: Final = """
select rows - 1 as amount, format('%s of %L in %s rows', id, player, rows) as sample
from prove.stored where rows > 1
"""
EVENTS_IN_BOTH: Final = """
select 1 as amount, id::text as sample
from prove.events join prove.stored using (id) where is_quarantined
"""
POISON_IN_BOTH: Final = """
select 1 as amount, encode(sha256, 'hex') || ' (' || poison.reason || ')' as sample
from prove.poison join quarantined_events using (sha256) where is_stored
"""
UNKNOWN_ROWS: Final = """
select 1 as amount, format('%s of %L', id, player) as sample
from prove.stored
where not exists (select from prove.events where events.id = stored.id)
  and not exists (select from prove.poison where poison.id = stored.id)
"""
STORED_POISON: Final = """
select 1 as amount,
       format('%s of %L, which is poison: %s', id, player, string_agg(distinct reason, ', ')) as sample
from prove.stored join prove.poison using (id) where is_stored
group by id, player
"""
UNKNOWN_ENTRIES: Final = """
select 1 as amount, encode(sha256, 'hex') || ' (' || reason || ')' as sample
from quarantined_events refused
where not exists (select from prove.poison where poison.sha256 = refused.sha256)
  and not exists (select from prove.tried_events tried where tried.sha256 = refused.sha256)
"""
QUARANTINED_EVENTS: Final = """
select 1 as amount, id || ' as ' || string_agg(distinct reason, ', ') as sample
from prove.tried_events join quarantined_events using (sha256)
group by id
"""
WRONG_REASONS: Final = """
select 1 as amount, encode(sha256, 'hex') || ' as ' || refused.reason || ' instead of ' || poison.reason
                    as sample
from prove.poison join quarantined_events refused using (sha256)
where refused.reason <> poison.reason
"""
WRONG_BYTES: Final = """
select 1 as amount,
       format('%s with %s of %s bytes instead of %s', encode(sha256, 'hex'), octet_length(raw),
              refused.size_bytes, poison.size_bytes) as sample
from prove.poison join quarantined_events refused using (sha256)
where sha256(raw) <> head_sha256 or refused.size_bytes <> poison.size_bytes
"""
# Both sides as jsonb, so that nothing is cast that a sender wrote: a "5" is not a 5. The time stands in
# the id, and mostly in ts as well, where digits past the third are cut.
CHANGED_VALUES: Final = """
with pairs as (
    select id, array[
               to_jsonb(extract(epoch from ts) * 1000),
               to_jsonb(extract(epoch from ts) * 1000),
               to_jsonb(player), to_jsonb(action), to_jsonb(xp_delta), to_jsonb(karma_delta),
               to_jsonb(karma_total), to_jsonb(rank), to_jsonb(energy_source), to_jsonb(seq), details
           ] as stored, array[
               to_jsonb(id_ms),
               to_jsonb(coalesce(
                   extract(epoch from regexp_replace(
                       payload ->> 'ts', '([.][0-9]{3})[0-9]+', '\\1')::timestamptz) * 1000,
                   id_ms)),
               payload -> 'player', payload -> 'action', payload -> 'xp_delta',
               payload -> 'karma_delta', payload -> 'karma_total', payload -> 'rank',
               nullif(payload -> 'energy_source', 'null'), nullif(payload -> 'seq', 'null'),
               case when unknown_keys = '{}' then nullif(payload -> 'details', 'null')
                    else coalesce(nullif(payload -> 'details', 'null'), '{}') || unknown_keys end
           ] as sent
    from prove.tried_events
    join game_events using (id)
    cross join lateral (
        select ('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint as id_ms,
               payload - array['id', 'ts', 'player', 'action', 'xp_delta', 'karma_delta', 'karma_total',
                               'rank', 'energy_source', 'seq', 'details', 'v'] as unknown_keys
    ) as parts
), changed as (
    select distinct on (id) id, stored, sent from pairs where stored is distinct from sent order by id
)
select 1 as amount, id || ': ' || (
           select string_agg(format('%s is %s and %s was sent', field.name,
                                    coalesce(field.stored::text, 'null'),
                                    coalesce(field.sent::text, 'null')), ', ')
           from unnest(
               array['ts in ms by the id', 'ts in ms', 'player', 'action', 'xp_delta', 'karma_delta',
                     'karma_total', 'rank', 'energy_source', 'seq', 'details'],
               changed.stored, changed.sent) as field (name, stored, sent)
           where field.stored is distinct from field.sent
       ) as sample
from changed
"""
DIFFERING_TRIES: Final = """
select 1 as amount, id::text as sample
from prove.events join prove.tried_events using (id)
where is_repeated
group by id having min(payload::text) <> max(payload::text)
"""
AMBIGUOUS_POISON: Final = """
select 1 as amount, encode(sha256, 'hex') as sample from prove.poison
where is_ambiguous or exists (select from prove.tried_events tried where tried.sha256 = poison.sha256)
"""
UNTRIED_TOKENS: Final = """
select 1 as amount, token as sample
from (select distinct token from prove.acknowledged) acknowledged
where not exists (select from prove.tried_events tried where tried.token = acknowledged.token)
  and not exists (select from prove.tried_poison tried where tried.token = acknowledged.token)
"""
SUMMARY: Final = f"""
select sum(amount) over ()::bigint, sample from ({{}}) as found order by sample limit {SAMPLES}
"""  # noqa: S608  # what is filled in are the statements above

HEALTH: Final = """
select (select count(*) from game_events),
       (select coalesce(sum(times_seen), 0)::bigint from quarantined_events),
       coalesce(sum(stored), 0)::bigint, coalesce(sum(quarantined), 0)::bigint,
       coalesce(sum(reasons.entries), 0)::bigint
from pipeline_health
cross join lateral (
    select sum(value::bigint) as entries from jsonb_each_text(quarantined_by_reason)
) as reasons
"""
WRONG_ROLLUPS: Final = """
select 1 as amount,
       format('%s of %L at %s is (%s, %s, %s) and should be (%s, %s, %s)', action, player, hour,
              coalesce(rolled.events, 0), coalesce(rolled.xp_delta, 0), coalesce(rolled.karma_delta, 0),
              coalesce(whole.events, 0), coalesce(whole.xp_delta, 0), coalesce(whole.karma_delta, 0)
             ) as sample
from hourly_rollups rolled
full join (
    select date_trunc('hour', ts, 'UTC') as hour, player, action, count(*) as events,
           sum(xp_delta) as xp_delta, sum(karma_delta) as karma_delta
    from game_events group by 1, 2, 3
) as whole using (hour, player, action)
where (rolled.events, rolled.xp_delta, rolled.karma_delta)
      is distinct from (whole.events, whole.xp_delta, whole.karma_delta)
"""
# Acknowledged, and neither stored nor quarantined, because Redis lost them.
LOST_BY_REDIS: Final = """
select (select count(*) from prove.events left join prove.stored using (id)
        where is_acknowledged and not is_quarantined and stored.id is null and is_excused)
       + (select count(*) from prove.poison left join quarantined_events refused using (sha256)
          where is_acknowledged and not is_stored and refused.sha256 is null and is_excused)
"""
# The table as it would be had Redis lost nothing: what a dead master alone had counts where it fills a gap.
# Where it fills none, its sender went on from before the loss.
PUT_BACK: Final = """
create unlogged table prove.game_events as
with only_there as (
    select distinct on (tried.id)
           tried.id,
           to_timestamp(
               ('x' || translate(left(tried.id::text, 13), '-', ''))::bit(48)::bigint / 1000.0
           ) as ts,
           payload ->> 'player' as player, (payload ->> 'seq')::bigint as seq,
           (payload ->> 'xp_delta')::int as xp_delta, (payload ->> 'karma_delta')::int as karma_delta,
           (payload ->> 'karma_total')::int as karma_total, payload ->> 'rank' as rank
    from prove.tried_events tried
    join prove.events using (id)
    left join prove.stored using (id)
    where is_unreplicated
      and (stored.id is not null or is_acknowledged and is_excused and not is_quarantined)
), others as (
    select id, ts, player, seq, xp_delta, karma_delta, karma_total, rank from game_events
    where not exists (select from only_there where only_there.id = game_events.id)
)
select * from others
union all
select only_there.* from only_there
join (select player, max(seq) as last_seq from others group by player) as ends using (player)
where seq < last_seq
  and not exists (
      select from others where (others.player, others.seq) = (only_there.player, only_there.seq)
  )
"""
HAS_ALONE: Final = "select exists (select from prove.unreplicated)"
HAS_TABLE: Final = "select to_regclass(%s) is not null"


@dataclass(frozen=True)
class _Kind:
    """One way to break the promise: what it counts as, its words, and the statement that lists it."""

    counts_as: str
    words: str
    statement: str


_KINDS: Final = (
    _Kind("missing", "acknowledged events neither stored nor quarantined", MISSING_EVENTS),
    _Kind("missing", "acknowledged poison not quarantined", MISSING_POISON),
    _Kind("duplicated", "rows that repeat an event", REPEATED_ROWS),
    _Kind("duplicated", "events both stored and quarantined", EVENTS_IN_BOTH),
    _Kind("duplicated", "poison both stored and quarantined", POISON_IN_BOTH),
    _Kind("unexpected", "rows that nobody sent", UNKNOWN_ROWS),
    _Kind("unexpected", "rows that should be in the quarantine", STORED_POISON),
    _Kind("unexpected", "quarantined entries that nobody sent", UNKNOWN_ENTRIES),
    _Kind("unexpected", "good events in the quarantine", QUARANTINED_EVENTS),
    _Kind("unexpected", "poison quarantined for another reason", WRONG_REASONS),
    _Kind("unexpected", "poison whose quarantined bytes are not those sent", WRONG_BYTES),
    _Kind("unexpected", "events stored with other values than were sent", CHANGED_VALUES),
    # These are the senders' own faults; what was compared with them proves nothing.
    _Kind("journal", "events journaled with differing payloads under one id", DIFFERING_TRIES),
    _Kind("journal", "payloads journaled with more than one expectation", AMBIGUOUS_POISON),
    _Kind("journal", "tokens journaled as acknowledged and never as tried", UNTRIED_TOKENS),
)


class CheckError(Exception):
    """What is journaled as a good event is none: nothing can be compared with it."""


@dataclass(frozen=True)
class Account:
    """What was sent, and what became of it. Counts are of distinct events and distinct poison."""

    attempted: int
    acknowledged: int
    # Events in the table, expected or not.
    stored: int
    # Entries in the quarantine, expected or not.
    quarantined: int
    # Acknowledged, in neither of the two, and not lost by Redis.
    missing: int
    # Rows beyond one an event, and what is in both.
    duplicated: int
    # Nobody sent it, or not so: other values, another reason, other bytes, the wrong one of the two.
    unexpected: int
    # Whether every rule of the audit holds.
    chain_ok: bool
    # Whether the hourly rollups are the sums of the events; None when there are none.
    rollups_ok: bool | None
    # Entries on the stream that are not acknowledged.
    pending: int
    # Whether pipeline_health agrees with the tables.
    health_ok: bool
    # A sentence for each kind of thing that is wrong, with the first offenders.
    problems: list[str]
    # Acknowledged, and gone with a master that died before its replica had them; None: there was no replica.
    lost_by_redis: int | None = None

    @property
    def passed(self) -> bool:
        """Whether the account balances in every respect."""
        return (
            self.missing == self.duplicated == self.unexpected == self.pending == 0
            and self.chain_ok
            and self.health_ok
            and self.rollups_ok is not False
            and not self.problems
        )


def check(
    engine: Engine,
    source: Stream | Streams,
    journals: Path,
    *,
    remains: Sequence[Remains] | None = None,
    say: Callable[[str], None] | None = None,
) -> Account:
    """Compare all that the journals of a folder tell with what the database holds.

    What masters of a cluster left when they died tells which missing events Redis lost, on the condition that
    nothing was trimmed. In a chain it excuses what these very events explain, and nothing else.

    Nothing may be running any more: neither senders nor consumers. What was sent is left behind in the
    schema ``prove``, whose earlier content is dropped. Raises CheckError when a payload that is
    journaled as a good event is none, and JournalError when a journal cannot be read.
    """
    tell = say or _say_nothing
    problems: list[str] = []
    counted = {"missing": 0, "duplicated": 0, "unexpected": 0, "journal": 0}
    with closing(engine.raw_connection()) as pooled:
        connection = cast("Connection", pooled.driver_connection)
        with connection, connection.cursor() as cursor:
            tell("reading the journals")
            try:
                problems += _read_journals(cursor, journals)
                if remains:
                    tell("reading what the dead masters left")
                    _read_remains(cursor, remains, source)
                tell("comparing what was sent with what is stored")
                cursor.execute(SUM_UP)
                for kind in _KINDS:
                    amount, problem = _look_for(cursor, kind.words, kind.statement)
                    counted[kind.counts_as] += amount
                    problems += problem
            except (psycopg2.DataError, psycopg2.IntegrityError) as error:
                raise CheckError(
                    "A payload that is journaled as a good event is none, so nothing can be compared:"
                    f" correct its sender. Postgres says: {str(error).splitlines()[0]}."
                ) from error
            cursor.execute(COUNTS)
            attempted, acknowledged, stored, quarantined = _row(cursor)
            cursor.execute(LOST_BY_REDIS)
            (lost,) = _row(cursor)
            cursor.execute(HAS_ALONE)
            (has_alone,) = _row(cursor)
            if has_alone:
                cursor.execute(PUT_BACK)
            tell("checking the health table and the rollups")
            health = _check_health(cursor)
            rollups = _check_rollups(cursor)
    tell("auditing the chains")
    chains = audit(engine, within="prove" if has_alone else None)
    state = source.state()
    if state.undelivered or state.pending:
        problems.append(
            f"entries on the stream that were never stored: {state.undelivered:,} not read,"
            f" {state.pending:,} read and not acknowledged"
        )
    return Account(
        attempted=attempted,
        acknowledged=acknowledged,
        stored=stored,
        quarantined=quarantined,
        missing=counted["missing"],
        duplicated=counted["duplicated"],
        unexpected=counted["unexpected"],
        chain_ok=chains.passed,
        rollups_ok=None if rollups is None else not rollups,
        pending=state.undelivered + state.pending,
        health_ok=not health,
        problems=[*problems, *health, *(rollups or []), *_broken_rules(chains)],
        lost_by_redis=None if remains is None else lost,
    )


def _say_nothing(_: str) -> None:
    pass


# --- what was sent


class _Copy:
    """Rows on their way into a table, a few megabytes at a time."""

    def __init__(self, cursor: Cursor, statement: str) -> None:
        self._cursor = cursor
        self._statement = statement
        self._lines: list[bytes] = []
        self._bytes = 0

    def add(self, *fields: bytes) -> None:
        """One row, of fields in the text format of COPY."""
        line = b"\t".join(fields) + b"\n"
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= _COPY_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        self._cursor.copy_expert(self._statement, io.BytesIO(b"".join(self._lines)))
        self._lines, self._bytes = [], 0


def _read_journals(cursor: Cursor, journals: Path) -> list[str]:
    """Bring every journal into the tables; returns what is wrong with the folder."""
    cursor.execute(CREATE_TABLES)
    events = _Copy(cursor, COPY_EVENT)
    poison = _Copy(cursor, COPY_POISON)
    acknowledged = _Copy(cursor, COPY_ACKNOWLEDGED)
    paths = sorted(journals.glob("*.journal"))
    for path in paths:
        for line in journal.read(path):
            match line:
                case journal.Ack(token):
                    acknowledged.add(_escaped(token))
                case journal.Try(token, payload, journal.STORED):
                    events.add(_escaped(token), _sha256(payload), _escaped(payload))
                case journal.Try(token, payload, reason):
                    poison.add(
                        _escaped(token),
                        _sha256(payload),
                        _escaped(reason.encode()),
                        b"%d" % len(payload),
                        _sha256(payload[:_QUARANTINE_BYTES]),
                        _id_in(payload),
                    )
    for table in (events, poison, acknowledged):
        table.flush()
    return [] if paths else [f"no journal in {journals}: nothing is known of what was sent"]


def _read_remains(cursor: Cursor, remains: Iterable[Remains], source: Stream | Streams) -> None:
    """Bring in what dead masters alone had and is on no stream."""
    free: set[bytes] = set()
    in_hand: set[bytes] = set()
    for one in remains:
        found = alone(commands(one.parts), one.ends, one.killed)
        free |= hashes(found.free)
        in_hand |= hashes(found.in_hand)
    if free or in_hand:
        for page in source.walk(from_ms=0, to_ms=_FOR_EVER_MS):
            here = hashes(page)
            free -= here
            in_hand -= here
    table = _Copy(cursor, COPY_UNREPLICATED)
    for sha256 in free | in_hand:
        # What was in hand once is not excused, wherever else it was.
        table.add(_bytea(sha256), b"f" if sha256 in in_hand else b"t")
    table.flush()


def _escaped(value: bytes) -> bytes:
    return (
        value.replace(b"\\", b"\\\\")
        .replace(b"\n", b"\\n")
        .replace(b"\r", b"\\r")
        .replace(b"\t", b"\\t")
    )


def _sha256(value: bytes) -> bytes:
    return _bytea(hashlib.sha256(value).digest())


def _bytea(value: bytes) -> bytes:
    # In hex it begins with a backslash, which COPY wants twice.
    return b"\\\\x" + value.hex().encode()


def _id_in(poison: bytes) -> bytes:
    match = _ID.search(poison)
    return b"\\N" if match is None else match[1]


# --- what became of it


def _look_for(cursor: Cursor, words: str, statement: str) -> tuple[int, list[str]]:
    """How much of one kind there is, and a sentence if there is any."""
    cursor.execute(SUMMARY.format(statement))
    found = cursor.fetchall()
    if not found:
        return 0, []
    amount: int = found[0][0]
    samples = "; ".join(sample for _, sample in found)
    return amount, [f"{words}: {amount:,}, such as {samples}"]


def _row(cursor: Cursor) -> tuple[int, ...]:
    return cast("tuple[int, ...]", cursor.fetchone())


def _has_table(cursor: Cursor, name: str) -> bool:
    cursor.execute(HAS_TABLE, (name,))
    return bool(_row(cursor)[0])


def _check_health(cursor: Cursor) -> list[str]:
    if not _has_table(cursor, "pipeline_health"):
        return ["there is no table pipeline_health: run `infamous migrate`"]
    cursor.execute(HEALTH)
    rows, seen, stored, quarantined, by_reason = _row(cursor)
    problems = []
    if stored != rows:
        problems.append(
            f"pipeline_health counts {stored:,} stored events, game_events has {rows:,}"
        )
    if quarantined != seen:
        problems.append(
            f"pipeline_health counts {quarantined:,} quarantined entries,"
            f" quarantined_events has seen {seen:,}"
        )
    if by_reason != quarantined:
        problems.append(
            f"pipeline_health counts {quarantined:,} quarantined entries, by reason {by_reason:,}"
        )
    return problems


def _check_rollups(cursor: Cursor) -> list[str] | None:
    """What is wrong with them; None when there are none."""
    if not _has_table(cursor, "hourly_rollups"):
        return None
    return _look_for(cursor, "hours whose rollup is not the sum of the events", WRONG_ROLLUPS)[1]


def _broken_rules(chains: Audit) -> list[str]:
    problems = []
    for broken in chains.broken:
        samples = "; ".join(
            f"{one['player']!r} seq {one['seq']} {one['id']}" for one in broken.samples
        )
        problems.append(
            f"rows that break the rule that {RULES[broken.rule]}: {broken.rows:,}, such as {samples}"
        )
    return problems
