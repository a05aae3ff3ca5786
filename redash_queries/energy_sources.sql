-- name: Energy by district
-- description: >-
--   What do players drain, and where? The 12 districts and the 15 sources with the most recharges of these
--   days.
-- tags: [economy]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
-- visualizations:
--   "Sources, % of the district's recharges":
--     type: heatmap
--     x: district
--     y: source
--     value: district_pct
--     options:
--       colorScheme: Custom...
--       heatMinColor: "#ffffff"
--       heatMaxColor: "#1f77b4"
--       numberFormat: 0%
--       showDataLabels: true
--   Recharges in numbers:
--     type: table
--     columns:
--       district:
--       source:
--       recharges:
--       district_pct: {title: Of the district's, format: 0.0%}
--     rows: 25
-- columns:
--   district: text; from the most recharges to the fewest
--   source: text; what was drained, from the most to the least
--   recharges: integer; how often, 0 included
--   district_pct: float; of 100 recharges in the district
with span as (
    select last - (cast('{{ days }}' as integer) - 1) as first, last
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as chosen
), drained as (
    select coalesce(nullif(district, ''), '(not told)') as district,
           coalesce(nullif(subject, ''), '(not told)') as source,
           sum(events) as recharges
    from span
    join hourly_items
        on hour >= cast(first as timestamp) at time zone 'UTC'
        and hour < cast(last + 1 as timestamp) at time zone 'UTC'
    where action = 'recharge'
    group by 1, 2
), districts as (
    select district, sum(recharges) as total
    from drained group by district order by total desc, district limit 12
), sources as (
    select source, sum(recharges) as total
    from drained group by source order by total desc, source limit 15
)
select district,
       source,
       cast(coalesce(recharges, 0) as bigint) as recharges,
       cast(100 * coalesce(recharges, 0) / districts.total as float) as district_pct
from districts
cross join sources
left join drained using (district, source)
order by districts.total desc, district, sources.total desc, source
