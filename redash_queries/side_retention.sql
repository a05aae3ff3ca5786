-- name: Retention by side
-- description: >-
--   Do heroes stay longer than villains? By the rank at the end of the first day, so that nobody is a hero
--   for having stayed.
-- tags: [karma]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
-- visualizations:
--   "Back on the nth day, %":
--     type: line
--     x: days_since
--     y: active_pct
--     series: side
--     from_zero: true
--     colors: {hero: "#1f77b4", neutral: "#7f7f7f", villain: "#d62728"}
--     format: 0.0%
-- columns:
--   side: text; hero, neutral or villain, as they ended their first day; neutral where nobody knows
--   days_since: integer; days after the first, 1 to 30, a row each
--   players: integer; whose nth day lies in the window, whole days alone
--   active_players: integer; of those, who did anything on it
--   active_pct: float; active_players of 100 players; null when there is nobody
with span as (
    select last - (cast('{{ days }}' as integer) - 1) as first,
           -- Today is left out until it is over.
           least(last, cast(now() at time zone 'UTC' as date) - 1) as last
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as chosen
), newcomers as (
    select player, first_day,
           case when rank in ('Guardian', 'Champion', 'Hero') then 'hero'
                when rank in ('Thug', 'Outlaw', 'Infamous') then 'villain'
                else 'neutral' end as side
    from span join player_days on day between first - 30 and last
    where day = first_day
), came as (
    select side, days_since, cast(sum(players) as bigint) as players
    from span
    cross join (select side, first_day, count(*) as players from newcomers group by 1, 2) as cohorts
    cross join generate_series(1, 30) as days_since
    where first_day + days_since between first and last
    group by 1, 2
), active as (
    select side, day - newcomers.first_day as days_since, count(*) as active_players
    from span
    join player_days on day between first and last
    join newcomers using (player)
    group by 1, 2
)
select sides.side,
       days_since,
       coalesce(players, 0) as players,
       coalesce(active_players, 0) as active_players,
       cast(100.0 * coalesce(active_players, 0) / players as float) as active_pct
from unnest(array['hero', 'neutral', 'villain']) as sides (side)
cross join generate_series(1, 30) as days_since
left join came using (side, days_since)
left join active using (side, days_since)
order by side, days_since
