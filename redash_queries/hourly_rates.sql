-- name: Hourly rates
-- description: >-
--   What came in each hour, by kind of action? An hour without events of a kind has a row of zeros.
-- tags: [economy]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "7"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
-- visualizations:
--   "XP an hour, by action (UTC)":
--     type: column
--     x: hour
--     y: xp_delta
--     series: action
--     stacked: true
--     colors:
--       mission_complete: "#053061"
--       kill_enemy: "#1f77b4"
--       kill_civilian: "#92c5de"
--       moral_choice: "#bdbdbd"
--       recharge: "#7f7f7f"
--       ability_upgrade: "#d62728"
--     format: "0,0"
--   "Events an hour, by action (UTC)":
--     {type: area, x: hour, y: events, series: action, stacked: true, format: "0,0"}
-- columns:
--   hour: datetime; its beginning
--   action: text; of what kind
--   events: integer; how many
--   xp_delta: integer; the sum; upgrades' prices are negative
--   karma_delta: integer; the sum
with span as (
    select greatest(
               min(hour),
               least(max(hour), until) - (24 * cast('{{ days }}' as integer) - 1) * interval '1 hour'
           ) as first,
           least(max(hour), until) as last
    from hourly_totals
    cross join (
        -- The last hour of the chosen day; none for the latest, which least() passes over.
        select cast(cast(nullif('{{ until }}', 'latest') as date) as timestamp) at time zone 'UTC'
               + interval '23 hours' as until
    ) as chosen
    group by until
), actions as (
    select distinct action from span join hourly_totals on hour between first and last
)
select hours.hour,
       actions.action,
       coalesce(events, 0) as events,
       coalesce(xp_delta, 0) as xp_delta,
       coalesce(karma_delta, 0) as karma_delta
from span
cross join generate_series(first, last, interval '1 hour') as hours (hour)
cross join actions
left join hourly_totals on hourly_totals.hour = hours.hour and hourly_totals.action = actions.action
order by hours.hour, actions.action
