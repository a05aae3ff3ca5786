-- name: Choices by mission
-- description: >-
--   Which way do moral choices go? Those of these days, the 50 most frequent.
-- tags: [karma]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
--   side: {title: Side, type: enum, options: [everyone, hero, neutral, villain], default: everyone}
-- visualizations:
--   "Choices by mission, %":
--     type: column
--     x: mission
--     y: {good: good, evil: evil}
--     percent: true
--     colors: {good: "#1f77b4", evil: "#d62728"}
--   Choices in numbers:
--     type: table
--     columns:
--       mission:
--       choice:
--       good:
--       evil:
--       good_pct: {title: "Good, %", format: 0.0%}
--     rows: 25
-- columns:
--   mission: text; from the most choices to the fewest
--   choice: text; what it was about
--   good: integer; choices to the good side
--   evil: integer; to the evil one
--   good_pct: float; good of 100 whose side is known; null where that is none
with span as (
    select last - (cast('{{ days }}' as integer) - 1) as first, last
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as chosen
), sided as (
    -- The rank of a player's last known day; one whose karma nobody knows is neutral.
    select distinct on (player) player,
           case when rank in ('Guardian', 'Champion', 'Hero') then 'hero'
                when rank in ('Thug', 'Outlaw', 'Infamous') then 'villain'
                else 'neutral' end as side
    from span join player_days on day <= last
    order by player, rank is null, day desc
)
select coalesce(mission, '(not told)') as mission,
       coalesce(choice, '(not told)') as choice,
       count(*) filter (where made.side = 'good') as good,
       count(*) filter (where made.side = 'evil') as evil,
       cast(100.0 * count(*) filter (where made.side = 'good') / nullif(count(made.side), 0) as float)
           as good_pct
from span
join moral_choices made
    on hour >= cast(first as timestamp) at time zone 'UTC'
    and hour < cast(last + 1 as timestamp) at time zone 'UTC'
left join sided
       on '{{ side }}' <> 'everyone' and sided.player = made.player and sided.side = '{{ side }}'
where '{{ side }}' = 'everyone' or sided.player is not null
group by 1, 2
order by count(*) desc, 1, 2
limit 50
