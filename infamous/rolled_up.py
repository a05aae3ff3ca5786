"""Rolled up: a database flows in, the same with what was not rolled up yet flows out, before somebody looks.

With `infamous up` a worker does it every few minutes. On servers that a command has just started there is
none, and whoever looks would see an empty house.
"""

from __future__ import annotations

import threading
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from infamous import caught_up, progress
from jobs import rollup

# What Postgres says to those who may read alone.
_MAY_NOT_WRITE: Final = frozenset({"42501", "25006"})
_HOURS: Final = 2


def roll_up(engine: Engine, reader: Engine | None, stop: threading.Event) -> None:
    """Roll up what has changed, and show how far it is; who may only read leaves it to those who do.

    Where ``reader`` is another database than ``engine``, it is given a moment to have it, too.
    """
    try:
        with progress.shown("Rolling up, hours") as tell:
            rollup.roll_up_touched(engine, rollup.lately(engine, _HOURS), stop=stop, tell=tell)
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) not in _MAY_NOT_WRITE:
            raise
    if reader is not None:
        caught_up.wait(engine, reader, stop)
