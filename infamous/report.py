"""What commands print: results flow in, text for people, or plain values for scripts, flow out. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from infamous.audit import Audit
from infamous.caught_up import Behind
from infamous.schema import Migrated
from infamous.status import Part, Status
from infamous.trace import Trace
from infamous.view import shown
from jobs.forget import Forgotten, Traces
from jobs.retention import Dropped
from pipeline.partitions import FEWEST_AHEAD
from pipeline.rules import RULES
from pipeline.stream import STREAM, Holder, Memory

# Of Redis' memory. Above it somebody should look who keeps entries, before it refuses new ones.
_MOST_MEMORY: Final = 0.8
_ALARM: Final = "bold red"
# Who holds back for less is at work on it.
_HELD_S: Final = 60.0


def migrated(done: Migrated) -> str:
    """One sentence."""
    schema = (
        f"The schema is at revision {done.after}"
        if done.before == done.after
        else f"Migrated the schema from {done.before or 'nothing'} to revision {done.after}"
    )
    return f"{schema}; {done.partitions_made} partitions made."


def status(now: Status) -> Table:
    """Two columns: what, and how it is."""
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    stream = now.stream
    about = "about " if stream.undelivered_is_estimate else ""
    table.add_row("stream", f"{stream.entries:,} entries, {now.produced:,} sent by our producer")
    table.add_row("undelivered", f"{about}{stream.undelivered:,}")
    table.add_row("pending", f"{stream.pending:,}")
    oldest = now.oldest_waiting_s
    table.add_row("oldest waiting", "nothing waits" if oldest is None else span(oldest))
    if now.away:
        words = f"unknown while {now.away[0].key} is away"
        table.add_row(Text("complete to", style=_ALARM), Text(words, style=_ALARM))
    elif now.complete_to is not None:
        table.add_row("complete to", now.complete_to.isoformat(timespec="milliseconds"))
    if len(now.parts) > 1:
        for number, part in enumerate(now.parts):
            table.add_row("streams" if number == 0 else "", _part(part, now))
    is_short = now.memory.share >= _MOST_MEMORY
    if is_short:
        words = f"{_memory(now.memory)}; at 100 % Redis refuses events"
        table.add_row(Text("memory", style=_ALARM), Text(words, style=_ALARM))
    else:
        table.add_row("memory", _memory(now.memory))
    if now.holder is not None and (is_short or now.holder.since_s >= _HELD_S):
        table.add_row("", Text(_held(now.holder)))
    if not stream.group_exists:
        table.add_row("consumers", "none has ever read the stream")
    for number, (name, consumer) in enumerate(sorted(stream.consumers.items())):
        idle = span(consumer.idle_ms / 1000)
        label = "consumers" if number == 0 else ""
        # Whoever reads the stream chooses its name: it is text, not markup.
        words = f"{shown(name)}: {consumer.entries:,} pending, last heard {idle} ago"
        table.add_row(label, Text(words))
    if stream.group_exists and not stream.consumers:
        table.add_row("consumers", "none at present")
    if now.tables is None:
        table.add_row("tables", "none: run `infamous migrate`")
    else:
        table.add_row("rows", f"{now.tables.rows:,}")
        table.add_row("newest event", _ago(now.tables.newest_ts, now.at))
        quarantined = f"{sum(now.tables.quarantined.values()):,}"
        if now.tables.flooded:
            words = f"{quarantined}; bad entries flood in, look for a sender that changed"
            table.add_row(Text("quarantined", style=_ALARM), Text(words, style=_ALARM))
        else:
            table.add_row("quarantined", quarantined)
        for reason, entries in now.tables.quarantined.items():
            table.add_row("", f"{entries:,} {reason}")
        if now.tables.lost:
            words = (
                f"{now.tables.lost:,} entries were trimmed from the stream before they were stored"
            )
            table.add_row(Text("lost", style=_ALARM), Text(words, style=_ALARM))
        words = f"{now.tables.partitions}, the last for {now.tables.last_partition}"
        if now.tables.days_ahead < FEWEST_AHEAD:
            words += f": fewer than {FEWEST_AHEAD} days ahead; is the scheduler running?"
            table.add_row(Text("partitions", style=_ALARM), Text(words, style=_ALARM))
        else:
            table.add_row("partitions", words)
    if now.behind is not None:
        words, is_alarm = _behind(now.behind)
        style = _ALARM if is_alarm else ""
        table.add_row(Text("replica", style=style), Text(words, style=style))
    table.add_row("servers", f"{now.redis_version}, Postgres {now.postgres_version}")
    newer = "" if now.schema_revision == now.schema_head else f" (this version: {now.schema_head})"
    table.add_row("schema", f"{now.schema_revision or 'none'}{newer}")
    return table


def _part(part: Part, now: Status) -> Text:
    """A line on one of several streams."""
    if part.away is not None:
        return Text(f"{part.key} is away: {part.away}", style=_ALARM)
    state = part.state
    node = "" if part.node is None else f" on {part.node}"
    about = "about " if state.undelivered_is_estimate else ""
    oldest = now.waiting_s(state)
    waits = "" if oldest is None else f", oldest waiting {span(oldest)}"
    return Text(
        f"{part.key}{node}: {state.entries:,} entries, {about}{state.undelivered:,} undelivered,"
        f" {state.pending:,} pending{waits}"
    )


def dropped(done: Dropped, *, is_dry_run: bool) -> str:
    """What retention dropped, or would drop, and what stays; a line each."""
    verb = "Would drop" if is_dry_run else "Dropped"
    lines = [f"{verb} {len(done.partitions):,} partitions"]
    if done.partitions:
        lines[0] += (
            f", {done.partitions[0]} to {done.partitions[-1]}: about {done.rows:,} rows,"
            f" {size(done.size_bytes)}"
        )
    lines[0] += f"; {done.remaining:,} stay" + (
        "." if done.first_day is None else f", from {done.first_day} on."
    )
    if done.postponed:
        lines.append(
            f"{len(done.postponed):,} old ones are still there, the first {done.postponed[0]}: somebody"
            " reads it, so run this again later."
        )
    if done.set_aside:
        lines.append(
            f"{len(done.set_aside):,} are detached and young, the first {done.set_aside[0]}: attach them"
            " again, or rename them."
        )
    return "\n".join(lines)


def _behind(behind: Behind) -> tuple[str, bool]:
    """What is known of the replica, and whether somebody should look."""
    if behind.trouble is not None:
        return f"does not answer: {behind.trouble}", True
    if behind.replica is None:
        return "none: READ_DATABASE_URL names a database that is written to", False
    return behind.replica.told(), behind.replica.is_late


def _memory(memory: Memory) -> str:
    if memory.limit_bytes is None:
        return f"{size(memory.used_bytes)}; Redis sets no limit"
    return f"{memory.share:.0%} of {size(memory.limit_bytes)}".replace("%", " %")


def _held(holder: Holder) -> str:
    """Who keeps entries from being trimmed; a group is called as its owner likes."""
    about = "about " if holder.is_estimate else ""
    return (
        f"held by group {shown(holder.group)}, {about}{holder.entries:,} entries behind"
        f" since {span(holder.since_s)}"
    )


def audit(result: Audit) -> str:
    """A line a rule, the first offenders under those that are broken, and the verdict."""
    broken = {entry.rule: entry for entry in result.broken}
    lines = []
    for rule, meaning in RULES.items():
        if rule not in broken:
            lines.append(f"ok      {rule:5} {meaning}")
            continue
        lines.append(f"BROKEN  {rule:5} {meaning}: {broken[rule].rows:,} rows do not")
        lines += [
            f"          {sample['player']!r} seq {sample['seq']} at {sample['ts'].isoformat()}"
            f" {sample['id']}"
            for sample in broken[rule].samples
        ]
    if result.unsequenced:
        lines.append(f"note: {result.unsequenced:,} rows have no seq; their order is not checked")
    verdict = "passed" if result.passed else "FAILED"
    lines.append(f"audit {verdict}: {result.rows:,} rows of {result.players:,} players")
    return "\n".join(lines)


def audit_json(result: Audit) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "passed": result.passed,
        "rows": result.rows,
        "players": result.players,
        "unsequenced": result.unsequenced,
        "broken": [
            {"rule": entry.rule, "rows": entry.rows, "samples": entry.samples}
            for entry in result.broken
        ],
    }


# Of what nobody can tell whose it is.
_UNSURE: Final = (
    "refused entries that cannot be read, or name the player within longer text, and may be theirs: they"
    " stay, so look at them (`infamous quarantine list`)"
)


def traces(there: Traces) -> str:
    """What there is of a player, a line a place."""
    lines = [
        f"{there.events:>10,}  events",
        f"{there.rollups:>10,}  rows of rollups",
        f"{there.quarantined:>10,}  refused entries",
        f"{there.entries:>10,}  entries of the stream, alone or with events of others",
    ]
    if there.beside:
        lines.append(f"{there.beside:>10,}  events in a shadow, or set aside by a swap")
    if there.archived:
        lines.append(f"{there.archived:>10,}  rows of the archive")
    if there.has_game:
        lines.append(f"{1:>10,}  game that our producer goes on with")
    if there.unsure:
        lines.append(f"{there.unsure:>10,}  {_UNSURE}")
    return "\n".join(lines)


def forgotten(
    done: Forgotten, left: Traces, backup_days: int | None, *, has_other_place: bool = False
) -> str:
    """What was removed, what is left, and what no command reaches."""
    verb = "Removed:" if done.pseudonym is None else f"The events go by {done.pseudonym} now:"
    lines = [verb, traces(done.removed)]
    if done.waiting:
        lines.append(
            f"{done.waiting:,} entries of theirs wait to be stored: start a consumer, and run it again."
        )
    elif not done.is_complete:
        lines.append("It was stopped before the end: run it again.")
    elif not left.is_none:
        lines += ["This came while it ran; run it again, once nobody sends more:", traces(left)]
    else:
        lines.append("Nothing is left; what comes of this player from now on is dropped.")
    if left.unsure:
        lines.append(f"Left are {left.unsure:,} {_UNSURE}.")
    lines += ["Not reached from here:"] + [
        f"  {one}" for one in out_of_reach(backup_days, has_other_place=has_other_place)
    ]
    return "\n".join(lines)


def out_of_reach(backup_days: int | None, *, has_other_place: bool = False) -> list[str]:
    """Where a player's events may still be, and until when. ``has_other_place``: the archive is in two."""
    backups = (
        "for as long as you keep them (BACKUP_DAYS says it here)"
        if backup_days is None
        else f"until {datetime.now(UTC) + timedelta(days=backup_days):%Y-%m-%d}"
    )
    other_place = (
        "the archive in another place, which was named before: name that in ARCHIVE_URL, and forget"
        " again"
    )
    return [
        *([other_place] if has_other_place else []),
        f"backups made before now: {backups}",
        "Redis' append-only file: until it is written anew, at the latest after BGREWRITEAOF",
        "Postgres' files and its log of changes: until a vacuum and the next writes overwrite them",
        "results that Redash keeps, and notebooks and reports that were saved: until they are run again",
        "what other players' events say of this one in their details: it is theirs",
        "hourly_items, of hours whose events were gone before: counts that do not say whose they were",
    ]


