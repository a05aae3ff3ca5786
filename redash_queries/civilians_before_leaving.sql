-- name: Civilians before leaving
-- description: >-
--   Do players run amok before they leave? The last days of those not seen for 7 days, beside all other
--   days up to a week ago.
-- tags: [karma]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
-- visualizations:
--   "Civilians of 100 killed":
--     type: column
--     x: side
--     y: {last_day_per_100: on the last day before leaving, other_days_per_100: on other days}
--     colors: {last_day_per_100: "#d62728", other_days_per_100: "#7f7f7f"}
--     format: "0,0.00"
-- columns:
--   side: text; hero, neutral or villain, by a player's last known rank; then everyone
--   players_left: integer; who killed anybody on their last day, and then left
--   last_day_kills: integer; enemies and civilians killed on those days
--   last_day_civilians: integer; of those, civilians
--   last_day_per_100: float; last_day_civilians of 100 last_day_kills
--   other_days_kills: integer; enemies and civilians killed on all other days, by whoever
--   other_days_civilians: integer; of those, civilians
--   other_days_per_100: float; other_days_civilians of 100 other_days_kills
with span as (
    -- As many days as asked, which end a week early: so long must somebody have been away.
    select last - 6 - cast('{{ days }}' as integer) as first, last - 7 as gone, last
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as chosen
), ends as (
    select player, max(day) as last_day from span join player_days on day <= last group by player
), sided as (
    -- The rank of a player's last known day; one whose karma nobody knows is neutral.
    select distinct on (player) player,
           case when rank in ('Guardian', 'Champion', 'Hero') then 'hero'
                when rank in ('Thug', 'Outlaw', 'Infamous') then 'villain'
                else 'neutral' end as side
    from span join player_days on day <= last
    order by player, rank is null, day desc
), killed as (
    select coalesce(side, 'everyone') as side,
           count(distinct player) filter (where day = last_day) as players_left,
           cast(sum(events) filter (where day = last_day) as bigint) as last_day_kills,
           cast(sum(events) filter (where day = last_day and action = 'kill_civilian') as bigint)
               as last_day_civilians,
           cast(sum(events) filter (where day < last_day) as bigint) as other_days_kills,
           cast(sum(events) filter (where day < last_day and action = 'kill_civilian') as bigint)
               as other_days_civilians
    from span
    join daily_rollups on day between first and gone and action in ('kill_enemy', 'kill_civilian')
    join ends using (player)
    join sided using (player)
    group by grouping sets ((side), ())
)
select names.side,
       coalesce(players_left, 0) as players_left,
       coalesce(last_day_kills, 0) as last_day_kills,
       coalesce(last_day_civilians, 0) as last_day_civilians,
       cast(100.0 * coalesce(last_day_civilians, 0) / last_day_kills as float) as last_day_per_100,
       coalesce(other_days_kills, 0) as other_days_kills,
       coalesce(other_days_civilians, 0) as other_days_civilians,
       cast(100.0 * coalesce(other_days_civilians, 0) / other_days_kills as float) as other_days_per_100
from unnest(array['hero', 'neutral', 'villain', 'everyone']) with ordinality as names (side, place)
left join killed using (side)
order by place
