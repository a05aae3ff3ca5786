-- name: Last days
-- description: Up to which day can a dashboard look back from? The days with data that are summed up, newest first.
-- refresh: 5m
-- columns:
--   name: text; what is shown
--   value: text; the UTC day, or latest for the last there is
select 'latest' as name, 'latest' as value
union all
select *
from (
    select to_char(day, 'YYYY-MM-DD') as name, to_char(day, 'YYYY-MM-DD') as value
    from daily_cohorts
    group by day
    order by day desc
    limit 400
) as days
