"""What is ours in a Redash: its API flows in, what carries our marks flows out, by key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from analytics.redash import mark, wire
from analytics.redash.client import Redash, RedashError
from analytics.redash.mark import Mark
from analytics.redash.model import Dashboard, Query, Widget
from analytics.redash.wire import Object

# A dashboard is made with nothing but a name; until it has its mark, this name says whose it is.
UNBORN: Final = "infamous: {key} is being made"


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
        """What it is but for its widgets, with queries by their ids in Redash."""
        return wire.dashboard_of(self.mark.key, {**self.raw, "widgets": []}, queries)

    def widget(self, key: str, queries: Mapping[int, Query]) -> Widget:
        """One of its widgets."""
        return msgspec.structs.replace(wire.widget_of(self.widgets[key], queries), key=key)


@dataclass(frozen=True)
class Found:
    """All of ours, by key."""

    queries: dict[str, FoundQuery]
    dashboards: dict[str, FoundDashboard]


def read(redash: Redash, keys: Iterable[str] = ()) -> Found:
    """All that is ours; ``keys`` are those of dashboards that may be half made, because a run was broken off.

    Raises RedashError, also where two objects go by one key: which of them is meant, nobody knows.
    """
    rows = _marked("query", redash.all("/api/queries"), redash.url)
    alerts: defaultdict[int, list[Object]] = defaultdict(list)
    if rows:
        for alert in redash.get("/api/alerts"):
            alerts[alert["query"]["id"]].append(alert)
    key_of = {row["id"]: key for key, row in rows.items()}
    queries = {
        key: _query(key, redash.get(f"/api/queries/{row['id']}"), alerts[row["id"]], key_of)
        for key, row in rows.items()
    }
    names = {UNBORN.format(key=key): key for key in keys}
    pages = _marked("dashboard", redash.all("/api/dashboards"), redash.url, names)
    dashboards = {key: dashboard(redash, key, row["id"]) for key, row in pages.items()}
    return Found(queries, dashboards)


def dashboard(redash: Redash, key: str, id_: int) -> FoundDashboard:
    """A dashboard of ours as it is now."""
    raw = redash.get(f"/api/dashboards/{id_}")
    known = mark.of(raw["options"]) or Mark(key)
    widgets: dict[str, Object] = {}
    strangers: list[Object] = []
    for one in raw["widgets"]:
        ours = mark.of(one.get("options"))
        if ours is None:
            strangers.append(one)
        elif ours.key in widgets:
            raise RedashError(
                f"two widgets of {redash.url}/dashboards/{id_} have the key {ours.key}: remove one of them"
            )
        else:
            widgets[ours.key] = one
    return FoundDashboard(
        id_, raw, known, raw["is_draft"], raw["version"], widgets, tuple(strangers)
    )


def _query(key: str, raw: Object, alerts: list[Object], key_of: Mapping[int, str]) -> FoundQuery:
    return FoundQuery(
        id=raw["id"],
        value=wire.query_of(key, raw, alerts, key_of),
        mark=mark.of(raw["options"]) or Mark(key),
        is_draft=raw["is_draft"],
        source_id=raw["data_source_id"],
        visualization_ids={one["name"]: one["id"] for one in raw["visualizations"]},
        alert_ids={one["name"]: one["id"] for one in alerts},
    )


def _marked(
    kind: Literal["query", "dashboard"],
    rows: Iterable[Object],
    url: str,
    names: Mapping[str, str] | None = None,
) -> dict[str, Object]:
    """Those of a list that carry a mark, by their keys, and those with one of the names, by its key."""
    path = {"query": "queries", "dashboard": "dashboards"}[kind]
    found: dict[str, Object] = {}
    for row in rows:
        ours = mark.of(row["options"])
        key = ours.key if ours else (names or {}).get(row["name"])
        if key is None:
            continue
        if key in found:
            raise RedashError(
                f"Redash has two {path} with the key {key}: {url}/{path}/{found[key]['id']} and"
                f" {url}/{path}/{row['id']}; a copy made there has the key of its original: archive the"
                f" {kind} that is not wanted"
            )
        found[key] = row
    return found
