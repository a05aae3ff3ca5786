"""The turn: a number flows in; for as long as a block lasts nobody else has it, whoever is killed meanwhile.

It is an advisory lock of a transaction, not of a session: behind a pooler such as PgBouncer the next
transaction may be another session's, and a session's lock would be left with that one. The transaction does
nothing else, so it has no snapshot and keeps nothing from being cleaned up. What is done in the block goes by
other connections: a pool needs one more for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

_LOOK_EVERY_S: Final = 0.2

TRY: Final = text("select pg_try_advisory_xact_lock(:key)")
# The second one is there since Postgres 17.
MAY_LAST: Final = text("""
select set_config(name, '0', true) from pg_settings
where name in ('idle_in_transaction_session_timeout', 'transaction_timeout')
""")


@contextmanager
def taken(
    engine: Engine, key: int, *, patience_s: float = 0.0, stop: threading.Event | None = None
) -> Iterator[bool]:
    """Whether the turn is ours until the end of the block. Waits ``patience_s`` for another, or until
    stopped.
    """
    stop, deadline = stop or threading.Event(), time.monotonic() + patience_s
    with engine.connect() as connection:
        # Tried, not waited for: who waits in a transaction keeps a session of a pool from others.
        while not (is_ours := _try(connection, key)):
            if time.monotonic() >= deadline or stop.wait(_LOOK_EVERY_S):
                break
        try:
            yield is_ours
        finally:
            with suppress(DBAPIError):  # where the connection was lost, the lock went with it
                connection.rollback()


def _try(connection: Connection, key: int) -> bool:
    connection.execute(MAY_LAST)
    if connection.execute(TRY, {"key": key}).scalar_one():
        return True
    connection.rollback()
    return False
