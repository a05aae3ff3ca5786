-- Hourly rates: events of each kind an hour, and the XP and karma they moved.
-- Hours: the last 7 days of the data; an hour without events of a kind has a row of zeros.
-- Columns: hour: its beginning; action; events; xp_delta: the sum, upgrades' prices are negative;
-- karma_delta: the sum.
-- From: hourly_totals, as of the last rollup.
with span as (
    select greatest(min(hour), max(hour) - interval '167 hours') as first, max(hour) as last
    from hourly_totals
), actions as (
    select distinct action from span join hourly_totals on hour between first and last
)
select hours.hour,
       actions.action,
       coalesce(events, 0) as events,
       coalesce(xp_delta, 0) as xp_delta,
       coalesce(karma_delta, 0) as karma_delta
from span
cross join generate_series(first, last, interval '1 hour') as hours (hour)
cross join actions
left join hourly_totals on hourly_totals.hour = hours.hour and hourly_totals.action = actions.action
order by hours.hour, actions.action
