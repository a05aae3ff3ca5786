"""The compose file and the secrets it needs, looked at without an engine: what holds for every service."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
# They do what they have to do, and end.
ONE_SHOTS = {"migrate", "infamous", "redash-create-db", "redash-provision", "redash-dashboards"}
ADDRESSES = {"REDIS_URL", "ARCHIVE_URL", "REDASH_URL", "REDASH_PUBLIC_URL"}
LASTING = sorted(SERVICES.keys() - ONE_SHOTS)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name: str) -> None:
    """Whatever runs there: nothing to write to but what is named, no rights, and bounds."""
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["init"]
    assert service["stop_grace_period"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service["networks"]
    assert not any("docker.sock" in volume for volume in service.get("volumes", ()))


@pytest.mark.parametrize("name", LASTING)
def test_a_service_that_lasts_says_whether_it_works(name: str) -> None:
    """It has a check of its own, and is started again when it ends."""
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_only_the_front_is_published() -> None:
    """On the loopback, by three services; all other networks have no way out."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"jupyter", "redash-server", "prometheus"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    on_front = {name for name, service in SERVICES.items() if "front" in service["networks"]}
    assert on_front == published.keys()
    inner = {name for name, network in FILE["networks"].items() if network.get("internal")}
    assert FILE["networks"].keys() - inner == {"front"}


def test_what_looks_at_the_tables_is_the_reader() -> None:
    """Notebooks and dashboards are given the reader's URL, and no other way to any server of the pipeline."""
    for name in ("jupyter", "redash-provision"):
        given = [
            s for s in SERVICES[name]["secrets"] if s.startswith(("database_url", "redis_url"))
        ]
        assert given == ["database_url_bi"]
        assert "stream" not in SERVICES[name]["networks"]
    assert {n for n, s in SERVICES.items() if "database_url_superuser" in s.get("secrets", ())} == {
        "migrate"
    }


def test_the_dashboards_come_by_themselves() -> None:
    """Once Redash has its key, by a part that knows no more; what it prints is where a browser finds it."""
    service = SERVICES["redash-dashboards"]
    assert service["secrets"] == ["redash_api_key"]
    assert service["networks"] == ["redash"]
    assert service["profiles"] == SERVICES["redash-server"]["profiles"]
    # It waits for a slow start: a condition that is not met in time would fail the whole `up`.
    assert service["command"][:4] == ["infamous", "redash", "apply", "--wait"]
    assert {name: one["condition"] for name, one in service["depends_on"].items()} == {
        "redash-provision": "service_completed_successfully",
        "redash-server": "service_started",
        "redash-worker": "service_started",
    }
    (published,) = SERVICES["redash-server"]["ports"]
    address, _, inner = published.rpartition(":")
    told = {
        "REDASH_URL": f"http://redash-server:{inner}",
        "REDASH_PUBLIC_URL": f"http://{address}",
        "REDASH_API_KEY_FILE": "/run/secrets/redash_api_key",
    }
    for name in ("redash-dashboards", "infamous"):
        assert told.items() <= SERVICES[name]["environment"].items()
        assert "redash_api_key" in SERVICES[name]["secrets"]
    assert "COPY redash_queries/" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "!redash_queries/" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def test_who_may_change_the_schema_is_named() -> None:
    """Besides the migration, the worker that drops old partitions and the command line; no one else."""
    given = {n for n, s in SERVICES.items() if "database_url_migrator" in s.get("secrets", ())}
    assert given == {"migrate", "worker", "infamous"}
    for name in ("worker", "infamous"):
        environment = SERVICES[name]["environment"]
        assert environment["DATABASE_URL_FILE"].endswith("database_url_jobs")
        assert environment["MIGRATOR_DATABASE_URL_FILE"].endswith("database_url_migrator")
    logins = [word for word in SERVICES["migrate"]["command"] if word.startswith("--login")]
    assert {word.rpartition("/")[2] for word in logins} == {
        f"database_url_{role}" for role in ("writer", "jobs", "bi", "migrator")
    }


def test_who_reaches_the_stream_is_told_how_it_is_divided() -> None:
    """One that was not told would write into, or wait for, another number of streams than the others."""
    reach = {
        name
        for name, service in SERVICES.items()
        if "redis_url_" in str(service.get("environment", {}).get("REDIS_URL_FILE"))
    }
    assert reach == {"producer", "consumer", "worker", "infamous"}
    for name in reach:
        told = SERVICES[name]["environment"]
        assert told["STREAM_PARTITIONS"] == "${STREAM_PARTITIONS:-1}"
        assert told["REDIS_REPLICAS"] == "${REDIS_REPLICAS:-0}"


def test_the_archive_is_kept_in_a_volume() -> None:
    """The worker writes it and the command line reads it: both find it in the same place, and nobody else."""
    mounted = {n for n, s in SERVICES.items() if "archive:/archive" in s.get("volumes", ())}
    assert mounted == {"worker", "infamous"}
    assert {SERVICES[name]["environment"]["ARCHIVE_URL"] for name in mounted} == {"/archive"}
    assert "archive" in FILE["volumes"]
    made = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "install -d -o infamous -g infamous /archive" in made


