"""Moral choices one by one, things by the hour, and more about sessions, days of players and missions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

FROM_PART = "its beginning where only the hour is known"
NOT_COUNTED = "null where the raw events were gone before this was counted"

# What hours tell of days is taken over.
FILL_DAYS = """
update player_days set events = summed.events, xp_delta = summed.xp_delta, karma_delta = summed.karma_delta
from (
    select (hour at time zone 'UTC')::date as day, player, sum(events) as events,
           sum(xp_delta) as xp_delta, sum(karma_delta) as karma_delta
    from hourly_rollups group by 1, 2
) as summed
where summed.day = player_days.day and summed.player = player_days.player
"""
FILL_REST_OF_DAYS = (
    "update player_days set events = 0, xp_delta = 0, karma_delta = 0 where events is null"
)
# Of parts only the hour is known, and of runs only the days.
FILL_PARTS = """
update mission_parts
set started_at = hour, ended_at = hour, completed_at = case when is_completed then hour end
"""
FILL_RUNS = """
update mission_runs set started_at = started_on::timestamp at time zone 'UTC',
    completed_at = completed_on::timestamp at time zone 'UTC',
    ended_at = coalesce(completed_on, started_on)::timestamp at time zone 'UTC'
"""
# The rest is made anew with the hours, where the raw events are there. Told as if long ago: once will do.
TOUCH_ALL = """
insert into touched_hours (hour, touched_at)
select hour, timestamptz 'epoch'
from (select hour from hourly_totals union select hour from mission_parts) as known
"""


def _big(name: str, comment: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable, comment=comment)


def _time(name: str, comment: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, comment=comment)


def _text(name: str, comment: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable, comment=comment)


def _add_filled(table: str, columns: tuple[sa.Column[object], ...], *fill: str) -> None:
    """Add columns that take a value each once these statements have filled them."""
    for column in columns:
        column.nullable = True
        op.add_column(table, column)
    for statement in fill:
        op.execute(statement)
    for column in columns:
        op.alter_column(table, column.name, nullable=False)


def upgrade() -> None:
    op.add_column(
        "session_parts",
        sa.Column(
            "karma_total",
            sa.Integer,
            comment="karma after its last event; " + NOT_COUNTED,
        ),
    )
    _add_filled(
        "player_days",
        (
            _big("events", "how many on the day"),
            _big("xp_delta", "sum of their xp_delta"),
            _big("karma_delta", "sum of their karma_delta"),
        ),
        FILL_DAYS,
        FILL_REST_OF_DAYS,
    )
    op.add_column(
        "player_days",
        sa.Column(
            "karma_total",
            sa.Integer,
            comment="karma after the day's last event; " + NOT_COUNTED,
        ),
    )
    op.add_column("player_days", _text("rank", "the name of that karma", nullable=True))
    op.add_column(
        "mission_parts",
        _time(
            "completed_at",
            "when it was completed first in the hour; null when it was not",
            nullable=True,
        ),
    )
    _add_filled(
        "mission_parts",
        (
            _time("started_at", f"its first event; {FROM_PART}"),
            _time("ended_at", f"its last event; {FROM_PART}"),
        ),
        FILL_PARTS,
    )
    op.drop_column("mission_parts", "is_completed")
    op.add_column(
        "mission_runs",
        _time("completed_at", "when it was completed first; null when it was not", nullable=True),
    )
    _add_filled(
        "mission_runs",
        (
            _time("started_at", "its first event"),
            _time("ended_at", "its completion, or its last event so far"),
        ),
        FILL_RUNS,
    )
    op.create_index("mission_runs_ended_at_idx", "mission_runs", ["ended_at"])
    for table, until in (
        ("mission_parts", "up to the completion, if there is one in the hour"),
        ("mission_runs", "up to the completion, or so far"),
    ):
        op.add_column(table, _big("events", f"how many {until}; {NOT_COUNTED}", nullable=True))
        op.add_column(table, _big("kills", "of those, enemies killed", nullable=True))
        op.add_column(table, _big("recharges", "of those, recharges", nullable=True))
    op.create_table(
        "moral_choices",
        _time("hour", "beginning of the UTC hour it was made in"),
        _text("player", "whose choice"),
        _time("ts", "when"),
        sa.Column("id", sa.Uuid, nullable=False, comment="the event's id"),
        _text("mission", "in which, cut to 64 characters; null if not told", nullable=True),
        _text("choice", "its name, cut to 64 characters; null if not told", nullable=True),
        _text(
            "side",
            "good or evil: as the event tells it, else as karma went; null if neither says",
            nullable=True,
        ),
        sa.PrimaryKeyConstraint("hour", "player", "ts", "id", name="moral_choices_pkey"),
        comment="one row a moral choice, kept when the raw events are gone",
    )
    op.create_index("moral_choices_player_ts_idx", "moral_choices", ["player", "ts"])
    op.create_table(
        "hourly_items",
        _time("hour", "beginning of the UTC hour the row sums up"),
        _text("action", "events of what kind"),
        _text("district", "where, cut to 64 characters; empty if not told"),
        _text(
            "subject",
            "which enemy, civilian, energy source, mission, ability or choice; cut, or empty",
        ),
        _text(
            "variant",
            "of a kill the ability, of an upgrade its level, of a mission its kind, of a choice the side;"
            " cut, or empty",
        ),
        _big("events", "how many"),
        _big("xp_delta", "sum of their xp_delta"),
        _big("karma_delta", "sum of their karma_delta"),
        sa.PrimaryKeyConstraint(
            "hour", "action", "district", "subject", "variant", name="hourly_items_pkey"
        ),
        comment="what events were about, by hour and without players; what is not among the 100 most"
        " frequent of its hour and action is summed up as (other)",
    )
    op.execute(TOUCH_ALL)


def downgrade() -> None:
    op.drop_table("hourly_items")
    op.drop_table("moral_choices")
    op.drop_index("mission_runs_ended_at_idx", "mission_runs")
    op.add_column(
        "mission_parts",
        sa.Column("is_completed", sa.Boolean, comment="whether it was completed in the hour"),
    )
    op.execute("update mission_parts set is_completed = completed_at is not null")
    op.alter_column("mission_parts", "is_completed", nullable=False)
    spans = ("started_at", "completed_at", "ended_at", "events", "kills", "recharges")
    for table, columns in (
        ("mission_runs", spans),
        ("mission_parts", spans),
        ("player_days", ("events", "xp_delta", "karma_delta", "karma_total", "rank")),
        ("session_parts", ("karma_total",)),
    ):
        for column in columns:
            op.drop_column(table, column)
