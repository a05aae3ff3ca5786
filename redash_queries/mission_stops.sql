-- name: Where players stop
-- description: >-
--   In which mission do players leave? Of those who began it up to a week ago: it is their last, not
--   completed, and they were not seen for 7 days.
-- tags: [progression]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
--   side: {title: Side, type: enum, options: [everyone, hero, neutral, villain], default: everyone}
-- visualizations:
--   "Left in the mission, % of who began it":
--     type: column
--     x: mission
--     y: stopped_pct
--     colors: {stopped_pct: "#d62728"}
--     legend: false
--     format: 0.0%
--   Stops in numbers:
--     type: table
--     columns:
--       mission:
--       players_started: Players began
--       players_stopped: Left in it
--       stopped_pct: {title: Left in it, format: 0.0%}
--       stops_pct: {title: Of all who left in one, format: 0.0%}
--     rows: 40
-- columns:
--   mission: text; from the most begun to the least, ever
--   players_started: integer; who began a run of it in these days, which end a week early
--   players_stopped: integer; of those, who left in it
--   stopped_pct: float; players_stopped of 100 players_started
--   stops_pct: float; players_stopped of 100 who left in any mission
with span as (
    -- As many days as asked, which end a week early: so long must somebody have been away.
    select last - 6 - cast('{{ days }}' as integer) as first, last - 7 as gone, last
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
), gone_players as (
    select player from span join player_days on day <= last group by player having max(day) <= min(gone)
), begun as (
    select mission, run.player, min(started_at) as begun_at
    from span
    join mission_runs run on started_on between first and gone
    left join sided
           on '{{ side }}' <> 'everyone' and sided.player = run.player and sided.side = '{{ side }}'
    where '{{ side }}' = 'everyone' or sided.player is not null
    group by mission, run.player
), stopped as (
    -- The last runs of those who left, where they are not completed.
    select mission, run.player
    from span
    join mission_runs run on started_on between first and gone
    join gone_players using (player)
    where not coalesce(completed_on <= last, false)
      and not exists (
          select from mission_runs later
          where later.player = run.player and later.started_on <= last
            and (later.started_at, later.mission, later.playthrough)
                > (run.started_at, run.mission, run.playthrough)
      )
), counted as (
    select mission, min(begun_at) as begun_at, count(*) as players_started,
           count(stopped.player) as players_stopped
    from begun left join stopped using (mission, player)
    group by mission
)
select mission,
       players_started,
       players_stopped,
       cast(100.0 * players_stopped / players_started as float) as stopped_pct,
       cast(100.0 * players_stopped / nullif(sum(players_stopped) over (), 0) as float) as stops_pct
from counted join game using (mission)
order by players desc, lateness, begun_at, mission
limit 100
