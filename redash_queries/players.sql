-- name: Recent players
-- description: >-
--   Which players can be looked at? Those who did the most in the last 7 days of the data. A value is a digest of the
--   name, which is the sender's own words and would be SQL.
-- refresh: 5m
-- columns:
--   name: text; the player's name
--   value: text; its MD5, or busiest for whoever did the most on the last day
select 'the busiest today' as name, 'busiest' as value
union all
select *
from (
    select player as name, md5(player) as value
    from player_days
    where day > (select max(day) - 7 from daily_cohorts)
    group by player
    order by sum(events) desc, player
    limit 500
) as lately
