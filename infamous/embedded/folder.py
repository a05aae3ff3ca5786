"""The data folder: a path flows in, its layout, its state file and its refusals flow out.

postgres/  redis/     the data
run/                  the sockets
log/                  postgres.log, redis.log, keeper.log
embedded.json         the server programs this data was written with
servers.json          what runs now and how to reach it; the keeper writes and removes it
keeper.lock           held by the keeper for its life
postgres.users ...    held shared by everyone who uses that server
postgres.family ...   held by that server's processes themselves
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infamous.embedded import locks

# A new cluster takes 40 MB and its first write-ahead log segments as much again.
NEW_FOLDER_BYTES: Final = 150_000_000
# Enough for a start and a clean stop of what is there already.
OLD_FOLDER_BYTES: Final = 30_000_000
LOG_BYTES: Final = 10_000_000
# sun_path holds 108 bytes on Linux and 104 on macOS, the closing NUL included.
SOCKET_PATH_BYTES: Final = 100
_LONGEST_SOCKET_NAME: Final = ".s.PGSQL.5432"
_TROUBLE: Final = re.compile(
    r"error|fatal|panic|cannot|can't|could not|failed|no space|denied|refused|bad |wrong",
    re.IGNORECASE,
)
# "2026-11-24 19:40:01.123 UTC [77] " of Postgres, "77:M 24 Nov 2026 19:40:01.123 # " of Redis.
_LINE_PREFIX: Final = re.compile(r"^(\d{4}-[^\[]*\[\d+\] |\d+:\w \d+ \w+ \d{4} [\d:.]+ \S )")


class ServerError(Exception):
    """The embedded servers cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True)
class Folder:
    """Where everything is under one data folder."""

    home: Path

    @property
    def keeper_lock(self) -> Path:
        """Held by the keeper for its life."""
        return self.home / "keeper.lock"

    @property
    def choice_file(self) -> Path:
        """The server programs this data was written with."""
        return self.home / "embedded.json"

    @property
    def state_file(self) -> Path:
        """What runs now and how to reach it."""
        return self.home / "servers.json"

    def users(self, server: str) -> Path:
        """The lock that everyone who uses the server holds shared."""
        return self.home / f"{server}.users"

    def family(self, server: str) -> Path:
        """The lock that the server's own processes hold."""
        return self.home / f"{server}.family"

    def log(self, name: str) -> Path:
        """The log of a server or of the keeper."""
        return self.home / "log" / f"{name}.log"

    def open_log(self, name: str) -> int:
        """A descriptor that appends to the log; a log grown large is first put aside, once."""
        path = self.log(name)
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def last_words(self, name: str, offset: int = 0) -> str:
        """The line of the log, from the offset on, that best says what went wrong."""
        try:
            text = self.log(name).read_bytes()[offset:].decode(errors="replace")
        except OSError:
            return "it left no log"
        lines = [_LINE_PREFIX.sub("", line).strip() for line in text.splitlines() if line.strip()]
        troubled = [line for line in lines if _TROUBLE.search(line)]
        words = (troubled or lines or ["it left no log"])[-1].rstrip(".")
        return " ".join(words.split())[:300]

    def prepare(self) -> None:
        """Make the folder, or adopt one that is empty or ours; ServerError before anything is made."""
        home = self.home
        try:
            if not home.exists():
                self._refuse_unwritable_parent()
                self.refuse_full_disk()
                home.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif not home.is_dir():
                raise ServerError(
                    f"{home} is a file and cannot hold the data: "
                    "choose a folder with INFAMOUS_HOME."
                )
            else:
                self._refuse_foreign()
            self.keeper_lock.touch(mode=0o600)
            if home.stat().st_mode & 0o067:  # 0710 is what an unprivileged Postgres of root needs
                home.chmod(0o700)
            for name in ("redis", "log"):
                (home / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ServerError(
                f"The data folder {home} cannot be used ({error.strerror}): "
                "choose another one with INFAMOUS_HOME."
            ) from None

    def refuse_full_disk(self) -> None:
        """ServerError when the disk cannot take what a start writes."""
        place = next(path for path in (self.home, *self.home.parents) if path.exists())
        is_new = not (self.home / "postgres").exists()
        needed = NEW_FOLDER_BYTES if is_new else OLD_FOLDER_BYTES
        free = shutil.disk_usage(place).free
        if free < needed:
            raise ServerError(
                f"The disk of {self.home} has {free // 1_000_000} MB free and the servers need "
                f"{needed // 1_000_000} MB: make room, or choose another folder with INFAMOUS_HOME."
            )

    def _refuse_unwritable_parent(self) -> None:
        parent = next(path for path in self.home.parents if path.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            reason = "is not writable for you" if parent.is_dir() else "is a file"
            raise ServerError(
                f"The data folder {self.home} cannot be made because {parent} {reason}: "
                "choose another one with INFAMOUS_HOME."
            )

    def _refuse_foreign(self) -> None:
        owner = self.home.stat().st_uid
        if os.geteuid() not in (owner, 0) or not os.access(self.home, os.R_OK | os.W_OK | os.X_OK):
            raise ServerError(
                f"The data folder {self.home} belongs to {user_name(owner)} and is not writable for "
                f"{user_name(os.geteuid())}: run as {user_name(owner)}, "
                "or choose another folder with INFAMOUS_HOME."
            )
        # One look: a command that makes the folder at this moment makes keeper.lock first.
        names = [path.name for path in self.home.iterdir()]
        is_ours = self.keeper_lock.name in names
        if is_ours and owner != os.geteuid():
            # Root's log and AOF files would lock the owner out of the data afterwards.
            raise ServerError(
                f"The data folder {self.home} belongs to {user_name(owner)}: run as "
                f"{user_name(owner)}, or choose another folder with INFAMOUS_HOME."
            )
        if names and not is_ours:
            raise ServerError(
                f"{self.home} holds files that are not ours: "
                "choose an empty or new folder with INFAMOUS_HOME."
            )
        if owner != os.geteuid():
            os.chown(self.home, os.geteuid(), os.getegid())

    def make_run_folder(self, former: str | None) -> Path:
        """Where the sockets go: run/, or a short folder in /tmp, the former one where it lives."""
        run = self.home / "run"
        if len(os.fsencode(run / _LONGEST_SOCKET_NAME)) <= SOCKET_PATH_BYTES:
            run.mkdir(mode=0o700, exist_ok=True)
            return run
        if former and Path(former).is_dir() and Path(former).stat().st_uid == os.geteuid():
            return Path(former)
        # TMPDIR may be as long as the path we flee from.
        return Path(tempfile.mkdtemp(prefix="infamous-", dir="/tmp"))

    def publish(self, state: dict[str, Any]) -> int:
        """Replace the state file; it counts as long as the descriptor returned is open."""
        draft = self.state_file.with_suffix(".new")
        draft.unlink(missing_ok=True)
        lock = locks.attempt(draft)
        if lock is None:
            raise ServerError(f"Another keeper writes {draft}: end it, then try again.")
        write_json(self.state_file, state, draft)
        return lock

    def state(self) -> dict[str, Any]:
        """What the living keeper tells; a killed one's last word does not count."""
        try:
            with self.state_file.open("rb") as file:
                if locks.is_held(file.fileno()):
                    state: dict[str, Any] = json.load(file)
                    return state
        except FileNotFoundError:
            pass
        return {}


def user_name(uid: int) -> str:
    """The user's name for a sentence."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file; empty when there is none."""
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    return content


def write_json(path: Path, content: dict[str, Any], draft: Path) -> None:
    """Replace the file by the draft in one step: a reader sees the old content or the new."""
    draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)
