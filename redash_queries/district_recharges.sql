-- name: Recharges by district
-- description: >-
--   Where does a fight take the most energy? Recharges beside enemies killed in these days.
-- tags: [economy]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
-- visualizations:
--   Recharges per 100 kills:
--     type: column
--     x: district
--     y: recharges_per_100_kills
--     colors: {recharges_per_100_kills: "#1f77b4"}
--     legend: false
--     format: "0,0.0"
-- columns:
--   district: text; from the most events to the fewest
--   kills: integer; enemies killed there
--   recharges: integer; recharges there
--   recharges_per_100_kills: float; null where nobody was killed
with span as (
    select last - (cast('{{ days }}' as integer) - 1) as first, last
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as chosen
)
select coalesce(nullif(district, ''), '(not told)') as district,
       cast(coalesce(sum(events) filter (where action = 'kill_enemy'), 0) as bigint) as kills,
       cast(coalesce(sum(events) filter (where action = 'recharge'), 0) as bigint) as recharges,
       cast(100 * coalesce(sum(events) filter (where action = 'recharge'), 0)
            / sum(events) filter (where action = 'kill_enemy') as float) as recharges_per_100_kills
from span
join hourly_items
    on hour >= cast(first as timestamp) at time zone 'UTC'
    and hour < cast(last + 1 as timestamp) at time zone 'UTC'
where action in ('kill_enemy', 'recharge')
group by 1
order by sum(events) desc, 1
limit 30
