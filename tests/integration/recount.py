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

from pipeline.event import RANK_BY_KARMA
from producer.truth import SESSION_GAP_MS
from tests.conftest import World

DAY: Final = timedelta(days=1)
GAP: Final = timedelta(milliseconds=SESSION_GAP_MS)
TABLES: Final = (
    "hourly_rollups", "hourly_totals", "session_parts", "mission_parts", "daily_rollups", "player_days",
    "daily_cohorts", "mission_runs", "daily_missions", "daily_sessions", "moral_choices", "hourly_items",
)  # fmt: skip
# Of the details these, as text.
TOLD: Final = (
    "mission", "district", "enemy", "civilian", "ability", "choice", "side", "kind", "level",
)  # fmt: skip
RAW: Final = f"""
select id, ts, seq, player, action, xp_delta, karma_delta, karma_total, energy_source,
       {", ".join(f"details ->> '{name}' as {name}" for name in TOLD)},
       coalesce(details ->> 'playthrough', '1') as playthrough
from game_events
"""
# What an event is about, by its action: the thing, and which of its kind.
ABOUT: Final = {
    "kill_enemy": ("enemy", "ability"),
    "kill_civilian": ("civilian", "ability"),
    "recharge": ("energy_source", None),
    "mission_complete": ("mission", "kind"),
    "ability_upgrade": ("ability", "level"),
    "moral_choice": ("choice", "side"),
}
NAMED: Final = 100
LONGEST: Final = 64

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
    raw.sort(key=_in_order)
    found: Tables = {
        "hourly_rollups": _summed(raw, "hour", "player", "action"),
        "hourly_totals": _summed(raw, "hour", "action"),
        "daily_rollups": _summed(raw, "day", "player", "action"),
        **_players(raw),
        **_missions([row for row in raw if row["mission"] is not None]),
        **_sessions(raw),
        "moral_choices": [_choice(row) for row in raw if row["action"] == "moral_choice"],
        "hourly_items": _items(raw),
    }
    return {table: _sorted([_rounded(row) for row in found[table]]) for table in TABLES}


def _in_order(row: Row) -> tuple[Any, ...]:
    """Of one millisecond those come last that are not counted."""
    return row["ts"], float("inf") if row["seq"] is None else row["seq"], str(row["id"])


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
    first: dict[str, date] = {}
    last: dict[tuple[date, str], int] = {}
    for row in raw:
        first.setdefault(row["player"], row["day"])
        last[row["day"], row["player"]] = row["karma_total"]
    rows = [
        row
        | {
            "first_day": first[row["player"]],
            "karma_total": last[row["day"], row["player"]],
            "rank": RANK_BY_KARMA[last[row["day"], row["player"]]],
        }
        for row in _summed(raw, "day", "player")
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
    names = ("player", "mission", "playthrough")
    runs: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in raw:
        runs[row["player"], row["mission"][:LONGEST], row["playthrough"][:LONGEST]].append(row)
    of_runs, of_parts = [], []
    daily: defaultdict[tuple[date, str], Counter[str]] = defaultdict(Counter)
    for run, events in runs.items():
        name = dict(zip(names, run, strict=True))
        done = _done(events)
        begun, ended = done[0]["day"], None
        if done[-1]["action"] == "mission_complete":
            ended = done[-1]["day"]
        of_runs.append(name | {"started_on": begun, "completed_on": ended} | _run(events))
        for hour, some in groupby(events, lambda event: event["hour"]):
            part = list(some)
            of_parts.append(
                name | {"hour": hour} | _run(part) | {"ended_at": max(e["ts"] for e in part)}
            )
        for what, day in (("started", begun), ("completed", ended)):
            if day is not None:
                daily[day, run[1]][f"runs_{what}"] += 1
                daily[day, run[1]][f"players_{what}"] += run[2] == "1"
    counts = ("runs_started", "runs_completed", "players_started", "players_completed")
    return {
        "mission_parts": of_parts,
        "mission_runs": of_runs,
        "daily_missions": [
            {"day": day, "mission": mission} | {count: found[count] for count in counts}
            for (day, mission), found in daily.items()
        ],
    }


def _done(events: list[Row]) -> list[Row]:
    """Those up to the first completion, or all."""
    for number, event in enumerate(events, start=1):
        if event["action"] == "mission_complete":
            return events[:number]
    return events


def _run(events: list[Row]) -> Row:
    """What is known of a run, or of a part of one, from its events in order."""
    done = _done(events)
    is_completed = done[-1]["action"] == "mission_complete"
    actions = Counter(event["action"] for event in done)
    return {
        "started_at": done[0]["ts"],
        "completed_at": done[-1]["ts"] if is_completed else None,
        "ended_at": done[-1]["ts"],
        "events": len(done),
        "kills": actions["kill_enemy"],
        "recharges": actions["recharge"],
    }


def _choice(row: Row) -> Row:
    way = (row["karma_delta"] > 0) - (row["karma_delta"] < 0)
    side = row["side"] if row["side"] in {"good", "evil"} else (None, "good", "evil")[way]
    return {
        **{name: row[name] for name in ("hour", "player", "ts", "id")},
        **{name: row[name] and row[name][:LONGEST] for name in ("mission", "choice")},
        "side": side,
    }


def _items(raw: list[Row]) -> list[Row]:
    names = ("district", "subject", "variant")
    for row in raw:
        keys = ("district", *ABOUT[row["action"]])
        told = [row[key] if key else None for key in keys]
        row |= {name: (value or "")[:LONGEST] for name, value in zip(names, told, strict=True)}
    found: list[Row] = []
    summed = sorted(
        _summed(raw, "hour", "action", *names),
        key=lambda row: (row["hour"], row["action"], -row["events"], *(row[n] for n in names)),
    )
    for _, of_action in groupby(summed, lambda row: (row["hour"], row["action"])):
        kept_ones = list(of_action)
        for row in kept_ones[NAMED:]:
            row.update(district="(other)", subject="(other)", variant="")
        found += kept_ones
    sums: defaultdict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for row in found:
        counts = {name: row.pop(name) for name in ("events", "xp_delta", "karma_delta")}
        sums[tuple(row.items())].update(counts)
    return [dict(key) | {"karma_delta": 0, "xp_delta": 0} | counts for key, counts in sums.items()]


def _sessions(raw: list[Row]) -> Tables:
    parts: list[Row] = []
    begun: defaultdict[date, list[tuple[str, float]]] = defaultdict(list)
    for player, events in groupby(sorted(raw, key=_player), _player):
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
                        "karma_total": part[-1]["karma_total"],
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
