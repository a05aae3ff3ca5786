-- name: Storage
-- description: Is there room for the days to come, and how much is there?
-- tags: [pipeline]
-- refresh: 5m
-- visualizations:
--   Days ahead: {type: counter, value: days_ahead, label: with partitions}
--   Raw events: {type: counter, value: estimated_rows, label: rows (estimate)}
--   Database: {type: counter, value: database_mb, label: MB on the disk}
-- alerts:
--   Fewer than 3 days of partitions ahead: {when: days_ahead < 3, rearm: 1d}
-- columns:
--   days_ahead: integer; UTC days after today with partitions, up to the first without
--   partitions: integer; of raw events, all of them
--   estimated_rows: integer; their rows, as the planner knows them
--   raw_mb: float; their size in millions of bytes, indexes included
--   database_mb: float; of the whole database
--   first_day: date; the first UTC day of which raw events are kept
--   rolled_up_to: datetime; beginning of the last hour that is summed up, in UTC
with days as (
    select to_date(substring(relname from 13 for 8), 'YYYYMMDD') as day, count(*) as partitions,
           sum(greatest(reltuples, 0)) as rows, sum(pg_total_relation_size(oid)) as bytes
    from pg_partition_tree('game_events')
    join pg_class on oid = relid
    where isleaf and relname ~ '^game_events_[0-9]{8}(_[0-9]{2})?$'
    group by 1
), ahead as (
    select count(*) as days_ahead
    from (
        select day - cast(row_number() over (order by day) as integer) as run
        from days
        where day > cast(now() at time zone 'UTC' as date)
    ) as later
    where run = cast(now() at time zone 'UTC' as date)
)
select days_ahead,
       cast(coalesce(sum(partitions), 0) as bigint) as partitions,
       cast(coalesce(sum(rows), 0) as bigint) as estimated_rows,
       cast(coalesce(sum(bytes), 0) / 1e6 as double precision) as raw_mb,
       pg_database_size(current_database()) / 1e6 as database_mb,
       min(day) as first_day,
       (select max(hour) from hourly_totals) at time zone 'UTC' as rolled_up_to
from ahead left join days on true
group by days_ahead
