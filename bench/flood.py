"""The flood: a payload flows in, as many XADD as Redis takes flow out, packed before the clock starts.

What redis-benchmark does, for machines that have none.
"""

from __future__ import annotations

import selectors
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from pipeline.entry import Form
from pipeline.stream import STREAM

_CHUNK_BYTES: Final = 1 << 18
_SILENT_S: Final = 10.0


def packed(payload: bytes) -> bytes:
    """One command as it goes over the wire. Pure."""
    words = (b"XADD", STREAM.encode(), b"*", Form.EVENT.value, payload)
    parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"*%d\r\n" % len(words) + b"".join(parts)


def flood(path: Path, payload: bytes, count: int, depth: int, connections: int) -> None:
    """Send so many, ``depth`` at a time on each connection, the next when those are answered."""
    command = packed(payload)
    left = count
    # Answers outstanding, by connection.
    waiting: dict[socket.socket, int] = {}

    def send(line: socket.socket) -> None:
        nonlocal left
        waiting[line] = min(depth, left)
        left -= waiting[line]
        if waiting[line]:
            line.sendall(command * waiting[line])
        else:
            selector.unregister(line)

    with ExitStack() as held:
        selector = held.enter_context(selectors.DefaultSelector())
        lines = [held.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(connections)]
        for line in lines:
            line.settimeout(_SILENT_S)
            line.connect(str(path))
            selector.register(line, selectors.EVENT_READ)
        for line in lines:
            send(line)
        while selector.get_map():
            for key, _ in selector.select(_SILENT_S):
                line = key.fileobj  # type: ignore[assignment]
                # An answer is "$15", an id, and two line ends.
                waiting[line] -= line.recv(_CHUNK_BYTES).count(b"$")
                if not waiting[line]:
                    send(line)
