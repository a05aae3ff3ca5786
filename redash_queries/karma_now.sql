-- name: Karma of players
-- description: >-
--   How good or evil are players? Those active in these days, by their last karma.
-- tags: [karma]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
-- visualizations:
--   "Players by karma, steps of 10":
--     type: column
--     x: karma_from
--     y: players
--     series: rank
--     stacked: true
--     colors:
--       Infamous: "#7f0000"
--       Outlaw: "#d62728"
--       Thug: "#f4a582"
--       Neutral: "#bdbdbd"
--       Guardian: "#92c5de"
--       Champion: "#1f77b4"
--       Hero: "#053061"
--     format: "0,0"
-- columns:
--   karma_from: integer; the least karma of the step; that of the last one goes to 100
--   rank: text; the name of that karma
--   players: integer; how many have it
with span as (
    select last - (cast('{{ days }}' as integer) - 1) as first, last
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as chosen
), known as (
    select distinct on (player) player, karma_total, rank
    from span join player_days on day between first and last
    where rank is not null
    order by player, day desc
)
select cast(least(floor(karma_total / 10.0) * 10, 90) as integer) as karma_from,
       rank,
       count(*) as players
from known
group by 1, 2
order by 1, min(karma_total)
