"""Visualizations: calls flow in, answers flow out. Neither their types nor their options are looked at."""

from __future__ import annotations

from typing import Any

from tests.redash import shapes
from tests.redash.answer import Answer, broken, not_found, shown
from tests.redash.call import Call
from tests.redash.jsonb import kept
from tests.redash.state import Query, Visualization


def _as_sent(one: Visualization, body: dict[str, Any]) -> Answer:
    fresh = {"options": body["options"]} if "options" in body else {}
    return shown(shapes.visualization(one) | fresh)


def _query(call: Call, one: Visualization) -> Query:
    query = call.state.queries.get(one.query)
    if query is None:
        raise broken()
    call.change("queries", query)
    return query


def create(call: Call) -> Answer:
    """POST /api/visualizations: unknown query 404, unknown key 500."""
    call.allow("edit_query")
    call.need("query_id")
    query = call.state.queries.get(call.body["query_id"])
    if query is None:
        raise not_found()
    call.change("queries", query)
    call.need("name", "type")
    call.only("query_id", "name", "type", "options", "description")
    body = call.body
    one = Visualization(
        query=query.id,
        type=body["type"],
        name=body["name"],
        description=body.get("description"),
        options=kept(body.get("options")),
    )
    return _as_sent(call.state.visualizations.add(one), body)


def update(call: Call) -> Answer:
    """POST /api/visualizations/<id>: any subset, options whole; it stays with its query."""
    call.allow("edit_query")
    one = call.find(call.state.visualizations)
    _query(call, one)
    body = call.body
    one.name = body.get("name", one.name)
    one.type = body.get("type", one.type)
    one.description = body.get("description", one.description)
    one.options = kept(body.get("options", one.options))
    one.touch()
    return _as_sent(one, body)


def delete(call: Call) -> Answer:
    """DELETE /api/visualizations/<id>: its widgets go with it."""
    call.allow("edit_query")
    one = call.find(call.state.visualizations)
    _query(call, one)
    call.state.drop_visualization(one)
    return shown(None)
