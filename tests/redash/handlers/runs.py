"""Running queries, jobs and results: calls flow in, answers flow out. Default values are never filled in."""

from __future__ import annotations

import csv
import datetime
import io
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from tests.redash import rendering, shapes
from tests.redash.answer import (
    FORBIDDEN,
    NO_RESULT,
    Answer,
    broken,
    no_run,
    not_found,
    refused,
    shown,
)
from tests.redash.call import Call
from tests.redash.state import Job, Query, Result, Source

_NO_SOURCE: Final = "Target data source not available."
_SELECT_SOURCE: Final = "Please select data source to run this query."
_NO_RIGHT: Final = "You do not have permission to run queries with this data source."
_UNSAFE_VIEW: Final = (
    "This query contains potentially unsafe parameters and cannot be executed with read-only access "
    "to this data source."
)
_UNSAFE_SHARED: Final = (
    "This query contains potentially unsafe parameters and cannot be executed on a shared dashboard "
    "or an embedded visualization."
)


def _shape(call: Call, result: Result) -> dict[str, Any]:
    return shapes.public_result(result) if call.caller.is_public else shapes.result(result)


def _check(call: Call, query: Query, values: Mapping[str, Any]) -> None:
    """400 for values that do not fit, and for values that are missing."""
    bad = rendering.incompatible(query.parameters, values, call.worker.dropdown)
    if bad:
        names = ", ".join(bad)
        message = f"The following parameter values are incompatible with their definitions: {names}"
        raise refused(400, message)
    missing = rendering.missing(query.text, values)
    if missing:
        names = ", ".join(sorted(missing))
        raise no_run(400, f"Missing parameter value for: {names}")


def _run(call: Call, source: Source, text: str, max_age: object, query: Query | None) -> Answer:
    if source.paused:
        why = f" ({source.pause_reason})" if source.pause_reason else ""
        raise no_run(400, f"{source.name} is paused{why}. Please try later.")
    age = _seconds(max_age)
    cached = call.state.newest_result(source.id, rendering.text_hash(text))
    if cached and age and (age < 0 or _age(cached) <= age):
        return shown(_shape(call, cached))
    by = call.caller.user.email if call.caller.user else "public"
    job = call.worker.ask(source, text, by, query.id if query else None)
    return shown(shapes.job(job))


def _seconds(max_age: object) -> int:
    """Null is any age; 500 for what is no number."""
    try:
        return -1 if max_age is None else int(str(max_age))
    except ValueError:
        raise broken() from None


def _age(result: Result) -> float:
    """Seconds since it was fetched."""
    return time.time() - datetime.datetime.fromisoformat(result.retrieved_at).timestamp()


def run_query(call: Call) -> Answer:
    """POST /api/queries/<id>/results: a job, or a result that is young enough."""
    query = call.find(call.state.queries)
    values = call.body.get("parameters") or {}
    return _run_saved(call, query, values, call.body.get("max_age", -1))


def _run_saved(call: Call, query: Query, values: Mapping[str, Any], max_age: object) -> Answer:
    safe = rendering.is_safe(query.parameters)
    source = call.state.sources.get(query.source)
    if source is None and (call.is_admin or call.may_see(query)):
        raise no_run(401, _NO_SOURCE)
    if call.caller.is_public:
        if not safe:
            raise no_run(403, _UNSAFE_SHARED)
        if not call.may_see(query):
            raise no_run(403, _NO_RIGHT)
    elif not call.may_use(query.source, only_look=safe):
        may_look = call.may_use(query.source, only_look=True)
        raise no_run(403, _UNSAFE_VIEW if may_look else _NO_RIGHT)
    _check(call, query, values)
    if source is None:
        raise no_run(401, _NO_SOURCE)
    return _run(call, source, call.worker.text_of(query, values), max_age, query)


def refresh(call: Call) -> Answer:
    """POST /api/queries/<id>/refresh?p_name=value: always a job."""
    query = call.find(call.state.queries)
    if call.caller.is_public:
        raise refused(403, FORBIDDEN)
    values: dict[str, Any] = {}
    for name, texts in call.params.items():
        if not name.startswith("p_"):
            continue
        head, _, part = name.removeprefix("p_").partition(".")
        if part:
            values.setdefault(head, {})[part] = texts[0]
        else:
            values[head] = texts[0]
    return _run_saved(call, query, values, 0)


