-- name: Retention
-- description: How many are back on exactly the nth UTC day after their first? Whole days alone.
-- tags: [players]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
--   side: {title: Side, type: enum, options: [everyone, hero, neutral, villain], default: everyone}
-- visualizations:
--   D1: {type: counter, value: active_pct, suffix: "%", decimals: 1, label: day 1, options: {rowNumber: 2}}
--   D7: {type: counter, value: active_pct, suffix: "%", decimals: 1, label: day 7, options: {rowNumber: 8}}
--   D30: {type: counter, value: active_pct, suffix: "%", decimals: 1, label: day 30, options: {rowNumber: 31}}
--   "Players who are back on the nth day, %": {type: line, x: days_since, y: {active_pct: percent}, from_zero: true, legend: false}
-- columns:
--   days_since: integer; days after the first, 0 to 30, a row each
--   players: integer; whose nth day lies in the window
--   active_players: integer; who of them did anything on it
--   active_pct: float; the same in 100; null when there is nobody
with span as (
    select last - cast('{{ days }}' as integer) + 1 as first,
           least(last, cast(now() at time zone 'UTC' as date) - 1) as last,
           last as until
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
        from span join player_days on day <= until
        group by player
    ) as known
), counted as (
    select first_day, day, count(*) as players
    from span
    join player_days on day between first - 30 and last and day <= first_day + 30
    left join sided
           on '{{ side }}' <> 'everyone' and sided.player = player_days.player and side = '{{ side }}'
    where '{{ side }}' = 'everyone' or sided.player is not null
    group by 1, 2
)
select days_since,
       cast(coalesce(sum(came.players), 0) as bigint) as players,
       cast(coalesce(sum(active.players), 0) as bigint) as active_players,
       round(100.0 * coalesce(sum(active.players), 0) / nullif(sum(came.players), 0), 2) as active_pct
from generate_series(0, 30) as days_since
left join span on true
left join counted as came
       on came.day = came.first_day and came.first_day between first - days_since and last - days_since
left join counted as active
       on active.first_day = came.first_day and active.day = came.first_day + days_since
group by days_since
order by days_since
