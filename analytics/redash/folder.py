"""A folder of files flows in, a Spec flows out; and back. What files say of one another is checked here."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Map
from pathlib import Path
from typing import Final

from analytics.redash import controls, dashboard_file, query_file
from analytics.redash.marked import Malformed
from analytics.redash.model import KEY, SHARED, Dashboard, Query, Spec, Widget

# Those of this project; an installation that was not made from a clone has no such folder.
OURS: Final = Path(__file__).resolve().parents[2] / "redash_queries"
_DASHBOARDS: Final = "dashboards"


def read(folder: Path) -> Spec:
    """All queries and dashboards of a folder. Raises Malformed, also where there is no query."""
    queries = {key: query_file.read(key, text, file) for key, text, file in _texts(folder, "*.sql")}
    if not queries:
        raise Malformed(f"{folder} has no query: name a folder with .sql files")
    dashboards = {
        key: dashboard_file.read(key, text, file)
        for key, text, file in _texts(folder / _DASHBOARDS, "*.yaml")
    }
    ordered = _ordered(folder, queries)
    for dashboard in dashboards.values():
        _check(folder / _DASHBOARDS / f"{dashboard.key}.yaml", dashboard, queries)
    plain = {key: controls.plain_starts(one, queries) for key, one in dashboards.items()}
    return Spec(ordered, plain)


def write(spec: Spec, folder: Path) -> list[Path]:
    """Write what the folder does not say already, and say which files that were."""
    told = []
    (folder / _DASHBOARDS).mkdir(parents=True, exist_ok=True)
    for query in spec.queries.values():
        path = folder / f"{query.key}.sql"
        if not _says(path, query, spec.queries):
            before = path.read_text(encoding="utf-8") if path.exists() else None
            path.write_text(query_file.write(query, before), encoding="utf-8", newline="\n")
            told.append(path)
    for dashboard in spec.dashboards.values():
        path = folder / _DASHBOARDS / f"{dashboard.key}.yaml"
        if not _says(path, dashboard, spec.queries):
            path.write_text(dashboard_file.write(dashboard), encoding="utf-8", newline="\n")
            told.append(path)
    return told


def _texts(folder: Path, pattern: str) -> Iterable[tuple[str, str, str]]:
    """Key, text and name of each file."""
    for path in sorted(folder.glob(pattern)):
        if not KEY.fullmatch(path.stem):
            raise Malformed(
                f"{path}: the file's name is a key: small letters, digits and _, such as"
                " daily_actives.sql"
            )
        try:
            yield path.stem, path.read_text(encoding="utf-8"), str(path)
        except UnicodeDecodeError:
            raise Malformed(f"{path}: it is no UTF-8 text") from None


def _says(path: Path, wanted: Query | Dashboard, queries: Map[str, Query]) -> bool:
    """Whether the file says this already, maybe in other words."""
    if not path.exists():
        return False
    text = path.read_text(encoding="utf-8")
    try:
        if isinstance(wanted, Query):
            return query_file.read(path.stem, text, str(path)).shown() == wanted.shown()
        known = dashboard_file.read(path.stem, text, str(path))
        return controls.plain_starts(known, queries) == wanted
    except Malformed:
        return False


def _ordered(folder: Path, queries: dict[str, Query]) -> dict[str, Query]:
    """The queries by key, those that list the values of others' parameters first."""
    done: dict[str, Query] = {}

    def add(query: Query, waiting: tuple[str, ...]) -> None:
        path = folder / f"{query.key}.sql"
        for parameter in query.parameters:
            source = parameter.source
            if source is None or source in done:
                continue
            if source not in queries:
                raise Malformed(
                    f"{path}: the parameter `{parameter.name}` is from `{source}`, and there is no"
                    f" {source}.sql"
                )
            if source in waiting or source == query.key:
                raise Malformed(f"{path}: its parameter `{parameter.name}` is from itself")
            add(queries[source], (*waiting, query.key))
        done.setdefault(query.key, query)

    for query in queries.values():
        add(query, ())
    return done


def _check(path: Path, dashboard: Dashboard, queries: dict[str, Query]) -> None:
    """What a dashboard shows must be there; Redash would show a page that does not open."""
    shared: set[str] = set()
    for widget in dashboard.widgets:
        if widget.query is not None:
            shared |= _check_widget(path, widget, widget.query, queries)
    for name in dashboard.parameters:
        if name not in shared:
            raise Malformed(f"{path}: no widget has the parameter `{name}`")
    for name in sorted(shared - set(dashboard.parameters)):
        raise Malformed(
            f"{path}: the widgets' parameter `{name}` is not among the page's `parameters`"
        )


def _check_widget(path: Path, widget: Widget, key: str, queries: dict[str, Query]) -> set[str]:
    """The page's parameters that the widget listens to."""
    query = queries.get(key)
    if query is None:
        raise Malformed(f"{path}: a widget shows the query `{key}`, and there is no {key}.sql")
    known = [visualization.name for visualization in query.visualizations]
    if widget.visualization not in known:
        raise Malformed(
            f"{path}: {key}.sql has no visualization `{widget.visualization}`; it has:"
            f" {', '.join(known) or 'none'}"
        )
    names = {parameter.name for parameter in query.parameters}
    for name in widget.mappings:
        if name not in names:
            raise Malformed(f"{path}: {key}.sql has no parameter `{name}`")
    shared = {mapping.to for mapping in widget.mappings.values() if mapping.type == SHARED}
    return shared | (names - set(widget.mappings))
