"""Importing does nothing, so that tests, tools and notebooks may look at any part of the code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.processes import clean_environment

# Imports a module and says what that did to the process.
LOOK = """
import json, os, sys, threading
from pathlib import Path
opened = []
def hook(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.fork", "os.posix_spawn")):
        opened.append(f"{event} {arguments!r}"[:200])
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        opened.append(f"written {arguments[0]}")
# What the interpreter writes itself, its compiled code, is none of the import's.
sys.dont_write_bytecode = True
files = set(os.listdir("/proc/self/fd"))
sys.addaudithook(hook)
import signal
handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
__import__(sys.argv[1])
import threading
print(json.dumps({
    "opened": [line for line in opened if "socket.__new__" in line or "socket" not in line],
    "descriptors": len(os.listdir("/proc/self/fd")) - len(files),
    "threads": threading.active_count(),
    "handlers": all(signal.getsignal(n) is handler for n, handler in handlers.items()),
    "modules": sorted(sys.modules),
}))
"""
PURE = (
    "pipeline.event",
    "pipeline.settings",
    "producer.simulate",
    "producer.game",
    "producer.truth",
    "producer.pace",
    "consumer.batch",
    "consumer.rows",
)
WIRED = (
    "producer.__main__",
    "consumer.__main__",
    "infamous.__main__",
    "infamous.cli",
    "pipeline.stream",
    "pipeline.tables",
    "pipeline.stop",
)
SERVER_LIBRARIES = {"redis", "psycopg2", "sqlalchemy", "alembic", "rq"}


@pytest.mark.parametrize("module", [*PURE, *WIRED])
def test_an_import_does_nothing(module: str, tmp_path: Path) -> None:
    """No socket, thread, process, file, descriptor or signal handler comes of importing a module."""
    ran = subprocess.run(
        [sys.executable, "-c", LOOK, module],
        cwd=tmp_path,
        env=clean_environment({}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    seen = json.loads(ran.stdout)
    modules = set(seen.pop("modules"))
    assert seen == {"opened": [], "descriptors": 0, "threads": 1, "handlers": True}
    assert list(tmp_path.iterdir()) == []
    if module in PURE:
        assert not modules & SERVER_LIBRARIES


@pytest.mark.parametrize("module", ["jobs.__main__", "infamous.cli", "consumer.__main__"])
def test_who_keeps_no_archive_stays_small(module: str, tmp_path: Path) -> None:
    """What reads and writes Parquet takes 60 MB, and what runs notebooks is not there at all where the
    service runs: it is loaded by who needs it, when it is needed.
    """
    heavy = ("pyarrow", "fsspec", "pandas", "numpy", "matplotlib", "IPython", "nbclient", "jinja2")
    code = f"import sys, {module}; print(sorted({{*{heavy}}} & {{*sys.modules}}))"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=clean_environment({}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")


def test_a_command_loads_no_migrations(tmp_path: Path) -> None:
    """Alembic is loaded by the commands that look at the schema, not by all."""
    code = "import sys, infamous.cli; print('alembic' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=clean_environment({}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.stdout.strip(), ran.stderr) == ("False", "")


def test_a_producer_needs_no_database_library(tmp_path: Path) -> None:
    """A machine that only produces starts without psycopg2 and SQLAlchemy, and so does --truth."""
    code = (
        "import sys, producer.__main__; print(sorted({'psycopg2', 'sqlalchemy'} & {*sys.modules}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=clean_environment({}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")
