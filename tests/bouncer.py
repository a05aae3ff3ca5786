"""A real PgBouncer in transaction mode: a server flows in, an address that shares its sessions flows out."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg2
import pytest
from sqlalchemy import URL, make_url

from infamous.embedded import confine
from pipeline.settings import libpq_url
from tests.integration.consuming import until

# Sessions of Postgres' for all who connect to a database.
POOL: Final = 2
# A test that waits for a session that will not come is to fail, and soon.
_WAIT_S: Final = 15
_MISSING: Final = (
    "pgbouncer is not installed here: apt-get install -y --no-install-recommends pgbouncer"
)


@dataclass(frozen=True)
class Bouncer:
    """One that runs."""

    port: int
    user: str

    def url(self, database: str) -> str:
        """The address of a database by way of it."""
        return URL.create(
            "postgresql+psycopg2", self.user, host="127.0.0.1", port=self.port, database=database
        ).render_as_string(hide_password=False)


def require() -> str:
    """The program. Where it is missing the test is skipped, and fails where CI is to have it."""
    # Debian has it where only root looks.
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(_MISSING)
        pytest.skip(_MISSING)
    return found


@contextmanager
def bounced(
    database_url: str, folder: Path, *, mode: str = "transaction", sessions: int = POOL
) -> Iterator[Bouncer]:
    """Start it before the server of this URL, on loopback; it is gone afterwards."""
    program, url = require(), make_url(database_url)
    user = url.username or ""
    bouncer = Bouncer(_free_port(), user)
    users, settings = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text(f'"{user}" ""\n', encoding="utf-8")
    settings.write_text(
        f"""
[databases]
* = host={url.query.get("host", url.host)} port={url.query.get("port", url.port)}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {bouncer.port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {mode}
default_pool_size = {sessions}
max_client_conn = 200
query_wait_timeout = {_WAIT_S}
""",
        encoding="utf-8",
    )
    # It refuses to run as root, as Postgres does, and gets along in the same way.
    identity = confine.identity_for(Path(program), folder)
    with (folder / "pgbouncer.log").open("wb") as log:
        process = confine.start(
            [program, str(settings)],
            identity=identity,
            death_signal=signal.SIGKILL,
            output=log.fileno(),
            inherit=(),
        )
        try:
            until(lambda: _answers(process, bouncer, database_url, folder), "PgBouncer to answer")
            yield bouncer
        finally:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(
    process: subprocess.Popen[bytes], bouncer: Bouncer, database_url: str, folder: Path
) -> bool:
    if process.poll() is not None:
        said = (folder / "pgbouncer.log").read_text(encoding="utf-8", errors="replace")
        pytest.fail(f"PgBouncer has ended: {said}")
    with suppress(psycopg2.OperationalError):
        database = make_url(database_url).database or ""
        psycopg2.connect(libpq_url(bouncer.url(database))).close()
        return True
    return False