def run_text(call: Call) -> Answer:
    """POST /api/query_results: any SQL, for who may run any."""
    body = call.body
    source = call.state.sources.get(body.get("data_source_id"))
    if source is None:
        raise no_run(401, _SELECT_SOURCE)
    if not call.may_use(source.id, only_look=False):
        raise no_run(403, _NO_RIGHT)
    if "query" not in body:
        raise broken()
    values = body.get("parameters") or {}
    missing = rendering.missing(body["query"], values)
    if missing:
        raise no_run(400, f"Missing parameter value for: {', '.join(sorted(missing))}")
    text = rendering.rendered(body["query"], [], values)
    text = rendering.limited(text, bool(body.get("apply_auto_limit")))
    return _run(call, source, text, body.get("max_age", -1), None)


# -- jobs ------------------------------------------------------------------------------------------


def _job(call: Call) -> Job:
    job = call.state.jobs.get(call.args["id"])
    if job is None:
        raise broken()
    return job


def job(call: Call) -> Answer:
    """GET /api/jobs/<id>: 500 for an unknown one."""
    found = _job(call)
    call.worker.poll(found)
    return shown(shapes.job(found))


def cancel(call: Call) -> Answer:
    """DELETE /api/jobs/<id>."""
    call.worker.cancel(_job(call))
    return shown(None)


# -- results ---------------------------------------------------------------------------------------


def result(call: Call) -> Answer:
    """GET /api/query_results/<id>, with or without .json, .csv or .tsv."""
    number, form = _split(call.args["result"])
    found = call.state.results.get(number)
    if found is None:
        raise refused(404, NO_RESULT)
    if not call.may_use(found.source, only_look=True):
        raise refused(403, FORBIDDEN)
    return _file(call, found, form, str(found.id), cache=True)


def latest(call: Call) -> Answer:
    """GET /api/queries/<id>/results: the query's own result, if it ever had one."""
    query = _readable(call)
    found = call.state.results.get(query.result)
    if found is None:
        raise refused(404, NO_RESULT)
    form = call.args.get("form", "").lstrip(".") or "json"
    return _file(call, found, form, _file_name(query), cache=False)


def result_of(call: Call) -> Answer:
    """GET /api/queries/<id>/results/<result>.json: to the public only the query's own."""
    query = _readable(call)
    number, form = _split(call.args["result"])
    found = call.state.results.get(number)
    own = found is not None and found.id == query.result
    if found is None or (call.caller.is_public and not own):
        raise refused(404, NO_RESULT)
    return _file(call, found, form, _file_name(query), cache=True)


def _readable(call: Call) -> Query:
    query = call.find(call.state.queries)
    if not call.may_see(query):
        raise refused(403, FORBIDDEN)
    return query


def _split(name: str) -> tuple[int, str]:
    number, _, form = name.partition(".")
    if not number.isdigit() or form not in ("", "json", "csv", "tsv"):
        raise not_found()
    return int(number), form or "json"


def _file_name(query: Query) -> str:
    return re.sub(r"\W+", "_", query.name).strip("_")


def _file(call: Call, result: Result, form: str, name: str, cache: bool) -> Answer:
    day = result.retrieved_at[:10].replace("-", "_")
    headers = {"Content-Disposition": f"attachment; filename={name}_{day}.{form}"}
    if form == "json":
        if cache:
            headers["Cache-Control"] = "private,max-age=31557600"
        return shown(_shape(call, result), headers=headers)
    text = io.StringIO()
    names = [column["name"] for column in result.data["columns"]]
    writer = csv.DictWriter(text, names, delimiter="\t" if form == "tsv" else ",")
    writer.writeheader()
    writer.writerows(result.data["rows"])
    kind = "tab-separated-values" if form == "tsv" else "csv"
    return Answer(
        200,
        text.getvalue().encode(),
        {"Content-Type": f"text/{kind}; charset=UTF-8", **headers},
    )
