"""The tables as SQLAlchemy sees them: what Alembic compares the database with, and what queries name.

The migrations spell everything out again and import nothing from here; ``alembic check`` keeps the two
equal. Partitions are made at run time by the database's own function and are no part of this.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

# Schemas beside that of the tables: of days that are built anew, and of days that a swap took out.
SHADOW_SCHEMA: Final = "infamous_shadow"
BEFORE_SCHEMA: Final = "infamous_before_swap"

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
    }
)

game_events = Table(
    "game_events",
    metadata,
    Column("id", Uuid, nullable=False, comment="UUIDv7 made by the producer: the event's identity"),
    Column(
        "ts",
        DateTime(timezone=True),
        nullable=False,
        comment="when it happened, to the millisecond; a function of the id alone",
    ),
    Column("player", Text, nullable=False, comment="1 to 64 characters"),
    Column("action", Text, nullable=False, comment="what the player did"),
    Column(
        "xp_delta", Integer, nullable=False, comment="XP gained; negative is an upgrade's price"
    ),
    Column(
        "karma_delta",
        Integer,
        nullable=False,
        comment="change of karma, as applied after the clamp",
    ),
    Column("karma_total", Integer, nullable=False, comment="karma after the event, -100 to 100"),
    Column("rank", Text, nullable=False, comment="the karma's name; follows karma_total alone"),
    Column("energy_source", Text, comment="what a recharge drained; null for other actions"),
    Column("seq", BigInteger, comment="the player's events counted from 1; null if not counted"),
    Column("details", JSONB, comment="mission, district, enemy, ability ... and unknown keys"),
    Column(
        "ingested_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("now()"),
        comment="start of the transaction that stored the row",
    ),
    PrimaryKeyConstraint("ts", "id"),
    CheckConstraint("length(player) between 1 and 64", "player"),
    CheckConstraint(
        "action in ('kill_enemy', 'kill_civilian', 'moral_choice', 'recharge',"
        " 'mission_complete', 'ability_upgrade')",
        "action",
    ),
    CheckConstraint("xp_delta >= 0 or action = 'ability_upgrade'", "xp_delta"),
    CheckConstraint("karma_total between -100 and 100", "karma_total"),
    CheckConstraint(
        "rank = case when karma_total <= -75 then 'Infamous' when karma_total <= -40 then 'Outlaw'"
        " when karma_total <= -15 then 'Thug' when karma_total >= 75 then 'Hero'"
        " when karma_total >= 40 then 'Champion' when karma_total >= 15 then 'Guardian'"
        " else 'Neutral' end",
        "rank",
    ),
    CheckConstraint("energy_source is null or action = 'recharge'", "energy_source"),
    CheckConstraint("seq >= 1", "seq"),
    comment="one row an event, RANGE-partitioned by UTC day of ts",
    postgresql_partition_by="RANGE (ts)",
)

quarantined_events = Table(
    "quarantined_events",
    metadata,
    Column("sha256", LargeBinary, primary_key=True, comment="SHA-256 of the raw bytes"),
    Column(
        "raw",
        LargeBinary,
        nullable=False,
        comment="the bytes as they stood on the stream; of more than 1 MiB, the first MiB",
    ),
    Column("size_bytes", BigInteger, nullable=False, comment="of all the raw bytes"),
    Column("reason", Text, nullable=False, comment="code of the first rule broken"),
    Column("detail", Text, nullable=False, comment="the same in words"),
    Column("entry_id", Text, nullable=False, comment="stream entry that brought it last"),
    Column(
        "times_seen",
        BigInteger,
        nullable=False,
        server_default=text("1"),
        comment="how often these bytes came, re-deliveries included",
    ),
    Column(
        "first_seen_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("now()"),
        comment="when these bytes came first",
    ),
    Column(
        "last_seen_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("now()"),
        comment="when these bytes came last",
    ),
    Column("released_at", DateTime(timezone=True), comment="when it was sent again, if it was"),
    Column(
        "attempts",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="how often it was sent again, or a fix of it was tried",
    ),
    Column(
        "fixed_at",
        DateTime(timezone=True),
        comment="when other bytes were made of it and sent: the old ones may come, and wait no more",
    ),
    comment="what was on the stream and is not an event, whole, with the reason",
)


def _count(name: str, comment: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"), comment=comment)


# What rollups of before do not know.
_NOT_COUNTED: Final = "null where the raw events were gone before this was counted"


def _played(until: str) -> tuple[Column[int], ...]:
    """What was done in a run of a mission."""
    return (
        Column("events", BigInteger, comment=f"how many {until}; {_NOT_COUNTED}"),
        Column("kills", BigInteger, comment="of those, enemies killed"),
        Column("recharges", BigInteger, comment="of those, recharges"),
    )


def _seconds(name: str, comment: str) -> Column[float]:
    return Column(name, Double, nullable=False, server_default=text("0"), comment=comment)


pipeline_health = Table(
    "pipeline_health",
    metadata,
    Column(
        "minute",
        DateTime(timezone=True),
        primary_key=True,
        comment="the minute the row is about, by the consumer's clock",
    ),
    Column("process", Text, primary_key=True, comment="the consumer's name"),
    _count("batches", "batches stored; exact, as the next three are"),
    _count("stored", "events that became rows"),
    _count("duplicates", "events that were rows already"),
    _count("quarantined", "events refused, and entries that hold none, re-deliveries included"),
    Column(
        "quarantined_by_reason",
        JSONB,
        nullable=False,
        server_default=text("'{}'::jsonb"),
        comment="the same by reason code",
    ),
    _count("batch_rows_max", "events of the largest batch"),
    _seconds("batch_s_sum", "seconds that storing batches took"),
    _seconds("batch_s_max", "seconds that the slowest took"),
    Column(
        "age_p50_s",
        Double,
        comment="median seconds from the stream to the commit; null when nothing was stored",
    ),
    Column("age_p95_s", Double, comment="95th percentile of the same"),
    Column("age_p99_s", Double, comment="99th percentile of the same"),
    _count("claimed", "entries taken over from another consumer"),
    _count("groups_made", "times the consumer group was gone and was made again"),
    _count("lost", "entries trimmed from the stream before they were acknowledged"),
    _seconds("waited_redis_s", "seconds spent waiting for Redis"),
    _seconds("waited_postgres_s", "seconds spent waiting for Postgres"),
    Column(
        "is_flooded",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="whether bad entries flood this consumer: over 1 % of its last 10,000, or 1,000 in a row",
    ),
    Column(
        "seen_at",
        DateTime(timezone=True),
        comment="when the stream was looked at, by Redis' clock; null when it was not",
    ),
    Column("added", BigInteger, comment="entries ever added to the stream by then"),
    Column("undelivered", BigInteger, comment="entries nobody had read then"),
    Column("pending", BigInteger, comment="entries read and not acknowledged then"),
    Column(
        "oldest_waiting_at",
        DateTime(timezone=True),
        comment="when the oldest of those was added; null when nothing waited",
    ),
    Column(
        "complete_to",
        DateTime(timezone=True),
        comment="whatever was added before this is stored or quarantined",
    ),
    Column(
        "updated_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("now()"),
        comment="when the process last wrote the row",
    ),
    _count("forgotten", "events of forgotten players, which were dropped; exact"),
    comment="one row a consumer and minute: what it did, and the stream as it saw it",
)

hourly_rollups = Table(
    "hourly_rollups",
    metadata,
    Column(
        "hour",
        DateTime(timezone=True),
        primary_key=True,
        comment="beginning of the UTC hour the row sums up",
    ),
    Column("player", Text, primary_key=True, comment="whose events"),
    Column("action", Text, primary_key=True, comment="of what kind"),
    Column("events", BigInteger, nullable=False, comment="how many"),
    Column("xp_delta", BigInteger, nullable=False, comment="sum of their xp_delta"),
    Column("karma_delta", BigInteger, nullable=False, comment="sum of their karma_delta"),
    comment="game_events summed up by hour, made anew an hour at a time",
)

hourly_totals = Table(
    "hourly_totals",
    metadata,
    Column(
        "hour",
        DateTime(timezone=True),
        primary_key=True,
        comment="beginning of the UTC hour the row sums up",
    ),
    Column("action", Text, primary_key=True, comment="events of what kind"),
    Column("events", BigInteger, nullable=False, comment="how many"),
    Column("xp_delta", BigInteger, nullable=False, comment="sum of their xp_delta"),
    Column("karma_delta", BigInteger, nullable=False, comment="sum of their karma_delta"),
    comment="hourly_rollups summed up over all players, made anew with each hour of it",
)

player_days = Table(
    "player_days",
    metadata,
    Column("day", Date, primary_key=True, comment="the UTC day"),
    Column("player", Text, primary_key=True, comment="who did anything on it"),
    Column(
        "first_day",
        Date,
        nullable=False,
        comment="the first day this player did anything; the same in all its rows",
    ),
    Column("events", BigInteger, nullable=False, comment="how many on the day"),
    Column("xp_delta", BigInteger, nullable=False, comment="sum of their xp_delta"),
    Column("karma_delta", BigInteger, nullable=False, comment="sum of their karma_delta"),
    Column("karma_total", Integer, comment=f"karma after the day's last event; {_NOT_COUNTED}"),
    Column("rank", Text, comment="the name of that karma"),
    Index(None, "player", "day"),
    comment="one row a player and day it was active on; what daily_cohorts counts",
)

daily_cohorts = Table(
    "daily_cohorts",
    metadata,
    Column("day", Date, primary_key=True, comment="the UTC day"),
    Column(
        "first_day",
        Date,
        primary_key=True,
        comment="the cohort: when its players did anything for the first time",
    ),
    Column(
        "players",
        BigInteger,
        nullable=False,
        comment="how many of the cohort did anything on the day",
    ),
    comment="active players a day and cohort: daily actives and retention are sums of it",
)

mission_parts = Table(
    "mission_parts",
    metadata,
    Column(
        "hour",
        DateTime(timezone=True),
        primary_key=True,
        comment="beginning of the UTC hour the part lies in",
    ),
    Column("player", Text, primary_key=True, comment="who played"),
    Column("mission", Text, primary_key=True, comment="its name, cut to 64 characters"),
    Column(
        "playthrough",
        Text,
        primary_key=True,
        comment="the how manieth time, from 1, as the events tell it; 1 if they do not",
    ),
    Column(
        "completed_at",
        DateTime(timezone=True),
        comment="when it was completed first in the hour; null when it was not",
    ),
    Column(
        "started_at",
        DateTime(timezone=True),
        nullable=False,
        comment="its first event; its beginning where only the hour is known",
    ),
    Column(
        "ended_at",
        DateTime(timezone=True),
        nullable=False,
        comment="its last event; its beginning where only the hour is known",
    ),
    *_played("up to the completion, if there is one in the hour"),
    Index(None, "player", "mission", "playthrough"),
    comment="runs of missions cut by UTC hour; what mission_runs is made from",
)

mission_runs = Table(
    "mission_runs",
    metadata,
    Column("player", Text, primary_key=True, comment="who plays"),
    Column("mission", Text, primary_key=True, comment="its name, cut to 64 characters"),
    Column(
        "playthrough",
        Text,
        primary_key=True,
        comment="the how manieth time, from 1, as the events tell it; 1 if they do not",
    ),
    Column(
        "started_on",
        Date,
        nullable=False,
        index=True,
        comment="UTC day of the run's first event",
    ),
    Column(
        "completed_on", Date, index=True, comment="UTC day it was completed; null when it was not"
    ),
    Column(
        "completed_at",
        DateTime(timezone=True),
        comment="when it was completed first; null when it was not",
    ),
    Column("started_at", DateTime(timezone=True), nullable=False, comment="its first event"),
    Column(
        "ended_at",
        DateTime(timezone=True),
        nullable=False,
        index=True,
        comment="its completion, or its last event so far",
    ),
    *_played("up to the completion, or so far"),
    comment="one row a player, mission and playthrough; what daily_missions counts",
)

daily_missions = Table(
    "daily_missions",
    metadata,
    Column("day", Date, primary_key=True, comment="the UTC day"),
    Column("mission", Text, primary_key=True, comment="its name, cut to 64 characters"),
    Column("runs_started", BigInteger, nullable=False, comment="runs begun on the day"),
    Column(
        "runs_completed",
        BigInteger,
        nullable=False,
        comment="runs completed on the day, whenever they were begun",
    ),
    Column(
        "players_started",
        BigInteger,
        nullable=False,
        comment="first playthroughs begun on the day: each player counts once",
    ),
    Column(
        "players_completed",
        BigInteger,
        nullable=False,
        comment="first playthroughs completed on the day",
    ),
    comment="runs begun and completed, a day and mission: the funnel is sums of it",
)

touched_hours = Table(
    "touched_hours",
    metadata,
    Column(
        "hour",
        DateTime(timezone=True),
        nullable=False,
        comment="beginning of a UTC hour of which events were stored or removed",
    ),
    Column(
        "touched_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("now()"),
        comment="when; within a minute of it the same consumer does not say so again",
    ),
    comment="hours whose rollups may be out of date: written with the events, removed by the rollup",
)

kept_hours = Table(
    "kept_hours",
    metadata,
    Column(
        "hour",
        DateTime(timezone=True),
        primary_key=True,
        comment="beginning of a UTC hour whose raw events were dropped after they were rolled up",
    ),
    comment="hours of which only some raw events may be there again: their rollups are not made anew"
    " from those",
)

session_parts = Table(
    "session_parts",
    metadata,
    Column(
        "hour",
        DateTime(timezone=True),
        primary_key=True,
        comment="beginning of the UTC hour the part lies in",
    ),
    Column("player", Text, primary_key=True, comment="who played"),
    Column("started_at", DateTime(timezone=True), primary_key=True, comment="its first event"),
    Column(
        "ended_at",
        DateTime(timezone=True),
        nullable=False,
        comment="its last event, in the same hour",
    ),
    Column("events", BigInteger, nullable=False, comment="how many"),
    Column("xp_delta", BigInteger, nullable=False, comment="sum of their xp_delta"),
    Column("karma_delta", BigInteger, nullable=False, comment="sum of their karma_delta"),
    Column(
        "is_continued",
        Boolean,
        nullable=False,
        comment="whether the player's event before it, in the hour before, is 30 minutes back or less",
    ),
    Column("karma_total", Integer, comment=f"karma after its last event; {_NOT_COUNTED}"),
    comment="sessions, which a gap of over 30 minutes ends, cut by UTC hour: those that are not"
    " continued begin one",
)

daily_rollups = Table(
    "daily_rollups",
    metadata,
    Column("day", Date, primary_key=True, comment="the UTC day"),
    Column("player", Text, primary_key=True, comment="whose events"),
    Column("action", Text, primary_key=True, comment="of what kind"),
    Column("events", BigInteger, nullable=False, comment="how many"),
    Column("xp_delta", BigInteger, nullable=False, comment="sum of their xp_delta"),
    Column("karma_delta", BigInteger, nullable=False, comment="sum of their karma_delta"),
    comment="hourly_rollups summed up by UTC day, made anew with each hour of it",
)

daily_sessions = Table(
    "daily_sessions",
    metadata,
    Column("day", Date, primary_key=True, comment="the UTC day on which the sessions began"),
    Column("sessions", BigInteger, nullable=False, comment="how many began"),
    Column("players", BigInteger, nullable=False, comment="of how many players"),
    Column("seconds_sum", Double, nullable=False, comment="of all their lengths"),
    Column("seconds_p50", Double, nullable=False, comment="median length"),
    Column("seconds_p90", Double, nullable=False, comment="90th percentile of the same"),
    comment="sessions by the day they began, from the first event to the last; what is after the end of"
    " the next day is not counted",
)

rollup_checks = Table(
    "rollup_checks",
    metadata,
    Column(
        "checked_at",
        DateTime(timezone=True),
        primary_key=True,
        comment="when the rollups were compared with the raw events",
    ),
    Column(
        "first_hour",
        DateTime(timezone=True),
        nullable=False,
        comment="the first hour that was compared",
    ),
    Column("last_hour", DateTime(timezone=True), nullable=False, comment="the last"),
    Column("hours", BigInteger, nullable=False, comment="how many were compared"),
    Column(
        "wrong",
        BigInteger,
        nullable=False,
        comment="of how many a rollup was not what a recount gives; those were made anew",
    ),
    comment="one row a check of the rollups",
)

forgotten_players = Table(
    "forgotten_players",
    metadata,
    Column(
        "number",
        BigInteger,
        Identity(always=True),
        primary_key=True,
        comment="by the largest a consumer sees that one was added",
    ),
    Column(
        "player_sha256",
        LargeBinary,
        nullable=False,
        comment="SHA-256 of the name in UTF-8: the name itself is forgotten",
    ),
    Column(
        "forgotten_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("now()"),
        comment="when it was asked for",
    ),
    Column(
        "pseudonym",
        Text,
        comment="the name their events go by until all of them do, where they were not erased",
    ),
    UniqueConstraint("player_sha256"),
    comment="tombstones: an event of one of these is dropped, whoever sends it again",
)

imports = Table(
    "imports",
    metadata,
    Column(
        "sha256",
        LargeBinary,
        primary_key=True,
        comment="SHA-256 of the file and of how its columns are read",
    ),
    Column("name", Text, nullable=False, comment="the file's name, without its folder"),
    _count("records", "records done, in the file's order: where it goes on"),
    _count("sent", "of those, events put on the stream"),
    _count("refused", "of those, what is no event"),
    Column(
        "refused_by_reason",
        JSONB,
        nullable=False,
        server_default=text("'{}'::jsonb"),
        comment="the same by reason code",
    ),
    Column(
        "started_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("now()"),
        comment="when it was begun",
    ),
    Column(
        "updated_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("now()"),
        comment="when it came this far",
    ),
    Column("finished_at", DateTime(timezone=True), comment="when it was done; null before"),
    comment="one row a file that was imported, or is being",
)

moral_choices = Table(
    "moral_choices",
    metadata,
    Column(
        "hour",
        DateTime(timezone=True),
        primary_key=True,
        comment="beginning of the UTC hour it was made in",
    ),
    Column("player", Text, primary_key=True, comment="whose choice"),
    Column("ts", DateTime(timezone=True), primary_key=True, comment="when"),
    Column("id", Uuid, primary_key=True, comment="the event's id"),
    Column("mission", Text, comment="in which, cut to 64 characters; null if not told"),
    Column("choice", Text, comment="its name, cut to 64 characters; null if not told"),
    Column(
        "side",
        Text,
        comment="good or evil: as the event tells it, else as karma went; null if neither says",
    ),
    Index(None, "player", "ts"),
    comment="one row a moral choice, kept when the raw events are gone",
)

hourly_items = Table(
    "hourly_items",
    metadata,
    Column(
        "hour",
        DateTime(timezone=True),
        primary_key=True,
        comment="beginning of the UTC hour the row sums up",
    ),
    Column("action", Text, primary_key=True, comment="events of what kind"),
    Column(
        "district",
        Text,
        primary_key=True,
        comment="where, cut to 64 characters; empty if not told",
    ),
    Column(
        "subject",
        Text,
        primary_key=True,
        comment="which enemy, civilian, energy source, mission, ability or choice; cut, or empty",
    ),
    Column(
        "variant",
        Text,
        primary_key=True,
        comment="of a kill the ability, of an upgrade its level, of a mission its kind, of a choice the side;"
        " cut, or empty",
    ),
    Column("events", BigInteger, nullable=False, comment="how many"),
    Column("xp_delta", BigInteger, nullable=False, comment="sum of their xp_delta"),
    Column("karma_delta", BigInteger, nullable=False, comment="sum of their karma_delta"),
    comment="what events were about, by hour and without players; what is not among the 100 most"
    " frequent of its hour and action is summed up as (other)",
)
