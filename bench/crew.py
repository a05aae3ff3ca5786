"""The crew: module names flow in, processes on the house's servers flow out, and none outlives its block."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from bench.house import BenchError, House
from infamous.embedded import confine
from pipeline.settings import Settings

_ROOT: Final = Path(__file__).resolve().parent.parent
_STOP_S: Final = 15.0
_READY_S: Final = 30.0
_POLL_S: Final = 0.005
# The processes read these: what the user set for another pipeline is no business of theirs.
_SETTINGS: Final = frozenset(
    name
    for field in Settings.__struct_fields__
    for name in (field.upper(), f"{field.upper()}_FILE")
) | {"FAILPOINT"}


@dataclass(frozen=True)
class Process:
    """One process that was started here."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """For /proc."""
        return self.popen.pid

    def require_alive(self) -> None:
        """Raise BenchError where it has ended."""
        if self.popen.poll() is not None:
            raise BenchError(
                f"{self.name} ended with code {self.popen.returncode} in the middle of a measurement"
                f" ({self.last_line()}): mend that and run the bench again."
            )

    def last_line(self) -> str:
        """The last thing it said."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def start(
    house: House,
    *command: str,
    python: str = sys.executable,
    log: str | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Process:
    """Start ``python -m`` these words on the house's servers, or where ``settings`` say. Main thread only.

    What it prints goes to a file of its own.
    """
    name = log or command[0]
    path = house.logs / f"{name}-{time.monotonic_ns()}.log"
    with path.open("wb") as output:
        popen = confine.start(
            [python, "-P", "-m", *command],
            death_signal=signal.SIGKILL,
            output=output.fileno(),
            inherit=(),
            # A file .env of the folder we happen to be in is not read.
            folder=house.home,
            environment={**environment_of(house), **settings},
            # Ctrl-C of the terminal reaches the bench alone.
            new_session=True,
        )
    return Process(name, popen, path)


def environment_of(house: House) -> Mapping[str, str]:
    """Ours without the settings of another pipeline, and with the house's servers."""
    inherited = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
    return inherited | {
        "REDIS_URL": house.redis_url,
        "DATABASE_URL": house.servers.postgres.url,
        "PYTHONPATH": str(_ROOT),
    }


def ask_to_end(processes: Iterable[Process]) -> None:
    """Send SIGTERM to those that live."""
    for process in processes:
        if process.popen.poll() is None:
            process.popen.send_signal(signal.SIGTERM)


def end(process: Process) -> None:
    """Ask it to end and wait for that; raises BenchError where it had to be killed."""
    ask_to_end([process])
    try:
        process.popen.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.popen.kill()
        process.popen.wait()
        raise BenchError(
            f"{process.name} did not end within {_STOP_S:.0f} s of SIGTERM"
            f" ({process.last_line()}): mend that and run the bench again."
        ) from None


@contextmanager
def working(
    house: House,
    *command: str,
    log: str | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Process]:
    """A process for as long as the block lasts."""
    process = start(house, *command, log=log, settings=settings)
    try:
        yield process
    finally:
        end(process)


def finished(process: Process, within_s: float) -> None:
    """Wait until it ended by itself and well; raises BenchError else."""
    try:
        code = process.popen.wait(within_s)
    except subprocess.TimeoutExpired:
        end(process)
        raise BenchError(
            f"{process.name} was not done within {within_s:.0f} s ({process.last_line()})."
        ) from None
    except BaseException:
        end(process)
        raise
    if code != 0:
        raise BenchError(
            f"{process.name} ended with code {code} ({process.last_line()}):"
            " mend that and run the bench again."
        )


@contextmanager
def working_many(
    house: House, count: int, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[list[Process]]:
    """So many consumers for as long as the block lasts."""
    with ExitStack() as held:
        started = [
            held.enter_context(working(house, "consumer", settings=settings)) for _ in range(count)
        ]
        # All at once before each is waited for: every one may be in the middle of a wait for entries.
        held.callback(ask_to_end, started)
        yield started


@contextmanager
def consumers(house: House, count: int) -> Iterator[list[Process]]:
    """So many consumers that wait for entries: what they do at their start is behind them."""
    with working_many(house, count) as started:
        wait_until(
            lambda: house.client.info("clients")["blocked_clients"] >= count,
            "The consumers are ready",
            started,
            within_s=_READY_S,
        )
        yield started


def wait_until(
    is_so: Callable[[], bool],
    what: str,
    processes: list[Process],
    *,
    within_s: float,
    poll_s: float = _POLL_S,
) -> None:
    """Wait for a condition; BenchError when a process ends meanwhile, or when it takes too long."""
    deadline_s = time.monotonic() + within_s
    while not is_so():
        for process in processes:
            process.require_alive()
        if time.monotonic() > deadline_s:
            raise BenchError(f"{what}: this did not come true within {within_s:.0f} s.")
        time.sleep(poll_s)
