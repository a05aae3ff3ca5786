"""Data sources: calls flow in, answers flow out. Secrets are covered when shown, kept when sent covered."""

from __future__ import annotations

from typing import Any, Final

from tests.redash import shapes
from tests.redash.answer import (
    BAD_REQUEST,
    Answer,
    Refusal,
    broken,
    gave_up,
    not_found,
    refused,
    shown,
)
from tests.redash.call import Call
from tests.redash.state import DEFAULT_GROUP, Grant, Source

_SSL: Final = {
    "disable": "Disable",
    "allow": "Allow",
    "prefer": "Prefer",
    "require": "Require",
    "verify-ca": "Verify CA",
    "verify-full": "Verify Full",
}
_FILES: Final = {
    "sslrootcertFile": "SSL Root Certificate",
    "sslcertFile": "SSL Client Certificate",
    "sslkeyFile": "SSL Client Key",
}
_PG: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "user": {"type": "string"},
        "password": {"type": "string"},
        "host": {"type": "string", "default": "127.0.0.1"},
        "port": {"type": "number", "default": 5432},
        "dbname": {"type": "string", "title": "Database Name"},
        "dsn": {"type": "string", "default": "application_name=redash", "title": "Parameters"},
        "sslmode": {
            "type": "string",
            "title": "SSL Mode",
            "default": "prefer",
            "extendedEnum": [{"value": value, "name": name} for value, name in _SSL.items()],
        },
        **{name: {"type": "string", "title": title} for name, title in _FILES.items()},
    },
    "order": ["host", "port", "user", "password"],
    "required": ["dbname"],
    "secret": ["password", *_FILES],
    "extra_options": ["sslmode", *_FILES],
}


def types(call: Call) -> Answer:
    """GET /api/data_sources/types: here there is only Postgres."""
    call.admin_only()
    return shown([{"name": "PostgreSQL", "type": "pg", "configuration_schema": _PG}])


def _checked(kind: object, options: object) -> dict[str, Any]:
    """Options without nulls, or 400. Unknown keys are welcome."""
    if kind != "pg" or not isinstance(options, dict):
        raise refused(400, BAD_REQUEST)
    given = {name: value for name, value in options.items() if value is not None}
    wanted = {"string": str, "number": int | float}
    for name, about in _PG["properties"].items():
        if name in given and not isinstance(given[name], wanted[about["type"]]):
            raise refused(400, BAD_REQUEST)
    if "dbname" not in given:
        raise refused(400, BAD_REQUEST)
    return given


def sources(call: Call) -> Answer:
    """GET /api/data_sources: by name; an admin sees all, others those of their groups."""
    call.allow("list_data_sources")
    found = [one for one in call.state.sources if call.is_admin or call.listed(one.id)]
    return shown(
        [
            shapes.source_line(one) | {"view_only": call.view_only(one.id)}
            for one in sorted(found, key=lambda one: one.name.lower())
        ]
    )


def create(call: Call) -> Answer:
    """POST /api/data_sources: a name may be there already; the default group gets it."""
    call.admin_only()
    call.required("name", "type", "options")
    options = _checked(call.body["type"], call.body["options"])
    source = call.state.sources.add(
        Source(name=call.body["name"], type=call.body["type"], options=dict(options))
    )
    call.state.grants.append(Grant(DEFAULT_GROUP, source.id))
    return _kept(call, source, options)


def _kept(call: Call, source: Source, options: dict[str, Any]) -> Answer:
    """Shown in the order sent, stored in the order of the alphabet."""
    source.options = dict(sorted(options.items()))
    for name in shapes.SECRETS["pg"]:
        call.state.remember(str(source.options.get(name) or ""))
    return shown(shapes.source(call.state, source, options))


def one(call: Call) -> Answer:
    """GET /api/data_sources/<id>."""
    source = call.find(call.state.sources)
    if not call.is_admin:
        call.allow("list_data_sources")
        if not call.listed(source.id):
            call.admin_only()
        return shown(shapes.source_line(source) | {"view_only": call.view_only(source.id)})
    shape = shapes.source(call.state, source, source.options)
    return shown(shape | {"view_only": call.view_only(source.id)})


def update(call: Call) -> Answer:
    """POST /api/data_sources/<id>: all three keys needed; the options are replaced whole."""
    call.admin_only()
    source = call.find(call.state.sources, otherwise=broken)
    call.need("name", "type", "options")
    sent = _checked(call.body["type"], call.body["options"])
    options = {
        name: source.options.get(name, value)
        if value == shapes.MASK and name in shapes.SECRETS["pg"]
        else value
        for name, value in sent.items()
    }
    source.name, source.type, source.schema = call.body["name"], call.body["type"], None
    return _kept(call, source, options)


def delete(call: Call) -> Answer:
    """DELETE /api/data_sources/<id>: 204; its queries stay without a source."""
    call.admin_only()
    source = call.find(call.state.sources, otherwise=broken)
    for query in call.state.queries.where(lambda each: each.source == source.id):
        query.source, query.result = None, None
    call.state.grants = [each for each in call.state.grants if each.source != source.id]
    call.state.sources.drop(source)
    return Answer(204, b"", {"Content-Type": "text/html; charset=utf-8"})


def test(call: Call) -> Answer:
    """POST /api/data_sources/<id>/test: always 200, `ok` says it; 500 where no worker does it."""
    call.admin_only()
    source = call.find(call.state.sources)
    if call.worker.absent:
        raise Refusal(gave_up())
    why_not = call.worker.probe(source)
    return shown({"message": why_not or "success", "ok": not why_not})


def schema(call: Call) -> Answer:
    """GET /api/data_sources/<id>/schema: what is known, else a job that looks."""
    source = call.find(call.state.sources)
    if not call.may_use(source.id, only_look=True):
        raise not_found()
    if source.schema is not None and call.param("refresh") != "true":
        return shown({"schema": source.schema})
    return shown(shapes.job(call.worker.ask_schema(source)))


def pause(call: Call) -> Answer:
    """POST /api/data_sources/<id>/pause, with or without a reason."""
    call.admin_only()
    source = call.find(call.state.sources)
    reason = call.body.get("reason") if call.given else None
    source.paused, source.pause_reason = 1, reason or call.param("reason") or None
    return shown(shapes.source_line(source))


def resume(call: Call) -> Answer:
    """DELETE /api/data_sources/<id>/pause."""
    call.admin_only()
    source = call.find(call.state.sources)
    source.paused, source.pause_reason = 0, None
    return shown(shapes.source_line(source))
