-- name: XP in hand
-- description: >-
--   How much XP do players hold unspent, the further they are? Those active in these days, by runs of
--   missions completed.
-- tags: [economy]
-- refresh: 5m
-- parameters:
--   days: {title: Days, type: enum, options: ["7", "14", "30", "90", "365"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
-- visualizations:
--   XP in hand by missions completed:
--     type: column
--     x: missions
--     y: {xp_p50: median, xp_p90: 90th percentile}
--     colors: {xp_p50: "#1f77b4", xp_p90: "#92c5de"}
--     format: "0,0"
-- columns:
--   missions: text; runs completed up to the last day
--   players: integer; active in these days, who completed so many
--   xp_p50: float; the median of what they hold
--   xp_p90: float; the 90th percentile of the same
with span as (
    select last - (cast('{{ days }}' as integer) - 1) as first, last
    from (
        select coalesce(cast(nullif('{{ until }}', 'latest') as date), max(day)) as last from daily_cohorts
    ) as chosen
), balances as (
    select player, cast(sum(xp_delta) as float) as xp
    from span join player_days on day <= last
    group by player
    having max(day) >= max(first)
), completed as (
    select player, count(*) as runs
    from span join mission_runs on completed_on <= last
    group by player
), placed as (
    select xp, least((coalesce(runs, 0) + 4) / 5, 8) as band
    from balances left join completed using (player)
)
select case band when 0 then 'none' when 8 then '36 and more'
            else format('%s to %s', 5 * band - 4, 5 * band) end as missions,
       count(*) as players,
       percentile_cont(0.5) within group (order by xp) as xp_p50,
       percentile_cont(0.9) within group (order by xp) as xp_p90
from placed
group by band
order by band
