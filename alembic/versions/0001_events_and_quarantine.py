"""Events, the quarantine, and the function that makes partitions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# One partition a UTC day. Made apart and then attached, which takes no lock that an INSERT or a SELECT
# waits for; one maker at a time. The lock's key is any number, the same for every caller.
ENSURE_PARTITIONS = """
create function ensure_game_events_partitions(first_day date, last_day date) returns integer
language plpgsql as $$
declare
    day date := first_day;
    partition text;
    made integer := 0;
begin
    while day <= last_day loop
        partition := 'game_events_' || to_char(day, 'YYYYMMDD');
        if to_regclass(partition) is null then
            -- Nearly every call finds all days in place: it neither takes the lock nor waits for it.
            perform pg_advisory_xact_lock(4815162343);
            -- Asked of the table: to_regclass would repeat what it found before the wait.
            if not exists (
                select from pg_class child
                join pg_class parent using (relnamespace)
                where parent.oid = 'game_events'::regclass and child.relname = partition
            ) then
                execute format('create table %I (like game_events including all)', partition);
                execute format(
                    'alter table game_events attach partition %I for values from (%L) to (%L)',
                    partition,
                    day::timestamp at time zone 'UTC',
                    (day + 1)::timestamp at time zone 'UTC'
                );
                made := made + 1;
            end if;
        elsif not (select relispartition from pg_class where oid = to_regclass(partition)) then
            raise exception 'partition % is detached: attach it again, or rename it', partition
                using errcode = 'object_not_in_prerequisite_state';
        end if;
        day := day + 1;
    end loop;
    return made;
end
$$
"""


def upgrade() -> None:
    op.create_table(
        "game_events",
        sa.Column(
            "id",
            sa.Uuid,
            nullable=False,
            comment="UUIDv7 made by the producer: the event's identity",
        ),
        sa.Column(
            "ts",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when it happened, to the millisecond; a function of the id alone",
        ),
        sa.Column("player", sa.Text, nullable=False, comment="1 to 64 characters"),
        sa.Column("action", sa.Text, nullable=False, comment="what the player did"),
        sa.Column(
            "xp_delta",
            sa.Integer,
            nullable=False,
            comment="XP gained; negative is an upgrade's price",
        ),
        sa.Column(
            "karma_delta",
            sa.Integer,
            nullable=False,
            comment="change of karma, as applied after the clamp",
        ),
        sa.Column(
            "karma_total",
            sa.Integer,
            nullable=False,
            comment="karma after the event, -100 to 100",
        ),
        sa.Column(
            "rank",
            sa.Text,
            nullable=False,
            comment="the karma's name; follows karma_total alone",
        ),
        sa.Column(
            "energy_source", sa.Text, comment="what a recharge drained; null for other actions"
        ),
        sa.Column(
            "seq",
            sa.BigInteger,
            comment="the player's events counted from 1; null if not counted",
        ),
        sa.Column(
            "details", JSONB, comment="mission, district, enemy, ability ... and unknown keys"
        ),
        sa.Column(
            "ingested_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
            comment="start of the transaction that stored the row",
        ),
        sa.PrimaryKeyConstraint("ts", "id", name="game_events_pkey"),
        sa.CheckConstraint(
            "length(player) between 1 and 64", name=op.f("game_events_player_check")
        ),
        sa.CheckConstraint(
            "action in ('kill_enemy', 'kill_civilian', 'moral_choice', 'recharge',"
            " 'mission_complete', 'ability_upgrade')",
            name=op.f("game_events_action_check"),
        ),
        sa.CheckConstraint(
            "xp_delta >= 0 or action = 'ability_upgrade'", name=op.f("game_events_xp_delta_check")
        ),
        sa.CheckConstraint(
            "karma_total between -100 and 100", name=op.f("game_events_karma_total_check")
        ),
        sa.CheckConstraint(
            "rank = case when karma_total <= -75 then 'Infamous'"
            " when karma_total <= -40 then 'Outlaw' when karma_total <= -15 then 'Thug'"
            " when karma_total >= 75 then 'Hero' when karma_total >= 40 then 'Champion'"
            " when karma_total >= 15 then 'Guardian' else 'Neutral' end",
            name=op.f("game_events_rank_check"),
        ),
        sa.CheckConstraint(
            "energy_source is null or action = 'recharge'",
            name=op.f("game_events_energy_source_check"),
        ),
        sa.CheckConstraint("seq >= 1", name=op.f("game_events_seq_check")),
        comment="one row an event, RANGE-partitioned by UTC day of ts",
        postgresql_partition_by="RANGE (ts)",
    )
    op.create_table(
        "quarantined_events",
        sa.Column("sha256", sa.LargeBinary, nullable=False, comment="SHA-256 of the raw bytes"),
        sa.Column(
            "raw",
            sa.LargeBinary,
            nullable=False,
            comment="the bytes as they stood on the stream; of more than 1 MiB, the first MiB",
        ),
        sa.Column("size_bytes", sa.BigInteger, nullable=False, comment="of all the raw bytes"),
        sa.Column("reason", sa.Text, nullable=False, comment="code of the first rule broken"),
        sa.Column("detail", sa.Text, nullable=False, comment="the same in words"),
        sa.Column("entry_id", sa.Text, nullable=False, comment="stream entry that brought it last"),
        sa.Column(
            "times_seen",
            sa.BigInteger,
            nullable=False,
            server_default=sa.text("1"),
            comment="how often these bytes came, re-deliveries included",
        ),
        sa.Column(
            "first_seen_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
            comment="when these bytes came first",
        ),
        sa.Column(
            "last_seen_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
            comment="when these bytes came last",
        ),
        sa.Column(
            "released_at",
            sa.DateTime(timezone=True),
            comment="when it was sent again, if it was",
        ),
        sa.PrimaryKeyConstraint("sha256", name="quarantined_events_pkey"),
        comment="what was on the stream and is not an event, whole, with the reason",
    )
    op.execute(ENSURE_PARTITIONS)


def downgrade() -> None:
    op.execute("drop function ensure_game_events_partitions(date, date)")
    op.drop_table("quarantined_events")
    op.drop_table("game_events")  # and with it its partitions
