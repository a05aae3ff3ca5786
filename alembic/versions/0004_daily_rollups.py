"""What the dashboards read: totals an hour, cohorts and missions a day, and what those are made from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Hours were rolled up before these tables were there, and the raw events of some of them are gone: what
# their rollups tell is taken over. Of missions they tell nothing: those come with the next rollup.
FILL_TOTALS = """
insert into hourly_totals (hour, action, events, xp_delta, karma_delta)
select hour, action, sum(events), sum(xp_delta), sum(karma_delta)
from hourly_rollups group by hour, action
"""
FILL_DAYS = """
insert into player_days (day, player, first_day)
select day, player, min(day) over (partition by player)
from (select distinct (hour at time zone 'UTC')::date as day, player from hourly_rollups) as active
"""
FILL_COHORTS = """
insert into daily_cohorts (day, first_day, players)
select day, first_day, count(*) from player_days group by day, first_day
"""


def upgrade() -> None:
    op.create_table(
        "hourly_totals",
        sa.Column(
            "hour",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="beginning of the UTC hour the row sums up",
        ),
        sa.Column("action", sa.Text, nullable=False, comment="events of what kind"),
        sa.Column("events", sa.BigInteger, nullable=False, comment="how many"),
        sa.Column("xp_delta", sa.BigInteger, nullable=False, comment="sum of their xp_delta"),
        sa.Column("karma_delta", sa.BigInteger, nullable=False, comment="sum of their karma_delta"),
        sa.PrimaryKeyConstraint("hour", "action", name="hourly_totals_pkey"),
        comment="hourly_rollups summed up over all players, made anew with each hour of it",
    )
    op.create_table(
        "player_days",
        sa.Column("day", sa.Date, nullable=False, comment="the UTC day"),
        sa.Column("player", sa.Text, nullable=False, comment="who did anything on it"),
        sa.Column(
            "first_day",
            sa.Date,
            nullable=False,
            comment="the first day this player did anything; the same in all its rows",
        ),
        sa.PrimaryKeyConstraint("day", "player", name="player_days_pkey"),
        comment="one row a player and day it was active on; what daily_cohorts counts",
    )
    op.create_index("player_days_player_day_idx", "player_days", ["player", "day"])
    op.create_table(
        "daily_cohorts",
        sa.Column("day", sa.Date, nullable=False, comment="the UTC day"),
        sa.Column(
            "first_day",
            sa.Date,
            nullable=False,
            comment="the cohort: when its players did anything for the first time",
        ),
        sa.Column(
            "players",
            sa.BigInteger,
            nullable=False,
            comment="how many of the cohort did anything on the day",
        ),
        sa.PrimaryKeyConstraint("day", "first_day", name="daily_cohorts_pkey"),
        comment="active players a day and cohort: daily actives and retention are sums of it",
    )
    op.create_table(
        "mission_runs",
        sa.Column("player", sa.Text, nullable=False, comment="who plays"),
        sa.Column("mission", sa.Text, nullable=False, comment="its name, cut to 64 characters"),
        sa.Column(
            "playthrough",
            sa.Text,
            nullable=False,
            comment="the how manieth time, from 1, as the events tell it; 1 if they do not",
        ),
        sa.Column(
            "started_on", sa.Date, nullable=False, comment="UTC day of the run's first event"
        ),
        sa.Column(
            "completed_on", sa.Date, comment="UTC day it was completed; null when it was not"
        ),
        sa.PrimaryKeyConstraint("player", "mission", "playthrough", name="mission_runs_pkey"),
        comment="one row a player, mission and playthrough; what daily_missions counts",
    )
    op.create_index("mission_runs_started_on_idx", "mission_runs", ["started_on"])
    op.create_index("mission_runs_completed_on_idx", "mission_runs", ["completed_on"])
    op.create_table(
        "daily_missions",
        sa.Column("day", sa.Date, nullable=False, comment="the UTC day"),
        sa.Column("mission", sa.Text, nullable=False, comment="its name, cut to 64 characters"),
        sa.Column("runs_started", sa.BigInteger, nullable=False, comment="runs begun on the day"),
        sa.Column(
            "runs_completed",
            sa.BigInteger,
            nullable=False,
            comment="runs completed on the day, whenever they were begun",
        ),
        sa.Column(
            "players_started",
            sa.BigInteger,
            nullable=False,
            comment="first playthroughs begun on the day: each player counts once",
        ),
        sa.Column(
            "players_completed",
            sa.BigInteger,
            nullable=False,
            comment="first playthroughs completed on the day",
        ),
        sa.PrimaryKeyConstraint("day", "mission", name="daily_missions_pkey"),
        comment="runs begun and completed, a day and mission: the funnel is sums of it",
    )
    op.execute(FILL_TOTALS)
    op.execute(FILL_DAYS)
    op.execute(FILL_COHORTS)


def downgrade() -> None:
    op.drop_table("daily_missions")
    op.drop_table("mission_runs")
    op.drop_table("daily_cohorts")
    op.drop_table("player_days")
    op.drop_table("hourly_totals")
