"""What the consumers did, minute by minute, and how far the data is complete."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _count(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(
        name, sa.BigInteger, nullable=False, server_default=sa.text("0"), comment=comment
    )


def _seconds(name: str, comment: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False, server_default=sa.text("0"), comment=comment)


def upgrade() -> None:
    op.create_table(
        "pipeline_health",
        sa.Column(
            "minute",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="the minute the row is about, by the consumer's clock",
        ),
        sa.Column("process", sa.Text, nullable=False, comment="the consumer's name"),
        _count("batches", "batches stored; exact, as the next three are"),
        _count("stored", "events that became rows"),
        _count("duplicates", "events that were rows already"),
        _count("quarantined", "entries refused, re-deliveries included"),
        sa.Column(
            "quarantined_by_reason",
            JSONB,
            nullable=False,
            server_default=sa.text("'{}'::jsonb"),
            comment="the same by reason code",
        ),
        _count("batch_rows_max", "entries of the largest batch"),
        _seconds("batch_s_sum", "seconds that storing batches took"),
        _seconds("batch_s_max", "seconds that the slowest took"),
        sa.Column(
            "age_p50_s",
            sa.Double,
            comment="median seconds from the stream to the commit; null when nothing was stored",
        ),
        sa.Column("age_p95_s", sa.Double, comment="95th percentile of the same"),
        sa.Column("age_p99_s", sa.Double, comment="99th percentile of the same"),
        _count("claimed", "entries taken over from another consumer"),
        _count("groups_made", "times the consumer group was gone and was made again"),
        _count("lost", "entries trimmed from the stream before they were acknowledged"),
        _seconds("waited_redis_s", "seconds spent waiting for Redis"),
        _seconds("waited_postgres_s", "seconds spent waiting for Postgres"),
        sa.Column(
            "is_flooded",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
            comment="whether bad entries flood this consumer: over 1 % of its last 10,000, or 1,000 in a row",
        ),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            comment="when the stream was looked at, by Redis' clock; null when it was not",
        ),
        sa.Column("added", sa.BigInteger, comment="entries ever added to the stream by then"),
        sa.Column("undelivered", sa.BigInteger, comment="entries nobody had read then"),
        sa.Column("pending", sa.BigInteger, comment="entries read and not acknowledged then"),
        sa.Column(
            "oldest_waiting_at",
            sa.DateTime(timezone=True),
            comment="when the oldest of those was added; null when nothing waited",
        ),
        sa.Column(
            "complete_to",
            sa.DateTime(timezone=True),
            comment="whatever was added before this is stored or quarantined",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
            comment="when the process last wrote the row",
        ),
        sa.PrimaryKeyConstraint("minute", "process", name="pipeline_health_pkey"),
        comment="one row a consumer and minute: what it did, and the stream as it saw it",
    )


def downgrade() -> None:
    op.drop_table("pipeline_health")
