"""Shapes: what is relied on in Redash's answers. An answer flows in, and out again if it has the shape.

Redash gives more than this, and keeps most of what it is told as it is: what may be missing or null there
may be so here.
"""

from __future__ import annotations

from typing import Any

import msgspec

Id = int
_Options = dict[str, Any] | None


class _Named(msgspec.Struct):
    id: Id
    name: str


class Row(_Named):
    """Of a list of queries or dashboards."""

    options: _Options = None


class Made(msgspec.Struct):
    """Of anything that was made."""

    id: Id


class User(msgspec.Struct):
    """Whose key it is."""

    permissions: list[str]
    groups: list[int] = []


class Client(msgspec.Struct):
    """What Redash tells its own pages."""

    version: str | float


class Session(msgspec.Struct):
    """GET /api/session."""

    user: User
    client_config: Client


class Source(_Named):
    """A data source; a list of them has no options and no groups."""

    type: str
    options: _Options = None
    groups: dict[str, Any] | None = None


class Visualization(_Named):
    """A visualization of a query."""

    type: str
    description: str | None = None
    options: _Options = None


class Parameter(msgspec.Struct):
    """A parameter of a query; old ones of free text have no type."""

    name: str
    title: str | None = None
    type: str | None = None
    enumOptions: str | None = None  # noqa: N815
    queryId: Id | None = None  # noqa: N815


class QueryOptions(msgspec.Struct):
    """A query's own."""

    parameters: list[Parameter] | None = None


class Query(_Named):
    """GET /api/queries/<id>."""

    query: str
    is_draft: bool
    visualizations: list[Visualization]
    data_source_id: Id | None = None
    description: str | None = None
    tags: list[str] | None = None
    options: QueryOptions | None = None


class Asking(msgspec.Struct):
    """The query of an alert."""

    id: Id | None = None


class Alert(_Named):
    """One of GET /api/alerts."""

    query: Asking
    options: _Options = None
    rearm: int | None = None


class Place(msgspec.Struct):
    """Where a widget is; old ones have none."""

    col: int | None = None
    row: int | None = None
    sizeX: int | None = None  # noqa: N815
    sizeY: int | None = None  # noqa: N815


class Mapping(msgspec.Struct):
    """Where a widget has a parameter's value from."""

    type: str
    mapTo: str | None = None  # noqa: N815
    title: str | None = None


class WidgetOptions(msgspec.Struct):
    """A widget's own."""

    position: Place | None = None
    parameterMappings: dict[str, Mapping] | None = None  # noqa: N815


class Shown(_Named):
    """What a widget shows."""

    query: Made


class Widget(msgspec.Struct):
    """One of a dashboard's."""

    id: Id
    text: str | None = None
    options: WidgetOptions | None = None
    visualization: Shown | None = None


class Start(msgspec.Struct):
    """What a page's control starts with."""

    name: str


class PageOptions(msgspec.Struct):
    """A dashboard's own."""

    globalParamOrder: list[str] | None = None  # noqa: N815
    parameters: list[Start] | None = None


class Dashboard(_Named):
    """GET /api/dashboards/<id>."""

    is_draft: bool
    version: int
    widgets: list[Widget]
    tags: list[str] | None = None
    options: PageOptions | None = None


class Job(msgspec.Struct):
    """A run that is not over yet, or is."""

    id: str
    status: int
    error: str | None = None
    result: Any = None
    query_result_id: Id | None = None


class Asked(msgspec.Struct):
    """What comes of asking for a run, or for a job."""

    job: Job


class Column(msgspec.Struct):
    """Of an answer."""

    name: str
    type: str | None = None


class Data(msgspec.Struct):
    """An answer's columns and rows."""

    columns: list[Column]


class Result(msgspec.Struct):
    """An answer."""

    data: Data


class Answered(msgspec.Struct):
    """GET /api/query_results/<id>."""

    query_result: Result


class Page(msgspec.Struct):
    """Of a long list."""

    count: int
    results: list[Row]
