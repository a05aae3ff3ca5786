"""A bad line: TCP connections of clients flow in, their bytes flow on to a server, unless a toxic is imposed.

A proxy knows nothing of what it carries: a request is what a client sends, a reply what the server does.
All of it happens in one thread with a loop of its own; what the rest of the program calls may be called
from any other thread, and has taken effect when it returns.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final, TypeVar

T = TypeVar("T")

# A unix socket's path, or a host and a port.
Upstream = str | os.PathLike[str] | tuple[str, int]

CHUNK_BYTES: Final = 64 * 1024
_BACKLOG: Final = 512
# A sender that is silent for so long has said all it had to say.
_QUIET_S: Final = 0.02
# On, and no time to linger: closing sends RST in place of FIN.
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)


class Toxic(StrEnum):
    """What can be wrong with a line."""

    # What the client sends next is lost and its connection is closed; the server never sees it.
    DROP_REQUEST = "drop_request"
    # What the client sends next reaches the server whole; the reply is lost, the connection closed.
    DROP_REPLY = "drop_reply"
    # Each chunk, in both directions, waits before it goes on.
    DELAY = "delay"
    # Whatever is sent is lost, in both directions, the end of a connection too; nobody is told.
    BLACK_HOLE = "black_hole"
    # Connections are reset, and so is each new one.
    RESET = "reset"


_CHOOSY: Final = frozenset({Toxic.DROP_REQUEST, Toxic.DROP_REPLY, Toxic.DELAY})


@dataclass(frozen=True)
class _Imposed:
    """A toxic and whom it hurts."""

    toxic: Toxic
    delay_s: float
    share: float
    dice: random.Random
    when: Callable[[bytes], bool] | None

    def hurts(self, chunk: bytes) -> bool:
        """Whether this chunk is hurt; rolls the dice only where it matters."""
        return (self.when is None or self.when(chunk)) and (
            self.share >= 1.0 or self.dice.random() < self.share
        )


class _Cut(Exception):
    """A toxic has ended this connection."""


class _Link:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.task: asyncio.Task[None] | None = None
        # Bytes are missing: whoever went on here would talk nonsense.
        self.is_broken = False
        self.is_reply_lost = False
        # When the client last sent something; kept only while its reply is being lost.
        self.heard_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the client still has its connection."""
        return self.client.fileno() != -1

    def reset_at_close(self) -> None:
        """Have both sides told by RST, not by FIN."""
        for side in (self.client, self.server):
            if side is not None and side.fileno() != -1 and side.family != socket.AF_UNIX:
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)

    def close(self) -> None:
        """Close both sides; may be repeated."""
        self.client.close()
        if self.server is not None:
            self.server.close()


