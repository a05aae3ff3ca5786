"""Data: a question in SQL flows in, a DataFrame flows out, read as whoever DATABASE_URL says.

Nothing here can write: dashboards and notebooks are given the URL of `infamous_bi`, and this asks for a
read-only transaction as whoever else.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from sqlalchemy import Engine, create_engine, pool, text

from pipeline import settings
from pipeline.settings import SettingsError


def connect() -> Engine:
    """The database that DATABASE_URL or DATABASE_URL_FILE names; SettingsError where none is named."""
    url = settings.load().database_url
    if url is None:
        raise SettingsError(
            "DATABASE_URL must name a database: `make up` prints the address of its own."
        )
    return create_engine(
        url,
        poolclass=pool.NullPool,
        execution_options={"postgresql_readonly": True},
        connect_args={"connect_timeout": 5, "application_name": "notebook"},
    )


def query(engine: Engine, sql: str, **values: Any) -> pd.DataFrame:
    """What a query answers, one column a column; ``:name`` in it stands for the value of that name.

    Times are aware, in UTC.
    """
    with engine.connect() as connection:
        return pd.read_sql(text(sql), connection, params=values)
