-- name: Events
-- description: What is being done right now? Events of each kind, by the minute they happened in.
-- tags: [live]
-- refresh: 1m
-- visualizations:
--   "By action, a minute, last hour (UTC)":
--     type: area
--     x: minute
--     y: events
--     series: action
--     stacked: true
--     colors:
--       kill_enemy: "#aec7e8"
--       recharge: "#ffbb78"
--       mission_complete: "#2ca02c"
--       moral_choice: "#9467bd"
--       ability_upgrade: "#17becf"
--       kill_civilian: "#d62728"
-- columns:
--   minute: datetime; its beginning, in UTC
--   action: text; what players did
--   events: integer; how often
with counted as (
    select date_bin('1 minute', ts, 'epoch') as minute, action, count(*) as events
    from game_events
    where ts >= date_bin('1 minute', now(), 'epoch') - interval '60 minutes'
      and ts < date_bin('1 minute', now(), 'epoch')
    group by 1, 2
)
select minute at time zone 'UTC' as minute, action, coalesce(events, 0) as events
from (
    select date_bin('1 minute', now(), 'epoch') - number * interval '1 minute' as minute
    from generate_series(1, 60) as number
) as minutes
cross join unnest(array[
    'kill_enemy', 'recharge', 'mission_complete', 'moral_choice', 'ability_upgrade', 'kill_civilian'
]) as action
left join counted using (minute, action)
order by minute, action
