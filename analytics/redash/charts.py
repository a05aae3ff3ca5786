"""Charts: the few words that a file says of a visualization flow in, Redash's own options flow out. Pure.

Redash checks neither a type nor an option: a wrong column is an empty chart, a wrong type a page that does
not open. So what is said is held against the columns that the query promises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Literal

import msgspec

from analytics.redash.model import Column, Options, Visualization

# Everything that Redash 25 and 26 can show.
REDASH_TYPES: Final = frozenset(
    {
        "BOXPLOT", "CHART", "CHOROPLETH", "COHORT", "COUNTER", "DETAILS", "FUNNEL", "MAP", "PIVOT", "SANKEY",
        "SUNBURST_SEQUENCE", "TABLE", "WORD_CLOUD",
    }
)  # fmt: skip
Axis = Literal["datetime", "category", "linear", "logarithmic"]
_AXIS_OF: Final[dict[str, Axis]] = {
    "date": "datetime",
    "datetime": "datetime",
    "integer": "linear",
    "float": "linear",
}
_COUNT: Final = "0,0"
_FORMATS: Final[dict[str, Options]] = {
    "integer": {"displayAs": "number", "numberFormat": _COUNT, "alignContent": "right"},
    "float": {"displayAs": "number", "numberFormat": "0,0.[00]", "alignContent": "right"},
    "date": {"displayAs": "datetime", "dateTimeFormat": "YYYY-MM-DD", "alignContent": "left"},
    "datetime": {
        "displayAs": "datetime",
        "dateTimeFormat": "YYYY-MM-DD HH:mm",
        "alignContent": "left",
    },
    "boolean": {"displayAs": "boolean", "alignContent": "left"},
    # Senders' words are no markup; older releases of Redash take them for it unless told.
    "text": {
        "displayAs": "string",
        "allowHTML": False,
        "highlightLinks": False,
        "alignContent": "left",
    },
}


class Unfit(Exception):
    """What was said of a visualization cannot be; says why. ``key`` is what it was said under."""

    def __init__(self, why: str, key: str | None = None) -> None:
        super().__init__(why)
        self.key = key


class _Shown(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every visualization may say."""

    type: str
    description: str = ""
    options: Options = {}


class _Own(_Shown, kw_only=True):
    """One in Redash's words alone."""


class _Chart(_Shown, kw_only=True):
    x: str
    y: str | list[str] | dict[str, str]
    series: str | None = None
    stacked: bool = False
    percent: bool = False
    axis: Axis | None = None
    from_zero: bool = False
    right: list[str] = []
    lines: list[str] = []
    colors: dict[str, str] = {}
    labels: bool = False
    legend: bool = True
    format: str | None = None


class _Pie(_Shown, kw_only=True):
    x: str
    y: str
    colors: dict[str, str] = {}
    format: str | None = None


class _Heatmap(_Shown, kw_only=True):
    x: str
    y: str
    value: str
    color: str = "#08519c"


class _Counter(_Shown, kw_only=True):
    value: str
    label: str | None = None
    target: str | None = None
    prefix: str = ""
    suffix: str = ""
    decimals: int = 0


class _Cell(msgspec.Struct, forbid_unknown_fields=True, rename={"shown_as": "as"}):
    title: str | None = None
    format: str | None = None
    shown_as: Literal["string", "number", "datetime", "boolean", "json", "image", "link"] | None = (
        None
    )


class _Table(_Shown, kw_only=True):
    columns: dict[str, str | _Cell | None] = {}
    rows: int = 25


class _Cohort(_Shown, kw_only=True):
    date: str
    stage: str
    total: str
    value: str
    every: Literal["daily", "weekly", "monthly"] = "daily"


class _Funnel(_Shown, kw_only=True):
    step: str
    value: str


class _Pivot(_Shown, kw_only=True):
    rows: list[str]
    columns: list[str] = []
    value: str


