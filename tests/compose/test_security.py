"""What somebody who has got into one part of the stack, or onto its machine, can not do with it."""

from __future__ import annotations

import json
import re
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.compose.stack import Stack, docker, inspect, is_listening, until

OURS = {"producer", "consumer", "worker", "scheduler", "jupyter", "reporter"}
# Runs statements, each on its own, with the URL of a secret; says what became of each.
TRY_SQL = """
import json, sys
from pathlib import Path
import psycopg2
url = Path("/run/secrets/{secret}").read_text().strip()
said = {{}}
for statement in json.loads({statements!r}):
    try:
        connection = psycopg2.connect(url, options="{options}")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
        said[statement] = "allowed"
    except psycopg2.Error as error:
        said[statement] = error.pgcode or str(error)
print(json.dumps(said))
"""
TRY_REDIS = """
import json
from pathlib import Path
import redis
client = redis.Redis.from_url(Path("/run/secrets/{secret}").read_text().strip())
said = {{}}
for command in json.loads({commands!r}):
    try:
        client.execute_command(*command)
        said[" ".join(command)] = "allowed"
    except redis.RedisError as error:
        said[" ".join(command)] = type(error).__name__
print(json.dumps(said))
"""
REFUSED, READ_ONLY = "42501", "25006"


@pytest.fixture(scope="module", autouse=True)
def _running(stack: Stack) -> None:
    """Up, with some rows."""
    stack.make_secrets()
    stack.up("--build")
    until(lambda: int(stack.sql("select count(*) from game_events")) > 3, "rows")


def service_of(container: dict[str, object]) -> str:
    """Which service a container is of."""
    labels = container["Config"]["Labels"]  # type: ignore[index]
    return str(labels["com.docker.compose.service"])


