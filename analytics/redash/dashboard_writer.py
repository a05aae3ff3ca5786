"""Bringing dashboards: changes of pages flow in, Redash's API is told, the pages' ids there flow out.

A page is made with nothing but a name, which says whose it is until its mark does.
"""

from __future__ import annotations

from typing import Final

from analytics.redash import found as state
from analytics.redash import mark, shape, wire
from analytics.redash import plan as planning
from analytics.redash.client import Conflict, Redash, RedashError
from analytics.redash.found import UNBORN, Found, FoundDashboard
from analytics.redash.model import Dashboard, Spec, Widget
from analytics.redash.plan import Act
from analytics.redash.query_writer import QueryWriter

# How often a dashboard that somebody else is at work on is tried.
_TRIES: Final = 5


class DashboardWriter:
    """Writes dashboards, once the queries that they show are written."""

    def __init__(
        self, redash: Redash, spec: Spec, found: Found, queries: QueryWriter, *, is_stale: bool
    ) -> None:
        self._redash, self._spec, self._found = redash, spec, found
        self._queries = queries
        # Whether the dashboards may have lost widgets since they were found.
        self._is_stale = is_stale
        # Redash's numbers by key.
        self.ids = {key: one.id for key, one in found.dashboards.items()}

    def write(self, key: str) -> None:
        """One dashboard with its widgets. RedashError where somebody is at work on it all the time."""
        wanted, known = self._spec.dashboards[key], self._found.dashboards.get(key)
        if known is None:
            self.ids[key] = self._made(key)
        if known is None or self._is_stale:
            known = state.dashboard(self._redash, key, self.ids[key])
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

    def _made(self, key: str) -> int:
        """A new dashboard; where another apply made the same at the same time, the older of the two."""
        made = self._redash.post("/api/dashboards", {"name": UNBORN.format(key=key)}, shape.Made)
        rows, _ = state.begun(self._redash, "dashboard", [key])
        if key in rows and rows[key]["id"] != made["id"]:
            self._redash.delete(f"/api/dashboards/{made['id']}")
            return int(rows[key]["id"])
        return int(made["id"])

    def _bring(self, wanted: Dashboard, known: FoundDashboard) -> None:
        """Bring a dashboard to what is wanted; Conflict where somebody else changed it meanwhile."""
        queries = {
            id_: self._spec.queries.get(key) or self._found.queries[key].value
            for key, id_ in self._queries.ids.items()
        }
        known = planning.adopting(wanted, known, queries)
        change = planning.of_dashboard(wanted, known, queries)
        for part in change.parts:
            self._write_widget(wanted, known, part.name, part.act)
        if change.differences or change.publishes or change.marks:
            fields = wire.dashboard_fields(wanted)
            done = planning.marked_dashboard(wanted, known.id)
            fields["options"] = mark.put(fields["options"], done)
            body = {**fields, "is_draft": False, "version": known.version}
            self._redash.post(f"/api/dashboards/{known.id}", body)

    def _write_widget(self, wanted: Dashboard, known: FoundDashboard, key: str, act: Act) -> None:
        if act == "remove":
            self._redash.delete(f"/api/widgets/{known.widgets[key]['id']}")
            return
        widget = next(one for one in wanted.widgets if one.key == key)
        body = wire.widget_fields(widget, self._spec.queries)
        body["options"] = mark.put(body["options"], planning.marked_widget(widget))
        if act == "change":
            self._redash.post(f"/api/widgets/{known.widgets[key]['id']}", body)
            return
        made = {"dashboard_id": known.id, "visualization_id": self._shown(widget), "width": 1}
        self._redash.post("/api/widgets", {**body, **made})

    def _shown(self, widget: Widget) -> int | None:
        """The visualization of a widget; None of a text."""
        if widget.query is None:
            return None
        return self._queries.visualizations[widget.query, widget.visualization or ""]