class LoopThread:
    """A thread with a loop, for any number of proxies."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the loop do it, and wait for what comes of it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        """Stop the loop and end the thread; its proxies are closed before."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Proxy:
    """One port of 127.0.0.1 in front of one server, which need not be there yet.

    One toxic is imposed at a time: another one takes its place.
    """

    def __init__(self, upstream: Upstream, thread: LoopThread) -> None:
        self.upstream = upstream
        self._thread, self._loop = thread, thread.loop
        self._listener: socket.socket | None = None
        self._links: set[_Link] = set()
        self._imposed: _Imposed | None = None
        self._hits = dict.fromkeys(Toxic, 0)
        self._is_no_black_hole = asyncio.Event()
        self._is_no_black_hole.set()

    # --- what the rest of the program calls

    @property
    def port(self) -> int:
        """Where clients connect; known after ``start``."""
        assert self._listener is not None, "not started"  # noqa: S101  # a slip of the programmer's
        return int(self._listener.getsockname()[1])

    @property
    def hits(self) -> Mapping[Toxic, int]:
        """How often each toxic did harm so far: requests or replies lost, chunks held up or swallowed,
        connections reset. A toxic that nobody met is not counted.
        """
        return dict(self._hits)

    def start(self) -> None:
        """Listen on a port that is free."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._listener.setblocking(False)
        self._thread.run(self._start(self._listener))

    def close(self) -> None:
        """End every connection and stop listening; may be repeated."""
        if self._listener is not None:
            self._thread.run(self._stop(self._listener))
            self._listener.close()
            self._listener = None

    def impose(
        self,
        toxic: Toxic,
        *,
        delay_s: float = 0.0,
        share: float = 1.0,
        dice: random.Random | None = None,
        when: Callable[[bytes], bool] | None = None,
    ) -> None:
        """From now on the line is as bad as that.

        The drops and the delay may be choosy: ``when`` picks chunks by what is in them (a drop asks for
        what the client sends), and of those a ``share`` is hurt, for which ``dice`` are rolled. Both
        are called in the thread of the loop.
        """
        if toxic not in _CHOOSY and (share < 1.0 or when is not None):
            raise ValueError(f"{toxic} hurts everything: give it neither share nor when")
        if (toxic is Toxic.DELAY) != (delay_s > 0.0):
            raise ValueError("delay_s belongs to a delay, which needs it")
        if share < 1.0 and dice is None:
            raise ValueError("a share needs dice, so that a seed decides")
        imposed = _Imposed(toxic, delay_s, share, dice or random.Random(), when)  # noqa: S311  # never rolled
        self._thread.run(self._impose(imposed))

    def lift(self) -> None:
        """From now on the line is good. Connections that lost bytes in a black hole are reset, a reply
        whose request was picked before is lost all the same, and a chunk that waits waits to its end.
        """
        self._thread.run(self._impose(None))

    @contextmanager
    def imposed(
        self,
        toxic: Toxic,
        *,
        delay_s: float = 0.0,
        share: float = 1.0,
        dice: random.Random | None = None,
        when: Callable[[bytes], bool] | None = None,
    ) -> Iterator[None]:
        """The same for the length of a block."""
        self.impose(toxic, delay_s=delay_s, share=share, dice=dice, when=when)
        try:
            yield
        finally:
            self.lift()

    # --- in the loop: what begins and ends

    async def _start(self, listener: socket.socket) -> None:
        self._loop.add_reader(listener, self._accept, listener)

    async def _stop(self, listener: socket.socket) -> None:
        self._loop.remove_reader(listener)
        await self._end(self._links)

    async def _impose(self, imposed: _Imposed | None) -> None:
        before, self._imposed = self._imposed, imposed
        if before is not None and before.toxic is Toxic.BLACK_HOLE:
            broken = [link for link in self._links if link.is_broken]
            await self._reset(broken)
        if imposed is not None and imposed.toxic is Toxic.BLACK_HOLE:
            self._is_no_black_hole.clear()
        else:
            self._is_no_black_hole.set()
        if imposed is not None and imposed.toxic is Toxic.RESET:
            still_open = [link for link in self._links if link.is_open]
            self._hits[Toxic.RESET] += len(still_open)
            await self._reset(still_open)

    async def _reset(self, links: Iterable[_Link]) -> None:
        for link in links:
            link.reset_at_close()
        await self._end(links)

    async def _end(self, links: Iterable[_Link]) -> None:
        tasks = [link.task for link in links if link.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:  # no more files, or a client that left already: the loop calls again
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(client)
        self._links.add(link)
        link.task = self._loop.create_task(self._serve(link))
        # Here and not in the task, which may be cancelled before its first step.
        link.task.add_done_callback(partial(self._ended, link))

    def _ended(self, link: _Link, _: asyncio.Task[None]) -> None:
        link.close()
        self._links.discard(link)

    # --- in the loop: one connection

    async def _serve(self, link: _Link) -> None:
        """Carry one client's bytes to and fro until both sides, or a toxic, have ended it."""
        if self._is_imposed(Toxic.RESET):
            self._hits[Toxic.RESET] += 1
            link.reset_at_close()
            return
        if self._is_imposed(Toxic.BLACK_HOLE):
            link.is_broken = True  # it never gets a server, and is reset with the others
            while await self._loop.sock_recv(link.client, CHUNK_BYTES):
                self._hits[Toxic.BLACK_HOLE] += 1
            return
        try:
            server = await self._connect(link)
        except OSError:
            return
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._requests(link, server))
                pumps.create_task(self._replies(link, server))
        except* _Cut:
            pass
        except* OSError:
            link.reset_at_close()
        if link.is_reply_lost:
            link.client.close()
            await self._let_finish(server)

    async def _connect(self, link: _Link) -> socket.socket:
        if isinstance(self.upstream, tuple):
            link.server = server = socket.socket(socket.AF_INET)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            address: Any = self.upstream
        else:
            link.server = server = socket.socket(socket.AF_UNIX)
            address = os.fspath(self.upstream)
        server.setblocking(False)
        await self._loop.sock_connect(server, address)
        return server

    async def _requests(self, link: _Link, server: socket.socket) -> None:
        """Client to server."""
        while chunk := await self._loop.sock_recv(link.client, CHUNK_BYTES):
            imposed = self._imposed
            if link.is_reply_lost:
                link.heard_s = self._loop.time()
            elif imposed is not None:
                if imposed.toxic is Toxic.BLACK_HOLE:
                    self._swallow(link)
                    continue
                if imposed.hurts(chunk):
                    if imposed.toxic is Toxic.DROP_REQUEST:
                        self._hits[Toxic.DROP_REQUEST] += 1
                        raise _Cut
                    if imposed.toxic is Toxic.DROP_REPLY:
                        link.is_reply_lost, link.heard_s = True, self._loop.time()
                    else:
                        await self._hold_up(imposed)
            await self._pass_on(server, chunk)
        await self._pass_end(server)

    async def _replies(self, link: _Link, server: socket.socket) -> None:
        """Server to client."""
        while chunk := await self._loop.sock_recv(server, CHUNK_BYTES):
            imposed = self._imposed
            if link.is_reply_lost:
                self._hits[Toxic.DROP_REPLY] += 1
                await self._swallow_reply(link, server)
                raise _Cut
            if imposed is not None:
                if imposed.toxic is Toxic.BLACK_HOLE:
                    self._swallow(link)
                    continue
                if imposed.toxic is Toxic.DELAY and imposed.hurts(chunk):
                    await self._hold_up(imposed)
            await self._pass_on(link.client, chunk)
        await self._pass_end(link.client)

    async def _pass_on(self, to: socket.socket, chunk: bytes) -> None:
        await self._loop.sock_sendall(to, chunk)
        # Neither call gives way while there is something to do: let others have their turn.
        await asyncio.sleep(0)

    async def _pass_end(self, to: socket.socket) -> None:
        """One side has no more to say; the other may."""
        await self._is_no_black_hole.wait()
        to.shutdown(socket.SHUT_WR)

    # --- in the loop: the harm

    def _is_imposed(self, toxic: Toxic) -> bool:
        return self._imposed is not None and self._imposed.toxic is toxic

    def _swallow(self, link: _Link) -> None:
        link.is_broken = True
        self._hits[Toxic.BLACK_HOLE] += 1

    async def _hold_up(self, imposed: _Imposed) -> None:
        self._hits[Toxic.DELAY] += 1
        await asyncio.sleep(imposed.delay_s)

    async def _swallow_reply(self, link: _Link, server: socket.socket) -> None:
        """Swallow a reply until neither side says more.

        A server may reply to the first part of a request while the client still sends the last: Redis
        does so to each command of a transaction, of which only the last one, EXEC, counts.
        """
        while True:
            try:
                async with asyncio.timeout(_QUIET_S):
                    if not await self._loop.sock_recv(server, CHUNK_BYTES):
                        return
            except TimeoutError:
                if self._loop.time() >= link.heard_s + _QUIET_S:
                    return

    async def _let_finish(self, server: socket.socket) -> None:
        """Let the server read all it was sent: closed at once, a unix socket takes back what is unread."""
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)
            while await self._loop.sock_recv(server, CHUNK_BYTES):
                pass


@contextmanager
def proxies(*upstreams: Upstream) -> Iterator[list[Proxy]]:
    """A started proxy for each server, all in one thread, for the length of a block."""
    with ExitStack() as stack:
        thread = LoopThread()
        stack.callback(thread.close)
        made = [Proxy(upstream, thread) for upstream in upstreams]
        for proxy in made:
            proxy.start()
            stack.callback(proxy.close)
        yield made
