"""What the simulator planted and what came of it: a seed and a population flow in, JSON flows out.

Dashboards and notebooks are checked against this. ``planted`` repeats the parameters; ``realised``
is counted here while the same history is played again, from the players themselves: their persona,
the day they arrived, whether they have left. It is exact for the window [start, start + days).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from statistics import fmean, median
from typing import Any, Final, cast

import msgspec

from pipeline.event import ACTIONS, RANK_BY_KARMA, Event
from producer import game
from producer.simulate import (
    COLE,
    DAY_MS,
    LAST_DAY,
    MINUTE_MS,
    PLANTED,
    SECOND_MS,
    Player,
    history,
    population,
)

# Events further apart than this are in two sessions: the rule of the trade, and of our dashboards.
SESSION_GAP_MS: Final = 30 * MINUTE_MS
RETENTION_DAYS: Final = range(31)

Json = dict[str, Any]


class _Details(msgspec.Struct):
    """What is counted from an event's details."""

    mission: str
    playthrough: int
    ability: str = ""
    side: str = ""
    kills: int = 0
    recharges: int = 0


class _Tally(msgspec.Struct):
    """What is remembered while history runs by; the inner keys are players' names and missions'."""

    actions: Counter[str] = msgspec.field(default_factory=Counter)
    active_days: dict[str, set[int]] = msgspec.field(default_factory=lambda: defaultdict(set))
    last_ms: dict[str, int] = msgspec.field(default_factory=dict)
    session_start_ms: dict[str, int] = msgspec.field(default_factory=dict)
    session_lengths_s: list[float] = msgspec.field(default_factory=list)
    begun: dict[str, tuple[int, str]] = msgspec.field(default_factory=dict)
    started: Counter[str] = msgspec.field(default_factory=Counter)
    by_mission: dict[str, Counter[str]] = msgspec.field(
        default_factory=lambda: defaultdict(Counter)
    )
    xp_earned: Counter[str] = msgspec.field(default_factory=Counter)
    xp_spent: Counter[str] = msgspec.field(default_factory=Counter)
    sources: Counter[str] = msgspec.field(default_factory=Counter)
    sides: dict[str, list[str]] = msgspec.field(default_factory=lambda: defaultdict(list))


def truth(seed: int, size: int, start_ms: int, days: int) -> Json:
    """The planted and the realised, ready for JSON; the same arguments give the same answer."""
    until_ms = start_ms + days * DAY_MS
    players = population(seed, size, start_ms, days)
    tally = _Tally()
    details = msgspec.json.Decoder(_Details)
    for player, event in history(players, until_ms):
        _count(tally, player, event, details.decode(event.details))
    for name, last_ms in tally.last_ms.items():
        _end_session(tally, name, last_ms)
    return {
        "seed": seed,
        "size": size,
        "start_ms": start_ms,
        "days": days,
        "planted": _planted(),
        "realised": _realised(tally, players, start_ms, until_ms),
    }


