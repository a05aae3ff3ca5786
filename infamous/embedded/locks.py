"""Lock files: a path flows in, a file descriptor that holds the lock flows out.

The lock belongs to the open file, not to the process: every process that inherits the descriptor
holds it too, and the kernel lets go when the last of them is gone, however it ended. So release
one with os.close, never with LOCK_UN, which would take it from the heirs as well.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def attempt(path: Path, *, shared: bool = False) -> int | None:
    """A descriptor that holds the lock, or None when another holds it. Never blocks."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_free(path: Path, *, shared: bool = False) -> bool:
    """Whether the lock could be had at this moment."""
    descriptor = attempt(path, shared=shared)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def is_held(descriptor: int) -> bool:
    """Whether another holds the lock of this open file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
