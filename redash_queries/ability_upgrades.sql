-- name: Upgrades by ability
-- description: >-
--   What do players buy, up to which level? The 30 abilities and the 10 levels bought the most in these
--   days.
-- tags: [progression, economy]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
-- visualizations:
--   Upgrades by ability and level:
--     type: column
--     x: ability
--     y: upgrades
--     series: level
--     stacked: true
--     colors: {level 1: "#92c5de", level 2: "#1f77b4", level 3: "#053061"}
--     format: "0,0"
--   XP spent by ability and level:
--     type: column
--     x: ability
--     y: xp_spent
--     series: level
--     stacked: true
--     colors: {level 1: "#92c5de", level 2: "#1f77b4", level 3: "#053061"}
--     format: "0,0"
-- columns:
--   ability: text; from the most bought to the least
--   level: text; which one was bought
--   upgrades: integer; how often, 0 included
--   xp_spent: integer; what was paid for them, in XP
with span as (
    select last - (cast('{{ days }}' as integer) - 1) as first, last
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as chosen
), bought as (
    select coalesce(nullif(subject, ''), '(not told)') as ability,
           coalesce('level ' || nullif(variant, ''), '(not told)') as level,
           cast(sum(events) as bigint) as upgrades,
           cast(-sum(xp_delta) as bigint) as xp_spent
    from span
    join hourly_items
        on hour >= cast(first as timestamp) at time zone 'UTC'
        and hour < cast(last + 1 as timestamp) at time zone 'UTC'
    where action = 'ability_upgrade'
    group by 1, 2
), abilities as (
    select ability, sum(upgrades) as total
    from bought group by ability order by total desc, ability limit 30
), levels as (
    select level from bought group by level order by sum(upgrades) desc, level limit 10
)
select ability,
       level,
       coalesce(upgrades, 0) as upgrades,
       coalesce(xp_spent, 0) as xp_spent
from abilities
cross join levels
left join bought using (ability, level)
order by total desc, ability, level
