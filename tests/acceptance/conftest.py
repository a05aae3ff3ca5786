"""Fixtures of the acceptance tests: a launcher of processes, and a data folder that must end up quiet."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.processes import (
    Launcher,
    clean_environment,
    processes_of,
    wait_until,
)
from tests.conftest import PLACE


@pytest.fixture(autouse=True)
def _linux_only() -> None:
    if sys.platform != "linux":
        pytest.skip("these tests look for processes in /proc")


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launcher]:
    """Starts commands; none survives the test."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    launcher = Launcher(folder)
    yield launcher
    launcher.close()


@pytest.fixture
def home() -> Iterator[Path]:
    """A data folder to be, with a path short enough for sockets inside; ends up gone, and quiet."""
    parent = Path(tempfile.mkdtemp(prefix="ia-", dir=os.environ.get(PLACE, "/tmp")))  # noqa: S108  # short
    yield parent / "home"
    for number in (signal.SIGCONT, signal.SIGTERM):
        _signal_all(parent, number)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not processes_of(parent), "its processes are gone", 10)
    _signal_all(parent, signal.SIGKILL)
    shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture(scope="session")
def template_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a migrated database: copied in a tenth of the time it takes to make."""
    folder = tmp_path_factory.mktemp("template") / "home"
    subprocess.run(
        [sys.executable, "-m", "infamous", "migrate"],
        cwd=folder.parent,
        env=clean_environment({"INFAMOUS_HOME": str(folder)}),
        capture_output=True,
        check=True,
    )
    return folder


@pytest.fixture
def ready_home(home: Path, template_home: Path) -> Path:
    """A data folder that was used before, with nothing in it but empty tables."""
    shutil.copytree(template_home, home)
    return home


def _signal_all(folder: Path, number: signal.Signals) -> None:
    for pid in processes_of(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
