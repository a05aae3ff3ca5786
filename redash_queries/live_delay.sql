-- name: Delay
-- description: How far behind are the data? All that came before is stored or quarantined.
-- tags: [live]
-- refresh: 1m
-- visualizations:
--   Seconds behind: {type: counter, value: delay_seconds, label: seconds, decimals: 1}
--   Pipeline now:
--     type: table
--     columns:
--       complete_to: {title: Data complete to (UTC), format: "YYYY-MM-DD HH:mm:ss"}
--       delay_seconds: {title: Seconds behind, format: "0,0.0"}
--       waiting_entries: Entries waiting
--       oldest_waiting_seconds: {title: Oldest waits for s, format: "0,0.0"}
--       consumers: Consumers at work
--       flooded_consumers: Flooded by bad entries
-- alerts:
--   Data are late: {when: delay_seconds > 300, rearm: 1h}
-- columns:
--   complete_to: datetime; what was added to the stream before is stored or quarantined; UTC; null before any consumer ran
--   delay_seconds: float; since then; grows when no consumer is at work
--   waiting_entries: integer; on the stream and not acknowledged, as last seen
--   oldest_waiting_seconds: float; since the oldest of those was added; null when nothing waited
--   seen_at: datetime; when the stream was looked at last, in UTC
--   consumers: integer; who wrote what they did within the last minute
--   flooded_consumers: integer; of those, how many are flooded by bad entries
with newest as (
    select complete_to, undelivered + pending as waiting, oldest_waiting_at, seen_at
    from pipeline_health
    where seen_at is not null
    order by minute desc, seen_at desc
    limit 1
), at_work as (
    select count(distinct process) as consumers,
           count(distinct process) filter (where is_flooded) as flooded_consumers
    from pipeline_health
    where minute > now() - interval '10 minutes' and updated_at > now() - interval '1 minute'
)
select complete_to at time zone 'UTC' as complete_to,
       -- The stream's clock and this one may differ a little.
       case when complete_to is not null
           then greatest(cast(extract(epoch from now() - complete_to) as double precision), 0)
       end as delay_seconds,
       waiting as waiting_entries,
       case when oldest_waiting_at is not null
           then greatest(cast(extract(epoch from now() - oldest_waiting_at) as double precision), 0)
       end as oldest_waiting_seconds,
       seen_at at time zone 'UTC' as seen_at,
       consumers,
       flooded_consumers
from at_work left join newest on true
