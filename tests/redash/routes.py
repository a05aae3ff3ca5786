"""Which handler answers what: a method and a path flow in, a handler and the parts of the path flow out."""

from __future__ import annotations

import re
from typing import Final

from tests.redash.call import Handler
from tests.redash.handlers import (
    accounts,
    alerts,
    dashboards,
    pages,
    queries,
    runs,
    sources,
    visualizations,
)

# Served to anybody, logged in or not.
OPEN: Final[dict[tuple[str, str], Handler]] = {
    ("GET", "/ping"): pages.ping,
    ("GET", "/login"): pages.login_form,
    ("POST", "/login"): pages.login,
    ("GET", "/setup"): pages.setup_form,
    ("POST", "/setup"): pages.setup,
    ("POST", "/invite/<token>"): pages.accept,
    ("GET", "/api/config"): accounts.config,
    ("GET", "/api/dashboards/public/<token>"): dashboards.public,
}
_API: Final[dict[tuple[str, str], Handler]] = {
    ("GET", "/status.json"): pages.status,
    ("GET", "/api/session"): accounts.session,
    ("GET", "/api/organization/status"): accounts.status,
    ("GET", "/api/settings/organization"): accounts.settings,
    ("POST", "/api/settings/organization"): accounts.update_settings,
    ("GET", "/api/users"): accounts.users,
    ("POST", "/api/users"): accounts.create_user,
    ("GET", "/api/users/<id>"): accounts.user_of,
    ("POST", "/api/users/<id>"): accounts.update_user,
    ("POST", "/api/users/<id>/regenerate_api_key"): accounts.new_key,
    ("POST", "/api/users/<id>/disable"): accounts.disable_user,
    ("DELETE", "/api/users/<id>/disable"): accounts.enable_user,
    ("GET", "/api/groups"): accounts.groups,
    ("POST", "/api/groups"): accounts.create_group,
    ("GET", "/api/groups/<id>"): accounts.group_of,
    ("POST", "/api/groups/<id>"): accounts.update_group,
    ("DELETE", "/api/groups/<id>"): accounts.delete_group,
    ("GET", "/api/groups/<id>/members"): accounts.members,
    ("POST", "/api/groups/<id>/members"): accounts.add_member,
    ("DELETE", "/api/groups/<id>/members/<member>"): accounts.remove_member,
    ("GET", "/api/groups/<id>/data_sources"): accounts.group_sources,
    ("POST", "/api/groups/<id>/data_sources"): accounts.attach_source,
    ("POST", "/api/groups/<id>/data_sources/<source>"): accounts.change_grant,
    ("DELETE", "/api/groups/<id>/data_sources/<source>"): accounts.detach_source,
    ("GET", "/api/data_sources/types"): sources.types,
    ("GET", "/api/data_sources"): sources.sources,
    ("POST", "/api/data_sources"): sources.create,
    ("GET", "/api/data_sources/<id>"): sources.one,
    ("POST", "/api/data_sources/<id>"): sources.update,
    ("DELETE", "/api/data_sources/<id>"): sources.delete,
    ("POST", "/api/data_sources/<id>/test"): sources.test,
    ("GET", "/api/data_sources/<id>/schema"): sources.schema,
    ("POST", "/api/data_sources/<id>/pause"): sources.pause,
    ("DELETE", "/api/data_sources/<id>/pause"): sources.resume,
    ("GET", "/api/queries"): queries.queries,
    ("POST", "/api/queries"): queries.create,
    ("GET", "/api/queries/archive"): queries.archived,
    ("GET", "/api/queries/my"): queries.mine,
    ("GET", "/api/queries/favorites"): queries.favorites,
    ("GET", "/api/queries/tags"): queries.tags,
    ("GET", "/api/queries/<id>"): queries.one,
    ("POST", "/api/queries/<id>"): queries.update,
    ("DELETE", "/api/queries/<id>"): queries.archive,
    ("POST", "/api/queries/<id>/fork"): queries.fork,
    ("POST", "/api/queries/<id>/regenerate_api_key"): queries.new_key,
    ("POST", "/api/queries/<id>/favorite"): queries.like,
    ("DELETE", "/api/queries/<id>/favorite"): queries.unlike,
    ("GET", "/api/queries/<id>/dropdown"): queries.dropdown,
    ("GET", "/api/queries/<id>/acl"): accounts.permits,
    ("POST", "/api/queries/<id>/acl"): accounts.permit,
    ("DELETE", "/api/queries/<id>/acl"): accounts.forbid,
    ("POST", "/api/queries/<id>/results"): runs.run_query,
    ("POST", "/api/queries/<id>/refresh"): runs.refresh,
    ("GET", "/api/queries/<id>/results<form>"): runs.latest,
    ("GET", "/api/queries/<id>/results/<result>"): runs.result_of,
    ("POST", "/api/query_results"): runs.run_text,
    ("GET", "/api/query_results/<result>"): runs.result,
    ("GET", "/api/jobs/<id>"): runs.job,
    ("DELETE", "/api/jobs/<id>"): runs.cancel,
    ("POST", "/api/visualizations"): visualizations.create,
    ("POST", "/api/visualizations/<id>"): visualizations.update,
    ("DELETE", "/api/visualizations/<id>"): visualizations.delete,
    ("GET", "/api/dashboards"): dashboards.dashboards,
    ("POST", "/api/dashboards"): dashboards.create,
    ("GET", "/api/dashboards/my"): dashboards.mine,
    ("GET", "/api/dashboards/favorites"): dashboards.favorites,
    ("GET", "/api/dashboards/tags"): dashboards.tags,
    ("GET", "/api/dashboards/<id>"): dashboards.one,
    ("POST", "/api/dashboards/<id>"): dashboards.update,
    ("DELETE", "/api/dashboards/<id>"): dashboards.archive,
    ("POST", "/api/dashboards/<id>/favorite"): dashboards.like,
    ("DELETE", "/api/dashboards/<id>/favorite"): dashboards.unlike,
    ("POST", "/api/dashboards/<id>/fork"): dashboards.fork,
    ("POST", "/api/dashboards/<id>/share"): dashboards.share,
    ("DELETE", "/api/dashboards/<id>/share"): dashboards.unshare,
    ("GET", "/api/dashboards/<id>/acl"): accounts.permits,
    ("POST", "/api/dashboards/<id>/acl"): accounts.permit,
    ("DELETE", "/api/dashboards/<id>/acl"): accounts.forbid,
    ("POST", "/api/widgets"): dashboards.create_widget,
    ("POST", "/api/widgets/<id>"): dashboards.update_widget,
    ("DELETE", "/api/widgets/<id>"): dashboards.delete_widget,
    ("GET", "/api/alerts"): alerts.alerts,
    ("POST", "/api/alerts"): alerts.create,
    ("GET", "/api/alerts/<id>"): alerts.one,
    ("POST", "/api/alerts/<id>"): alerts.update,
    ("DELETE", "/api/alerts/<id>"): alerts.delete,
    ("POST", "/api/alerts/<id>/eval"): alerts.weigh,
    ("POST", "/api/alerts/<id>/mute"): alerts.mute,
    ("DELETE", "/api/alerts/<id>/mute"): alerts.unmute,
    ("GET", "/api/alerts/<id>/subscriptions"): alerts.subscriptions,
    ("POST", "/api/alerts/<id>/subscriptions"): alerts.subscribe,
    ("DELETE", "/api/alerts/<id>/subscriptions/<subscription>"): alerts.unsubscribe,
    ("GET", "/api/destinations"): alerts.destinations,
    ("POST", "/api/destinations"): alerts.create_destination,
    ("GET", "/api/destinations/<id>"): alerts.destination,
    ("POST", "/api/destinations/<id>"): alerts.update_destination,
    ("DELETE", "/api/destinations/<id>"): alerts.delete_destination,
    ("GET", "/api/query_snippets"): alerts.snippets,
    ("POST", "/api/query_snippets"): alerts.create_snippet,
    ("DELETE", "/api/query_snippets/<id>"): alerts.delete_snippet,
}


