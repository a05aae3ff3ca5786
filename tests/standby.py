"""A real replica that streams: a Postgres flows in, the address of a copy that follows it flows out."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg2
import pytest
from sqlalchemy import make_url

from infamous.embedded import binaries, confine
from infamous.embedded.postgres import NAME, PORT
from pipeline.settings import libpq_url
from tests.integration.consuming import until

# A question that is in the way of what is replayed is not waited for.
DELAY_MS: Final = 100
_MISSING: Final = (
    "pg_basebackup is not installed here: apt-get install -y --no-install-recommends postgresql"
)


@dataclass(frozen=True)
class Standby:
    """One that runs."""

    # What it was copied from.
    primary_url: str
    run: Path

    def url(self, database: str) -> str:
        """The address of a database on it."""
        url = make_url(self.primary_url).set(database=database)
        return url.update_query_dict({"host": str(self.run)}).render_as_string(hide_password=False)


@contextmanager
def following(database_url: str, folder: Path) -> Iterator[Standby]:
    """Copy the server of this URL, on a socket of this machine, and follow it; it is gone afterwards."""
    server = binaries.postgres(None, None)
    copier = server.beside("pg_basebackup")
    if copier is None:
        if os.environ.get("CI") == "true":
            pytest.fail(_MISSING)
        pytest.skip(_MISSING)
    identity = confine.identity_for(server.path, folder)
    data, run = folder / "data", folder / "run"
    run.mkdir(mode=0o700)
    identity.own(folder, run)
    primary = make_url(database_url).query["host"]
    copy = [
        *(copier, "-h", str(primary), "-p", str(PORT), "-U", NAME, "-D", str(data), "-R"),
        *("--checkpoint=fast", "--no-sync"),
    ]
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": f'"{run}"',
        "port": PORT,
        # No less than the primary's.
        "max_connections": 100,
        "max_standby_streaming_delay": f"{DELAY_MS}ms",
        # What it is to do again soon after the primary has gone away.
        "wal_retrieve_retry_interval": "100ms",
    }
    with (folder / "log").open("wb") as log:

        def start(command: list[str], death: signal.Signals) -> subprocess.Popen[bytes]:
            return confine.start(
                command, identity=identity, death_signal=death, output=log.fileno(), inherit=()
            )

        assert start(copy, signal.SIGKILL).wait(60) == 0, (folder / "log").read_text()
        options = [f"--{name}={value}" for name, value in settings.items()]
        process = start([str(server.path), "-D", str(data), *options], signal.SIGQUIT)
        standby = Standby(database_url, run)
        try:
            until(lambda: _answers(process, standby, folder), "the replica to answer")
            yield standby
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(30)


def _answers(process: subprocess.Popen[bytes], standby: Standby, folder: Path) -> bool:
    if process.poll() is not None:
        pytest.fail(f"The replica has ended: {(folder / 'log').read_text()}")
    with suppress(psycopg2.OperationalError):
        psycopg2.connect(libpq_url(standby.url("postgres"))).close()
        return True
    return False
