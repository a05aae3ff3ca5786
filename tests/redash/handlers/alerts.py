"""Alerts, where they go, and snippets: calls flow in, answers flow out."""

from __future__ import annotations

from typing import Any

from tests.redash import shapes
from tests.redash.answer import BAD_REQUEST, FORBIDDEN, Answer, broken, refused, shown
from tests.redash.call import Call
from tests.redash.jsonb import kept
from tests.redash.state import Alert, Destination, Snippet, Subscription

_DESTINATIONS = (
    "email",
    "slack",
    "webhook",
    "discord",
    "mattermost",
    "chatwork",
    "pagerduty",
    "hangouts_chat",
    "microsoft_teams_webhook",
    "asana",
    "webex",
    "datadog",
)


def _as_sent(call: Call, alert: Alert, body: dict[str, Any]) -> Answer:
    fresh = {"options": body["options"]} if "options" in body else {}
    return shown(shapes.alert(call.state, alert) | fresh)


def _seen(call: Call) -> Alert:
    call.allow("list_alerts")
    alert = call.find(call.state.alerts)
    query = call.state.queries.get(alert.query)
    if query is None or not call.may_see(query):
        raise refused(403, FORBIDDEN)
    return alert


def _changed(call: Call) -> Alert:
    alert = call.find(call.state.alerts)
    if alert.user != call.me.id:
        call.admin_only()
    return alert


def alerts(call: Call) -> Answer:
    """GET /api/alerts: a plain array, without pages; those on sources of the caller's groups."""
    call.allow("list_alerts")
    found = []
    for one in call.state.alerts:
        query = call.state.queries.get(one.query)
        if query and call.listed(query.source):
            found.append(shapes.alert(call.state, one))
    return shown(found)


def create(call: Call) -> Answer:
    """POST /api/alerts: 400 for a missing key, 500 for an unknown query."""
    body = call.body
    call.required("options", "name", "query_id")
    query = call.state.queries.get(body["query_id"])
    if query is None:
        raise broken()
    if not call.may_see(query):
        raise refused(403, FORBIDDEN)
    alert = Alert(
        name=body["name"],
        query=query.id,
        options=kept(body["options"]),
        rearm=body.get("rearm"),
        user=call.me.id,
    )
    return _as_sent(call, call.state.alerts.add(alert), body)


def one(call: Call) -> Answer:
    """GET /api/alerts/<id>."""
    return shown(shapes.alert(call.state, _seen(call)))


def update(call: Call) -> Answer:
    """POST /api/alerts/<id>: any of options, name, query_id and rearm."""
    alert = _changed(call)
    body = call.body
    alert.name = body.get("name", alert.name)
    alert.options = kept(body.get("options", alert.options))
    alert.query = body.get("query_id", alert.query)
    alert.rearm = body.get("rearm", alert.rearm)
    if call.state.queries.get(alert.query) is None:
        raise broken()
    alert.touch()
    return _as_sent(call, alert, body)


def delete(call: Call) -> Answer:
    """DELETE /api/alerts/<id>: its subscriptions go with it."""
    alert = _changed(call)
    for each in call.state.subscriptions.where(lambda each: each.alert == alert.id):
        call.state.subscriptions.drop(each)
    call.state.alerts.drop(alert)
    return shown(None)


def weigh(call: Call) -> Answer:
    """POST /api/alerts/<id>/eval: against the result there is."""
    alert = _changed(call)
    query = call.state.queries.get(alert.query)
    call.worker.weigh(alert, call.state.results.get(query.result) if query else None)
    return shown(None)


def mute(call: Call) -> Answer:
    """POST /api/alerts/<id>/mute."""
    alert = _changed(call)
    alert.options = kept({**alert.options, "muted": True})
    return shown(None)


def unmute(call: Call) -> Answer:
    """DELETE /api/alerts/<id>/mute."""
    alert = _changed(call)
    alert.options = kept({**alert.options, "muted": False})
    return shown(None)


def subscriptions(call: Call) -> Answer:
    """GET /api/alerts/<id>/subscriptions."""
    alert = _seen(call)
    found = call.state.subscriptions.where(lambda each: each.alert == alert.id)
    return shown([shapes.subscription(call.state, each) for each in found])


