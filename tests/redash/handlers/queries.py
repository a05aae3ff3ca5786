"""Saved queries: calls flow in, answers flow out."""

from __future__ import annotations

import re
from typing import Any, Final

from tests.redash import shapes
from tests.redash.answer import CONFLICT, FORBIDDEN, Answer, broken, refused, shown
from tests.redash.call import Call
from tests.redash.jsonb import kept
from tests.redash.listing import ordered, paged, tag_counts, tagged
from tests.redash.state import Query, Visualization
from tests.redash.state import new_key as another_key

_LONGEST_NAME: Final = 255
# A model has these fields; what else is sent when a query is made has nowhere to go.
_FIELDS: Final = (
    "name",
    "query",
    "data_source_id",
    "description",
    "options",
    "schedule",
    "tags",
    "is_draft",
    "is_archived",
    "version",
    "latest_query_data_id",
    "query_hash",
    "updated_at",
)
_DROPPED: Final = (
    "id",
    "created_at",
    "api_key",
    "visualizations",
    "latest_query_data",
    "last_modified_by",
)
_NO_DROPDOWN: Final = (
    "You are trying to associate a dropdown query that does not have a matching group. "
    "Please verify the dropdown query id you are trying to associate with this query."
)


def _whole(call: Call, query: Query, sent: dict[str, Any]) -> dict[str, Any]:
    """What was just sent is shown in the order it was sent in; what is read again is in JSONB's."""
    shape = shapes.query(call.state, query, call.likes("queries", query))
    return shape | {name: sent[name] for name in ("options", "schedule") if name in sent}


def _check(call: Call, body: dict[str, Any]) -> None:
    """500 for what the database refuses, 400 for a dropdown the caller may not use."""
    texts = [body[name] for name in ("name", "query") if name in body]
    if not all(isinstance(one, str) for one in texts) or len(body.get("name", "")) > _LONGEST_NAME:
        raise broken()
    if not isinstance(body.get("schedule"), dict | None) or not isinstance(
        body.get("options", {}), dict
    ):
        raise broken()
    if "tags" in body and not isinstance(body["tags"], list):
        raise broken()
    for one in Query(options=body.get("options", {})).parameters:
        if one.get("type") != "query":
            continue
        asked = call.state.queries.get(one.get("queryId"))
        if asked is None or not call.listed(asked.source):
            raise refused(400, _NO_DROPDOWN)


def _source(call: Call, body: dict[str, Any]) -> int:
    source = call.state.sources.get(body["data_source_id"])
    if source is None:
        raise broken()
    if not call.may_use(source.id, only_look=False):
        raise refused(403, FORBIDDEN)
    return source.id


def _apply(query: Query, body: dict[str, Any]) -> None:
    query.name = body.get("name", query.name)
    query.description = body.get("description", query.description)
    query.text = body.get("query", query.text)
    query.schedule = kept(body.get("schedule", query.schedule))
    query.options = kept(body.get("options", query.options))
    query.tags = [one for one in body.get("tags", query.tags) if one]


def _link(call: Call, query: Query) -> None:
    """A result of the same text that is there already is taken at once."""
    found = call.state.newest_result(query.source, query.hash)
    query.result = found.id if found else query.result


def create(call: Call) -> Answer:
    """POST /api/queries: a draft whatever is sent, with a visualization "Table"."""
    call.allow("create_query")
    call.need("name", "query", "data_source_id")
    source = _source(call, call.body)
    _check(call, call.body)
    call.only(*_FIELDS, *_DROPPED)
    query = Query(source=source, user=call.me.id, modified_by=call.me.id)
    _apply(query, call.body)
    call.state.queries.add(query)
    _link(call, query)
    call.state.remember(query.api_key)
    _table(call, query)
    return shown(_whole(call, query, call.body))


def _table(call: Call, query: Query) -> None:
    call.state.visualizations.add(
        Visualization(query=query.id, name="Table", description="", options={})
    )


def one(call: Call) -> Answer:
    """GET /api/queries/<id>: archived ones too."""
    call.allow("view_query")
    query = call.find(call.state.queries)
    if not call.may_see(query):
        raise refused(403, FORBIDDEN)
    may_change = {"can_edit": not call.caller.is_public and call.may_change("queries", query)}
    return shown(_whole(call, query, {}) | may_change)


