"""Redash and Prometheus, where their images are at hand: what they are for, and what a lost key does."""

from __future__ import annotations

import json
import shutil
import subprocess
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

import pytest

from tests.compose.stack import Stack, docker, free_port, inspect, is_listening, until

PROFILES = "redash,metrics"


@pytest.fixture(scope="module", autouse=True)
def _running(stack: Stack) -> None:
    """Up with both profiles."""
    names = json.loads(
        stack_config(stack, "redash", "metrics"),
    )["services"]
    for service in ("redash-server", "prometheus"):
        image = names[service]["image"]
        if subprocess.run(
            ["docker", "image", "inspect", image], capture_output=True, check=False
        ).returncode:
            pytest.skip(f"there is no image {image} here: pull it")
    stack.up(
        "--build",
        COMPOSE_PROFILES=PROFILES,
        REDASH_PORT=str(free_port()),
        PROMETHEUS_PORT=str(free_port()),
    )
    until(lambda: stack.status()["rows"] > 3, "rows")
    until(lambda: is_listening("127.0.0.1", port(stack, "REDASH_PORT")), "Redash")


def stack_config(stack: Stack, *profiles: str) -> str:
    """The composed file, with its secrets made first."""
    stack.make_secrets()
    flags = [f"--profile={name}" for name in profiles]
    return stack.run(*flags, "config", "--format", "json").stdout


def port(stack: Stack, name: str) -> int:
    """Where something is published."""
    return int(stack.environment[name])


def redash(stack: Stack, path: str, body: dict[str, Any] | None = None) -> Any:
    """What Redash's API answers to the key of the secret."""
    request = Request(  # http, on loopback
        f"http://127.0.0.1:{port(stack, 'REDASH_PORT')}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Key {stack.secret('redash_api_key')}",
            "Content-Type": "application/json",
        },
    )
    with urlopen(request, timeout=60) as reply:  # noqa: S310
        return json.load(reply)


def is_provisioned(stack: Stack) -> bool:
    """Whether the one-shot is over; it must have done what it is for."""
    (one,) = inspect(stack.run("ps", "-aq", "redash-provision").stdout.split())
    if one["State"]["Status"] != "exited":
        return False
    assert one["State"]["ExitCode"] == 0, stack.run("logs", "redash-provision").stdout
    return True


def logged_in(stack: Stack) -> bool:
    """Whether the log-in page takes the password of the secret."""
    cookies = CookieJar()
    browser = build_opener(HTTPCookieProcessor(cookies))
    address = f"http://127.0.0.1:{port(stack, 'REDASH_PORT')}/login"
    browser.open(address, timeout=20)
    form = {
        "email": "admin@example.com",
        "password": stack.secret("redash_admin_password"),
        "csrf_token": next(c.value for c in cookies if c.name == "csrf_token"),
    }
    with browser.open(address, urlencode(form).encode(), timeout=20) as reply:
        return not str(reply.url).endswith("/login")


def answer(stack: Stack, source: int, query: str) -> list[dict[str, Any]]:
    """What a question is answered, run by Redash's worker."""
    asked = {"data_source_id": source, "query": query, "max_age": 0, "parameters": {}}
    job = redash(stack, "/api/query_results", asked)["job"]

    def is_done() -> bool:
        nonlocal job
        job = redash(stack, f"/api/jobs/{job['id']}")["job"]
        return job["status"] in (3, 4)

    until(is_done, "the question to be answered")
    assert job["status"] == 3, job["error"]
    result = redash(stack, f"/api/query_results/{job['query_result_id']}")
    rows: list[dict[str, Any]] = result["query_result"]["data"]["rows"]
    return rows


def the_source(stack: Stack) -> int:
    """The one data source there is."""
    (source,) = redash(stack, "/api/data_sources")
    assert source["name"] == "Infamous"
    return int(source["id"])


def test_redash_reads_the_tables_as_the_reader(stack: Stack) -> None:
    """Provisioned without a browser: the key, the password, one source, and its user is infamous_bi."""
    until(lambda: is_provisioned(stack), "Redash to be provisioned")
    assert "admin" in redash(stack, "/api/session")["user"]["permissions"]
    assert logged_in(stack)
    source = the_source(stack)
    assert redash(stack, f"/api/data_sources/{source}/test", {})["ok"]
    (row,) = answer(
        stack, source, "select current_user as who, count(*) as events from game_events"
    )
    assert row["who"] == "infamous_bi"
    assert row["events"] > 3


def test_all_of_it_passes_its_checks(stack: Stack) -> None:
    """Server, scheduler, worker, its servers, and Prometheus."""
    names = ("redash-server", "redash-scheduler", "redash-worker", "redash-postgres", "prometheus")
    for name in names:
        state = "{{.State.Health.Status}}"
        until(
            lambda name=name, state=state: (  # type: ignore[misc]
                docker("inspect", "-f", state, *stack.containers(name)).strip() == "healthy"
            ),
            f"{name} to be healthy",
        )


def test_prometheus_finds_every_part(stack: Stack) -> None:
    """Each consumer and the producer, however many there are."""
    stack.up("--scale", "consumer=3", "--no-recreate")
    address = f"http://127.0.0.1:{port(stack, 'PROMETHEUS_PORT')}/api/v1/targets"

    def up() -> int:
        with urlopen(address, timeout=20) as reply:
            targets = json.load(reply)["data"]["activeTargets"]
        return sum(target["health"] == "up" for target in targets)

    until(lambda: up() == 4, "four targets to be up")


def test_all_secrets_may_be_lost(stack: Stack) -> None:
    """With the volumes left, the README's lines bring it all back: rows, log-in, the source, queries."""
    before = stack.status()["rows"]
    source = the_source(stack)
    saved = redash(
        stack,
        "/api/queries",
        {
            "name": "mine",
            "query": "select 7 as x",
            "data_source_id": source,
            "schedule": None,
            "options": {},
        },
    )
    shutil.rmtree(stack.folder / "secrets")
    stack.make_secrets()
    for service, secret in (
        ("postgres", "postgres_password"),
        ("redash-postgres", "redash_postgres_password"),
    ):
        command = f"alter role postgres password '{stack.secret(secret)}'"
        stack.run("exec", "-T", service, "psql", "-c", command)
    stack.up("--force-recreate")
    until(lambda: is_provisioned(stack), "Redash to be provisioned")
    assert "admin" in redash(stack, "/api/session")["user"]["permissions"]
    assert logged_in(stack)
    assert the_source(stack) == source
    (row,) = answer(stack, source, "select count(*) as events from game_events")
    assert row["events"] >= before
    assert redash(stack, f"/api/queries/{saved['id']}")["data_source_id"] == source
    stack.audited()


def test_taking_it_down_leaves_nothing(stack: Stack) -> None:
    """With the profiles named, as the README has it: no container and no volume stays."""
    stack.down()
    mine = f"label=com.docker.compose.project={stack.name}"
    assert docker("ps", "-aq", "--filter", mine) == ""
    assert docker("volume", "ls", "-q", "--filter", mine) == ""
