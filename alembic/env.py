"""Alembic's environment: a database address flows in, migrations run against it, one runner at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from alembic import context
from alembic.script import ScriptDirectory
from psycopg2.errors import InsufficientPrivilege
from sqlalchemy import Connection, create_engine, pool, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from pipeline import lock, pooled, settings, tables

# Any number, the same for every runner.
MIGRATION_LOCK = 4_815_162_342
# Whoever waits for a table makes all who come after wait behind it, consumers too. So a migration gives way
# after this long, and tries again, for as long as the second number says.
LOCK_TIMEOUT_S: Final = 2.0
PATIENCE_S: Final = 300.0
ROLES: Final = Path(__file__).with_name("roles.sql")


def _include_name(name: str | None, type_: str, _parents: object) -> bool:
    """Partitions come and go at run time: they are no part of the schema that is compared."""
    return not (type_ == "table" and name is not None and name.startswith("game_events_"))


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=tables.metadata,
        include_name=_include_name,
        compare_server_default=True,
        # A table that consumers write to is not kept locked while the next revision takes its time.
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    heads = ScriptDirectory.from_config(context.config).get_heads()
    is_newest = sorted(context.get_context().get_current_heads()) == sorted(heads)
    connection.rollback()  # the look began a transaction
    if is_newest and context.config.attributes.get("has_roles", True):
        _grant(connection)


def _grant(connection: Connection) -> None:
    """Who may do what, whole or not at all; it is told anew after every migration."""
    try:
        with connection.begin():
            # As it is written: without this its % would stand for parameters.
            as_it_is = connection.execution_options(no_parameters=True)
            as_it_is.exec_driver_sql(ROLES.read_text(encoding="utf-8"))
    except ProgrammingError as error:
        if not isinstance(error.orig, InsufficientPrivilege):
            raise
        logging.getLogger("alembic").warning(
            "The roles infamous_writer, infamous_jobs and infamous_bi were left as they are (%s):"
            " migrate as a superuser to have consumers and dashboards log in with fewer rights.",
            str(error.orig).splitlines()[0],
        )


def _tell() -> None:
    logging.getLogger("alembic").warning(
        "Another session holds what is to be changed; trying again until it lets go."
    )


def _patiently(run: Callable[[Connection], None], connection: Connection) -> None:
    """Run it, or give way and run it again: nothing of a revision that gave way is kept."""
    limits = context.config.attributes
    lock_timeout_ms = int(limits.get("lock_timeout_s", LOCK_TIMEOUT_S) * 1000)
    connection.exec_driver_sql(f"set lock_timeout = {lock_timeout_ms}")
    connection.commit()

    def attempt() -> None:
        try:
            run(connection)
        except OperationalError:
            connection.rollback()
            raise

    lock.patiently(attempt, at_most_s=limits.get("patience_s", PATIENCE_S), tell=_tell)


def _be_the_only_one(guard: Connection) -> None:
    guard.execute(text("select pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
    guard.commit()  # a session lock outlives the transaction; an open one would hold back vacuum


def run_online() -> None:
    """Migrate, holding a session lock on a connection of its own.

    Several `upgrade head` at once would all see an empty database; a lock inside the migration's own
    transaction would come too late, after Alembic has read the version.
    """
    url = context.config.attributes.get("database_url") or settings.load().schema_url
    if url is None:
        raise SystemExit("DATABASE_URL is not set: name a database, or use `infamous migrate`.")
    engine = create_engine(url, poolclass=pool.NullPool)
    pooled.require_session(engine, "A migration")
    with engine.connect() as guard, engine.connect() as connection:
        _patiently(_be_the_only_one, guard)  # until it is closed
        _patiently(_run, connection)


if context.is_offline_mode():
    raise SystemExit("Offline SQL is not supported: the partitions' function needs a live server.")
run_online()
