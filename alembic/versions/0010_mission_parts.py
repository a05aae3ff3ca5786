"""Missions an hour, from which the runs are made anew, also when events were removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# The raw events of some runs are gone: what is known of those is taken over, as if it had been at midnight.
FILL = """
insert into mission_parts (hour, player, mission, playthrough, is_completed)
select day::timestamp at time zone 'UTC', player, mission, playthrough, bool_or(is_completion)
from (
    select started_on as day, player, mission, playthrough, false as is_completion from mission_runs
    union all
    select completed_on, player, mission, playthrough, true
    from mission_runs where completed_on is not null
) as steps group by 1, 2, 3, 4
"""
# Where they are there, the hours are made anew, midnights too. Told as if long ago: once will do.
TOUCH_ALL = """
insert into touched_hours (hour, touched_at)
select hour, timestamptz 'epoch'
from (select hour from hourly_totals union select hour from mission_parts) as known
"""


def upgrade() -> None:
    op.create_table(
        "mission_parts",
        sa.Column(
            "hour",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="beginning of the UTC hour the part lies in",
        ),
        sa.Column("player", sa.Text, nullable=False, comment="who played"),
        sa.Column("mission", sa.Text, nullable=False, comment="its name, cut to 64 characters"),
        sa.Column(
            "playthrough",
            sa.Text,
            nullable=False,
            comment="the how manieth time, from 1, as the events tell it; 1 if they do not",
        ),
        sa.Column(
            "is_completed",
            sa.Boolean,
            nullable=False,
            comment="whether it was completed in the hour",
        ),
        sa.PrimaryKeyConstraint(
            "hour", "player", "mission", "playthrough", name="mission_parts_pkey"
        ),
        comment="runs of missions cut by UTC hour; what mission_runs is made from",
    )
    op.create_index(
        "mission_parts_player_mission_playthrough_idx",
        "mission_parts",
        ["player", "mission", "playthrough"],
    )
    op.execute(FILL)
    op.execute(TOUCH_ALL)


def downgrade() -> None:
    op.drop_table("mission_parts")
