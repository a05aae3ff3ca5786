"""The consumer's loop against real servers: rows appear, nothing stays owed, nothing is lost silently."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from consumer.batch import Limits
from pipeline.event import encode
from pipeline.patience import Stopped
from tests.conftest import World
from tests.integration.consuming import is_drained, now_ms, until, working
from tests.unit.samples import chains, payload


def good(events: int, seed: int = 1) -> list[bytes]:
    """Payloads of healthy events."""
    return [encode(event) for event in chains(events, seed=seed, start_ms=now_ms() - 60_000)]


def said(logs: list[Any], words: str) -> list[Any]:
    """The log lines that say so."""
    return [line for line in logs if words in line["event"]]


def test_what_is_on_the_stream_becomes_rows(world: World) -> None:
    """Good entries are rows, bad ones are quarantined, all are acknowledged, the counts add up."""
    events = good(3000)
    world.source.append([*events[:2500], b"bad", b"bad", *events[2500:], *events[:100]])
    world.client.xadd(world.source.key, {"not": "an event"})
    with working(world) as worker:
        until(lambda: is_drained(world), "the stream to drain")
    assert world.count("game_events") == 3000
    assert world.count("quarantined_events") == 2
    assert (worker.tally.rows, worker.tally.duplicates, worker.tally.quarantined) == (3000, 100, 3)


def test_a_lone_event_does_not_wait_for_company(world: World) -> None:
    """At one event a second a row is there at once: the age limit of a minute is not sat out."""
    with working(world, limits=Limits(5000, 1_000_000, age_s=60.0)):
        for number in range(3):
            world.source.append([payload(now_ms(), number)])
            wanted = number + 1
            until(lambda: world.count("game_events") >= wanted, "the row", at_most_s=5)  # noqa: B023
        until(lambda: is_drained(world), "the acknowledgement")


@pytest.mark.parametrize(
    "limits", [Limits(1, 1, 60.0), Limits(7, 10**6, 60.0), Limits(10**6, 900, 60.0)]
)
def test_any_limits_store_everything(world: World, limits: Limits) -> None:
    """Tiny batches are slow, and that is all."""
    world.source.append(good(100))
    with working(world, limits=limits):
        until(lambda: is_drained(world), "the stream to drain")
    assert world.count("game_events") == 100


def test_unknown_keys_are_told_once(world: World) -> None:
    """Drift is one line a key, not one an event."""
    world.source.append([payload(now_ms(), number, combo=number) for number in range(50)])
    with capture_logs() as logs, working(world, limits=Limits(10, 10**6, 60.0)):
        until(lambda: is_drained(world), "the stream to drain")
    assert [line["key"] for line in said(logs, "key this version does not know")] == ["combo"]


@pytest.mark.parametrize("loss", ["destroyed", "deleted", "flushed"])
def test_a_group_lost_while_running_is_made_again(world: World, loss: str) -> None:
    """From the beginning and with a line in the log; what was stored before stays one row."""
    first, second = good(50), good(50, seed=2)
    world.source.append(first)
    with capture_logs() as logs, working(world):
        until(lambda: is_drained(world), "the first events")
        if loss == "destroyed":
            world.client.xgroup_destroy(world.source.key, world.source.group)
        elif loss == "deleted":
            world.client.delete(world.source.key)
        else:
            world.client.flushdb()
        world.source.append(second)
        until(lambda: world.count("game_events") == 100, "the second events")
        until(lambda: is_drained(world), "the stream to drain")
    assert said(logs, "group was gone and was made again")


def test_what_a_dead_consumer_held_is_stored(world: World) -> None:
    """Entries that were read and not acknowledged are taken over, foreign and bad ones with them."""
    world.source.ensure_group()
    world.source.append([*good(1500), b"bad"])
    assert len(world.source.read("dead", 1501).entries) == 1501
    with capture_logs() as logs, working(world, claim_after_s=0.2):
        until(lambda: is_drained(world), "the takeover")
    assert world.count("game_events") == 1500
    assert world.count("quarantined_events") == 1
    assert sum(line["entries"] for line in said(logs, "Took over")) == 1501


def test_a_living_consumers_entries_are_left_alone(world: World) -> None:
    """What another consumer has just read is its own affair."""
    world.source.ensure_group()
    world.source.append(good(5))
    world.source.read("alive", 2)
    with working(world):
        until(lambda: world.count("game_events") == 3, "the other entries")
        until(lambda: world.source.state().pending == 2, "their acknowledgement")
    assert world.source.state().consumers["alive"].entries == 2
    assert world.count("game_events") == 3


def test_entries_trimmed_while_pending_are_reported(world: World) -> None:
    """A loss is told as a loss, with its number; the rest goes on."""
    world.source.ensure_group()
    ids = world.source.append(good(10))
    world.source.read("dead", 10)
    world.client.xtrim(world.source.key, minid=ids[4].decode(), approximate=False)
    with capture_logs() as logs, working(world, claim_after_s=0.2):
        until(lambda: is_drained(world), "the takeover")
    lost = said(logs, "they are lost here")
    assert sum(line["entries"] for line in lost) == 4
    assert {line["log_level"] for line in lost} == {"error"}
    assert world.count("game_events") == 6


def test_a_stop_stores_the_batch_in_hand(world: World) -> None:
    """Half a batch that was read when the stop came is stored and acknowledged, not left pending."""
    # Neither the count nor the age is reached, and a stream that always holds more is never drained.
    limits = Limits(10**6, 10**9, age_s=3600.0, read=10)
    world.source.append(good(20_000))
    with working(world, limits=limits):
        # Counted by the server: by the time that it were counted here, all would have been read.
        until(lambda: world.source.state(exact=False).pending >= 100, "half a batch")
        assert world.count("game_events") == 0
    state = world.source.state()
    assert state.pending == 0
    assert world.count("game_events") == 20_000 - state.undelivered
    assert 100 <= world.count("game_events") < 20_000


def test_a_stop_in_an_outage_leaves_the_batch_to_others(world: World) -> None:
    """It says so, keeps its name with the entries under it, and the next consumer stores them."""
    world.source.append(good(10))
    away = "postgresql://nobody@127.0.0.1:1/none"
    with (
        capture_logs() as logs,
        pytest.raises(Stopped),
        working(world, name="first", database_url=away),
    ):
        until(lambda: said(logs, "Postgres is away"), "the outage to be noticed")
    assert [line["entries"] for line in said(logs, "Stopped while a server was away")] == [10]
    assert world.source.state().pending == 10
    with working(world, name="second", claim_after_s=0.05):
        until(lambda: is_drained(world), "the takeover")
    assert world.count("game_events") == 10


def test_the_worker_lives_through_killed_connections(world: World) -> None:
    """Both servers drop their clients again and again; each event is stored once all the same."""
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.05):
            world.client.client_kill_filter(_type="normal", skipme=True)
            with world.engine.connect() as connection:
                connection.execute(
                    text(
                        "select pg_terminate_backend(pid) from pg_stat_activity"
                        " where application_name like 'infamous consumer%'"
                        " and datname = current_database()"
                    )
                )

    world.source.append(good(5000))
    killer = threading.Thread(target=kill)
    with working(world, limits=Limits(100, 10**6, 60.0, read=50), claim_after_s=0.3):
        killer.start()
        try:
            until(
                lambda: world.count("game_events") >= 2000,
                "rows in spite of the kills",
                at_most_s=150.0,
            )
        finally:
            stop.set()
            killer.join()
        until(lambda: is_drained(world), "the stream to drain")
    assert world.count("game_events") == 5000
    assert world.count("quarantined_events") == 0


def test_four_workers_share_the_work(world: World) -> None:
    """Side by side they store each event once, and together they acknowledge everything."""
    payloads = good(4000)
    world.source.append(payloads + payloads[::7])
    limits = Limits(200, 10**6, 0.1, read=100)
    with (
        working(world, name="a", limits=limits) as a,
        working(world, name="b", limits=limits) as b,
        working(world, name="c", limits=limits) as c,
        working(world, name="d", limits=limits) as d,
    ):
        until(lambda: is_drained(world), "the stream to drain")
    workers = (a, b, c, d)
    assert sum(worker.tally.rows for worker in workers) == world.count("game_events") == 4000
    assert sum(worker.tally.duplicates for worker in workers) == len(payloads[::7])
