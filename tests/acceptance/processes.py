"""Real processes for the acceptance tests: commands flow in, what they did flows out, none stays behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, pool, text

from infamous import audit, status
from infamous.embedded import locks
from infamous.embedded.servers import joined
from pipeline.streams import Streams
from tests import commands

# The tests name every server themselves; PYTHON* could change what a child prints.
_NOT_HANDED_ON = ("DATABASE_URL", "REDIS_URL", "INFAMOUS_HOME", "PYTHONWARNINGS")


@dataclass(frozen=True)
class Result:
    """What a command that ended had to say."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams, for messages of failed asserts."""
        return f"exit {self.code}\n{self.out}\n{self.err}"


@dataclass
class Process:
    """A running command whose output goes to files."""

    popen: subprocess.Popen[bytes] | commands.Forked
    out_path: Path
    err_path: Path

    @property
    def pid(self) -> int:
        """For signals."""
        return self.popen.pid

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.popen.send_signal(number)

    def kill(self) -> None:
        """End it as the out-of-memory killer would."""
        self.popen.kill()
        self.popen.wait(10)

    def end(self, number: signal.Signals = signal.SIGTERM, within_s: float = 10) -> Result:
        """Ask it to end and give it so long."""
        self.send(number)
        return self.wait(within_s)

    def wait(self, within_s: float) -> Result:
        """Wait for its end; fails when it does not come in time."""
        try:
            code = self.popen.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within_s} s:\n{self.shown()}") from None
        return Result(code, self.out(), self.err())

    def out(self) -> str:
        """What it printed so far."""
        return self.out_path.read_text(encoding="utf-8", errors="replace")

    def err(self) -> str:
        """What it complained of so far."""
        return self.err_path.read_text(encoding="utf-8", errors="replace")

    def shown(self) -> str:
        """The tail of both, for messages."""
        return f"{self.out()[-2000:]}\n{self.err()[-2000:]}"


@dataclass
class Launcher:
    """Starts commands in an empty folder, and ends at last what a failed test left."""

    folder: Path
    started: list[Process] = field(default_factory=list)

    def start(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        through: Sequence[str] = (),
        stdout: int | None = None,
    ) -> Process:
        """``python -m`` these arguments, perhaps through a program that runs others."""
        out_path, err_path = self._files()
        with out_path.open("wb") as out, err_path.open("wb") as err:
            popen = subprocess.Popen(
                [*through, sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out if stdout is None else stdout,
                stderr=err,
                cwd=self.folder,
                env=clean_environment(environment),
            )
        return self._started(popen, out_path, err_path)

    def fork(self, *arguments: str, environment: Mapping[str, str]) -> Process:
        """The same of a command of ours, without the second that loading it takes.

        Its command line is another's: ``processes_of`` does not find it.
        """
        out_path, err_path = self._files()
        forked = commands.Forked(
            *arguments,
            cwd=self.folder,
            environment=clean_environment(environment),
            out=str(out_path),
            err=str(err_path),
        )
        return self._started(forked, out_path, err_path)

    def run(self, *arguments: str, environment: Mapping[str, str], within_s: float = 40) -> Result:
        """To its end; forked where it is a command of ours."""
        begin = self.fork if arguments[0] in commands.MAINS else self.start
        return begin(*arguments, environment=environment).wait(within_s)

    def _files(self) -> tuple[Path, Path]:
        number = len(self.started)
        out_path, err_path = (self.folder / f"{number}.{kind}" for kind in ("out", "err"))
        out_path.touch()
        err_path.touch()
        return out_path, err_path

    def _started(
        self, popen: subprocess.Popen[bytes] | commands.Forked, out_path: Path, err_path: Path
    ) -> Process:
        self.started.append(Process(popen, out_path, err_path))
        return self.started[-1]

    def close(self) -> None:
        """End what still runs, by pid."""
        for process in self.started:
            if process.lives:
                with contextlib.suppress(ProcessLookupError):
                    process.send(signal.SIGCONT)
                process.kill()


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """This process' environment without the servers it names, and with these variables."""
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_HANDED_ON}
    return inherited | dict(environment)


