"""SQL on a real Postgres: options and a text flow in, columns and rows as Redash has them flow out."""

from __future__ import annotations

import datetime
import decimal
import math
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg2
from psycopg2 import extensions
from psycopg2.extras import Range
from sqlalchemy import make_url

_TYPES: Final = {
    "integer": (20, 21, 23),
    "float": (700, 701, 1700),
    "boolean": (16,),
    "date": (1082,),
    "datetime": (1114, 1184),
    "string": (1043, 1009, 1015),
}
_TYPE_OF: Final = {oid: name for name, oids in _TYPES.items() for oid in oids}
_TABLES: Final = """
    select case when table_schema = 'public' then table_name
                else table_schema || '.' || table_name end,
           column_name, data_type
    from information_schema.columns
    where table_schema not in ('pg_catalog', 'information_schema')
    order by 1, 2
"""


class Failed(Exception):
    """Postgres or the way to it said no; the text is what Redash shows."""


@dataclass(frozen=True)
class Canned:
    """An answer without a database: column types by name, rows, and the tables a source has."""

    columns: dict[str, str | None] = field(default_factory=lambda: {"one": "integer"})
    rows: list[dict[str, Any]] = field(default_factory=lambda: [{"one": 1}])
    tables: list[dict[str, Any]] = field(default_factory=list)

    @property
    def data(self) -> dict[str, Any]:
        """As a result has it."""
        return {
            "columns": [_column(name, kind) for name, kind in self.columns.items()],
            "rows": self.rows,
        }


def _column(name: str, kind: str | None) -> dict[str, Any]:
    return {"name": name, "friendly_name": name, "type": kind}


def options_of(database_url: str) -> dict[str, Any]:
    """A data source's options for a database; the host may be the folder of a Unix socket."""
    url = make_url(database_url)
    given = {
        "host": url.host or url.query.get("host"),
        "port": url.port or int(str(url.query.get("port", 5432))),
        "dbname": url.database,
        "user": url.username,
        "password": url.password,
    }
    return {name: value for name, value in given.items() if value is not None}


@contextmanager
def _connected(options: dict[str, Any]) -> Iterator[extensions.connection]:
    names = ("user", "password", "host", "port", "dbname", "sslmode")
    given = {name: options[name] for name in names if options.get(name) not in (None, "")}
    try:
        connection = psycopg2.connect(**given, connect_timeout=10)
    except psycopg2.Error as error:
        raise Failed(str(error)) from None
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()


def tables(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Tables and their columns, by name."""
    found: dict[str, list[dict[str, Any]]] = {}
    with _connected(options) as connection, connection.cursor() as cursor:
        cursor.execute(_TABLES)
        for table, column, kind in cursor.fetchall():
            found.setdefault(table, []).append({"name": column, "type": kind})
    return [{"name": name, "columns": columns} for name, columns in found.items()]


def run(options: dict[str, Any], text: str) -> dict[str, Any]:
    """Columns and rows of the last statement; Failed with the words Redash has for it."""
    with _connected(options) as connection, connection.cursor() as cursor:
        try:
            cursor.execute(text)
        except psycopg2.Error as error:
            raise Failed(str(error)) from None
        if cursor.description is None:
            raise Failed("Query completed but it returned no data.")
        columns: dict[str, str | None] = {}
        for one in cursor.description:
            columns[_unused(one.name, columns)] = _TYPE_OF.get(one.type_code)
        rows = [dict(zip(columns, map(_json, row), strict=True)) for row in cursor.fetchall()]
    return Canned(columns, rows).data


def _unused(name: str, taken: dict[str, str | None]) -> str:
    number, free = 0, name
    while free in taken:
        number += 1
        free = f"{name}{number}"
    return free


def _json(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        value = float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_json(one) for one in value]
    if isinstance(value, datetime.datetime):
        text = value.isoformat()
        short = text[:23] + text[26:] if value.microsecond else text
        return short.removesuffix("+00:00") + "Z" if short.endswith("+00:00") else short
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, memoryview):
        return value.hex()
    if isinstance(value, Range):
        ends = (value.lower, value.upper)
        low, high = ("None" if end is None else str(end) for end in ends)
        return f"{'[' if value.lower_inc else '('}{low}, {high}{']' if value.upper_inc else ')'}"
    if isinstance(value, datetime.timedelta | uuid.UUID):
        return str(value)
    return value
