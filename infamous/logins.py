"""Logins: database URLs flow in, roles that may log in as these URLs say flow out.

The roles come with the schema, without passwords (alembic/roles.sql). Whoever runs the servers gives them
some, as the same URLs that the parts of the pipeline are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812  # psycopg2's class name
from psycopg2.extensions import encrypt_password
from sqlalchemy import Engine, make_url

from pipeline.settings import SettingsError

ROLES: Final = frozenset({"infamous_migrator", "infamous_writer", "infamous_jobs", "infamous_bi"})


def allow(engine: Engine, database_urls: Sequence[str]) -> list[str]:
    """Let the role of each URL log in with its password, and with no other; returns the roles.

    Needs a superuser. Raises SettingsError for a URL without a password, or of a role that is none of
    ours, before anything is changed.
    """
    passwords = dict(_credentials(url) for url in database_urls)
    with engine.begin() as connection:
        raw = cast("Connection", connection.connection.driver_connection)
        for role, password in passwords.items():
            # The server never sees the password: what it logs of a statement cannot hold it.
            verifier = encrypt_password(password, role, raw, "scram-sha-256")
            statement = sql.SQL("alter role {} login password {}").format(
                sql.Identifier(role), sql.Literal(verifier)
            )
            connection.exec_driver_sql(statement.as_string(raw))
    return list(passwords)


def _credentials(database_url: str) -> tuple[str, str]:
    url = make_url(database_url)
    if url.username not in ROLES:
        known = ", ".join(sorted(ROLES))
        raise SettingsError(f"{url.username} is no role of this pipeline: name one of {known}.")
    if not url.password:
        raise SettingsError(f"The URL of {url.username} has no password: give it one.")
    return url.username, url.password
