"""Bringing queries: changes of queries flow in, Redash's API is told, the queries' ids there flow out.

What is made carries its key from its first request on, and its whole mark from its last, which publishes it:
what a run left between the two, the next one completes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from analytics.redash import found as state
from analytics.redash import mark, shape, wire
from analytics.redash import plan as planning
from analytics.redash import run as runs
from analytics.redash.client import Redash
from analytics.redash.found import Found, FoundQuery
from analytics.redash.mark import Mark
from analytics.redash.model import Spec
from analytics.redash.plan import Change, Part


@dataclass
class _Query:
    """A query on its way: its id, and the mark it has in Redash by now."""

    id: int
    mark: Mark


class QueryWriter:
    """Writes queries, and knows what is where in Redash by then."""

    def __init__(self, redash: Redash, spec: Spec, found: Found, source_id: int | None) -> None:
        self._redash, self._spec, self._found = redash, spec, found
        self._source_id = source_id
        self._queries = {key: _Query(one.id, one.mark) for key, one in found.queries.items()}
        # Ids of visualizations by the query's key and the name.
        self.visualizations = {
            (key, name): id_
            for key, one in found.queries.items()
            for name, id_ in one.visualization_ids.items()
        }
        # Whether a visualization was removed.
        self.has_removed = False

    @property
    def ids(self) -> dict[str, int]:
        """Redash's numbers by key."""
        return {key: one.id for key, one in self._queries.items()}

    def write(self, change: Change) -> None:
        """A query's own fields."""
        wanted = self._spec.queries[change.key]
        known = self._found.queries.get(change.key)
        body = {**wire.query_fields(wanted, self.ids), "data_source_id": self._source_id}
        if known is None:
            ours = Mark(wanted.key)
            body["options"] = mark.put(body["options"], ours)
            made = self._redash.post("/api/queries", body, shape.Query)
            self._queries[change.key] = _Query(made["id"], ours)
            self._note_visualizations(change.key, made["visualizations"])
        elif change.differences:
            ours = self._mark_now(change, known)
            body["options"] = mark.put(body["options"], ours)
            self._redash.post(f"/api/queries/{known.id}", body)
            self._queries[change.key].mark = ours

    def yield_to_others(self, made: Sequence[Change]) -> None:
        """Where another apply made the same at the same time, take the older; archive that of this run."""
        if not made:
            return
        rows, _ = state.begun(self._redash, "query")
        for change in made:
            key, ours = change.key, self._queries[change.key]
            if key not in rows or rows[key]["id"] == ours.id:
                continue
            self._redash.delete(f"/api/queries/{ours.id}")
            other = self._redash.get(f"/api/queries/{rows[key]['id']}", shape.Query)
            self._queries[key] = _Query(other["id"], mark.own(other) or Mark(key))
            self._note_visualizations(key, other["visualizations"])

    def write_parts(self, change: Change) -> None:
        """A query's visualizations and alerts."""
        for part in change.parts:
            if part.kind == "visualization":
                self._write_visualization(change.key, part)
            else:
                self._write_alert(change.key, part)

    def run(self, changes: Sequence[Change], limit_s: float) -> dict[str, str]:
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

    def finish(self, change: Change, *, has_failed: bool) -> None:
        """Publish it, and note what it is now and whether it has run."""
        wanted, ours = self._spec.queries[change.key], self._queries[change.key]
        ran = "" if has_failed else planning.to_run(wanted, self._source_id)
        done = planning.marked(wanted, ours.id, ran)
        if done == ours.mark and not change.publishes:
            return
        options = mark.put(wire.query_fields(wanted, self.ids)["options"], done)
        self._redash.post(f"/api/queries/{ours.id}", {"options": options, "is_draft": False})

    def _note_visualizations(self, key: str, known: Sequence[wire.Object]) -> None:
        for one in reversed(known):
            self.visualizations[key, one["name"]] = one["id"]

    def _mark_now(self, change: Change, known: FoundQuery) -> Mark:
        """The mark of a query's fields as they are about to be written, and of the rest as it was."""
        wanted = self._spec.queries[change.key]
        ran = "" if change.runs else known.mark.ran
        fields = planning.marked(wanted, known.id, ran).fields
        return msgspec.structs.replace(known.mark, id=known.id, fields=fields, ran=ran)

    def _write_visualization(self, key: str, part: Part) -> None:
        query = self._spec.queries[key]
        id_ = self.visualizations.get((key, part.name))
        wanted = next((one for one in query.visualizations if one.name == part.name), None)
        if wanted is None:
            self._redash.delete(f"/api/visualizations/{id_}")
            self.has_removed = True
            return
        fields = wire.visualization_fields(wanted)
        if id_ is not None:
            self._redash.post(f"/api/visualizations/{id_}", fields)
            return
        body = {**fields, "query_id": self._queries[key].id}
        made = self._redash.post("/api/visualizations", body, shape.Made)
        self.visualizations[key, part.name] = made["id"]

    def _write_alert(self, key: str, part: Part) -> None:
        known = self._found.queries.get(key)
        id_ = known.alert_ids.get(part.name) if known else None
        alerts = self._spec.queries[key].alerts
        wanted = next((one for one in alerts if one.name == part.name), None)
        if wanted is None:
            self._redash.delete(f"/api/alerts/{id_}")
            return
        body = {**wire.alert_fields(wanted), "query_id": self._queries[key].id}
        self._redash.post("/api/alerts" if id_ is None else f"/api/alerts/{id_}", body)