def test_nothing_listens_beyond_loopback(stack: Stack) -> None:
    """Jupyter alone is published, on 127.0.0.1; this machine's other addresses answer nothing."""
    published = [
        (service_of(container), binding["HostIp"], int(binding["HostPort"]))
        for container in inspect(stack.containers())
        for bindings in container["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    ]
    port = int(stack.environment["JUPYTER_PORT"])
    assert published == [("jupyter", "127.0.0.1", port)]
    assert is_listening("127.0.0.1", port)
    # This machine's addresses on the stack's own networks, and one more of its loopback.
    (jupyter,) = inspect(stack.containers("jupyter"))
    gateways = {net["Gateway"] for net in jupyter["NetworkSettings"]["Networks"].values()} - {""}
    assert gateways
    for address in (*gateways, "127.0.0.2"):
        assert not is_listening(address, port), address


def test_every_container_is_confined(stack: Stack) -> None:
    """No root, no capabilities, no new ones, no root file system to write to, and bounds on all it takes."""
    for container in inspect(stack.containers()):
        host, service = container["HostConfig"], service_of(container)
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert not host["CapAdd"], service
        assert not host["Privileged"], service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert host["Memory"] > 0, service
        assert host["PidsLimit"] > 0, service
        assert host["LogConfig"]["Config"]["max-size"], service
        assert container["Config"]["User"] not in ("", "root", "0"), service
        assert "/var/run/docker.sock" not in json.dumps(container["Mounts"]), service
    for service in OURS:
        said = stack.python(
            service,
            "import os\n"
            "status = dict(l.split(':', 1) for l in open('/proc/self/status'))\n"
            "print(os.getuid(), int(status['CapEff'], 16), status['NoNewPrivs'].strip())\n"
            "for path in ('/here', '/app/here', '/opt/venv/here'):\n"
            "    try:\n"
            "        open(path, 'w')\n"
            "    except OSError as error:\n"
            "        print('not', path)\n",
        )
        expected = "10001 0 1\nnot /here\nnot /app/here\nnot /opt/venv/here\n"
        assert said == expected, service


def test_no_secret_is_told(stack: Stack) -> None:
    """No password in what the engine shows of containers and images, in the composed file, or in a log."""
    secrets = {path.name: path.read_text().strip() for path in (stack.folder / "secrets").iterdir()}
    words = {
        name: value.split(":")[2].split("@")[0] if "://" in value else value
        for name, value in secrets.items()
    }
    assert all(len(word) >= 40 for word in words.values())
    told = {
        "inspect": docker("inspect", *stack.containers()),
        "history": docker("history", "--no-trunc", stack.environment["INFAMOUS_IMAGE"])
        + docker("history", "--no-trunc", stack.environment["JUPYTER_IMAGE"]),
        "images": docker("inspect", stack.environment["INFAMOUS_IMAGE"]),
        "config": stack.run("--profile", "redash", "config").stdout,
        "logs": stack.run("logs").stdout,
        "environment": "".join(
            stack.run("exec", "-T", service, "env").stdout
            for service in (*OURS, "redis", "postgres")
        ),
    }
    for where, text in told.items():
        assert text, where
        found = [name for name, word in words.items() if word in text]
        assert found == [], where
    for path in ("secrets", ".env", ".git", "tests"):
        assert (
            stack.python("consumer", f"import os; print(os.path.exists('/app/{path}'))").strip()
            == "False"
        )


def test_the_secrets_belong_to_their_user(stack: Stack) -> None:
    """Nobody else on this machine gets into their folder."""
    assert (stack.folder / "secrets").stat().st_mode & 0o077 == 0


def test_each_part_has_the_secrets_it_needs(stack: Stack) -> None:
    """The superuser's is where the schema is made, and nowhere else."""
    found = {
        service: set(stack.run("exec", "-T", service, "ls", "/run/secrets").stdout.split())
        for service in (*OURS, "redis", "postgres")
    }
    assert found == {
        "producer": {"redis_url_producer"},
        "consumer": {"redis_url_consumer", "database_url_writer"},
        "worker": {
            "redis_url_operator",
            "database_url_jobs",
            "database_url_migrator",
            "rq_redis_url",
        },
        "scheduler": {"rq_redis_url"},
        "jupyter": {"jupyter_token", "database_url_bi"},
        "reporter": {"database_url_bi", "rq_redis_url"},
        "redis": {"redis_url_producer", "redis_url_consumer", "redis_url_operator"},
        "postgres": {"postgres_password"},
    }


def test_a_notebook_can_read_and_nothing_else(stack: Stack) -> None:
    """Writes, DDL, temporary tables, large objects, files, programs, raw refusals, other databases: no."""
    denied = [
        "insert into game_events (id) values (gen_random_uuid())",
        "update game_events set player = 'x'",
        "delete from game_events",
        "truncate game_events",
        "drop table game_events",
        "create table mine (x int)",
        "create temporary table mine (x int)",
        "create schema mine",
        "select raw from quarantined_events",
        "select detail from quarantined_events",
        "select pg_advisory_lock(4815162343)",
        "select pg_try_advisory_lock(1, 2)",
        "select pg_advisory_xact_lock_shared(1)",
        "select lo_create(0)",
        "select lo_from_bytea(0, 'x')",
        "select pg_read_file('/etc/passwd')",
        "copy game_events to '/tmp/x'",
        "copy (select 1) to program 'id'",
        "select rolpassword from pg_authid",
        "set role infamous_owner",
        "set role infamous_writer",
        "select ensure_game_events_partitions('2020-01-01', '2020-01-02')",
        "alter role infamous_bi connection limit 1000",
        "alter system set work_mem = '1GB'",
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'infamous_writer'",
    ]
    # The role's own settings are a courtesy: whoever is in may lift them, and is refused all the same.
    for options in ("", "-c default_transaction_read_only=off -c statement_timeout=0"):
        code = TRY_SQL.format(
            secret="database_url_bi", options=options, statements=json.dumps(denied)
        )
        said = json.loads(stack.python("jupyter", code))
        refused = {REFUSED} if options else {REFUSED, READ_ONLY}
        assert {k: v for k, v in said.items() if v not in refused} == {}
    elsewhere = stack.python(
        "jupyter",
        "import psycopg2, pathlib\n"
        "url = pathlib.Path('/run/secrets/database_url_bi').read_text().strip()\n"
        "for name in ('postgres', 'template1'):\n"
        "    try:\n"
        "        psycopg2.connect(url.removesuffix('/infamous') + '/' + name)\n"
        "        print('allowed', name)\n"
        "    except psycopg2.Error as error:\n"
        "        print('denied', name)\n",
    )
    assert elsewhere == "denied postgres\ndenied template1\n"


def test_a_question_that_takes_too_much_ends_alone(stack: Stack) -> None:
    """Memory or disk: the question is refused, and the server does not notice."""
    began = stack.sql("select pg_postmaster_start_time()")
    statements = [
        "select length(repeat('x', 1000000000) || repeat('y', 20000000))",
        "set temp_file_limit = -1",
        "set statement_timeout = 0; set work_mem = '64kB';"
        " select count(*) from (select repeat(md5(x::text), 100) y from"
        " generate_series(1, 1000000) x order by 1) sorted",
    ]
    code = TRY_SQL.format(secret="database_url_bi", options="", statements=json.dumps(statements))
    said = json.loads(stack.python("jupyter", code))
    assert list(said.values()) == ["53200", REFUSED, "53400"]
    assert stack.sql("select pg_postmaster_start_time()") == began


def test_a_consumer_cannot_read_what_it_stored(stack: Stack) -> None:
    """It adds rows; it neither reads events nor takes any away."""
    statements = [
        "select * from game_events",
        "delete from game_events",
        "update game_events set player = 'x'",
        "select raw from quarantined_events",
        "delete from quarantined_events",
        "drop table game_events",
        "create table mine (x int)",
        "set role infamous_owner",
        "select lo_create(0)",
    ]
    code = TRY_SQL.format(
        secret="database_url_writer", options="", statements=json.dumps(statements)
    )
    said = json.loads(stack.python("consumer", code))
    assert said == dict.fromkeys(statements, REFUSED)


def test_a_producer_can_add_and_nothing_else(stack: Stack) -> None:
    """On the stream's Redis, as it is configured here: no reading, no deleting, no scripts."""
    key = "game-events"
    commands = [
        ["XRANGE", key, "-", "+"],
        ["XREAD", "STREAMS", key, "0"],
        ["XDEL", key, "1-1"],
        ["XTRIM", key, "MAXLEN", "0"],
        ["DEL", key],
        ["XGROUP", "DESTROY", key, "postgres"],
        ["FLUSHALL"],
        ["CONFIG", "GET", "*"],
        ["EVAL", "return 1", "0"],
        ["ACL", "LIST"],
        ["KEYS", "*"],
    ]
    code = TRY_REDIS.format(secret="redis_url_producer", commands=json.dumps(commands))
    said = json.loads(stack.python("producer", code))
    assert said == {" ".join(command): "NoPermissionError" for command in commands}


def test_networks_keep_the_parts_apart(stack: Stack) -> None:
    """Jupyter does not even find Redis, the producer not Postgres; and what is inside has no way out."""
    code = (
        "import socket\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def reach(address):\n"
        "    try:\n"
        "        socket.create_connection(address, timeout=3).close()\n"
        "        return 'reached ' + address[0]\n"
        "    except OSError:\n"
        "        return 'not ' + address[0]\n"
        "with ThreadPoolExecutor() as pool:\n"
        "    print(*pool.map(reach, {addresses!r}))\n"
    )
    never = {
        "jupyter": [("redis", 6379), ("redis-jobs", 6379)],
        "reporter": [("redis", 6379), ("1.1.1.1", 53)],
        "producer": [("postgres", 5432), ("redis-jobs", 6379), ("1.1.1.1", 53)],
        "consumer": [("redis-jobs", 6379), ("1.1.1.1", 53)],
        "scheduler": [("postgres", 5432), ("redis", 6379), ("1.1.1.1", 53)],
    }
    for service, addresses in never.items():
        assert "reached" not in stack.python(service, code.format(addresses=addresses)), service
    assert "reached redis" in stack.python("producer", code.format(addresses=[("redis", 6379)]))


def test_a_stranger_s_job_is_refused(stack: Stack) -> None:
    """Whoever holds RQ's password can have the tasks run, and no program of their own."""
    said = stack.python(
        "worker",
        "import pathlib, time, redis\n"
        "from rq import Queue\n"
        "from rq.serializers import JSONSerializer\n"
        "client = redis.Redis.from_url(pathlib.Path('/run/secrets/rq_redis_url').read_text().strip())\n"
        "queue = Queue('infamous', connection=client, serializer=JSONSerializer)\n"
        "job = queue.enqueue('os.system', args=('touch /tmp/was-here',))\n"
        "until = time.monotonic() + 60\n"
        "while not (job.is_failed or job.is_finished) and time.monotonic() < until:\n"
        "    time.sleep(0.1)\n"
        "print(job.get_status().value, pathlib.Path('/tmp/was-here').exists())\n",
    )
    assert said.split() == ["failed", "False"]


def test_jupyter_wants_its_token(stack: Stack) -> None:
    """Without it, or with another, 403; with it, the notebooks are there."""
    url = f"http://127.0.0.1:{stack.environment['JUPYTER_PORT']}/api/contents/notebooks"

    def get(query: str = "") -> int | list[str]:
        try:
            with urlopen(url + query, timeout=20) as reply:  # http, as above
                return [item["name"] for item in json.load(reply)["content"]]
        except HTTPError as error:
            return error.code

    until(lambda: is_listening("127.0.0.1", int(stack.environment["JUPYTER_PORT"])), "Jupyter")
    assert get() == 403
    assert get("?token=") == 403
    assert get(f"?token={'0' * 48}") == 403
    found = get(f"?token={stack.secret('jupyter_token')}")
    assert isinstance(found, list)
    assert "01_tour.ipynb" in found


def test_a_notebook_runs_in_the_container(stack: Stack) -> None:
    """As Jupyter runs it, on the rows of this stack."""
    done = stack.run(
        *("exec", "-T", "jupyter", "jupyter", "nbconvert", "--execute", "--to", "html"),
        *("--no-input", "--stdout", "notebooks/01_tour.ipynb"),
    )
    # The page's own style sheet holds pictures too.
    assert len(re.findall(r'<img\b[^>]*\bsrc="data:image/svg', done.stdout)) == 3
    assert "Traceback" not in done.stdout


def test_the_report_of_the_night_is_made_and_shown(stack: Stack) -> None:
    """The reporter makes it, as who can read and nothing else; Jupyter shows it, and cannot change it."""
    code = "from jobs import tasks; print(tasks.make_report(7))"
    stack.run("exec", "-T", "reporter", "python", "-c", code)
    kept = stack.run("exec", "-T", "jupyter", "ls", "reports").stdout.split()
    assert "latest.html" in kept
    page = stack.run("exec", "-T", "jupyter", "cat", "reports/latest.html").stdout
    assert page.count("data:image/svg+xml;base64,") > 10
    touched = stack.run("exec", "-T", "jupyter", "touch", "reports/latest.html", check=False)
    assert touched.returncode != 0


def test_a_refused_row_is_not_logged(stack: Stack) -> None:
    """A COPY that fails leaves what the row holds out of the server's log."""
    code = (
        "import io, pathlib, psycopg2\n"
        "url = pathlib.Path('/run/secrets/database_url_writer').read_text().strip()\n"
        "connection = psycopg2.connect(url)\n"
        "row = '\\t'.join(('01a21205-b08c-76cc-90e0-d6c02f927314', '2026-11-25 09:24:52.492+00',\n"
        "                 'A-NAME-NOBODY-MAY-SEE', 'kill_enemy', '1', '0', '999', 'Neutral'))\n"
        "columns = ('id', 'ts', 'player', 'action', 'xp_delta', 'karma_delta', 'karma_total', 'rank')\n"
        "try:\n"
        "    connection.cursor().copy_from(io.StringIO(row + '\\n'), 'game_events', columns=columns)\n"
        "except psycopg2.Error as error:\n"
        "    print(error.pgcode)\n"
    )
    assert stack.python("consumer", code).strip() in ("23514", "23505")
    until(
        lambda: (
            "violates check constraint" in stack.run("logs", "postgres").stdout
            or "no partition" in stack.run("logs", "postgres").stdout
        ),
        "the server to log it",
    )
    logs = stack.run("logs")
    assert "A-NAME-NOBODY-MAY-SEE" not in logs.stdout + logs.stderr
