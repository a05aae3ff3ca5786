-- name: Totals
-- description: What became of all that came in the window, today included?
-- tags: [pipeline]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "7"}
-- visualizations:
--   Stored: {type: counter, value: stored, label: events}
--   Duplicates: {type: counter, value: duplicates, label: absorbed}
--   Quarantined: {type: counter, value: quarantined, label: refused}
--   Lost: {type: counter, value: lost, label: never stored}
-- columns:
--   stored: integer; events that became rows
--   duplicates: integer; events that were rows already
--   duplicates_pct: float; of all that came, in 100; 0 when nothing came
--   quarantined: integer; what was refused, re-deliveries included
--   quarantined_pct: float; of all that came, in 100; 0 when nothing came
--   forgotten: integer; events of forgotten players, which were dropped
--   lost: integer; entries trimmed from the stream before they were stored
--   claimed: integer; entries that a consumer took over from another
--   groups_made: integer; times the consumer group was gone and was made again
select stored, duplicates,
       coalesce(round(100.0 * duplicates / nullif(came, 0), 3), 0) as duplicates_pct,
       quarantined,
       coalesce(round(100.0 * quarantined / nullif(came, 0), 3), 0) as quarantined_pct,
       forgotten, lost, claimed, groups_made
from (
    select cast(coalesce(sum(stored), 0) as bigint) as stored,
           cast(coalesce(sum(duplicates), 0) as bigint) as duplicates,
           cast(coalesce(sum(quarantined), 0) as bigint) as quarantined,
           cast(coalesce(sum(forgotten), 0) as bigint) as forgotten,
           cast(coalesce(sum(lost), 0) as bigint) as lost,
           cast(coalesce(sum(claimed), 0) as bigint) as claimed,
           cast(coalesce(sum(groups_made), 0) as bigint) as groups_made,
           coalesce(sum(stored + duplicates + quarantined + forgotten), 0) as came
    from pipeline_health
    where minute >= date_bin('1 day', now(), 'epoch')
                    - (cast('{{ days }}' as integer) - 1) * interval '24 hours'
) as summed
