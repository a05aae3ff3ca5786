"""The proxies before real servers: what passes is untouched, and each toxic does its harm and no other."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg2
import pytest
import redis
from sqlalchemy import make_url

from infamous.embedded.servers import Servers
from infamous.prove.proxy import CHUNK_BYTES, LoopThread, Proxy, Toxic, proxies
from pipeline import stream
from pipeline.settings import libpq_url
from tests.integration.consuming import until

MANY_BYTES = 5_000_000


def redis_socket(redis_url: str) -> str:
    """Where the embedded Redis listens."""
    return unquote(urlsplit(redis_url).path)


def redis_through(proxy: Proxy, redis_url: str) -> str:
    """The same database, seen through a proxy."""
    return f"redis://127.0.0.1:{proxy.port}?{urlsplit(redis_url).query}"


def postgres_socket(database_url: str) -> str:
    """Where the embedded Postgres listens."""
    query = make_url(database_url).query
    return f"{query['host']}/.s.PGSQL.{query['port']}"


def postgres_through(proxy: Proxy, database_url: str) -> str:
    """The same database, seen through a proxy."""
    url = make_url(database_url).set(
        host="127.0.0.1", port=proxy.port, query={"sslmode": "disable"}
    )
    return url.render_as_string(hide_password=False)


@pytest.fixture
def direct(servers: Servers) -> Iterator[redis.Redis]:
    """Redis, not through the proxy; empty."""
    client = stream.connect(servers.redis_url)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def proxy(servers: Servers) -> Iterator[Proxy]:
    """A proxy before Redis."""
    with proxies(redis_socket(servers.redis_url)) as (made,):
        yield made


@pytest.fixture
def far(servers: Servers, proxy: Proxy, direct: redis.Redis) -> Iterator[redis.Redis]:  # noqa: ARG001  # emptied
    """Redis through the proxy; the connection is open."""
    client = stream.connect(redis_through(proxy, servers.redis_url))
    client.ping()
    yield client
    client.close()


@pytest.fixture
def postgres(servers: Servers) -> Iterator[Proxy]:
    """A proxy before Postgres."""
    with proxies(postgres_socket(servers.database_url)) as (made,):
        yield made


@pytest.fixture
def far_postgres(servers: Servers, postgres: Proxy) -> Iterator[Any]:
    """A connection to Postgres through the proxy; each statement is a transaction of its own."""
    url = postgres_through(postgres, servers.database_url)
    with closing(psycopg2.connect(libpq_url(url))) as connection:
        connection.autocommit = True
        yield connection


def answer(connection: Any, query: str, *values: Any) -> Any:
    """The one value a query yields."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchone()[0]


def dial(proxy: Proxy) -> socket.socket:
    """A bare connection, on which PING is asked by hand."""
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def ping(line: socket.socket) -> bytes:
    """What is said to PING; nothing when the connection is closed."""
    line.sendall(b"PING\r\n")
    return line.recv(100)


def identity(line: socket.socket) -> str:
    """What Redis calls this connection."""
    line.sendall(b"CLIENT ID\r\n")
    return line.recv(100).strip(b":\r\n").decode()


def connected(direct: redis.Redis) -> set[str]:
    """The connections that Redis has."""
    return {client["id"] for client in direct.client_list()}


# --- what passes


def test_redis_is_the_same_through_the_proxy(far: redis.Redis, direct: redis.Redis) -> None:
    """Large values pass byte for byte, in both directions, and no harm is counted."""
    value = random.Random(1).randbytes(MANY_BYTES)
    far.set("large", value)
    assert direct.get("large") == value
    assert far.get("large") == value
    with far.pipeline(transaction=False) as pipe:
        for number in range(2000):
            pipe.set(f"small-{number}", number)
            pipe.get(f"small-{number}")
        assert pipe.execute()[1::2] == [b"%d" % number for number in range(2000)]


def test_postgres_is_the_same_through_the_proxy(far_postgres: Any, postgres: Proxy) -> None:
    """The same for Postgres."""
    value = random.Random(2).randbytes(MANY_BYTES)
    assert bytes(answer(far_postgres, "select %s::bytea", value)) == value
    assert not any(postgres.hits.values())


