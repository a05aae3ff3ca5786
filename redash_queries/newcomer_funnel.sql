-- name: Newcomers' funnel
-- description: >-
--   How far do the players come who came in these days? Those who began and completed each mission up to the
--   last day.
-- tags: [progression]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
--   side: {title: Side, type: enum, options: [everyone, hero, neutral, villain], default: everyone}
-- visualizations:
--   Newcomers by mission:
--     type: column
--     x: mission
--     y: {players_started: began it, players_completed: completed it}
--     colors: {players_started: "#7f7f7f", players_completed: "#1f77b4"}
--     format: "0,0"
-- columns:
--   mission: text; from the most begun to the least, ever; in a game with an order, that is the order
--   players_started: integer; players whose first day is one of these, and who began it
--   players_completed: integer; of those, who completed it
--   started_pct: float; players_started of 100 players whose first day is one of these
--   completed_pct: float; players_completed of 100 players_started
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
), newcomers as (
    select player_days.player
    from span
    join player_days on day between first and last and day = first_day
    left join sided
           on '{{ side }}' <> 'everyone' and sided.player = player_days.player and sided.side = '{{ side }}'
    where '{{ side }}' = 'everyone' or sided.player is not null
), counted as (
    select mission,
           min(started_at) as begun_at,
           count(*) as players_started,
           count(*) filter (where completed_on <= last) as players_completed
    from span
    join mission_runs on started_on between first and last
    join newcomers using (player)
    where playthrough = '1'
    group by mission
)
select mission,
       players_started,
       players_completed,
       cast(100.0 * players_started / (select count(*) from newcomers) as float) as started_pct,
       cast(100.0 * players_completed / players_started as float) as completed_pct
from counted join game using (mission)
order by players desc, lateness, begun_at, mission
limit 100
