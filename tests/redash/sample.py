"""Two queries and a dashboard as files, small and with something of everything."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.redash.sql import Canned

QUERY: Final = """\
-- name: Daily actives
-- description: How many players did anything on each UTC day.
-- tags: [players]
-- refresh: 1d at 06:30
-- parameters:
--   days: {type: enum, options: ["7", "30"], default: "30"}
--   until: {title: Up to, type: query, from: last_days, default: latest}
-- visualizations:
--   Active players: {type: area, x: day, y: [new_players, others], stacked: true}
-- alerts:
--   Nobody plays: {when: new_players < 1, rearm: 1d}
-- columns:
--   day: date; the UTC day
--   new_players: integer; it was their first day
--   others: integer; who had been there before
select day, new_players, others from days
where day > current_date - cast('{{ days }}' as integer) and '{{until}}' <> ''
"""
LIST: Final = """\
-- name: Days
-- columns:
--   name: text; what is shown
--   value: text; the day
select 'latest' as name, 'latest' as value
"""
DASHBOARD: Final = """\
name: Players
tags: [players]
parameters:
  days: "7"
  until:
widgets:
  - text: |
      ### Who plays
      Anything counts.
    at: [0, 0, 12, 2]
  - {query: daily_actives, show: Active players, at: [0, 2, 6, 8]}
  - query: daily_actives
    show: Table
    at: [6, 2, 6, 8]
    parameters: {days: {fixed: "30"}}
"""

# What the two answer, by a part of their SQL.
ANSWERS: Final = {
    "new_players": Canned(
        {"day": "date", "new_players": "integer", "others": "integer"},
        [{"day": "2026-11-27", "new_players": 3, "others": 4}],
    ),
    "as name": Canned({"name": None, "value": None}, [{"name": "latest", "value": "latest"}]),
}


def files(folder: Path, **texts: str) -> Path:
    """A folder with these files, or with others in their place or beside them."""
    (folder / "dashboards").mkdir(parents=True, exist_ok=True)
    ours = {"daily_actives.sql": QUERY, "last_days.sql": LIST, "dashboards/players.yaml": DASHBOARD}
    for name, text in {**ours, **texts}.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder
