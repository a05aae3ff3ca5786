"""${message}.

Expand, then contract: the version before this one still stores events while this runs and after it. So a
column is added with a default or as nullable, and what nobody uses any more goes one version later.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
