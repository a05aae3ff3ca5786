"""Data: a question in SQL flows in, a typed DataFrame flows out, read as who can read and nothing else.

Dashboards and notebooks are given the URL of `infamous_bi`. Given another's, as those on embedded servers
are, every transaction takes on that role, and is a reader's, so that a slip of a notebook changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pandas as pd
from sqlalchemy import Connection, CursorResult, Engine, create_engine, event, pool, text
from sqlalchemy.exc import DBAPIError

from analytics import replica
from analytics.frames import typed
from analytics.replica import Cancelled
from pipeline import settings
from pipeline.settings import SettingsError

# For the transaction alone: a connection may be shared, as behind PgBouncer.
_BE_A_READER: Final = """
select set_config('role', rolname, true) from pg_roles
where rolname = 'infamous_bi' and pg_has_role(oid, 'member')
"""
_ROWS: Final = 100_000


def connect() -> Engine:
    """The database that READ_DATABASE_URL names, or DATABASE_URL; SettingsError where none is named."""
    url = settings.load().reading_url
    if url is None:
        raise SettingsError(
            "DATABASE_URL must name a database: `infamous lab` starts Jupyter with that of `infamous up`."
        )
    return reader(url)


def reader(url: str) -> Engine:
    """The database of a URL, to be read."""
    engine = create_engine(
        url,
        poolclass=pool.NullPool,
        execution_options={"postgresql_readonly": True},
        connect_args={"connect_timeout": 5, "application_name": "notebook"},
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(_BE_A_READER)

    return engine


def query(engine: Engine, sql: str, **values: Any) -> pd.DataFrame:
    """What a query answers, one column a column, typed; ``:name`` in it stands for the value of that name.

    Types are those of :func:`analytics.frames.typed`: moments are aware, in UTC. Raises Cancelled, as the
    others do, where a replica breaks it off.
    """
    with _asked(engine) as connection:
        return _frame(connection.execute(text(sql), values))


def verbatim(engine: Engine, sql: str) -> pd.DataFrame:
    """The same of SQL as it is, in which a colon and a percent sign are just that."""
    with _asked(engine) as connection:
        return _frame(connection.execution_options(no_parameters=True).exec_driver_sql(sql))


def chunks(engine: Engine, sql: str, rows: int = _ROWS, **values: Any) -> Iterator[pd.DataFrame]:
    """The same, so many rows at a time, of which no more are in memory at once.

    One frame at least comes, empty where there is no row. All of it is of one moment.
    """
    with _asked(engine) as connection:
        streaming = connection.execution_options(stream_results=True, max_row_buffer=rows)
        result = streaming.execute(text(sql), values)
        columns, is_first = _columns(result), True
        while (part := result.fetchmany(rows)) or is_first:
            yield typed([tuple(row) for row in part], columns)
            is_first = False


@contextmanager
def _asked(engine: Engine) -> Iterator[Connection]:
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        if replica.is_conflict(error):
            raise Cancelled from error
        raise


def _frame(result: CursorResult[Any]) -> pd.DataFrame:
    columns = _columns(result)
    return typed([tuple(row) for row in result], columns)


def _columns(result: CursorResult[Any]) -> Sequence[tuple[str, int]]:
    found: Any = result.cursor.description
    return [(column.name, column.type_code) for column in found]
