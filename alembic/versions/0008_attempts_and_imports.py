"""How often a quarantined entry was sent again, and how far each import has come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _count(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(
        name, sa.BigInteger, nullable=False, server_default=sa.text("0"), comment=comment
    )


def _now(name: str, comment: str) -> sa.Column[object]:
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        nullable=False,
        server_default=sa.text("now()"),
        comment=comment,
    )


def upgrade() -> None:
    op.add_column(
        "quarantined_events",
        _count("attempts", "how often it was sent again, or a fix of it was tried"),
    )
    op.create_table(
        "imports",
        sa.Column(
            "sha256",
            sa.LargeBinary,
            nullable=False,
            comment="SHA-256 of the file and of how its columns are read",
        ),
        sa.Column("name", sa.Text, nullable=False, comment="the file's name, without its folder"),
        _count("records", "records done, in the file's order: where it goes on"),
        _count("sent", "of those, events put on the stream"),
        _count("refused", "of those, what is no event"),
        sa.Column(
            "refused_by_reason",
            JSONB,
            nullable=False,
            server_default=sa.text("'{}'::jsonb"),
            comment="the same by reason code",
        ),
        _now("started_at", "when it was begun"),
        _now("updated_at", "when it came this far"),
        sa.Column(
            "finished_at", sa.DateTime(timezone=True), comment="when it was done; null before"
        ),
        sa.PrimaryKeyConstraint("sha256", name="imports_pkey"),
        comment="one row a file that was imported, or is being",
    )


def downgrade() -> None:
    op.drop_table("imports")
    op.drop_column("quarantined_events", "attempts")
