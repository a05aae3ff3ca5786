"""Drift: what Redash has of ours flows in, what was changed there by hand flows out. Pure.

It is told by the digests in our marks, and so also when the files have gone on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from analytics.redash import mark, wire
from analytics.redash.found import Found, FoundDashboard, FoundQuery
from analytics.redash.mark import Mark, digest
from analytics.redash.model import Json, Kind, Query

_WORDS: Final = {"sql": "the SQL", "at": "its place", "starts": "a parameter's start"}


@dataclass(frozen=True)
class Drift:
    """A change that was made by hand, of the whole or of a part: what, and where to look."""

    kind: Kind
    key: str
    name: str
    what: str
    path: str


def drift(found: Found) -> list[Drift]:
    """All of them, in the order of the keys."""
    return [*_of_queries(found), *_of_dashboards(found)]


def _of_queries(found: Found) -> Iterator[Drift]:
    for key, query in sorted(found.queries.items()):
        for what in _of_query(query):
            yield Drift("query", key, query.value.name, what, f"/queries/{query.id}")


def _of_dashboards(found: Found) -> Iterator[Drift]:
    queries = {one.id: one.value for one in found.queries.values()}
    for key, page in sorted(found.dashboards.items()):
        for what in _of_dashboard(page, queries):
            yield Drift("dashboard", key, page.raw["name"], what, f"/dashboards/{page.id}")


def _of_query(query: FoundQuery) -> Iterator[str]:
    written = query.mark
    if not written.fields:
        return  # half made: the next apply completes it
    if query.is_draft:
        yield "is a draft again"
    yield from _changed(wire.fields(query.value), written.fields)
    for kind, parts, known in (
        ("visualization", query.value.visualizations, written.visualizations),
        ("alert", query.value.alerts, written.alerts),
    ):
        have = {one.name: digest(wire.fields(one)) for one in parts}
        for name, seen in have.items():
            if name not in known and name not in query.doubles:
                yield f"{kind} {name} was added"
            elif name in known and seen != known[name]:
                yield f"{kind} {name} was changed"
        for name in known:
            if name not in have:
                yield f"{kind} {name} was removed"


def _of_dashboard(page: FoundDashboard, queries: Mapping[int, Query]) -> Iterator[str]:
    written = page.mark
    if not written.fields:
        return
    if page.is_draft:
        yield "is a draft again"
    yield from _changed(wire.fields(page.value(queries)), written.fields)
    for key, raw in page.widgets.items():
        known = mark.of(raw["options"]) or Mark(key)
        for what in _changed(wire.fields(page.widget(key, queries)), known.fields):
            yield f"widget {key}: {what}"
    for key in written.widgets:
        if key not in page.widgets:
            yield f"widget {key} was removed"
    for raw in page.strangers:
        one = wire.widget_of(raw, queries)
        shown = f"{one.query}/{one.visualization}" if one.query else "a text"
        yield f"widget {raw['id']} was added: {shown}"


def _changed(have: Mapping[str, Json], written: Mapping[str, str]) -> Iterator[str]:
    for name, value in have.items():
        if name in written and digest(value) != written[name]:
            yield f"{_WORDS.get(name, name)} was changed"
