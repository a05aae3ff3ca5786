"""A stack of its own: a copy of the project with its own name, secrets, ports and volumes."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Long enough for a cold build on two slow cores.
COMMAND_S = 900.0


class Stack:
    """The project under one of the two programs that read compose files."""

    def __init__(self, folder: Path, program: tuple[str, ...]) -> None:
        self.folder, self.program = folder, program
        self.name = f"infamous-test-{uuid.uuid4().hex[:8]}"
        self.environment = {
            # Whatever the file takes from the environment is none of the developer's here.
            **{k: v for k, v in os.environ.items() if k not in variables_of(ROOT / "compose.yaml")},
            "COMPOSE_PROJECT_NAME": self.name,
            "COMPOSE_PROFILES": "",
            "INFAMOUS_IMAGE": "infamous-game-analytics:test",
            "JUPYTER_IMAGE": "infamous-game-analytics-jupyter:test",
            "JUPYTER_PORT": str(free_port()),
        }
        copy_project(folder)

    def run(
        self, *arguments: str, given: str | None = None, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """A command of Compose; what it says is in the error when it fails."""
        done = subprocess.run(
            [*self.program, *arguments],
            cwd=self.folder,
            env=self.environment | variables,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )
        if check:
            assert done.returncode == 0, (
                f"{arguments}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
            )
        return done

    def up(self, *arguments: str, **variables: str) -> None:
        """Bring everything to what the file says. What variables change stays changed."""
        self.environment |= variables
        self.run("up", "-d", *arguments)

    def down(self) -> None:
        """Take everything away, volumes too."""
        profiles = ("--profile", "redash", "--profile", "metrics")
        self.run(*profiles, "down", "--volumes", "--remove-orphans", "--timeout", "20", check=False)

    def make_secrets(self) -> str:
        """What `make secrets` does; returns what it says."""
        done = subprocess.run(
            ["sh", "docker/secrets.sh"], cwd=self.folder, capture_output=True, text=True, check=True
        )
        return done.stdout

    def secret(self, name: str) -> str:
        """A secret's value."""
        return (self.folder / "secrets" / name).read_text(encoding="ascii").strip()

    def infamous(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The command line, as the README says to run it."""
        return self.run("run", "--rm", "-T", "infamous", *arguments, check=check)

    def status(self) -> dict[str, Any]:
        """`infamous status --json`."""
        found: dict[str, Any] = json.loads(self.infamous("status", "--json").stdout)
        return found

    def python(self, service: str, code: str) -> str:
        """Run Python in a running container, as whoever runs there; returns what it printed."""
        return self.run("exec", "-T", service, "python", "-", given=code).stdout

    def sql(self, query: str) -> str:
        """What the superuser is answered, by the socket, as a person at the server would ask."""
        psql = ("psql", "-qtA", "-d", "infamous", "-c", query)
        return self.run("exec", "-T", "postgres", *psql).stdout.strip()

    def containers(self, *services: str) -> list[str]:
        """The ids of running containers."""
        return self.run("ps", "-q", *services).stdout.split()

    def drained(self) -> dict[str, Any]:
        """Wait until nothing waits on the stream; returns the status then."""
        found: list[dict[str, Any]] = []

        def is_empty() -> bool:
            found[:] = [self.status()]
            return not found[0]["undelivered"] and not found[0]["pending"]

        until(is_empty, "the stream to drain")
        return found[0]

    def audited(self) -> dict[str, Any]:
        """Stop the game, wait for the last event, and have the rows prove themselves; then it goes on."""
        self.run("stop", "producer")
        status = self.drained()
        done = self.infamous("audit", check=False)
        assert done.returncode == 0, done.stdout
        assert status["rows"] == status["produced"], status
        assert status["quarantined"]["total"] == 0, status
        assert status["lost"] == 0, status
        self.run("start", "producer")
        return status


def docker(*arguments: str, check: bool = True) -> str:
    """A command of the engine, which must succeed unless ``check`` is False."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0 or not check, f"{arguments}: {done.stderr}"
    return done.stdout


def inspect(ids: list[str]) -> list[dict[str, Any]]:
    """What the engine knows of containers."""
    found: list[dict[str, Any]] = json.loads(docker("inspect", *ids)) if ids else []
    return found


def until(condition: Callable[[], object], what: str, *, at_most_s: float = 120.0) -> None:
    """Wait until it holds; fails with what was waited for."""
    deadline = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {at_most_s:g} s in vain for {what}"
        time.sleep(0.5)  # between two looks at other processes


def is_listening(host: str, port: int) -> bool:
    """Whether anybody answers there."""
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def variables_of(file: Path) -> set[str]:
    """What a compose file takes from the environment, and what Compose itself does."""
    named = re.findall(r"\$\{(\w+)", file.read_text(encoding="utf-8"))
    return {*named, *(name for name in os.environ if name.startswith("COMPOSE_"))}


def free_port() -> int:
    """A port of the loopback that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def copy_project(folder: Path) -> None:
    """What a clone would hold, with what is being worked on."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        source = ROOT / name
        if name and source.is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    # As careful a clone as there is: nobody else on this machine may read it.
    for path in folder.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
