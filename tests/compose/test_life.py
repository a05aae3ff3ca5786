"""A day in the life of a stack, in the order of the tests: made, used, scaled, ill-treated, taken down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.compose.stack import Stack, docker, inspect, until

RATE = "300"
SERVICES = {
    *("redis", "postgres", "redis-jobs"),
    *("producer", "consumer", "worker", "scheduler", "jupyter", "reporter"),
}


@pytest.fixture(scope="module", autouse=True)
def _running(stack: Stack) -> Iterator[None]:
    """Up from clean, after it was refused for want of secrets."""
    refused = stack.run("up", "-d", check=False)
    assert refused.returncode != 0
    assert "make secrets" in refused.stderr
    assert stack.make_secrets().startswith("Secrets made: ")
    assert "nothing was changed" in stack.make_secrets()
    stack.up("--build")
    yield
    stack.down()
    left = docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={stack.name}")
    assert left == ""


def healthy(stack: Stack) -> set[str]:
    """Services all of whose containers pass their checks."""
    found = inspect(stack.containers())
    by_service: dict[str, bool] = {}
    for container in found:
        service = container["Config"]["Labels"]["com.docker.compose.service"]
        passes = container["State"].get("Health", {}).get("Status") == "healthy"
        by_service[service] = by_service.get(service, True) and passes
    return {service for service, passes in by_service.items() if passes}


def consumers(stack: Stack, wanted: int) -> None:
    """Wait until the group has just so many names, all of living containers."""
    until(
        lambda: len(stack.status()["consumers"]) == wanted,
        f"the group to have {wanted} consumers",
        # A name is removed four times CLAIM_AFTER_S after it was last heard.
        at_most_s=180,
    )


def crash(container: str) -> None:
    """Kill everything in it that is not its init, from inside: the engine sees a program that died, and
    starts it again.
    """

    def restarts() -> int:
        return int(inspect([container])[0]["RestartCount"])

    before = restarts()
    # Who kills may be killed with the container before it can say that it is done.
    docker("exec", container, "sh", "-c", "kill -9 -1", check=False)
    until(lambda: restarts() > before, "the container to be started again")


def test_everything_comes_up_healthy(stack: Stack) -> None:
    """Each service passes a check of its own, and the migration is over."""
    until(lambda: healthy(stack) == SERVICES, f"{SERVICES} to be healthy, not {healthy(stack)}")


def test_the_file_is_sound_with_all_its_profiles(stack: Stack) -> None:
    """What is off here is read all the same: every service, with every secret it names."""
    profiles = [f"--profile={name}" for name in ("redash", "metrics", "tools")]
    found = json.loads(stack.run(*profiles, "config", "--format", "json").stdout)
    assert {*SERVICES, "redash-server", "redash-provision", "prometheus"} < found["services"].keys()


def test_one_event_a_second_arrives(stack: Stack) -> None:
    """Cole plays once a second by the events' own clock, and the rows are there seconds later."""
    until(lambda: int(stack.sql("select count(*) from game_events")) >= 12, "a dozen rows")
    span = "extract(epoch from max(ts) - min(ts))"
    rows, players, seconds = stack.sql(
        f"select count(*), count(distinct player), {span} from game_events"
    ).split("|")
    assert players == "1"
    assert int(rows) - 1 == pytest.approx(float(seconds), abs=1.5)


def test_jobs_are_done(stack: Stack) -> None:
    """The scheduler puts them on RQ's queue and the worker does them: there are rollups."""
    until(lambda: int(stack.sql("select count(*) from hourly_rollups")) > 0, "a rollup")
    assert "Job done" in stack.run("logs", "--no-log-prefix", "worker").stdout


def test_the_game_can_be_read_along(stack: Stack) -> None:
    """`logs producer` has a line an event, and as JSON where a setting says so."""
    lines = stack.run("logs", "--no-log-prefix", "producer").stdout.splitlines()
    assert sum("Cole MacGrath: " in line for line in lines) >= 10
    stack.up("producer", LOG_FORMAT="json")
    until(
        lambda: "Cole MacGrath" in stack.run("logs", "--no-log-prefix", "producer").stdout,
        "an event to be logged",
    )
    lines = stack.run("logs", "--no-log-prefix", "producer").stdout.splitlines()
    said = [json.loads(line[line.index("{") :]) for line in lines if line.strip("\x1b[2K\r ")]
    assert any("Cole MacGrath" in line["event"] for line in said)
    stack.up(LOG_FORMAT="console")


