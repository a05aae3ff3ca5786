"""HTTP on loopback: bytes flow in, requests out; answers flow in, bytes out. It knows no Redash."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.redash.answer import Answer
from tests.redash.faults import Cut


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    path: str
    search: str
    raw: bytes
    authorization: str
    cookies: dict[str, str]


class Server:
    """Listens on a free port and asks `answer` for each request; a Cut closes the connection."""

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self._connections: set[socket.socket] = set()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(answer))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        """Listen no more, and close the connections that clients keep open."""
        self._http.shutdown()
        self._thread.join()
        for connection in list(self._connections):
            _shut(connection)
        self._http.server_close()

    def _handler(self, answer: Callable[[Request], Answer]) -> type[BaseHTTPRequestHandler]:
        connections = self._connections

        class Handler(BaseHTTPRequestHandler):
            """One connection."""

            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                connections.add(self.connection)

            def finish(self) -> None:
                connections.discard(self.connection)
                super().finish()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing: the journal is kept elsewhere."""

            def _serve(self) -> None:
                path, _, search = self.path.partition("?")
                length = int(self.headers.get("Content-Length") or 0)
                cookies = SimpleCookie(self.headers.get("Cookie") or "")
                request = Request(
                    method=self.command,
                    path=path,
                    search=search,
                    raw=self.rfile.read(length),
                    authorization=self.headers.get("Authorization") or "",
                    cookies={name: morsel.value for name, morsel in cookies.items()},
                )
                try:
                    self._send(answer(request))
                except Cut:
                    self.close_connection = True
                    _shut(self.connection)

            def _send(self, given: Answer) -> None:
                self.send_response(given.status)
                for name, value in given.headers.items():
                    self.send_header(name, value)
                if given.status != 204:
                    self.send_header("Content-Length", str(len(given.body)))
                self.end_headers()
                self.wfile.write(given.body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

        return Handler


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was quicker
