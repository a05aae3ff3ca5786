"""Run: notebooks, a database and a period flow in, what each notebook has to say flows out.

Each runs in a kernel of its own, as it would in Jupyter from its first cell to its last. The kernel is of
this Python, whatever kernels its user has, knows nothing of our settings but the database, and has a folder
to work in that goes with it. It is killed, not asked, at the end: it has nothing to keep.

The notebooks run in a thread of their own, because nbclient takes the signals of the main one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, unquote_plus, urlsplit

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from analytics import period as periods
from analytics import words
from analytics.period import Period
from analytics.report.extract import Section, section
from pipeline.patience import Stopped, first_line
from pipeline.settings import Settings

# Of one; of all together.
EACH_S: Final = 300.0
ALL_S: Final = 1800.0
_AT_ONCE: Final = 2
_LOOK_S: Final = 0.1
_LONGEST_REASON: Final = 300
# Bytes that the operating systems take as the path of a socket, with some room for its name.
_SOCKET_PATH: Final = 80

# How many notebooks are done, and of how many.
Tell = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Ran:
    """What a notebook has to say, how long that took, and the most memory that its kernel had; None where
    the operating system does not tell.
    """

    section: Section
    seconds: float
    peak_bytes: int | None


def run(
    notebooks: Sequence[Path],
    database_url: str,
    period: Period,
    *,
    stop: threading.Event,
    tell: Tell,
    each_s: float = EACH_S,
    all_s: float = ALL_S,
) -> list[Ran]:
    """Run them, two at a time, and say what came of each, in their order.

    One that fails, or takes longer than ``each_s``, has a section that says so; and so has one for which
    nothing is left of ``all_s``. Raises Stopped once ``stop`` is set; whatever is raised, no kernel and no
    file of one is left.
    """
    given_up = threading.Event()
    with tempfile.TemporaryDirectory(prefix="infamous-report-", ignore_cleanup_errors=True) as room:
        runner = _Runner(database_url, period, Path(room), tell, each_s, time.monotonic() + all_s)
        with ThreadPoolExecutor(1, "notebooks") as thread:
            running = thread.submit(
                asyncio.run, runner.all(notebooks, lambda: stop.is_set() or given_up.is_set())
            )
            try:
                return running.result()
            except BaseException:
                given_up.set()
                raise


class _ThisPython(KernelSpecManager):
    """The one kernel there is for us, whatever else is installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(
            # -P: the folder we happen to be in is no place to import from.
            argv=[
                *(sys.executable, "-P", "-m", "analytics.report.kernel"),
                *("-f", "{connection_file}"),
            ],
            display_name=kernel_name,
            language="python",
        )


@dataclass
class _Runner:
    """One run of some notebooks."""

    database_url: str
    period: Period
    room: Path
    tell: Tell
    each_s: float
    end_s: float

    async def all(self, notebooks: Sequence[Path], is_over: Callable[[], bool]) -> list[Ran]:
        """Run them; raises Stopped where it is over before."""
        turns = asyncio.Semaphore(_AT_ONCE)
        tasks = [
            asyncio.create_task(self._in_turn(turns, number, path))
            for number, path in enumerate(notebooks)
        ]
        waiting = set(tasks)
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=_LOOK_S)
            if done:
                self.tell(len(tasks) - len(waiting), len(tasks))
            if is_over():
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
                raise Stopped
        return [task.result() for task in tasks]

    async def _in_turn(self, turns: asyncio.Semaphore, number: int, path: Path) -> Ran:
        async with turns:
            began_s = time.monotonic()
            seconds = min(self.each_s, self.end_s - began_s)
            kernel = _Kernel(self.room / str(number))
            notebook: Any = {}
            try:
                notebook = nbformat.read(path, as_version=4)
                await self._execute(notebook, kernel, seconds)
                failure = None
            except Exception as error:  # a notebook may do whatever it likes
                failure = self._reason(error, seconds)
            return Ran(
                section(path.stem, notebook, failure),
                time.monotonic() - began_s,
                kernel.peak_bytes,
            )

    async def _execute(self, notebook: Any, kernel: _Kernel, seconds: float) -> None:
        if seconds <= 0:
            raise TimeoutError
        kernel.folder.mkdir()
        client = NotebookClient(notebook, km=kernel.manager, store_widget_state=False)
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                await client.async_execute(
                    cwd=str(kernel.folder),
                    env=self._environment(kernel.folder),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
        except DeadKernelError:
            # nbclient takes whatever breaks a cell off for the kernel's death.
            if limit.expired():
                raise TimeoutError from None
            raise
        finally:
            if client.kc is not None:
                client.kc.stop_channels()
            await kernel.end()

    def _environment(self, folder: Path) -> dict[str, str]:
        ours = {name.upper() for name in Settings.__struct_fields__}
        others = {
            name: value
            for name, value in os.environ.items()
            if name.removesuffix("_FILE") not in ours
        }
        return others | {
            "DATABASE_URL": self.database_url,
            periods.DAYS: str(self.period.days),
            periods.UNTIL: self.period.last.isoformat(),
            # Neither its user's profile nor what it leaves there and in temporary files.
            "IPYTHONDIR": str(folder / "ipython"),
            "TMPDIR": str(folder),
            # What is drawn goes into a file, and a window system may be elsewhere.
            "MPLBACKEND": "agg",
        }

    def _reason(self, error: Exception, seconds: float) -> str:
        """Why a notebook failed, in a sentence."""
        if isinstance(error, TimeoutError):
            if seconds <= 0:
                return "There was no time left for it."
            return f"It took longer than {words.lasting(seconds)} and was ended."
        if isinstance(error, DeadKernelError):
            return "Its process was killed, as it is where memory runs out."
        kind = error.ename if isinstance(error, CellExecutionError) else type(error).__name__
        said = error.evalue if isinstance(error, CellExecutionError) else str(error)
        reason = f"{kind}: {first_line(Exception(said))}" if said.strip() else kind
        return f"It failed: {_without_password(reason, self.database_url)[:_LONGEST_REASON]}."


class _Kernel:
    """The process of one notebook."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.peak_bytes: int | None = None
        self.manager = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=_ThisPython(),
            connection_file=str(folder / "kernel.json"),
            transport="ipc" if len(os.fsencode(folder)) <= _SOCKET_PATH else "tcp",
        )

    async def end(self) -> None:
        """Kill it, and whatever it started; its sockets and its connection file go too."""
        process = self.manager.provisioner
        if not isinstance(process, LocalProvisioner) or not process.has_process:
            return
        if process.pid and await process.poll() is None:
            self.peak_bytes = _peak_bytes(process.pid)
            with suppress(ProcessLookupError):
                # It leads a session, and so a group, of its own: what it started goes with it.
                os.killpg(process.pid, signal.SIGKILL)
        await self.manager.shutdown_kernel(now=True)


def _peak_bytes(pid: int) -> int | None:
    """The most memory that a process had, as Linux counts it."""
    with suppress(OSError, ValueError, IndexError):
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    return None


def _without_password(text: str, database_url: str) -> str:
    """The text without what a database's address keeps to itself, as it is written there and as it is."""
    parts = urlsplit(database_url)
    secrets = {database_url, parts.password or "", unquote(parts.password or "")}
    # libpq takes a password after the question mark, too.
    for name, _, value in (pair.partition("=") for pair in parts.query.split("&")):
        if name == "password":
            secrets |= {value, unquote_plus(value)}
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        text = text.replace(secret, "...")
    return text
