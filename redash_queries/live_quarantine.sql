-- name: Quarantine
-- description: How much of what came in the last hour is no event?
-- tags: [live]
-- refresh: 1m
-- visualizations:
--   Rate: {type: counter, value: quarantined_pct, suffix: "%", decimals: 2, label: last hour}
-- alerts:
--   More than 1 % is quarantined: {when: quarantined_pct > 1, rearm: 1h}
-- columns:
--   events: integer; what was dealt with, whatever became of it
--   quarantined: integer; what was refused of it, re-deliveries included
--   quarantined_pct: float; the same in 100; 0 when nothing came
--   lost: integer; entries trimmed from the stream before they were stored
select events, quarantined,
       coalesce(round(100.0 * quarantined / nullif(events, 0), 3), 0) as quarantined_pct,
       lost
from (
    select cast(coalesce(sum(stored + duplicates + quarantined + forgotten), 0) as bigint) as events,
           cast(coalesce(sum(quarantined), 0) as bigint) as quarantined,
           cast(coalesce(sum(lost), 0) as bigint) as lost
    from pipeline_health
    where minute > now() - interval '60 minutes'
) as last_hour
