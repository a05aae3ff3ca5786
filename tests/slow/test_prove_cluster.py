"""``infamous prove --cluster``: green while masters die, and a loss of ours is never booked as Redis'."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.acceptance.processes import Launcher, assert_nothing_left
from tests.slow.test_prove import account_of, assert_clean, environment_of

CLUSTER = ("--cluster", "--partitions", "3", "--workers", "2", "--seed", "1")
LOSSES = re.compile(r"^lost by Redis ([\d,]+)  lost by us ([\d,]+)", re.MULTILINE)


def losses_of(out: str) -> tuple[int, int]:
    """What Redis lost, and what we did."""
    match = LOSSES.search(out)
    assert match, out
    return int(match[1].replace(",", "")), int(match[2].replace(",", ""))


def test_a_cluster_that_loses_masters_is_proven(launch: Launcher, home: Path) -> None:
    """A master and a worker die under events that a replica has: each is there once, and none is lost."""
    faults = "master_killed,worker_killed,poison"
    ran = launch.run(
        *("infamous", "prove", "--seconds", "8", *CLUSTER, "--rate", "600"),
        *("--replicas", "1", "--faults", faults),
        environment=environment_of(home),
        within_s=120,
    )
    assert ran.code == 0, ran.text
    (attempted, acknowledged, stored, quarantined, *wrong), chain = account_of(ran.out)
    assert attempted >= acknowledged > 1000
    assert stored + quarantined >= acknowledged
    assert (wrong, chain, losses_of(ran.out)) == ([0, 0, 0], "ok", (0, 0))
    assert "3 streams on a Redis Cluster  masters killed 1  failovers 1" in ran.out
    assert ran.out.splitlines()[-1] == "PROVEN"
    assert_clean(home)


def test_what_redis_loses_is_told_and_is_no_failure(launch: Launcher, home: Path) -> None:
    """A master dies with what its replica never got: so much is Redis' loss, none of it ours, and exit 0."""
    ran = launch.run(
        *("infamous", "prove", "--seconds", "8", *CLUSTER, "--rate", "600"),
        *("--faults", "replica_cut_off,poison"),
        environment=environment_of(home),
        within_s=120,
    )
    assert ran.code == 0, ran.text
    by_redis, by_us = losses_of(ran.out)
    assert by_redis > 0 == by_us, ran.text
    (_, acknowledged, stored, quarantined, *wrong), chain = account_of(ran.out)
    assert stored + quarantined >= acknowledged - by_redis
    assert (wrong, chain) == ([0, 0, 0], "ok")
    assert_clean(home)


def test_acknowledging_first_is_noticed_on_a_cluster(launch: Launcher, home: Path) -> None:
    """That masters die beside it hides no loss of ours: not one is booked as Redis'."""
    ran = launch.run(
        *("infamous", "prove", "--seconds", "9", *CLUSTER, "--control", "acknowledge-first"),
        *("--rate", "1500", "--replicas", "1", "--json"),
        environment=environment_of(home),
        within_s=120,
    )
    assert ran.code == 1, ran.text
    told = json.loads(ran.out)
    assert told["account"]["missing"] > 0 == told["account"]["lost_by_redis"]
    assert told["faults"]["master_killed"] > 0
    assert told["options"]["cluster"] == {"partitions": 3, "replicas": 1}
    assert_nothing_left(home.parent)
