-- name: Now
-- description: How many players and events are there right now?
-- tags: [live]
-- refresh: 1m
-- visualizations:
--   Events: {type: counter, value: events_last_minute, label: last minute}
--   Players: {type: counter, value: players_15_minutes, label: last 15 min}
--   Players today: {type: counter, value: players_today, label: since 0:00 UTC}
-- columns:
--   events_last_minute: integer; that happened in the last whole minute
--   players_15_minutes: integer; who did anything in the last 15 minutes
--   players_60_minutes: integer; in the last 60
--   players_today: integer; since midnight UTC; of what lies over an hour back, as of the last rollup
--   newest_event_at: datetime; the newest event of the last hour, in UTC; null when there is none
with lately as (
    select player, max(ts) as last_at,
           count(*) filter (
               where ts >= date_bin('1 minute', now(), 'epoch') - interval '1 minute'
                 and ts < date_bin('1 minute', now(), 'epoch')
           ) as events_last_minute
    from game_events
    where ts > now() - interval '60 minutes' and ts <= now()
    group by player
)
select cast(coalesce(sum(events_last_minute), 0) as bigint) as events_last_minute,
       count(*) filter (where last_at > now() - interval '15 minutes') as players_15_minutes,
       count(*) as players_60_minutes,
       (
           select count(*)
           from (
               select player from player_days where day = cast(now() at time zone 'UTC' as date)
               union
               select player from lately where last_at >= date_bin('1 day', now(), 'epoch')
           ) as today
       ) as players_today,
       max(last_at) at time zone 'UTC' as newest_event_at
from lately
