"""The schema: a database flows in, migrated to this version and with partitions for the days ahead."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from pipeline import lock, partitions

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

# Alembic is a tenth of what the command line has to load, and few commands look at the schema: it is loaded
# where it is used.
_ROOT: Final = Path(__file__).resolve().parent.parent


class NewerSchema(Exception):
    """The database was migrated by a newer version than this."""


class Locked(Exception):
    """Another session did not let go of a table that is to be changed."""


@dataclass(frozen=True)
class Migrated:
    """What a migration did. Revisions are None before the first."""

    before: str | None
    after: str | None
    partitions_made: int


def migrate(engine: Engine) -> Migrated:
    """Upgrade to the newest revision and make the partitions around today.

    Safe when several start at once: they wait for each other. Safe while events are stored: it gives way
    rather than make others wait behind it. Raises NewerSchema, Locked, NeedsSession.
    """
    before = revision(engine)
    require_known(before)
    upgrade(engine)
    first_day, last_day = partitions.around(datetime.now(UTC).date())
    span = {"first_day": first_day, "last_day": last_day}
    with engine.begin() as connection:
        made: int = connection.execute(text(partitions.ENSURE), span).scalar_one()
    return Migrated(before, revision(engine), made)


def upgrade(engine: Engine, *, has_roles: bool = True) -> None:
    """Upgrade to the newest revision, no more. Raises Locked, NeedsSession.

    ``has_roles`` False: who may do what is left as it is.
    """
    from alembic import command  # noqa: PLC0415

    config = _config(engine)
    config.attributes["has_roles"] = has_roles
    try:
        command.upgrade(config, "head")
    except OperationalError as error:
        if not lock.is_locked_out(error):
            raise
        raise Locked(
            "Another session has held what is to be changed for minutes, so it was not: end it"
            " (pg_stat_activity shows the transactions that are open), and migrate again."
        ) from error


def revision(engine: Engine) -> str | None:
    """The revision the database is at; None when it was never migrated."""
    from alembic.migration import MigrationContext  # noqa: PLC0415

    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    """The revision this version of the code brings a database to."""
    return _scripts().get_current_head()


def require_known(found: str | None) -> None:
    """Raise NewerSchema when the database is at a revision this version does not have."""
    if found is not None and found not in {one.revision for one in _scripts().walk_revisions()}:
        raise NewerSchema(
            f"The database is at schema revision {found}, which this version does not know:"
            " update the code to the version that migrated it, or name another database."
        )


def _scripts() -> ScriptDirectory:
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    return ScriptDirectory.from_config(_ini())


def _config(engine: Engine) -> Config:
    config = _ini()
    config.attributes["database_url"] = engine.url.render_as_string(hide_password=False)
    return config


def _ini() -> Config:
    from alembic.config import Config  # noqa: PLC0415

    return Config(_ROOT / "alembic.ini")
