"""Child processes: command lines flow in, processes that are kept running and ended in order flow out.

They get SIGTERM when this process dies, however it dies, and drain; they hold the embedded servers open
for as long as that takes. A child that dies by itself is started again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infamous.embedded import confine

# A child that dies so often in so short a time has a reason that starting it again does not remove.
MAX_RESTARTS: Final = 5
RESTART_WINDOW_S: Final = 30.0
_LOG_BYTES: Final = 10_000_000


class ChildFailed(Exception):
    """A child dies whenever it is started."""


@dataclass
class Child:
    """One child process and its log."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    lock_fds: tuple[int, ...]
    process: subprocess.Popen[bytes] | None = None
    _deaths: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_RESTARTS))

    def start(self) -> None:
        """Start it. Call from the main thread: the kernel ties the death signal to the thread."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = confine.start(
                # -P: the folder we happen to be in is no place to import from.
                [sys.executable, "-P", "-m", *self.command],
                death_signal=signal.SIGTERM,
                output=output.fileno(),
                inherit=self.lock_fds,
                environment={**os.environ, **self.environment},
                # Ctrl-C reaches only us: the children are ended one after the other.
                new_session=True,
            )

    @property
    def is_alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process; None when it was not started, or ended on purpose."""
        return None if self.process is None else self.process.pid

    def look_after(self) -> bool:
        """Start it again if it died; says whether it had to. Raises ChildFailed when that is no use."""
        if self.process is None:  # not started yet, or ended on purpose
            return False
        if self.process.poll() is None:
            self._bound_log()
            return False
        now = time.monotonic()
        if len(self._deaths) == MAX_RESTARTS and now - self._deaths[0] < RESTART_WINDOW_S:
            raise ChildFailed(
                f"The {self.name} died {MAX_RESTARTS + 1} times within {RESTART_WINDOW_S:.0f} s"
                f" ({self.last_line()}): see {self.log}."
            )
        self._deaths.append(now)
        self.start()
        return True

    def terminate(self) -> None:
        """Ask it to finish what is in hand and end."""
        if self.process is not None and self.is_alive:
            self.process.terminate()

    def end(self, at_most_s: float) -> None:
        """End it for good; one that takes longer than this is killed, which loses nothing either."""
        if self.process is None:
            return
        self.terminate()
        try:
            self.process.wait(at_most_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def last_line(self) -> str:
        """The last thing it said."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "it said nothing"

    def _bound_log(self) -> None:
        # The child appends, so a log cut to nothing grows again from its beginning.
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > _LOG_BYTES:
                os.truncate(self.log, 0)
