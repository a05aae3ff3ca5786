"""Pooled: an engine flows in, whether its connections share the sessions of Postgres flows out.

A pooler in transaction mode, such as PgBouncer, gives each transaction any of its sessions. For all that is
done with events that is enough; what changes the schema sets limits and takes locks that outlive a
transaction, and asks first.
"""

from __future__ import annotations

from typing import Final, cast

from psycopg2.extensions import connection as RawConnection  # noqa: N812  # psycopg2's class name
from sqlalchemy import Connection, Engine, text

BACKEND: Final = text("select pg_backend_pid()")


class NeedsSession(Exception):
    """What is to be done needs a session of its own; the message is a sentence for people."""


def is_shared(engine: Engine) -> bool:
    """Whether a transaction may be another session's than the one before it.

    Where sessions are shared, the one that has just become free is given out next, or they take turns. So of
    two connections both are answered by the same, or one by several.
    """
    with engine.connect() as one, engine.connect() as other:
        # Nobody stands in between: the process that we were told of at the start is the one that answers.
        if (
            _session(one)
            == cast("RawConnection", one.connection.driver_connection).get_backend_pid()
        ):
            return False
        answers = [_session(asked) for asked in (one, one, other, other, one)]
        by_one, by_other = {*answers[:2], answers[4]}, {*answers[2:4]}
        return len(by_one) > 1 or len(by_other) > 1 or by_one == by_other


def require_session(engine: Engine, what: str) -> None:
    """Raise NeedsSession where ``what``, as a sentence begins with it, would be done in shared sessions."""
    if is_shared(engine):
        raise NeedsSession(
            f"{what} needs a session of its own, which a pooler such as PgBouncer does not give: name"
            " Postgres itself in MIGRATOR_DATABASE_URL."
        )


def _session(connection: Connection) -> int:
    pid: int = connection.execute(BACKEND).scalar_one()
    connection.rollback()
    return pid
