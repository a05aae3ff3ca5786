"""Postgres and Redis in the harness's hands: an empty folder flows in, two servers to ill-treat flow out.

Unlike the keeper's servers these are never started again by themselves: when one is down, a fault put it
there and the same fault brings it back.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infamous.embedded import confine, locks
from infamous.embedded.binaries import Binary
from infamous.embedded.folder import Folder, ServerError
from infamous.embedded.postgres import PORT, EmbeddedPostgres
from infamous.embedded.redis import EmbeddedRedis

_READY_S: Final = 30.0
_STOP_S: Final = 15.0
_POLL_S: Final = 0.02


class Server:
    """One server. Start it from the main thread alone: the kernel ties its death to that thread's."""

    def __init__(self, kind: EmbeddedPostgres | EmbeddedRedis, folder: Folder) -> None:
        self._kind, self._folder = kind, folder
        self._binary: Binary | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log_offset = 0

    @property
    def binary(self) -> Binary:
        """The program that runs; only once it was started."""
        if self._binary is None:
            raise RuntimeError(f"{self._kind.title} was never started")
        return self._binary

    @property
    def url(self) -> str:
        """How to reach it by its socket, past every proxy."""
        return self._kind.facts(self.binary)["url"]

    def start(self) -> bool:
        """Start it; does not wait until it answers. False: processes of the one before still leave."""
        family = locks.attempt(self._folder.family(self._kind.name))
        if family is None:
            return False
        output = self._folder.open_log(self._kind.name)
        try:
            self._log_offset = os.fstat(output).st_size
            self._binary = self._kind.prepare(family)
            self._process = confine.start(
                self._kind.command(self._binary),
                identity=self._kind.identity,
                death_signal=self._kind.stop_signal,
                output=output,
                inherit=(family,),
                # Ctrl-C of the terminal reaches the harness alone, which ends what it started in order.
                new_session=True,
            )
            os.pwrite(family, f"{self._process.pid:<20}".encode(), 0)
        finally:
            os.close(output)
            os.close(family)
        return True

    def is_ready(self) -> bool:
        """Whether it answers; ServerError when it died instead."""
        if self._process is None or self._process.poll() is not None:
            words = self._folder.last_words(self._kind.name, self._log_offset)
            log = self._folder.log(self._kind.name)
            raise ServerError(
                f"{self._kind.title} could not be started ({words}): see {log}, then try again."
            )
        return self._kind.is_ready()

    def is_gone(self) -> bool:
        """Whether the process itself has ended; some of its own may be left for a moment."""
        return self._process is None or self._process.poll() is not None

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal; says whether it lived to get it."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._process.send_signal(number)
        return True

    def stop_fast(self) -> bool:
        """End it in order: sessions are cut off, data is written; says whether it lived."""
        return self.send(self._kind.stop_signal)

    def stop_at_once(self) -> bool:
        """End it as a power cut would: what is not on its log is gone, the next start recovers."""
        return self.send(self._kind.last_signal)

    def end(self) -> None:
        """End it and wait for that; one that does not stop is made to."""
        if self._process is None:
            return
        self.stop_fast()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.stop_at_once()
            self._process.wait()
        self._process = None

    def wait_until_ready(self) -> None:
        """Wait for the first answer; ServerError when none comes within half a minute."""
        deadline_s = time.monotonic() + _READY_S
        while not self.is_ready():
            if time.monotonic() > deadline_s:
                log = self._folder.log(self._kind.name)
                raise ServerError(
                    f"{self._kind.title} did not answer within {_READY_S:.0f} s: see {log}."
                )
            time.sleep(_POLL_S)


@dataclass(frozen=True)
class Servers:
    """Both servers and where their sockets are."""

    postgres: Server
    redis: Server
    postgres_socket: Path
    redis_socket: Path


@contextmanager
def running(home: Path, *, has_redis: bool = True) -> Iterator[Servers]:
    """Both, in a folder that is empty or was used before; they are gone when this ends, it stays.

    Without ``has_redis`` Redis is not started. Raises ServerError, also where others run on the folder.
    """
    folder = Folder(home)
    folder.prepare()
    lock = locks.attempt(folder.keeper_lock)
    if lock is None:
        raise ServerError(f"The servers of {home} run already: choose another folder.")
    run = folder.make_run_folder(None)
    postgres = Server(EmbeddedPostgres(folder, run), folder)
    redis = Server(EmbeddedRedis(folder, run), folder)
    wanted = (postgres, redis) if has_redis else (postgres,)
    try:
        for server in wanted:
            server.start()
        for server in wanted:
            server.wait_until_ready()
        yield Servers(postgres, redis, run / f".s.PGSQL.{PORT}", run / "redis.sock")
    finally:
        redis.end()
        postgres.end()
        shutil.rmtree(run, ignore_errors=True)
        os.close(lock)
