-- name: Retention by day of arrival
-- description: >-
--   Of the players who came on one day, how many in 100 did anything on exactly the nth day after it? Classic retention by
--   UTC days; a day counts once it is over.
-- tags: [players]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
--   side: {title: Side, type: enum, options: [everyone, hero, neutral, villain], default: everyone}
-- visualizations:
--   Back on the nth day, % of who came:
--     type: cohort
--     date: cohort
--     stage: days_since
--     total: players
--     value: active_players
--     options: {timeColumnTitle: Came on, peopleColumnTitle: Players, percentFormat: 0%}
-- columns:
--   cohort: date; the UTC day they came
--   days_since: integer; days after it, 1 to 30, as far as they are over
--   players: integer; who came
--   active_players: integer; who of them did anything on that day
--   active_pct: float; the same in 100
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
    select first_day, day - first_day as days_since, count(*) as players
    from span
    join player_days on day between first and last and first_day >= first and day <= first_day + 30
    left join sided
           on '{{ side }}' <> 'everyone' and sided.player = player_days.player and side = '{{ side }}'
    where '{{ side }}' = 'everyone' or sided.player is not null
    group by 1, 2
)
select came.first_day as cohort, since.days as days_since, came.players,
       coalesce(counted.players, 0) as active_players,
       round(100.0 * coalesce(counted.players, 0) / came.players, 2) as active_pct
from span
join counted as came on came.days_since = 0
cross join generate_series(1, least(30, last - came.first_day)) as since (days)
left join counted on counted.first_day = came.first_day and counted.days_since = since.days
order by cohort, days_since
