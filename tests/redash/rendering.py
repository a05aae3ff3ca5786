"""From a query's text and its parameters to the SQL that is run, and to its hash. Pure."""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

_TAG: Final = re.compile(r"\{\{\{?\s*&?\s*([\w.\- ]+?)\s*\}?\}\}")
_COMMENTS: Final = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)
_LIMITED: Final = re.compile(r"\blimit\s+\d+", re.IGNORECASE)
_RANGES: Final = ("date-range", "datetime-range", "datetime-range-with-seconds")
_DATES: Final = ("date", "datetime-local", "datetime-with-seconds")

Definitions = list[dict[str, Any]]


def names_in(text: str) -> set[str]:
    """The parameters a text asks for; parts of a range are named `period.start`."""
    return set(_TAG.findall(text))


def is_safe(definitions: Definitions) -> bool:
    """No parameter takes any text."""
    return all(one.get("type") != "text" for one in definitions)


def defaults(definitions: Definitions) -> dict[str, Any]:
    """The stored values, by name."""
    return {str(one.get("name")): one.get("value") for one in definitions}


def missing(text: str, values: Mapping[str, Any]) -> set[str]:
    """What the text asks for and nobody gave."""
    given: set[str] = set()
    for name, value in values.items():
        given |= {f"{name}.{part}" for part in value} if isinstance(value, dict) else {name}
    return names_in(text) - given


def incompatible(
    definitions: Definitions,
    values: Mapping[str, Any],
    dropdown: Callable[[object], list[str]],
) -> list[str]:
    """Names whose values do not fit their definitions. Where nothing is defined, everything fits."""
    if not definitions:
        return []
    known = {str(one.get("name")): one for one in definitions}
    return [
        name
        for name, value in values.items()
        if name not in known or not _fits(known[name], value, dropdown)
    ]


def _fits(
    definition: dict[str, Any], value: object, dropdown: Callable[[object], list[str]]
) -> bool:
    kind = definition.get("type")
    if kind == "text":
        return isinstance(value, str)
    if kind == "text-pattern":
        return isinstance(value, str) and bool(
            re.fullmatch(str(definition.get("regex", "")), value)
        )
    if kind == "number":
        return _is_number(value)
    if kind == "enum":
        choices = definition.get("enumOptions") or ""
        return _chosen(
            definition, value, choices.split("\n") if isinstance(choices, str) else choices
        )
    if kind == "query":
        return _chosen(definition, value, dropdown(definition.get("queryId")))
    if kind in _DATES:
        return _is_date(value)
    if kind in _RANGES:
        return (
            isinstance(value, dict) and _is_date(value.get("start")) and _is_date(value.get("end"))
        )
    return False


def _chosen(definition: dict[str, Any], value: object, choices: list[str]) -> bool:
    if isinstance(value, list):
        several = isinstance(definition.get("multiValuesOptions"), dict)
        return several and {str(one) for one in value} <= set(choices)
    return str(value) in choices


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def _is_date(value: object) -> bool:
    try:
        datetime.datetime.fromisoformat(str(value))
    except ValueError:
        return False
    return True


def rendered(text: str, definitions: Definitions, values: Mapping[str, Any]) -> str:
    """The text with the values in it, unescaped: that is how Redash does it."""
    known = {str(one.get("name")): one for one in definitions}
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{part}": str(inner) for part, inner in value.items()}
        elif isinstance(value, list):
            how = known.get(name, {}).get("multiValuesOptions") or {}
            each = [f"{how.get('prefix', '')}{one}{how.get('suffix', '')}" for one in value]
            flat[name] = str(how.get("separator", ",")).join(each)
        else:
            flat[name] = "" if value is None else str(value)
    return _TAG.sub(lambda tag: flat.get(tag.group(1), ""), text)


def limited(text: str, wanted: bool) -> str:
    """With a limit of 1000 rows where it is wanted and none is there."""
    bare = text.rstrip().rstrip(";")
    if not wanted or _LIMITED.search(bare) or not bare.lstrip().lower().startswith("select"):
        return text
    return f"{bare} LIMIT 1000"


def text_hash(text: str) -> str:
    """White space and comments do not count; the case of letters does."""
    return hashlib.md5("".join(_COMMENTS.sub("", text).split()).encode()).hexdigest()  # noqa: S324


def query_hash(text: str, definitions: Definitions, auto_limit: bool) -> str:
    """Of the text as a run with the default values has it."""
    return text_hash(limited(rendered(text, definitions, defaults(definitions)), auto_limit))
