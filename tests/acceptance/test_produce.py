"""The producer as a command: its rates, its end, its truth, and that a seed repeats itself."""

from __future__ import annotations

import itertools
import json
import time
from collections import defaultdict
from contextlib import closing

import pytest

from pipeline.event import Event, Window, decode
from pipeline.stream import STREAM
from pipeline.streams import Streams
from tests.acceptance.processes import Launcher, unused_port, wait_until
from tests.conftest import PRODUCER, World

EVER = Window(0, 2**48)


def on_the_stream(world: World) -> list[Event]:
    """Every event, in the order of the stream."""
    return [decode(payload, EVER) for payload in world.payloads()]


def told(event: Event) -> tuple[object, ...]:
    """All of an event but its time and id."""
    return (
        event.player, event.action, event.xp_delta, event.karma_delta, event.karma_total,
        event.rank, event.energy_source, event.seq, event.details_json,
    )  # fmt: skip


def test_a_high_rate_is_kept_and_the_count_ends_it(world: World, launch: Launcher) -> None:
    """20,000 events at 5,000 a second are exactly so many, their times spaced as the rate says."""
    ran = launch.run(
        *("infamous", "produce", "--rate", "5000", "--count", "20000"),
        environment=world.environment,
    )
    assert ran.code == 0, ran.text
    assert "sent=20000" in ran.err
    events = on_the_stream(world)
    assert len(events) == len({event.id for event in events}) == 20_000
    span_s = (events[-1].ts_ms - events[0].ts_ms) / 1000
    assert span_s == pytest.approx(20_000 / 5000, rel=0.05)
    # Due times, not send times: evenly spread, whatever the parcels were.
    quarters = [(events[n].ts_ms - events[0].ts_ms) / 1000 for n in (5000, 10_000, 15_000)]
    assert quarters == pytest.approx([1, 2, 3], rel=0.05)
    coles = [event for event in events if event.player == "Cole MacGrath"]
    assert 4 <= len(coles) <= 5, "Cole plays one event a second"
    for player in {event.player for event in events}:
        of_player = [event.seq for event in events if event.player == player]
        assert of_player == list(range(1, len(of_player) + 1))