def _count(tally: _Tally, player: Player, event: Event, details: _Details) -> None:
    name, mission, ts_ms = player.name, details.mission, event.ts_ms
    tally.actions[event.action] += 1
    tally.active_days[name].add((ts_ms - player.day0_ms) // DAY_MS)
    _count_session(tally, name, ts_ms)
    if tally.begun.get(name) != (details.playthrough, mission):
        tally.begun[name] = (details.playthrough, mission)
        tally.started[mission] += 1
    tally.by_mission[mission][event.action] += 1
    if event.action == "mission_complete":
        tally.by_mission[mission]["won_kills"] += details.kills
        tally.by_mission[mission]["won_recharges"] += details.recharges
    if event.xp_delta > 0:
        tally.xp_earned[event.action] += event.xp_delta
    if event.action == "ability_upgrade":
        tally.xp_spent[details.ability] -= event.xp_delta
    if event.energy_source is not None:
        tally.sources[event.energy_source] += 1
    if event.action == "moral_choice":
        tally.sides[name].append(details.side)


def _count_session(tally: _Tally, name: str, ts_ms: int) -> None:
    last_ms = tally.last_ms.get(name)
    if last_ms is None:
        tally.session_start_ms[name] = ts_ms
    elif ts_ms - last_ms > SESSION_GAP_MS:
        _end_session(tally, name, last_ms)
        tally.session_start_ms[name] = ts_ms
    tally.last_ms[name] = ts_ms


def _end_session(tally: _Tally, name: str, last_ms: int) -> None:
    tally.session_lengths_s.append((last_ms - tally.session_start_ms[name]) / SECOND_MS)


def _planted() -> Json:
    planted = cast("Json", msgspec.json.decode(msgspec.json.encode(PLANTED)))
    planted["last_day"] = LAST_DAY
    planted["retention"] = {
        name: [round(character.active_on(day), 6) for day in RETENTION_DAYS]
        for name, character in PLANTED.personas.items()
    }
    planted["plays_every_day"] = [COLE]  # counted as wavering, and expected with certainty
    return planted


def _realised(tally: _Tally, players: list[Player], start_ms: int, until_ms: int) -> Json:
    lengths_s = tally.session_lengths_s
    return {
        "events": sum(tally.actions.values()),
        "events_by_action": {action: tally.actions[action] for action in ACTIONS},
        "players": _players(players),
        "arrivals_by_day": _arrivals(players, start_ms, until_ms),
        "active_players_by_day": _active_by_day(tally, players, start_ms, until_ms),
        "retention": {
            "all": _retention(tally, players, until_ms),
            **{
                persona: _retention(tally, [p for p in players if p.persona == persona], until_ms)
                for persona in PLANTED.personas
            },
        },
        "sessions": {
            "count": len(lengths_s),
            "mean_length_s": round(fmean(lengths_s), 3) if lengths_s else None,
            "median_length_s": round(median(lengths_s), 3) if lengths_s else None,
        },
        "missions": [_mission(tally, mission) for mission in game.MISSIONS],
        "left_at_spike": sorted(p.name for p in players if p.gave_up),
        "xp": {
            "earned_by_action": dict(sorted(tally.xp_earned.items())),
            "spent_by_ability": dict(sorted(tally.xp_spent.items())),
            "balance": sum(p.xp for p in players),
        },
        "recharges_by_source": dict(sorted(tally.sources.items())),
        "karma": {persona: _karma(players, persona) for persona in PLANTED.personas},
        "choices": {persona: _choices(tally, players, persona) for persona in PLANTED.personas},
    }


def _players(players: list[Player]) -> Json:
    counts = Counter(p.persona for p in players)
    return {
        "total": len(players),
        "by_persona": {persona: counts[persona] for persona in PLANTED.personas},
        "persona_of": {p.name: p.persona for p in players},
    }


def _window_days(start_ms: int, until_ms: int) -> range:
    """The UTC days that the window touches."""
    return range(start_ms // DAY_MS, -(-until_ms // DAY_MS))


def _arrivals(players: list[Player], start_ms: int, until_ms: int) -> list[int]:
    counts = Counter(p.day0_ms // DAY_MS for p in players)
    return [counts[day] for day in _window_days(start_ms, until_ms)]


def _active_by_day(tally: _Tally, players: list[Player], start_ms: int, until_ms: int) -> list[int]:
    counts: Counter[int] = Counter()
    for player in players:
        counts.update(player.day0_ms // DAY_MS + day for day in tally.active_days[player.name])
    return [counts[day] for day in _window_days(start_ms, until_ms)]


def _retention(tally: _Tally, players: list[Player], until_ms: int) -> list[Json]:
    """Classic retention: a player counts as active on a day if it did anything on exactly that day.

    Eligible are those whose whole day lies in the window. ``planted`` is the number of them expected
    by the curves alone; ``expected`` leaves out those who had by then left at the spike.
    """
    rows: list[Json] = []
    for day in RETENTION_DAYS:
        eligible = [p for p in players if p.day0_ms + (day + 1) * DAY_MS <= until_ms]
        stayed = [p for p in eligible if not p.gave_up or max(tally.active_days[p.name]) >= day]
        rows.append(
            {
                "day": day,
                "eligible": len(eligible),
                "active": sum(day in tally.active_days[p.name] for p in eligible),
                "planted": round(sum(_chance(p, day) for p in eligible), 3),
                "expected": round(sum(_chance(p, day) for p in stayed), 3),
            }
        )
    return rows


def _chance(player: Player, day: int) -> float:
    return 1.0 if player.daily else PLANTED.personas[player.persona].active_on(day)


def _mission(tally: _Tally, mission: game.Mission) -> Json:
    """``kills`` and ``recharges`` count all tries, the means only those missions that were completed."""
    counts = tally.by_mission[mission.name]
    completed = counts["mission_complete"]
    return {
        "mission": mission.name,
        "district": mission.district,
        "kind": mission.kind,
        "spike": mission.name == PLANTED.spike,
        "started": tally.started[mission.name],
        "completed": completed,
        "kills": counts["kill_enemy"],
        "recharges": counts["recharge"],
        "kills_per_completion": round(counts["won_kills"] / completed, 3) if completed else None,
        "recharges_per_completion": (
            round(counts["won_recharges"] / completed, 3) if completed else None
        ),
    }


def _karma(players: list[Player], persona: str) -> Json:
    karma = [p.karma for p in players if p.persona == persona and p.seq]
    ranks = Counter(RANK_BY_KARMA[k] for k in karma)
    return {
        "mean": round(fmean(karma), 3) if karma else None,
        "players_by_rank": {rank: ranks[rank] for rank in dict.fromkeys(RANK_BY_KARMA.values())},
    }


def _choices(tally: _Tally, players: list[Player], persona: str) -> Json:
    """A switch is a moral choice to the other side than that player's choice before."""
    sides = [tally.sides[p.name] for p in players if p.persona == persona]
    return {
        "good": sum(line.count("good") for line in sides),
        "evil": sum(line.count("evil") for line in sides),
        "switches": sum(a != b for line in sides for a, b in pairwise(line)),
    }
