"""Controls: a page and its queries flow in, the page with the controls that it needs flows out. Pure.

Redash writes the value of every control into a page whenever somebody edits the page, whether or not
it is what the queries start with anyway; and keeps controls that no widget listens to any more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping as Map

import msgspec

from analytics.redash.mark import digest
from analytics.redash.model import SHARED, Dashboard, Json, Mapping, Query


def _defaults(dashboard: Dashboard, queries: Map[str, Query]) -> dict[str, list[Json]]:
    """What the widgets' queries start with, by the page's name of the parameter, in the widgets' order."""
    found: defaultdict[str, list[Json]] = defaultdict(list)
    for widget in dashboard.widgets:
        query = queries.get(widget.query or "")
        for parameter in query.parameters if query else ():
            how = widget.mappings.get(parameter.name, Mapping(SHARED, parameter.name))
            if how.type == SHARED:
                found[how.to].append(parameter.default)
    return found


def plain_starts(dashboard: Dashboard, queries: Map[str, Query]) -> Dashboard:
    """Without starts that are what all the queries start with."""
    defaults = _defaults(dashboard, queries)
    starts = {
        name: value
        for name, value in dashboard.starts.items()
        if {digest(value)} != {digest(one) for one in defaults.get(name, ())}
    }
    return msgspec.structs.replace(dashboard, starts=starts)


def heard(dashboard: Dashboard, queries: Map[str, Query]) -> Dashboard:
    """With the controls that some widget listens to, and no other."""
    defaults = _defaults(dashboard, queries)
    names = [*dashboard.parameters, *(one for one in defaults if one not in dashboard.parameters)]
    return msgspec.structs.replace(
        dashboard,
        parameters=tuple(name for name in names if name in defaults),
        starts={name: value for name, value in dashboard.starts.items() if name in defaults},
    )