def test_one_side_may_end_before_the_other() -> None:
    """The client's end is passed on, and what the server, by host and port, says to it still comes back."""
    sent = random.Random(3).randbytes(MANY_BYTES)
    heard: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        line, _ = listener.accept()
        with line, line.makefile("rb") as file:
            heard.append(file.read())
            line.sendall(heard[0][::-1])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        with proxies(listener.getsockname()) as (proxy,), dial(proxy) as line:
            line.sendall(sent)
            line.shutdown(socket.SHUT_WR)
            with line.makefile("rb") as file:
                assert file.read() == sent[::-1]
        server.join()
    assert heard == [sent]


def test_a_server_that_does_not_read_slows_its_client_down(tmp_path: Path) -> None:
    """The proxy holds a chunk, not all that a client can send; nothing is missing when it is read later."""
    piece = bytes(range(256)) * 4096
    limit = 64 * len(piece)  # far more than the kernel's buffers
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "server"))
        listener.listen()
        with proxies(tmp_path / "server") as (proxy,), dial(proxy) as line:
            server, _ = listener.accept()
            line.settimeout(0.3)
            sent = 0
            with suppress(TimeoutError):
                while sent < limit:
                    sent += line.send(piece[sent % 256 :])
            assert sent < limit
            line.shutdown(socket.SHUT_WR)
            with server, server.makefile("rb") as file:
                received = file.read()
    assert received == (piece * (limit // len(piece)))[:sent]


def test_a_client_that_leaves_is_gone_for_the_server(proxy: Proxy, direct: redis.Redis) -> None:
    """Connections do not pile up behind the proxy."""
    lines = [dial(proxy) for _ in range(20)]
    ids = {identity(line) for line in lines}
    assert len(ids & connected(direct)) == 20
    for line in lines:
        line.close()
    until(lambda: not ids & connected(direct), "the connections to end")


def test_without_a_server_a_connection_is_closed_at_once(tmp_path: Path) -> None:
    """A client learns that the server is away, now and not after a timeout; later it is there."""
    with proxies(tmp_path / "server") as (proxy,):
        with dial(proxy) as line:
            assert line.recv(1) == b""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "server"))
            listener.listen()
            with dial(proxy) as line:
                line.sendall(b"hello")
                server, _ = listener.accept()
                with server:
                    assert server.recv(100) == b"hello"


# --- the drops


def test_a_dropped_request_never_reached_the_server(
    far: redis.Redis, direct: redis.Redis, proxy: Proxy
) -> None:
    """The client's connection ends, what it asked for has not happened, and afterwards all is well."""
    with proxy.imposed(Toxic.DROP_REQUEST), pytest.raises(redis.ConnectionError):
        far.set("name", "lost")
    assert direct.get("name") is None
    assert proxy.hits[Toxic.DROP_REQUEST] == 1
    far.set("name", "kept")
    assert direct.get("name") == b"kept"
    assert sum(proxy.hits.values()) == 1


def test_a_dropped_reply_belongs_to_something_that_was_done(
    far: redis.Redis, direct: redis.Redis, proxy: Proxy
) -> None:
    """The client's connection ends just the same, but what it asked for has happened."""
    with proxy.imposed(Toxic.DROP_REPLY), pytest.raises(redis.ConnectionError):
        far.incr("count")
    assert direct.get("count") == b"1"
    assert proxy.hits[Toxic.DROP_REPLY] == 1
    assert far.incr("count") == 2
    assert sum(proxy.hits.values()) == 1


def test_a_large_transaction_whose_reply_is_dropped_is_whole(
    far: redis.Redis, direct: redis.Redis, proxy: Proxy
) -> None:
    """Redis answers the first commands while the last, EXEC, is still to come: they arrive all the same."""
    for attempt in range(1, 4):
        with far.pipeline(transaction=True) as pipe:
            for _ in range(400):
                pipe.rpush("list", b"x" * 10_000)
            proxy.impose(Toxic.DROP_REPLY, when=lambda chunk: b"MULTI" in chunk)
            with pytest.raises(redis.ConnectionError):
                pipe.execute()
            proxy.lift()
        until(lambda: direct.llen("list") > 400 * (attempt - 1), "EXEC")  # noqa: B023  # at once
        assert direct.llen("list") == 400 * attempt
    assert proxy.hits[Toxic.DROP_REPLY] == 3


