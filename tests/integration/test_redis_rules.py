"""Redis' users: with the rules of compose.yaml each part can do all its work, and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from infamous import status, trace
from infamous.embedded import binaries
from jobs import schedule
from jobs.archiver import archive_all
from jobs.forget import forget
from jobs.queue import REPORTS, queue
from jobs.release import release
from jobs.replay import replay
from jobs.schedule import enqueue_due
from jobs.storage import Storage
from jobs.trim import trim
from jobs.worker import worker
from pipeline import stream
from pipeline.entry import Form
from pipeline.event import encode
from pipeline.pulse import Pulse
from pipeline.stream import ARCHIVE_GROUP, STREAM, Delivered, Stream
from pipeline.streams import LAYOUTS, Streams, keys
from tests.conftest import PLAYERS, PRODUCER, World
from tests.integration.consuming import is_drained, now_ms, until, working
from tests.unit.samples import chains

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "compose.yaml"
START = ROOT / "docker" / "redis" / "start.sh"
PASSWORD = "for-this-test"  # noqa: S105

pytestmark = pytest.mark.usefixtures("redis_7_2")


def rules(name: str) -> list[str]:
    """What a user may do, as compose.yaml says and docker/redis/start.sh passes on."""
    services = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    (found,) = [
        service["environment"][f"USER_{name}"]
        for service in services.values()
        if f"USER_{name}" in service.get("environment", {})
    ]
    return str(found).split()


def url_of(world: World, name: str) -> str:
    """The world's Redis as this user reaches it."""
    reset = ("reset", "on", f">{PASSWORD}", "resetkeys", "resetchannels", "-@all")
    # A test's database is not the first, as compose's only one is.
    ask(world.client, "ACL", "SETUSER", name, *reset, *rules(name), "+select")
    return world.redis_url.replace("unix://", f"unix://{name}:{PASSWORD}@")


def ask(client: redis.Redis, *command: str) -> Any:
    """Send a command as it is."""
    return client.execute_command(*command)  # type: ignore[no-untyped-call]


def is_refused(client: redis.Redis, *command: str) -> bool:
    """Whether the user may not do this."""
    try:
        ask(client, *command)
    except redis.exceptions.NoPermissionError:
        return True
    return False


@pytest.fixture
def as_user(world: World) -> Iterator[Any]:
    """The world as a user of Redis reaches it; afterwards, nothing must have been denied to it."""
    ask(world.client, "ACL", "LOG", "RESET")
    opened: list[redis.Redis | Streams] = []

    def become(name: str, partitions: int = 1) -> World:
        url = url_of(world, name)
        source, streams = Stream(stream.connect(url)), Streams(url, partitions)
        opened.extend((source.client, streams))
        return replace(world, redis_url=url, source=source, streams=streams)

    yield become
    for one in opened:
        one.close()
    assert denied(world) == []


def denied(world: World) -> list[tuple[str, str]]:
    """Who was denied what."""
    log = ask(world.client, "ACL", "LOG")
    found = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in log]
    return [(entry[b"username"].decode(), entry[b"object"].decode()) for entry in found]


def test_a_producer_can_play(world: World, as_user: Any) -> None:
    """History, live play, and a second start that goes on from the state that is kept in Redis."""
    producer = as_user("producer")
    for count in (20, 10):
        subprocess.run(
            [
                *(sys.executable, "-P", "-m", "producer", "--history", "1", "--players", "5"),
                *("--rate", "500", "--count", str(count)),
            ],
            env={**os.environ, **producer.environment},
            check=True,
            timeout=60,
        )
    assert int(world.client.hget(PRODUCER, "sent") or 0) > 30
    assert world.client.hlen(PLAYERS) == 5


