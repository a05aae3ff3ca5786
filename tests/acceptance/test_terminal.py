"""The live view on a real (pseudo) terminal: what it shows, and that it gives the terminal back."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.processes import (
    assert_nothing_left,
    assert_whole,
    clean_environment,
    facts_in,
)

ROWS, COLUMNS = 40, 110
ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Terminal:
    """A user's terminal with a command in its foreground."""

    popen: subprocess.Popen[bytes]
    master: int
    seen: str = ""

    def read_until(self, words: str, within_s: float) -> None:
        """Read what is shown until these words stand in it."""
        deadline = time.monotonic() + within_s
        while words not in self.shown():
            assert time.monotonic() < deadline, f"{words!r} not within {within_s} s: {self.shown()}"
            assert self._read(), f"{words!r} never came: {self.shown()}"

    def read_to_end(self, within_s: float) -> int:
        """Read until the command ends; its exit code."""
        deadline = time.monotonic() + within_s
        while self._read():
            assert time.monotonic() < deadline, f"still running: {self.shown()[-2000:]}"
        return self.popen.wait(5)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    def shown(self) -> str:
        """What was shown, without the escape codes."""
        return ESCAPE.sub("", self.seen)

    def _read(self) -> bool:
        """A piece more, if one comes soon; False at the end."""
        if not select.select([self.master], [], [], 0.2)[0]:
            return self.popen.poll() is None
        try:
            piece = os.read(self.master, 65_536)
        except OSError:  # EIO: the other end is closed
            return False
        self.seen += piece.decode(errors="replace")
        return bool(piece)


@pytest.fixture
def terminal(ready_home: Path, tmp_path: Path) -> Iterator[Terminal]:
    """``infamous up`` in the foreground of a terminal of 40 lines."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    popen = subprocess.Popen(
        # The foreground of the terminal, as a shell would arrange it: Ctrl-C arrives as SIGINT.
        [
            *("setsid", "--ctty", "--wait", sys.executable, "-m", "infamous", "up"),
            *("--for", "2s", "--history", "1d", "--players", "5", "--rate", "5"),
        ],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=tmp_path,
        env=clean_environment({"INFAMOUS_HOME": str(ready_home), "TERM": "xterm-256color"}),
    )
    os.close(slave)
    yield Terminal(popen, master)
    if popen.poll() is None:
        popen.kill()
        popen.wait(10)
    os.close(master)


def assert_restored(seen: str) -> None:
    """The terminal is as it was: own screen left, cursor shown, and the account stands after it."""
    assert ENTER_SCREEN in seen
    assert seen.rfind(LEAVE_SCREEN) > seen.rfind(ENTER_SCREEN)
    assert seen.rfind(SHOW_CURSOR) > seen.rfind(HIDE_CURSOR)
    assert seen.rfind("Stopped. Sent") > seen.rfind(LEAVE_SCREEN)
    assert "Traceback" not in seen


def test_the_live_view_shows_the_pipeline_and_leaves(terminal: Terminal, home: Path) -> None:
    """The view names every part and Cole, fits the terminal, and gives it back when time is up."""
    terminal.read_until("Cole MacGrath", 30)
    terminal.read_until("karma", 10)
    assert terminal.read_to_end(30) == 0
    screen = ESCAPE.sub("", terminal.seen[terminal.seen.find(ENTER_SCREEN) :])
    for word in (
        "producer",
        "consumers",
        "Redis stream",
        "Postgres",
        "rows",
        "evil",
        "good",
        "psql",
    ):
        assert word in screen, f"{word}: {screen[-3000:]}"
    assert "2 of 2 alive" in screen
    assert_restored(terminal.seen)
    assert "nothing waits" in terminal.shown()
    assert_nothing_left(home)


def test_ctrl_c_gives_the_terminal_back(terminal: Terminal, home: Path) -> None:
    """Ctrl-C in the live view drains, stops, accounts, and restores the screen and the cursor."""
    terminal.read_until("Cole MacGrath", 30)
    terminal.read_until("alive", 10)
    terminal.type(b"\x03")
    assert terminal.read_to_end(15) == 0
    assert_restored(terminal.seen)
    assert "nothing waits" in terminal.shown()
    assert_nothing_left(home)
    assert_whole(facts_in(home))


def test_ctrl_c_in_the_history_gives_the_terminal_back(terminal: Terminal, home: Path) -> None:
    """Ctrl-C while the progress bar runs, or just after it, leaves a usable terminal as well."""
    terminal.read_until("Playing", 30)
    terminal.type(b"\x03")
    assert terminal.read_to_end(15) == 0
    assert terminal.seen.rfind(SHOW_CURSOR) > terminal.seen.rfind(HIDE_CURSOR)
    assert "Traceback" not in terminal.seen
    assert_nothing_left(home)
