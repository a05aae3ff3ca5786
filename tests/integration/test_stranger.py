"""A sender that is not ours, as a process of its own: what it was told Redis has is stored or refused."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from infamous.audit import audit
from infamous.prove.poison import REFUSED_BY_DATABASE
from pipeline.event import Reason
from producer.journal import STORED, Ack, Try, read
from tests.conftest import World
from tests.integration.consuming import is_drained, until, working

REFUSE = (
    "alter table game_events add constraint refused_on_purpose"
    f" check (player not like '{REFUSED_BY_DATABASE}%')"
)


@contextmanager
def stranger(world: World, journal: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The process, ended with the block; it must have ended well by then, with nothing to complain of."""
    process = subprocess.Popen(
        [
            sys.executable, "-m", "infamous.prove.stranger", "--redis-url", world.redis_url,
            "--journal", str(journal), *arguments,
        ],
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=15)
        assert process.returncode == 0, said
        assert "Traceback" not in said
    finally:
        process.kill()
        process.communicate()


def of_journal(journal: Path) -> tuple[dict[bytes, str], dict[bytes, str]]:
    """What should become of each payload: of all that were tried, and of those acknowledged."""
    lines = list(read(journal))
    acknowledged = {line.token for line in lines if isinstance(line, Ack)}
    tries = [line for line in lines if isinstance(line, Try)]
    return (
        {line.payload: line.expected for line in tries},
        {line.payload: line.expected for line in tries if line.token in acknowledged},
    )


def ids(payloads: dict[bytes, str]) -> set[UUID]:
    """The ids of those that are events."""
    return {UUID(json.loads(raw)["id"]) for raw, to in payloads.items() if to == STORED}


def refused(payloads: dict[bytes, str]) -> dict[bytes, str]:
    """Hash and reason of those that are not."""
    return {hashlib.sha256(raw).digest(): to for raw, to in payloads.items() if to != STORED}


def assert_accounted(world: World, journal: Path) -> None:
    """Acknowledged events are rows, acknowledged poison is quarantined as was to be, and nothing else is."""
    tried, acknowledged = of_journal(journal)
    with world.engine.connect() as connection:
        rows = [row.id for row in connection.execute(text("select id from game_events"))]
        found = connection.execute(text("select sha256, reason from quarantined_events")).all()
    quarantined = {bytes(row.sha256): row.reason for row in found}
    assert len(rows) == len(set(rows))
    assert ids(acknowledged) <= set(rows) <= ids(tried)
    assert refused(acknowledged).items() <= quarantined.items() <= refused(tried).items()
    assert audit(world.engine).broken == []


def test_every_entry_is_stored_or_refused_as_it_was_meant(world: World, tmp_path: Path) -> None:
    """Good, bad and repeated entries in a mix: each is where it belongs, with every reason there is."""
    journal = tmp_path / "a.journal"
    with world.engine.begin() as connection:
        connection.execute(text(REFUSE))
    with working(world):
        with stranger(
            world, journal, "--seed", "3", "--rate", "3000", "--poison-share", "0.05"
        ) as process:
            until(lambda: process.poll() or len(world.payloads()) > 2500, "enough entries")
        until(lambda: is_drained(world), "the stream to drain")
    assert_accounted(world, journal)
    _, acknowledged = of_journal(journal)
    assert len(acknowledged) > 1000
    assert {*acknowledged.values()} == {STORED, *Reason}
    assert world.source.state().entries < len(world.payloads()) / 1.5  # and many came in arrays
    # This seed soon sends an earlier parcel again, which is noted once, and the same bad bytes often.
    noted = Counter(line.payload for line in read(journal) if isinstance(line, Try))
    assert len(world.payloads()) > noted.total()
    assert max(noted.values()) >= 5


@pytest.mark.parametrize("ends_in_the_outage", [False, True])
def test_it_sends_again_until_redis_takes_it(
    world: World, tmp_path: Path, ends_in_the_outage: bool
) -> None:
    """A full Redis is waited for, or left when asked to stop; what was not taken is not acknowledged."""
    journal = tmp_path / "a.journal"
    limit = str(world.client.config_get("maxmemory")["maxmemory"])
    try:
        with stranger(
            world, journal, "--seed", "1", "--rate", "2000", "--poison-share", "0"
        ) as process:
            until(lambda: process.poll() or len(world.payloads()) > 200, "the first entries")
            world.client.config_set("maxmemory", "1")
            assert process.stderr is not None
            assert "Redis is full" in process.stderr.readline()
            full_at = len(world.payloads())
            if not ends_in_the_outage:
                world.client.config_set("maxmemory", limit)
                until(lambda: process.poll() or len(world.payloads()) > full_at + 200, "the rest")
    finally:
        world.client.config_set("maxmemory", limit)
    tried, acknowledged = of_journal(journal)
    assert (len(tried) > len(acknowledged)) == ends_in_the_outage
    with working(world):
        until(lambda: is_drained(world), "the stream to drain")
    assert_accounted(world, journal)
    assert world.count("quarantined_events") == 0


def test_a_second_start_is_another_studio(world: World, tmp_path: Path) -> None:
    """The same seed again forks no chain: the players of each start are its own."""
    for name in ("a", "b"):
        before = len(world.payloads())
        with stranger(world, tmp_path / f"{name}.journal", "--seed", "1") as process:
            until(lambda: process.poll() or len(world.payloads()) > before + 60, "some entries")  # noqa: B023
    with working(world):
        until(lambda: is_drained(world), "the stream to drain")
    assert audit(world.engine).broken == []
    players = [
        {json.loads(raw)["player"] for raw, to in of_journal(path)[0].items() if to == STORED}
        for path in sorted(tmp_path.glob("*.journal"))
    ]
    assert len(players) == 2
    assert players[0].isdisjoint(players[1])


def test_a_journal_that_cannot_be_written_is_told(world: World, tmp_path: Path) -> None:
    """Nothing is sent that nobody notes: one sentence and exit 1."""
    ended = subprocess.run(
        [
            sys.executable, "-m", "infamous.prove.stranger", "--redis-url", world.redis_url,
            "--journal", str(tmp_path / "no" / "a.journal"), "--seed", "1",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )  # fmt: skip
    assert (ended.returncode, len(world.payloads())) == (1, 0)
    assert ended.stderr.count("\n") == 1
    assert "cannot be written" in ended.stderr
