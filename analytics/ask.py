"""Ask: a question of the dashboards, by its name, and values flow in; its answer flows out as a frame.

A number that stands on a dashboard and in a notebook is the answer to one question in one file, so that the
two cannot differ.
"""

from __future__ import annotations

import functools

import pandas as pd
from sqlalchemy import Engine

from analytics.data import verbatim
from analytics.period import Period
from analytics.redash import folder, query_file
from analytics.redash.model import TAG, Query
from analytics.redash.render import rendered


def ask(engine: Engine, key: str, period: Period | None = None, **values: str) -> pd.DataFrame:
    """What ``redash_queries/KEY.sql`` answers, with the columns that the file's header promises.

    ``period`` goes into its parameters ``days`` and ``until``, where it has them; ``values`` into others, as
    the file lists them. KeyError for a parameter that it does not have.
    """
    query = _question(key)
    if period is not None:
        known = {"days": str(period.days), "until": period.last.isoformat()}
        values = {name: value for name, value in known.items() if name in query.defaults} | values
    return verbatim(engine, rendered(query, **values))


def questions() -> pd.DataFrame:
    """What :func:`ask` can be asked: ``key``, the dashboard it is ``about``, and ``question``. Those that
    only list the values of another's parameter are left out.
    """
    queries = folder.read(folder.OURS).queries.values()
    lists = {parameter.source for query in queries for parameter in query.parameters}
    rows = sorted(
        # Descriptions begin with the question; what comes after is how it is counted.
        (
            ", ".join(sorted(query.tags - {TAG})),
            query.key,
            "".join(query.description.partition("?")[:2]),
        )
        for query in queries
        if query.key not in lists
    )
    return pd.DataFrame(rows, columns=["about", "key", "question"]).astype("str")


@functools.cache
def _question(key: str) -> Query:
    path = folder.OURS / f"{key}.sql"
    return query_file.read(key, path.read_text(encoding="utf-8"), str(path))
