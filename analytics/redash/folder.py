"""A folder of files flows in, a Spec flows out; and back. What files say of one another is checked here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from analytics.redash import controls, dashboard_file, query_file
from analytics.redash.marked import Malformed, Marked
from analytics.redash.model import KEY, SHARED, Dashboard, Kind, Query, Spec, Widget

# Those of this project; an installation that was not made from a clone has no such folder.
OURS: Final = Path(__file__).resolve().parents[2] / "redash_queries"
_DASHBOARDS: Final = "dashboards"
# With or without the mark that Windows begins a text with.
_ENCODING: Final = "utf-8-sig"

T = TypeVar("T")


def read(folder: Path) -> Spec:
    """All queries and dashboards of a folder. Raises Malformed, also where there is no query."""
    queries = {
        path.stem: query_file.read(path.stem, _text(path), str(path))
        for path in _paths(folder, ".sql")
    }
    if not queries:
        raise Malformed(f"{folder} has no query: name a folder with .sql files")
    dashboards = {
        path.stem: dashboard_file.read(path.stem, _text(path), str(path))
        for path in _paths(folder / _DASHBOARDS, ".yaml")
    }
    ordered = _ordered(folder, queries)
    for dashboard in dashboards.values():
        _check(_page(folder, dashboard.key), dashboard, queries)
    plain = {key: controls.plain_starts(one, queries) for key, one in dashboards.items()}
    return Spec(ordered, plain)


def names(folder: Path) -> dict[tuple[Kind, str], str]:
    """The names that the files' queries and dashboards have, by kind and key; "" where it cannot be read."""
    found: dict[tuple[Kind, str], str] = {}
    for path in folder.glob("*.sql"):
        query = _known(path, query_file.read)
        found["query", path.stem] = query.name if query else ""
    for path in (folder / _DASHBOARDS).glob("*.yaml"):
        page = _known(path, dashboard_file.read)
        found["dashboard", path.stem] = page.name if page else ""
    return found


def write(spec: Spec, folder: Path) -> list[Path]:
    """Write what the folder does not say already, and say which files that were."""
    texts: dict[Path, str] = {}
    for query in spec.queries.values():
        path = folder / f"{query.key}.sql"
        known = _known(path, query_file.read)
        if known is None or known.shown() != query.shown():
            texts[path] = query_file.write(query, _text(path) if known else None)
    for dashboard in spec.dashboards.values():
        path = _page(folder, dashboard.key)
        page = _known(path, dashboard_file.read)
        if page is None or controls.plain_starts(page, spec.queries) != dashboard:
            texts[path] = dashboard_file.write(dashboard)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    return [*texts]


def _page(folder: Path, key: str) -> Path:
    return folder / _DASHBOARDS / f"{key}.yaml"


def _paths(folder: Path, ending: str) -> Iterable[Path]:
    """The files of a folder that have an ending; Malformed where one is meant and has another name."""
    for path in sorted(folder.glob("*")):
        if path.suffix != ending:
            if path.suffix.lower() in {".sql", ".yaml", ".yml"}:
                raise Malformed(
                    f"{path}: queries are DIR/*.sql and dashboards DIR/{_DASHBOARDS}/*.yaml: give the file"
                    " such a name"
                )
        elif not KEY.fullmatch(path.stem):
            raise Malformed(
                f"{path}: the file's name is a key: small letters, digits and _, at most 70, such as"
                f" daily_actives{ending}"
            )
        else:
            yield path


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding=_ENCODING)
    except UnicodeDecodeError:
        raise Malformed(f"{path}: it is no UTF-8 text") from None


def _known(path: Path, reader: Callable[[str, str, str], T]) -> T | None:
    """What a file says; None where there is none, or none that can be read."""
    try:
        return reader(path.stem, _text(path), str(path)) if path.exists() else None
    except Malformed:
        return None


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
                raise _parameter(path, parameter.name).wrong(
                    f"the parameter `{parameter.name}` is from `{source}`, and there is no {source}.sql"
                )
            if source in waiting or source == query.key:
                raise _parameter(path, parameter.name).wrong(
                    f"the parameter `{parameter.name}` is from itself"
                )
            add(queries[source], (*waiting, query.key))
        done.setdefault(query.key, query)

    for query in queries.values():
        add(query, ())
    return done


def _parameter(path: Path, name: str) -> Marked:
    """Where a query's parameter stands."""
    return query_file.header(_text(path), str(path)).at("parameters", name)


def _check(path: Path, dashboard: Dashboard, queries: dict[str, Query]) -> None:
    """What a dashboard shows must be there; Redash would show a page that does not open."""
    shared: set[str] = set()
    for widget in dashboard.widgets:
        if widget.query is not None:
            shared |= _check_widget(path, widget, widget.query, queries)
    page = Marked.read(_text(path), str(path))
    for name in dashboard.parameters:
        if name not in shared:
            raise page.at("parameters", name).wrong(f"no widget has the parameter `{name}`")
    for name in sorted(shared - set(dashboard.parameters)):
        raise page.wrong(
            f"the widgets' parameter `{name}` is not among the page's `parameters`", "parameters"
        )


def _check_widget(path: Path, widget: Widget, key: str, queries: dict[str, Query]) -> set[str]:
    """The page's parameters that the widget listens to."""
    query = queries.get(key)
    if query is None:
        raise _place(path, widget).wrong(
            f"a widget shows the query `{key}`, and there is no {key}.sql", "query"
        )
    known = [visualization.name for visualization in query.visualizations]
    if widget.visualization not in known:
        raise _place(path, widget).wrong(
            f"{key}.sql has no visualization `{widget.visualization}`; it has:"
            f" {', '.join(known) or 'none'}",
            "show",
        )
    names = {parameter.name for parameter in query.parameters}
    for name in widget.mappings:
        if name not in names:
            raise (
                _place(path, widget)
                .at("parameters", name)
                .wrong(f"{key}.sql has no parameter `{name}`")
            )
    shared = {mapping.to for mapping in widget.mappings.values() if mapping.type == SHARED}
    return shared | (names - set(widget.mappings))


def _place(path: Path, widget: Widget) -> Marked:
    """Where a widget stands in its dashboard's file."""
    page = Marked.read(_text(path), str(path))
    for of in page.at("widgets").elements():
        said = of.plain()
        if said["at"] == [*msgspec.structs.astuple(widget.at)]:
            return of
    return page