def test_a_consumer_can_do_its_work(world: World, as_user: Any) -> None:
    """A group, batches, refusals, another's pending entries, the names of the dead, waits and losses."""
    consumer = as_user("consumer")
    with working(consumer, claim_after_s=0.3):
        world.source.append([*[encode(e) for e in chains(40, start_ms=now_ms() - 60_000)], b"bad"])
        until(lambda: is_drained(world), "the stream to drain")
        world.source.append([encode(e) for e in chains(5, seed=2, start_ms=now_ms() - 60_000)])
        world.source.read("dead", 1)
        until(lambda: is_drained(world), "the pending entry to be taken over")
        until(lambda: "dead" not in world.source.state().consumers, "the name to be removed")
    own = consumer.source
    own.refuse_eviction()
    own.vouch()
    state = own.state()
    assert not state.undelivered_is_estimate
    # Entries trimmed unread, under each way in which the group's count is put right.
    for left in (0, 3):
        with world.client.pipeline(transaction=True) as pipe:
            for _ in range(5 + left):
                pipe.xadd(STREAM, {"event": b"x"})
            pipe.xtrim(STREAM, maxlen=left, approximate=False)
            pipe.execute()
        delivered: Delivered = own.read("own", 100)
        assert delivered.lost == 5
        own.ack([entry.id for entry in delivered.entries])
    own.leave("own")


def test_the_command_line_and_the_jobs_can_do_theirs(
    world: World, as_user: Any, tmp_path: Path
) -> None:
    """Status, trace, replay, release, forget, trim, and the archive, until it is given up."""
    events = chains(50, start_ms=now_ms() - 60_000)
    began_ms = now_ms() - 1000
    world.source.append([*[encode(event) for event in events], b"bad"])
    with working(world):
        until(lambda: is_drained(world), "the stream to drain")
        operator = as_user("operator").streams
        assert status.status(operator, world.engine).stream.entries == 51
        assert trace.trace(operator, world.engine, events[3].id).is_found
        assert replay(operator, began_ms, now_ms()).entries == 51
        # A release passes over what a consumer has in hand.
        until(lambda: is_drained(world), "what was replayed to be judged again")
        assert release(world.engine, operator).entries == 1
        until(lambda: is_drained(world), "the stream to drain")
        world.client.hset(PLAYERS, events[0].player, "a game")
        gone = forget(world.engine, operator, events[0].player)
        assert (gone.is_complete, gone.removed.entries, gone.removed.has_game) == (True, 34, True)
        until(lambda: is_drained(world), "the stream to drain")
    assert trim(operator, 0.0).entries > 0
    kept = operator.of_group(ARCHIVE_GROUP)
    assert archive_all(kept, Storage(str(tmp_path / "archive")), retention_days=90).events > 0
    assert kept.state().undelivered == 0
    assert kept.written[0].drop_group()


def test_each_can_do_its_work_on_divided_streams(
    world: World, as_user: Any, tmp_path: Path
) -> None:
    """With 12 partitions: to note them, send, read, acknowledge, look, replay, archive, forget and trim."""
    events = chains(60, start_ms=now_ms() - 60_000)
    producer: Streams = as_user("producer", 12).streams
    producer.refuse_eviction()
    producer.note()
    producer.append_entries([(Form.EVENT, encode(event)) for event in events])
    for one in producer.written:
        one.client.hset(one.players_key, "Zeke", "a game")
        one.client.hset(one.producer_key, "sent", 1)
    consumer: Streams = as_user("consumer").streams
    operator: Streams = as_user("operator", 12).streams

    def consume() -> int:
        consumer.look()
        read = 0
        for one in consumer.all:
            one.ensure_group()
            while page := one.read("me", 100).entries:
                one.ack([entry.id for entry in page])
                read += len(page)
            one.claim("me", idle_s=0, count=10)
            one.vouch()
        return read

    assert consume() == 60
    now = status.status(operator, world.engine)
    assert (now.stream.entries, now.produced, len(now.parts)) == (60, 12, 13)
    found = trace.trace(operator, world.engine, events[3].id)
    assert found.stream == operator.of(events[3].player).key
    assert replay(operator, 0, now_ms()).entries == 60
    assert consume() == 60
    kept = operator.of_group(ARCHIVE_GROUP)
    assert archive_all(kept, Storage(str(tmp_path / "archive")), retention_days=90).events == 60
    gone = forget(world.engine, operator, "Zeke", patience_s=0)
    assert gone.removed.has_game
    assert trim(operator, 0.0).away == {}
    waited = operator.written[0].client.execute_command("WAIT", 0, 10)  # type: ignore[no-untyped-call]
    assert waited == 0


