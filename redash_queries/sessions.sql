-- name: Sessions
-- description: How often and how long do people play? A pause of over 30 minutes ends a session; it counts on the day it began. Of everyone, whichever side.
-- tags: [players]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
-- visualizations:
--   Sessions a day and player:
--     type: column
--     x: day
--     y: {sessions: sessions, sessions_per_player: sessions a player}
--     lines: [sessions_per_player]
--     right: [sessions_per_player]
--     options: {yAxis: [{type: linear}, {type: linear, opposite: true, rangeMin: 0}]}
--     colors: {sessions: "#7f7f7f", sessions_per_player: "#ff7f0e"}
--   Length of a session, minutes:
--     type: line
--     x: day
--     y: {minutes_p50: median, minutes_mean: mean, minutes_p90: 9 in 10 are shorter}
--     from_zero: true
-- columns:
--   day: date; the UTC day on which they began
--   sessions: integer; how many
--   players: integer; of how many players
--   sessions_per_player: float; null on a day without any, as the lengths are
--   minutes_mean: float; their length
--   minutes_p50: float; half are shorter
--   minutes_p90: float; nine in ten are shorter
with span as (
    select last - cast('{{ days }}' as integer) + 1 as first, last
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as known
)
select cast(days.day as date) as day,
       coalesce(sessions, 0) as sessions,
       coalesce(players, 0) as players,
       round(cast(sessions as numeric) / nullif(players, 0), 3) as sessions_per_player,
       seconds_sum / 60 / nullif(sessions, 0) as minutes_mean,
       seconds_p50 / 60 as minutes_p50,
       seconds_p90 / 60 as minutes_p90
from span
cross join generate_series(cast(first as timestamp), last, interval '1 day') as days (day)
left join daily_sessions on daily_sessions.day = cast(days.day as date)
order by days.day
