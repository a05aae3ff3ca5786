-- Daily actives: how many players did anything on each UTC day, and how many of them for the first time.
-- Days: the last 30 of the data, those without a player included. Today's numbers still grow.
-- Columns: day; active_players; new_players: it was their first day; returning_players: the others.
-- From: daily_cohorts, as of the last rollup.
with span as (
    select greatest(min(day), max(day) - 29) as first, max(day) as last from daily_cohorts
)
select cast(days.day as date) as day,
       coalesce(sum(players), 0) as active_players,
       coalesce(sum(players) filter (where daily_cohorts.day = first_day), 0) as new_players,
       coalesce(sum(players) filter (where daily_cohorts.day > first_day), 0) as returning_players
from span
cross join generate_series(cast(first as timestamp), last, interval '1 day') as days (day)
left join daily_cohorts on daily_cohorts.day = cast(days.day as date)
group by days.day
order by days.day
