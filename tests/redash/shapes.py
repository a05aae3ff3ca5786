"""Records flow in, the objects Redash shows of them flow out, keys in its order. Nothing is decided here."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

from tests.redash import rendering
from tests.redash.state import (
    Alert,
    Dashboard,
    Destination,
    Group,
    Job,
    Query,
    Result,
    Snippet,
    Source,
    State,
    Subscription,
    User,
    Visualization,
    Widget,
)

Shape = dict[str, Any]

MASK: Final = "--------"
SECRETS: Final = {
    "pg": ("password", "sslrootcertFile", "sslcertFile", "sslkeyFile"),
    "webhook": ("url", "password"),
    "slack": ("url",),
}
ICONS: Final = {"webhook": "fa-bolt", "slack": "fa-slack", "email": "fa-envelope"}


def slug(name: str) -> str:
    """A name as an address shows it."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def masked(kind: str, options: Shape) -> Shape:
    """Options with the secrets covered."""
    return {
        name: MASK if name in SECRETS.get(kind, ()) and value else value
        for name, value in options.items()
    }


def picture(user: User) -> str:
    """The address of a user's picture."""
    if user.disabled_at:
        return "/static/images/avatar.svg"
    digest = hashlib.md5(user.email.lower().encode()).hexdigest()  # noqa: S324
    return f"https://www.gravatar.com/avatar/{digest}?s=40&d=identicon"


def user(one: User | None, with_key: bool = False) -> Shape | None:
    """A user, as it is also embedded in other objects."""
    if one is None:
        return None
    shape: Shape = {
        "id": one.id,
        "name": one.name,
        "email": one.email,
        "profile_image_url": picture(one),
        "groups": list(one.groups),
        "updated_at": one.updated_at,
        "created_at": one.created_at,
        "disabled_at": one.disabled_at,
        "is_disabled": one.disabled_at is not None,
        "active_at": None,
        "is_invitation_pending": one.password is None,
        "is_email_verified": True,
        "auth_type": "external" if one.password is None else "password",
    }
    return shape | ({"api_key": one.api_key} if with_key else {})


def group(one: Group) -> Shape:
    """A group."""
    return {
        "id": one.id,
        "name": one.name,
        "permissions": list(one.permissions),
        "type": "builtin" if one.builtin else "regular",
        "created_at": one.created_at,
    }


def source_line(one: Source) -> Shape:
    """A data source as lists have it, without `view_only`."""
    return {
        "id": one.id,
        "name": one.name,
        "type": one.type,
        "syntax": "sql",
        "paused": one.paused,
        "pause_reason": one.pause_reason,
        "supports_auto_limit": True,
    }


def source(state: State, one: Source, options: Shape) -> Shape:
    """A whole data source, showing these options."""
    return source_line(one) | {
        "options": masked(one.type, options),
        "queue_name": "queries",
        "scheduled_queue_name": "scheduled_queries",
        "groups": {
            str(grant.group): grant.view_only for grant in state.grants if grant.source == one.id
        },
    }


def _query_head(one: Query) -> Shape:
    return {
        "id": one.id,
        "latest_query_data_id": one.result,
        "name": one.name,
        "description": one.description,
        "query": one.text,
        "query_hash": one.hash,
        "schedule": one.schedule,
        "api_key": one.api_key,
        "is_archived": one.is_archived,
        "is_draft": one.is_draft,
        "updated_at": one.updated_at,
        "created_at": one.created_at,
        "data_source_id": one.source,
        "options": one.options,
        "version": 1,
        "tags": list(one.tags),
        "is_safe": rendering.is_safe(one.parameters),
    }


def embedded_query(state: State, one: Query) -> Shape:
    """A query inside a widget or an alert; its key is there too."""
    return _query_head(one) | {
        "user": user(state.users.get(one.user)),
        "last_modified_by": user(state.users.get(one.modified_by)),
    }


def query(state: State, one: Query, favorite: bool) -> Shape:
    """A whole query."""
    return embedded_query(state, one) | {
        "visualizations": [visualization(each) for each in state.visualizations_of(one)],
        "is_favorite": favorite,
    }


def query_line(state: State, one: Query, favorite: bool) -> Shape:
    """A query as lists have it."""
    result = state.results.get(one.result)
    return _query_head(one) | {
        "user": user(state.users.get(one.user)),
        "last_modified_by_id": one.modified_by,
        "retrieved_at": result.retrieved_at if result else None,
        "runtime": result.runtime if result else None,
        "is_favorite": favorite,
    }


def visualization(one: Visualization) -> Shape:
    """A visualization without its query."""
    return {
        "id": one.id,
        "type": one.type,
        "name": one.name,
        "description": one.description,
        "options": one.options,
        "updated_at": one.updated_at,
        "created_at": one.created_at,
    }


def widget(state: State, one: Widget) -> Shape:
    """A widget in full."""
    shape: Shape = {
        "id": one.id,
        "width": one.width,
        "options": one.options,
        "dashboard_id": one.dashboard,
        "text": one.text,
        "updated_at": one.updated_at,
        "created_at": one.created_at,
    }
    drawn = state.visualizations.get(one.visualization)
    asked = state.query_of(one)
    if drawn and asked:
        shape["visualization"] = visualization(drawn) | {"query": embedded_query(state, asked)}
    return shape


