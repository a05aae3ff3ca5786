"""The embedded Postgres: the data folder flows in; a cluster, a command line and a URL flow out."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import psycopg2

from infamous.embedded import binaries, confine
from infamous.embedded.folder import Folder, ServerError, read_json

if TYPE_CHECKING:
    from infamous.embedded.binaries import Binary

# The port is only the socket's name: nothing listens on the network.
PORT: Final = 5432
NAME: Final = "infamous"  # of the user and of the database
# The C locale sorts alike in every build, so another binary of the same major version can take the
# data over without rebuilding an index. Without a password: the socket's folder is the guard.
INITDB_OPTIONS: Final = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums")


class EmbeddedPostgres:
    """What is particular to Postgres under the keeper."""

    name: Final = "postgres"
    title: Final = "Postgres"
    stop_signal: Final = signal.SIGINT  # "fast": ends the sessions, writes a checkpoint, leaves
    last_signal: Final = signal.SIGQUIT  # leaves at once; the next start recovers

    def __init__(self, folder: Folder, run: Path) -> None:
        self._folder = folder
        self._run = run
        self._data = folder.home / "postgres"
        self.identity = confine.Identity.OURSELVES

    def prepare(self, family: int) -> Binary:
        """Choose the program and make the cluster where there is none; about a second, at most."""
        version = self._data / "PG_VERSION"
        major = int(version.read_text(encoding="ascii")) if version.exists() else None
        recorded = read_json(self._folder.choice_file).get(self.name, {}).get("program")
        binary = binaries.postgres(major, recorded)
        self.identity = confine.identity_for(binary.path, self._folder.home)
        if major is None:
            self._make_cluster(binary, family)
        self._forget_former(family)
        self.identity.own(self._data, self._run)
        return binary

    def command(self, binary: Binary) -> list[str]:
        """The server's command line; durability stays at its defaults (fsync on)."""
        quoted_run = '"' + str(self._run).replace('"', '""') + '"'
        settings = {
            "listen_addresses": "",
            "port": PORT,
            "unix_socket_directories": quoted_run,
            "unix_socket_permissions": "0700",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] ",
            "max_connections": 100,
            # Only what is used takes memory; the hot partitions of a small machine fit.
            "shared_buffers": "256MB",
            # Fewer checkpoints during a backfill.
            "max_wal_size": "2GB",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(binary.path), "-D", str(self._data), *options]

    def is_ready(self) -> bool:
        """Whether a query is answered; makes the database where it is missing."""
        try:
            connection = psycopg2.connect(
                host=str(self._run), port=PORT, user=NAME, dbname="postgres", connect_timeout=2
            )
        except psycopg2.OperationalError:
            return False
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (NAME,))
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{NAME}"')
        except psycopg2.OperationalError as error:
            if error.pgcode and error.pgcode.startswith("53"):  # insufficient resources: disk full
                raise ServerError(
                    f"The database cannot be made ({str(error).splitlines()[0]}): "
                    f"make room on the disk of {self._folder.home} and try again."
                ) from None
            return False
        finally:
            connection.close()
        return True

    def facts(self, binary: Binary) -> dict[str, str]:
        """How to reach it."""
        psql = binary.beside("psql")
        host = quote(str(self._run), safe="")
        return {
            "url": f"postgresql+psycopg2://{NAME}@/{NAME}?host={host}&port={PORT}",
            "client": shlex.join([psql, "-h", str(self._run), "-U", NAME, NAME]) if psql else "",
        }

    def _forget_former(self, family: int) -> None:
        """Remove the lock files of a killed postmaster of ours.

        Postgres takes it for alive while its pid is a zombie's or, after a restart of the machine,
        another process's, and would refuse to start. The family lock, which we hold, knows better;
        a postmaster that someone started by hand has another pid than the one noted in it.
        """
        for rest in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            (self._run / rest).unlink(missing_ok=True)
        pid_file = self._data / "postmaster.pid"
        former = os.pread(family, 20, 0).decode().split()
        if former and pid_file.exists() and pid_file.read_text().split()[:1] == former:
            pid_file.unlink()

    def _make_cluster(self, binary: Binary, family: int) -> None:
        """Run initdb in a folder aside and rename it, so that a killed initdb leaves no half."""
        home = self._folder.home
        for rest in home.glob("postgres.new-*"):
            shutil.rmtree(rest)
        draft = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=home))
        try:
            self.identity.own(draft)
            self._run_initdb(binary, family, draft)
            draft.rename(self._data)
        except OSError as error:
            raise ServerError(
                f"{self._data} cannot be made ({error.strerror}): "
                "move away what is there, or choose another folder with INFAMOUS_HOME."
            ) from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _run_initdb(self, binary: Binary, family: int, draft: Path) -> None:
        log = self._folder.log(self.name)
        offset = log.stat().st_size
        with log.open("ab") as output:
            initdb = confine.start(
                [
                    str(binary.path.with_name("initdb")),
                    "-D",
                    str(draft),
                    "-U",
                    NAME,
                    *INITDB_OPTIONS,
                ],
                identity=self.identity,
                death_signal=signal.SIGTERM,
                output=output.fileno(),
                inherit=(family,),
            )
            code = initdb.wait()
        if code != 0:
            raise ServerError(
                f"The Postgres cluster could not be made ({self._folder.last_words(self.name, offset)}"
                f"): {log} has the whole story; mend the cause and try again."
            )
