"""A query's file: a header in comments and the SQL flow in, a Query flows out; and back."""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import msgspec

from analytics.redash import charts, marked, schedule
from analytics.redash.charts import Unfit
from analytics.redash.marked import Malformed, Marked
from analytics.redash.model import (
    TAG,
    Alert,
    Column,
    Json,
    Options,
    Parameter,
    Query,
    Visualization,
)

# What stands between braces in SQL: the parameters' names.
_USED: Final = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")
_WHEN: Final = re.compile(r"(\S.*?) (?:(>=|<=|==|!=|>|<) (-?[0-9]+(?:\.[0-9]+)?)|(==|!=) (\S.*))")
_COLUMN: Final = re.compile(r"(\w+); (.+)", re.DOTALL)
_COLUMN_TYPES: Final = ("integer", "float", "boolean", "date", "datetime", "text")
_RANGES: Final = ("date-range", "datetime-range", "datetime-range-with-seconds")
# Redash's own name lengths; a longer one is an error of the server's there.
_MAX_NAME: Final = 255
TABLE: Final = "Table"


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: str = ""
    tags: list[str] = []
    refresh: str | None = None
    parameters: Json = None
    visualizations: Json = None
    alerts: Json = None
    columns: Json = None
    options: Options = {}


class _Parameter(msgspec.Struct, forbid_unknown_fields=True, rename={"source": "from"}):
    type: Literal[
        "number", "enum", "query", "date", "datetime-local", "datetime-with-seconds", "date-range",
        "datetime-range", "datetime-range-with-seconds", "text", "text-pattern",
    ]  # fmt: skip
    default: Json
    title: str | None = None
    options: list[str] = []
    source: str | None = None
    multiple: bool = False
    unsafe: bool = False
    more: Options = {}


class _Alert(msgspec.Struct, forbid_unknown_fields=True):
    when: str
    of: Literal["first", "min", "max"] = "first"
    rearm: str | None = None
    muted: bool = False
    options: Options = {}


# --- reading


def read(key: str, text: str, file: str) -> Query:
    """The query of a file, which is named in errors. Raises Malformed."""
    header, sql = _cut(text, file)
    parts = dict(header.items())
    said = header.as_a(_Header)
    if not said.name or len(said.name) > _MAX_NAME:
        raise header.wrong(f"a name has 1 to {_MAX_NAME} characters", "name")
    if not sql:
        raise header.wrong("after the header comes the SQL, and there is none")
    columns = tuple(_column(name, of) for name, of in _of(parts, "columns"))
    parameters = tuple(_parameter(name, of) for name, of in _of(parts, "parameters"))
    _check_used(header, sql, parameters)
    found = schedule.read(said.refresh) if said.refresh is not None else None
    if said.refresh is not None and found is None:
        raise header.wrong(
            "`refresh` is 30s, 5m, 1h, `1d at 06:30` or `7d on Monday at 06:30`, each with or without"
            " `until 2027-01-31`",
            "refresh",
        )
    return Query(
        key=key,
        name=said.name,
        sql=sql,
        description=said.description.strip(),
        tags=frozenset({TAG, *said.tags}),
        schedule=found,
        parameters=parameters,
        visualizations=_with_table(
            [_visualization(name, of, columns) for name, of in _of(parts, "visualizations")],
            columns,
        ),
        alerts=tuple(_alert(name, of, columns) for name, of in _of(parts, "alerts")),
        columns=columns,
        options=said.options,
    )


def _cut(text: str, file: str) -> tuple[Marked, str]:
    """The header and the SQL."""
    lines = text.replace("\r\n", "\n").split("\n")
    head = next((n for n, line in enumerate(lines) if not line.startswith("--")), len(lines))
    if not head:
        raise Malformed(
            f"{file}:1: a query begins with its header, such as `-- name: Daily actives`"
        )
    above = Marked.read(
        "\n".join(line[2:].removeprefix(" ") for line in lines[:head]),
        file,
        more="; a comment of the SQL's own stands below an empty line",
    )
    return above, "\n".join(lines[head:]).strip()


