-- name: Player's last hour
-- description: Which way does the player go? Karma after the last event of each minute.
-- tags: [live]
-- refresh: 1m
-- parameters:
--   player: {title: Player, type: query, from: players, default: busiest}
-- visualizations:
--   Karma, last hour (UTC):
--     type: line
--     x: minute
--     y: karma
--     legend: false
--     options: {yAxis: [{type: linear, rangeMin: -100, rangeMax: 100}, {type: linear, opposite: true}]}
-- columns:
--   minute: datetime; its beginning, in UTC
--   events: integer; what the player did in it
--   karma: integer; after the last of those, -100 to 100; null in a minute without
--   xp_earned: integer; sum of what it gained
--   xp_spent: integer; what upgrades cost
with chosen as (
    select player
    from player_days
    where day > (select max(day) - 30 from daily_cohorts)
      and case when '{{ player }}' = 'busiest' then day = (select max(day) from daily_cohorts)
               else md5(player) = '{{ player }}' end
    order by day desc, events desc, player
    limit 1
), recent as (
    select date_bin('1 minute', ts, 'epoch') as minute, ts, seq, id, xp_delta, karma_total
    from game_events
    where ts >= date_bin('1 minute', now(), 'epoch') - interval '60 minutes'
      and ts < date_bin('1 minute', now(), 'epoch')
      and player = (select player from chosen)
), counted as (
    select minute, count(*) as events,
           (array_agg(karma_total order by ts desc, seq desc, id desc))[1] as karma,
           sum(greatest(xp_delta, 0)) as xp_earned,
           sum(greatest(-xp_delta, 0)) as xp_spent
    from recent
    group by minute
)
select minute at time zone 'UTC' as minute,
       coalesce(events, 0) as events,
       karma,
       cast(coalesce(xp_earned, 0) as bigint) as xp_earned,
       cast(coalesce(xp_spent, 0) as bigint) as xp_spent
from (
    select date_bin('1 minute', now(), 'epoch') - number * interval '1 minute' as minute
    from generate_series(1, 60) as number
) as minutes
left join counted using (minute)
order by minute
