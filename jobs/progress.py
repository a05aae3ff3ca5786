"""Progress: how much of a long job is done flows in, a job's meta, or nothing at all, flows out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from rq import get_current_job

# What is done, and of how much; None where nobody knows.
Progress = Callable[[int, int | None], None]

_EVERY_S: Final = 1.0


def untold(_done: int, _total: int | None) -> None:
    """Tell nobody."""


def in_meta() -> Progress:
    """Tell it in the meta of the RQ job that runs here, once a second; nobody where there is none.

    The keys are ``done`` and ``total``, which is None where nobody knows.
    """
    job = get_current_job()
    if job is None:
        return untold
    due_s = 0.0

    def tell(done: int, total: int | None) -> None:
        nonlocal due_s
        if time.monotonic() >= due_s or done == total:
            due_s = time.monotonic() + _EVERY_S
            job.meta.update(done=done, total=total)
            job.save_meta()  # type: ignore[no-untyped-call]

    return tell
