"""Redash and Prometheus, where their images are at hand: what they are for, and what a lost key does."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from functools import partial
from http.cookiejar import CookieJar
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

import pytest

from tests.compose.stack import Stack, docker, free_port, inspect, until

# The service whose image a profile needs.
ONLOOKERS: Final = {"redash": "redash-server", "metrics": "prometheus"}
DASHBOARDS: Final = {"Economy", "Karma", "Live", "Pipeline", "Players", "Progression"}
# Of a stack whose entries are all good, and where no check of the rollups was made yet.
MAY_BE_EMPTY: Final = {"Quarantine by reason", "Rollup checks"}


@pytest.fixture(scope="module", autouse=True)
def missing(stack: Stack) -> dict[str, str]:
    """Up with the profiles whose images are here; those that are not, by profile."""
    services = json.loads(stack_config(stack, *ONLOOKERS))["services"]
    named = {profile: services[service]["image"] for profile, service in ONLOOKERS.items()}
    absent = {profile: image for profile, image in named.items() if not is_here(image)}
    if absent.keys() == named.keys():
        pytest.skip(f"there is no image {' and no image '.join(absent.values())} here: pull one")
    stack.up(
        "--build",
        COMPOSE_PROFILES=",".join(named.keys() - absent.keys()),
        REDASH_PORT=str(free_port()),
        PROMETHEUS_PORT=str(free_port()),
        HISTORY="7d",
    )
    until(lambda: stack.status()["rows"] > 3, "rows")
    return absent


@pytest.fixture
def _redash(missing: dict[str, str]) -> None:
    """For what needs Redash."""
    skip_without(missing, "redash")


@pytest.fixture
def _prometheus(missing: dict[str, str]) -> None:
    """For what needs Prometheus."""
    skip_without(missing, "metrics")


def skip_without(missing: dict[str, str], profile: str) -> None:
    """Skip where the image of a profile is not here."""
    if profile in missing:
        pytest.skip(f"there is no image {missing[profile]} here: pull it")


def is_here(image: str) -> bool:
    """Whether the engine has an image."""
    found = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False)
    return found.returncode == 0


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
    with urlopen(request, timeout=60) as reply:
        return json.load(reply)


def is_over(stack: Stack, one_shot: str) -> bool:
    """Whether a one-shot is over; it must have done what it is for."""
    (one,) = inspect(stack.run("ps", "-aq", one_shot).stdout.split())
    if one["State"]["Status"] != "exited":
        return False
    assert one["State"]["ExitCode"] == 0, stack.run("logs", one_shot).stdout
    return True


def wait_for_dashboards(stack: Stack) -> None:
    """Wait until their one-shot is over: it asks forty questions, which two busy cores take minutes for."""
    until(lambda: is_over(stack, "redash-dashboards"), "the dashboards", at_most_s=300)


def is_healthy(stack: Stack, service: str) -> bool:
    """Whether a service passes its check."""
    return all(
        one["State"]["Health"]["Status"] == "healthy" for one in inspect(stack.containers(service))
    )


def has_waited(stack: Stack) -> bool:
    """Whether the dashboards' one-shot is at it for longer than a lone request, tried again for a minute."""
    assert not is_over(stack, "redash-dashboards")
    (one,) = inspect(stack.containers("redash-dashboards"))
    started = datetime.fromisoformat(one["State"]["StartedAt"])
    return datetime.now(UTC) - started > timedelta(seconds=90)


def last_run(stack: Stack) -> list[str]:
    """What the dashboards' one-shot printed when it ran last, a line each."""
    (one,) = inspect(stack.run("ps", "-aq", "redash-dashboards").stdout.split())
    return docker("logs", "--since", one["State"]["StartedAt"], one["Id"]).splitlines()


def in_redash(stack: Stack, query: str) -> str:
    """What Redash's own database is asked: its API makes work for its worker, and lacks a key at first."""
    psql = ("psql", "-qtA", "-d", "redash", "-c", query)
    return stack.run("exec", "-T", "redash-postgres", *psql).stdout.strip()


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