def test_rq_can_work(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedule, a worker and its maintenance, as the one user of RQ's Redis."""
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    world.source.ensure_group()
    ask(world.client, "ACL", "LOG", "RESET")
    client = redis.Redis.from_url(url_of(world, "rq"))
    try:
        made = enqueue_due(client, time.time())
        assert len(made) == len(schedule.SCHEDULE)
        # Reports wait by themselves, for another worker.
        waiting = queue(client).count
        assert waiting + queue(client, REPORTS).count == len(made)
        laborer = worker(client, Pulse(), forks=False)
        laborer.work(burst=True)
        laborer.run_maintenance_tasks()  # type: ignore[no-untyped-call]
        assert queue(client).finished_job_registry.count == waiting
        for command in (
            ("FLUSHALL",),
            ("CONFIG", "GET", "dir"),
            ("SET", "other", "1"),
            ("KEYS", "*"),
        ):
            assert is_refused(client, *command), command
    finally:
        client.close()
    assert {user for user, _ in denied(world)} == {"rq"}
    assert {what for _, what in denied(world)} <= {"flushall", "config|get", "other", "keys"}


PART = keys(3)[1]
NEVER = (
    ("DEL", STREAM),
    ("DEL", PLAYERS),
    ("UNLINK", STREAM),
    ("RENAME", STREAM, PLAYERS),
    ("EXPIRE", STREAM, "1"),
    ("COPY", STREAM, PLAYERS),
    ("DUMP", STREAM),
    ("RESTORE", PLAYERS, "0", "x"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("CONFIG", "GET", "*"),
    ("EVAL", "return 1", "0"),
    ("FUNCTION", "LIST"),
    ("SCRIPT", "LOAD", "return 1"),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("ACL", "LIST"),
    ("CLIENT", "LIST"),
    ("SHUTDOWN",),
    ("MONITOR",),
    ("XADD", "another-key", "*", "event", "x"),
    ("SET", "another-key", "x"),
    ("HSET", "another-key", "x", "y"),
    ("DEL", PART),
    ("DEL", LAYOUTS),
    ("SREM", LAYOUTS, "4"),
    ("RENAME", PART, LAYOUTS),
)
# A name that is none of a partition's.
_OTHER = "game-events:{x}"
NOT_THEIRS = {
    "producer": (
        ("XRANGE", STREAM, "-", "+"),
        ("XREAD", "STREAMS", STREAM, "0"),
        ("XINFO", "STREAM", STREAM),
        ("XTRIM", STREAM, "MAXLEN", "0"),
        ("XACK", STREAM, "postgres", "1-1"),
        ("XDEL", STREAM, "1-1"),
        ("XGROUP", "SETID", STREAM, "postgres", "0"),
        ("XGROUP", "DESTROY", STREAM, "postgres"),
        ("XRANGE", PART, "-", "+"),
        ("XTRIM", PART, "MAXLEN", "0"),
        ("HGETALL", PART),
        ("XADD", _OTHER, "*", "event", "x"),
        ("HSET", f"{PART}:postgres:counts", "x", "y"),
    ),
    "consumer": (
        ("XGROUP", "DESTROY", STREAM, "postgres"),
        ("XTRIM", STREAM, "MAXLEN", "0"),
        ("XDEL", STREAM, "1-1"),
        ("XADD", STREAM, "*", "event", "x"),
        ("HSET", PLAYERS, "x", "y"),
        ("XADD", PART, "*", "event", "x"),
        ("XTRIM", PART, "MAXLEN", "0"),
        ("XREAD", "STREAMS", _OTHER, "0"),
        ("SET", f"{PART}:players", "x"),
        ("SADD", LAYOUTS, "4"),
    ),
    "operator": (
        ("XACK", STREAM, "postgres", "1-1"),
        ("XREADGROUP", "GROUP", "postgres", "me", "STREAMS", STREAM, ">"),
        ("XACK", PART, "postgres", "1-1"),
        ("SET", PART, "x"),
    ),
    "health": (("INFO",), ("XDEL", STREAM, "1-1"), ("XLEN", STREAM), ("GET", "x")),
}


@pytest.mark.parametrize("name", NOT_THEIRS)
def test_nobody_can_do_more(world: World, name: str) -> None:
    """A producer cannot read what others sent; nobody deletes, runs scripts, or touches other keys."""
    world.client.xadd(STREAM, {"event": b"x"})
    if name == "health":  # as start.sh makes it
        ask(world.client, "ACL", "SETUSER", name, "reset", "on", "nopass", "-@all", "+ping")
        url = re.sub(r"db=\d+", "db=0", world.redis_url.replace("unix://", "unix://health:any@"))
    else:
        url = url_of(world, name)
    client = stream.connect(url)
    try:
        allowed = [
            " ".join(command)
            for command in (*NEVER, *NOT_THEIRS[name])
            if not is_refused(client, *command)
        ]
        assert client.ping()
    finally:
        client.close()
    assert allowed == []
    assert world.client.xlen(STREAM) == 1


@contextmanager
def own_server(folder: Path, names: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """A Redis as compose starts it, with docker/redis/start.sh; yields the users' URLs."""
    for part in ("secrets", "run", "data", "bin"):
        (folder / part).mkdir(exist_ok=True)
    for name in names:
        secret = folder / "secrets" / f"redis_url_{name}"
        secret.write_text(f"redis://{name}:{PASSWORD}@redis:6379/0\n")
    program = folder / "bin" / "redis-server"
    if not program.exists():
        program.symlink_to(binaries.redis(None, ()).path)
    socket = folder / "run" / "redis.sock"
    with (folder / "redis.log").open("ab") as output:
        process = subprocess.Popen(
            ["sh", str(START), "--port", "0", "--unixsocket", str(socket)],
            env={
                **os.environ,
                **{f"USER_{name}": " ".join(rules(name)) for name in names},
                "PATH": f"{program.parent}:{os.environ['PATH']}",
                "SECRETS_FOLDER": str(folder / "secrets"),
                "RUN_FOLDER": str(folder / "run"),
                "DATA_FOLDER": str(folder / "data"),
            },
            stdout=output,
            stderr=output,
        )
    try:
        lives = redis.Redis.from_url(f"unix://health:any@{socket}")
        until(lambda: is_up(lives), "the server to answer")
        lives.close()
        yield {name: f"unix://{name}:{PASSWORD}@{socket}" for name in (*names, "default")}
    finally:
        process.terminate()
        process.wait(20)


def is_up(client: redis.Redis) -> bool:
    """Whether the server answers."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_a_restart_keeps_all_of_it(tmp_path: Path) -> None:
    """What was written in transactions is there again: the server runs its log as a user who may."""
    names = ("producer", "consumer", "operator")
    with own_server(tmp_path, names) as urls:
        subprocess.run(
            [
                *(sys.executable, "-P", "-m", "producer", "--players", "5"),
                *("--rate", "500", "--count", "200"),
            ],
            env={**os.environ, "REDIS_URL": urls["producer"]},
            check=True,
            timeout=60,
        )
        consumer = Stream(stream.connect(urls["consumer"]))
        consumer.ensure_group()
        consumer.ack([entry.id for entry in consumer.read("me", 10).entries[:4]])
        consumer.client.close()
    with own_server(tmp_path, names) as urls:
        operator = Stream(stream.connect(urls["operator"]))
        state, sent = operator.state(), operator.produced()
        operator.client.close()
    assert (state.entries, state.pending, sent) == (200, 6, 200)


def test_the_default_user_cannot_log_in(tmp_path: Path) -> None:
    """Neither without a password nor with one, and without a user nothing is answered."""
    with own_server(tmp_path, ("producer",)) as urls:
        for url in (urls["default"], urls["default"].replace(f"default:{PASSWORD}@", "")):
            client = redis.Redis.from_url(url)
            with pytest.raises((redis.AuthenticationError, redis.exceptions.ResponseError)):
                client.ping()
            client.close()
