-- name: Most active players
-- description: Who plays the most, and where do they stand? The 50 players with the most events in the window.
-- tags: [players]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
--   side: {title: Side, type: enum, options: [everyone, hero, neutral, villain], default: everyone}
-- visualizations:
--   Most active players: {type: table, columns: {player: Player, events: Events, days_active: Days active, rank: Rank, karma: Karma, xp_earned_net: XP gained, first_day: First day, last_day: Last day}, rows: 10}
-- columns:
--   player: text; the name, as its sender wrote it
--   events: integer; what they did in the window
--   days_active: integer; on how many of its days
--   rank: text; on the last of those days of which it is known
--   karma: integer; then
--   xp_earned_net: integer; XP earned in the window, less what upgrades cost
--   first_day: date; when they came
--   last_day: date; the last of those days
with span as (
    select last - cast('{{ days }}' as integer) + 1 as first, last
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as known
), sided as (
    -- By the karma of a player's last known day: from Guardian up, from Thug down; where none is known, neutral.
    select player, case when karma >= 15 then 'hero' when karma <= -15 then 'villain' else 'neutral' end as side
    from (
        select player,
               (max(array[day - date '2000-01-01', karma_total]) filter (where karma_total is not null))[2]
                   as karma
        from span join player_days on day <= last
        group by player
    ) as known
), top as (
    select player_days.player,
           cast(sum(events) as bigint) as events,
           count(*) as days_active,
           cast(sum(xp_delta) as bigint) as xp_earned_net,
           min(first_day) as first_day,
           max(day) as last_day
    from span
    join player_days on day between first and last
    left join sided
           on '{{ side }}' <> 'everyone' and sided.player = player_days.player and side = '{{ side }}'
    where '{{ side }}' = 'everyone' or sided.player is not null
    group by player_days.player
    order by 2 desc, 1
    limit 50
)
select player, events, days_active, rank, karma, xp_earned_net, first_day, last_day
from top
left join lateral (
    select rank, karma_total as karma
    from player_days, span
    where player_days.player = top.player and day between first and last and rank is not null
    order by day desc
    limit 1
) as stands on true
order by events desc, player
