-- name: Partitions
-- description: How large is what is kept, and which days are ready ahead? Rows are the planner's estimate.
-- tags: [pipeline]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "7"}
-- visualizations:
--   Raw events of a day, MB: {type: column, x: day, y: {size_mb: MB}, legend: false}
--   By day:
--     type: table
--     columns:
--       day: Day (UTC)
--       partitions: Partitions
--       estimated_rows: Rows (estimate)
--       size_mb: {title: MB, format: "0,0.0"}
--     rows: 9
-- columns:
--   day: date; the UTC day
--   partitions: integer; how many it has; 0 when its raw events are gone, or were never there
--   estimated_rows: integer; as the planner knows them
--   size_mb: float; millions of bytes on the disk, indexes included
with span as (
    select cast(now() at time zone 'UTC' as date) as today
), counted as (
    select to_date(substring(relname from 13 for 8), 'YYYYMMDD') as day, count(*) as partitions,
           cast(sum(greatest(reltuples, 0)) as bigint) as estimated_rows,
           sum(pg_total_relation_size(oid)) as bytes
    from pg_partition_tree('game_events')
    join pg_class on oid = relid
    where isleaf and relname ~ '^game_events_[0-9]{8}(_[0-9]{2})?$'
      and to_date(substring(relname from 13 for 8), 'YYYYMMDD')
          > (select today - cast('{{ days }}' as integer) from span)
    group by 1
)
select day,
       coalesce(partitions, 0) as partitions,
       coalesce(estimated_rows, 0) as estimated_rows,
       cast(coalesce(bytes, 0) / 1e6 as double precision) as size_mb
from (
    select cast(day as date) as day
    from span
    cross join generate_series(
        cast(today - cast('{{ days }}' as integer) + 1 as timestamp),
        greatest(today, (select max(day) from counted)),
        interval '1 day'
    ) as day
) as days
left join counted using (day)
order by day desc
