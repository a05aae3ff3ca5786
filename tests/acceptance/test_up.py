"""``infamous up`` as a user runs it: started, interrupted, killed, and started again."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from infamous.embedded import locks
from tests.acceptance.processes import (
    Launcher,
    Process,
    assert_nothing_left,
    assert_whole,
    facts_in,
    ordinary_user,
    processes_of,
    wait_until,
)

LAST_LINE = re.compile(
    r"Stopped\. Sent ([\d,]+) events in this run, ([\d,]+) ever; ([\d,]+) rows stored,"
    r" ([\d,]+) quarantined, (.*)\.$"
)


def last_line(out: str) -> tuple[int, int, int, int, str]:
    """What the run says it did: sent in the run, sent ever, rows, quarantined, what waits."""
    lines = out.strip().splitlines()
    match = LAST_LINE.match(lines[-1]) if lines else None
    assert match, out
    sent, ever, rows, quarantined = (int(match[n].replace(",", "")) for n in (1, 2, 3, 4))
    return sent, ever, rows, quarantined, match[5]


def environment_of(home: Path) -> dict[str, str]:
    """No server is named: everything runs in the data folder."""
    return {"INFAMOUS_HOME": str(home)}


def is_live(process: Process) -> bool:
    """Whether the run is past its history and has stored at least one live event."""
    assert process.lives, process.shown()
    lines = [line for line in process.out().splitlines() if line.startswith("in ")]
    return len(lines) > 0


def test_up_plays_history_then_live_and_leaves_nothing(launch: Launcher, home: Path) -> None:
    """The main job: one command from nothing to rows, honest in its numbers, twice in a row."""
    environment = environment_of(home)
    first = launch.run(
        *("infamous", "up", "--for", "3s", "--history", "2d", "--players", "20"),
        environment=environment,
    )
    assert first.code == 0, first.text
    assert "\x1b" not in first.out, "escape codes although there is no terminal"
    assert "Traceback" not in first.err
    sent, ever, rows, quarantined, waits = last_line(first.out)
    assert sent == ever == rows > 1000
    assert (quarantined, waits) == (0, "nothing waits")
    assert_nothing_left(home)

    told = launch.run("infamous", "status", "--json", environment=environment)
    assert told.code == 0, told.text
    status = json.loads(told.out)
    assert (status["undelivered"], status["pending"], status["consumers"]) == (0, 0, {})
    assert (status["rows"], status["produced"]) == (rows, ever)
    assert 0 < status["entries"] < ever  # those of the history share some
    assert status["quarantined"] == {"total": 0, "by_reason": {}}
    audited = launch.run("infamous", "audit", environment=environment)
    assert (audited.code, f"audit passed: {rows:,} rows" in audited.out) == (0, True), audited.text
    assert_nothing_left(home)
    coles_seq = facts_in(home).coles_last_seq

    # Long enough for a producer that starts beside five other processes.
    second = launch.run("infamous", "up", "--for", "5s", "--history", "0", environment=environment)
    assert second.code == 0, second.text
    assert "Playing" not in second.out, "a second history"
    sent_again, ever_again, rows_again, _, _ = last_line(second.out)
    assert 1 <= sent_again <= 7
    assert (ever_again, rows_again) == (ever + sent_again, rows + sent_again)
    facts = facts_in(home)
    assert_whole(facts)
    assert facts.rows == rows_again
    assert facts.coles_last_seq == coles_seq + sent_again
    assert_nothing_left(home)


@pytest.mark.parametrize(
    ("in_history", "in_live"),
    [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)],
    ids=["ctrl-c first", "sigterm first"],
)
def test_a_stop_in_history_and_a_stop_in_live_play(
    launch: Launcher, ready_home: Path, in_history: signal.Signals, in_live: signal.Signals
) -> None:
    """A stop drains within 10 s wherever it comes, and the next start finishes what was begun."""
    home = ready_home
    arguments = ("infamous", "up", "--history", "25d", "--players", "60", "--rate", "50")
    first = launch.start(*arguments, environment=environment_of(home))
    wait_until(lambda: "events sent" in first.out(), "the history has begun")
    stopped = first.end(in_history, within_s=10)
    assert stopped.code == 0, stopped.text
    assert "Live on" not in stopped.out, "the stop came too late to be one in the history"
    assert "100%" not in stopped.out, "the stop came too late to be one in the history"
    sent, ever, rows, _, waits = last_line(stopped.out)
    assert sent == ever > 0
    assert waits == "nothing waits"
    assert rows == ever
    assert_nothing_left(home)

    second = launch.start(*arguments, environment=environment_of(home))
    wait_until(lambda: is_live(second), "the second run is live", 40)
    produced_before = int(last_rows(second.out()))
    assert produced_before > ever, "the rest of the history was not played"
    stopped = second.end(in_live, within_s=10)
    assert stopped.code == 0, stopped.text
    assert_nothing_left(home)
    facts = facts_in(home)
    assert_whole(facts)
    assert facts.rows == last_line(stopped.out)[2]


def last_rows(out: str) -> str:
    """The rows that the latest line of the live play tells."""
    found = re.findall(r"^in .* rows ([\d,]+)", out, re.MULTILINE)
    assert found, out
    return str(found[-1]).replace(",", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_stop_while_the_servers_start_ends_in_order(
    launch: Launcher, home: Path, number: signal.Signals
) -> None:
    """Whoever changes their mind in the first second gets the same clean end as later."""
    process = launch.start("infamous", "up", "--history", "0", environment=environment_of(home))
    wait_until(lambda: bool(processes_of(home, "infamous.embedded.keeper")), "the keeper runs")
    stopped = process.end(number, within_s=10)
    assert "Traceback" not in stopped.err, stopped.text
    assert_nothing_left(home, within_s=10)
    assert stopped.code == 0, stopped.text


def test_a_killed_launcher_takes_everything_along(launch: Launcher, ready_home: Path) -> None:
    """A second ``up`` is refused; kill -9 of the first leaves no process behind and loses nothing."""
    home = ready_home
    arguments = ("infamous", "up", "--history", "0", "--rate", "200", "--players", "20")
    process = launch.start(*arguments, environment=environment_of(home))
    wait_until(lambda: is_live(process), "it is live")
    kinds = (
        *("-m producer", "-m consumer", "-m jobs schedule", "-m jobs work --no-fork"),
        *("-m jobs work --no-fork --reports", "infamous.embedded.keeper", "postgres", "server"),
    )
    log = home / "log" / "worker.log"
    wait_until(lambda: "job=roll_up" in log.read_text(encoding="utf-8"), "a rollup to be made")
    assert all(processes_of(home, kind) for kind in kinds), described_kinds(home, kinds)
    second = launch.run("infamous", "up", "--history", "0", environment=environment_of(home))
    assert second.code == 1, second.text
    assert "is up already" in second.err
    assert len(second.err.strip().splitlines()) == 1, second.err
    assert not locks.is_free(home / "up.lock")
    assert process.lives

    process.kill()
    assert_nothing_left(home, within_s=15)
    again = launch.run(*arguments, "--for", "1s", environment=environment_of(home))
    assert again.code == 0, again.text
    assert last_line(again.out)[4] == "nothing waits"
    assert_whole(facts_in(home))


def described_kinds(home: Path, kinds: tuple[str, ...]) -> dict[str, list[int]]:
    """Which processes of a run there are."""
    return {kind: processes_of(home, kind) for kind in kinds}


def test_children_killed_under_up_are_started_again(launch: Launcher, ready_home: Path) -> None:
    """``up`` starts a killed producer or consumer again, and no event is lost or stored twice."""
    home = ready_home
    process = launch.start(
        *("infamous", "up", "--history", "0", "--rate", "300", "--players", "20"),
        environment=environment_of(home) | {"CLAIM_AFTER_S": "1"},
    )
    wait_until(lambda: is_live(process), "it is live")
    for victims in (["-m producer"], ["-m consumer"], ["-m producer", "-m consumer"]) * 2:
        before = {kind: processes_of(home, kind) for kind in ("-m producer", "-m consumer")}
        killed = [before[kind][0] for kind in victims]
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_restored(home, before, killed), "the killed are replaced", 10)  # noqa: B023
    stopped = process.end(within_s=12)
    assert stopped.code == 0, stopped.text
    assert last_line(stopped.out)[4] == "nothing waits"
    assert_nothing_left(home)
    assert_whole(facts_in(home))


def is_restored(home: Path, before: dict[str, list[int]], killed: list[int]) -> bool:
    """Whether as many of each kind run as before, without the killed."""
    return all(
        len(now := processes_of(home, kind)) == len(pids) and not set(now) & set(killed)
        for kind, pids in before.items()
    )


def test_a_child_that_cannot_live_ends_the_run_with_its_reason(
    launch: Launcher, ready_home: Path
) -> None:
    """A producer that dies at every start is given up: exit 1, its last word told, nothing left."""
    home = ready_home
    process = launch.start("infamous", "up", "--history", "0", environment=environment_of(home))
    wait_until(lambda: is_live(process), "it is live")
    deadline = time.monotonic() + 60
    killed: set[int] = set()
    while process.lives:
        assert time.monotonic() < deadline, process.shown()
        for pid in set(processes_of(home, "-m producer")) - killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        time.sleep(0.05)
    ended = process.wait(1)
    assert ended.code == 1, ended.text
    assert "The producer died" in ended.err
    assert "Traceback" not in ended.err
    assert_nothing_left(home)


def test_an_ordinary_user_gets_the_same(launch: Launcher, home: Path) -> None:
    """Nothing of the main job needs root, and root's folder layout is none of an ordinary user's."""
    ran = launch.start(
        *("infamous", "up", "--for", "1s", "--history", "0"),
        environment=environment_of(home),
        through=ordinary_user(),
    ).wait(30)
    assert ran.code == 0, ran.text
    assert last_line(ran.out)[4] == "nothing waits"
    assert_nothing_left(home)
    assert (home.stat().st_mode & 0o777) == 0o700


def test_a_reader_that_leaves_ends_the_run_in_order(launch: Launcher, ready_home: Path) -> None:
    """``infamous up | head -1``: when nobody reads the lines any more, nothing is left behind."""
    home = ready_home
    reading, writing = os.pipe()
    process = launch.start(
        *("infamous", "up", "--history", "0", "--rate", "50"),
        environment=environment_of(home),
        stdout=writing,
    )
    os.close(writing)
    with open(reading, encoding="utf-8") as lines:  # noqa: PTH123  # a descriptor, not a path
        assert lines.readline()
    ended = process.wait(25)
    assert "Traceback" not in ended.err, ended.text
    assert_nothing_left(home)
    assert_whole(facts_in(home))
