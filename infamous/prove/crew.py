"""The crew: command lines flow in, processes that others kill, stop and pause flow out, and each one's fate.

Whoever ends in another way than was meant for them, or lets an error through to their log, is a problem:
nobody is quietly started again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from infamous.embedded import confine

# Container engines wait so long between SIGTERM and SIGKILL.
STOP_S: Final = 10.0
_TRACEBACK: Final = b"Traceback (most recent call last)"


class Role(StrEnum):
    """What a process does."""

    WORKER = "worker"
    PRODUCER = "producer"
    # A second producer, slow, of the same players: the two take turns.
    RIVAL = "rival"
    STRANGER = "stranger"
    JOB = "job"


class Fate(StrEnum):
    """What was meant for a process; compared with how it ended."""

    RUNS = "runs"
    PAUSED = "paused"
    ASKED = "asked to stop"
    KILLED = "killed"
    # A job: it ends by itself, and may give up in an outage.
    ENDS = "ends"


@dataclass
class Member:
    """One process, from its start to its end. No other that was ever started has its name."""

    role: Role
    name: str
    process: subprocess.Popen[bytes]
    log: Path
    fate: Fate = Fate.RUNS
    asked_s: float = 0.0
    is_gone: bool = False

    @property
    def is_at_work(self) -> bool:
        """Whether it is past its start: only then does it know what SIGTERM means."""
        return self.fate is Fate.RUNS and not self.is_gone and self.log.stat().st_size > 0

    @property
    def exit_code(self) -> int | None:
        """As subprocess tells it; None while it lives."""
        return self.process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it still lives."""
        self.process.send_signal(number)

    def last_line(self) -> str:
        """The last thing it said."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


@dataclass
class Crew:
    """All processes of a run. Start them from the main thread alone."""

    environment: Mapping[str, str]
    logs: Path
    members: list[Member] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _started: dict[Role, int] = field(default_factory=dict)

    def next_name(self, role: Role) -> str:
        """What the next of this role will be called; files of its own bear the name."""
        return f"{role}-{self._started.get(role, 0) + 1}"

    def start(self, role: Role, *command: str, fate: Fate = Fate.RUNS) -> Member:
        """Start one more."""
        name = self.next_name(role)
        self._started[role] = self._started.get(role, 0) + 1
        log = self.logs / f"{name}.log"
        with log.open("wb") as output:
            process = confine.start(
                # -P: the folder we happen to be in is no place to import from.
                [sys.executable, "-P", "-m", *command],
                # Nothing that was started outlives the harness; a frozen process would not hear SIGTERM.
                death_signal=signal.SIGKILL,
                output=output.fileno(),
                inherit=(),
                environment={**os.environ, **self.environment},
                # Ctrl-C of the terminal reaches the harness alone.
                new_session=True,
            )
        member = Member(role, name, process, log, fate)
        self.members.append(member)
        return member

    def living(self, *roles: Role) -> list[Member]:
        """Who has not ended, paused or not."""
        return [one for one in self.members if one.role in roles and one.exit_code is None]

    def at_work(self, *roles: Role) -> list[Member]:
        """Who is there to be hurt."""
        return [one for one in self.members if one.role in roles and one.is_at_work]

    def killed(self, *roles: Role) -> list[Member]:
        """Who was killed and has ended by now."""
        mine = [one for one in self.members if one.role in roles and one.fate is Fate.KILLED]
        return [one for one in mine if one.exit_code is not None]

    def kill(self, member: Member) -> None:
        """End it as the out-of-memory killer would."""
        member.fate = Fate.KILLED
        member.send(signal.SIGKILL)

    def ask(self, member: Member) -> None:
        """Ask it to stop."""
        member.fate, member.asked_s = Fate.ASKED, time.monotonic()
        member.send(signal.SIGTERM)

    def pause(self, member: Member) -> None:
        """Freeze it, as a virtual machine on the move is frozen."""
        member.fate = Fate.PAUSED
        member.send(signal.SIGSTOP)

    def resume(self, member: Member) -> None:
        """Let it go on."""
        member.send(signal.SIGCONT)
        if member.fate is Fate.PAUSED:
            member.fate = Fate.RUNS

    def look(self) -> None:
        """Note who ended, and whether as was meant. Call it often."""
        for member in self.members:
            if member.is_gone:
                continue
            if member.exit_code is not None:
                member.is_gone = True
                self._note_end(member, member.exit_code)
            elif member.fate is Fate.ASKED and time.monotonic() > member.asked_s + STOP_S:
                self.problems.append(f"{member.name} did not stop within {STOP_S:.0f} s of SIGTERM")
                self.kill(member)

    def close(self) -> None:
        """Kill whoever is left, and wait for that."""
        for member in self.members:
            if member.exit_code is None:
                member.send(signal.SIGKILL)
        for member in self.members:
            member.process.wait()

    def _note_end(self, member: Member, code: int) -> None:
        if _TRACEBACK in member.log.read_bytes():
            self.problems.append(f"{member.name} left a traceback: see {member.log}")
        meant = {Fate.KILLED: -signal.SIGKILL, Fate.ASKED: 0}.get(member.fate)
        if member.fate is Fate.ENDS or code == meant:
            return
        was = f"although it was {member.fate}" if meant is not None else "by itself"
        self.problems.append(
            f"{member.name} ended {was} with exit code {code} ({member.last_line()})"
        )
