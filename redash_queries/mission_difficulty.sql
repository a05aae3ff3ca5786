-- name: Difficulty of missions
-- description: >-
--   What does a mission take? Means of the runs completed in these days; a night between two hours of play
--   is not counted in minutes.
-- tags: [progression]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
--   side: {title: Side, type: enum, options: [everyone, hero, neutral, villain], default: everyone}
-- visualizations:
--   Kills in a completed run:
--     type: column
--     x: mission
--     y: {usual_kills: kills, spike_kills: twice the missions around it or more}
--     stacked: true
--     colors: {usual_kills: "#7f7f7f", spike_kills: "#d62728"}
--     format: "0,0.0"
--   Recharges in a completed run:
--     type: column
--     x: mission
--     y: recharges
--     colors: {recharges: "#7f7f7f"}
--     legend: false
--     format: "0,0.0"
--   Minutes played in a completed run:
--     type: column
--     x: mission
--     y: minutes
--     colors: {minutes: "#7f7f7f"}
--     legend: false
--     format: "0,0.0"
--   Difficulty in numbers:
--     type: table
--     columns:
--       mission:
--       runs_completed: Runs completed
--       kills: {title: Kills, format: "0,0.0"}
--       around_kills: {title: Kills around it, format: "0,0.0"}
--       recharges: {title: Recharges, format: "0,0.0"}
--       minutes: {title: Minutes, format: "0,0.0"}
--     rows: 40
-- columns:
--   mission: text; from the most begun to the least, ever
--   runs_completed: integer; completed in these days, whenever they were begun
--   kills: float; enemies killed in such a run, the mean
--   recharges: float; recharges in such a run, the mean
--   around_kills: float; the mean of kills of the two missions before and the two after
--   usual_kills: float; kills, where they are less than twice that
--   spike_kills: float; kills, where they are twice that or more
--   minutes: float; minutes played in such a run, the mean
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
), runs as not materialized (
    select mission_runs.player, mission, playthrough, kills, recharges,
           started_at as begun_at, completed_at as done_at,
           completed_at - started_at > interval '30 minutes' as may_have_breaks
    from span
    join mission_runs on completed_on between first and last
    left join sided
           on '{{ side }}' <> 'everyone' and sided.player = mission_runs.player and sided.side = '{{ side }}'
    where '{{ side }}' = 'everyone' or sided.player is not null
), won as (
    select mission,
           min(begun_at) as begun_at,
           count(*) as runs_completed,
           count(kills) as runs_counted,
           cast(avg(kills) as float) as kills,
           cast(avg(recharges) as float) as recharges,
           sum(date_part('epoch', done_at - begun_at))
               filter (where kills is not null and not may_have_breaks) as seconds
    from runs
    group by mission
), played as (
    -- The longer ones, without what lies between two hours: in each, from the first event to the last.
    select mission, sum(date_part('epoch', least(ended_at, done_at) - started_at)) as seconds
    from runs join mission_parts using (player, mission, playthrough)
    where started_at <= done_at and runs.kills is not null and may_have_breaks
    group by mission
), placed as (
    select won.*,
           (coalesce(won.seconds, 0) + coalesce(played.seconds, 0)) / 60 / nullif(runs_counted, 0) as minutes,
           row_number() over in_order as place,
           avg(kills) over (in_order rows between 2 preceding and 2 following exclude current row)
               as around_kills
    from won join game using (mission) left join played using (mission)
    window in_order as (order by players desc, lateness, begun_at, mission)
)
select mission,
       runs_completed,
       kills,
       recharges,
       around_kills,
       case when kills >= 2 * around_kills then null else kills end as usual_kills,
       case when kills >= 2 * around_kills then kills end as spike_kills,
       minutes
from placed
order by place
limit 100
