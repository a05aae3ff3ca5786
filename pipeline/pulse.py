"""The pulse: a loop's turns flow in, a file whose age tells that the loop lives flows out.

A process that hangs, in a call to a server or in its own code, does not turn its loop, and the file grows
old: whoever supervises it looks at the file's age, not at whether a process of that name exists.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from pipeline import log
from pipeline.settings import SettingsError

# A file system call a second is nothing, one a turn would be.
BEAT_EVERY_S: Final = 1.0


class Pulse:
    """Beats as often as the loop turns; the file is touched once a second at most."""

    def __init__(self, path: str | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._due_s = 0.0
        # Unix seconds of the last turn, for the metrics.
        self.last_s = 0.0
        self._is_failing = False
        self._is_closed = False
        # Held while the file is touched: a beat of another thread does not bring a removed one back.
        self._touching = threading.Lock()

    def begin(self) -> None:
        """Touch the file for the first time; raises SettingsError when that cannot be done."""
        self.last_s = time.time()
        if self._path is None:
            return
        try:
            if self._path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._touch(self._path)
        except OSError as error:
            raise SettingsError(
                f"LIVENESS_FILE={self._path} cannot be written ({error.strerror}):"
                " name a file in a folder that is there and may be written to."
            ) from None

    def beat(self) -> None:
        """Say that the loop turns. A file that cannot be touched any more is a warning, and no end."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + BEAT_EVERY_S
        self.last_s = time.time()
        if self._path is None:
            return
        try:
            self._touch(self._path)
        except OSError as error:
            if not self._is_failing:
                log.get("pulse").warning(
                    "The liveness file cannot be written; whoever looks at its age takes this process"
                    " for one that hangs",
                    file=str(self._path),
                    error=error.strerror,
                )
            self._is_failing = True
        else:
            self._is_failing = False

    def close(self) -> None:
        """Take the file away: who ended in order is not taken for one that hangs. From any thread."""
        with self._touching:
            self._is_closed = True
            if self._path is not None:
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)

    def _touch(self, path: Path) -> None:
        with self._touching:
            if not self._is_closed:
                path.touch()


class Beating:
    """An observer of waits for whom a wait is a turn like any other."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse

    def tries(self) -> None:
        """The loop lives."""
        self._pulse.beat()

    def waits(self, server: str) -> None:  # noqa: ARG002  # whichever it is
        """Still."""
        self._pulse.beat()

    def is_back(self, server: str) -> None:  # noqa: ARG002
        """Still."""
        self._pulse.beat()
