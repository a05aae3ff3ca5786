"""What is said of Redash: plans and drifts flow in, lines for people and JSON for scripts flow out. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from analytics.redash.drift import Drift
from analytics.redash.plan import Change, Difference, Part, Plan
from analytics.redash.source import Source

_WORDS: Final = {"sql": "SQL", "at": "place", "starts": "parameters' starts"}
_LONG: Final = 60
_BY_HAND: Final = " (changed by hand)"


def plain(line: str) -> str:
    """A line for a terminal: names in Redash may hold anything, also line ends and control characters."""
    return "".join(char if char.isprintable() else " " for char in line)


def plan_lines(plan: Plan, source: Source, *, prune: bool) -> Iterator[str]:
    """What an apply would do, a line a thing."""
    if source.options is not None:
        yield f"{'create' if source.id is None else 'change'} data source"
    for change in plan.changes:
        yield _headline(change)
        for difference in change.differences:
            yield f"    {_difference(difference)}"
        if change.act != "create":
            for part in change.parts:
                yield from _part(part)
    for one in plan.left:
        yield f"archive {one.kind:9} {one.name} [{one.key}]: another run made it as well"
    for change in plan.gone:
        what = "archive" if prune else "leave"
        why = "" if prune else ": it is in no file any more; --prune archives it"
        yield f"{what:7} {change.kind:9} {change.name} [{change.key}]{why}"


def summary(plan: Plan, source: Source, *, prune: bool) -> str:
    """How much an apply would do, in a sentence."""
    acts = [change.act for change in plan.changes]
    made = acts.count("create") + (source.options is not None and source.id is None)
    changed = (
        len(acts) - acts.count("create") + (source.options is not None and source.id is not None)
    )
    gone = len(plan.left) + (len(plan.gone) if prune else 0)
    if not made + changed + gone:
        return "Redash has all that the files say."
    return f"{made} to make, {changed} to change, {gone} to archive."


def plan_json(plan: Plan, source: Source, *, prune: bool) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "data_source": None
        if source.options is None
        else ("create" if source.id is None else "change"),
        "changes": [asdict(change) for change in plan.changes],
        "left": [asdict(one) for one in plan.left],
        "gone": [asdict(change) for change in plan.gone],
        "prune": prune,
    }


def drift_lines(drifts: Sequence[Drift], url: str) -> Iterator[str]:
    """What was changed by hand, and where."""
    last = None
    for drift in drifts:
        if (drift.kind, drift.key) != last:
            yield f"{drift.kind} {drift.name} [{drift.key}]: {url}{drift.path}"
        last = (drift.kind, drift.key)
        yield f"    {drift.what}"


def _headline(change: Change) -> str:
    also = []
    if change.act == "create" and change.parts:
        also.append(", ".join(_counts(change.parts)))
    if change.runs:
        also.append("run it")
    if change.publishes and change.act != "create":
        also.append("publish it")
    if change.marks:
        also.append("take note of it")
    act = "change" if change.act == "keep" else change.act
    more = f": {', '.join(also)}" if also else ""
    return f"{act:7} {change.kind:9} {change.name} [{change.key}]{more}"


def _counts(parts: Sequence[Part]) -> Iterator[str]:
    for kind in ("visualization", "alert", "widget"):
        count = sum(part.kind == kind for part in parts)
        if count:
            yield f"{count} {kind}{'s' if count > 1 else ''}"


def _part(part: Part) -> Iterator[str]:
    # Of a visualization it is known of the whole alone.
    is_told = any(one.by_hand for one in part.differences)
    by_hand = _BY_HAND if part.by_hand and not is_told else ""
    is_note = part.act == "change" and part.kind == "widget" and not part.differences
    yield f"    {'take note of' if is_note else part.act} {part.kind} {part.name}{by_hand}"
    for difference in part.differences:
        yield f"        {_difference(difference)}"


def _difference(difference: Difference) -> str:
    name = _WORDS.get(difference.field, difference.field)
    by_hand = _BY_HAND if difference.by_hand else ""
    before, after = _short(difference.before), _short(difference.after)
    if len(before) + len(after) > 2 * _LONG or before == after:
        return f"{name} differs{_where(difference.before, difference.after)}{by_hand}"
    return f"{name}: {before} -> {after}{by_hand}"


def _where(before: Any, after: Any) -> str:
    """Which keys of two mappings have other values."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return ""
    names = [*after, *(name for name in before if name not in after)]
    return f" in {', '.join(one for one in names if before.get(one) != after.get(one))}"


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