class _Columns:
    """The columns that a query promises, asked for by name."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.all = columns
        self._by_name = {column.name: column for column in columns}

    def need(self, name: str, key: str) -> Column:
        """The column of a name; Unfit where the query promises none."""
        if name not in self._by_name:
            known = ", ".join(self._by_name) or "none"
            raise Unfit(f"the query promises no column `{name}`; its columns are: {known}", key)
        return self._by_name[name]


def _chart(kind: str, said: _Chart, columns: _Columns) -> Options:
    labels = _labels(said.y)
    x = columns.need(said.x, "x")
    for name in labels:
        columns.need(name, "y")
    for key, names in (("right", said.right), ("lines", said.lines)):
        for name in names:
            if name not in labels:
                raise Unfit(f"`{name}` is no column of `y`", key)
    mapping = {said.x: "x", **dict.fromkeys(labels, "y")}
    if said.series is not None:
        if len(labels) > 1:
            raise Unfit("with `series`, `y` is one column: it is what is split up", "series")
        mapping[columns.need(said.series, "series").name] = "series"
    axis: Options = {
        "type": said.axis or _AXIS_OF.get(x.type, "category"),
        "labels": {"enabled": True},
    }
    left: Options = {"type": "linear"}
    if said.from_zero:
        left["rangeMin"] = 0
    made: Options = {
        "globalSeriesType": "column" if kind == "bar" else kind,
        "columnMapping": mapping,
        "xAxis": axis,
        "yAxis": [left, {"type": "linear", "opposite": True}],
        "series": {"stacking": "stack" if said.stacked or said.percent else None},
        "seriesOptions": _series(kind, said, labels),
        "legend": {"enabled": said.legend, "placement": "below"},
        "showDataLabels": said.labels,
        "numberFormat": said.format or "0,0[.]00",
        # Words stand in the order of the answer, which says more than the alphabet.
        "sortX": axis["type"] != "category",
        # Redash's own default fills what has no answer with zeros, and draws days that nobody has lived yet.
        "missingValuesAsZero": False,
    }
    if said.percent:
        made["series"]["percentValues"] = True
        made["percentFormat"] = said.format or "0[.]0%"
    if kind == "bar":
        made["swappedAxes"] = True
        made["sortX"] = False
        made["xAxis"]["type"] = said.axis or "category"
    return made


def _labels(y: str | list[str] | dict[str, str]) -> dict[str, str]:
    """The columns that are drawn, and what each is called."""
    if isinstance(y, dict):
        return y
    return {name: name.replace("_", " ") for name in ([y] if isinstance(y, str) else y)}


def _series(kind: str, said: _Chart, labels: dict[str, str]) -> Options:
    """What each line or bar looks like: by the series' values, or else by columns."""
    if said.series is not None:
        return {
            name: {"color": color, "index": 0, "zIndex": number}
            for number, (name, color) in enumerate(said.colors.items())
        }
    drawn = "column" if kind == "bar" else kind
    return {
        name: {
            "type": "line" if name in said.lines else drawn,
            "name": label,
            "yAxis": int(name in said.right),
            "index": 0,
            "zIndex": number,
            **({"color": said.colors[name]} if name in said.colors else {}),
        }
        for number, (name, label) in enumerate(labels.items())
    }


def _pie(said: _Pie, columns: _Columns) -> Options:
    return {
        "globalSeriesType": "pie",
        "columnMapping": {columns.need(said.x, "x").name: "x", columns.need(said.y, "y").name: "y"},
        "seriesOptions": {},
        "valuesOptions": {name: {"color": color} for name, color in said.colors.items()},
        "numberFormat": said.format or "0,0[.]00",
        "showDataLabels": True,
        "sortX": False,
        "direction": {"type": "clockwise"},
    }


def _heatmap(said: _Heatmap, columns: _Columns) -> Options:
    return {
        "globalSeriesType": "heatmap",
        "columnMapping": {
            columns.need(said.x, "x").name: "x",
            columns.need(said.y, "y").name: "y",
            columns.need(said.value, "value").name: "zVal",
        },
        "xAxis": {"type": "category", "labels": {"enabled": True}},
        # With Redash's default, linear, names on this axis leave the plot empty.
        "yAxis": [{"type": "category"}, {"type": "linear", "opposite": True}],
        # Redash's own scales are dark where there is little.
        "colorScheme": "Custom...",
        "heatMinColor": "#f7fbff",
        "heatMaxColor": said.color,
        "sortX": True,
        "legend": {"enabled": False},
    }


def _counter(said: _Counter, columns: _Columns) -> Options:
    made: Options = {
        "counterColName": columns.need(said.value, "value").name,
        "rowNumber": 1,
        "stringPrefix": said.prefix,
        "stringSuffix": said.suffix,
        "stringDecimal": said.decimals,
        "stringDecChar": ".",
        "stringThouSep": ",",
        "formatTargetValue": True,
    }
    if said.label is not None:
        made["counterLabel"] = said.label
    if said.target is not None:
        made["targetColName"] = columns.need(said.target, "target").name
        made["targetRowNumber"] = 1
    return made


