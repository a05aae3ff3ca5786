"""Events to test with: the parts of one flow in, wire bytes or whole chains flow out. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from pipeline.event import Event, Window, datetime_of, uuid7
from producer.simulate import population, step

# 2025-11-24 16:00:00.123 UTC
NOW_MS: Final = 1_764_000_000_123
RETENTION_DAYS: Final = 90
WINDOW: Final = Window.at(NOW_MS, RETENTION_DAYS)


def fields(ms: int = NOW_MS, number: int = 5, **changes: Any) -> dict[str, Any]:
    """What a sender writes, with some of it changed; every key of the design is there."""
    event = {
        "id": str(uuid7(ms, number)),
        "ts": datetime_of(ms).isoformat(timespec="milliseconds"),
        "player": "Zeke",
        "action": "kill_enemy",
        "xp_delta": 5,
        "karma_delta": 1,
        "karma_total": 16,
        "rank": "Guardian",
        "energy_source": None,
        "seq": 7,
        "details": {"enemy": "Reaper", "district": "Neon"},
        "v": 1,
    }
    return event | changes


def payload(ms: int = NOW_MS, number: int = 5, **changes: Any) -> bytes:
    """The same as bytes on the wire."""
    return json.dumps(fields(ms, number, **changes), ensure_ascii=False).encode()


def without(*keys: str, **changes: Any) -> bytes:
    """A sender's bytes in which some keys are missing."""
    event = fields(**changes)
    for key in keys:
        del event[key]
    return json.dumps(event).encode()


def written(**texts: str) -> bytes:
    """A sender's bytes with some values written as JSON text of the test's own."""
    event = {key: json.dumps(value) for key, value in fields().items()} | texts
    body = ",".join(f"{json.dumps(key)}:{text}" for key, text in event.items())
    return f"{{{body}}}".encode("utf-8", "surrogatepass")


def chains(events: int, *, players: int = 3, seed: int = 1, start_ms: int = NOW_MS) -> list[Event]:
    """What healthy players do one after the other, a millisecond apart: every chain unbroken."""
    cast = population(seed, players, start_ms, 0)
    return [step(cast[number % players], start_ms + number) for number in range(events)]
