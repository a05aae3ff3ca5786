"""What is ours in a Redash: its API flows in, what carries our marks flows out, by key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from analytics.redash import controls, mark, shape, wire
from analytics.redash.client import Redash, RedashError
from analytics.redash.mark import Mark
from analytics.redash.model import Dashboard, Kind, Query, Widget
from analytics.redash.wire import Object

# A dashboard is made with nothing but a name; until it has its mark, this name says whose it is.
UNBORN: Final = "infamous: {key} is being made"
_PATHS: Final[dict[Kind, str]] = {"query": "queries", "dashboard": "dashboards"}
# Of a visualization or an alert.
_COMPARED: Final = ("type", "description", "options", "rearm")


@dataclass(frozen=True)
class FoundQuery:
    """A query of ours, as it is."""

    id: int
    value: Query
    mark: Mark
    is_draft: bool
    source_id: int | None
    visualization_ids: dict[str, int]
    alert_ids: dict[str, int]
    # Names of those that two applies at once made both: each is there under its own name as well.
    doubles: frozenset[str] = frozenset()


@dataclass(frozen=True)
class FoundDashboard:
    """A dashboard of ours, as it is: its widgets by the keys we gave them, others' in ``strangers``."""

    id: int
    raw: Object
    mark: Mark
    is_draft: bool
    version: int
    widgets: dict[str, Object]
    strangers: tuple[Object, ...]

    def value(self, queries: Mapping[int, Query]) -> Dashboard:
        """What it is, with queries by their ids in Redash."""
        known = wire.dashboard_of(self.mark.key, self.raw, queries)
        return controls.plain_starts(known, {one.key: one for one in queries.values()})

    def widget(self, key: str, queries: Mapping[int, Query]) -> Widget:
        """One of its widgets."""
        return msgspec.structs.replace(wire.widget_of(self.widgets[key], queries), key=key)


@dataclass(frozen=True)
class Left:
    """A query or a dashboard that a run began and another one had already: nothing shows it."""

    kind: Kind
    key: str
    id: int
    name: str


@dataclass(frozen=True)
class Found:
    """All of ours, by key."""

    queries: dict[str, FoundQuery]
    dashboards: dict[str, FoundDashboard]
    left: tuple[Left, ...] = ()


def read(redash: Redash, keys: Iterable[str] = ()) -> Found:
    """All that is ours; ``keys`` are those of dashboards that may be half made, because a run was broken off.

    Raises RedashError, also where two objects go by one key: which of them is meant, nobody knows.
    """
    rows, left = begun(redash, "query")
    alerts: defaultdict[int, list[Object]] = defaultdict(list)
    if rows:
        for alert in redash.get("/api/alerts", list[shape.Alert]):
            alerts[alert["query"].get("id")].append(alert)
    key_of = {row["id"]: key for key, row in rows.items()}
    queries = {
        key: _query(
            key, redash.get(f"/api/queries/{row['id']}", shape.Query), alerts[row["id"]], key_of
        )
        for key, row in rows.items()
    }
    pages, more = begun(redash, "dashboard", keys)
    dashboards = {key: dashboard(redash, key, row["id"]) for key, row in pages.items()}
    return Found(queries, dashboards, (*more, *left))


def dashboard(redash: Redash, key: str, id_: int) -> FoundDashboard:
    """A dashboard of ours as it is now."""
    raw = redash.get(f"/api/dashboards/{id_}", shape.Dashboard)
    known = mark.of(raw.get("options")) or Mark(key)
    widgets: dict[str, Object] = {}
    strangers: list[Object] = []
    for one in sorted(raw["widgets"], key=lambda one: int(one["id"])):
        ours = mark.of(one.get("options"))
        if ours is None:
            strangers.append(one)
        else:
            # Two applies at once made it twice: the younger goes, as what no file has.
            twice = f"{ours.key} once more, {one['id']}"
            widgets[twice if ours.key in widgets else ours.key] = one
    return FoundDashboard(
        id_, raw, known, raw["is_draft"], raw["version"], widgets, tuple(strangers)
    )


def begun(
    redash: Redash, kind: Kind, keys: Iterable[str] = ()
) -> tuple[dict[str, Object], list[Left]]:
    """Ours as they are listed, by key, and what is left over where two applies began the same at once.

    Of several, that which was completed is ours, or else the oldest: every apply that looks sees it so.
    ``keys`` are those of dashboards that may be half made. RedashError where two were completed.
    """
    path = _PATHS[kind]
    names = {UNBORN.format(key=key): key for key in keys}
    by_key: defaultdict[str, dict[int, Object]] = defaultdict(dict)
    for row in redash.all(f"/api/{path}"):
        ours = mark.own(row)
        key = ours.key if ours else names.get(row["name"])
        if key is not None:
            by_key[key][row["id"]] = row
    found: dict[str, Object] = {}
    left: list[Left] = []
    for key, rows in by_key.items():
        done = [id_ for id_, row in rows.items() if (ours := mark.own(row)) and ours.fields]
        if len(done) > 1:
            raise RedashError(
                f"Redash has two {path} with the key {key}: {redash.url}/{path}/{done[0]} and"
                f" {redash.url}/{path}/{done[1]}: archive the {kind} that is not wanted"
            )
        chosen = done[0] if done else min(rows)
        found[key] = rows.pop(chosen)
        left += [Left(kind, key, id_, row["name"]) for id_, row in rows.items()]
    return found, left


def _query(key: str, raw: Object, alerts: list[Object], key_of: Mapping[int, str]) -> FoundQuery:
    shown, drawn = _doubles(raw["visualizations"])
    told, rung = _doubles(alerts)
    return FoundQuery(
        id=raw["id"],
        value=wire.query_of(key, {**raw, "visualizations": shown}, told, key_of),
        mark=mark.of(raw.get("options")) or Mark(key),
        is_draft=raw["is_draft"],
        source_id=raw.get("data_source_id"),
        visualization_ids={one["name"]: one["id"] for one in shown},
        alert_ids={one["name"]: one["id"] for one in told},
        doubles=drawn | rung,
    )


def _doubles(objects: Iterable[Object]) -> tuple[list[Object], frozenset[str]]:
    """Each under a name of its own, the oldest under the one that it has; and which are equal to an older."""
    seen: dict[str, Object] = {}
    found: list[Object] = []
    equal: set[str] = set()
    for one in sorted(objects, key=lambda one: int(one["id"])):
        name = one["name"]
        if name in seen:
            one = {**one, "name": f"{name} once more, {one['id']}"}  # noqa: PLW2901
            if all(one.get(field) == seen[name].get(field) for field in _COMPARED):
                equal.add(one["name"])
        else:
            seen[name] = one
        found.append(one)
    return found, frozenset(equal)
