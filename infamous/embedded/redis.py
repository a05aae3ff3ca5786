"""The embedded Redis or Valkey: the data folder flows in, a command line and a URL flow out."""

from __future__ import annotations

import os
import shlex
import signal
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from infamous.embedded import binaries, confine
from infamous.embedded.folder import Folder, read_json

if TYPE_CHECKING:
    from pathlib import Path

    from infamous.embedded.binaries import Binary


class EmbeddedRedis:
    """What is particular to Redis under the keeper."""

    name: Final = "redis"
    title: Final = "Redis"
    stop_signal: Final = signal.SIGTERM  # writes and syncs the append-only file, leaves
    last_signal: Final = signal.SIGKILL
    identity: Final = confine.Identity.OURSELVES

    def __init__(self, folder: Folder, run: Path) -> None:
        self._folder = folder
        self._socket = run / "redis.sock"

    def prepare(self, family: int) -> Binary:  # noqa: ARG002  # nothing runs ahead of the server
        """Choose the program."""
        chosen = read_json(self._folder.choice_file).get(self.name, {})
        return binaries.redis(chosen.get("program"), tuple(chosen.get("version", ())))

    def command(self, binary: Binary) -> list[str]:
        """The server's command line: no port, every write in the append-only file."""
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._folder.home / "redis"),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            # Full, it refuses new events, so the producer waits; it never drops old ones.
            "maxmemory": str(_memory_bytes() // 2),
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        return [str(binary.path), *options]

    def is_ready(self) -> bool:
        """Whether PING is answered; while the data is loading the answer is LOADING."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            try:
                client.connect(str(self._socket))
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith(b"+PONG")
            except OSError:
                return False

    def facts(self, binary: Binary) -> dict[str, str]:
        """How to reach it."""
        client = binary.beside("redis-cli", "valkey-cli")
        return {
            "url": f"unix://{quote(str(self._socket))}?db=0",
            "client": shlex.join([client, "-s", str(self._socket)]) if client else "",
        }


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
