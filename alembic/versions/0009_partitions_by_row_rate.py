"""Partitions of a day, of six hours or of one hour, as many rows come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Rows of a whole day above which a new day is made in parts. Of an indexed row of 250 bytes, ten to fifty
# million fit into the memory of a usual server, and the part that is written to should.
MANY_ROWS = 40_000_000
MOST_ROWS = 200_000_000

# A new day is cut as the rows of the last day that is over ask for, as the planner counted them; one that was
# never counted says nothing. Whether a day is there is asked of all its parts, whoever made them how long.
# Each is made apart and then attached, which takes no lock that an INSERT or a SELECT waits for; one maker at
# a time. The lock's key is any number, the same for every caller.
BY_ROW_RATE = rf"""
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
                made := made + 1;
            end if;
        end loop;
        day := day + 1;
    end loop;
    return made;
end
$$
"""  # noqa: S608  # the numbers are ours

# As revision 0001 made it.
BY_DAY = """
create or replace function ensure_game_events_partitions(first_day date, last_day date) returns integer
language plpgsql as $$
declare
    day date := first_day;
    partition text;
    made integer := 0;
begin
    while day <= last_day loop
        partition := 'game_events_' || to_char(day, 'YYYYMMDD');
        if to_regclass(partition) is null then
            -- Nearly every call finds all days in place: it neither takes the lock nor waits for it.
            perform pg_advisory_xact_lock(4815162343);
            -- Asked of the table: to_regclass would repeat what it found before the wait.
            if not exists (
                select from pg_class child
                join pg_class parent using (relnamespace)
                where parent.oid = 'game_events'::regclass and child.relname = partition
            ) then
                execute format('create table %I (like game_events including all)', partition);
                execute format(
                    'alter table game_events attach partition %I for values from (%L) to (%L)',
                    partition,
                    day::timestamp at time zone 'UTC',
                    (day + 1)::timestamp at time zone 'UTC'
                );
                made := made + 1;
            end if;
        elsif not (select relispartition from pg_class where oid = to_regclass(partition)) then
            raise exception 'partition % is detached: attach it again, or rename it', partition
                using errcode = 'object_not_in_prerequisite_state';
        end if;
        day := day + 1;
    end loop;
    return made;
end
$$
"""

# The function of the version before would take a day in parts for one that is missing.
JOIN_PARTS = """
do $$
declare
    stem text;
    part regclass;
    begins timestamptz;
begin
    for stem in
        select distinct left(child.relname::text, -3)
        from pg_inherits join pg_class child on child.oid = inhrelid
        where inhparent = 'game_events'::regclass and child.relname ~ '^game_events_[0-9]{8}_[0-9]{2}$'
    loop
        begins := to_date(right(stem, 8), 'YYYYMMDD')::timestamp at time zone 'UTC';
        execute format('create table %I (like game_events including all)', stem);
        for part in
            select inhrelid::regclass from pg_inherits join pg_class child on child.oid = inhrelid
            where inhparent = 'game_events'::regclass and child.relname between stem || '_' and stem || '_99'
        loop
            execute format('alter table game_events detach partition %s', part);
            execute format('insert into %I select * from %s', stem, part);
            execute format('drop table %s', part);
        end loop;
        execute format(
            'alter table game_events attach partition %I for values from (%L) to (%L)',
            stem, begins, begins + interval '24 hours'
        );
    end loop;
end
$$
"""

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


def _replace(function: str) -> None:
    """In place, for consumers call it meanwhile; and as whose it runs stays as roles.sql has set it."""
    is_definer = op.get_bind().execute(sa.text(IS_DEFINER)).scalar_one()
    op.execute(function)
    if is_definer:
        op.execute(MAKE_DEFINER)


def upgrade() -> None:
    _replace(BY_ROW_RATE)


def downgrade() -> None:
    _replace(BY_DAY)
    op.execute(JOIN_PARTS)
