"""Lists: records flow in, a page of them or the refusal of a bad page number flows out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from tests.redash.answer import Answer, not_found, refused, shown
from tests.redash.call import Call
from tests.redash.state import Dashboard, Query, Record

R = TypeVar("R", bound=Record)
T = TypeVar("T", Query, Dashboard)

_LONGEST = 250


def paged(call: Call, records: list[R], shape: Callable[[R], Any]) -> Answer:
    """One page, as `page` and `page_size` ask for it."""
    number = _number(call.param("page"), 1)
    size = _number(call.param("page_size"), 25)
    if not 1 <= size <= _LONGEST:
        raise refused(400, f"Page size is out of range (1-{_LONGEST}).")
    if number < 1 or (records and (number - 1) * size >= len(records)):
        raise refused(400, "Page is out of range.")
    if not records and number > 1:
        raise not_found()
    start = (number - 1) * size
    return shown(
        {
            "count": len(records),
            "page": number,
            "page_size": size,
            "results": [shape(one) for one in records[start : start + size]],
        }
    )


def _number(text: str, default: int) -> int:
    """What is no number is as if it were not there."""
    return int(text) if text.lstrip("-").isdigit() else default


def ordered(call: Call, records: Iterable[T]) -> list[T]:
    """By `order`; newest first without one, but a search keeps the order of ids."""
    asked = call.param("order")
    keys: dict[str, Callable[[T], Any]] = {
        "name": lambda one: one.name,
        "created_at": lambda one: one.id,
    }
    key = keys.get(asked.lstrip("-"))
    if key:
        return sorted(records, key=key, reverse=asked.startswith("-"))
    return sorted(records, key=lambda one: one.id, reverse=not call.param("q"))


def tagged(call: Call, records: Iterable[T]) -> list[T]:
    """Those that have every tag asked for."""
    wanted = set(call.params.get("tags", []))
    return [one for one in records if wanted <= set(one.tags)]


def tag_counts(records: Iterable[T]) -> Answer:
    """How often each tag occurs, the commonest first."""
    counts = Counter(tag for one in records for tag in one.tags)
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return shown({"tags": [{"name": name, "count": count} for name, count in ranked]})