def update(call: Call) -> Answer:
    """POST /api/queries/<id>: any subset; unknown keys are ignored, and the version never grows."""
    call.allow("edit_query")
    query = call.find(call.state.queries)
    call.change("queries", query)
    body = call.body
    _check(call, body)
    if "version" in body and body["version"] != 1:
        raise refused(409, CONFLICT)
    if "data_source_id" in body and body["data_source_id"] != query.source:
        query.source = _source(call, body)
    before = (query.hash, query.source)
    _apply(query, body)
    query.is_draft = bool(body.get("is_draft", query.is_draft))
    query.is_archived = bool(body.get("is_archived", query.is_archived))
    query.modified_by = call.me.id
    if (query.hash, query.source) != before:
        _link(call, query)
    query.touch()
    return shown(_whole(call, query, body))


def archive(call: Call) -> Answer:
    """DELETE /api/queries/<id>: its widgets on every board, its alerts and its schedule go."""
    query = call.find(call.state.queries)
    call.change("queries", query)
    query.is_archived, query.schedule = True, None
    for widget in call.state.widgets:
        shown_query = call.state.query_of(widget)
        if shown_query and shown_query.id == query.id:
            call.state.widgets.drop(widget)
    for alert in call.state.alerts.where(lambda each: each.query == query.id):
        call.state.alerts.drop(alert)
    query.touch()
    return shown(None)


def _visible(call: Call, archived: bool = False) -> list[Query]:
    """In lists: what is in one of the caller's groups, drafts of everybody too."""
    return call.state.queries.where(
        lambda each: each.is_archived == archived and call.listed(each.source)
    )


def _listed(call: Call, found: list[Query]) -> Answer:
    return paged(
        call,
        ordered(call, tagged(call, found)),
        lambda each: shapes.query_line(call.state, each, call.likes("queries", each)),
    )


def _matches(query: Query, words: list[str]) -> bool:
    text = f"{query.name} {query.description or ''} {query.text}".lower()
    known = re.findall(r"\w+", text)
    return all(any(each.startswith(word) for each in known) for word in words)


def queries(call: Call) -> Answer:
    """GET /api/queries, also with `q`, `tags`, `order` and pages."""
    call.allow("view_query")
    words = re.findall(r"\w+", call.param("q").lower())
    return _listed(call, [each for each in _visible(call) if _matches(each, words)])


def archived(call: Call) -> Answer:
    """GET /api/queries/archive."""
    call.allow("view_query")
    return _listed(call, _visible(call, archived=True))


def mine(call: Call) -> Answer:
    """GET /api/queries/my."""
    call.allow("view_query")
    me = call.me.id
    return _listed(
        call, call.state.queries.where(lambda each: each.user == me and not each.is_archived)
    )


def favorites(call: Call) -> Answer:
    """GET /api/queries/favorites."""
    return _listed(call, [each for each in _visible(call) if call.likes("queries", each)])


def like(call: Call) -> Answer:
    """POST /api/queries/<id>/favorite."""
    query = call.find(call.state.queries)
    call.state.favorites.add(("queries", query.id, call.me.id))
    return shown(None)


def unlike(call: Call) -> Answer:
    """DELETE /api/queries/<id>/favorite."""
    query = call.find(call.state.queries)
    call.state.favorites.discard(("queries", query.id, call.me.id))
    return shown(None)


def tags(call: Call) -> Answer:
    """GET /api/queries/tags."""
    return tag_counts(_visible(call))


def fork(call: Call) -> Answer:
    """POST /api/queries/<id>/fork: a draft of the caller's own with the same visualizations."""
    call.allow("edit_query")
    query = call.find(call.state.queries)
    if not call.may_use(query.source, only_look=False):
        raise refused(403, FORBIDDEN)
    copy = call.state.queries.add(
        Query(
            name=f"Copy of (#{query.id}) {query.name}",
            description=query.description,
            text=query.text,
            options=kept(query.options),
            tags=list(query.tags),
            source=query.source,
            user=call.me.id,
            modified_by=call.me.id,
            result=query.result,
        )
    )
    call.state.remember(copy.api_key)
    for each in call.state.visualizations_of(query):
        call.state.visualizations.add(
            Visualization(
                query=copy.id,
                type=each.type,
                name=each.name,
                description=each.description,
                options=kept(each.options),
            )
        )
    return shown(_whole(call, copy, {}))


def new_key(call: Call) -> Answer:
    """POST /api/queries/<id>/regenerate_api_key."""
    query = call.find(call.state.queries)
    call.change("queries", query)
    query.api_key = another_key()
    call.state.remember(query.api_key)
    return shown(_whole(call, query, {}))


def dropdown(call: Call) -> Answer:
    """GET /api/queries/<id>/dropdown: 500 for a query that never ran."""
    query = call.find(call.state.queries)
    if not call.may_see(query):
        raise refused(403, FORBIDDEN)
    if query.result is None:
        raise broken()
    return shown(call.worker.choices(query.id))
