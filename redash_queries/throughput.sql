-- name: Throughput
-- description: How much does each consumer store? The 7 that store the most have their names.
-- tags: [pipeline]
-- refresh: 5m
-- visualizations:
--   "Events a minute, last 3 hours (UTC)": {type: area, x: minute, y: stored, series: consumer, stacked: true}
-- columns:
--   minute: datetime; its beginning, in UTC, by the consumer's clock
--   consumer: text; its name, or (others)
--   stored: integer; events that became rows
with span as (
    select date_bin('1 minute', now(), 'epoch') as until
), lately as (
    select minute, process, stored
    from span join pipeline_health on minute >= until - interval '180 minutes' and minute < until
), named as (
    select process from lately group by process order by sum(stored) desc, process limit 7
), counted as (
    select minute, coalesce(named.process, '(others)') as consumer, sum(stored) as stored
    from lately left join named using (process)
    group by 1, 2
)
select minute at time zone 'UTC' as minute, consumer, cast(coalesce(stored, 0) as bigint) as stored
from (
    select until - number * interval '1 minute' as minute
    from span cross join generate_series(1, 180) as number
) as minutes
cross join (select distinct consumer from counted) as consumers
left join counted using (minute, consumer)
order by minute, consumer
