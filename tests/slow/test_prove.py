"""``infamous prove``: green where the promise holds, red where it is broken on purpose, and never a mess."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

from tests.acceptance.processes import (
    Launcher,
    Process,
    assert_nothing_left,
    ordinary_user,
    processes_of,
    wait_until,
)

SMALL = ("--workers", "2", "--rate", "1500", "--seed", "1")
ACCOUNT = re.compile(
    r"^attempted ([\d,]+)  acknowledged ([\d,]+)  stored ([\d,]+)  quarantined ([\d,]+)"
    r"  missing ([\d,]+)  duplicated ([\d,]+)  unexpected ([\d,]+)  karma chain (ok|broken)"
    r"  (?:drained in \d+\.\d s|not drained)$",
    re.MULTILINE,
)


def account_of(out: str) -> tuple[list[int], str]:
    """The counts of the account and what it says of the chain."""
    match = ACCOUNT.search(out)
    assert match, out
    return [int(match[n].replace(",", "")) for n in range(1, 8)], match[8]


def environment_of(home: Path) -> dict[str, str]:
    """Temporary files go beside the folder, and the servers that are named would break everything."""
    return {
        "TMPDIR": str(home.parent),
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "FAILPOINT": "after_read",
    }


def assert_clean(home: Path, within_s: float = 0.0) -> None:
    """No process is left, and no file either."""
    assert_nothing_left(home.parent, within_s)
    assert list(home.parent.iterdir()) == []


def test_a_short_run_is_proven(launch: Launcher, home: Path) -> None:
    """Kills, lost replies and a restart at once: every event is there once, and nothing stays behind."""
    faults = "worker_killed,producer_killed,postgres_restarted,redis_replies_dropped,poison"
    ran = launch.run(
        *("infamous", "prove", "--seconds", "6", *SMALL, "--faults", faults),
        environment=environment_of(home),
        within_s=60,
    )
    assert ran.code == 0, ran.text
    (attempted, acknowledged, stored, quarantined, *wrong), chain = account_of(ran.out)
    assert attempted >= acknowledged > 2000
    # What was stored and never confirmed to its sender counts as well.
    assert stored + quarantined >= acknowledged
    assert (wrong, chain) == ([0, 0, 0], "ok")
    assert ran.out.splitlines()[-1] == "PROVEN"
    for kind in faults.split(","):
        assert re.search(rf"^{kind} +[1-9]", ran.out, re.MULTILINE), kind
    assert "\x1b" not in ran.out, "escape codes although there is no terminal"
    assert_clean(home)


def test_acknowledging_first_is_noticed(launch: Launcher, home: Path) -> None:
    """A consumer that acknowledges before it stores loses events at a kill: the run says how many."""
    ran = launch.run(
        *("infamous", "prove", "--seconds", "8", *SMALL, "--control", "acknowledge-first"),
        environment=environment_of(home),
        within_s=60,
    )
    assert ran.code == 1, ran.text
    (*_, missing, duplicated, unexpected), _ = account_of(ran.out)
    assert missing > 0, ran.text
    assert (duplicated, unexpected) == (0, 0)
    assert (
        "NOT PROVEN: run it again with infamous prove --seconds 8 --seed 1 --workers 2" in ran.out
    )
    folder = Path(ran.out.splitlines()[-1].removeprefix("Data, journals and logs are in ")[:-1])
    assert list(folder.glob("journals/*.journal")), "the evidence is gone"
    assert_nothing_left(home.parent)


def test_a_missing_unique_key_is_noticed(launch: Launcher, home: Path) -> None:
    """Without its primary key the table takes events twice: the run says how many, in JSON as well."""
    ran = launch.run(
        *("infamous", "prove", "--seconds", "8", *SMALL, "--control", "no-unique-key", "--json"),
        environment=environment_of(home),
        within_s=60,
    )
    assert ran.code == 1, ran.text
    told = json.loads(ran.out)
    assert (told["proven"], told["seed"]) == (False, 1)
    assert told["account"]["duplicated"] > 0
    assert told["account"]["missing"] == told["account"]["unexpected"] == 0
    assert any(problem.startswith("rows that repeat an event") for problem in told["problems"])
    assert sum(told["faults"].values()) == len(told["fault_log"]) > 0
    assert_nothing_left(home.parent)


def test_what_belongs_to_a_cluster_is_for_a_cluster(launch: Launcher, home: Path) -> None:
    """A word that would do nothing is refused, so that nobody takes a run for more than it was."""
    for words in (
        ("--replicas", "1"),
        ("--faults", "master_killed"),
        ("--cluster", "--soak"),
        ("--cluster", "--faults", "redis_killed"),
    ):
        ran = launch.run(
            "infamous", "prove", "--seconds", "5", *words,
            environment=environment_of(home),
            within_s=30,
        )  # fmt: skip
        assert ran.code == 2, ran.text
    assert_clean(home)


def start(launch: Launcher, home: Path, through: tuple[str, ...] = ()) -> Process:
    """A run that is under way: servers, senders and workers live."""
    process = launch.start(
        *("infamous", "prove", "--seconds", "60", *SMALL, "--faults", "worker_paused,poison"),
        environment=environment_of(home),
        through=through,
    )
    wait_until(lambda: "ill-treated" in process.out() or not process.lives, "it is under way", 30)
    assert process.lives, process.shown()
    for kind in ("-m consumer", "-m producer", "prove.stranger", "postgres", "server"):
        assert processes_of(home.parent, kind), kind
    return process


def test_ctrl_c_leaves_nothing(launch: Launcher, home: Path) -> None:
    """Whoever has seen enough gets the terminal back within seconds, with nothing left behind."""
    process = start(launch, home)
    stopped = process.end(signal.SIGINT, within_s=10)
    assert stopped.code == 1, stopped.text
    assert "nothing is proven" in stopped.err
    assert "Traceback" not in stopped.text
    assert_clean(home)


def test_nothing_outlives_a_killed_harness(launch: Launcher, home: Path) -> None:
    """kill -9 of the harness takes the servers and every process along, for an ordinary user too."""
    process = start(launch, home, ordinary_user())
    process.kill()
    assert_nothing_left(home.parent, within_s=15)
