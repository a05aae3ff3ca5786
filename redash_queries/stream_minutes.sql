-- name: Age and backlog
-- description: How old are events when they are stored, and how many wait? Of several consumers, the slowest counts.
-- tags: [pipeline]
-- refresh: 5m
-- visualizations:
--   "Seconds to the commit, last 3 hours (UTC)":
--     type: line
--     x: minute
--     y: {age_p50_s: half are younger, age_p95_s: 95 in 100 are, age_p99_s: 99 in 100 are}
--     from_zero: true
--   "Entries waiting, last 3 hours (UTC)": {type: area, x: minute, y: waiting_entries, from_zero: true, legend: false}
-- columns:
--   minute: datetime; its beginning, in UTC, by the consumer's clock
--   age_p50_s: float; median of the slowest consumer; null when nothing was stored, as the next two are
--   age_p95_s: float; 95th percentile
--   age_p99_s: float; 99th percentile
--   waiting_entries: integer; the most that were seen to wait; null when nobody looked
with span as (
    select date_bin('1 minute', now(), 'epoch') as until
)
select minutes.minute at time zone 'UTC' as minute,
       max(age_p50_s) as age_p50_s,
       max(age_p95_s) as age_p95_s,
       max(age_p99_s) as age_p99_s,
       max(undelivered + pending) as waiting_entries
from (
    select until - number * interval '1 minute' as minute
    from span cross join generate_series(1, 180) as number
) as minutes
left join pipeline_health using (minute)
group by minutes.minute
order by minutes.minute
