"""What a browser gets: log-in, set-up, the front end itself; calls flow in, pages and redirects flow out."""

from __future__ import annotations

import secrets
from typing import Final

from tests.redash.answer import Answer, error_page, forged, moved, page, shown
from tests.redash.call import Call
from tests.redash.handlers.accounts import invited

_CSRF: Final = "csrf-token-of-the-fake"
_SHORTEST_PASSWORD: Final = 6
_FRONT_END: Final = (
    '<!doctype html><html lang="en"><head><base href="/"/><title>Redash</title></head>'
    '<body><section><div id="application-root"></div></section></body></html>'
)
_FORM: Final = (
    "<!DOCTYPE html>\n<html>\n<head>\n  <title>{title}</title>\n</head>\n<body>\n"
    '<form method="post"><input type="hidden" name="csrf_token" value="{token}"/></form>\n'
    "</body>\n</html>\n"
)


def front_end() -> Answer:
    """The single page that answers every GET nobody else answers."""
    return page(
        _FRONT_END,
        headers={
            "Content-Disposition": "inline; filename=index.html",
            "Cache-Control": "no-cache, max-age=0",
        },
    )


def ping(call: Call) -> Answer:  # noqa: ARG001
    """GET /ping: it lives, and that is all it says."""
    return page("PONG.")


def status(call: Call) -> Answer:
    """GET /status.json: for a super admin."""
    call.allow("super_admin")
    state = call.state
    queues = {"default": {"size": 0}, "periodic": {"size": 0}}
    waiting = sum(not job.over for job in state.jobs.values())
    if waiting:
        queues["queries"] = {"size": waiting}
    return shown(
        {
            "dashboards_count": len(state.dashboards),
            "database_metrics": {"metrics": [["Query Results Size", 0], ["Redash DB Size", 0]]},
            "manager": {
                "last_refresh_at": "0.0",
                "outdated_queries_count": "0",
                "query_ids": "[]",
                "queues": queues,
                "started_at": "0.0",
            },
            "queries_count": len(state.queries),
            "query_results_count": len(state.results),
            "redis_used_memory": 0,
            "redis_used_memory_human": "0B",
            "unused_query_results_count": 0,
            "version": call.version,
            "widgets_count": len(state.widgets),
            "workers": [],
        }
    )


def _form(title: str) -> Answer:
    text = _FORM.format(title=title, token=_CSRF)
    return page(text, headers={"Set-Cookie": f"csrf_token={_CSRF}; Path=/"})


def _forged(call: Call) -> bool:
    return call.form.get("csrf_token") != _CSRF


def _logged_in(call: Call, user_id: int) -> Answer:
    session = secrets.token_hex(16)
    call.state.sessions[session] = user_id
    answer = moved("/")
    cookie = {"Set-Cookie": f"session={session}; HttpOnly; Path=/"}
    return Answer(answer.status, answer.body, answer.headers | cookie)


def login_form(call: Call) -> Answer:
    """GET /login: the form and the CSRF token; before set-up it sends there."""
    return _form("Login to Redash") if len(call.state.users) else moved("/setup")


def login(call: Call) -> Answer:
    """POST /login: 302 and a session, or the form again with 200."""
    if _forged(call):
        return forged()
    form = call.form
    for user in call.state.users.where(lambda one: one.email == form.get("email")):
        if user.password and user.password == form.get("password") and not user.disabled_at:
            return _logged_in(call, user.id)
    return _form("Login to Redash")


def setup_form(call: Call) -> Answer:
    """GET /setup: once, before there is anybody."""
    return moved("/") if len(call.state.users) else _form("Redash Initial Setup")


def setup(call: Call) -> Answer:
    """POST /setup: the first admin, logged in; afterwards only a redirect."""
    if _forged(call):
        return forged()
    if len(call.state.users):
        return moved("/")
    form = call.form
    if len(form.get("password", "")) < _SHORTEST_PASSWORD or not form.get("email"):
        return _form("Redash Initial Setup")
    user = call.state.set_up(form.get("name", ""), form["email"], form["password"])
    return _logged_in(call, user.id)


def accept(call: Call) -> Answer:
    """POST /invite/<token>: an invited user sets a password, and is in."""
    found = call.state.users.where(lambda one: one.invitation == call.args["token"])
    if not found:
        return error_page(400, "Bad Request", "Your invite link is invalid.")
    invited(call, found[0])
    return _logged_in(call, found[0].id)
