-- name: Karma in numbers
-- description: >-
--   Which side are players on? Those active in these days.
-- tags: [karma]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
-- visualizations:
--   Heroes: {type: counter, value: hero_pct, label: Guardian to Hero, suffix: "%", decimals: 1}
--   Neutral: {type: counter, value: neutral_pct, label: Neutral, suffix: "%", decimals: 1}
--   Villains: {type: counter, value: villain_pct, label: Thug to Infamous, suffix: "%", decimals: 1}
--   Civilians:
--     {type: counter, value: civilians_per_100_kills, label: civilians of 100 killed, decimals: 2}
-- columns:
--   players: integer; active in these days
--   hero_players: integer; of those, Guardians, Champions and Heroes
--   neutral_players: integer; of those, Neutral
--   villain_players: integer; of those, Thugs, Outlaws and Infamous
--   hero_pct: float; hero_players of 100 players
--   neutral_pct: float; neutral_players of 100 players
--   villain_pct: float; villain_players of 100 players
--   karma_mean: float; the mean of their karma
--   civilians_per_100_kills: float; civilians of 100 killed, enemies and civilians
with span as (
    select last - (cast('{{ days }}' as integer) - 1) as first, last
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as chosen
), known as (
    -- The last known day; one whose karma nobody knows is neutral.
    select distinct on (player) player, karma_total, rank
    from span join player_days on day between first and last
    order by player, rank is null, day desc
), counted as (
    select count(*) as players,
           count(*) filter (where rank in ('Guardian', 'Champion', 'Hero')) as hero_players,
           count(*) filter (where rank is null or rank = 'Neutral') as neutral_players,
           count(*) filter (where rank in ('Thug', 'Outlaw', 'Infamous')) as villain_players,
           avg(karma_total) as karma_mean
    from known
), killed as (
    select sum(events) as kills, sum(events) filter (where action = 'kill_civilian') as civilians
    from span
    join hourly_totals
        on hour >= cast(first as timestamp) at time zone 'UTC'
        and hour < cast(last + 1 as timestamp) at time zone 'UTC'
    where action in ('kill_enemy', 'kill_civilian')
)
select players,
       hero_players,
       neutral_players,
       villain_players,
       cast(100.0 * hero_players / nullif(players, 0) as float) as hero_pct,
       cast(100.0 * neutral_players / nullif(players, 0) as float) as neutral_pct,
       cast(100.0 * villain_players / nullif(players, 0) as float) as villain_pct,
       cast(karma_mean as float) as karma_mean,
       cast(100 * coalesce(civilians, 0) / kills as float) as civilians_per_100_kills
from counted cross join killed
