"""When a quarantined entry was fixed: its old bytes, which a replay sends again, do not open it anew."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "quarantined_events",
        sa.Column(
            "fixed_at",
            sa.DateTime(timezone=True),
            comment="when other bytes were made of it and sent: the old ones may come, and wait no more",
        ),
    )


def downgrade() -> None:
    op.drop_column("quarantined_events", "fixed_at")
