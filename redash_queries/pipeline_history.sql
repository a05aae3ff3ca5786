-- name: History
-- description: What became of all that came, and how fast? By hour up to 14 days, else by day; ages are of the worst minute.
-- tags: [pipeline]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "7"}
-- visualizations:
--   Events stored a minute:
--     type: line
--     x: begins_at
--     y: {stored_busiest_minute: busiest minute, stored_per_minute: mean}
--     from_zero: true
--   Age p95 in the worst minute, seconds:
--     type: line
--     x: begins_at
--     y: {age_p95_s: 95 in 100 are younger}
--     from_zero: true
--     legend: false
--   Duplicates absorbed:
--     type: column
--     x: begins_at
--     y: {duplicates: events that were rows already}
--     legend: false
--     colors: {duplicates: "#7f7f7f"}
--   Quarantined, lost and forgotten:
--     type: column
--     x: begins_at
--     y: {quarantined: quarantined, lost: lost, forgotten: of forgotten players}
--     stacked: true
--     colors: {quarantined: "#ff7f0e", lost: "#d62728", forgotten: "#7f7f7f"}
-- columns:
--   begins_at: datetime; beginning of the hour or the day, in UTC
--   stored: integer; events that became rows
--   stored_per_minute: float; the same by the minute, of the minutes that are over
--   stored_busiest_minute: integer; in its busiest minute, by all consumers
--   duplicates: integer; events that were rows already
--   quarantined: integer; what was refused, re-deliveries included
--   forgotten: integer; events of forgotten players, which were dropped
--   lost: integer; entries trimmed from the stream before they were stored
--   age_p50_s: float; median seconds from the stream to the commit, of the worst minute; null when nothing was stored
--   age_p95_s: float; 95th percentile of the same, of the worst minute
--   age_p99_s: float; 99th percentile
--   waited_s: float; seconds that consumers spent waiting for servers that were away
with span as (
    select date_bin('1 day', now(), 'epoch') - (cast('{{ days }}' as integer) - 1) * interval '24 hours' as first,
           case when cast('{{ days }}' as integer) <= 14 then interval '1 hour' else interval '24 hours' end as step
), minutes as (
    select minute, sum(stored) as stored, sum(duplicates) as duplicates, sum(quarantined) as quarantined,
           sum(forgotten) as forgotten, sum(lost) as lost, max(age_p50_s) as age_p50_s,
           max(age_p95_s) as age_p95_s, max(age_p99_s) as age_p99_s,
           sum(waited_redis_s + waited_postgres_s) as waited_s
    from span join pipeline_health on minute >= first
    group by minute
), counted as (
    select date_bin(step, minute, 'epoch') as begins_at, cast(sum(stored) as bigint) as stored,
           cast(max(stored) as bigint) as busiest, cast(sum(duplicates) as bigint) as duplicates,
           cast(sum(quarantined) as bigint) as quarantined, cast(sum(forgotten) as bigint) as forgotten,
           cast(sum(lost) as bigint) as lost, max(age_p50_s) as age_p50_s, max(age_p95_s) as age_p95_s,
           max(age_p99_s) as age_p99_s, sum(waited_s) as waited_s
    from span cross join minutes
    group by 1
)
select begins_at at time zone 'UTC' as begins_at,
       coalesce(stored, 0) as stored,
       -- What has just begun counts as a minute.
       coalesce(stored, 0) / greatest(extract(epoch from least(step, now() - begins_at)) / 60, 1)
           as stored_per_minute,
       coalesce(busiest, 0) as stored_busiest_minute,
       coalesce(duplicates, 0) as duplicates,
       coalesce(quarantined, 0) as quarantined,
       coalesce(forgotten, 0) as forgotten,
       coalesce(lost, 0) as lost,
       age_p50_s, age_p95_s, age_p99_s,
       coalesce(waited_s, 0) as waited_s
from span
cross join generate_series(first, now(), step) as begins_at
left join counted using (begins_at)
order by begins_at
