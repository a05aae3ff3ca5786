-- Mission funnel: how many players and runs began each mission, and how many completed it.
-- A run is one playthrough of a mission by one player; it counts as begun on the UTC day of its first event.
-- Players are counted by their first playthrough. Days: the last 30 of the data; a run begun before them
-- and completed in them is among the completed alone.
-- Columns: mission, from the most begun to the least; players_started, players_completed; runs_started,
-- runs_completed; completed_share: of the runs, as a part of 1; null when none was begun.
-- From: daily_missions, and the last day of daily_cohorts, as of the last rollup.
select mission,
       sum(players_started) as players_started,
       sum(players_completed) as players_completed,
       sum(runs_started) as runs_started,
       sum(runs_completed) as runs_completed,
       round(sum(runs_completed) / nullif(sum(runs_started), 0), 4) as completed_share
from daily_missions
where day > (select max(day) - 30 from daily_cohorts)
group by mission
order by players_started desc, runs_started desc, mission
