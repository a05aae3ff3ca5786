"""Sessions, sums by day, and which hours have changed since they were summed up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _big(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, comment=comment)


def _time(name: str, comment: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, comment=comment)


# What was rolled up before is summed up by day at once; sessions need the raw events, so all hours that are
# still there count as changed.
FILL_DAYS = """
insert into daily_rollups (day, player, action, events, xp_delta, karma_delta)
select (hour at time zone 'UTC')::date, player, action, sum(events), sum(xp_delta), sum(karma_delta)
from hourly_rollups group by 1, 2, 3
"""
TOUCH_ALL = "insert into touched_hours (hour) select distinct hour from hourly_totals"


def upgrade() -> None:
    op.create_table(
        "touched_hours",
        _time("hour", "beginning of a UTC hour of which events were stored or removed"),
        sa.Column(
            "touched_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
            comment="when; within a minute of it the same consumer does not say so again",
        ),
        comment="hours whose rollups may be out of date: written with the events, removed by the rollup",
    )
    op.create_table(
        "session_parts",
        _time("hour", "beginning of the UTC hour the part lies in"),
        sa.Column("player", sa.Text, nullable=False, comment="who played"),
        _time("started_at", "its first event"),
        _time("ended_at", "its last event, in the same hour"),
        _big("events", "how many"),
        _big("xp_delta", "sum of their xp_delta"),
        _big("karma_delta", "sum of their karma_delta"),
        sa.Column(
            "is_continued",
            sa.Boolean,
            nullable=False,
            comment="whether the player's event before it, in the hour before, is 30 minutes back or less",
        ),
        sa.PrimaryKeyConstraint("hour", "player", "started_at", name="session_parts_pkey"),
        comment="sessions, which a gap of over 30 minutes ends, cut by UTC hour: those that are not"
        " continued begin one",
    )
    op.create_table(
        "daily_rollups",
        sa.Column("day", sa.Date, nullable=False, comment="the UTC day"),
        sa.Column("player", sa.Text, nullable=False, comment="whose events"),
        sa.Column("action", sa.Text, nullable=False, comment="of what kind"),
        _big("events", "how many"),
        _big("xp_delta", "sum of their xp_delta"),
        _big("karma_delta", "sum of their karma_delta"),
        sa.PrimaryKeyConstraint("day", "player", "action", name="daily_rollups_pkey"),
        comment="hourly_rollups summed up by UTC day, made anew with each hour of it",
    )
    op.create_table(
        "daily_sessions",
        sa.Column(
            "day", sa.Date, nullable=False, comment="the UTC day on which the sessions began"
        ),
        _big("sessions", "how many began"),
        _big("players", "of how many players"),
        sa.Column("seconds_sum", sa.Double, nullable=False, comment="of all their lengths"),
        sa.Column("seconds_p50", sa.Double, nullable=False, comment="median length"),
        sa.Column("seconds_p90", sa.Double, nullable=False, comment="90th percentile of the same"),
        sa.PrimaryKeyConstraint("day", name="daily_sessions_pkey"),
        comment="sessions by the day they began, from the first event to the last; what is after the end of"
        " the next day is not counted",
    )
    op.create_table(
        "rollup_checks",
        _time("checked_at", "when the rollups were compared with the raw events"),
        _time("first_hour", "the first hour that was compared"),
        _time("last_hour", "the last"),
        _big("hours", "how many were compared"),
        _big("wrong", "of how many a rollup was not what a recount gives; those were made anew"),
        sa.PrimaryKeyConstraint("checked_at", name="rollup_checks_pkey"),
        comment="one row a check of the rollups",
    )
    op.execute(FILL_DAYS)
    op.execute(TOUCH_ALL)


def downgrade() -> None:
    for table in (
        "rollup_checks",
        "daily_sessions",
        "daily_rollups",
        "session_parts",
        "touched_hours",
    ):
        op.drop_table(table)
