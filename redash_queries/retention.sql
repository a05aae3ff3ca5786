-- Retention: of the players who came on one day, how many did anything on exactly the nth day after it.
-- Classic retention by UTC days, whole days alone: today is left out until it is over.
-- Cohorts: those of the last 31 whole days of the data. Sum players and active_players over the cohorts
-- of one days_since for the curve of all players: only cohorts that have lived so long have a row there.
-- Columns: cohort: the day they came; days_since: 0 is that day itself; players: who came;
-- active_players: who of them was active on that day; share: the same as a part of 1.
-- From: daily_cohorts, as of the last rollup.
with span as (
    select max(day) as last from daily_cohorts
    where day < cast(now() at time zone 'UTC' as date)
), cohorts as (
    select first_day, players, last
    from daily_cohorts join span on day between last - 30 and last
    where day = first_day
)
select cohorts.first_day as cohort,
       days_since,
       cohorts.players,
       coalesce(active.players, 0) as active_players,
       round(coalesce(active.players, 0) / cast(cohorts.players as numeric), 4) as share
from cohorts
cross join generate_series(0, last - cohorts.first_day) as days_since
left join daily_cohorts active
       on active.first_day = cohorts.first_day and active.day = cohorts.first_day + days_since
order by cohort, days_since
