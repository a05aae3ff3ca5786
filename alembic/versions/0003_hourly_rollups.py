"""Events summed up by hour, player and action."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hourly_rollups",
        sa.Column(
            "hour",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="beginning of the UTC hour the row sums up",
        ),
        sa.Column("player", sa.Text, nullable=False, comment="whose events"),
        sa.Column("action", sa.Text, nullable=False, comment="of what kind"),
        sa.Column("events", sa.BigInteger, nullable=False, comment="how many"),
        sa.Column("xp_delta", sa.BigInteger, nullable=False, comment="sum of their xp_delta"),
        sa.Column("karma_delta", sa.BigInteger, nullable=False, comment="sum of their karma_delta"),
        sa.PrimaryKeyConstraint("hour", "player", "action", name="hourly_rollups_pkey"),
        comment="game_events summed up by hour, made anew an hour at a time",
    )


def downgrade() -> None:
    op.drop_table("hourly_rollups")
