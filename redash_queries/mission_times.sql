-- name: Time to each mission
-- description: >-
--   How long after their first mission do players come to each one? The median hours of those who began it
--   in these days, playing or not.
-- tags: [progression]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
--   side: {title: Side, type: enum, options: [everyone, hero, neutral, villain], default: everyone}
-- visualizations:
--   Median hours to each mission:
--     type: line
--     x: mission
--     y: {hours_to_begin_p50: until begun, hours_to_complete_p50: until completed}
--     colors: {hours_to_begin_p50: "#7f7f7f", hours_to_complete_p50: "#1f77b4"}
--     format: "0,0.0"
-- columns:
--   mission: text; from the most begun to the least, ever
--   players_started: integer; who began it in these days for the first time
--   players_completed: integer; of those, who completed it up to the last day
--   hours_to_begin_p50: float; median hours from the beginning of the player's first mission to this one's
--   hours_to_complete_p50: float; the same to its completion, of those who completed it
with span as (
    select last - (cast('{{ days }}' as integer) - 1) as first, last
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as chosen
), sided as (
    -- The rank of a player's last known day; one whose karma nobody knows is neutral.
    select distinct on (player) player,
           case when rank in ('Guardian', 'Champion', 'Hero') then 'hero'
                when rank in ('Thug', 'Outlaw', 'Infamous') then 'villain'
                else 'neutral' end as side
    from span join player_days on day <= last
    order by player, rank is null, day desc
), game as (
    -- Its order: the later a mission, the fewer have begun it, or on later days.
    select mission, sum(players_started) as players, sum(players_started * (day - last)) as lateness
    from span join daily_missions on day <= last
    group by mission
), firsts as (
    select player, min(started_at) as came_at from mission_runs group by player
), reached as (
    select mission, started_at,
           date_part('epoch', started_at - came_at) / 3600 as hours_to_begin,
           case when completed_on <= last then date_part('epoch', completed_at - came_at) / 3600 end
               as hours_to_complete
    from span
    join mission_runs on started_on between first and last
    join firsts on firsts.player = mission_runs.player
    left join sided
           on '{{ side }}' <> 'everyone' and sided.player = mission_runs.player and sided.side = '{{ side }}'
    where playthrough = '1' and ('{{ side }}' = 'everyone' or sided.player is not null)
), counted as (
    select mission,
           min(started_at) as begun_at,
           count(*) as players_started,
           count(hours_to_complete) as players_completed,
           percentile_cont(0.5) within group (order by hours_to_begin) as hours_to_begin_p50,
           percentile_cont(0.5) within group (order by hours_to_complete) as hours_to_complete_p50
    from reached
    group by mission
)
select mission,
       players_started,
       players_completed,
       hours_to_begin_p50,
       hours_to_complete_p50
from counted join game using (mission)
order by players desc, lateness, begun_at, mission
limit 100
