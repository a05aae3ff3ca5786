"""An entry may carry many events: say what is counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ZERO = sa.text("0")
# Name, what was said before, and what is said now.
_COLUMNS = (
    (
        "quarantined",
        "entries refused, re-deliveries included",
        "events refused, and entries that hold none, re-deliveries included",
    ),
    ("batch_rows_max", "entries of the largest batch", "events of the largest batch"),
)


def upgrade() -> None:
    for name, before, now in _COLUMNS:
        _say(name, before, now)


def downgrade() -> None:
    for name, before, now in _COLUMNS:
        _say(name, now, before)


def _say(name: str, before: str, now: str) -> None:
    op.alter_column(
        "pipeline_health",
        name,
        comment=now,
        existing_comment=before,
        existing_type=sa.BigInteger,
        existing_nullable=False,
        existing_server_default=_ZERO,
    )
