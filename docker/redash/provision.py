"""Redash's administrator, the key of its API and the data source; runs in Redash's own image.

Whatever is there already is brought to what the secrets say, so it may be run any number of times. The first
user is made by Redash's command line, not by its set-up page, which tells its makers of it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg2

EMAIL = os.environ["REDASH_ADMIN_EMAIL"]
SOURCE = "Infamous"
DRAFT = "Infamous, not yet in place"


def secret(name: str) -> str:
    """A secret's value."""
    return Path("/run/secrets", name).read_text(encoding="ascii").strip()


def manage(*arguments: str) -> None:
    """Redash's command line; what it prints may hold a password, so it is shown only where it failed."""
    done = subprocess.run(
        ["/app/manage.py", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        why = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        sys.exit(f"manage.py {arguments[0]} {arguments[1]} failed: {why}")


def administrator(cursor) -> None:
    """The user of this address, with the password and the key of the secrets."""
    cursor.execute("select count(*), count(*) filter (where email = %s) from users", (EMAIL,))
    users, ours = cursor.fetchone()
    if users and not ours:  # one more root would bring a second pair of groups
        sys.exit(
            f"Redash has users, but none is {EMAIL}: name its administrator in REDASH_ADMIN_EMAIL."
        )
    password = secret("redash_admin_password")
    if ours:
        manage("users", "password", EMAIL, password)
    else:
        manage("users", "create_root", EMAIL, "Admin", "--password", password, "--org", "default")
    cursor.execute(
        "update users set api_key = %s where email = %s", (secret("redash_api_key"), EMAIL)
    )


def data_source(cursor) -> None:
    """The tables, as their reader.

    A source whose password was written under another REDASH_SECRET_KEY cannot be read any more, and so not
    be edited. So Redash writes a new one each time, and the one that queries know takes over its options.
    """
    url = urlsplit(secret("database_url_bi"))
    options = {
        "host": url.hostname,
        "port": url.port or 5432,
        "dbname": url.path.lstrip("/"),
        "user": url.username,
        "password": unquote(url.password or ""),
    }
    forget = (
        "delete from data_source_groups"
        " where data_source_id in (select id from data_sources where name = %s);"
        "delete from data_sources where name = %s"
    )
    cursor.execute(forget, (DRAFT, DRAFT))  # of a run that was cut off
    manage("ds", "new", DRAFT, "--type", "pg", "--options", json.dumps(options))
    cursor.execute(
        "update data_sources set encrypted_options = draft.encrypted_options, type = draft.type"
        " from data_sources draft where data_sources.name = %s and draft.name = %s",
        (SOURCE, DRAFT),
    )
    if cursor.rowcount:
        cursor.execute(forget, (DRAFT, DRAFT))
    else:
        cursor.execute("update data_sources set name = %s where name = %s", (SOURCE, DRAFT))


def main() -> None:
    """Bring Redash to what the secrets say."""
    connection = psycopg2.connect(os.environ["REDASH_DATABASE_URL"])
    connection.autocommit = True
    with connection.cursor() as cursor:
        administrator(cursor)
        data_source(cursor)
    connection.close()
    print(f"Redash is ready: log in as {EMAIL} with the password in secrets/redash_admin_password.")  # noqa: T201


if __name__ == "__main__":
    main()
