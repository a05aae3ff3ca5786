"""Stopping: a signal is seen whenever it comes."""

from __future__ import annotations

import subprocess
import sys

# The lock is held for the few steps at both ends of every wait for the event.
IN_THE_MIDDLE_OF_A_WAIT = """
import os, signal
from pipeline.stop import on_signals
with on_signals(grace_s=60.0) as stop:
    with stop._cond:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass
    print(stop.wait(10.0))
"""


def test_a_signal_in_the_middle_of_a_wait_is_seen() -> None:
    """A loop that waits for the event a thousand times a second never hangs for a signal at a bad moment."""
    ran = subprocess.run(
        [sys.executable, "-c", IN_THE_MIDDLE_OF_A_WAIT],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "True\n", "")
