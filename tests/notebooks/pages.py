"""Reports for tests: a world, and notebooks of a test's own, flow in; what was made of them flows out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from analytics.report.make import NOTEBOOKS, Made, make
from infamous.embedded.servers import Servers
from pipeline.event import Event
from tests.conftest import World, world_of
from tests.integration import dashboards

KERNEL: Final = b"analytics.report.kernel"


@contextmanager
def rolled_up(servers: Servers, template: str, events: Sequence[Event]) -> Iterator[World]:
    """A world of such a past."""
    with world_of(servers, template) as world:
        dashboards.store(world, events)
        dashboards.roll_up(world)
        yield world


def made(
    world: World, folder: Path, *, days: int = 7, notebooks: Path = NOTEBOOKS, keep: int = 14
) -> Made:
    """A report of this world."""
    return make(
        world.database_url,
        days,
        folder,
        keep,
        stop=threading.Event(),
        tell=lambda *_: None,
        notebooks=notebooks,
    )


def write(folder: Path, name: str, *codes: str, tag: str = "report") -> Path:
    """A notebook that asks its own name and runs these cells."""
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "id": "q", "metadata": {}, "source": f"# {name}?"}
    ]
    cells += [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "metadata": {"tags": [tag]},
            "source": code,
            "outputs": [],
            "execution_count": None,
        }
        for number, code in enumerate(codes)
    ]
    path = folder / f"{name}.ipynb"
    path.write_text(
        json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    return path


def kernels(parent: int) -> list[int]:
    """The kernels that this process started and that live."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):  # it ended meanwhile
            command = (entry / "cmdline").read_bytes()
            after_name = (entry / "stat").read_text().rpartition(") ")[2]
            if KERNEL in command and int(after_name.split()[1]) == parent:
                found.append(int(entry.name))
    return found


def lives(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    return False


def rooms(folder: Path) -> list[str]:
    """What reports have in this folder of temporary files."""
    return sorted(path.name for path in folder.glob("infamous-report-*"))
