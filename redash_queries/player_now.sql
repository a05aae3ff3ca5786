-- name: Player now
-- description: How does the player stand at this moment?
-- tags: [live]
-- refresh: 1m
-- parameters:
--   player: {title: Player, type: query, from: players, default: busiest}
-- visualizations:
--   Player: {type: counter, value: player, label: player}
--   Rank: {type: counter, value: rank, label: rank}
--   Karma: {type: counter, value: karma, label: "-100 to 100"}
--   XP: {type: counter, value: xp, label: to spend}
-- columns:
--   player: text; the name, as its sender wrote it; null when there is no such player in the last 30 days
--   rank: text; the name of that karma; null when it is not known
--   karma: integer; -100 to 100, after the newest event, or as of the last rollup where that is over two hours back
--   xp: integer; sum of all XP, upgrades' prices taken off
--   last_event_at: datetime; the newest event of the last two hours, in UTC; null when there is none
--   last_day: date; the last day it did anything, as of the last rollup
--   mission: text; in which that newest event was, if it says so
with chosen as (
    select player
    from player_days
    where day > (select max(day) - 30 from daily_cohorts)
      and case when '{{ player }}' = 'busiest' then day = (select max(day) from daily_cohorts)
               else md5(player) = '{{ player }}' end
    order by day desc, events desc, player
    limit 1
), span as (
    -- Events are read from an hour's beginning on, and hours from a day's.
    select date_bin('1 hour', now(), 'epoch') - interval '1 hour' as from_hour,
           date_bin('1 day', now() - interval '1 hour', 'epoch') as from_day
), recent as (
    select ts, seq, id, xp_delta, karma_total, rank, left(details ->> 'mission', 64) as mission
    from game_events
    where ts >= date_bin('1 hour', now(), 'epoch') - interval '1 hour'
      and ts <= now() + interval '5 minutes'
      and player = (select player from chosen)
), newest as (
    select * from recent order by ts desc, seq desc, id desc limit 1
), known as (
    select karma_total, rank
    from player_days
    where player = (select player from chosen) and rank is not null
    order by day desc
    limit 1
), earned as (
    select sum(xp_delta) as xp
    from (
        select xp_delta
        from span join player_days on day < cast(from_day at time zone 'UTC' as date)
        where player = (select player from chosen)
        union all
        select xp_delta
        from span join hourly_rollups on hour >= from_day and hour < from_hour
        where player = (select player from chosen)
        union all
        select xp_delta from recent
    ) as parts
)
select (select player from chosen) as player,
       coalesce(newest.rank, known.rank) as rank,
       coalesce(newest.karma_total, known.karma_total) as karma,
       cast(xp as bigint) as xp,
       ts at time zone 'UTC' as last_event_at,
       (select max(day) from player_days where player = (select player from chosen)) as last_day,
       mission
from earned
left join newest on true
left join known on true
