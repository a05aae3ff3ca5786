-- name: Players by rank a day
-- description: >-
--   How is karma spread among the active, day by day? Players by their rank at the end of the day.
-- tags: [karma]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
-- visualizations:
--   "Active players by rank, %":
--     type: column
--     x: day
--     y: players
--     series: rank
--     percent: true
--     colors:
--       Infamous: "#7f0000"
--       Outlaw: "#d62728"
--       Thug: "#f4a582"
--       Neutral: "#bdbdbd"
--       Guardian: "#92c5de"
--       Champion: "#1f77b4"
--       Hero: "#053061"
-- columns:
--   day: date; the UTC day
--   rank: text; from Infamous to Hero
--   players: integer; who were active on it and had that rank after their last event, 0 included
--   players_pct: float; of 100 whose rank is known; null on a day without any
with span as (
    select last - (cast('{{ days }}' as integer) - 1) as first, last
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as chosen
), counted as (
    select day, rank, count(*) as players
    from span join player_days on day between first and last
    group by day, rank
)
select cast(days.day as date) as day,
       ranks.rank,
       coalesce(players, 0) as players,
       cast(100 * coalesce(players, 0) / sum(players) over (partition by days.day) as float) as players_pct
from span
cross join generate_series(cast(first as timestamp), last, interval '1 day') as days (day)
cross join unnest(array['Infamous', 'Outlaw', 'Thug', 'Neutral', 'Guardian', 'Champion', 'Hero'])
    with ordinality as ranks (rank, place)
left join counted on counted.day = cast(days.day as date) and counted.rank = ranks.rank
order by days.day, place
