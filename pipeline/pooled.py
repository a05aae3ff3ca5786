"""Pooled: a connection flows in, whether a pooler stands between it and Postgres flows out.

A pooler such as PgBouncer gives each transaction any of its sessions. For all that is done with events that
is enough; what changes the schema sets limits and takes locks that outlive a transaction, and asks first.
"""

from __future__ import annotations

from typing import Final, cast

from psycopg2.extensions import connection as RawConnection  # noqa: N812  # psycopg2's class name
from sqlalchemy import Connection, text

BACKEND: Final = text("select pg_backend_pid()")


class NeedsSession(Exception):
    """What is to be done needs a session of its own; the message is a sentence for people."""


def is_pooled(connection: Connection) -> bool:
    """Whether the process we were told of at the start is not the one that answers.

    A pooler makes the number up, since it stands for none of Postgres' processes.
    """
    raw = cast("RawConnection", connection.connection.driver_connection)
    return bool(connection.execute(BACKEND).scalar_one() != raw.get_backend_pid())


def require_session(connection: Connection, what: str) -> None:
    """Raise NeedsSession where ``what``, as a sentence begins with it, would go by way of a pooler."""
    if is_pooled(connection):
        raise NeedsSession(
            f"{what} needs a session of its own, which a pooler such as PgBouncer does not give: name"
            " Postgres itself in MIGRATOR_DATABASE_URL."
        )
