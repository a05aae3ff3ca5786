-- name: Switches of side a day
-- description: >-
--   How often do players change sides? A switch is a moral choice to the other side than the player's one
--   before, whenever that was.
-- tags: [karma]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
--   side: {title: Side, type: enum, options: [everyone, hero, neutral, villain], default: everyone}
-- visualizations:
--   "Choices a day, by the side before":
--     type: column
--     x: day
--     y: {kept: same side, switches: other side, first_choices: first}
--     stacked: true
--     colors: {kept: "#7f7f7f", switches: "#d62728", first_choices: "#bdbdbd"}
--     format: "0,0"
--   "Choices that switch sides, %":
--     type: line
--     x: day
--     y: switched_pct
--     colors: {switched_pct: "#d62728"}
--     from_zero: true
--     legend: false
--     format: 0.0%
-- columns:
--   day: date; the UTC day
--   choices: integer; moral choices of a known side
--   first_choices: integer; of those, a player's first
--   kept: integer; of those, to the side of the player's choice before
--   switches: integer; of those, to the other side
--   switched_pct: float; switches of 100 that were not a player's first; null without any
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
), made as (
    select made.player, ts, id, made.side,
           lag(made.side) over (partition by made.player order by ts, id) as side_before
    from span
    join moral_choices made
        on hour >= cast(first as timestamp) at time zone 'UTC'
        and hour < cast(last + 1 as timestamp) at time zone 'UTC'
    left join sided
           on '{{ side }}' <> 'everyone' and sided.player = made.player and sided.side = '{{ side }}'
    where made.side is not null and ('{{ side }}' = 'everyone' or sided.player is not null)
), compared as (
    select cast(ts at time zone 'UTC' as date) as day, side, coalesce(side_before, (
        -- The first one in these days: what came before them.
        select earlier.side
        from moral_choices earlier
        where earlier.player = made.player and (earlier.ts, earlier.id) < (made.ts, made.id)
          and earlier.side is not null
        order by earlier.ts desc, earlier.id desc
        limit 1
    )) as side_before
    from made
)
select cast(days.day as date) as day,
       count(side) as choices,
       count(side) filter (where side_before is null) as first_choices,
       count(side) filter (where side = side_before) as kept,
       count(side) filter (where side <> side_before) as switches,
       cast(100.0 * count(side) filter (where side <> side_before) / nullif(count(side_before), 0) as float)
           as switched_pct
from span
cross join generate_series(cast(first as timestamp), last, interval '1 day') as days (day)
left join compared on compared.day = cast(days.day as date)
group by days.day
order by days.day
