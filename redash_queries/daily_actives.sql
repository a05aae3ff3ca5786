-- name: Active players
-- description: How many play on a UTC day, and in the 7 and the 30 days up to it? Today still grows.
-- tags: [players]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
--   side: {title: Side, type: enum, options: [everyone, hero, neutral, villain], default: everyone}
-- visualizations:
--   DAU: {type: counter, value: active_players, target: active_players_week_before, label: last whole day}
--   WAU: {type: counter, value: active_players_7_days, label: last 7 days}
--   MAU: {type: counter, value: active_players_30_days, label: last 30 days}
--   DAU of MAU: {type: counter, value: stickiness_pct, suffix: "%", decimals: 1, label: last whole day}
--   New and returning, players a day:
--     type: column
--     x: day
--     y: {returning_players: returning, new_players: new}
--     stacked: true
--     colors: {returning_players: "#7f7f7f", new_players: "#2ca02c"}
--   In a day, in 7 and in 30 days:
--     type: line
--     x: day
--     y: {active_players_30_days: 30 days, active_players_7_days: 7 days, active_players: a day}
--     from_zero: true
--   Stickiness, DAU in % of MAU: {type: line, x: day, y: {stickiness_pct: "%"}, from_zero: true, legend: false}
-- columns:
--   day: date; the UTC day; the last whole one first, so that counters show it, then the newest
--   active_players: integer; who did anything on it
--   new_players: integer; it was their first day
--   returning_players: integer; the others
--   active_players_7_days: integer; who did anything on it or on the 6 days before
--   active_players_30_days: integer; on it or on the 29 days before
--   stickiness_pct: float; of those of 30 days, how many in 100 did anything on the day; null for today, which is not over, and when there is none
--   active_players_week_before: integer; who did anything 7 days before
with span as (
    select last - cast('{{ days }}' as integer) + 1 as first, last,
           cast(now() at time zone 'UTC' as date) as today
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as known
), sided as (
    -- By the karma of a player's last known day: from Guardian up, from Thug down; where none is known, neutral.
    select player, case when karma >= 15 then 'hero' when karma <= -15 then 'villain' else 'neutral' end as side
    from (
        select player,
               (max(array[day - date '2000-01-01', karma_total]) filter (where karma_total is not null))[2]
                   as karma
        from span join player_days on day <= last
        group by player
    ) as known
), played as (
    select day, first_day, lead(day) over (partition by player_days.player order by day) - day as gap
    from span
    join player_days on day between first - 36 and last
    left join sided
           on '{{ side }}' <> 'everyone' and sided.player = player_days.player and side = '{{ side }}'
    where '{{ side }}' = 'everyone' or sided.player is not null
), counted as (
    select day, least(gap, 30) as gap, count(*) as players,
           count(*) filter (where day = first_day) as new_players
    from played
    group by 1, 2
), steps as (
    -- A day of play counts for the 7 and 30 days from it on, or up to the player's next.
    select day, players as on_day, new_players, players as in_7_days, players as in_30_days from counted
    union all
    select day + least(gap, 7), 0, 0, -players, 0 from counted
    union all
    select day + gap, 0, 0, 0, -players from counted
), summed as (
    select days.day,
           cast(coalesce(sum(on_day), 0) as bigint) as active_players,
           cast(coalesce(sum(new_players), 0) as bigint) as new_players,
           cast(sum(coalesce(sum(in_7_days), 0)) over in_order as bigint) as active_players_7_days,
           cast(sum(coalesce(sum(in_30_days), 0)) over in_order as bigint) as active_players_30_days
    from (
        select cast(day as date) as day
        from span cross join generate_series(cast(first - 36 as timestamp), last, interval '1 day') as day
    ) as days
    left join steps using (day)
    group by days.day
    window in_order as (order by days.day)
)
select summed.day, summed.active_players, summed.new_players,
       summed.active_players - summed.new_players as returning_players,
       summed.active_players_7_days, summed.active_players_30_days,
       case when summed.day < today
           then round(100.0 * summed.active_players / nullif(summed.active_players_30_days, 0), 2)
       end as stickiness_pct,
       before.active_players as active_players_week_before
from span
join summed on summed.day >= first
left join summed as before on before.day = summed.day - 7
order by summed.day < today desc, summed.day desc
