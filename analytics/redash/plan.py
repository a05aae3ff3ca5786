"""The plan: what files want and what Redash has flow in, the changes that lead there flow out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from analytics.redash import mark, wire
from analytics.redash.found import Found, FoundDashboard, FoundQuery, Left
from analytics.redash.mark import Mark, digest
from analytics.redash.model import Dashboard, Json, Kind, Query, Spec, Widget
from analytics.redash.wire import Object

Act = Literal["create", "change", "remove", "keep"]


@dataclass(frozen=True)
class Difference:
    """A field that is not as it should be."""

    field: str
    before: Json
    after: Json
    # Whether it is not as we wrote it last, either.
    by_hand: bool = False


@dataclass(frozen=True)
class Part:
    """A visualization, an alert or a widget that is to be made, changed or removed."""

    act: Act
    kind: Literal["visualization", "alert", "widget"]
    name: str
    differences: tuple[Difference, ...] = ()
    by_hand: bool = False


@dataclass(frozen=True)
class Change:
    """What is to be done with a query or a dashboard, and with what belongs to it."""

    act: Act
    kind: Kind
    key: str
    name: str
    differences: tuple[Difference, ...] = ()
    parts: tuple[Part, ...] = ()
    # A query whose answer is not there, or is that of another SQL.
    runs: bool = False
    publishes: bool = False
    # Nothing but our mark is out of date: the same was done by hand, or a run was broken off.
    marks: bool = False

    @property
    def is_any(self) -> bool:
        """Whether there is anything to be done."""
        return (
            self.act != "keep"
            or bool(self.differences or self.parts)
            or self.runs
            or self.publishes
            or self.marks
        )


@dataclass(frozen=True)
class Plan:
    """All changes, in the order in which they can be made."""

    changes: tuple[Change, ...]
    # Ours in Redash, and in no file any more: whoever applies says whether they are to go.
    gone: tuple[Change, ...]
    # Begun twice, by two applies at once.
    left: tuple[Left, ...] = ()


def plan(spec: Spec, found: Found, source_id: int | None) -> Plan:
    """What to do so that Redash has what the files say; ``source_id`` is where queries should ask."""
    queries = [
        _query(query, found.queries.get(key), source_id) for key, query in spec.queries.items()
    ]
    known = known_queries(spec, found)
    dashboards = [
        of_dashboard(one, found.dashboards.get(key), known) for key, one in spec.dashboards.items()
    ]
    gone = [
        *(
            Change("remove", "dashboard", key, one.raw["name"])
            for key, one in found.dashboards.items()
            if key not in spec.dashboards
        ),
        *(
            Change("remove", "query", key, one.value.name)
            for key, one in found.queries.items()
            if key not in spec.queries
        ),
    ]
    return Plan(
        tuple(one for one in (*queries, *dashboards) if one.is_any), tuple(gone), found.left
    )


def known_queries(spec: Spec, found: Found) -> dict[int, Query]:
    """The queries by their ids in Redash: as files want them, or else as they are."""
    return {one.id: spec.queries.get(key, one.value) for key, one in found.queries.items()}


# --- queries


def to_run(query: Query, source_id: int | None) -> str:
    """A digest of all that an answer depends on."""
    return digest([query.sql, query.defaults, source_id])


def marked(query: Query, id_: int, ran: str) -> Mark:
    """The mark of a query that is as the file says."""
    return Mark(
        key=query.key,
        id=id_,
        fields={name: digest(value) for name, value in wire.fields(query).items()},
        visualizations={one.name: digest(wire.fields(one)) for one in query.visualizations},
        alerts={one.name: digest(wire.fields(one)) for one in query.alerts},
        ran=ran,
    )


def _query(wanted: Query, found: FoundQuery | None, source_id: int | None) -> Change:
    ran = to_run(wanted, source_id)
    if found is None:
        parts = [
            *(Part("create", "visualization", one.name) for one in wanted.visualizations),
            *(Part("create", "alert", one.name) for one in wanted.alerts),
        ]
        return Change("create", "query", wanted.key, wanted.name, (), tuple(parts), True, True)
    differences = [*_differences(wire.fields(wanted), wire.fields(found.value), found.mark.fields)]
    if source_id != found.source_id:
        differences.append(Difference("data source", found.source_id, source_id))
    parts = [*_visualizations(wanted, found), *_alerts(wanted, found)]
    return Change(
        "change" if differences else "keep",
        "query",
        wanted.key,
        wanted.name,
        tuple(differences),
        tuple(parts),
        # Also where somebody changed it: what was run last is then theirs.
        runs=found.mark.ran != ran or to_run(found.value, found.source_id) != ran,
        publishes=found.is_draft,
        marks=not differences
        and not parts
        and found.mark != marked(wanted, found.id, found.mark.ran),
    )


def _visualizations(wanted: Query, found: FoundQuery) -> Iterable[Part]:
    have = {one.name: wire.fields(one) for one in found.value.visualizations}
    want = {one.name: wire.fields(one) for one in wanted.visualizations}
    return _parts("visualization", want, have, found.mark.visualizations, found.doubles)


def _alerts(wanted: Query, found: FoundQuery) -> Iterable[Part]:
    have = {one.name: wire.fields(one) for one in found.value.alerts}
    want = {one.name: wire.fields(one) for one in wanted.alerts}
    return _parts("alert", want, have, found.mark.alerts, found.doubles)


def _parts(
    kind: Literal["visualization", "alert"],
    want: Mapping[str, dict[str, Json]],
    have: Mapping[str, dict[str, Json]],
    written: Mapping[str, str],
    doubles: AbstractSet[str],
) -> Iterable[Part]:
    """Those to be made, changed and removed; what is in Redash under a name we never wrote is not ours."""
    for name, fields in want.items():
        if name not in have:
            yield Part("create", kind, name)
        elif digest(fields) != digest(have[name]):
            by_hand = name in written and digest(have[name]) != written[name]
            yield Part("change", kind, name, (*_differences(fields, have[name], {}),), by_hand)
    for name in have:
        if name not in want and (name in written or name in doubles):
            yield Part("remove", kind, name)


def _differences(
    want: Mapping[str, Json], have: Mapping[str, Json], written: Mapping[str, str]
) -> Iterable[Difference]:
    for name, value in want.items():
        if digest(value) != digest(have[name]):
            by_hand = name in written and digest(have[name]) != written[name]
            yield Difference(name, have[name], value, by_hand)


# --- dashboards


def marked_dashboard(dashboard: Dashboard, id_: int) -> Mark:
    """The mark of a dashboard that is as the file says."""
    return Mark(
        key=dashboard.key,
        id=id_,
        fields={name: digest(value) for name, value in wire.fields(dashboard).items()},
        widgets=tuple(widget.key for widget in dashboard.widgets),
    )


def marked_widget(widget: Widget) -> Mark:
    """The mark of a widget that is as the file says."""
    return Mark(
        key=widget.key,
        fields={name: digest(value) for name, value in wire.fields(widget).items()},
    )


def of_dashboard(
    wanted: Dashboard, found: FoundDashboard | None, queries: Mapping[int, Query]
) -> Change:
    """What to do with one dashboard; ``queries`` are those wanted, by their ids in Redash."""
    if found is None:
        parts = tuple(Part("create", "widget", one.key) for one in wanted.widgets)
        return Change("create", "dashboard", wanted.key, wanted.name, (), parts, publishes=True)
    found = adopting(wanted, found, queries)
    differences = tuple(
        _differences(wire.fields(wanted), wire.fields(found.value(queries)), found.mark.fields)
    )
    parts = tuple(_widgets(wanted, found, queries))
    return Change(
        "change" if differences else "keep",
        "dashboard",
        wanted.key,
        wanted.name,
        differences,
        parts,
        publishes=found.is_draft,
        marks=not differences and found.mark != marked_dashboard(wanted, found.id),
    )


def adopting(
    wanted: Dashboard, found: FoundDashboard, queries: Mapping[int, Query]
) -> FoundDashboard:
    """The dashboard with those of others' widgets as ours that are as a file says: an export took them."""
    missing = [one for one in wanted.widgets if one.key not in found.widgets]
    taken: dict[str, Object] = {}
    strangers = []
    for raw in found.strangers:
        value = wire.widget_of(raw, queries)
        equal = (
            one
            for one in missing
            if one.key not in taken and msgspec.structs.replace(value, key=one.key) == one
        )
        if (one := next(equal, None)) is not None:
            taken[one.key] = raw
        else:
            strangers.append(raw)
    return replace(found, widgets={**found.widgets, **taken}, strangers=tuple(strangers))


def _widgets(
    wanted: Dashboard, found: FoundDashboard, queries: Mapping[int, Query]
) -> Iterable[Part]:
    want = {one.key: one for one in wanted.widgets}
    for key, widget in want.items():
        if key not in found.widgets:
            yield Part("create", "widget", key)
            continue
        have = found.widget(key, queries)
        written = mark.of(found.widgets[key]["options"]) or Mark(key)
        if (have.query, have.visualization) != (widget.query, widget.visualization):
            yield Part("remove", "widget", key)
            yield Part("create", "widget", key)
            continue
        differences = (*_differences(wire.fields(widget), wire.fields(have), written.fields),)
        if differences or written != marked_widget(widget):
            by_hand = any(one.by_hand for one in differences)
            yield Part("change", "widget", key, differences, by_hand)
    for key in found.widgets:
        if key not in want:
            yield Part("remove", "widget", key)
