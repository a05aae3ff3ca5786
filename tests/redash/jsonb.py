"""JSON as Postgres keeps it: a value flows in, the same with its keys in JSONB's order flows out. Pure."""

from __future__ import annotations

from typing import Any


def kept(value: Any) -> Any:
    """Keys by length, then by bytes; arrays and values as they are. A copy, shared with nobody."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: (len(name.encode()), name.encode()))
        return {name: kept(value[name]) for name in names}
    if isinstance(value, list):
        return [kept(one) for one in value]
    return value
