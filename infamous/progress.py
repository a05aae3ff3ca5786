"""Progress on the screen: how much of a long command is done flows in, a bar flows out; a line now and then
where the screen is none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from jobs.progress import Progress as Tell

_LINE_EVERY_S: Final = 5.0


@contextmanager
def shown(label: str) -> Iterator[Tell]:
    """Show on stderr how far it is: stdout is for the answer."""
    console = Console(stderr=True, highlight=False, markup=False)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    line_due_s = time.monotonic() + _LINE_EVERY_S

    def tell(done: int, total: int | None) -> None:
        nonlocal line_due_s
        bar.update(task, completed=done, total=total)
        if not console.is_terminal and time.monotonic() >= line_due_s:
            line_due_s = time.monotonic() + _LINE_EVERY_S
            of = "" if total is None else f" of {total:,}"
            console.print(f"{label}: {done:,}{of}", soft_wrap=True)

    with bar:
        task = bar.add_task(label, total=None)
        yield tell
