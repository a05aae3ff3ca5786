"""The keeper: the locks of those who use the servers flow in, running servers flow out.

One keeper per data folder, started by the first command and known to none by its pid: it holds
keeper.lock, which that command took and handed over. A server runs exactly while someone holds
its users lock; when nobody does it is stopped, and when none is left the keeper leaves. What it
does is told in servers.json, for the commands that wait, and in log/keeper.log, for people.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from infamous.embedded import confine, locks
from infamous.embedded.folder import Folder, ServerError, read_json, write_json
from infamous.embedded.postgres import EmbeddedPostgres
from infamous.embedded.redis import EmbeddedRedis

if TYPE_CHECKING:
    from infamous.embedded.binaries import Binary

_POLL_S: Final = 0.2
_POLL_STARTING_S: Final = 0.02
# A shutdown checkpoint writes at most the shared buffers; slow disks get a minute for it.
_STOP_S: Final = 60.0
_RESTARTS: Final = 5
_RESTARTS_WITHIN_S: Final = 60.0
_FIRST_PAUSE_S: Final = 0.2
_PAUSE_GROWTH: Final = 2  # 0.2, 0.4, 0.8, 1.6, 3.2 s

Server = EmbeddedPostgres | EmbeddedRedis

_log = logging.getLogger("keeper")


class Kept:
    """One server in the keeper's care."""

    def __init__(self, server: Server, folder: Folder) -> None:
        self.server = server
        self.facts: dict[str, Any] = {}  # for servers.json: empty while starting
        self._folder = folder
        self._binary: Binary | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log_offset = 0
        self._was_ready = False
        self._deaths: list[float] = []
        self._not_before = 0.0

    @property
    def is_starting(self) -> bool:
        """Whether a command may be waiting for it."""
        return not self.facts

    def tend(self, now: float) -> None:
        """Bring it one step nearer to running."""
        if "error" in self.facts:
            return
        try:
            if self._process is None:
                if now >= self._not_before:
                    self._start()
            elif self._process.poll() is not None:
                self._bury(now)
            elif self.is_starting and self.server.is_ready():
                self._announce()
        except ServerError as error:
            self._fail(str(error))

    def ask_to_stop(self) -> None:
        """Send the signal; does not wait."""
        if self._process is not None:
            self._process.send_signal(self.server.stop_signal)

    def stop(self) -> None:
        """Wait until it is gone and forget what happened to it. Blocks up to a minute."""
        if self._process is not None:
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                _log.warning("%s does not stop and is made to.", self.server.title)
                self._process.send_signal(signal.SIGCONT)  # one that was paused hears nothing else
                self._process.send_signal(self.server.last_signal)
                self._process.wait()
            _log.info("%s has stopped.", self.server.title)
        self._process, self.facts = None, {}
        self._deaths, self._not_before, self._was_ready = [], 0.0, False

    def _start(self) -> None:
        # Processes of a killed server or keeper may still be leaving: two Redis on one file, or a
        # Postgres beside a former one's backends, would spoil the data.
        family = locks.attempt(self._folder.family(self.server.name))
        if family is None:
            return
        output = self._folder.open_log(self.server.name)
        try:
            self._log_offset = os.fstat(output).st_size
            self._binary = self.server.prepare(family)
            _log.info("%s starts from %s.", self._binary, self._binary.path)
            self._process = confine.start(
                self.server.command(self._binary),
                identity=self.server.identity,
                death_signal=self.server.stop_signal,
                output=output,
                inherit=(family,),
            )
            os.pwrite(family, f"{self._process.pid:<20}".encode(), 0)
        finally:
            os.close(output)
            os.close(family)

    def _announce(self) -> None:
        if self._binary is None or self._process is None:
            return
        self.facts = self.server.facts(self._binary) | {
            "version": str(self._binary),
            "pid": self._process.pid,
        }
        self._was_ready = True
        choice = {"program": str(self._binary.path), "version": list(self._binary.version)}
        chosen = read_json(self._folder.choice_file)
        if chosen.get(self.server.name) != choice:
            path = self._folder.choice_file
            write_json(path, chosen | {self.server.name: choice}, path.with_suffix(".draft"))
        _log.info("%s is ready.", self._binary)

    def _bury(self, now: float) -> None:
        self._process, self.facts = None, {}
        title, log = self.server.title, self._folder.log(self.server.name)
        words = self._folder.last_words(self.server.name, self._log_offset)
        self._deaths = [death for death in self._deaths if now - death < _RESTARTS_WITHIN_S]
        self._deaths.append(now)
        if not self._was_ready:
            self._fail(f"{title} could not be started ({words}): see {log}, then try again.")
        elif len(self._deaths) > _RESTARTS:
            self._fail(
                f"{title} died {len(self._deaths)} times within a minute and is left alone "
                f"({words}): see {log}, end the commands that use it, then try again."
            )
        else:
            pause_s = _FIRST_PAUSE_S * _PAUSE_GROWTH ** (len(self._deaths) - 1)
            self._not_before = now + pause_s
            _log.warning("%s died (%s); it starts again in %.1f s.", title, words, pause_s)

    def _fail(self, sentence: str) -> None:
        if self._process is not None:
            self.ask_to_stop()
            self.stop()
        self.facts = {"error": sentence}
        _log.error("%s", sentence)