def test_reports_are_made_by_one_and_shown_by_another() -> None:
    """What runs notebooks at night reads the database and its own queue, and what shows them cannot write."""
    mounted = {
        name: [volume for volume in service.get("volumes", ()) if volume.startswith("reports:")]
        for name, service in SERVICES.items()
    }
    assert {name: volumes for name, volumes in mounted.items() if volumes} == {
        "reporter": ["reports:/reports"],
        "jupyter": ["reports:/home/infamous/reports:ro"],
    }
    reporter = SERVICES["reporter"]
    assert reporter["environment"]["REPORT_DIR"] == "/reports"
    assert set(reporter["secrets"]) == {"database_url_bi", "rq_redis_url"}
    assert reporter["image"] == SERVICES["jupyter"]["image"]
    made = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert (
        "install -d -o infamous -g infamous /home/infamous/work /home/infamous/reports /reports"
        in made
    )


def test_no_password_stands_in_the_file() -> None:
    """Values come from secrets; a setting that holds one names a file."""
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|_URL|_KEY", key):
                is_address = key in ADDRESSES and "@" not in value
                assert key.endswith("_FILE") or is_address, (name, key)
    assert not re.search(r"://\w+:\w+@", TEXT)


def test_scaled_services_have_nothing_that_is_one() -> None:
    """No container's name and no port of the host."""
    assert not any("container_name" in service for service in SERVICES.values())
    assert "ports" not in SERVICES["consumer"]


def test_the_older_compose_can_read_it() -> None:
    """docker-compose 1.29 rejects these, or takes them for something else without a word."""
    assert "name" not in FILE
    assert "include" not in FILE
    assert "start_interval" not in TEXT
    assert "!reset" not in TEXT
    assert not re.search(r"\$\{[^}]*\$\{", TEXT), "a variable inside a variable"
    for service in SERVICES.values():
        assert not {"develop", "attach", "annotations", "post_start"} & service.keys()
        for dependency in service.get("depends_on", {}).values():
            assert dependency.keys() == {"condition"}


def test_consumers_end_before_what_they_use() -> None:
    """docker-compose 1.29 stops along the services that still run: the servers are named by each."""
    for name in ("consumer", "worker"):
        assert {"redis", "postgres", "migrate"} <= SERVICES[name]["depends_on"].keys()


def test_a_loop_has_time_to_end() -> None:
    """The engine waits longer for a part than the part itself does, which is eight seconds."""
    for name in ("producer", "consumer", "scheduler"):
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > 10


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the script, as in a clone; its name has a space."""
    folder = tmp_path / "a clone"
    (folder / "docker").mkdir(parents=True)
    shutil.copy(ROOT / "docker" / "secrets.sh", folder / "docker")
    return folder


def make_secrets(clone: Path) -> str:
    """What `make secrets` runs; returns what it says."""
    done = subprocess.run(
        ["sh", "docker/secrets.sh"], cwd=clone, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_every_secret_is_made(clone: Path) -> None:
    """Those that the file names, and no more; only their user gets at them, inside a container anybody."""
    assert "Next: docker compose up -d" in make_secrets(clone)
    folder = clone / "secrets"
    assert {path.name for path in folder.iterdir()} == FILE["secrets"].keys()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}
    assert (clone / ".env").read_text() == "INFAMOUS_SECRETS=./secrets\n"
    values = [path.read_text() for path in folder.iterdir()]
    assert len(set(values)) == len(values)
    assert all(re.search("[0-9a-f]{40}", value) for value in values)


def test_secrets_that_are_there_stay(clone: Path) -> None:
    """A second time nothing changes; one that was removed is made anew; settings in .env are kept."""
    (clone / ".env").write_text("RATE=5")
    make_secrets(clone)
    before = {path.name: path.read_text() for path in (clone / "secrets").iterdir()}
    assert "nothing was changed" in make_secrets(clone)
    (clone / "secrets" / "jupyter_token").unlink()
    assert "Secrets made: 1" in make_secrets(clone)
    after = {path.name: path.read_text() for path in (clone / "secrets").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"jupyter_token"}
    assert (clone / ".env").read_text() == "RATE=5\nINFAMOUS_SECRETS=./secrets\n"


def test_the_urls_are_of_who_they_say(clone: Path) -> None:
    """Each URL names the user of its secret's name, and the service it is for."""
    make_secrets(clone)
    found = {
        path.name: re.sub(":[0-9a-f]{48}@", "@", path.read_text().strip())
        for path in (clone / "secrets").iterdir()
        if "url" in path.name
    }
    assert found == {
        "database_url_superuser": "postgresql://postgres@postgres:5432/infamous",
        "database_url_writer": "postgresql://infamous_writer@postgres:5432/infamous",
        "database_url_jobs": "postgresql://infamous_jobs@postgres:5432/infamous",
        "database_url_bi": "postgresql://infamous_bi@postgres:5432/infamous",
        "database_url_migrator": "postgresql://infamous_migrator@postgres:5432/infamous",
        "redis_url_producer": "redis://producer@redis:6379/0",
        "redis_url_consumer": "redis://consumer@redis:6379/0",
        "redis_url_operator": "redis://operator@redis:6379/0",
        "rq_redis_url": "redis://rq@redis-jobs:6379/0",
        "redash_database_url": "postgresql://postgres@redash-postgres:5432/redash",
        "redash_redis_url": "redis://redash@redash-redis:6379/0",
    }
