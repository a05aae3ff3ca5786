"""A dashboard's file: YAML flows in, a Dashboard flows out; and back. Its queries are not known here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import combinations
from typing import Any, Final

import msgspec

from analytics.redash import marked
from analytics.redash.marked import Marked
from analytics.redash.model import (
    FIXED,
    OWN,
    SHARED,
    TAG,
    Dashboard,
    Json,
    Mapping,
    Options,
    Position,
    Widget,
)

COLUMNS: Final = 12
_MAX_NAME: Final = 100


class _Page(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    widgets: Json
    tags: list[str] = []
    parameters: dict[str, Json] = {}
    filters: bool = False
    options: Options = {}


class _Widget(msgspec.Struct, forbid_unknown_fields=True):
    at: tuple[int, int, int, int]
    text: str | None = None
    query: str | None = None
    show: str | None = None
    parameters: Json = None
    options: Options = {}


class _Mapping(msgspec.Struct, forbid_unknown_fields=True):
    shared: str | None = None
    fixed: Json = None
    own: bool = False
    title: str = ""


# --- reading


def read(key: str, text: str, file: str) -> Dashboard:
    """The dashboard of a file, which is named in errors. Raises Malformed."""
    page = Marked.read(text.replace("\r\n", "\n"), file)
    parts = dict(page.items())
    said = page.as_a(_Page)
    if not 0 < len(said.name) <= _MAX_NAME:
        raise page.wrong(f"a name has 1 to {_MAX_NAME} characters", "name")
    places = [(of, _widget(of)) for of in parts["widgets"].elements()]
    for (_, one), (of, other) in combinations(places, 2):
        if one.at.overlaps(other.at):
            raise of.wrong(f"it lies over the widget at {[*msgspec.structs.astuple(one.at)]}", "at")
    return Dashboard(
        key=key,
        name=said.name,
        tags=frozenset({TAG, *said.tags}),
        parameters=tuple(said.parameters),
        starts={name: value for name, value in said.parameters.items() if value is not None},
        filters=said.filters,
        widgets=keyed(widget for _, widget in places),
        options=said.options,
    )


def _widget(of: Marked) -> Widget:
    said = of.as_a(_Widget)
    column, row, width, height = said.at
    if min(column, row) < 0 or min(width, height) < 1 or column + width > COLUMNS:
        raise of.wrong(
            f"`at` is [column, row, width, height], within {COLUMNS} columns counted from 0", "at"
        )
    if (said.text is None) == (said.query is None) or (said.query is None) != (said.show is None):
        raise of.wrong("a widget is a `text`, or a `query` and the visualization to `show`")
    named = dict(of.items()).get("parameters")
    return Widget(
        key="",
        at=Position(column, row, width, height),
        text=(said.text or "").strip(),
        query=said.query,
        visualization=said.show,
        mappings={name: _mapping(name, how) for name, how in named.items()} if named else {},
        options=said.options,
    )


def _mapping(name: str, of: Marked) -> Mapping:
    if of.plain() == "own":
        return Mapping(OWN, name)
    said = of.as_a(_Mapping)
    if [said.shared is not None, said.fixed is not None, said.own].count(True) != 1:
        raise of.wrong("write `own`, {shared: name on the page} or {fixed: value}")
    if said.shared is not None:
        return Mapping(SHARED, said.shared, title=said.title)
    if said.own:
        return Mapping(OWN, name, title=said.title)
    return Mapping(FIXED, value=said.fixed, title=said.title)


def keyed(widgets: Iterable[Widget]) -> tuple[Widget, ...]:
    """The widgets from the top left to the bottom right, each with a key: what it shows, and which time."""
    ordered = sorted(widgets, key=lambda widget: (widget.at.row, widget.at.column))
    seen: dict[str, int] = {}
    found = []
    for widget in ordered:
        if widget.query is None:
            key = "text-" + hashlib.sha256(widget.text.encode()).hexdigest()[:8]
        else:
            key = f"{widget.query}/{widget.visualization}"
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1:
            key = f"{key}#{seen[key]}"
        found.append(msgspec.structs.replace(widget, key=key))
    return tuple(found)


# --- writing


def apart(widgets: Iterable[Widget]) -> tuple[Widget, ...]:
    """The widgets within the page, and those that lie over others moved down, as Redash shows them."""
    placed: list[Widget] = []
    for widget in keyed(widgets):
        width = min(max(widget.at.width, 1), COLUMNS)
        at = Position(
            column=min(max(widget.at.column, 0), COLUMNS - width),
            row=max(widget.at.row, 0),
            width=width,
            height=max(widget.at.height, 1),
        )
        while any(at.overlaps(other.at) for other in placed):
            at = msgspec.structs.replace(at, row=at.row + 1)
        placed.append(msgspec.structs.replace(widget, at=at))
    return keyed(placed)


def write(dashboard: Dashboard) -> str:
    """The file of a dashboard: what is read from it again is equal to it."""
    said: dict[str, Any] = {
        "name": dashboard.name,
        "tags": sorted(dashboard.tags - {TAG}),
        "parameters": {name: dashboard.starts.get(name) for name in dashboard.parameters},
        "filters": dashboard.filters,
        "options": dashboard.options,
    }
    widgets = [_widget_said(widget) for widget in dashboard.widgets]
    return marked.written(
        {key: value for key, value in said.items() if value} | {"widgets": widgets}
    )


def _widget_said(widget: Widget) -> dict[str, Any]:
    said: dict[str, Any] = {
        "text": widget.text if widget.query is None else None,
        "query": widget.query,
        "show": widget.visualization,
        "at": [*msgspec.structs.astuple(widget.at)],
        "parameters": {name: _mapping_said(of) for name, of in widget.mappings.items()},
        "options": widget.options,
    }
    return {
        key: value for key, value in said.items() if value or (key == "text" and value is not None)
    }


def _mapping_said(mapping: Mapping) -> Any:
    title = {"title": mapping.title} if mapping.title else {}
    if mapping.type == SHARED:
        return {"shared": mapping.to, **title}
    if mapping.type == FIXED:
        return {"fixed": mapping.value, **title}
    return {"own": True, **title} if title else "own"
