"""Applying: a plan flows in, Redash's API is told, what it leads to flows out.

Broken off anywhere, it is completed by the next run. What is up to date is not written. Two at once make
nothing twice that stays: who finds its own second archives it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analytics.redash import plan as planning
from analytics.redash import source
from analytics.redash.client import Redash
from analytics.redash.dashboard_writer import DashboardWriter
from analytics.redash.found import Found
from analytics.redash.model import Kind, Spec
from analytics.redash.query_writer import QueryWriter
from analytics.redash.source import Source

# What is being done, how much is done, of how much.
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Applied:
    """What an apply led to."""

    changes: int
    # Queries that gave no answer, or another one than they promise, and why; they stand as they are.
    failed: dict[str, str]
    # Addresses by the dashboards' names.
    addresses: dict[str, str]


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
    queries = [change for change in plan.changes if change.kind == "query"]
    pages = [change for change in plan.changes if change.kind == "dashboard"]
    gone = _gone(plan, found) if prune else []
    total, done = len(queries) + len(pages) + len(plan.left) + len(gone), 0

    def begin(name: str) -> None:
        nonlocal done
        tell(name, done, total)
        done += 1

    of_queries = QueryWriter(redash, spec, found, source_id)
    for change in queries:
        begin(change.name)
        of_queries.write(change)
    of_queries.yield_to_others([change for change in queries if change.act == "create"])
    for change in queries:
        of_queries.write_parts(change)
    failed = of_queries.run([change for change in queries if change.runs], limit_s)
    for change in queries:
        of_queries.finish(change, has_failed=change.key in failed)
    for left in plan.left:
        begin(left.name)
        _archive(redash, left.kind, left.id)
    # With a chart or a query Redash removes what shows it, also from pages that lacked nothing.
    is_stale = of_queries.has_removed or bool(plan.left)
    of_dashboards = DashboardWriter(redash, spec, found, of_queries, is_stale=is_stale)
    for change in pages:
        begin(change.name)
        of_dashboards.write(change.key)
    written = {change.key for change in pages}
    for key in spec.dashboards:
        if is_stale and key not in written:
            of_dashboards.write(key)
    for kind, id_, name in gone:
        begin(name)
        _archive(redash, kind, id_)
    tell("", total, total)
    addresses = {
        page.name: f"{redash.url}/dashboards/{of_dashboards.ids[key]}"
        for key, page in spec.dashboards.items()
    }
    return Applied(total, failed, addresses)


def _archive(redash: Redash, kind: Kind, id_: int) -> None:
    redash.delete(f"/api/{'queries' if kind == 'query' else 'dashboards'}/{id_}")


def _gone(plan: planning.Plan, found: Found) -> list[tuple[Kind, int, str]]:
    """What no file has any more: kind, number and name; dashboards first: no page is seen in parts."""
    ids: dict[tuple[Kind, str], int] = {
        **{("dashboard", key): one.id for key, one in found.dashboards.items()},
        **{("query", key): one.id for key, one in found.queries.items()},
    }
    return [(one.kind, ids[one.kind, one.key], one.name) for one in plan.gone]