def ordinary_user() -> tuple[str, ...]:
    """What makes a command run without root's powers, where the tests have them; else nothing.

    A user namespace without a mapping: the process is nobody to itself, and to the files a root who may
    not do more than their owner may.
    """
    if os.geteuid() != 0:
        return ()
    runs = shutil.which("unshare") and subprocess.run(["unshare", "-U", "true"], check=False)
    if not runs or runs.returncode != 0:
        pytest.skip("root cannot make a user namespace here")
    return ("unshare", "-U")


def wait_until(is_so: Callable[[], bool], what: str, within_s: float = 20) -> None:
    """Poll a condition."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)


# --- what a data folder has running


def processes_of(home: Path, word: str = "") -> list[int]:
    """Processes that have to do with a data folder, by command line, environment or place."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile
            command = (entry / "cmdline").read_bytes()
            if not command:  # a zombie or a kernel thread
                continue
            place = os.fsencode((entry / "cwd").readlink())
            marks = command + b"\0" + (entry / "environ").read_bytes() + b"\0" + place
            if os.fsencode(home) in marks and word.encode() in command.replace(b"\0", b" "):
                found.append(int(entry.name))
    return found


def described(pids: list[int]) -> list[str]:
    """Their command lines, for messages."""
    lines = []
    for pid in pids:
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            lines.append(f"{pid} {command.decode(errors='replace')}")
    return lines


def assert_nothing_left(home: Path, within_s: float = 0.0) -> None:
    """No process, no socket, no held lock."""
    deadline = time.monotonic() + within_s
    while (left := processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left, described(left)
    sockets = [str(path) for path in home.rglob("*") if path.is_socket()]
    assert not sockets
    held = [str(path) for path in sorted(home.glob("*.lock")) if not locks.is_free(path)]
    held += [str(path) for path in sorted(home.glob("*.users")) if not locks.is_free(path)]
    held += [str(path) for path in sorted(home.glob("*.family")) if not locks.is_free(path)]
    assert not held


def unused_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- what the pipeline holds


@dataclass(frozen=True)
class Facts:
    """Both servers at a moment."""

    rows: int
    distinct_ids: int
    produced: int
    entries: int
    undelivered: int
    pending: int
    consumers: tuple[str, ...]
    quarantined: int
    broken: tuple[str, ...]
    coles_last_seq: int

    @property
    def is_drained(self) -> bool:
        """Whether nothing waits."""
        return self.undelivered == 0 and self.pending == 0


def facts_of(streams: Streams, engine: Engine) -> Facts:
    """The status and the audit, in this process."""
    now = status.status(streams, engine)
    assert now.tables is not None, "the database was never migrated"
    checked = audit.audit(engine)
    with engine.connect() as connection:
        distinct = connection.execute(text("select count(distinct id) from game_events"))
        cole = connection.execute(
            text("select coalesce(max(seq), 0) from game_events where player = 'Cole MacGrath'")
        )
        return Facts(
            rows=now.tables.rows,
            distinct_ids=distinct.scalar_one(),
            produced=now.produced,
            entries=now.stream.entries,
            undelivered=now.stream.undelivered,
            pending=now.stream.pending,
            consumers=tuple(sorted(now.stream.consumers)),
            quarantined=sum(now.tables.quarantined.values()),
            broken=tuple(f"{entry.rule}: {entry.samples[:1]}" for entry in checked.broken),
            coles_last_seq=cole.scalar_one(),
        )


@contextmanager
def looking_into(home: Path) -> Iterator[tuple[Streams, Engine]]:
    """Join the servers of a data folder from this process, for as long as the block lasts."""
    with joined(home, None, None) as servers:
        engine = create_engine(servers.database_url, poolclass=pool.NullPool)
        streams = Streams(servers.redis_url)
        try:
            yield streams, engine
        finally:
            streams.close()
            engine.dispose()


def facts_in(home: Path) -> Facts:
    """The facts of a data folder whose pipeline is down; leaves nothing running."""
    with looking_into(home) as (streams, engine):
        return facts_of(streams, engine)


def assert_whole(facts: Facts) -> None:
    """Everything that was sent is stored once, nothing waits, and the data prove themselves."""
    assert facts.broken == ()
    assert facts.is_drained, facts
    assert facts.rows == facts.distinct_ids == facts.produced, facts
    assert facts.quarantined == 0, facts
