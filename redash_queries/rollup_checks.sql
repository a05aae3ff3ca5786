-- name: Rollup checks
-- description: Are the rollups what a recount of the raw events gives?
-- tags: [pipeline]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "7"}
-- visualizations:
--   Wrong hours: {type: counter, value: wrong, label: last check}
--   Checks, newest first:
--     type: table
--     columns:
--       checked_at: Checked at (UTC)
--       hours: Hours compared
--       wrong: Wrong
--       first_hour: From (UTC)
--       last_hour: To (UTC)
--     rows: 7
-- alerts:
--   Rollups were wrong: {when: wrong > 0, rearm: 1d}
-- columns:
--   checked_at: datetime; when, in UTC
--   hours: integer; how many were compared
--   wrong: integer; of how many a rollup was not what a recount gives; those were made anew
--   first_hour: datetime; the first that was compared, in UTC
--   last_hour: datetime; the last, in UTC
select checked_at at time zone 'UTC' as checked_at, hours, wrong,
       first_hour at time zone 'UTC' as first_hour, last_hour at time zone 'UTC' as last_hour
from rollup_checks
where checked_at >= date_bin('1 day', now(), 'epoch')
                    - (cast('{{ days }}' as integer) - 1) * interval '24 hours'
order by rollup_checks.checked_at desc
