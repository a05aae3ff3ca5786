"""Players whose events were erased, and must not come back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "forgotten_players",
        sa.Column(
            "number",
            sa.BigInteger,
            sa.Identity(always=True),
            nullable=False,
            comment="by the largest a consumer sees that one was added",
        ),
        sa.Column(
            "player_sha256",
            sa.LargeBinary,
            nullable=False,
            comment="SHA-256 of the name in UTF-8: the name itself is forgotten",
        ),
        sa.Column(
            "forgotten_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
            comment="when it was asked for",
        ),
        sa.Column(
            "pseudonym",
            sa.Text,
            comment="the name their events go by until all of them do, where they were not erased",
        ),
        sa.PrimaryKeyConstraint("number", name="forgotten_players_pkey"),
        sa.UniqueConstraint("player_sha256", name="forgotten_players_player_sha256_key"),
        comment="tombstones: an event of one of these is dropped, whoever sends it again",
    )
    op.add_column(
        "pipeline_health",
        sa.Column(
            "forgotten",
            sa.BigInteger,
            nullable=False,
            server_default=sa.text("0"),
            comment="events of forgotten players, which were dropped; exact",
        ),
    )


def downgrade() -> None:
    op.drop_column("pipeline_health", "forgotten")
    op.drop_table("forgotten_players")
