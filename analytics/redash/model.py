"""What dashboards are made of, as files and Redash both have it: the two are read into this and compared.

Nothing here has an id of Redash's: queries and dashboards go by their keys, what belongs to one by its name.
``options`` hold what Redash keeps and this has no word for, as it is.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import msgspec

Json = Any
Options = dict[str, Json]
Kind = Literal["query", "dashboard"]

# A key is a file's name: what Redash has as one leads to no other folder, and a name with it fits Redash.
KEY: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,69}")
# Everything we make carries it, so that people can find it in Redash.
TAG: Final = "infamous"
TEXT_TYPES: Final = ("text", "text-pattern")


class Schedule(msgspec.Struct, frozen=True):
    """How often a query is run by itself: every so many seconds, whole days at a time of day in UTC."""

    every_s: int
    at: str | None = None  # HH:MM
    on: str | None = None  # Monday
    until: str | None = None  # YYYY-MM-DD


class Parameter(msgspec.Struct, frozen=True):
    """A value that is pasted into a query's SQL."""

    name: str
    title: str
    type: str
    default: Json
    values: tuple[str, ...] = ()  # of an enum
    source: str | None = None  # key of the query that lists the values
    multiple: bool = False
    options: Options = {}

    @property
    def is_free_text(self) -> bool:
        """Whether whoever looks at the query can write into its SQL."""
        return self.type in TEXT_TYPES


class Visualization(msgspec.Struct, frozen=True):
    """A way to show a query's answer."""

    name: str
    type: str  # Redash's word for it: CHART, COUNTER ...
    description: str = ""
    options: Options = {}


class Alert(msgspec.Struct, frozen=True):
    """A bound that a query's answer should keep to."""

    name: str
    column: str
    op: str
    value: float | str
    selector: str = "first"
    rearm_s: int | None = None
    muted: bool = False
    options: Options = {}


class Column(msgspec.Struct, frozen=True):
    """A column that a query promises."""

    name: str
    type: str
    description: str


class Query(msgspec.Struct, frozen=True):
    """A question in SQL, and how its answer is shown. Its columns are known of files alone."""

    key: str
    name: str
    sql: str
    description: str = ""
    tags: frozenset[str] = frozenset()
    schedule: Schedule | None = None
    parameters: tuple[Parameter, ...] = ()
    visualizations: tuple[Visualization, ...] = ()
    alerts: tuple[Alert, ...] = ()
    columns: tuple[Column, ...] = ()
    options: Options = {}

    @property
    def defaults(self) -> dict[str, Json]:
        """The value of each parameter when nobody chose one."""
        return {parameter.name: parameter.default for parameter in self.parameters}

    def shown(self) -> Query:
        """What Redash knows of it, in an order that does not depend on what was made first."""
        return msgspec.structs.replace(
            self,
            columns=(),
            visualizations=tuple(sorted(self.visualizations, key=lambda one: one.name)),
            alerts=tuple(sorted(self.alerts, key=lambda one: one.name)),
        )


class Position(msgspec.Struct, frozen=True):
    """A place on a grid of 12 columns, rows of 50 pixels."""

    column: int
    row: int
    width: int
    height: int

    def overlaps(self, other: Position) -> bool:
        """Whether the two lie over one another."""
        return (
            self.column < other.column + other.width
            and other.column < self.column + self.width
            and self.row < other.row + other.height
            and other.row < self.row + self.height
        )


SHARED: Final = "dashboard-level"
OWN: Final = "widget-level"
FIXED: Final = "static-value"


class Mapping(msgspec.Struct, frozen=True):
    """Where a widget has the value of one of its query's parameters from."""

    type: str  # SHARED, OWN or FIXED
    to: str = ""  # the page's name of it
    value: Json = None  # when it is fixed
    title: str = ""


class Widget(msgspec.Struct, frozen=True):
    """A text, or a visualization of a query, at its place on a dashboard. Its key is unique there."""

    key: str
    at: Position
    text: str = ""
    query: str | None = None
    visualization: str | None = None
    mappings: dict[str, Mapping] = {}
    options: Options = {}


class Dashboard(msgspec.Struct, frozen=True):
    """A page of widgets. ``starts`` are values of its parameters other than the queries' defaults."""

    key: str
    name: str
    tags: frozenset[str] = frozenset()
    parameters: tuple[str, ...] = ()
    starts: dict[str, Json] = {}
    filters: bool = False
    widgets: tuple[Widget, ...] = ()
    options: Options = {}


class Spec(msgspec.Struct, frozen=True):
    """All of it, by key; queries whose answers others list come before those."""

    queries: dict[str, Query]
    dashboards: dict[str, Dashboard]
