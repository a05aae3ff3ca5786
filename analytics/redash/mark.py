"""Marks: what we leave in the options of what we make in Redash, to know it again and to see changes.

Redash's names are not unique, and it keeps what it does not know in ``options``. So a key there is who an
object is, and a digest of each field as we wrote it tells a change by hand from a change in a file.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from analytics.redash.model import KEY, Json, Options

_NAME: Final = "infamous"


class Mark(msgspec.Struct, frozen=True):
    """Ours on one object of Redash's."""

    key: str
    # Redash's number of the query or dashboard; 0 until it is known, which is as long as it is half made.
    id: int = 0
    # A digest of each field, as it was written last.
    fields: dict[str, str] = {}
    # The same of what belongs to the object, by name.
    visualizations: dict[str, str] = {}
    alerts: dict[str, str] = {}
    widgets: tuple[str, ...] = ()
    # A digest of what was run last, and gave an answer.
    ran: str = ""


def digest(value: Json) -> str:
    """Twelve hexadecimal digits that are the same for values that are equal as JSON."""
    plain = msgspec.to_builtins(value, order="deterministic")
    return hashlib.sha256(msgspec.json.encode(_whole(plain), order="deterministic")).hexdigest()[
        :12
    ]


def _whole(value: Json) -> Json:
    """Redash gives 1.0 back as 1.0 or as 1; the two are one number."""
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def of(options: Json) -> Mark | None:
    """The mark in an object's options; None where there is none, or none that is one."""
    if not isinstance(options, dict) or _NAME not in options:
        return None
    try:
        return msgspec.convert(options[_NAME], Mark)
    except msgspec.ValidationError:
        return None


def own(found: Options) -> Mark | None:
    """A query's or a dashboard's mark if it was written for it: a copy made in Redash has the original's."""
    known = of(found.get("options"))
    if known is None or known.id not in {0, found["id"]} or not KEY.fullmatch(known.key):
        return None
    return known


def without(options: Json) -> Options:
    """An object's options but for the mark."""
    if not isinstance(options, dict):
        return {}
    return {key: value for key, value in options.items() if key != _NAME}


def put(options: Options, mark: Mark) -> Options:
    """An object's options with the mark."""
    return {**options, _NAME: msgspec.to_builtins(mark)}