def header(text: str, file: str) -> Marked:
    """The header alone, to say where something stands in it. Raises Malformed."""
    return _cut(text, file)[0]


def _of(parts: dict[str, Marked], key: str) -> list[tuple[str, Marked]]:
    """The items of a part, if there is one."""
    return list(parts[key].items()) if key in parts else []


def _column(name: str, of: Marked) -> Column:
    found = _COLUMN.fullmatch(of.as_a(str))
    if found is None or found[1] not in _COLUMN_TYPES:
        raise of.wrong(
            f"`{name}` is written `type; what it means`, the type one of {', '.join(_COLUMN_TYPES)}"
        )
    return Column(name, found[1], found[2])


def _parameter(name: str, of: Marked) -> Parameter:
    said = of.as_a(_Parameter)
    if said.type in {"text", "text-pattern"} and not said.unsafe:
        raise of.wrong(
            "what somebody types would be part of the SQL: use number, date, enum or query instead"
            " (`unsafe: true` allows it all the same)",
            "type",
        )
    if (said.type == "enum") != bool(said.options):
        raise of.wrong("`options` belong to an enum, which needs them", "options")
    if (said.type == "query") != (said.source is not None):
        raise of.wrong("`from: key of a query` belongs to a parameter of type query", "from")
    _check_default(of, said)
    return Parameter(
        name=name,
        title=_title(name) if said.title is None else said.title,
        type=said.type,
        default=said.default,
        values=tuple(said.options),
        source=said.source,
        multiple=said.multiple,
        options=said.more,
    )


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _check_default(of: Marked, said: _Parameter) -> None:
    """Redash never runs a query whose default is not one of its parameter's values."""
    value = said.default
    if said.type == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise of.wrong("the default of a number is a number", "default")
    elif said.type in _RANGES:
        if not isinstance(value, dict) or set(value) != {"start", "end"}:
            raise of.wrong("the default of a range is {start: ..., end: ...}", "default")
    elif said.multiple:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise of.wrong("with `multiple` the default is a list of words", "default")
    elif not isinstance(value, str):
        raise of.wrong("the default is a word here; put a number in quotes", "default")
    chosen = value if isinstance(value, list) else [value]
    if said.type == "enum" and not set(chosen) <= set(said.options):
        raise of.wrong("the default is not one of the `options`", "default")
    for word in [*value.values()] if isinstance(value, dict) else chosen:
        if said.type.startswith("date") and str(word).startswith("d_"):
            raise of.wrong(
                "Redash does not run a query by itself whose default is relative to today; let the SQL"
                " do that",
                "default",
            )


def _check_used(header: Marked, sql: str, parameters: tuple[Parameter, ...]) -> None:
    used = {name.split(".")[0] for name in _USED.findall(sql)}
    known = {parameter.name for parameter in parameters}
    if used - known:
        raise header.wrong(
            f"the SQL has {{{{ {min(used - known)} }}}}, which is not among the `parameters`",
            "parameters",
        )
    if known - used:
        raise header.wrong(
            f"the parameter `{min(known - used)}` does not occur in the SQL as"
            f" {{{{ {min(known - used)} }}}}",
            "parameters",
        )


def _visualization(name: str, of: Marked, columns: tuple[Column, ...]) -> Visualization:
    if not 0 < len(name) <= _MAX_NAME:
        raise of.wrong(f"a name has 1 to {_MAX_NAME} characters")
    type_ = dict(of.items()).get("type")
    if type_ is None:
        raise of.wrong("`type` is missing")
    try:
        return charts.visualization(name, of.as_a(charts.words_of(type_.as_a(str))), columns)
    except Unfit as unfit:
        raise of.wrong(str(unfit), unfit.key) from None


def _table(columns: tuple[Column, ...]) -> Visualization:
    """All columns, as they are."""
    return charts.visualization(TABLE, charts.words_of("table")(type="table"), columns)


def _with_table(
    said: list[Visualization], columns: tuple[Column, ...]
) -> tuple[Visualization, ...]:
    """Redash makes a table with every query: where the file says nothing of it, it shows all columns."""
    if all(one.name != TABLE for one in said):
        said.append(_table(columns))
    return tuple(said)


