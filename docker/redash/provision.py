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

EMAIL = os.environ.get("REDASH_ADMIN_EMAIL", "admin@example.com")
SOURCE = "Infamous"


def secret(name: str) -> str:
    """A secret's value."""
    return Path("/run/secrets", name).read_text(encoding="ascii").strip()


def manage(*arguments: str) -> None:
    """Redash's command line; what it prints may hold a password, so it is shown only where it failed."""
    done = subprocess.run(
        ["/app/manage.py", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(
            f"manage.py {arguments[0]} {arguments[1]} failed: {done.stderr.strip().splitlines()[-1:]}"
        )


def main() -> None:
    """Bring Redash to what the secrets say."""
    url = urlsplit(secret("database_url_bi"))
    options = {
        "host": url.hostname,
        "port": url.port or 5432,
        "dbname": url.path.lstrip("/"),
        "user": url.username,
        "password": unquote(url.password or ""),
    }
    connection = psycopg2.connect(os.environ["REDASH_DATABASE_URL"])
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from users where email = %s", (EMAIL,))
        if cursor.fetchone() == (0,):
            # Another user was made by hand, under another address: it is left alone, and so are its groups.
            cursor.execute("select count(*) from users")
            if cursor.fetchone() != (0,):
                sys.exit(
                    f"Redash has users, but none is {EMAIL}: name its administrator in REDASH_ADMIN_EMAIL."
                )
            manage(
                "users",
                "create_root",
                EMAIL,
                "Admin",
                "--password",
                secret("redash_admin_password"),
                "--org",
                "default",
            )
        cursor.execute(
            "update users set api_key = %s where email = %s", (secret("redash_api_key"), EMAIL)
        )
        cursor.execute("select count(*) from data_sources where name = %s", (SOURCE,))
        is_there = cursor.fetchone() != (0,)
    connection.close()
    if is_there:
        manage("ds", "edit", SOURCE, "--options", json.dumps(options))
    else:
        manage("ds", "new", SOURCE, "--type", "pg", "--options", json.dumps(options))
    print(f"Redash is ready: log in as {EMAIL} with the password in secrets/redash_admin_password.")  # noqa: T201


if __name__ == "__main__":
    main()
