"""Applying: a plan flows in, Redash's API is told, what it leads to flows out.

Broken off anywhere, it is completed by the next run: whatever is made carries its key from its first request
on, or, of a dashboard, a name that is its key. What is up to date is not written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from analytics.redash import found as state
from analytics.redash import mark, source, wire
from analytics.redash import plan as planning
from analytics.redash import run as runs
from analytics.redash.client import Conflict, Redash, RedashError
from analytics.redash.found import UNBORN, Found, FoundDashboard, FoundQuery
from analytics.redash.mark import Mark
from analytics.redash.model import Dashboard, Query, Spec
from analytics.redash.plan import Change, Plan
from analytics.redash.source import Source

# What is being done, how much is done, of how much.
Tell = Callable[[str, int, int], None]
# How often a dashboard that somebody else is at work on is tried.
_TRIES: Final = 5


@dataclass(frozen=True)
class Applied:
    """What an apply led to."""

    changes: int
    # Queries that gave no answer, or another one than they promise, and why; they stand as they are.
    failed: dict[str, str]
    # Addresses by the dashboards' names.
    addresses: dict[str, str]


@dataclass
class _Query:
    """A query on its way: its id, and the mark it has in Redash by now."""

    id: int
    mark: Mark


def apply(
    redash: Redash,
    spec: Spec,
    found: Found,
    at: Source,
    *,
    prune: bool = False,
    limit_s: float = 120.0,
    tell: Tell,
) -> Applied:
    """Bring Redash to what the files say. Raises RedashError; run again, it goes on.

    ``prune`` archives what is ours and in no file. ``limit_s`` is how long a query may run.
    """
    source_id = source.put(redash, at) if at.options is not None else at.id
    plan = planning.plan(spec, found, source_id)
    return _Applier(redash, spec, found, source_id, plan, tell).all(prune, limit_s)


class _Applier:
    def __init__(
        self,
        redash: Redash,
        spec: Spec,
        found: Found,
        source_id: int | None,
        plan: Plan,
        tell: Tell,
    ) -> None:
        self._redash, self._spec, self._found, self._plan = redash, spec, found, plan
        self._source_id, self._tell = source_id, tell
        self._queries = {key: _Query(one.id, one.mark) for key, one in found.queries.items()}
        self._visualizations = {
            (key, name): id_
            for key, one in found.queries.items()
            for name, id_ in one.visualization_ids.items()
        }
        self._dashboards = {key: one.id for key, one in found.dashboards.items()}
        # Whether a visualization was removed: Redash removed the widgets that showed it, on whatever page.
        self._has_removed = False

    def all(self, prune: bool, limit_s: float) -> Applied:
        """The whole plan, in its order."""
        queries = [change for change in self._plan.changes if change.kind == "query"]
        pages = [change for change in self._plan.changes if change.kind == "dashboard"]
        gone = self._plan.gone if prune else ()
        total = len(queries) + len(pages) + len(gone)
        for number, change in enumerate(queries):
            self._tell(change.name, number, total)
            self._write_query(change)
        failed = self._run([change for change in queries if change.runs], limit_s)
        for change in queries:
            self._finish_query(change, self._spec.queries[change.key], change.key in failed)
        for number, change in enumerate(pages, len(queries)):
            self._tell(change.name, number, total)
            self._write_dashboard(self._spec.dashboards[change.key], change)
        for number, change in enumerate(gone, len(queries) + len(pages)):
            self._tell(change.name, number, total)
            self._archive(change)
        self._tell("", total, total)
        return Applied(total, failed, self._addresses())

    def _addresses(self) -> dict[str, str]:
        return {
            one.name: f"{self._redash.url}/dashboards/{self._dashboards[key]}"
            for key, one in self._spec.dashboards.items()
        }

    # --- queries

    def _write_query(self, change: Change) -> None:
        """All of a query but for its run."""
        wanted = self._spec.queries[change.key]
        known = self._found.queries.get(change.key)
        ids = {key: one.id for key, one in self._queries.items()}
        body = {**wire.query_fields(wanted, ids), "data_source_id": self._source_id}
        if known is None:
            ours = Mark(wanted.key)
            body["options"] = mark.put(body["options"], ours)
            made = self._redash.post("/api/queries", body)
            self._queries[change.key] = _Query(made["id"], ours)
            for one in made["visualizations"]:
                self._visualizations[change.key, one["name"]] = one["id"]
        elif change.differences:
            ours = self._mark_now(change, known)
            body["options"] = mark.put(body["options"], ours)
            self._redash.post(f"/api/queries/{known.id}", body)
            self._queries[change.key].mark = ours
        self._write_parts(change, wanted)

    def _mark_now(self, change: Change, known: FoundQuery) -> Mark:
        """The mark of a query's fields as they are about to be written, and of the rest as it was."""
        wanted = self._spec.queries[change.key]
        ran = "" if change.runs else known.mark.ran
        return msgspec.structs.replace(
            known.mark, fields=planning.marked(wanted, ran).fields, ran=ran
        )

    def _write_parts(self, change: Change, wanted: Query) -> None:
        query_id = self._queries[change.key].id
        alert_ids = known.alert_ids if (known := self._found.queries.get(change.key)) else {}
        for part in change.parts:
            if part.kind == "visualization":
                path, id_ = "/api/visualizations", self._visualizations.get((change.key, part.name))
                one = next((one for one in wanted.visualizations if one.name == part.name), None)
                fields = wire.visualization_fields(one) if one else None
            else:
                path, id_ = "/api/alerts", alert_ids.get(part.name)
                alert = next((one for one in wanted.alerts if one.name == part.name), None)
                fields = {**wire.alert_fields(alert), "query_id": query_id} if alert else None
            if fields is None:
                self._redash.delete(f"{path}/{id_}")
                self._has_removed |= part.kind == "visualization"
            elif id_ is not None:
                self._redash.post(f"{path}/{id_}", fields)
            else:
                made = self._redash.post(path, {**fields, "query_id": query_id})
                if part.kind == "visualization":
                    self._visualizations[change.key, part.name] = made["id"]

    def _run(self, changes: Iterable[Change], limit_s: float) -> dict[str, str]:
        """Run the queries, those first whose answers are others' lists; why some of them failed."""
        lists = {
            parameter.source
            for query in self._spec.queries.values()
            for parameter in query.parameters
        }
        keys = [change.key for change in changes]
        failed: dict[str, str] = {}
        for some in ([key for key in keys if key in lists], [k for k in keys if k not in lists]):
            asked = [(self._queries[key].id, self._spec.queries[key]) for key in some]
            for answer in runs.run(self._redash, asked, limit_s=limit_s):
                why = answer.error or runs.broken_promise(
                    self._spec.queries[answer.key].columns, answer
                )
                if why is not None:
                    failed[answer.key] = why
        return failed

    def _finish_query(self, change: Change, wanted: Query, has_failed: bool) -> None:
        """Publish it, and note what it is now and whether it has run."""
        ours = self._queries[change.key]
        ran = "" if has_failed else planning.to_run(wanted, self._source_id)
        done = planning.marked(wanted, ran)
        if done == ours.mark and not change.publishes:
            return
        ids = {key: one.id for key, one in self._queries.items()}
        options = mark.put(wire.query_fields(wanted, ids)["options"], done)
        self._redash.post(f"/api/queries/{ours.id}", {"options": options, "is_draft": False})

    # --- dashboards

    def _write_dashboard(self, wanted: Dashboard, change: Change) -> None:
        if change.act == "create":
            made = self._redash.post("/api/dashboards", {"name": UNBORN.format(key=wanted.key)})
            self._dashboards[wanted.key] = made["id"]
            known = state.dashboard(self._redash, wanted.key, made["id"])
        else:
            known = self._found.dashboards[wanted.key]
            if self._has_removed:
                known = state.dashboard(self._redash, wanted.key, known.id)
        for _ in range(_TRIES):
            try:
                self._bring(wanted, known)
            except Conflict:
                known = state.dashboard(self._redash, wanted.key, known.id)
            else:
                return
        raise RedashError(
            f"somebody is at work on the dashboard {wanted.name} in Redash: run this again later"
        )

    def _bring(self, wanted: Dashboard, known: FoundDashboard) -> None:
        """Bring a dashboard to what is wanted; Conflict where somebody else changed it meanwhile."""
        queries = {
            one.id: self._spec.queries.get(key) or self._found.queries[key].value
            for key, one in self._queries.items()
        }
        change = planning.of_dashboard(wanted, known, queries)
        for part in change.parts:
            self._write_widget(wanted, known, part.name, part.act)
        if change.differences or change.publishes or change.marks:
            fields = wire.dashboard_fields(wanted)
            fields["options"] = mark.put(fields["options"], planning.marked_dashboard(wanted))
            self._redash.post(
                f"/api/dashboards/{known.id}",
                {**fields, "is_draft": False, "version": known.version},
            )

    def _write_widget(
        self, wanted: Dashboard, known: FoundDashboard, key: str, act: planning.Act
    ) -> None:
        if act == "remove":
            self._redash.delete(f"/api/widgets/{known.widgets[key]['id']}")
            return
        widget = next(one for one in wanted.widgets if one.key == key)
        body = wire.widget_fields(widget, self._spec.queries)
        body["options"] = mark.put(body["options"], planning.marked_widget(widget))
        if act == "change":
            self._redash.post(f"/api/widgets/{known.widgets[key]['id']}", body)
            return
        shown = (
            None
            if widget.query is None
            else self._visualizations[widget.query, widget.visualization or ""]
        )
        self._redash.post(
            "/api/widgets",
            {**body, "dashboard_id": known.id, "visualization_id": shown, "width": 1},
        )

    def _archive(self, change: Change) -> None:
        if change.kind == "dashboard":
            self._redash.delete(f"/api/dashboards/{self._dashboards[change.key]}")
        else:
            self._redash.delete(f"/api/queries/{self._queries[change.key].id}")
