"""``python -m bench``: it measures on servers of its own, writes down what it found, and leaves nothing."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict
from pathlib import Path

from bench.__main__ import SECTIONS
from infamous.constants import MEASURED
from tests.acceptance.processes import (
    Launcher,
    assert_nothing_left,
    processes_of,
    wait_until,
)

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--quick", "--only", "hot path", "--rounds", "1", "--events", "500")


def environment_of(home: Path) -> dict[str, str]:
    """Temporary files go beside the folder; what the user set for another pipeline would break it."""
    home.parent.mkdir(exist_ok=True)
    return {
        "TMPDIR": str(home.parent),
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "BATCH_ROWS": "no number",
    }


def assert_clean(home: Path) -> None:
    """No process is left, and no file either."""
    assert_nothing_left(home.parent, 5)
    assert list(home.parent.iterdir()) == []


def test_the_hot_path_is_measured_and_written_down(
    launch: Launcher, home: Path, tmp_path: Path
) -> None:
    """One command from nothing: exit 0, every case in the table and in the JSON, a picture, no rest."""
    results = tmp_path / "results"
    ran = launch.run(
        *("bench", *TINY, "--results", str(results)),
        environment=environment_of(home),
        within_s=90,
    )
    assert ran.code == 0, ran.text
    told = json.loads((results / "latest.json").read_text(encoding="utf-8"))
    names = [case["name"] for case in told["cases"]]
    assert names == [
        "raw COPY",
        "one consumer",
        "two consumers",
        "one consumer, 100 events an entry",
        "two consumers, 100 events an entry",
        "every row there already",
        "1 % refused",
    ]
    assert all(value > 0 for case in told["cases"] for value in case["values"])
    assert all(name in ran.out for name in names)
    assert told["machine"]["postgres"].startswith("Postgres ")
    assert {path.name for path in results.iterdir()} == {"latest.json", "latest.png", "latest.svg"}
    assert "\x1b" not in ran.out, "escape codes although there is no terminal"
    assert_clean(home)


def test_the_constants_of_the_plan_are_measured(launch: Launcher, home: Path) -> None:
    """Anyone can look whether they hold here: each has a value, beside the one in the code; no rest."""
    ran = launch.run(
        *("bench.constants", "--events", "1000", "--json"),
        environment=environment_of(home),
        within_s=90,
    )
    assert ran.code == 0, ran.text
    told = json.loads(ran.out)
    assert told["in_the_code"] == asdict(MEASURED)
    assert told["here"].keys() == told["in_the_code"].keys()
    assert all(value > 0 for value in told["here"].values())
    assert_clean(home)


def test_every_other_section_works(launch: Launcher, home: Path, tmp_path: Path) -> None:
    """What is measured seldom would break unseen: each case of each section has a value."""
    sections = ("latency", "cost", "producing", "reads", "where the time goes")
    ran = launch.run(
        *("bench", "--quick", "--rounds", "1", "--events", "500", "--only", ",".join(sections)),
        *("--results", str(tmp_path / "results")),
        environment=environment_of(home),
        within_s=120,
    )
    assert ran.code == 0, ran.text
    told = json.loads((tmp_path / "results" / "latest.json").read_text(encoding="utf-8"))
    assert tuple(dict.fromkeys(case["section"] for case in told["cases"])) == sections
    # CPU is counted in hundredths of a second: so little work may take none.
    assert all(case["median"] > 0 or "CPU" in case["name"] for case in told["cases"])
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"latest.json"}
    assert_clean(home)


def test_ctrl_c_leaves_no_process_and_no_file(launch: Launcher, home: Path, tmp_path: Path) -> None:
    """Interrupted while consumers run: one sentence, exit 1, and everything it started is gone."""
    results = tmp_path / "results"
    ran = launch.start(
        *("bench", *TINY[:-2], "--rounds", "100", "--events", "500", "--results", str(results)),
        environment=environment_of(home),
    )
    wait_until(lambda: bool(processes_of(home.parent, "-m consumer")), "a consumer runs", 60)
    ended = ran.end(signal.SIGINT, within_s=40)
    assert ended.code == 1, ended.text
    assert ended.err.splitlines()[-1] == "Interrupted: nothing was written."
    assert "Traceback" not in ended.err
    assert not results.exists()
    assert_clean(home)


def test_an_unknown_section_is_told_before_anything_starts(launch: Launcher, home: Path) -> None:
    """A mistyped name costs exit 2 and names what there is."""
    ran = launch.run("bench", "--only", "hot bath", environment=environment_of(home))
    assert ran.code == 2, ran.text
    for section in ("hot bath", *SECTIONS):
        assert section in ran.err.replace("\n", " ")
    assert_clean(home)