def _alert(name: str, of: Marked, columns: tuple[Column, ...]) -> Alert:
    if not 0 < len(name) <= _MAX_NAME:
        raise of.wrong(f"a name has 1 to {_MAX_NAME} characters")
    said = of.as_a(_Alert)
    found = _WHEN.fullmatch(said.when)
    if found is None:
        raise of.wrong(
            "`when` is a column, >, >=, <, <=, == or !=, and a number; with == or != also a word",
            "when",
        )
    if columns and all(column.name != found[1] for column in columns):
        raise of.wrong(f"the query promises no column `{found[1]}`", "when")
    rearm_s = schedule.span_read(said.rearm) if said.rearm is not None else None
    if said.rearm is not None and rearm_s is None:
        raise of.wrong("`rearm` is a span: 90s, 5m, 1h or 1d", "rearm")
    return Alert(
        name,
        found[1],
        found[2] or found[4],
        float(found[3]) if found[3] else found[5],
        said.of,
        rearm_s,
        said.muted,
        said.options,
    )


# --- writing


def write(query: Query, before: str | None = None) -> str:
    """The file of a query: what is read from it again is equal to it.

    Of the file as it was before, the words for visualizations that are the same are kept, and the columns
    that it promised, which Redash does not know.
    """
    known, words = _known(query.key, before) if before is not None else (None, {})
    if known is not None and not query.columns:
        query = msgspec.structs.replace(query, columns=known.columns)
    same = {one.name: one for one in known.visualizations} if known else {}
    said: dict[str, Any] = {
        "name": query.name,
        "description": query.description,
        "tags": sorted(query.tags - {TAG}),
        "refresh": schedule.written(query.schedule) if query.schedule else None,
        "parameters": {p.name: _parameter_said(p) for p in query.parameters},
        "visualizations": {
            one.name: words.get(one.name)
            if same.get(one.name) == one and one.name in words
            else _visualization_said(one)
            for one in query.visualizations
            if one != _table(query.columns)
        },
        "alerts": {a.name: _alert_said(a) for a in query.alerts},
        "columns": {c.name: f"{c.type}; {c.description}" for c in query.columns},
        "options": query.options,
    }
    header = marked.written({key: value for key, value in said.items() if value})
    lines = [f"-- {line}" if line else "--" for line in header.removesuffix("\n").split("\n")]
    if query.sql.startswith("--"):
        lines.append("")  # else it would be taken for the header's
    return "\n".join([*lines, query.sql, ""])


def _known(key: str, text: str) -> tuple[Query | None, dict[str, Any]]:
    """What a file said, and its words for the visualizations; nothing where it cannot be read."""
    try:
        found = read(key, text, key)
        header, _ = _cut(text, key)
    except Malformed:
        return None, {}
    return found, header.plain().get("visualizations") or {}


def _parameter_said(parameter: Parameter) -> dict[str, Any]:
    said: dict[str, Any] = {
        "title": parameter.title if parameter.title != _title(parameter.name) else None,
        "type": parameter.type,
        "options": [*parameter.values],
        "from": parameter.source,
        "multiple": parameter.multiple,
        "unsafe": parameter.is_free_text,
        "more": parameter.options,
    }
    said = {key: value for key, value in said.items() if value or (key == "title" and value == "")}
    return {**said, "default": parameter.default}


def _visualization_said(visualization: Visualization) -> dict[str, Any]:
    said = {
        "type": visualization.type,
        "description": visualization.description,
        "options": visualization.options,
    }
    return {key: value for key, value in said.items() if value}


def _alert_said(alert: Alert) -> dict[str, Any]:
    value = alert.value if isinstance(alert.value, str) else f"{alert.value:.15g}"
    said = {
        "when": f"{alert.column} {alert.op} {value}",
        "of": alert.selector if alert.selector != "first" else None,
        "rearm": schedule.span_written(alert.rearm_s) if alert.rearm_s else None,
        "muted": alert.muted,
        "options": alert.options,
    }
    return {key: value for key, value in said.items() if value}
