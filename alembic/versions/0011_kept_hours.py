"""Hours whose raw events were dropped, and of which some may have come again: their rollups stay."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# As revision 0009 has it, with its numbers: rows of a whole day above which a new day is made in parts.
MANY_ROWS = 40_000_000
MOST_ROWS = 200_000_000

# What the database is told once a partition is made. Rollups of a time that had none say that its raw events
# were dropped, whoever did it: what comes of it now is not all there was. Retention drops nothing of the last
# day, of which events still come: there, what is stored is what counts. The columns are named with their
# table, for the function has variables of the same names.
MARK_KEPT = """\
                insert into kept_hours (hour)
                select known.hour
                from (
                    select totals.hour from hourly_totals totals
                    where totals.hour >= begins and totals.hour < begins + make_interval(hours => hours)
                    union
                    select missions.hour from mission_parts missions
                    where missions.hour >= begins and missions.hour < begins + make_interval(hours => hours)
                ) as known
                where known.hour < now() - interval '1 day'
                on conflict do nothing;
"""
MAKE_PARTITIONS = r"""
create or replace function ensure_game_events_partitions(first_day date, last_day date) returns integer
language plpgsql set datestyle = 'ISO' as $$
declare
    day date := first_day;
    stem text;
    parts integer;
    hours integer;
    detached text;
    is_alone boolean := false;
    part text;
    begins timestamptz;
    made integer := 0;
begin
    while day <= last_day loop
        stem := 'game_events_' || to_char(day, 'YYYYMMDD');
        -- Asked of the table: to_regclass would repeat what it found before a wait.
        select count(*) filter (where is_attached),
               min(part_hours) filter (where is_attached),
               min(name) filter (where not is_attached)
        into parts, hours, detached
        from (
            select child.relname::text as name,
                   inhrelid is not null and not inhdetachpending as is_attached,
                   (extract(epoch from bounds[2]::timestamptz - bounds[1]::timestamptz) / 3600)::integer
                       as part_hours
            from pg_class child
            left join pg_inherits on inhrelid = child.oid
            cross join lateral regexp_match(
                pg_get_expr(child.relpartbound, child.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)'
            ) as bounds
            where child.relnamespace = (
                    select relnamespace from pg_class where oid = 'game_events'::regclass
                )
              and child.relname between stem and stem || '_99' and child.relkind = 'r'
        ) as found;
        if detached is not null then
            raise exception 'partition % is detached: attach it again, or rename it', detached
                using errcode = 'object_not_in_prerequisite_state';
        end if;
        if parts * hours = 24 then
            day := day + 1;
            continue;
        end if;
        -- Nearly every call finds all days in place: it neither takes the lock nor waits for it.
        if not is_alone then
            perform pg_advisory_xact_lock(4815162343);
            is_alone := true;
            continue;
        end if;
        if hours is null then
            select case when total > {MOST_ROWS} then 1 when total > {MANY_ROWS} then 6 end into hours
            from (
                select sum(greatest(reltuples, 0)) as total
                from pg_inherits join pg_class child on child.oid = inhrelid
                where inhparent = 'game_events'::regclass
                  and child.relname < 'game_events_' || to_char(now() at time zone 'UTC', 'YYYYMMDD')
                group by left(child.relname::text, length(stem))
                having max(reltuples) >= 0
                order by left(child.relname::text, length(stem)) desc limit 1
            ) as last_counted;
            hours := coalesce(hours, 24);
        end if;
        for hour in 0 .. 24 - hours by hours loop
            part := stem || case when hours < 24 then to_char(hour, 'FM"_"00') else '' end;
            if not exists (
                select from pg_class child
                join pg_class parent using (relnamespace)
                where parent.oid = 'game_events'::regclass and child.relname = part
            ) then
                begins := (day + make_interval(hours => hour)) at time zone 'UTC';
                execute format('create table %I (like game_events including all)', part);
                execute format(
                    'alter table game_events attach partition %I for values from (%L) to (%L)',
                    part, begins, begins + make_interval(hours => hours)
                );
{mark}                made := made + 1;
            end if;
        end loop;
        day := day + 1;
    end loop;
    return made;
end
$$
"""


def _function(mark: str) -> str:
    return MAKE_PARTITIONS.format(MANY_ROWS=MANY_ROWS, MOST_ROWS=MOST_ROWS, mark=mark)


FUNCTION = "ensure_game_events_partitions(date, date)"
IS_DEFINER = f"select prosecdef from pg_proc where oid = '{FUNCTION}'::regprocedure"  # noqa: S608
MAKE_DEFINER = f"""
do $$
begin
    execute format(
        'alter function {FUNCTION} security definer set search_path = %I, pg_temp', current_schema()
    );
end
$$
"""
# Consumers may call the function before roles.sql is applied.
HAND_OVER = f"""
do $$
begin
    execute format(
        'alter table kept_hours owner to %s',
        (select proowner::regrole from pg_proc where oid = '{FUNCTION}'::regprocedure)
    );
end
$$
"""  # noqa: S608


def _replace(function: str) -> None:
    """In place, for consumers call it meanwhile; and as whose it runs stays as roles.sql has set it."""
    is_definer = op.get_bind().execute(sa.text(IS_DEFINER)).scalar_one()
    op.execute(function)
    if is_definer:
        op.execute(MAKE_DEFINER)


def upgrade() -> None:
    op.create_table(
        "kept_hours",
        sa.Column(
            "hour",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="beginning of a UTC hour whose raw events were dropped after they were rolled up",
        ),
        sa.PrimaryKeyConstraint("hour", name="kept_hours_pkey"),
        comment="hours of which only some raw events may be there again: their rollups are not made anew"
        " from those",
    )
    op.execute(HAND_OVER)
    _replace(_function(MARK_KEPT))


def downgrade() -> None:
    _replace(_function(""))
    op.drop_table("kept_hours")
