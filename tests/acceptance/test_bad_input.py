"""What a user can get wrong: each gets one sentence and an exit code, and nothing half-made.

The commands of a test run side by side.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.acceptance.processes import (
    Launcher,
    Result,
    assert_nothing_left,
    clean_environment,
    ordinary_user,
    processes_of,
    unused_port,
)
from tests.conftest import World

EVENT_ID = "01933b1c-0000-7000-8000-000000000000"
# Every command that needs both servers, and the processes that containers run.
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("infamous", "status"),
    ("infamous", "audit"),
    ("infamous", "migrate"),
    ("infamous", "trace", EVENT_ID),
    ("infamous", "up", "--history", "0", "--for", "1s"),
    ("infamous", "produce", "--count", "1"),
    ("infamous", "consume"),
    ("producer", "--count", "1"),
    ("consumer",),
)
Case = tuple[tuple[str, ...], dict[str, str]]


def all_at_once(launch: Launcher, cases: Sequence[Case]) -> list[tuple[str, Result]]:
    """Run the commands side by side; each with its own name for messages."""
    started = [
        (f"{environment} {' '.join(command)}", launch.fork(*command, environment=environment))
        for command, environment in cases
    ]
    return [(name, process.wait(40)) for name, process in started]


def sentences(result: Result) -> list[str]:
    """What it says outside its log and the usage hint."""
    return [
        line
        for line in result.err.splitlines()
        if line.strip()
        and not line.startswith(("Usage: ", "Try "))
        and " [warning" not in line
        and " [info" not in line
    ]


def assert_told(name: str, result: Result, code: int, *words: str) -> None:
    """One sentence with these words, the exit code, and no traceback."""
    assert "Traceback" not in result.err, f"{name}: {result.text}"
    assert result.code == code, f"{name}: {result.text}"
    said = sentences(result)
    assert len(said) == 1, f"{name}: {result.text}"
    assert said[0].endswith((".", ")")) or said[0].startswith("Error: "), f"{name}: {said}"
    for word in words:
        assert word in said[0], f"{name}: {word!r} is not in {said[0]!r}"


def test_bad_arguments_are_refused_before_anything_is_made(launch: Launcher, home: Path) -> None:
    """A mistyped flag, command or value costs exit 2 and a sentence: no data folder, no server."""
    cases: dict[tuple[str, ...], str] = {
        ("infamous", "up", "--frobnicate"): "--frobnicate",
        ("infamous", "frobnicate"): "frobnicate",
        ("infamous", "up", "--rate", "0"): "--rate",
        ("infamous", "up", "--rate", "nan"): "--rate",
        ("infamous", "up", "--history", "5x"): "5x",
        ("infamous", "up", "--history", "9999d"): "RETENTION_DAYS",
        ("infamous", "up", "--for", "soon"): "soon",
        ("infamous", "up", "--consumers", "0"): "--consumers",
        ("infamous", "produce", "--rate", "0"): "--rate",
        ("infamous", "produce", "--frobnicate"): "--frobnicate",
        ("infamous", "produce", "--history", "9999d"): "RETENTION_DAYS",
        ("infamous", "produce", "--count", "-1"): "--count",
        ("infamous", "trace", "notauuid"): "notauuid",
        ("producer", "--rate", "abc"): "--rate",
        ("producer", "--history", "soon"): "soon",
        ("producer",): "REDIS_URL",
        ("consumer",): "DATABASE_URL",
    }
    environment = {"INFAMOUS_HOME": str(home)}
    results = all_at_once(launch, [(command, environment) for command in cases])
    for (name, result), word in zip(results, cases.values(), strict=True):
        assert_told(name, result, 2, word)
        assert result.out == "", name
    assert not home.exists()
    assert not processes_of(home)


def test_bad_settings_are_refused_before_anything_is_made(launch: Launcher, home: Path) -> None:
    """An unusable environment variable is named, with what is wrong with it, by every process."""
    binary = home.parent / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    settings: list[tuple[dict[str, str], str]] = [
        ({"BATCH_ROWS": "abc"}, "BATCH_ROWS=abc"),
        ({"BATCH_ROWS": "0"}, "BATCH_ROWS=0"),
        ({"BATCH_AGE_S": "nan"}, "BATCH_AGE_S=nan"),
        ({"CLAIM_AFTER_S": "inf"}, "CLAIM_AFTER_S=inf"),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT=xml"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL=loud"),
        ({"RETENTION_DAYS": "-1"}, "RETENTION_DAYS=-1"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://h:port/x"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://u:100%@h/x"}, "DATABASE_URL"),
        ({"REDIS_URL": "foo"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://h:99999"}, "REDIS_URL"),
        ({"DATABASE_URL_FILE": "/nonexistent"}, "DATABASE_URL_FILE"),
        ({"DATABASE_URL_FILE": str(binary)}, "DATABASE_URL_FILE"),
        ({"REDIS_URL_FILE": str(binary.parent)}, "REDIS_URL_FILE"),
        ({"INFAMOUS_HOME": "~nobody-of-that-name/x"}, "INFAMOUS_HOME"),
    ]
    cases: list[Case] = [
        (("consumer",), {"INFAMOUS_HOME": str(home)} | setting) for setting, _ in settings
    ]
    # All load the same settings: for the others one setting of each kind will do.
    others = [settings[0], settings[7], settings[10], settings[13], settings[15]]
    for setting, _ in others:
        cases.append((("producer",), {"INFAMOUS_HOME": str(home)} | setting))
        cases.append((("infamous", "up"), {"INFAMOUS_HOME": str(home)} | setting))
    words = [word for _, word in settings] + [word for _, word in others for _ in range(2)]
    for (name, result), word in zip(all_at_once(launch, cases), words, strict=True):
        assert_told(name, result, 2, word)
    assert not home.exists()


def test_a_url_with_an_unknown_option_is_refused(world: World, launch: Launcher) -> None:
    """An option in a URL that the driver does not know is named, and blamed on the URL."""
    redis_bad = world.environment | {"REDIS_URL": f"{world.redis_url}&frob=1"}
    postgres_bad = world.environment | {"DATABASE_URL": f"{world.database_url}&frob=1"}
    for name, result in all_at_once(
        launch, [(command, redis_bad) for command in (("infamous", "status"), *COMMANDS[-2:])]
    ):
        assert_told(name, result, 2, "REDIS_URL", "frob")
    [(name, status), (name_2, consumed)] = all_at_once(
        launch, [(("infamous", "status"), postgres_bad), (("consumer",), postgres_bad)]
    )
    assert_told(name, status, 2, "DATABASE_URL", "frob")
    assert_told(name_2, consumed, 1, "Postgres", "frob")
    assert "migrate" not in status.err + consumed.err


@pytest.mark.parametrize("kind", ["port", "socket"])
def test_unreachable_servers_are_named(
    world: World, launch: Launcher, home: Path, kind: str
) -> None:
    """Where Postgres or Redis does not answer, each command says which, and exits with 1."""
    port = unused_port()
    postgres, redis = {
        "port": (f"postgresql://u:s3cr3t-pw@127.0.0.1:{port}/x", f"redis://127.0.0.1:{port}"),
        "socket": ("postgresql://u@/x?host=/nonexistent", "unix:///nonexistent/r.sock"),
    }[kind]
    common = {"CONNECT_TIMEOUT_S": "1", "INFAMOUS_HOME": str(home)}
    no_postgres = common | {"DATABASE_URL": postgres, "REDIS_URL": world.redis_url}
    no_redis = common | {"DATABASE_URL": world.database_url, "REDIS_URL": redis}
    # How the address is written makes no difference to a command: one of each kind for the second.
    commands = COMMANDS if kind == "port" else (COMMANDS[0], *COMMANDS[-2:])
    needs_postgres = [c for c in commands if c[0] != "producer" and c[1:2] != ("produce",)]
    # The audit and the migration read no stream.
    needs_redis = [c for c in commands if c[1:2] not in (("audit",), ("migrate",))]
    for name, result in all_at_once(launch, [(c, no_postgres) for c in needs_postgres]):
        assert_told(name, result, 1, "Postgres")
        assert "s3cr3t-pw" not in result.text, name
    for name, result in all_at_once(launch, [(c, no_redis) for c in needs_redis]):
        assert_told(name, result, 1, "Redis")
    # A lock file and logs of `up` are all there may be.
    assert not (home / "postgres").exists()
    assert not processes_of(home)


def test_a_database_that_is_not_there_is_named(world: World, launch: Launcher, home: Path) -> None:
    """A wrong database name is said, not taken for a server that is away or a table to migrate."""
    url = world.database_url.replace("/test_", "/missing_", 1)
    assert url != world.database_url
    environment = {
        "DATABASE_URL": url,
        "REDIS_URL": world.redis_url,
        "CONNECT_TIMEOUT_S": "1",
        "INFAMOUS_HOME": str(home),
    }
    commands = [c for c in COMMANDS if c[0] != "producer" and c[1:2] != ("produce",)]
    for name, result in all_at_once(launch, [(c, environment) for c in commands]):
        assert_told(name, result, 1, "missing_", "does not exist")


def test_a_database_without_tables(bare_world: World, launch: Launcher) -> None:
    """Before the first migration every command says to run it, and status shows that there is none."""
    commands = (("infamous", "audit"), ("infamous", "trace", EVENT_ID), ("consumer",))
    for name, result in all_at_once(launch, [(c, bare_world.environment) for c in commands]):
        assert_told(name, result, 1, "infamous migrate")
    status = launch.run("infamous", "status", environment=bare_world.environment)
    assert status.code == 0, status.text
    assert "run `infamous migrate`" in status.out
    as_json = launch.run("infamous", "status", "--json", environment=bare_world.environment)
    assert (as_json.code, '"rows": null' in as_json.out) == (0, True), as_json.text


def test_a_database_of_a_newer_version(world: World, launch: Launcher, home: Path) -> None:
    """A schema this version does not know is left alone, and the user is told to update."""
    with world.engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = 'ffff'"))
    environment = world.environment | {"INFAMOUS_HOME": str(home)}
    commands = (("infamous", "migrate"), ("infamous", "up", "--history", "0", "--for", "1s"))
    for name, result in all_at_once(launch, [(c, environment) for c in commands]):
        assert_told(name, result, 1, "ffff", "update the code")
    status = launch.run("infamous", "status", environment=environment)
    assert (status.code, "ffff" in status.out) == (0, True), status.text
    assert world.count("game_events") == 0
    assert world.source.state().entries == 0


def test_status_before_there_is_anything(launch: Launcher, home: Path) -> None:
    """Looking does not make: without a data folder the readers say so and start nothing."""
    commands = (("infamous", "status"), ("infamous", "audit"), ("infamous", "trace", EVENT_ID))
    environment = {"INFAMOUS_HOME": str(home)}
    for name, result in all_at_once(launch, [(c, environment) for c in commands]):
        assert_told(name, result, 1, str(home), "infamous up")
    assert not home.exists()


def test_a_data_folder_that_is_a_file(launch: Launcher, home: Path) -> None:
    """INFAMOUS_HOME that names a file is refused, and the file stays as it is."""
    home.write_text("precious", encoding="utf-8")
    environment = {"INFAMOUS_HOME": str(home)}
    commands = (("infamous", "up"), ("infamous", "status"), ("infamous", "consume"))
    for name, result in all_at_once(launch, [(c, environment) for c in commands]):
        assert_told(name, result, 1, str(home), "is a file")
    assert home.read_text(encoding="utf-8") == "precious"


def test_a_data_folder_in_an_unwritable_place(launch: Launcher, home: Path) -> None:
    """An ordinary user who may not write there is told so, and by name of the folder."""
    locked = home.parent / "locked"
    locked.mkdir(mode=0o555)
    process = launch.start(
        *("infamous", "up", "--history", "0"),
        environment={"INFAMOUS_HOME": str(locked / "home")},
        through=ordinary_user(),
    )
    assert_told("up", process.wait(20), 1, str(locked), "not writable")
    assert list(locked.iterdir()) == []


def test_a_full_disk_is_refused(launch: Launcher, home: Path) -> None:
    """A disk too small for the servers is said before anything is written to it."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    home.mkdir()
    mount = f"mount -t tmpfs -o size=20m none {home}"
    tried = subprocess.run(["unshare", "-Urm", "sh", "-c", mount], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no mount in a user namespace here: {tried.stderr.decode().strip()}")
    command = f"{sys.executable} -m infamous up --history 0; code=$?; ls {home}; exit $code"
    ran = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", f"{mount} && {command}"],
        cwd=launch.folder,
        env=clean_environment({"INFAMOUS_HOME": str(home)}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    result = Result(ran.returncode, ran.stdout, ran.stderr)
    assert_told("up", result, 1, "MB free", "make room")
    assert "postgres\n" not in result.out.splitlines()
    assert_nothing_left(home)