def _table(said: _Table, columns: _Columns) -> Options:
    for name in said.columns:
        columns.need(name, "columns")
    order = [*said.columns, *(c.name for c in columns.all if c.name not in said.columns)]
    return {
        "itemsPerPage": said.rows,
        "columns": [
            _cell(columns.need(name, "columns"), said.columns.get(name), number)
            | {"visible": not said.columns or name in said.columns}
            for number, name in enumerate(order)
        ],
    }


def _cell(column: Column, said: str | _Cell | None, number: int) -> Options:
    cell = _Cell(title=said) if isinstance(said, str) else said or _Cell()
    made: Options = {
        "name": column.name,
        "title": cell.title or column.name.replace("_", " ").capitalize(),
        "order": number,
        "allowSearch": False,
        **_FORMATS[column.type],
    }
    if cell.shown_as is not None:
        made["displayAs"] = cell.shown_as
    if cell.format is not None:
        is_time = made["displayAs"] == "datetime"
        made["dateTimeFormat" if is_time else "numberFormat"] = cell.format
    return made


def _cohort(said: _Cohort, columns: _Columns) -> Options:
    return {
        "timeInterval": said.every,
        "mode": "simple",
        "dateColumn": columns.need(said.date, "date").name,
        "stageColumn": columns.need(said.stage, "stage").name,
        "totalColumn": columns.need(said.total, "total").name,
        "valueColumn": columns.need(said.value, "value").name,
    }


def _funnel(said: _Funnel, columns: _Columns) -> Options:
    return {
        "stepCol": {"colName": columns.need(said.step, "step").name, "displayAs": "Step"},
        "valueCol": {"colName": columns.need(said.value, "value").name, "displayAs": "Value"},
        "autoSort": False,
    }


def _pivot(said: _Pivot, columns: _Columns) -> Options:
    return {
        "rows": [columns.need(name, "rows").name for name in said.rows],
        "cols": [columns.need(name, "columns").name for name in said.columns],
        "vals": [columns.need(said.value, "value").name],
        "aggregatorName": "Sum",
        "rendererName": "Table",
        "controls": {"enabled": True},
    }


class _Kind(msgspec.Struct, frozen=True):
    """A word for a visualization, what may be said with it, and Redash's word."""

    said: type[_Shown]
    type: str
    options: Callable[[Any, _Columns], Options]


_KINDS: Final = {
    **{
        kind: _Kind(_Chart, "CHART", partial(_chart, kind))
        for kind in ("line", "area", "column", "bar", "scatter")
    },
    "pie": _Kind(_Pie, "CHART", _pie),
    "heatmap": _Kind(_Heatmap, "CHART", _heatmap),
    "counter": _Kind(_Counter, "COUNTER", _counter),
    "table": _Kind(_Table, "TABLE", _table),
    "cohort": _Kind(_Cohort, "COHORT", _cohort),
    "funnel": _Kind(_Funnel, "FUNNEL", _funnel),
    "pivot": _Kind(_Pivot, "PIVOT", _pivot),
}


def words_of(type_: str) -> type[_Shown]:
    """What may be said with a type; Unfit where nobody knows it."""
    if type_ in REDASH_TYPES:
        return _Own
    if type_ not in _KINDS:
        known = ", ".join([*_KINDS, *sorted(REDASH_TYPES)])
        raise Unfit(f"`{type_}` is no type of visualization; there are: {known}", "type")
    return _KINDS[type_].said


def visualization(name: str, said: _Shown, columns: Sequence[Column]) -> Visualization:
    """The visualization that is meant; Unfit where the query does not promise what it shows."""
    if said.type in REDASH_TYPES:
        return Visualization(name, said.type, said.description, said.options)
    kind = _KINDS[said.type]
    made = kind.options(said, _Columns(columns))
    return Visualization(name, kind.type, said.description, over(made, said.options))


def over(below: Options, above: Options) -> Options:
    """One set of options laid over another, mapping by mapping."""
    both = dict(below)
    for key, value in above.items():
        known = both.get(key)
        both[key] = (
            over(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
        )
    return both
