"""Caught up: a database and where it is read flow in; how far what is read is behind flows out.

A replica knows what it has received, the primary what there is: the two together know what is missing.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from analytics import replica
from analytics.replica import Replica
from pipeline.patience import first_line

# What was rolled up just now is read a moment later: it is waited for, but a replica may stand still.
PATIENCE_S: Final = 10.0

# Of a replica that has replicas of its own, how far it has come itself.
POSITION: Final = text("""
select pg_wal_lsn_diff(
    case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, '0/0'
)::bigint
""")


@dataclass(frozen=True)
class Behind:
    """What READ_DATABASE_URL leads to."""

    # None: to no replica, or to nothing that answers.
    replica: Replica | None
    # Why it does not answer.
    trouble: str | None = None


def look(primary: Engine, reader: Engine) -> Behind:
    """How far the reader's database is behind the primary."""
    try:
        return Behind(replica.look(reader, _position(primary)))
    except DBAPIError as error:
        return Behind(None, first_line(error.orig))


def wait(primary: Engine, reader: Engine, stop: threading.Event) -> None:
    """Wait until the reader's database has what is in the primary now, but not for long; one that does not
    answer says so to whoever reads.
    """
    try:
        replica.look(reader, _position(primary), patience_s=PATIENCE_S, stop=stop)
    except DBAPIError:
        return


def _position(primary: Engine) -> int:
    with primary.connect() as connection:
        position: int = connection.execute(POSITION).scalar_one()
    return position
