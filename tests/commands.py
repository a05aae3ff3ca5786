"""Commands of ours in processes of their own, forked from one that has loaded everything: a second less."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["infamous.cli", "jobs.archiver", "jobs.erasure", "jobs.records"])


def nothing() -> None:
    """Do nothing."""


def run(
    module: str,
    *arguments: str,
    cwd: Path,
    environment: Mapping[str, str],
    first: Callable[[], None] = nothing,
    at_most_s: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """``python -m MODULE`` with these arguments and this environment, which may be killed like any other.

    ``first``, a function of a module, is called in the process before.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = _FORKS.Process(
            target=_be,
            args=(
                module,
                arguments,
                str(cwd),
                dict(environment),
                f"/proc/{os.getpid()}/fd/{out.fileno()}",
                f"/proc/{os.getpid()}/fd/{err.fileno()}",
                first,
            ),
        )
        child.start()
        child.join(at_most_s)
        if child.exitcode is None:
            child.kill()
            child.join()
            raise subprocess.TimeoutExpired([module, *arguments], at_most_s)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(
            [module, *arguments],
            child.exitcode,
            out.read().decode("utf-8", "replace"),
            err.read().decode("utf-8", "replace"),
        )


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
    if module == "infamous":
        from infamous.cli import main
    else:
        from jobs.__main__ import main
    main()
