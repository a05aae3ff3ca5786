-- Who may do what. Applied afresh whenever a migration has brought the database to the newest revision.
--
-- infamous_owner     owns every table; nobody logs in as it
-- infamous_migrator  changes the schema, as the owner; also what a person at the command line is
-- infamous_writer    a consumer: it adds events, and can read none
-- infamous_jobs      what runs now and then: rollups, release, audit
-- infamous_bi        dashboards and notebooks: reads, and nothing else
--
-- Made without a password where they are missing: whoever runs the servers gives those who log in one.

-- Not while a partition is made: both change what is known of game_events, and one of them would fail. The key
-- is that of ensure_game_events_partitions.
select pg_advisory_xact_lock(4815162343);

do $$
declare
    role_name text;
begin
    foreach role_name in array array[
        'infamous_owner', 'infamous_migrator', 'infamous_writer', 'infamous_jobs', 'infamous_bi'
    ] loop
        if not exists (select from pg_roles where rolname = role_name) then
            execute format('create role %I nologin', role_name);
        end if;
    end loop;
    if not pg_has_role('infamous_migrator', 'infamous_owner', 'member') then
        grant infamous_owner to infamous_migrator;
    end if;
    -- What it makes is the owner's.
    alter role infamous_migrator set role = 'infamous_owner';
end
$$;

-- The owner: what was made by another is handed over, once.
do $$
declare
    found record;
begin
    for found in
        select format('alter table %s owner to infamous_owner', class.oid::regclass) as command
        from pg_class class
        where class.relnamespace = current_schema()::regnamespace
          and (class.relname = 'game_events' or class.relname like 'game\_events\_%'
               or class.relname in (
                   'quarantined_events', 'pipeline_health', 'hourly_rollups', 'hourly_totals',
                   'player_days', 'daily_cohorts', 'mission_runs', 'daily_missions', 'touched_hours',
                   'session_parts', 'daily_rollups', 'daily_sessions', 'rollup_checks', 'forgotten_players',
                   'imports', 'mission_parts', 'kept_hours', 'moral_choices', 'hourly_items',
                   'alembic_version'))
          and class.relkind in ('r', 'p')
          and class.relowner <> 'infamous_owner'::regrole
        union all
        select format('alter function %s owner to infamous_owner', routine.oid::regprocedure)
        from pg_proc routine
        where routine.pronamespace = current_schema()::regnamespace
          and routine.proname = 'ensure_game_events_partitions'
          and routine.proowner <> 'infamous_owner'::regrole
    loop
        execute found.command;
    end loop;
    execute format('grant usage, create on schema %I to infamous_owner', current_schema());
    -- Before Postgres 15, whoever logs in may make tables in it.
    execute format('revoke create on schema %I from public', current_schema());
    execute format(
        'grant usage on schema %I to infamous_writer, infamous_jobs, infamous_bi', current_schema()
    );
end
$$;

-- Partitions are made by whoever stores the first event of a day, as the owner.
do $$
begin
    execute format(
        'alter function ensure_game_events_partitions(date, date) security definer'
        ' set search_path = %I, pg_temp', current_schema()
    );
    revoke all on function ensure_game_events_partitions(date, date) from public;
    grant execute on function ensure_game_events_partitions(date, date)
        to infamous_writer, infamous_jobs;
    -- A temporary table is how a batch with duplicates is stored; a dashboard has no use for one.
    execute format('revoke temporary on database %I from public', current_database());
    execute format('grant temporary on database %I to infamous_writer', current_database());
    -- A shadow of the table is built in a schema of its own, through the same door as all else.
    execute format('grant create, temporary on database %I to infamous_owner', current_database());
end
$$;

grant insert on game_events to infamous_writer;
grant insert on quarantined_events to infamous_writer;
-- What an upsert looks at and writes over; never the bytes.
grant select (sha256, times_seen, reason, detail, entry_id, released_at, fixed_at),
      update (times_seen, last_seen_at, reason, detail, entry_id, released_at)
    on quarantined_events to infamous_writer;
grant select, insert, update on pipeline_health to infamous_writer;
grant insert on touched_hours to infamous_writer;
grant select (number, player_sha256) on forgotten_players to infamous_writer;

grant select on game_events, pipeline_health, kept_hours, alembic_version to infamous_jobs;
grant select, update (released_at, attempts, fixed_at) on quarantined_events to infamous_jobs;
grant select, insert, update, delete
    on hourly_rollups, hourly_totals, player_days, daily_cohorts, mission_runs, daily_missions,
       touched_hours, session_parts, daily_rollups, daily_sessions, mission_parts, moral_choices,
       hourly_items
    to infamous_jobs;
grant select, insert, update on imports to infamous_jobs;
grant select, insert, delete on rollup_checks to infamous_jobs;
-- Only what is older than the raw events; of the rest, consumers keep the account.
grant delete on pipeline_health to infamous_jobs;
grant select (number, player_sha256) on forgotten_players to infamous_jobs;

grant select
    on game_events, pipeline_health, hourly_rollups, hourly_totals, player_days, daily_cohorts,
       mission_runs, daily_missions, session_parts, daily_rollups, daily_sessions, rollup_checks, imports,
       mission_parts, kept_hours, moral_choices, hourly_items
    to infamous_bi;
-- Counts by reason, and when; what a sender wrote may be anything, and stays out of dashboards.
grant select (sha256, size_bytes, reason, times_seen, first_seen_at, last_seen_at, released_at, entry_id,
              attempts, fixed_at)
    on quarantined_events to infamous_bi;

-- Who may end a session is whoever belongs to its role; a dashboard's question can go on too long.
do $$
begin
    if not pg_has_role('infamous_jobs', 'infamous_bi', 'member') then
        grant infamous_bi to infamous_jobs;
    end if;
end
$$;

-- Settings of a role are a courtesy, not a guard: the grants above are the guard.
alter role infamous_bi connection limit 20;
-- Together they leave some of a hundred connections to whoever looks after the server.
alter role infamous_writer connection limit 60;
alter role infamous_jobs connection limit 12;
alter role infamous_bi set default_transaction_read_only = on;
alter role infamous_bi set statement_timeout = '60s';

-- Everybody may make large objects, and hold locks that migrations, rollups and new partitions wait for, unless told
-- otherwise; only a superuser can tell.
do $$
declare
    locking regprocedure;
begin
    if (select rolsuper from pg_roles where rolname = current_user) then
        for locking in
            select oid from pg_proc
            where pronamespace = 'pg_catalog'::regnamespace and proname ~ '^pg_(try_)?advisory_(xact_)?lock'
        loop
            execute format('revoke execute on function %s from public', locking);
            execute format(
                'grant execute on function %s to infamous_owner, infamous_migrator, infamous_jobs', locking
            );
        end loop;
        revoke execute on function
            lo_create(oid), lo_creat(integer), lo_from_bytea(oid, bytea), lo_put(oid, bigint, bytea),
            lowrite(integer, bytea), lo_open(oid, integer), lo_import(text), lo_import(text, oid),
            lo_unlink(oid), lo_truncate(integer, integer), lo_truncate64(integer, bigint)
        from public;
    end if;
end
$$;