class Told:
    """What servers.json says."""

    def __init__(self, folder: Folder, run: Path) -> None:
        self._folder = folder
        self._frame: dict[str, Any] = {"keeper": os.getpid(), "run": str(run)}
        self._state: dict[str, Any] = {}
        self._lock: int | None = None

    def tell(self, kept: list[Kept]) -> None:
        """Write what has changed."""
        state = self._frame | {one.server.name: one.facts for one in kept if one.facts}
        if state == self._state:
            return
        former = self._lock
        self._lock, self._state = self._folder.publish(state), state
        if former is not None:
            os.close(former)


def keep(folder: Folder, keeper_lock: int, asked: SimpleQueue[int]) -> None:
    """Tend the servers until nobody uses them, or until asked to stop: anything in the queue."""
    run = folder.make_run_folder(read_json(folder.state_file).get("run"))
    servers: list[Server] = [EmbeddedPostgres(folder, run), EmbeddedRedis(folder, run)]
    kept = [Kept(server, folder) for server in servers]
    told = Told(folder, run)
    held: list[int] = []
    is_asked = not asked.empty()
    try:
        while not is_asked and _is_same_file(folder.keeper_lock, keeper_lock):
            # Nobody joins a server while its lock is ours.
            unused = {one: locks.attempt(folder.users(one.server.name)) for one in kept}
            idle = [one for one, lock in unused.items() if lock is not None]
            _stop_all(idle)
            if len(idle) == len(kept):
                held = [lock for lock in unused.values() if lock is not None]
                break
            told.tell(kept)  # before anyone can join a server that was stopped
            for lock in unused.values():
                if lock is not None:
                    os.close(lock)
            busy = [one for one in kept if one not in idle]
            for one in busy:
                one.tend(time.monotonic())
            told.tell(kept)
            is_starting = any(one.is_starting for one in busy)
            is_asked = _is_asked_within(asked, _POLL_STARTING_S if is_starting else _POLL_S)
    finally:
        if _is_same_file(folder.keeper_lock, keeper_lock):
            # Whoever looks now must not think that the servers run.
            folder.state_file.unlink(missing_ok=True)
        _stop_all(kept)
        # A killed server leaves its socket behind.
        shutil.rmtree(run, ignore_errors=True)
        # Before keeper.lock, which falls when we end: who finds that one free finds them all free.
        for lock in held:
            os.close(lock)


def _is_asked_within(asked: SimpleQueue[int], seconds: float) -> bool:
    try:
        asked.get(timeout=seconds)
    except Empty:
        return False
    return True


def _stop_all(kept: list[Kept]) -> None:
    for one in kept:
        one.ask_to_stop()
    for one in kept:
        one.stop()


def _is_same_file(path: Path, descriptor: int) -> bool:
    """Whether the data folder is still the one we keep, not removed and made anew."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def main() -> None:
    """``python -m infamous.embedded.keeper HOME LOCK``: LOCK is an inherited descriptor of keeper.lock."""
    if os.fork():  # the command that starts us waits for this process, and for no other
        os._exit(0)
    folder, keeper_lock = Folder(Path(sys.argv[1])), int(sys.argv[2])
    os.set_inheritable(keeper_lock, False)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    # An Event that is set by a handler waits for its own lock, for ever, where the signal comes in the middle
    # of a wait for it. A queue of this kind is made for that; and a thread beside would forbid us to fork.
    asked: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: asked.put(number))
    _end_former(folder)
    keep(folder, keeper_lock, asked)
    _log.info("Nobody uses the servers any more; the keeper leaves.")


def _end_former(folder: Folder) -> None:
    """Stop what a killed keeper left running, where the kernel does not do it (macOS)."""
    state = read_json(folder.state_file)
    for server in (EmbeddedPostgres, EmbeddedRedis):
        pid = state.get(server.name, {}).get("pid")
        if pid and not locks.is_free(folder.family(server.name)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, server.stop_signal)


if __name__ == "__main__":
    main()
