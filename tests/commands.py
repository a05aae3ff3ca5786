"""Commands of ours in processes of their own, forked from one that has loaded everything: a second less."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

# What ``python -m`` takes, and where its main() is.
MAINS: Final = {
    "infamous": "infamous.cli",
    "jobs": "jobs.__main__",
    "producer": "producer.__main__",
    "consumer": "consumer.__main__",
}
# Takes arguments, and variables by name.
Command = Callable[..., "subprocess.CompletedProcess[str]"]
_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *MAINS.values(),
        "alembic.command",
        "jobs.archiver",
        "jobs.erasure",
        "jobs.records",
        "tests.commands",
    ]
)


def nothing() -> None:
    """Do nothing."""


class Forked:
    """A command that runs: what a Popen can do, as far as the tests ask for it."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        cwd: Path,
        environment: Mapping[str, str],
        out: str,
        err: str,
        first: Callable[[], None] = nothing,
    ) -> None:
        """``python -m MODULE`` with these arguments and this environment; ``out`` and ``err`` are files.

        ``first``, a function of a module, is called in the process before.
        """
        self._args = [module, *arguments]
        self._process = _FORKS.Process(
            target=_be, args=(module, arguments, str(cwd), dict(environment), out, err, first)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, negative for a signal's number; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Its exit code, once it has ended; raises TimeoutExpired after so many seconds."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._args, timeout)
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as the out-of-memory killer would."""
        self.send_signal(signal.SIGKILL)


def run(
    module: str,
    *arguments: str,
    cwd: Path,
    environment: Mapping[str, str],
    first: Callable[[], None] = nothing,
    at_most_s: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """The same to its end, which comes by force after so long, and what it wrote."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        names = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
        child = Forked(
            *(module, *arguments),
            cwd=cwd,
            environment=environment,
            out=names[0],
            err=names[1],
            first=first,
        )
        try:
            code = child.wait(at_most_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(at_most_s)
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(
            [module, *arguments],
            code,
            out.read().decode("utf-8", "replace"),
            err.read().decode("utf-8", "replace"),
        )


def beginning(*words: str, cwd: Path, environment: Mapping[str, str]) -> Command:
    """Commands that begin with these words, and have these variables beside our own; a call may name more."""

    def run_one(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return run(
            *(*words, *arguments), cwd=cwd, environment={**os.environ, **environment, **variables}
        )

    return run_one


def _be(
    module: str,
    arguments: tuple[str, ...],
    cwd: str,
    environment: dict[str, str],
    out: str,
    err: str,
    first: Callable[[], None],
) -> None:
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    first()
    sys.exit(importlib.import_module(MAINS[module]).main())
