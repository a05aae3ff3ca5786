"""Producers and consumers killed, stopped and frozen at the worst moments, as bare processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from tests.acceptance.processes import (
    Facts,
    Launcher,
    Process,
    assert_whole,
    facts_of,
    wait_until,
)
from tests.conftest import World

PRODUCE = ("producer", "--rate", "300", "--players", "20")


def environment_of(world: World) -> dict[str, str]:
    """The world, with a takeover quick enough for a test."""
    return world.environment | {"CLAIM_AFTER_S": "1"}


def wait_for_rows(world: World, more: int) -> None:
    """Wait until so many more rows are stored."""
    before = world.count("game_events")
    wait_until(lambda: world.count("game_events") >= before + more, f"{more} more rows are stored")


def drained(world: World) -> Facts:
    """Wait until nothing waits; the facts then."""
    wait_until(lambda: _is_quiet(world), "the stream is drained", 25)
    return facts_of(world.streams, world.engine)


def _is_quiet(world: World) -> bool:
    state = world.source.state()
    return state.undelivered == 0 and state.pending == 0


def name_of(consumer: Process) -> str:
    """The name under which a consumer reads, as it tells."""
    wait_until(lambda: "consumer=" in consumer.err(), "the consumer consumes")
    return consumer.err().split("consumer=", 1)[1].split()[0]


@contextmanager
def table_locked(world: World) -> Iterator[None]:
    """Nobody can store rows for as long as the block lasts; whoever tries waits in the middle of it."""
    with world.engine.connect() as connection:
        connection.execute(text("lock table game_events in share row exclusive mode"))
        yield
        connection.rollback()


def test_killed_processes_lose_nothing_and_repeat_nothing(world: World, launch: Launcher) -> None:
    """kill -9 of producer, consumer and both, twice each, in full flow: every event is one row."""
    environment = environment_of(world)

    def produce() -> Process:
        return launch.fork(*PRODUCE, environment=environment)

    def consume() -> Process:
        return launch.fork("consumer", environment=environment)

    producer, consumers, sent = produce(), [consume(), consume()], 0
    for kills_producer, kills_consumer in ((True, False), (False, True), (True, True)) * 2:
        wait_for_rows(world, 60)
        if kills_consumer:
            with table_locked(world):  # so that it dies with entries in hand
                name = name_of(consumers[0])
                wait_until(
                    lambda name=name: world.source.state().consumers[name].entries > 0,  # type: ignore[misc]
                    "the victim holds entries",
                )
                consumers.pop(0).kill()
            consumers.append(consume())
        if kills_producer:
            producer.kill()
            sent = world.source.produced()
            producer = produce()
    wait_for_rows(world, 60)
    # Rows may still be the last one's: who is asked to end before it has begun ends by the signal.
    wait_until(lambda: world.source.produced() > sent, "the last producer to send")
    done = producer.end()
    assert done.code == 0, done.text
    facts = drained(world)
    assert_whole(facts)
    assert facts.rows == facts.entries > 300
    for consumer in consumers:
        ended = consumer.end()
        assert ended.code == 0, ended.text
        assert "Traceback" not in ended.err
    left = set(facts_of(world.streams, world.engine).consumers)
    assert not left & {name_of(consumer) for consumer in consumers}


def test_a_kill_between_commit_and_acknowledgement(world: World, launch: Launcher) -> None:
    """A consumer that dies after COMMIT and before XACK leaves rows that its heir does not repeat."""
    environment = environment_of(world)
    victim = launch.fork("consumer", environment=environment)
    name = name_of(victim)
    with table_locked(world):
        produced = launch.run(
            "producer", "--rate", "5000", "--count", "400", environment=environment
        )
        assert produced.code == 0, produced.text
        wait_until(lambda: world.source.state().pending > 0, "the victim holds entries")
        # From now on Redis answers no write: the XACK after the COMMIT hangs.
        world.client.client_pause(60_000, all=False)
    try:
        wait_until(lambda: world.count("game_events") > 0, "the COMMIT is through")
        clients = len(world.client.client_list())
        victim.kill()
        wait_until(lambda: len(world.client.client_list()) < clients, "Redis has seen it die")
    finally:
        world.client.client_unpause()
    committed = world.count("game_events")
    assert world.source.state().consumers[name].entries >= committed
    heir = launch.fork("consumer", environment=environment)
    facts = drained(world)
    assert_whole(facts)
    assert facts.rows == 400
    ended = heir.end()
    assert ended.code == 0, ended.text
    assert f"duplicates={committed}" in ended.err, ended.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["sigterm", "ctrl-c"])
def test_a_consumer_stopped_in_a_heavy_stream_leaves_nothing_pending(
    world: World, launch: Launcher, number: signal.Signals
) -> None:
    """A stop stores what is in hand, acknowledges it and takes the name out of the group."""
    producer = launch.fork("producer", "--rate", "4000", environment=world.environment)
    # A batch that never fills by itself: at the moment of the stop there is always half a one.
    consumer = launch.fork(
        "consumer",
        environment=world.environment | {"BATCH_ROWS": "1000000", "BATCH_AGE_S": "0.3"},
    )
    name = name_of(consumer)
    wait_for_rows(world, 2000)
    wait_until(lambda: world.source.state().consumers[name].entries > 50, "it holds half a batch")
    stopped = consumer.end(number, within_s=10)
    assert stopped.code == 0, stopped.text
    assert "Traceback" not in stopped.err
    state = world.source.state()
    assert state.pending == 0
    assert name not in state.consumers
    assert producer.end().code == 0
    state = world.source.state()
    assert world.count("game_events") == state.entries - state.undelivered


def test_a_stop_in_the_middle_of_a_store_that_gets_through(world: World, launch: Launcher) -> None:
    """SIGTERM while Postgres is busy with the batch waits for it, within its ten seconds."""
    consumer = launch.fork("consumer", environment=world.environment)
    name = name_of(consumer)
    with table_locked(world):
        launch.run("producer", "--rate", "5000", "--count", "300", environment=world.environment)
        wait_until(lambda: world.source.state().pending > 0, "it holds entries")
        consumer.send(signal.SIGTERM)
    stopped = consumer.wait(10)
    assert stopped.code == 0, stopped.text
    state = world.source.state()
    assert (state.pending, name in state.consumers) == (0, False)
    assert world.count("game_events") == 300 - state.undelivered


def test_a_stop_while_the_store_hangs_ends_within_ten_seconds(
    world: World, launch: Launcher
) -> None:
    """SIGTERM ends a consumer whose store waits for a lock that is never given; the heir stores it."""
    consumer = launch.fork("consumer", environment=world.environment)
    name_of(consumer)
    with table_locked(world):
        launch.run("producer", "--rate", "5000", "--count", "50", environment=world.environment)
        wait_until(lambda: world.source.state().pending > 0, "it holds entries")
        began = time.monotonic()
        stopped = consumer.end(within_s=20)
        took = time.monotonic() - began
    assert stopped.code == 0, stopped.text
    assert took < 10, f"it took {took:.1f} s"
    heir = launch.fork("consumer", environment=environment_of(world))
    assert_whole(drained(world))
    assert heir.end().code == 0


def test_a_frozen_consumer_neither_holds_the_others_up_nor_repeats(
    world: World, launch: Launcher
) -> None:
    """What a consumer holds that was frozen inside its transaction is stored by another meanwhile."""
    environment = environment_of(world)
    sleeper = launch.fork("consumer", environment=environment)
    name_of(sleeper)
    produced = ("producer", "--rate", "5000", "--players", "20", "--count", "200")
    with table_locked(world):
        launch.run(*produced, environment=environment)
        wait_until(lambda: world.source.state().pending > 0, "it holds entries")
        sleeper.send(signal.SIGSTOP)
    # Its INSERT is through now, its COMMIT will not come; rows and locks hang in the air.
    other = launch.fork("consumer", environment=environment)
    wait_until(lambda: world.count("game_events") == 200, "the other has stored everything", 10)
    sleeper.send(signal.SIGCONT)
    launch.run(*produced, environment=environment)
    assert_whole(drained(world))
    assert world.count("game_events") == 400
    assert "Took over entries" in other.err()
    for consumer in (sleeper, other):
        ended = consumer.end()
        assert ended.code == 0, ended.text
        assert "Traceback" not in ended.err


def test_two_producers_of_the_same_players_do_not_fork_them(world: World, launch: Launcher) -> None:
    """Two producers at once, as a careless operator starts them: every chain of karma stays whole."""
    environment = environment_of(world)
    consumer = launch.fork("consumer", environment=environment)
    producers = [launch.fork(*PRODUCE, environment=environment) for _ in range(2)]
    wait_for_rows(world, 600)
    for producer in producers:
        done = producer.end()
        assert done.code == 0, done.text
        assert "Traceback" not in done.err
    assert_whole(drained(world))
    assert consumer.end().code == 0


def test_two_producers_of_the_same_history_do_not_fork_it(world: World, launch: Launcher) -> None:
    """Two producers that play the same past at once: one sentence, no traceback, one history."""
    environment = environment_of(world)
    consumer = launch.fork("consumer", environment=environment)
    arguments = ("producer", "--history", "20d", "--players", "60", "--count", "20", "--rate", "50")
    producers = [launch.fork(*arguments, environment=environment) for _ in range(2)]
    results = [producer.wait(40) for producer in producers]
    for result in results:
        assert "Traceback" not in result.err, result.text
    assert [result.code for result in results] == [0, 0], results
    assert_whole(drained(world))
    assert consumer.end().code == 0


def test_a_group_deleted_under_the_consumers_is_made_again(world: World, launch: Launcher) -> None:
    """The group lost with its pending list is made again from the beginning, loudly, losing nothing."""
    environment = environment_of(world)
    producer = launch.fork(*PRODUCE, environment=environment)
    consumers = [launch.fork("consumer", environment=environment) for _ in range(2)]
    wait_for_rows(world, 100)
    for consumer in consumers:
        consumer.send(signal.SIGSTOP)
    wait_until(lambda: world.source.state().undelivered > 100, "entries wait to be read")
    world.client.xgroup_destroy(world.source.key, world.source.group)
    for consumer in consumers:
        consumer.send(signal.SIGCONT)
    wait_for_rows(world, 300)
    assert producer.end().code == 0
    assert_whole(drained(world))
    ended = [consumer.end() for consumer in consumers]
    assert [result.code for result in ended] == [0, 0], ended
    assert any("was made again" in result.err for result in ended)
