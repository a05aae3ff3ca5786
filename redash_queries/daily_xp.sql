-- name: XP a day
-- description: >-
--   Where does XP come from, where does it go, and how fast do players earn it?
-- tags: [economy]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
-- visualizations:
--   "XP earned and spent a day":
--     type: column
--     x: day
--     y:
--       mission_complete_xp: missions
--       kill_enemy_xp: enemies
--       kill_civilian_xp: civilians
--       moral_choice_xp: choices
--       recharge_xp: recharges
--       ability_upgrade_xp: upgrades
--       net_xp: net
--     stacked: true
--     lines: [net_xp]
--     colors:
--       mission_complete_xp: "#053061"
--       kill_enemy_xp: "#1f77b4"
--       kill_civilian_xp: "#92c5de"
--       moral_choice_xp: "#bdbdbd"
--       recharge_xp: "#7f7f7f"
--       ability_upgrade_xp: "#d62728"
--       net_xp: "#000000"
--     format: "0,0"
--   XP earned an hour played:
--     type: line
--     x: day
--     y: xp_per_hour
--     colors: {xp_per_hour: "#1f77b4"}
--     from_zero: true
--     legend: false
--     format: "0,0"
-- columns:
--   day: date; the UTC day
--   mission_complete_xp: integer; earned by completing missions
--   kill_enemy_xp: integer; by killing enemies
--   kill_civilian_xp: integer; by killing civilians
--   moral_choice_xp: integer; by moral choices
--   recharge_xp: integer; by recharging
--   ability_upgrade_xp: integer; what upgrades cost, below 0
--   net_xp: integer; the sum of all
--   earned_xp: integer; the sum of all but upgrades
--   hours_played: float; the length of the sessions begun on the day, from first event to last
--   xp_per_hour: float; earned_xp an hour of those; null when nobody played for longer than one event
with span as (
    select last - (cast('{{ days }}' as integer) - 1) as first, last
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as chosen
), moved as (
    select cast(hour at time zone 'UTC' as date) as day, action, sum(xp_delta) as xp
    from span
    join hourly_totals
        on hour >= cast(first as timestamp) at time zone 'UTC'
        and hour < cast(last + 1 as timestamp) at time zone 'UTC'
    group by 1, 2
), summed as (
    select day,
           coalesce(sum(xp) filter (where action = 'mission_complete'), 0) as mission_complete,
           coalesce(sum(xp) filter (where action = 'kill_enemy'), 0) as kill_enemy,
           coalesce(sum(xp) filter (where action = 'kill_civilian'), 0) as kill_civilian,
           coalesce(sum(xp) filter (where action = 'moral_choice'), 0) as moral_choice,
           coalesce(sum(xp) filter (where action = 'recharge'), 0) as recharge,
           coalesce(sum(xp) filter (where action = 'ability_upgrade'), 0) as ability_upgrade,
           coalesce(sum(xp) filter (where action <> 'ability_upgrade'), 0) as earned
    from moved
    group by day
)
select cast(days.day as date) as day,
       cast(coalesce(mission_complete, 0) as bigint) as mission_complete_xp,
       cast(coalesce(kill_enemy, 0) as bigint) as kill_enemy_xp,
       cast(coalesce(kill_civilian, 0) as bigint) as kill_civilian_xp,
       cast(coalesce(moral_choice, 0) as bigint) as moral_choice_xp,
       cast(coalesce(recharge, 0) as bigint) as recharge_xp,
       cast(coalesce(ability_upgrade, 0) as bigint) as ability_upgrade_xp,
       cast(coalesce(earned + ability_upgrade, 0) as bigint) as net_xp,
       cast(coalesce(earned, 0) as bigint) as earned_xp,
       coalesce(seconds_sum, 0) / 3600 as hours_played,
       cast(coalesce(earned, 0) as float) * 3600 / nullif(seconds_sum, 0) as xp_per_hour
from span
cross join generate_series(cast(first as timestamp), last, interval '1 day') as days (day)
left join summed on summed.day = cast(days.day as date)
left join daily_sessions on daily_sessions.day = cast(days.day as date)
order by days.day
