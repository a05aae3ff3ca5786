"""Starting a server: a command line flows in, a process that cannot outlive its parent flows out.

Postgres refuses to run as root, or as a user without a name. There it runs in a user namespace in
which we are called nobody and have no power, or else, for root, as the real nobody; no user is added
and nothing outside the data folder changes hands.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from infamous.embedded.folder import ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NOBODY: Final = 65534
_CLONE_NEWUSER: Final = 0x10000000
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Identity(Enum):
    """As whom a server runs."""

    OURSELVES = "ourselves"
    NAMESPACE = "a user namespace"
    NOBODY = "nobody"

    def take(self) -> None:
        """Become it. Runs in the child, between fork and exec."""
        if self is Identity.NAMESPACE:
            uid, gid = os.geteuid(), os.getegid()
            if _LIBC.unshare(_CLONE_NEWUSER) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            # A process may map its own ids once it gave up setgroups.
            Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
            # initdb asks for its user's name: nobody is the one id that every machine knows.
            Path("/proc/self/gid_map").write_text(f"{_NOBODY} {gid} 1", encoding="ascii")
            Path("/proc/self/uid_map").write_text(f"{_NOBODY} {uid} 1", encoding="ascii")
        elif self is Identity.NOBODY:
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)

    def own(self, *trees: Path) -> None:
        """Hand it these folders, and all that is in them, where they belong to another."""
        uid = _NOBODY if self is Identity.NOBODY else os.geteuid()
        for tree in trees:
            if tree.stat().st_uid == uid:
                continue
            # The top last: a change cut short is then done again.
            for path in (*tree.rglob("*"), tree):
                os.chown(path, uid, uid, follow_symlinks=False)


def identity_for(program: Path, home: Path) -> Identity:
    """The first identity that can run the program and reach the data folder."""
    is_root = os.geteuid() == 0
    if not is_root and _has_name(os.geteuid()):
        return Identity.OURSELVES
    if sys.platform == "linux" and _can(Identity.NAMESPACE, program, home):
        return Identity.NAMESPACE
    if not is_root:  # initdb will say what it misses
        return Identity.OURSELVES
    if _open_to_nobody(home):
        if _can(Identity.NOBODY, program, home):
            return Identity.NOBODY
        home.chmod(0o700)
    raise ServerError(
        f"Postgres refuses to run as root and no other user can reach {home} and {program}: run "
        "as a normal user, or choose a folder with INFAMOUS_HOME=/var/tmp/infamous, "
        "or set DATABASE_URL."
    )


def start(
    command: Sequence[str],
    *,
    death_signal: signal.Signals,
    output: int,
    inherit: Sequence[int],
    identity: Identity = Identity.OURSELVES,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start the command so that it gets the signal when the thread that called this ends.

    The kernel ties the death signal to the thread: call it from the main one.
    """
    parent = os.getpid()

    def before_exec() -> None:
        identity.take()
        if folder is not None:
            os.chdir(folder)
        if sys.platform == "linux":
            # Last, because a change of identity clears it.
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:  # it died before it could be watched
            os._exit(1)

    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=tuple(inherit),
        env=environment,
        start_new_session=new_session,
        preexec_fn=before_exec,  # noqa: PLW1509  # its callers have one thread when they start servers
    )


def _has_name(uid: int) -> bool:
    """Whether the machine knows the user; containers often run as one that it does not."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _can(identity: Identity, program: Path, home: Path) -> bool:
    with Path(os.devnull).open("wb") as nowhere:
        try:
            process = start(
                [str(program), "--version"],
                identity=identity,
                death_signal=signal.SIGKILL,
                output=nowhere.fileno(),
                inherit=(),
                folder=home,
            )
            return process.wait(timeout=10) == 0
        except (OSError, subprocess.SubprocessError):
            return False


def _open_to_nobody(home: Path) -> bool:
    """Let nobody's group pass through the folder, not look into it."""
    try:
        os.chown(home, -1, _NOBODY)
        home.chmod(0o710)
    except OSError:
        return False
    return True