def test_consumers_scale_under_load(stack: Stack) -> None:
    """One, five, two: the work is shared, nothing is lost, and the names of those who left are removed."""
    stack.up("--scale", "consumer=1", RATE=RATE)
    stack.up("--scale", "consumer=5", "--no-recreate")
    consumers(stack, 5)
    names = stack.status()["consumers"]
    busy = (
        "select count(distinct process) from pipeline_health where stored > 0 and process in ({})"
    )
    until(
        lambda: stack.sql(busy.format(", ".join(f"'{name}'" for name in names))) == "5",
        "all five to have stored something",
    )
    stack.up("--scale", "consumer=2", "--no-recreate")
    consumers(stack, 2)
    stack.audited()


def test_a_killed_consumer_comes_back(stack: Stack) -> None:
    """kill -9 in the middle of the work: it is started again, and what it held is stored once."""
    victim = stack.containers("consumer")[0]
    crash(victim)
    until(
        lambda: inspect([victim])[0]["RestartCount"] >= 1 and healthy(stack) >= {"consumer"},
        "the consumer to be started again",
    )
    stack.audited()


@pytest.mark.parametrize("service", ["redis", "postgres", "redis-jobs"])
def test_a_server_restarts_under_load(stack: Stack, service: str) -> None:
    """Stopped in order and killed: everyone waits for it, and goes on where they were."""
    before = stack.status()["entries"]
    stack.run("restart", service)
    until(lambda: healthy(stack) >= {service}, f"{service} to be back")
    # What was on the stream is there again: a producer that lives would hide that it is not.
    assert stack.status()["entries"] >= before
    crash(stack.containers(service)[0])
    until(lambda: healthy(stack) == SERVICES, "everything to be healthy again")
    assert stack.status()["entries"] >= before
    stack.audited()


def test_an_upgrade_loses_nothing(stack: Stack) -> None:
    """`up` with everything made anew, servers too, while rows flow."""
    before = stack.status()["rows"]
    stack.up("--build", "--force-recreate", "--scale", "consumer=2")
    until(lambda: healthy(stack) == SERVICES, "everything to be healthy again")
    until(lambda: stack.status()["rows"] > before, "more rows")
    stack.audited()


def test_a_replay_changes_nothing(stack: Stack) -> None:
    """Everything once more through the same door: not one row more."""
    stack.run("stop", "producer")
    rows = stack.drained()["rows"]
    said = stack.infamous("replay", "--from", "1h").stdout
    assert "entries again" in said
    assert stack.drained()["rows"] == rows
    stack.run("start", "producer")


def test_down_and_up_again_keeps_everything(stack: Stack) -> None:
    """Containers and networks go, volumes stay: the game goes on where it was."""
    before = stack.audited()
    stack.run("down", "--timeout", "20")
    stack.up("--scale", "consumer=1", RATE="1")
    until(lambda: stack.status()["rows"] > before["rows"], "more rows")
    after = stack.audited()
    assert after["produced"] > before["produced"]


def test_years_of_data_can_be_looked_after(stack: Stack) -> None:
    """Archive, rebuild, compare, retention, rollups and erasure work for the users who do them here."""
    stack.run("stop", "producer")
    stack.drained()
    stack.infamous("archive", "run")
    assert not json.loads(stack.infamous("archive", "verify", "--json").stdout)["faults"]
    rows = stack.sql("select count(*) from game_events")
    stack.sql("truncate game_events")
    stack.infamous("replay", "--from", "30d", "--source", "archive")
    stack.drained()
    assert stack.sql("select count(*) from game_events") == rows
    today = datetime.now(UTC).date().isoformat()
    stack.infamous("replay", "--from", f"{today}T00:00:00Z", "--into", "shadow")
    stack.infamous("shadow", "swap")
    stack.infamous("shadow", "drop", "--before")
    assert json.loads(stack.infamous("retention", "--json").stdout)["partitions"] == []
    stack.infamous("rollup")
    stack.infamous("rollup", "--check")
    stack.infamous("quarantine", "list")
    stack.infamous("forget", "Cole MacGrath")
    assert stack.sql("select count(*) from game_events where player = 'Cole MacGrath'") == "0"
    stack.infamous("replay", "--from", "30d", "--source", "archive")
    stack.drained()
    assert stack.sql("select count(*) from game_events where player = 'Cole MacGrath'") == "0"
    stack.infamous("audit")