def subscribe(call: Call) -> Answer:
    """POST /api/alerts/<id>/subscriptions: the same destination a second time is 500."""
    alert = _seen(call)
    where = call.body.get("destination_id")
    if where is not None and call.state.destinations.get(where) is None:
        raise broken()
    wanted = (alert.id, call.me.id, where)
    taken = [(each.alert, each.user, each.destination) for each in call.state.subscriptions]
    if where is not None and wanted in taken:
        call.state.subscriptions.burn()
        raise broken()
    made = Subscription(alert=alert.id, user=call.me.id, destination=where)
    return shown(shapes.subscription(call.state, call.state.subscriptions.add(made)))


def unsubscribe(call: Call) -> Answer:
    """DELETE /api/alerts/<id>/subscriptions/<subscription>: one's own, or any to an admin."""
    found = call.find(call.state.subscriptions, "subscription")
    if found.user != call.me.id:
        call.admin_only()
    call.state.subscriptions.drop(found)
    return shown(None)


# -- destinations ----------------------------------------------------------------------------------


def destinations(call: Call) -> Answer:
    """GET /api/destinations: without options."""
    return shown([shapes.destination_line(each) for each in call.state.destinations])


def _refuse_name(call: Call, name: str, but: Destination | None = None) -> None:
    if call.state.destinations.where(lambda each: each.name == name and each is not but):
        raise refused(400, f"Alert Destination with the name {name} already exists.")


def _options(kind: object, options: object) -> dict[str, Any]:
    if kind not in _DESTINATIONS or not isinstance(options, dict):
        raise refused(400, BAD_REQUEST)
    return options


def create_destination(call: Call) -> Answer:
    """POST /api/destinations: names are unique."""
    call.admin_only()
    call.required("options", "name", "type")
    options = _options(call.body["type"], call.body["options"])
    _refuse_name(call, call.body["name"])
    made = Destination(name=call.body["name"], type=call.body["type"], options=dict(options))
    call.state.destinations.add(made)
    _remember(call, made)
    return shown(shapes.destination(made))


def _remember(call: Call, one: Destination) -> None:
    for name in shapes.SECRETS.get(one.type, ()):
        call.state.remember(str(one.options.get(name) or ""))


def destination(call: Call) -> Answer:
    """GET /api/destinations/<id>: options with the secrets covered."""
    call.admin_only()
    return shown(shapes.destination(call.find(call.state.destinations)))


def update_destination(call: Call) -> Answer:
    """POST /api/destinations/<id>: covered secrets are kept."""
    call.admin_only()
    found = call.find(call.state.destinations)
    call.required("options", "name", "type")
    sent = _options(call.body["type"], call.body["options"])
    _refuse_name(call, call.body["name"], found)
    found.options = {
        name: found.options.get(name, value) if value == shapes.MASK else value
        for name, value in sent.items()
    }
    found.name, found.type = call.body["name"], call.body["type"]
    _remember(call, found)
    return shown(shapes.destination(found))


def delete_destination(call: Call) -> Answer:
    """DELETE /api/destinations/<id>: 204; its subscriptions go with it."""
    call.admin_only()
    found = call.find(call.state.destinations)
    for each in call.state.subscriptions.where(lambda each: each.destination == found.id):
        call.state.subscriptions.drop(each)
    call.state.destinations.drop(found)
    return Answer(204, b"", {"Content-Type": "text/html; charset=utf-8"})


# -- snippets --------------------------------------------------------------------------------------


def snippets(call: Call) -> Answer:
    """GET /api/query_snippets."""
    return shown([shapes.snippet(call.state, each) for each in call.state.snippets])


def create_snippet(call: Call) -> Answer:
    """POST /api/query_snippets: a trigger a second time is 500."""
    call.required("trigger", "description", "snippet")
    body = call.body
    if call.state.snippets.where(lambda each: each.trigger == body["trigger"]):
        raise broken()
    made = Snippet(
        trigger=body["trigger"],
        description=body["description"],
        snippet=body["snippet"],
        user=call.me.id,
    )
    return shown(shapes.snippet(call.state, call.state.snippets.add(made)))


def delete_snippet(call: Call) -> Answer:
    """DELETE /api/query_snippets/<id>."""
    call.state.snippets.drop(call.find(call.state.snippets))
    return shown(None)
