"""What the real Redash answered: JSON lines flow in, pairs flow out, and what of them can be compared."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

_FOLDER: Final = Path(__file__).with_name("recordings")
_TIMES: Final = ("updated_at", "created_at", "retrieved_at", "disabled_at", "active_at")
_KEYS: Final = ("api_key", "invite_link", "public_url")
_MEASURED: Final = (
    "runtime",
    "redis_used_memory",
    "redis_used_memory_human",
    "database_metrics",
    "last_refresh_at",
    "started_at",
)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DAY: Final = re.compile(r"_\d{4}_\d\d_\d\d\.")
_MISSING: Final = re.compile(r"(Missing parameter value for: )(.*)")


@dataclass(frozen=True)
class Pair:
    """A request and its answer. `authorization` is the header's text, if there was one."""

    name: str
    method: str
    path: str
    status: int
    authorization: str | None = None
    body: Any = None
    form: dict[str, str] | None = None
    json: Any = None
    text: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


@cache
def pairs() -> dict[str, Pair]:
    """All that is kept, by name."""
    found = {}
    for file in sorted(_FOLDER.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            one = json.loads(line)
            request, answer = one["request"], one["response"]
            found[one["name"]] = Pair(
                name=one["name"],
                method=request["method"],
                path=request["path"],
                status=answer["status"],
                authorization=request.get("authorization"),
                body=request.get("json"),
                form=request.get("form"),
                json=answer.get("json"),
                text=answer.get("text"),
                headers=answer["headers"],
            )
    return found


def comparable(value: Any, name: str = "") -> Any:
    """The value without what differs from run to run: times, keys, what was measured, the day in file names.

    A null stays one, ids stay, and so does the order of keys. Redash names missing parameters in any order.
    """
    if value is not None and name in _MEASURED:
        return "measured"
    if isinstance(value, dict):
        return {key: comparable(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [comparable(one) for one in value]
    if name == "active_at":
        return "a time or null"
    if value is not None and name in _TIMES:
        return "a time" if isinstance(value, str) else value
    if value is not None and name in _KEYS:
        return "a key"
    if isinstance(value, str):
        missing = _MISSING.fullmatch(value)
        if missing:
            return missing.group(1) + ", ".join(sorted(missing.group(2).split(", ")))
        return "a uuid" if _UUID.fullmatch(value) else _DAY.sub("_day.", value)
    return value
