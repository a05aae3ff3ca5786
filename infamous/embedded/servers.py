"""The servers: a data folder and the URLs the user named flow in, two URLs that work flow out.

Where no URL is named, the command joins the embedded servers of the data folder, or starts the
keeper that runs them. A command uses a server by holding its users lock, and so do the processes
that inherit the descriptor; the keeper stops the server when the last of them is gone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from infamous.embedded import locks
from infamous.embedded.folder import Folder, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ServerError", "Servers", "joined"]

_READY_S: Final = 60.0
_LEAVE_S: Final = 20.0
_POLL_S: Final = 0.02
_WATCH_S: Final = 0.5
# A keeper that dies at once will do so again; one that was killed deserves a successor.
_KEEPER_STARTS: Final = 3
_TITLES: Final = {"postgres": "Postgres", "redis": "Redis"}


@dataclass(frozen=True)
class Servers:
    """How to reach Postgres and Redis."""

    database_url: str
    redis_url: str
    # Command lines to paste; None when the server is not ours or there is no such client.
    psql: str | None
    redis_cli: str | None
    # For the pass_fds of every child that uses the servers: they run as long as it does.
    lock_fds: tuple[int, ...]


def _silent(_sentence: str) -> None:
    pass


@contextmanager
def joined(
    home: Path,
    database_url: str | None,
    redis_url: str | None,
    *,
    say: Callable[[str], None] = _silent,
) -> Iterator[Servers]:
    """Use the named servers, and embedded ones in place of those that are None.

    Blocks up to a minute until they answer, ServerError when they do not. On leaving, the last
    user waits up to 20 s until no process of theirs is left.
    """
    needed = [
        name for name, url in (("postgres", database_url), ("redis", redis_url)) if url is None
    ]
    if not needed:
        yield Servers(database_url or "", redis_url or "", None, None, ())
        return
    folder = Folder(home.absolute())
    folder.prepare()
    held: list[int] = []
    try:
        deadline = time.monotonic() + _READY_S
        held.extend(_use(folder, name, deadline) for name in needed)
        state = _when_ready(folder, needed, deadline, say)
        servers = Servers(
            database_url=state["postgres"]["url"] if database_url is None else database_url,
            redis_url=state["redis"]["url"] if redis_url is None else redis_url,
            psql=state["postgres"]["client"] or None if database_url is None else None,
            redis_cli=state["redis"]["client"] or None if redis_url is None else None,
            lock_fds=tuple(held),
        )
        with _kept(folder, needed):
            yield servers
    finally:
        for lock in held:
            os.close(lock)
        _see_off(folder)


@contextmanager
def _kept(folder: Folder, needed: list[str]) -> Iterator[None]:
    """See to it that a keeper lives: where the one there was killed, its servers are started again."""
    left = threading.Event()

    def watch() -> None:
        while not left.wait(_WATCH_S):
            # What cannot be helped is tried again; who uses the servers says that they are away.
            with suppress(ServerError, OSError):
                if locks.is_free(folder.keeper_lock):
                    _when_ready(folder, needed, time.monotonic() + _READY_S, _silent, left)

    watcher = threading.Thread(target=watch, name="keeper watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        left.set()
        watcher.join()


def _use(folder: Folder, name: str, deadline: float) -> int:
    """Say that we use the server. The keeper refuses only while it is stopping it."""
    while (lock := locks.attempt(folder.users(name), shared=True)) is None:
        if time.monotonic() > deadline:
            raise ServerError(
                f"{_TITLES[name]} in {folder.home} has been stopping for a minute: "
                f"see {folder.log(name)}, then try again."
            )
        time.sleep(_POLL_S)
    return lock


def _when_ready(
    folder: Folder,
    needed: list[str],
    deadline: float,
    say: Callable[[str], None],
    left: threading.Event | None = None,
) -> dict[str, Any]:
    """The keeper's state once it tells of every needed server; starts a keeper where none is.

    Nothing once ``left`` is set.
    """
    starts = offset = 0
    while left is None or not left.is_set():
        state = folder.state()
        for name in needed:
            if "error" in state.get(name, {}):
                raise ServerError(state[name]["error"])
        if all(name in state for name in needed):
            return state
        if time.monotonic() > deadline:
            missing = next(name for name in needed if name not in state)
            raise ServerError(
                f"{_TITLES[missing]} in {folder.home} did not answer within a minute: "
                f"see {folder.log(missing)}, then try again."
            )
        lock = locks.attempt(folder.keeper_lock)
        if lock is None:  # a keeper lives and is at work
            time.sleep(_POLL_S)
            continue
        try:
            if starts == _KEEPER_STARTS:
                raise ServerError(
                    f"The keeper of the servers ends at once ({folder.last_words('keeper', offset)}): "
                    f"see {folder.log('keeper')}, then try again."
                )
            folder.refuse_full_disk()
            if starts == 0:
                say(f"Starting {' and '.join(_TITLES[name] for name in needed)} in {folder.home}")
            starts += 1
            offset = _start_keeper(folder, lock)
        finally:
            os.close(lock)
    return {}


def _start_keeper(folder: Folder, lock: int) -> int:
    """Hand the lock to a new keeper, which makes itself an orphan: nobody has to wait for it.

    Returns where in the keeper's log its own words begin.
    """
    output = folder.open_log("keeper")
    offset = os.fstat(output).st_size
    # PGOPTIONS, PGSERVICE and their like are meant for the user's own server.
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith("PG") or k.startswith("PG_")
    }
    try:
        subprocess.run(
            [sys.executable, "-m", "infamous.embedded.keeper", folder.home, str(lock)],
            # Its imports must find the same code as ours, from wherever we were called.
            cwd=Path(__file__).parents[2],
            env=environment | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(lock,),
            start_new_session=True,  # the terminal's Ctrl-C ends its users first
            check=False,
        )
    finally:
        os.close(output)
    return offset


def _see_off(folder: Folder) -> None:
    """Wait, within bounds, until the keeper is gone, unless others still use its servers."""
    deadline = time.monotonic() + _LEAVE_S
    # Where the folder was removed under it, the keeper sees that too and leaves.
    while time.monotonic() < deadline and folder.home.exists():
        if locks.is_free(folder.keeper_lock):
            return
        for name in _TITLES:
            users = folder.users(name)
            if not locks.is_free(users) and locks.is_free(users, shared=True):
                return
        time.sleep(_POLL_S)
