"""Runs of queries: ids and parameters flow in, what they answer flows out, several at once.

Redash's workers do it; a job that none of them takes waits for ever, so whoever waits here has a limit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from analytics.redash import shape
from analytics.redash.client import Redash, RedashError, Refused
from analytics.redash.model import Column, Json, Query

_QUEUED, _STARTED, _FINISHED, _FAILED, _CANCELLED = 1, 2, 3, 4, 5
# Redash says of these nothing but null.
_TYPELESS: Final = (None, "string")
_POLL_S: Final = (0.05, 1.0)


@dataclass(frozen=True)
class Answer:
    """What became of a run: why it failed, or None and the columns by name, with Redash's types."""

    key: str
    error: str | None
    columns: tuple[tuple[str, str | None], ...] = ()


def run(redash: Redash, queries: Iterable[tuple[int, Query]], *, limit_s: float) -> list[Answer]:
    """Run queries of these ids with their defaults. RedashError where no worker takes any for so long.

    The limit counts from the last sign of life: a run that has begun, or ended.
    """
    jobs: dict[str, str] = {}
    answers: list[Answer] = []
    for id_, query in queries:
        body = {"max_age": 0, "parameters": query.defaults}
        try:
            asked = redash.post(f"/api/queries/{id_}/results", body, shape.Asked)
        except Refused as refused:
            answers.append(Answer(query.key, str(refused)))
            continue
        jobs[query.key] = asked["job"]["id"]  # max_age 0: always a run
    return answers + _wait(redash, jobs, limit_s)


def _wait(redash: Redash, jobs: dict[str, str], limit_s: float) -> list[Answer]:
    answers: list[Answer] = []
    started: set[str] = set()
    pause_s, alive_s = _POLL_S[0], time.monotonic()
    while jobs:
        for key, job_id in list(jobs.items()):
            job = redash.get(f"/api/jobs/{job_id}", shape.Asked)["job"]
            if job["status"] == _STARTED and key not in started:
                started.add(key)
                alive_s = time.monotonic()
            if job["status"] in {_FINISHED, _FAILED, _CANCELLED}:
                answers.append(_ended(redash, key, job))
                del jobs[key]
                pause_s, alive_s = _POLL_S[0], time.monotonic()
        if jobs and time.monotonic() - alive_s > limit_s:
            if not started and not answers:
                raise RedashError(
                    f"no worker of Redash took a query for {limit_s:.0f} s: start Redash's worker, then run"
                    " this again"
                )
            late = f"it did not end within {limit_s:.0f} s"
            answers += [Answer(key, late) for key in jobs]
            break
        if jobs:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _POLL_S[1])
    return answers


def _ended(redash: Redash, key: str, job: dict[str, Any]) -> Answer:
    if job["status"] != _FINISHED:
        return Answer(key, " ".join(str(job.get("error") or "it was cancelled").split()))
    number = job.get("query_result_id") or job.get("result")
    result = redash.get(f"/api/query_results/{number}", shape.Answered)
    return _answer(key, result["query_result"])


def _answer(key: str, result: Json) -> Answer:
    return Answer(
        key, None, tuple((one["name"], one.get("type")) for one in result["data"]["columns"])
    )


def broken_promise(promised: tuple[Column, ...], answer: Answer) -> str | None:
    """What an answer has other than its query promises, in words; None where it keeps to it.

    A query that promises nothing keeps to it.
    """
    if not promised:
        return None
    names = [name for name, _ in answer.columns]
    if names != [column.name for column in promised]:
        return f"it answers with the columns {', '.join(names)}, and promises others"
    for column, (name, type_) in zip(promised, answer.columns, strict=True):
        if type_ not in (_TYPELESS if column.type == "text" else (column.type,)):
            return f"its column {name} is of type {type_ or 'text'}, and promised as {column.type}"
    return None
