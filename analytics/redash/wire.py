"""Redash's JSON flows in, queries and dashboards flow out; and back. Pure.

What Redash adds by itself, or keeps from older days, is no difference: it is left out on the way in.
"""

from __future__ import annotations

from collections.abc import Mapping as Map
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from analytics.redash import mark
from analytics.redash.dashboard_file import keyed
from analytics.redash.model import (
    FIXED,
    OWN,
    SHARED,
    Alert,
    Dashboard,
    Json,
    Mapping,
    Options,
    Parameter,
    Position,
    Query,
    Schedule,
    Visualization,
    Widget,
)

Object = dict[str, Any]

_QUOTED: Final = {"prefix": "'", "suffix": "'", "separator": ","}
_OF_PARAMETER: Final = {
    "name", "title", "type", "value", "enumOptions", "multiValuesOptions", "queryId",
    "global", "locals", "parentQueryId",  # of older days: nothing is made of them
}  # fmt: skip
_OF_POSITION: Final = {
    "col", "row", "sizeX", "sizeY", "autoHeight", "minSizeX", "maxSizeX", "minSizeY", "maxSizeY",
}  # fmt: skip
_OF_ALERT: Final = {"column", "op", "value", "selector", "muted"}


# --- queries


def query_of(key: str, found: Object, alerts: Sequence[Object], key_of: Map[int, str]) -> Query:
    """A query as GET /api/queries/<id> gives it, with its alerts; ``key_of`` names the queries by id."""
    options = mark.without(found.get("options"))
    if not options.get("apply_auto_limit"):
        options.pop("apply_auto_limit", None)  # written whenever somebody saves a query
    return Query(
        key=key,
        name=found["name"],
        sql=found["query"].replace("\r\n", "\n").strip(),
        description=(found.get("description") or "").strip(),
        tags=frozenset(found.get("tags") or ()),
        schedule=_schedule_of(found.get("schedule")),
        parameters=tuple(
            _parameter_of(one, key_of) for one in options.pop("parameters", None) or ()
        ),
        # Redash lists them in no order.
        visualizations=tuple(
            visualization_of(one)
            for one in sorted(found.get("visualizations") or (), key=lambda one: int(one["id"]))
        ),
        alerts=tuple(map(alert_of, alerts)),
        options=options,
    )


def query_fields(query: Query, id_of: Map[str, int]) -> Object:
    """What is POSTed of a query's own fields; ``options`` still lack the mark."""
    schedule = query.schedule
    return {
        "name": query.name,
        "query": query.sql,
        "description": query.description,
        "tags": sorted(query.tags),
        "schedule": None
        if schedule is None
        # Redash disables one that lacks a key.
        else {
            "interval": schedule.every_s,
            "time": schedule.at,
            "day_of_week": schedule.on,
            "until": schedule.until,
        },
        "options": {
            **query.options,
            "parameters": [_parameter_body(one, id_of) for one in query.parameters],
        },
    }


def _schedule_of(found: Json) -> Schedule | None:
    if not isinstance(found, dict) or found.get("disabled"):
        return None
    try:
        every_s = int(found.get("interval") or 0)
    except (TypeError, ValueError):
        return None
    if every_s < 1:
        return None
    return Schedule(
        every_s,
        found.get("time") or None,
        found.get("day_of_week") or None,
        found.get("until") or None,
    )


def _parameter_of(found: Object, key_of: Map[int, str]) -> Parameter:
    source, type_ = found.get("queryId"), found.get("type") or "text"
    several = found.get("multiValuesOptions")
    options: Options = {key: value for key, value in found.items() if key not in _OF_PARAMETER}
    if several and several != _QUOTED:
        options["multiValuesOptions"] = several
    return Parameter(
        name=found["name"],
        title=found.get("title") or "",
        type=type_,
        default=found.get("value"),
        values=tuple((found.get("enumOptions") or "").split("\n")) if type_ == "enum" else (),
        source=None if source is None else key_of.get(source, f"query_{source}"),
        multiple=several == _QUOTED,
        options=options,
    )


def _parameter_body(parameter: Parameter, id_of: Map[str, int]) -> Object:
    body = {
        "name": parameter.name,
        "title": parameter.title,
        "type": parameter.type,
        "value": parameter.default,
        **parameter.options,
    }
    if parameter.type == "enum":
        body["enumOptions"] = "\n".join(parameter.values)
    if parameter.source is not None:
        body["queryId"] = id_of[parameter.source]
    if parameter.multiple:
        body["multiValuesOptions"] = _QUOTED
    return body


# --- visualizations and alerts


def visualization_of(found: Object) -> Visualization:
    """A visualization as it comes with its query."""
    return Visualization(
        found["name"], found["type"], found.get("description") or "", found.get("options") or {}
    )


def visualization_fields(visualization: Visualization) -> Object:
    """What is POSTed of it."""
    return {
        "name": visualization.name,
        "type": visualization.type,
        "description": visualization.description,
        "options": visualization.options,
    }


def alert_of(found: Object) -> Alert:
    """An alert as GET /api/alerts gives it."""
    options = found.get("options") or {}
    return Alert(
        name=found["name"],
        column=str(options.get("column", "")),
        op=str(options.get("op", "")),
        value=_bound(options.get("value")),
        selector=options.get("selector") or "first",
        rearm_s=found.get("rearm") or None,
        muted=bool(options.get("muted")),
        options={key: value for key, value in options.items() if key not in _OF_ALERT},
    )


