"""A recount of raw events in plain Python: rows flow in, what every table of rollups should hold flows out.

It knows nothing of the SQL that it is compared with.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from statistics import median
from typing import Any, Final

from sqlalchemy import text

from producer.truth import SESSION_GAP_MS
from tests.conftest import World

DAY: Final = timedelta(days=1)
GAP: Final = timedelta(milliseconds=SESSION_GAP_MS)
TABLES: Final = (
    "hourly_rollups", "hourly_totals", "session_parts", "mission_parts", "daily_rollups", "player_days",
    "daily_cohorts", "mission_runs", "daily_missions", "daily_sessions",
)  # fmt: skip
RAW: Final = """
select ts, player, action, xp_delta, karma_delta, details ->> 'mission' as mission,
       coalesce(details ->> 'playthrough', '1') as playthrough
from game_events order by ts
"""

Row = dict[str, Any]
Tables = dict[str, list[Row]]


def kept(world: World) -> Tables:
    """What the tables hold."""
    with world.engine.connect() as connection:
        return {
            table: _sorted(
                [
                    _rounded(dict(row))
                    for row in connection.execute(text(f"select * from {table}")).mappings()
                ]
            )
            for table in TABLES
        }


def recount(world: World) -> Tables:
    """What they should hold, as far as the raw events go."""
    with world.engine.connect() as connection:
        raw = [dict(row) for row in connection.execute(text(RAW)).mappings()]
    for row in raw:
        row["ts"] = row["ts"].astimezone(UTC)
        row["hour"] = row["ts"].replace(minute=0, second=0, microsecond=0)
        row["day"] = row["ts"].date()
    found: Tables = {
        "hourly_rollups": _summed(raw, "hour", "player", "action"),
        "hourly_totals": _summed(raw, "hour", "action"),
        "daily_rollups": _summed(raw, "day", "player", "action"),
        **_players(raw),
        **_missions([row for row in raw if row["mission"] is not None]),
        **_sessions(raw),
    }
    return {table: _sorted([_rounded(row) for row in found[table]]) for table in TABLES}


def _sorted(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: str(sorted((key, str(row[key])) for key in row)))


def _rounded(row: Row) -> Row:
    return {
        key: value.astimezone(UTC)
        if isinstance(value, datetime)
        else round(value, 6)
        if isinstance(value, float)
        else value
        for key, value in row.items()
    }


def _summed(raw: list[Row], *keys: str) -> list[Row]:
    sums: defaultdict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for row in raw:
        of_key = sums[tuple(row[key] for key in keys)]
        of_key["events"] += 1
        of_key["xp_delta"] += row["xp_delta"]
        of_key["karma_delta"] += row["karma_delta"]
    return [
        dict(zip(keys, key, strict=True))
        | {name: counts[name] for name in ("events", "xp_delta", "karma_delta")}
        for key, counts in sums.items()
    ]


def _players(raw: list[Row]) -> Tables:
    days: defaultdict[str, set[date]] = defaultdict(set)
    for row in raw:
        days[row["player"]].add(row["day"])
    rows = [
        {"day": day, "player": player, "first_day": min(active)}
        for player, active in days.items()
        for day in active
    ]
    cohorts = Counter((row["day"], row["first_day"]) for row in rows)
    return {
        "player_days": rows,
        "daily_cohorts": [
            {"day": day, "first_day": first_day, "players": players}
            for (day, first_day), players in cohorts.items()
        ],
    }


def _missions(raw: list[Row]) -> Tables:
    parts: defaultdict[tuple[Any, ...], bool] = defaultdict(bool)
    begun: dict[tuple[str, str, str], date] = {}
    done: dict[tuple[str, str, str], date] = {}
    for row in raw:
        run = (row["player"], row["mission"], row["playthrough"])
        is_completion = row["action"] == "mission_complete"
        parts[row["hour"], *run] |= is_completion
        begun.setdefault(run, row["day"])
        if is_completion:
            done.setdefault(run, row["day"])
    daily: defaultdict[tuple[date, str], Counter[str]] = defaultdict(Counter)
    for what, days in (("started", begun), ("completed", done)):
        for (_, mission, playthrough), day in days.items():
            daily[day, mission][f"runs_{what}"] += 1
            daily[day, mission][f"players_{what}"] += playthrough == "1"
    names = ("player", "mission", "playthrough")
    counts = ("runs_started", "runs_completed", "players_started", "players_completed")
    return {
        "mission_parts": [
            dict(zip(("hour", *names), key, strict=True)) | {"is_completed": is_completed}
            for key, is_completed in parts.items()
        ],
        "mission_runs": [
            dict(zip(names, run, strict=True)) | {"started_on": day, "completed_on": done.get(run)}
            for run, day in begun.items()
        ],
        "daily_missions": [
            {"day": day, "mission": mission} | {name: found[name] for name in counts}
            for (day, mission), found in daily.items()
        ],
    }


def _sessions(raw: list[Row]) -> Tables:
    parts: list[Row] = []
    begun: defaultdict[date, list[tuple[str, float]]] = defaultdict(list)
    for player, events in groupby(sorted(raw, key=lambda row: (row["player"], row["ts"])), _player):
        sessions: list[list[Row]] = []
        for event in events:
            if not sessions or event["ts"] - sessions[-1][-1]["ts"] > GAP:
                sessions.append([])
            sessions[-1].append(event)
        for session in sessions:
            first = session[0]["day"]
            end = datetime.combine(first + 2 * DAY, time(), UTC)
            last = max(event["ts"] for event in session if event["ts"] < end)
            begun[first].append((player, (last - session[0]["ts"]).total_seconds()))
            for hour, some in groupby(session, lambda event: event["hour"]):
                part = list(some)
                parts.append(
                    {
                        "hour": hour,
                        "player": player,
                        "started_at": part[0]["ts"],
                        "ended_at": part[-1]["ts"],
                        "events": len(part),
                        "xp_delta": sum(event["xp_delta"] for event in part),
                        "karma_delta": sum(event["karma_delta"] for event in part),
                        "is_continued": part[0] is not session[0],
                    }
                )
    return {
        "session_parts": parts,
        "daily_sessions": [
            {
                "day": day,
                "sessions": len(found),
                "players": len({player for player, _ in found}),
                "seconds_sum": sum(seconds for _, seconds in found),
                "seconds_p50": float(median(seconds for _, seconds in found)),
                "seconds_p90": _percentile(sorted(seconds for _, seconds in found), 0.9),
            }
            for day, found in begun.items()
        ],
    }


def _player(row: Row) -> str:
    return str(row["player"])


def _percentile(values: list[float], share: float) -> float:
    place = share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)