def trace(found: Trace) -> str:
    """What is known of the event, a sentence a place."""
    lines = []
    if found.row:
        row = found.row
        lines += [
            f"stored in game_events at {row['ingested_at'].isoformat()}",
            f"  happened at {row['ts'].isoformat()}: {row['player']!r} {row['action']},"
            f" XP {row['xp_delta']:+d}, karma {row['karma_total']} ({row['karma_delta']:+d}),"
            f" {row['rank']}, seq {row['seq']}",
        ]
    if found.quarantined:
        refused = found.quarantined
        lines += [
            f"quarantined at {refused['first_seen_at'].isoformat()} as {refused['reason']}:"
            f" {refused['detail']}",
            f"  seen {refused['times_seen']} times, last as stream entry {refused['entry_id']}",
        ]
    if found.entry:
        entry = found.entry
        if entry.is_undelivered:
            state = "waiting to be read"
        elif entry.consumer:
            state = f"read by {shown(entry.consumer)} and not acknowledged yet"
        else:
            state = "acknowledged"
        on = "the stream" if found.stream == STREAM else f"the stream {found.stream}"
        lines.append(f"on {on} as entry {entry.entry_id}, {state}")
    else:
        lines += [
            f"nobody can say whether it is on {key}, which is away: {reason}"
            for key, reason in found.away.items()
        ]
    return "\n".join(lines) or f"{found.id} is not in the table, the quarantine or the stream"


def trace_json(found: Trace) -> dict[str, Any]:
    """The same for scripts; raw bytes as text, undecodable ones escaped."""
    refused = dict(found.quarantined) if found.quarantined else None
    if refused:
        refused["raw"] = bytes(refused["raw"]).decode("utf-8", "backslashreplace")
        refused["sha256"] = bytes(refused["sha256"]).hex()
    entry = found.entry
    return {
        "id": found.id,
        "found": found.is_found,
        "row": found.row,
        "quarantined": refused,
        "stream": None
        if entry is None
        else {
            "key": found.stream,
            "entry_id": entry.entry_id,
            "undelivered": entry.is_undelivered,
            "pending_with": entry.consumer,
        },
    }


def span(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def size(size_bytes: float) -> str:
    """Bytes as people say them: 384 MB is 384 times 1024 times 1024."""
    for unit in ("bytes", "kB", "MB"):
        if size_bytes < 1024:
            return f"{size_bytes:,.0f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:,.1f} GB"


def _ago(then: datetime | None, now: datetime) -> str:
    if then is None:
        return "none"
    return f"{then.isoformat(timespec='milliseconds')}, {span((now - then).total_seconds())} ago"