def _bound(value: Json) -> float | str:
    """A number, also one that Redash keeps as a word, as it does what is typed; or a word."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def alert_fields(alert: Alert) -> Object:
    """What is POSTed of it, but for the query's id."""
    return {
        "name": alert.name,
        "rearm": alert.rearm_s,
        "options": {
            "column": alert.column,
            "op": alert.op,
            "value": alert.value,
            "selector": alert.selector,
            "muted": alert.muted,
            **alert.options,
        },
    }


# --- dashboards


def dashboard_of(key: str, found: Object, queries: Map[int, Query]) -> Dashboard:
    """A dashboard as GET /api/dashboards/<id> gives it, its widgets keyed by what they show."""
    options = mark.without(found.get("options"))
    order = options.pop("globalParamOrder", None) or []
    starts = {one["name"]: one.get("value") for one in options.pop("parameters", None) or ()}
    return Dashboard(
        key=key,
        name=found["name"],
        tags=frozenset(found.get("tags") or ()),
        parameters=(*order, *(name for name in starts if name not in order)),
        starts={name: value for name, value in starts.items() if value is not None},
        filters=bool(found.get("dashboard_filters_enabled")),
        widgets=keyed(widget_of(one, queries) for one in found["widgets"]),
        options=options,
    )


def dashboard_fields(dashboard: Dashboard) -> Object:
    """What is POSTed of a dashboard's own fields; ``options`` still lack the mark."""
    return {
        "name": dashboard.name,
        "tags": sorted(dashboard.tags),
        "dashboard_filters_enabled": dashboard.filters,
        "options": {
            **dashboard.options,
            "globalParamOrder": [*dashboard.parameters],
            "parameters": [
                {"name": name, "value": value} for name, value in dashboard.starts.items()
            ],
        },
    }


def widget_of(found: Object, queries: Map[int, Query]) -> Widget:
    """A widget as it comes with its dashboard, without a key; of a query that is not among ``queries`` it
    shows nothing that a file could name.
    """
    options = mark.without(found.get("options"))
    place = options.pop("position", None) or {}
    stored = options.pop("parameterMappings", None) or {}
    if not options.get("isHidden"):
        options.pop("isHidden", None)
    more = {key: value for key, value in place.items() if key not in _OF_POSITION}
    if place.get("autoHeight"):
        more["autoHeight"] = True
    if more:
        options["position"] = more
    at = Position(
        place.get("col") or 0,
        place.get("row") or 0,
        place.get("sizeX") or 3,
        place.get("sizeY") or 3,
    )
    shown = found.get("visualization")
    if shown is None:
        return Widget("", at, text=(found.get("text") or "").strip(), options=options)
    query = queries.get(shown["query"]["id"])
    return Widget(
        key="",
        at=at,
        query=query.key if query else f"query_{shown['query']['id']}",
        visualization=shown["name"],
        mappings=_mappings_of(stored, query) if query else {},
        options=options,
    )


def widget_fields(widget: Widget, queries: Map[str, Query]) -> Object:
    """What is POSTed of a widget, but for ids; ``options`` still lack the mark."""
    query = queries[widget.query] if widget.query is not None else None
    names = [parameter.name for parameter in query.parameters] if query else []
    options = dict(widget.options)
    place = {
        "autoHeight": False,
        **options.pop("position", {}),
        "col": widget.at.column,
        "row": widget.at.row,
        "sizeX": widget.at.width,
        "sizeY": widget.at.height,
    }
    return {
        "text": widget.text,
        "options": {
            "isHidden": False,
            **options,
            "position": place,
            "parameterMappings": {
                name: _mapping_body(name, widget.mappings.get(name)) for name in names
            },
        },
    }


def _mappings_of(stored: Object, query: Query) -> dict[str, Mapping]:
    """Where the parameters' values come from, as far as it is not from the page's of the same name."""
    found: dict[str, Mapping] = {}
    for parameter in query.parameters:
        one = stored.get(parameter.name)
        # Without a word of it, Redash gives the widget a control of its own.
        mapping = (
            Mapping(OWN, parameter.name)
            if one is None
            else Mapping(
                one["type"],
                (one.get("mapTo") or "")
                if one["type"] == SHARED
                else parameter.name
                if one["type"] == OWN
                else "",
                one.get("value") if one["type"] == FIXED else None,
                one.get("title") or "",
            )
        )
        if mapping != Mapping(SHARED, parameter.name):
            found[parameter.name] = mapping
    return found


def _mapping_body(name: str, mapping: Mapping | None) -> Object:
    mapping = mapping or Mapping(SHARED, name)
    return {
        "name": name,
        "type": mapping.type,
        "mapTo": mapping.to,
        "value": mapping.value,
        "title": mapping.title,
    }


# --- what is compared


def fields(value: Query | Dashboard | Widget | Visualization | Alert) -> dict[str, Json]:
    """An object's fields by name, but for its key and for what belongs to it under names of its own."""
    apart = {"key", "visualizations", "alerts", "columns", "widgets"}
    return {
        name: msgspec.to_builtins(getattr(value, name), order="deterministic")
        for name in value.__struct_fields__
        if name not in apart
    }
