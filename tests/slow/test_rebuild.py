"""Someone's bad day: the table is emptied, and the archive brings all of it back while live events flow.

``INFAMOUS_REBUILD_EVENTS`` says how many events; with ``-s`` it is told how long each part took.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import psycopg2
from msgspec.structs import replace
from sqlalchemy import text

from pipeline.entry import packed_up
from pipeline.event import Event, datetime_of, encode
from pipeline.settings import libpq_url
from producer.simulate import population, step
from tests.acceptance.processes import Launcher, Process, wait_until
from tests.conftest import World
from tests.integration.consuming import now_ms

EVENTS: Final = int(os.environ.get("INFAMOUS_REBUILD_EVENTS", "6000"))
PLAYERS: Final = 200
DAY_MS: Final = 86_400_000
# However slow the machine is, it stores so many a second.
WITHIN_S: Final = 60 + EVENTS / 1000
ROWS: Final = """
copy (
    select id, ts, player, action, xp_delta, karma_delta, karma_total, rank, energy_source, seq, details
    from game_events where ts < '{}' order by ts, id
) to stdout
"""


class Digest:
    """A file that keeps nothing but what its content hashes to, and how many lines it had."""

    def __init__(self) -> None:
        self.sha256, self.lines = hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        """More of it."""
        self.sha256.update(data)
        self.lines += data.count(b"\n")


def content(world: World, before: datetime) -> tuple[str, int]:
    """A hash over the ordered rows of events that happened before a moment, and how many there are."""
    digest = Digest()
    with (
        closing(psycopg2.connect(libpq_url(world.database_url))) as connection,
        connection.cursor() as cursor,
    ):
        cursor.copy_expert(ROWS.format(before.isoformat()), digest)
    return digest.sha256.hexdigest(), digest.lines


def arrays(start_ms: int, end_ms: int) -> Iterator[list[tuple[Any, bytes]]]:
    """So many events of healthy players between two moments, some thousand at once."""
    cast = population(11, PLAYERS, start_ms, 0)

    def event(number: int) -> Event:
        done = step(cast[number % PLAYERS], start_ms + (end_ms - start_ms) * number // EVENTS)
        # The live producer has players of the same names, each with a chain of its own.
        return replace(done, player=f"old {done.player}")

    payloads = (encode(event(number)) for number in range(EVENTS))
    while page := list(islice(payloads, 5000)):
        yield packed_up(page, 100)


def settled(world: World) -> None:
    """Wait until all that is on the stream at this moment is stored; live events may come."""
    now = world.source.state().at_ms
    wait_until(
        lambda: world.source.state(exact=False).complete_to_ms > now, "it is stored", WITHIN_S
    )


def test_an_emptied_table_is_rebuilt_from_the_archive(
    world: World, launch: Launcher, tmp_path: Path
) -> None:
    """Emptied and rebuilt, twice, beside live events: the same rows to the byte, and not one more; who is
    forgotten then stays so, and the rollups are a recount.
    """
    environment = world.environment | {"ARCHIVE_URL": str(tmp_path / "archive")}
    took: dict[str, float] = {}

    def run(*arguments: str) -> dict[str, Any]:
        done = launch.run("infamous", *arguments, environment=environment, within_s=WITHIN_S)
        assert done.code == 0, done.text
        answer: dict[str, Any] = json.loads(done.out)
        return answer

    def timed(name: str, *arguments: str) -> dict[str, Any]:
        began_s = time.monotonic()
        answer = run(*arguments)
        took[name] = time.monotonic() - began_s
        return answer

    world.source.ensure_group()
    consumers: list[Process] = []
    for _ in range(2):
        consumers.append(launch.fork("consumer", environment=environment))
        wait_until(lambda: "Consuming" in consumers[-1].err(), "it consumes")
    start_ms, end_ms = now_ms() - 3 * DAY_MS, now_ms() - DAY_MS
    pages = list(arrays(start_ms, end_ms))
    began_s = time.monotonic()
    for page in pages:
        world.source.append_entries(page)
    settled(world)
    took["live"] = time.monotonic() - began_s
    before = datetime_of(end_ms)
    original = content(world, before)
    assert original[1] == EVENTS

    archived = timed("archive", "archive", "run", "--json")
    assert (archived["events"], archived["refused"]) == (EVENTS, 0)
    # Redis keeps nothing of it.
    world.client.xtrim(world.source.key, maxlen=0, approximate=False)

    producer = launch.fork("producer", "--rate", "100", "--players", "20", environment=environment)
    wait_until(lambda: world.count("game_events") > EVENTS, "live events are stored")
    span = ("--from", datetime_of(start_ms).isoformat(), "--to", before.isoformat())
    for number in (1, 2):
        with world.engine.begin() as connection:
            connection.execute(text("truncate game_events"))
        began_s = time.monotonic()
        done = run("replay", *span, "--source", "archive", "--json")
        assert (done["events"], done["too_old"], done["is_complete"]) == (EVENTS, 0, True)
        settled(world)
        took[f"replay_{number}"] = time.monotonic() - began_s
        assert content(world, before) == original
    assert producer.lives
    again = timed("replay_over", "replay", *span, "--source", "archive", "--json")
    assert again["events"] == EVENTS
    settled(world)
    assert content(world, before) == original

    # The live events that were lost with the table come back the same way: now every chain is whole.
    ended = producer.end()
    assert ended.code == 0, ended.text
    # What was not archived yet is archived first, each event once however often it was replayed.
    run("replay", "--from", before.isoformat(), "--source", "archive", "--json")
    settled(world)
    assert content(world, before) == original
    assert run("archive", "list", "--json")["events"] == world.count("game_events") > EVENTS
    assert run("archive", "run", "--json")["events"] == 0
    assert world.count("quarantined_events") == 0
    assert run("audit", "--json")["passed"]
    assert run("archive", "verify", "--json")["faults"] == []
    gone, is_theirs = "old Cole MacGrath", "player = 'old Cole MacGrath'"
    theirs = world.count(f"game_events where {is_theirs}")
    assert run("forget", gone, "--json")["removed"]["events"] == theirs > 0
    for source in ("stream", "archive", "quarantine"):
        run("replay", "--from", "90d", "--source", source, "--json")
    settled(world)
    assert world.count(f"game_events where {is_theirs}") == 0
    # After all of it, every rollup is what a recount gives.
    run("rollup", "--json")
    with world.engine.begin() as connection:  # what changed within minutes is not compared
        connection.execute(text("truncate touched_hours"))
    checked = run("rollup", "--check", "--dry-run", "--json")
    assert checked["hours"] > 24
    assert not checked["wrong"]
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    rates = {name: round(EVENTS / seconds) for name, seconds in took.items()}
    sys.stderr.write(f"\n{EVENTS:,} events, a second: {rates}; {size:,} bytes of Parquet\n")
