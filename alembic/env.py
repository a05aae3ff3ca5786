"""Alembic's environment: a database address flows in, migrations run against it, one runner at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine, pool, text

from pipeline import settings, tables

# Any number, the same for every runner: hash of nothing, chosen once.
MIGRATION_LOCK = 4_815_162_342


def _include_name(name: str | None, type_: str, _parents: object) -> bool:
    """Partitions come and go at run time: they are no part of the schema that is compared."""
    return not (type_ == "table" and name is not None and name.startswith("game_events_"))


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=tables.metadata,
        include_name=_include_name,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Migrate, holding a session lock on a connection of its own.

    Several `upgrade head` at once would all see an empty database; a lock inside the migration's own
    transaction would come too late, after Alembic has read the version.
    """
    url = context.config.attributes.get("database_url") or settings.load().database_url
    if url is None:
        raise SystemExit("DATABASE_URL is not set: name a database, or use `infamous migrate`.")
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as guard, engine.connect() as connection:
        guard.execute(text("select pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        guard.commit()  # a session lock outlives the transaction; an open one would hold back vacuum
        try:
            _run(connection)
        finally:
            guard.execute(text("select pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
            guard.commit()


if context.is_offline_mode():
    raise SystemExit("Offline SQL is not supported: the partitions' function needs a live server.")
run_online()