def test_at_the_rate_max_events_are_due_when_they_are_made(world: World, launch: Launcher) -> None:
    """No clock holds it back, and still Cole plays once a second, every chain is whole, times are now."""
    began_ms = time.time_ns() // 1_000_000
    ran = launch.run(
        *("infamous", "produce", "--rate", "max", "--count", "60000", "--players", "50"),
        environment=world.environment,
    )
    assert ran.code == 0, ran.text
    assert "sent=60000" in ran.err
    events = on_the_stream(world)
    assert len(events) == len({event.id for event in events}) == 60_000
    times_ms = [event.ts_ms for event in events]
    assert times_ms == sorted(times_ms)
    assert began_ms <= times_ms[0]
    assert times_ms[-1] <= time.time_ns() // 1_000_000
    coles = [event.ts_ms // 1000 for event in events if event.player == "Cole MacGrath"]
    assert coles == sorted({ts_ms // 1000 for ts_ms in times_ms})
    for player in {event.player for event in events}:
        of_player = [event.seq for event in events if event.player == player]
        assert of_player == list(range(1, len(of_player) + 1))


def test_max_can_be_stopped(world: World, launch: Launcher) -> None:
    """A signal ends it as it ends a slow game: what was sent is whole, and the end is said."""
    producer = launch.fork("producer", "--rate", "max", environment=world.environment)
    wait_until(lambda: world.source.state().entries > 100, "it plays")
    ended = producer.end()
    assert ended.code == 0, ended.text
    sent = len(world.payloads())
    assert f"sent={sent}" in ended.text
    assert int(world.client.hget(PRODUCER, "sent") or 0) == sent


@pytest.mark.parametrize("rate", ["0", "nan", "fast"])
def test_what_is_no_rate_is_told_in_a_sentence(launch: Launcher, rate: str) -> None:
    """Whoever mistypes a rate reads what to write instead, and nothing is started."""
    ran = launch.run("producer", "--rate", rate, environment={})
    assert ran.code == 2, ran.text
    assert "give events a second, from 0.001 to 1,000,000, or max." in " ".join(ran.err.split())


def test_default_rate_is_coles_one_event_a_second(world: World, launch: Launcher) -> None:
    """Without flags the producer does what the specification says: one event a second, of Cole."""
    ran = launch.run("producer", "--count", "3", environment=world.environment)
    assert ran.code == 0, ran.text
    events = on_the_stream(world)
    assert [event.player for event in events] == ["Cole MacGrath"] * 3
    gaps_ms = [b.ts_ms - a.ts_ms for a, b in itertools.pairwise(events)]
    assert gaps_ms == pytest.approx([1000, 1000], abs=20)


def test_the_same_seed_plays_the_same_game(world: World, launch: Launcher) -> None:
    """Two runs of a seed against an empty stream differ in times alone; another seed in more."""
    played: list[list[tuple[object, ...]]] = []
    for seed in ("7", "7", "8"):
        world.client.flushdb()
        ran = launch.run(
            *("producer", "--rate", "2000", "--count", "2000", "--players", "5", "--seed", seed),
            environment=world.environment,
        )
        assert ran.code == 0, ran.text
        played.append([told(event) for event in on_the_stream(world)])
    assert len(played[0]) == 2000
    assert played[0] == played[1]
    assert played[0] != played[2]


def test_a_restart_goes_on_where_the_game_was(world: World, launch: Launcher) -> None:
    """Two runs of half the events are the same game as one run of all of them, for Cole too."""
    arguments = ("producer", "--rate", "1", "--players", "1", "--seed", "3")
    games: list[list[tuple[object, ...]]] = []
    for counts in (("4",), ("2", "2")):
        world.client.flushdb()
        for count in counts:
            ran = launch.run(
                *arguments, "--rate", "500", "--count", count, environment=world.environment
            )
            assert ran.code == 0, ran.text
        games.append([told(event) for event in on_the_stream(world)])
    assert games[0] == games[1]


def test_the_truth_needs_no_server(launch: Launcher) -> None:
    """``--truth`` prints JSON about the population and reaches for no server, not even a named one."""
    nowhere = {
        "DATABASE_URL": f"postgresql://127.0.0.1:{unused_port()}/x",
        "REDIS_URL": f"redis://127.0.0.1:{unused_port()}",
        "INFAMOUS_HOME": str(launch.folder / "home"),
    }
    arguments = ("--truth", "--players", "30", "--history", "10d", "--seed", "5")
    results = [
        launch.run("infamous", "produce", *arguments, environment=nowhere),
        launch.run("producer", *arguments, environment=nowhere),
        launch.run("producer", *arguments, environment={}),
    ]
    for result in results:
        assert (result.code, result.err) == (0, ""), result.text
    truths = [json.loads(result.out) for result in results]
    assert truths[0] == truths[1] == truths[2]
    assert isinstance(truths[0], dict)
    assert truths[0]
    assert not (launch.folder / "home").exists()


def test_a_history_is_played_once(world: World, launch: Launcher) -> None:
    """``--history`` plays the past before the live game, in order, and never a second time."""
    arguments = ("producer", "--history", "3d", "--players", "10", "--count", "2", "--rate", "100")
    first = launch.run(*arguments, environment=world.environment)
    assert first.code == 0, first.text
    events = len(world.payloads())
    assert events > 500
    second = launch.run(*arguments, environment=world.environment)
    assert second.code == 0, second.text
    assert len(world.payloads()) == events + 2
    consumer = launch.fork("consumer", environment=world.environment)
    wait_until(lambda: world.count("game_events") == events + 2, "all of it is stored")
    assert world.count("quarantined_events") == 0
    assert consumer.end().code == 0


def test_events_are_divided_by_player(world: World, launch: Launcher) -> None:
    """With STREAM_PARTITIONS each player is in a stream of its own number, also after the number changed."""
    seqs: dict[str, list[int]] = defaultdict(list)
    for partitions in (3, 1):
        ran = launch.run(
            *("infamous", "produce", "--rate", "1000", "--count", "500", "--players", "20"),
            environment=world.environment | {"STREAM_PARTITIONS": str(partitions)},
        )
        assert ran.code == 0, ran.text
        assert "sent=500" in ran.err
    with closing(Streams(world.redis_url, 3)) as streams:
        for one in streams.all:
            for page in one.walk(from_ms=0, to_ms=2**63):
                for entry in page:
                    event = decode(entry.payload, EVER)
                    assert one.key == STREAM or one is streams.of(event.player)
                    seqs[event.player].append(event.seq or 0)
    assert sum(map(len, seqs.values())) == 1000
    for player, of_player in seqs.items():
        assert sorted(of_player) == list(range(1, len(of_player) + 1)), player


def test_a_game_in_partitions_can_be_stopped(world: World, launch: Launcher) -> None:
    """A signal ends it as it ends any other: what was sent is whole, and the end is said."""
    producer = launch.fork(
        *("producer", "--rate", "max"), environment=world.environment | {"STREAM_PARTITIONS": "4"}
    )
    with closing(Streams(world.redis_url, 4)) as streams:
        wait_until(lambda: streams.state().entries > 100, "it plays")
        ended = producer.end()
        assert ended.code == 0, ended.text
        assert f"sent={streams.produced()}" in ended.text
