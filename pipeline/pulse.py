"""The pulse: a loop's turns flow in, a file whose age tells that the loop lives flows out.

A process that hangs, in a call to a server or in its own code, does not turn its loop, and the file grows
old: whoever supervises it looks at the file's age, not at whether a process of that name exists.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Final

# A file system call a second is nothing, one a turn would be.
BEAT_EVERY_S: Final = 1.0


class Pulse:
    """Beats as often as the loop turns; the file is touched once a second at most."""

    def __init__(self, path: str | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._due_s = 0.0
        # Unix seconds of the last turn, for the metrics.
        self.last_s = 0.0

    def beat(self) -> None:
        """Say that the loop turns. Raises OSError when the file cannot be touched."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + BEAT_EVERY_S
        self.last_s = time.time()
        if self._path is not None:
            self._path.touch()

    def close(self) -> None:
        """Take the file away: who ended in order is not taken for one that hangs."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
