"""Export: dashboards and queries that exist in a Redash flow in, a Spec flows out, whoever made them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import msgspec

from analytics.redash import controls, dashboard_file, found, mark, shape, wire
from analytics.redash.client import Redash, RedashError, Refused
from analytics.redash.model import TAG, Kind, Spec
from analytics.redash.wire import Object

_MAX_KEY: Final = 60
_NONE: Final[Mapping[tuple[Kind, str], str]] = MappingProxyType({})


@dataclass
class _Taken:
    """What is to be written: Redash's JSON by id, and the keys it goes by."""

    queries: dict[int, Object] = field(default_factory=dict)
    dashboards: dict[int, Object] = field(default_factory=dict)
    keys: dict[tuple[Kind, int], str] = field(default_factory=dict)
    # The numbers of all that is ours, and the names that files have, by kind and key.
    ours: dict[tuple[Kind, str], int] = field(default_factory=dict)
    names: Mapping[tuple[Kind, str], str] = field(default_factory=dict)
    # Names of visualizations by id, which no two of a query share.
    shown: dict[int, str] = field(default_factory=dict)


def export(
    redash: Redash, dashboards: Iterable[int] = (), names: Mapping[tuple[Kind, str], str] = _NONE
) -> Spec:
    """Dashboards of these ids with the queries that they show, or, without ids, all that is ours.

    Widgets that were added to ours by hand are taken as well. What has no key gets one from its name, and
    none that is another's: of ours, or of a file of those ``names``, by kind and key, with another name.
    Raises RedashError.
    """
    ids = list(dashboards)
    taken = _Taken(names=names)
    for kind in ("dashboard", "query"):
        rows, _ = found.begun(redash, kind)
        taken.ours |= {(kind, key): row["id"] for key, row in rows.items()}
    if not ids:
        ids = [id_ for (kind, _), id_ in taken.ours.items() if kind == "dashboard"]
        for (kind, _), id_ in taken.ours.items():
            if kind == "query":
                _take_query(redash, taken, id_)
    for id_ in ids:
        raw = _get(redash, "dashboard", id_)
        taken.dashboards[id_] = raw
        for widget in raw["widgets"]:
            if widget.get("visualization"):
                _take_query(redash, taken, widget["visualization"]["query"]["id"])
                one = widget["visualization"]
                one["name"] = taken.shown.get(one["id"], one["name"])
    _name(taken, "query", taken.queries)
    _name(taken, "dashboard", taken.dashboards)
    return _spec(redash, taken)


def _get(redash: Redash, kind: Kind, id_: int) -> Object:
    path, like = {
        "query": ("queries", shape.Query),
        "dashboard": ("dashboards", shape.Dashboard),
    }[kind]
    try:
        raw: Object = redash.get(f"/api/{path}/{id_}", like)
    except Refused as refused:
        if refused.status == 404:
            raise RedashError(f"Redash has no {kind} {id_}: the number is in its address") from None
        raise
    return raw


def _take_query(redash: Redash, taken: _Taken, id_: int) -> None:
    """A query, and those whose answers are lists for its parameters."""
    if id_ in taken.queries:
        return
    taken.queries[id_] = raw = _get(redash, "query", id_)
    _rename(raw["visualizations"])
    taken.shown |= {one["id"]: one["name"] for one in raw["visualizations"]}
    for parameter in mark.without(raw.get("options")).get("parameters") or ():
        if parameter.get("queryId") is not None:
            _take_query(redash, taken, parameter["queryId"])


def _rename(objects: list[Object]) -> None:
    """Redash allows several of one name; a file does not."""
    used: set[str] = set()
    for one in sorted(objects, key=lambda one: int(one["id"])):
        name, number = one["name"], 2
        while one["name"] in used:
            one["name"], number = f"{name} {number}", number + 1
        used.add(one["name"])


def _name(taken: _Taken, kind: Kind, exported: dict[int, Object]) -> None:
    """A key for each: its own, or else one made of its name that is nobody else's."""
    own = {id_: key for (of, key), id_ in taken.ours.items() if of == kind}
    used = set(own.values())
    for id_, raw in sorted(exported.items()):
        if id_ in own:
            taken.keys[kind, id_] = own[id_]
            continue
        stem = re.sub(r"[^a-z0-9]+", "_", raw["name"].lower()).strip("_")[:_MAX_KEY] or kind
        key, number = stem, 2
        while key in used or taken.names.get((kind, key), raw["name"]) != raw["name"]:
            key, number = f"{stem}_{number}", number + 1
        taken.keys[kind, id_] = key
        used.add(key)


def _spec(redash: Redash, taken: _Taken) -> Spec:
    alerts: defaultdict[int, list[Object]] = defaultdict(list)
    for alert in redash.get("/api/alerts", list[shape.Alert]):
        alerts[alert["query"].get("id")].append(alert)
    for some in alerts.values():
        _rename(some)
    key_of = {id_: taken.keys["query", id_] for id_ in taken.queries}
    queries = {
        id_: wire.query_of(key_of[id_], raw, alerts[id_], key_of)
        for id_, raw in taken.queries.items()
    }
    by_key = {one.key: one for one in queries.values()}
    dashboards = []
    for id_, raw in taken.dashboards.items():
        page = wire.dashboard_of(taken.keys["dashboard", id_], raw, queries)
        page = msgspec.structs.replace(page, widgets=dashboard_file.apart(page.widgets))
        dashboards.append(controls.plain_starts(controls.heard(page, by_key), by_key))
    return Spec(
        {one.key: msgspec.structs.replace(one, tags=one.tags | {TAG}) for one in queries.values()},
        {one.key: msgspec.structs.replace(one, tags=one.tags | {TAG}) for one in dashboards},
    )