def test_a_server_may_read_on_after_the_cut(tmp_path: Path) -> None:
    """One that has replied to the first part, and is slow, still gets the rest, and may reply to that."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "server"))
        listener.listen()
        with proxies(tmp_path / "server") as (proxy,), dial(proxy) as line:
            server, _ = listener.accept()
            with server, proxy.imposed(Toxic.DROP_REPLY):
                line.sendall(b"first, second")
                assert server.recv(6) == b"first,"
                server.sendall(b"done")
                assert line.recv(1) == b""
                server.sendall(b"done")
                assert server.recv(100) == b" second"
                assert server.recv(100) == b""
    assert proxy.hits[Toxic.DROP_REPLY] == 1


def test_a_reply_is_waited_for(far: redis.Redis, direct: redis.Redis, proxy: Proxy) -> None:
    """The connection is not cut before there is a reply to lose, also when the toxic is lifted by then."""
    failed: list[BaseException] = []

    def wait() -> None:
        try:
            far.blpop(["queue"], timeout=4)
        except redis.RedisError as error:
            failed.append(error)

    waiting = threading.Thread(target=wait)
    with proxy.imposed(Toxic.DROP_REPLY):
        waiting.start()
        until(lambda: direct.info("clients")["blocked_clients"], "the request")
    assert proxy.hits[Toxic.DROP_REPLY] == 0
    direct.rpush("queue", "job")
    waiting.join()
    assert [type(error) for error in failed] == [redis.ConnectionError]
    assert direct.llen("queue") == 0
    assert proxy.hits[Toxic.DROP_REPLY] == 1


@pytest.mark.parametrize("toxic", [Toxic.DROP_REQUEST, Toxic.DROP_REPLY])
def test_a_drop_hits_what_it_is_told_to_hit(
    far: redis.Redis, direct: redis.Redis, proxy: Proxy, toxic: Toxic
) -> None:
    """Other requests pass unharmed, before and after."""
    with proxy.imposed(toxic, when=lambda chunk: b"INCR" in chunk):
        far.set("count", 5)
        with pytest.raises(redis.ConnectionError):
            far.incr("count")
        assert far.get("count") == (b"5" if toxic is Toxic.DROP_REQUEST else b"6")
    assert far.incr("count") == int(direct.get("count") or 0)
    assert {toxic: count for toxic, count in proxy.hits.items() if count} == {toxic: 1}


def test_a_share_is_decided_by_the_dice(proxy: Proxy) -> None:
    """The same seed hurts the same requests."""
    dice = random.Random(5)
    expected = [dice.random() < 0.4 for _ in range(40)]
    with proxy.imposed(Toxic.DROP_REQUEST, share=0.4, dice=random.Random(5)):
        for is_hurt in expected:
            with dial(proxy) as line:
                assert ping(line) == (b"" if is_hurt else b"+PONG\r\n")
    assert proxy.hits[Toxic.DROP_REQUEST] == sum(expected)


@pytest.mark.parametrize(
    ("toxic", "is_done"), [(Toxic.DROP_REQUEST, False), (Toxic.DROP_REPLY, True)]
)
def test_the_drops_on_postgres(
    far_postgres: Any, postgres: Proxy, servers: Servers, toxic: Toxic, is_done: bool
) -> None:
    """Both look the same to the client; the one was done, the other was not."""
    key = random.Random(str(toxic)).randrange(2**31)
    with postgres.imposed(toxic), pytest.raises(psycopg2.OperationalError):
        answer(far_postgres, "select 1 from pg_catalog.lo_create(%s)", key)
    with closing(psycopg2.connect(libpq_url(servers.database_url))) as near:
        query = "select count(*) from pg_largeobject_metadata where oid = %s"
        assert answer(near, query, key) == int(is_done)
    assert postgres.hits[toxic] == 1


# --- the others


def test_a_delay_holds_up_each_chunk(far: redis.Redis, proxy: Proxy) -> None:
    """Request and reply are late by so much, in order, and nothing is missing."""
    with proxy.imposed(Toxic.DELAY, delay_s=0.05):
        began_s = time.monotonic()
        assert far.echo("hello") == b"hello"
        assert time.monotonic() - began_s >= 0.1
        assert proxy.hits[Toxic.DELAY] == 2
        value = random.Random(6).randbytes(4 * CHUNK_BYTES)
        far.set("large", value)
        assert far.get("large") == value
    hits = proxy.hits
    assert hits[Toxic.DELAY] >= 2 + 4 + 1 + 1 + 4
    assert far.echo("hello") == b"hello"
    assert proxy.hits == hits


def test_a_delay_on_postgres(far_postgres: Any, postgres: Proxy) -> None:
    """The same for Postgres."""
    with postgres.imposed(Toxic.DELAY, delay_s=0.05):
        began_s = time.monotonic()
        assert answer(far_postgres, "select 7") == 7
        assert time.monotonic() - began_s >= 0.1


def test_a_black_hole_swallows_both_directions(
    far: redis.Redis, direct: redis.Redis, proxy: Proxy
) -> None:
    """Nobody is answered and nobody is told; when it is over, whoever lost bytes is reset."""
    with dial(proxy) as asker, dial(proxy) as listener, dial(proxy) as idler:
        assert [ping(line) for line in (asker, listener, idler)] == [b"+PONG\r\n"] * 3
        listener.sendall(b"SUBSCRIBE news\r\n")
        assert b"subscribe" in listener.recv(100)
        with proxy.imposed(Toxic.BLACK_HOLE), dial(proxy) as newcomer:
            asker.sendall(b"SET name lost\r\n")
            newcomer.sendall(b"SET name lost\r\n")
            assert direct.publish("news", "lost") == 1
            until(lambda: proxy.hits[Toxic.BLACK_HOLE] == 3, "the bytes to be swallowed")
            for line in (asker, listener, newcomer):
                line.settimeout(0.05)
                with pytest.raises(TimeoutError):
                    line.recv(100)
            proxy.lift()
            for line in (asker, listener, newcomer):
                with pytest.raises(ConnectionResetError):
                    line.recv(100)
        assert ping(idler) == b"+PONG\r\n"
    assert direct.get("name") is None
    assert far.ping()
    assert sum(proxy.hits.values()) == 3


def test_a_black_hole_swallows_ends_too(proxy: Proxy, direct: redis.Redis) -> None:
    """Neither side learns that the other has left, before it is over."""
    with dial(proxy) as leaver, dial(proxy) as stayer:
        leaver_id, stayer_id = identity(leaver), identity(stayer)
        with proxy.imposed(Toxic.BLACK_HOLE):
            leaver.close()
            assert direct.client_kill_filter(_id=stayer_id) == 1
            stayer.settimeout(0.05)
            with pytest.raises(TimeoutError):
                stayer.recv(1)
            assert leaver_id in connected(direct)
        until(lambda: leaver_id not in connected(direct), "the end to be passed on")
        stayer.settimeout(5)
        assert stayer.recv(1) == b""


def test_a_black_hole_before_postgres(far_postgres: Any, postgres: Proxy) -> None:
    """A query gets no answer until the connection is reset."""
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            answer(far_postgres, "select 1")
        except psycopg2.OperationalError as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    with postgres.imposed(Toxic.BLACK_HOLE):
        asking.start()
        until(lambda: postgres.hits[Toxic.BLACK_HOLE] == 1, "the query to be swallowed")
        assert failed == []
    asking.join(5)
    assert len(failed) == 1


def test_a_reset_ends_every_connection_at_once(proxy: Proxy, direct: redis.Redis) -> None:
    """Those that are open, idle or not, and each new one; afterwards connections live again."""
    with dial(proxy) as first, dial(proxy) as second:
        ids = {identity(first), identity(second)}
        with proxy.imposed(Toxic.RESET):
            assert proxy.hits[Toxic.RESET] == 2
            for line in (first, second):
                with pytest.raises(ConnectionResetError):
                    line.recv(1)
            with (
                pytest.raises(ConnectionResetError),
                dial(proxy) as third,
            ):  # some in connect itself
                third.recv(1)
            assert proxy.hits[Toxic.RESET] == 3
    until(lambda: not ids & connected(direct), "the server to be told")
    with dial(proxy) as fourth:
        assert ping(fourth) == b"+PONG\r\n"
    assert sum(proxy.hits.values()) == 3


def test_a_reset_on_postgres(far_postgres: Any, postgres: Proxy) -> None:
    """The same for Postgres."""
    assert answer(far_postgres, "select 1") == 1
    with postgres.imposed(Toxic.RESET), pytest.raises(psycopg2.OperationalError):
        answer(far_postgres, "select 1")
    assert postgres.hits[Toxic.RESET] == 1


def test_one_toxic_takes_the_place_of_another(proxy: Proxy) -> None:
    """And a black hole that was replaced leaves no connection with bytes missing."""
    with dial(proxy) as line:
        proxy.impose(Toxic.BLACK_HOLE)
        line.sendall(b"SET name x")
        until(lambda: proxy.hits[Toxic.BLACK_HOLE], "the bytes to be swallowed")
        proxy.impose(Toxic.DELAY, delay_s=0.01)
        with pytest.raises(ConnectionResetError):
            line.recv(1)
    with dial(proxy) as line:
        assert ping(line) == b"+PONG\r\n"
    assert proxy.hits[Toxic.DELAY] == 2


@pytest.mark.parametrize(
    "options",
    [
        {"toxic": Toxic.DELAY},
        {"toxic": Toxic.RESET, "delay_s": 1.0},
        {"toxic": Toxic.RESET, "share": 0.5, "dice": random.Random(1)},
        {"toxic": Toxic.BLACK_HOLE, "when": bool},
        {"toxic": Toxic.DROP_REPLY, "share": 0.5},
    ],
)
def test_a_toxic_that_makes_no_sense_is_refused(proxy: Proxy, options: dict[str, Any]) -> None:
    """Better no fault than another one than was meant."""
    with pytest.raises(ValueError, match=r"give|needs"):
        proxy.impose(**options)


# --- the end


@pytest.mark.parametrize("toxic", [None, *Toxic])
def test_nothing_is_left_after_the_end(servers: Servers, toxic: Toxic | None) -> None:
    """No thread, no socket, no task, whatever was going on; clients are told."""
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a count
    path = redis_socket(servers.redis_url)
    with proxies(path, path) as made:
        assert len(set(threading.enumerate()) - threads) == 1
        lines = [dial(proxy) for proxy in made for _ in range(3)]
        for line in lines[::2]:
            assert ping(line) == b"+PONG\r\n"
        if toxic is not None:
            for proxy in made:
                proxy.impose(toxic, delay_s=60.0 if toxic is Toxic.DELAY else 0.0)
            if toxic is not Toxic.RESET:
                for line in lines:
                    line.sendall(b"BLPOP nothing 60\r\n")
                if toxic is not Toxic.DROP_REPLY:
                    until(lambda: sum(proxy.hits[toxic] for proxy in made) == 6, "the harm")
    for line in lines:
        with line:
            try:
                assert line.recv(1) == b""
            except ConnectionResetError:
                assert toxic is not None
    assert set(threading.enumerate()) == threads
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208


def test_a_proxy_may_be_closed_and_started_again(servers: Servers) -> None:
    """Closing refuses connections, may be repeated, and is not the end of the thread."""
    thread = LoopThread()
    proxy = Proxy(redis_socket(servers.redis_url), thread)
    try:
        proxy.start()
        address = ("127.0.0.1", proxy.port)
        proxy.close()
        proxy.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)
        proxy.start()
        with dial(proxy) as line:
            assert ping(line) == b"+PONG\r\n"
    finally:
        proxy.close()
        thread.close()
