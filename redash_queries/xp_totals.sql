-- name: XP in numbers
-- description: >-
--   How much XP came and went in these days?
-- tags: [economy]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
-- visualizations:
--   Earned: {type: counter, value: earned_xp, label: XP earned}
--   Spent: {type: counter, value: spent_xp, label: XP spent on upgrades}
--   Spent of earned:
--     {type: counter, value: spent_pct, label: of the XP earned is spent, suffix: "%", decimals: 1}
--   Pace: {type: counter, value: xp_per_hour, label: XP earned an hour played}
-- columns:
--   earned_xp: integer; by all actions but upgrades
--   spent_xp: integer; on upgrades
--   net_xp: integer; the difference
--   spent_pct: float; spent_xp of 100 earned_xp
--   hours_played: float; the length of the sessions begun in these days, from first event to last
--   xp_per_hour: float; earned_xp an hour of those
with span as (
    select last - (cast('{{ days }}' as integer) - 1) as first, last
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as chosen
), moved as (
    select coalesce(sum(xp_delta) filter (where action <> 'ability_upgrade'), 0) as earned,
           coalesce(-sum(xp_delta) filter (where action = 'ability_upgrade'), 0) as spent
    from span
    join hourly_totals
        on hour >= cast(first as timestamp) at time zone 'UTC'
        and hour < cast(last + 1 as timestamp) at time zone 'UTC'
), played as (
    select coalesce(sum(seconds_sum), 0) / 3600 as hours
    from span join daily_sessions on day between first and last
)
select cast(earned as bigint) as earned_xp,
       cast(spent as bigint) as spent_xp,
       cast(earned - spent as bigint) as net_xp,
       cast(100 * spent / nullif(earned, 0) as float) as spent_pct,
       hours as hours_played,
       cast(earned as float) / nullif(hours, 0) as xp_per_hour
from moved cross join played