def _pattern(path: str) -> re.Pattern[str]:
    exact = re.sub(r"<form>", r"(?P<form>(?:\\.(?:json|csv|tsv))?)", path)
    return re.compile(re.sub(r"(?<!\?P)<(\w+)>", r"(?P<\1>[^/]+)", exact))


_OPEN: Final = [(method, _pattern(path), handler) for (method, path), handler in OPEN.items()]
_CLOSED: Final = [(method, _pattern(path), handler) for (method, path), handler in _API.items()]


def open_to_all(method: str, path: str) -> tuple[Handler, dict[str, str]] | None:
    """The handler of a path that needs no login."""
    return _found(_OPEN, method, path)


def for_callers(method: str, path: str) -> tuple[Handler, dict[str, str]] | None:
    """The handler of a path that needs one. The order of the table decides between two."""
    return _found(_CLOSED, method, path)


def is_known(path: str) -> bool:
    """Some method of the path has a handler."""
    return any(pattern.fullmatch(path) for _, pattern, _ in (*_OPEN, *_CLOSED))


def _found(
    routes: list[tuple[str, re.Pattern[str], Handler]], method: str, path: str
) -> tuple[Handler, dict[str, str]] | None:
    for wanted, pattern, handler in routes:
        match = pattern.fullmatch(path)
        if wanted == method and match:
            return handler, match.groupdict("")
    return None
