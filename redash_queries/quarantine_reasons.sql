-- name: Quarantine by reason
-- description: Why is anything refused, and is it dealt with? What was refused in the window, and what is kept of it, whenever it came.
-- tags: [pipeline]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "7"}
-- visualizations:
--   Refused, waiting, sent again:
--     type: table
--     columns:
--       reason: Reason
--       refused: Refused in the window
--       waiting: Waiting now
--       released: Sent again
--       last_seen_at: Last seen (UTC)
--     rows: 15
-- columns:
--   reason: text; code of the first rule that was broken
--   refused: integer; in the window, re-deliveries included
--   waiting: integer; different ones in the quarantine that wait to be looked at
--   released: integer; those that were sent again
--   last_seen_at: datetime; when one came last, in UTC; null when none is kept
with refused as (
    select key as reason, sum(cast(value as bigint)) as refused
    from pipeline_health cross join jsonb_each_text(quarantined_by_reason)
    where minute >= date_bin('1 day', now(), 'epoch')
                    - (cast('{{ days }}' as integer) - 1) * interval '24 hours'
      and quarantined > 0
    group by key
), kept as (
    select reason,
           count(*) filter (where released_at is null) as waiting,
           count(released_at) as released,
           max(last_seen_at) as last_seen_at
    from quarantined_events
    group by reason
)
select reason,
       cast(coalesce(refused, 0) as bigint) as refused,
       coalesce(waiting, 0) as waiting,
       coalesce(released, 0) as released,
       last_seen_at at time zone 'UTC' as last_seen_at
from refused full join kept using (reason)
order by 2 desc, 3 desc, reason
