"""An engine, if there is one, and a stack on it that the tests of a file share."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.compose.stack import Stack

NEW = ("docker", "compose")
FORMER = ("docker-compose",)


def why_not(program: tuple[str, ...]) -> str | None:
    """Why no stack can be started; None where one can."""
    if not shutil.which("docker"):
        return "there is no docker on this machine"
    if subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=60).returncode:
        return "no Docker engine answers: start one"
    if not shutil.which(program[0]):
        return f"{program[0]} is not installed"
    if subprocess.run(
        [*program, "version"], capture_output=True, check=False, timeout=60
    ).returncode:
        return f"`{' '.join(program)}` does not work"
    return None


@contextmanager
def started(folder: Path, program: tuple[str, ...]) -> Iterator[Stack]:
    """A stack without secrets and without containers yet; nothing of it is left behind."""
    reason = why_not(program)
    if reason:
        pytest.skip(reason)
    stack = Stack(folder, program)
    try:
        yield stack
    finally:
        stack.down()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Under Compose v2."""
    with started(tmp_path_factory.mktemp("stack"), NEW) as made:
        yield made


@pytest.fixture(scope="module")
def former_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Under docker-compose 1.29."""
    with started(tmp_path_factory.mktemp("former"), FORMER) as made:
        yield made