def restricted(one: Widget) -> Shape:
    """A widget to somebody who may not see its data."""
    return {
        "id": one.id,
        "width": one.width,
        "dashboard_id": one.dashboard,
        "options": one.options,
        "created_at": one.created_at,
        "updated_at": one.updated_at,
        "restricted": True,
    }


def dashboard(
    state: State, one: Dashboard, favorite: bool, widgets: list[Shape] | None = None
) -> Shape:
    """A board; lists have no widgets."""
    owner = state.users.get(one.user)
    return {
        "id": one.id,
        "slug": slug(one.name),
        "name": one.name,
        "user_id": one.user,
        "user": owner
        and {
            "id": owner.id,
            "name": owner.name,
            "email": owner.email,
            "profile_image_url": picture(owner),
        },
        "layout": one.layout,
        "dashboard_filters_enabled": one.filters,
        "widgets": widgets,
        "options": one.options,
        "is_archived": one.is_archived,
        "is_draft": one.is_draft,
        "tags": list(one.tags),
        "updated_at": one.updated_at,
        "created_at": one.created_at,
        "version": one.version,
        "is_favorite": favorite,
    }


def shared(one: Dashboard, base: str) -> Shape:
    """Where the public finds a board: under its newest token."""
    token = one.tokens[-1]
    return {
        "public_url": f"{base}/public/dashboards/{token}?org_slug=default",
        "api_key": token,
    }


def public_dashboard(state: State, one: Dashboard) -> Shape:
    """A board to the public: no SQL and no keys."""
    return {
        "name": one.name,
        "layout": one.layout,
        "dashboard_filters_enabled": one.filters,
        "updated_at": one.updated_at,
        "created_at": one.created_at,
        "options": one.options,
        "widgets": [_public_widget(state, each) for each in state.widgets_of(one)],
    }


def _public_widget(state: State, one: Widget) -> Shape:
    shape: Shape = {
        "id": one.id,
        "width": one.width,
        "options": one.options,
        "text": one.text,
        "updated_at": one.updated_at,
        "created_at": one.created_at,
    }
    drawn = state.visualizations.get(one.visualization)
    asked = state.query_of(one)
    if drawn and asked:
        shape["visualization"] = {
            "type": drawn.type,
            "name": drawn.name,
            "description": drawn.description,
            "options": drawn.options,
            "updated_at": drawn.updated_at,
            "created_at": drawn.created_at,
            "query": {
                "id": asked.id,
                "name": asked.name,
                "description": asked.description,
                "options": asked.options,
            },
        }
    return shape


def result(one: Result) -> Shape:
    """A result to a user."""
    return {
        "query_result": {
            "id": one.id,
            "query_hash": one.hash,
            "query": one.text,
            "data": one.data,
            "data_source_id": one.source,
            "runtime": one.runtime,
            "retrieved_at": one.retrieved_at,
        }
    }


def public_result(one: Result) -> Shape:
    """A result to a query key or a share token."""
    return {"query_result": {"data": one.data, "retrieved_at": one.retrieved_at}}


def job(one: Job) -> Shape:
    """A run; `query_result_id` repeats whatever `result` is."""
    found = one.schema if one.wants_schema and one.status == 3 else one.rid
    return {
        "job": {
            "id": one.id,
            "updated_at": one.started_at if one.status == 2 else 0,
            "status": one.status,
            "error": one.error,
            "result": found,
            "query_result_id": found,
        }
    }


def destination_line(one: Destination) -> Shape:
    """A destination as lists and subscriptions have it."""
    return {
        "id": one.id,
        "name": one.name,
        "type": one.type,
        "icon": ICONS.get(one.type, f"fa-{one.type}"),
    }


def destination(one: Destination) -> Shape:
    """A whole destination."""
    return destination_line(one) | {"options": masked(one.type, one.options)}


def alert(state: State, one: Alert) -> Shape:
    """An alert with its query and its user."""
    asked = state.queries.get(one.query)
    return {
        "id": one.id,
        "name": one.name,
        "options": one.options,
        "state": one.state,
        "last_triggered_at": one.last_triggered_at,
        "updated_at": one.updated_at,
        "created_at": one.created_at,
        "rearm": one.rearm,
        "query": asked and embedded_query(state, asked),
        "user": user(state.users.get(one.user)),
    }


def subscription(state: State, one: Subscription) -> Shape:
    """Who hears of an alert."""
    shape: Shape = {
        "id": one.id,
        "user": user(state.users.get(one.user)),
        "alert_id": one.alert,
    }
    where = state.destinations.get(one.destination)
    return shape | ({"destination": destination_line(where)} if where else {})


def snippet(state: State, one: Snippet) -> Shape:
    """A snippet."""
    return {
        "id": one.id,
        "trigger": one.trigger,
        "description": one.description,
        "snippet": one.snippet,
        "user": user(state.users.get(one.user)),
        "updated_at": one.updated_at,
        "created_at": one.created_at,
    }
