"""What was trimmed before it was read is told: once, by whoever sees it, and never out of thin air."""

from __future__ import annotations

import threading
import time
from typing import Any
from unittest.mock import patch

import pytest
import redis
from structlog.testing import capture_logs

from consumer import worker
from consumer.health import Seen
from consumer.tally import Tally
from infamous import status
from pipeline import stream
from pipeline.entry import Form
from pipeline.stream import Stream, connect
from tests.conftest import World
from tests.integration.consuming import is_drained, until, working
from tests.unit.samples import payload


@pytest.fixture
def source(world: World) -> Stream:
    """A stream whose group has read ten entries and acknowledged them."""
    world.source.ensure_group()
    world.source.append([b"x"] * 10)
    world.source.ack([entry.id for entry in world.source.read("a", 10).entries])
    return world.source


def lose(source: Stream, lost: int, left: int) -> None:
    """Add entries of which so many are trimmed before anyone reads them, all in one breath."""
    with source.client.pipeline(transaction=True) as pipe:
        for _ in range(lost + left):
            pipe.xadd(source.key, {Form.EVENT.value: b"x"})
        pipe.xtrim(source.key, maxlen=left, approximate=False)
        pipe.execute()


@pytest.mark.usefixtures("redis_7")
@pytest.mark.parametrize("left", [0, 5])
def test_several_consumers_tell_a_loss_once(source: Stream, world: World, left: int) -> None:
    """Six that look at the same moment: the server decides who of them tells it."""
    for _ in range(10):
        lose(source, 15, left)
        told: list[int] = []
        together = threading.Barrier(6)

        def look(told: list[int] = told, together: threading.Barrier = together) -> None:
            own = Stream(connect(world.redis_url))
            together.wait()
            told.extend(own.read("b", 100).lost for _ in range(3))
            own.client.close()

        threads = [threading.Thread(target=look) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(told) == 15
        source.ack([entry.id for entry in source.claim("a", idle_s=0, count=100).entries])


@pytest.mark.usefixtures("redis_7")
def test_a_loss_after_a_loss_is_told_by_itself(source: Stream) -> None:
    """What was told does not count again, though nobody ever catches up in between."""
    for lost in (7, 3, 11):
        lose(source, lost, 4)
        delivered = source.read("a", 2)
        assert (len(delivered.entries), delivered.lost) == (2, lost + (0 if lost == 7 else 2))


@pytest.mark.usefixtures("redis_7")
@pytest.mark.parametrize("error", [redis.ConnectionError("gone"), redis.TimeoutError("slow")])
def test_books_that_cannot_be_put_right_take_nothing_away(
    source: Stream, error: redis.RedisError
) -> None:
    """The entries were delivered and the loss was seen: both are handed over all the same."""
    lose(source, 40, 10)
    with patch.object(source, "_count_in", side_effect=error):
        delivered = source.read("a", 100)
    assert (len(delivered.entries), delivered.lost) == (10, 40)


@pytest.mark.usefixtures("redis_7")
def test_after_a_restart_a_gap_is_a_suspicion(source: Stream) -> None:
    """A crash may have spoiled the server's count: it is told as such until all was delivered once more."""
    source.client.set(source._vouched_key, "another run")
    lose(source, 9, 2)
    delivered = source.read("a", 100)
    assert (len(delivered.entries), delivered.lost, delivered.suspected) == (2, 0, 9)
    with capture_logs() as logs:
        Tally("test").suspect_lost(9)
    assert [(line["log_level"], line["entries"]) for line in logs] == [("warning", 9)]
    source.vouch()
    lose(source, 6, 1)
    delivered = source.read("a", 100)
    assert (len(delivered.entries), delivered.lost, delivered.suspected) == (1, 6, 0)


@pytest.mark.usefixtures("redis_7")
def test_nothing_is_vouched_for_while_entries_wait(source: Stream) -> None:
    """Only where all was delivered can the count be seen to be right."""
    source.client.delete(source._vouched_key)
    source.append([b"x"])
    source.vouch()
    assert source.client.get(source._vouched_key) is None
    source.read("a", 10)
    source.vouch()
    assert source.client.get(source._vouched_key) is not None


@pytest.mark.usefixtures("redis_7")
def test_our_own_trim_is_no_gap_whatever_the_server_counted(source: Stream) -> None:
    """The last entry that was read stays, so the stream always reaches back to it."""
    for _ in range(3):
        ids = source.append([b"x"] * 100)
        source.ack([entry.id for entry in source.read("a", 100).entries])
        source.trim(keep_s=0)
        source.client.execute_command(  # type: ignore[no-untyped-call]
            "XGROUP", "SETID", source.key, source.group, ids[-1], "ENTRIESREAD", 0
        )
        source.append([b"x"])
        delivered = source.read("a", 1)
        assert (delivered.lost, delivered.suspected) == (0, 0)
        source.ack([delivered.entries[0].id])


def test_an_id_of_the_far_future_ends_nobody(world: World) -> None:
    """A sender that takes nanoseconds for milliseconds: looks and status go on, and it is stored."""
    world.source.ensure_group()
    far = f"{time.time_ns()}-0"
    world.client.xadd(world.source.key, {"event": payload(int(time.time() * 1000))}, id=far)
    world.source.read("paused", 1)
    state = world.source.state()
    assert state.oldest_waiting_ms == state.complete_to_ms == state.at_ms
    assert Seen.of(state).complete_to is not None
    now = status.status(world.streams, world.engine)
    assert now.complete_to is not None
    assert (now.oldest_waiting_s or 0.0) < 60
    with working(world, claim_after_s=0.1):
        until(lambda: is_drained(world), "it to be stored")
    assert world.count("game_events") == 1


def test_whoever_lost_a_connection_leaves_its_name_to_others() -> None:
    """A read that went astray may still arrive, and would be lost with the name."""
    tally: Any = Tally("test")
    assert not tally.has_lost_connections
    tally.waits("Postgres")
    tally.is_back("Postgres")
    assert not tally.has_lost_connections
    tally.waits("Redis")
    assert tally.has_lost_connections
    tally.is_back("Redis")
    assert tally.has_lost_connections


def test_burying_does_not_keep_claims_from_coming_of_age(world: World) -> None:
    """It resets the age of all that is pending, so it is done seldom: ten claims to one burial."""
    buried: list[float] = []
    original = Stream.bury

    def bury(self: Stream, *arguments: Any, **options: Any) -> stream.Claimed:
        buried.append(time.monotonic())
        return original(self, *arguments, **options)

    with patch.object(Stream, "bury", bury), working(world, claim_after_s=0.1) as burying:
        until(lambda: len(buried) >= 2, "a second burial")
    assert buried[1] - buried[0] >= 10 * burying.claim_after_s


@pytest.mark.parametrize("loss", ["DEL", "XGROUP DESTROY"])
def test_a_look_at_a_lost_stream_ends_nobody(world: World, loss: str) -> None:
    """A consumer that looks just when the stream or its group is gone makes the group again."""
    with patch.object(worker, "LOOK_EVERY_S", 0.0), working(world) as working_one:
        for number in range(20):
            if loss == "DEL":
                world.client.delete(world.source.key)
            else:
                world.client.xgroup_destroy(world.source.key, world.source.group)
            until(lambda: world.source.state().group_exists, f"the group to be back, {number}")
        world.source.append([payload(int(time.time() * 1000))])
        until(lambda: world.count("game_events") == 1, "the event to be stored")
    assert working_one.tally.lost == 0
