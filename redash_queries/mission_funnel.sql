-- name: Mission funnel
-- description: >-
--   How many players and runs began and completed each mission, of those begun in these days?
-- tags: [progression]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
--   side: {title: Side, type: enum, options: [everyone, hero, neutral, villain], default: everyone}
-- visualizations:
--   Players who began and completed it:
--     type: column
--     x: mission
--     y: {players_started: began, players_completed: completed}
--     colors: {players_started: "#7f7f7f", players_completed: "#1f77b4"}
--   Completed, % of runs begun:
--     type: column
--     x: mission
--     y: completed_pct
--     colors: {completed_pct: "#1f77b4"}
--     legend: false
--     format: 0.0%
--   Missions in numbers:
--     type: table
--     columns:
--       mission:
--       players_started: Players began
--       players_completed: Players completed
--       runs_started: Runs begun
--       runs_completed: Runs completed
--       completed_pct: {title: "Runs completed, %", format: 0.0%}
--     rows: 40
-- columns:
--   mission: text; from the most begun to the least, ever; in a game with an order, that is the order
--   players_started: integer; first playthroughs begun in these days
--   players_completed: integer; of those, completed
--   runs_started: integer; playthroughs begun, however many by one player
--   runs_completed: integer; of those, completed
--   completed_pct: float; runs_completed of 100 runs_started
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
), counted as (
    select mission,
           min(started_at) as begun_at,
           count(*) filter (where playthrough = '1') as players_started,
           count(*) filter (where playthrough = '1' and completed_on <= last) as players_completed,
           count(*) as runs_started,
           count(*) filter (where completed_on <= last) as runs_completed
    from span
    join mission_runs on started_on between first and last
    left join sided
           on '{{ side }}' <> 'everyone' and sided.player = mission_runs.player and sided.side = '{{ side }}'
    where '{{ side }}' = 'everyone' or sided.player is not null
    group by mission
)
select mission,
       players_started,
       players_completed,
       runs_started,
       runs_completed,
       cast(100.0 * runs_completed / runs_started as float) as completed_pct
from counted join game using (mission)
order by players desc, lateness, begun_at, mission
limit 100
