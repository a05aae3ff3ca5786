"""The worker beside the server: jobs flow in, results and failures flow out. It works between requests."""

from __future__ import annotations

import operator
import time
import uuid
from collections.abc import Mapping
from typing import Any, Final

from tests.redash import rendering, sql
from tests.redash.sql import Canned, Failed
from tests.redash.state import Alert, Job, Query, Result, Source, State, now

_SCHEDULE_KEYS: Final = {"interval", "time", "day_of_week", "until"}
_COMPARE: Final = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


class Worker:
    """Runs jobs on the data sources, or with canned answers where there are any."""

    def __init__(self, state: State, canned: Canned | None) -> None:
        self.state = state
        self.canned = canned
        self.answers: dict[str, Canned | str] = {}
        self.absent = False
        self.polls = 0
        self.ran: list[str] = []

    def ask(self, source: Source, text: str, asked_by: str, query: int | None = None) -> Job:
        """A job for the text. The same one while it waits or runs is not queued twice."""
        text_hash = rendering.text_hash(text)
        for job in self.state.jobs.values():
            if (job.source, job.hash, job.over) == (source.id, text_hash, False):
                return job
        return self._queue(Job(str(uuid.uuid4()), source.id, text_hash, text, asked_by, query))

    def ask_schema(self, source: Source) -> Job:
        """A job that reads a source's tables."""
        return self._queue(Job(str(uuid.uuid4()), source.id, wants_schema=True))

    def _queue(self, job: Job) -> Job:
        job.polls = self.polls
        self.state.jobs[job.id] = job
        return job

    def work(self) -> None:
        """Do every job that is due: those that nobody has to be made to wait for."""
        for job in list(self.state.jobs.values()):
            if not (job.over or job.polls or self.absent):
                self._do(job)

    def poll(self, job: Job) -> None:
        """Somebody looks at a job. A slow worker's gets on by that: first it starts, then it is done."""
        if job.over or self.absent:
            return
        if job.polls == 0:
            self._do(job)
            return
        job.polls -= 1
        if job.polls < self.polls - 1:
            job.status, job.started_at = 2, now().removesuffix("Z")

    def cancel(self, job: Job) -> None:
        """Stop it, if it is not over."""
        if not job.over:
            job.status, job.error = 4, "Query cancelled by user."

    def probe(self, source: Source) -> str:
        """Empty where a source answers, else why not."""
        try:
            self._data(Job("", source.id, text="SELECT 1"), source)
        except Failed as failure:
            return str(failure)
        return ""

    def _do(self, job: Job) -> None:
        source = self.state.sources.get(job.source)
        if source is None:
            job.status, job.error = 4, "Target data source not available."
            return
        try:
            if job.wants_schema:
                job.schema = source.schema = self._tables(source)
            else:
                job.rid = self._run(job, source).id
            job.status = 3
        except Failed as failure:
            job.status, job.error = 4, str(failure)

    def _tables(self, source: Source) -> list[dict[str, Any]]:
        return self.canned.tables if self.canned else sql.tables(source.options)

    def _run(self, job: Job, source: Source) -> Result:
        self.ran.append(job.text)
        began = time.monotonic()
        data = self._data(job, source)
        result = self.state.results.add(
            Result(hash=job.hash, text=job.text, data=data, source=source.id)
        )
        result.runtime = time.monotonic() - began
        # Only a run of the text that the default values make is a query's own result.
        for query in self.state.queries.where(
            lambda one: (one.source, one.hash) == (source.id, job.hash)
        ):
            query.result = result.id
            self._weigh(query, result)
        return result

    def _data(self, job: Job, source: Source) -> dict[str, Any]:
        for part, answer in self.answers.items():
            if part in job.text:
                if isinstance(answer, str):
                    raise Failed(answer)
                return answer.data
        if self.canned:
            return self.canned.data
        note = (
            f"/* Username: {job.asked_by}, query_id: {job.query or 'adhoc'}, Queue: queries, "
            f"Job ID: {job.id}, Query Hash: {job.hash}, Scheduled: False */ "
        )
        return sql.run(source.options, note + job.text)

    def _weigh(self, query: Query, result: Result) -> None:
        for alert in self.state.alerts.where(lambda one: one.query == query.id):
            self.weigh(alert, result)

    def weigh(self, alert: Alert, result: Result | None) -> None:
        """What a result says of an alert."""
        state = _verdict(alert.options, result.data["rows"] if result else [])
        if state == "triggered":
            alert.last_triggered_at = now()
        alert.state = state

    def tick(self) -> None:
        """The scheduler looks once: bad schedules are switched off, others run with the default values."""
        for query in self.state.queries:
            schedule = query.schedule
            if query.is_archived or not schedule or schedule.get("disabled"):
                continue
            if set(schedule) < _SCHEDULE_KEYS:
                query.schedule = {**schedule, "disabled": True}
                continue
            source = self.state.sources.get(query.source)
            values = rendering.defaults(query.parameters)
            if rendering.incompatible(query.parameters, values, self.dropdown):
                query.schedule_failures += 1
            elif source:
                self.ask(source, self.text_of(query, values), "Scheduled", query.id)
        self.work()

    def text_of(self, query: Query, values: Mapping[str, Any]) -> str:
        """The SQL that a run of a query with these values is."""
        text = rendering.rendered(query.text, query.parameters, values)
        return rendering.limited(text, bool(query.options.get("apply_auto_limit")))

    def dropdown(self, query_id: object) -> list[str]:
        """The values another query's newest result offers."""
        return [one["value"] for one in self.choices(query_id)]

    def choices(self, query_id: object) -> list[dict[str, str]]:
        """Names and values of a dropdown query: of the columns so named, else of the first."""
        query = self.state.queries.get(query_id)
        result = self.state.results.get(query.result) if query else None
        if result is None:
            return []
        names = [column["name"] for column in result.data["columns"]]
        name = "name" if "name" in names else names[0]
        value = "value" if "value" in names else names[0]
        return [{"name": str(row[name]), "value": str(row[value])} for row in result.data["rows"]]


def _verdict(options: Mapping[str, Any], rows: list[dict[str, Any]]) -> str:
    column = str(options.get("column"))
    values = [row[column] for row in rows if row.get(column) is not None]
    compare = _COMPARE.get(str(options.get("op")))
    if not values or compare is None:
        return "unknown"
    pick = {"min": min, "max": max}.get(str(options.get("selector")))
    try:
        hit = compare(float(pick(values) if pick else values[0]), float(options["value"]))
    except (KeyError, TypeError, ValueError):
        return "unknown"
    return "triggered" if hit else "ok"