@pytest.mark.usefixtures("_redash")
def test_dashboards_are_completed_by_the_next_up(stack: Stack) -> None:
    """Killed in the middle, they are all there after one more `up`, published and with data."""
    until(lambda: in_redash(stack, "select count(*) from queries") != "0", "a first query")
    docker("kill", *stack.containers("redash-dashboards"))
    assert int(in_redash(stack, "select count(*) from dashboards where not is_draft")) < 6
    stack.drained()
    stack.infamous("rollup")  # else what is shown first depends on whether the job was quicker
    stack.up()
    wait_for_dashboards(stack)
    pages = redash(stack, "/api/dashboards?page_size=100")["results"]
    assert {page["name"] for page in pages if not page["is_draft"]} == DASHBOARDS
    assert len(pages) == len(DASHBOARDS)
    queries = redash(stack, "/api/queries?page_size=250")["results"]
    assert len({query["name"] for query in queries}) == len(queries)
    empty = set()
    for query in queries:
        assert query["latest_query_data_id"] is not None, query["name"]
        result = redash(stack, f"/api/query_results/{query['latest_query_data_id']}")
        if not result["query_result"]["data"]["rows"]:
            empty.add(query["name"])
    assert empty <= MAY_BE_EMPTY


@pytest.mark.usefixtures("_redash")
def test_a_second_up_writes_no_dashboard(stack: Stack) -> None:
    """It says that all is there, where a browser finds it, and no secret; the command line says so too."""
    before = in_redash(stack, "select max(id), max(updated_at) from queries")
    stack.up()
    wait_for_dashboards(stack)
    said, *addresses = last_run(stack)
    assert said == "Redash had all that the files say."
    address = f"http://127.0.0.1:{port(stack, 'REDASH_PORT')}/dashboards/"
    assert all(line.startswith(address) for line in addresses)
    assert {line.split()[1] for line in addresses} == DASHBOARDS
    assert in_redash(stack, "select max(id), max(updated_at) from queries") == before
    assert stack.infamous("redash", "plan").stdout.strip() == "Redash has all that the files say."
    assert stack.secret("redash_api_key") not in stack.run("logs").stdout


@pytest.mark.usefixtures("_redash")
def test_a_slow_redash_is_waited_for(stack: Stack) -> None:
    """Where it does not answer yet, the dashboards' one-shot is not over, and it ends well."""
    wait_for_dashboards(stack)
    stack.run("stop", "redash-server")
    stack.run("up", "-d", "--no-deps", "redash-dashboards")
    until(lambda: has_waited(stack), "the dashboards to wait for Redash", at_most_s=180)
    stack.run("start", "redash-server")
    wait_for_dashboards(stack)
    assert last_run(stack)[0] == "Redash had all that the files say."


@pytest.mark.usefixtures("_redash")
def test_redash_reads_the_tables_as_the_reader(stack: Stack) -> None:
    """Provisioned without a browser: the key, the password, one source, and its user is infamous_bi."""
    assert is_over(stack, "redash-provision")
    assert "admin" in redash(stack, "/api/session")["user"]["permissions"]
    assert logged_in(stack)
    source = the_source(stack)
    assert redash(stack, f"/api/data_sources/{source}/test", {})["ok"]
    (row,) = answer(
        stack, source, "select current_user as who, count(*) as events from game_events"
    )
    assert row["who"] == "infamous_bi"
    assert row["events"] > 3


@pytest.mark.usefixtures("_redash")
def test_all_of_redash_passes_its_checks(stack: Stack) -> None:
    """Server, scheduler, worker and its servers."""
    names = (
        "redash-server",
        "redash-scheduler",
        "redash-worker",
        "redash-postgres",
        "redash-redis",
    )
    for name in names:
        until(partial(is_healthy, stack, name), f"{name} to be healthy")


@pytest.mark.usefixtures("_prometheus")
def test_prometheus_finds_every_part(stack: Stack) -> None:
    """It passes its check; each consumer and the producer is there, however many there are."""
    until(lambda: is_healthy(stack, "prometheus"), "prometheus to be healthy")
    stack.up("--scale", "consumer=3", "--no-recreate")
    address = f"http://127.0.0.1:{port(stack, 'PROMETHEUS_PORT')}/api/v1/targets"

    def up() -> int:
        with urlopen(address, timeout=20) as reply:
            targets = json.load(reply)["data"]["activeTargets"]
        return sum(target["health"] == "up" for target in targets)

    until(lambda: up() == 4, "four targets to be up")


@pytest.mark.usefixtures("_redash")
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
    wait_for_dashboards(stack)
    assert last_run(stack)[0] == "Redash had all that the files say."
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
