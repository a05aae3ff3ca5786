"""The producer's way to several streams: parts that go by themselves, numbers of partitions that change, and
one that is away.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from infamous.prove.proxy import Proxy, Toxic, proxies
from pipeline import stream
from pipeline.entry import Form, split
from pipeline.patience import Stopped, wait_for
from pipeline.stream import Stream
from pipeline.streams import LAYOUTS, Streams, keys, number_of
from producer import history, live
from producer.history import DAY_MS
from producer.journal import Ack, Journal, Try, read
from producer.outbox import BadState, History, Overtaken, pack
from producer.outboxes import Outboxes, divided
from producer.pace import AS_FAST_AS_IT_GOES
from producer.simulate import COLE, Player, load_player, population, step
from tests.conftest import World
from tests.integration.consuming import now_ms, until
from tests.integration.test_proxy import redis_socket, redis_through
from tests.unit.samples import NOW_MS

SEED = 7
PARTITIONS = 4
STAY = threading.Event()  # never set
DROPS = [Toxic.DROP_REQUEST, Toxic.DROP_REPLY]


@contextmanager
def streams_of(world: World, partitions: int = PARTITIONS) -> Iterator[Streams]:
    """The streams of this number of partitions, on one plain Redis."""
    with closing(Streams(world.redis_url, partitions)) as made:
        yield made


@pytest.fixture
def streams(world: World) -> Iterator[Streams]:
    """Four of them."""
    with streams_of(world) as made:
        yield made


@pytest.fixture
def line(world: World, streams: Streams) -> Iterator[Proxy]:
    """A line by which partition 1 alone is reached."""
    with proxies(redis_socket(world.redis_url)) as (made,):
        one = streams.written[1]
        one.client.close()
        one.client = stream.connect(redis_through(made, world.redis_url))
        yield made


@pytest.fixture
def outboxes(streams: Streams) -> Outboxes:
    """Outboxes that were opened on an empty Redis."""
    made = Outboxes(streams)
    made.open()
    return made


def payloads(world: World, key: str) -> list[bytes]:
    """What is on a stream, in order."""
    found: list[bytes] = []
    for page in Stream(world.client, key=key).walk(from_ms=0, to_ms=2**63):
        for entry in page:
            found += split(entry.payload) if entry.form is Form.EVENTS else [entry.payload]
    return found


def events(world: World, *partitions: int) -> list[dict[str, Any]]:
    """What is on the streams of these numbers of partitions, stream by stream."""
    # The smaller of two numbers has streams of the larger one.
    every = dict.fromkeys(key for number in partitions or (PARTITIONS,) for key in keys(number))
    return [json.loads(raw) for key in every for raw in payloads(world, key)]


def require_whole(found: Iterable[dict[str, Any]]) -> None:
    """Each player's events, wherever they are, are one chain: no seq twice or left out, no karma forked."""
    chains: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in found:
        chains[event["player"]].append(event)
    for player, chain in chains.items():
        chain.sort(key=lambda event: int(event["seq"]))
        assert [event["seq"] for event in chain] == list(range(1, len(chain) + 1)), player
        karma = 0
        for event in chain:
            assert event["karma_total"] == karma + event["karma_delta"], player
            karma = event["karma_total"]


def play(players: Sequence[Player], count: int) -> list[Any]:
    """Some live events of these players in turn."""
    return [step(players[n % len(players)], now_ms() + n) for n in range(count)]


def play_live(
    outboxes: Outboxes,
    *,
    count: int | None,
    size: int = 40,
    rate: float = 5000.0,
    told: Callable[[list[bytes]], None] = lambda _: None,
    stop: threading.Event = STAY,
) -> int:
    """A live game as ``python -m producer`` wires it."""

    def reload() -> list[Player]:
        left = wait_for("Redis", outboxes.players_anew, is_temporary=stream.is_temporary, stop=stop)
        return live.cast_of(left, SEED, size, now_ms())

    left = wait_for("Redis", outboxes.open, is_temporary=stream.is_temporary, stop=stop)
    cast = live.cast_of(left.players, SEED, size, now_ms())
    return live.play(outboxes, cast, rate, count=count, stop=stop, reload=reload, told=told)


class Game:
    """A live game in a thread, until it is ended."""

    def __init__(self, outboxes: Outboxes, **options: Any) -> None:
        self.told: list[bytes] = []
        self._of: Counter[int] = Counter()
        self.stop = threading.Event()
        self.failed: BaseException | None = None
        self._thread = threading.Thread(target=self._play, args=(outboxes,), kwargs=options)
        self._thread.start()

    def _play(self, outboxes: Outboxes, **options: Any) -> None:
        options = {"count": None, "rate": 500.0} | options
        try:
            play_live(outboxes, told=self._tell, stop=self.stop, **options)
        except BaseException as error:  # the test looks at it
            self.failed = error

    def _tell(self, sent: list[bytes]) -> None:
        self.told += sent
        self._of.update(number_of(json.loads(raw)["player"], PARTITIONS) for raw in sent)

    def of(self, number: int) -> int:
        """Events of a partition that Redis is known to have."""
        return self._of[number]

    def end(self) -> None:
        """Ask it to stop, and see it end."""
        self.stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


@contextmanager
def game(outboxes: Outboxes, **options: Any) -> Iterator[Game]:
    """A live game; nothing of it is left."""
    made = Game(outboxes, **options)
    try:
        yield made
    finally:
        made.end()


# --- one parcel


def test_a_parcel_goes_to_its_players_partitions(
    outboxes: Outboxes, streams: Streams, world: World
) -> None:
    """Events, states and notes are where their player is, and the next producer finds all of them."""
    players = population(SEED, 20, now_ms(), 0)
    plan = History(5, 10, is_done=True)
    parcel = pack(play(players, 60), players, plan)
    outboxes.send(parcel)
    for number, one in enumerate(streams.written):
        here = {p.name: p for p in players if number_of(p.name, PARTITIONS) == number}
        stored: Any = world.client.hgetall(one.players_key)
        assert {name.decode(): load_player(state) for name, state in stored.items()} == here
        assert payloads(world, one.key) == divided(parcel, PARTITIONS)[number].payloads
        assert one.produced() == 3 * len(here)
    assert world.payloads() == []
    with streams_of(world) as others:
        ledger = Outboxes(others).open()
    assert ledger.players == {player.name: player for player in players}
    assert (ledger.sent, ledger.history) == (60, plan)
    assert world.client.smembers(LAYOUTS) == {b"4"}


def test_one_partition_is_one_outbox(world: World) -> None:
    """The undivided stream is written as ever: nothing is beside it, and no token is another."""
    players = population(SEED, 5, now_ms(), 0)
    with streams_of(world, 1) as streams:
        outboxes = Outboxes(streams)
        outboxes.open()
        assert world.client.dbsize() == 0
        first, second = pack(play(players, 10), players), pack(play(players, 10), players)
        outboxes.send(first)
        outboxes.start(second)
        for _ in range(2):
            outboxes.send(second)
        assert world.payloads() == first.payloads + second.payloads
        assert world.client.hget(streams.written[0].producer_key, "token") == second.token
        assert world.client.dbsize() == 3


@pytest.mark.parametrize("drop", DROPS)
def test_parts_that_arrived_are_not_sent_again(
    outboxes: Outboxes, streams: Streams, world: World, line: Proxy, drop: Toxic
) -> None:
    """While one partition is away the others get their parts; what is sent again is what is missing."""
    players = population(SEED, 20, now_ms(), 0)
    parcel = pack(play(players, 60), players)
    outboxes.start(parcel)
    outboxes.send(parcel)
    after = pack(play(players, 60), players)

    def lengths() -> list[int]:
        return [len(payloads(world, one.key)) for one in streams.written]

    before = lengths()
    with line.imposed(drop, when=lambda chunk: b"EXEC" in chunk or b"WATCH" in chunk):
        for _ in range(3):
            with pytest.raises(redis.RedisError) as caught:
                outboxes.send(after)
            assert stream.is_temporary(caught.value)
        for number in (0, 2, 3):
            assert lengths()[number] == 2 * before[number]
        assert lengths()[1] == before[1]
    commands = world.client.info("commandstats")["cmdstat_exec"]["calls"]
    for _ in range(2):
        outboxes.send(after)
    assert world.client.info("commandstats")["cmdstat_exec"]["calls"] == commands + 1
    assert lengths() == [2 * length for length in before]
    require_whole(events(world))


@pytest.mark.parametrize("drop", DROPS)
def test_each_part_is_in_the_journal(
    streams: Streams, line: Proxy, tmp_path: Path, drop: Toxic
) -> None:
    """Tried once, before it is first sent, and acknowledged when it has arrived, each for itself."""
    players = population(SEED, 20, now_ms(), 0)
    parcel = pack(play(players, 20), players)
    parts = divided(parcel, PARTITIONS)
    with closing(Journal(tmp_path / "a.journal")) as journal:
        outboxes = Outboxes(streams, journal)
        outboxes.open()
        with (
            line.imposed(drop, when=lambda chunk: b"EXEC" in chunk),
            pytest.raises(redis.RedisError),
        ):
            outboxes.send(parcel)
        missing = {parts[1].token}
        for _ in range(2):
            lines = list(read(tmp_path / "a.journal"))
            tried = [each for each in lines if isinstance(each, Try)]
            assert Counter((each.token, each.payload) for each in tried) == Counter(
                (part.token, payload) for part in parts.values() for payload in part.payloads
            )
            acknowledged = {each.token for each in lines if isinstance(each, Ack)}
            assert acknowledged == {part.token for part in parts.values()} - missing
            missing = set()
            outboxes.send(parcel)


def test_being_overtaken_is_told_when_nothing_is_on_its_way(
    outboxes: Outboxes, world: World, line: Proxy
) -> None:
    """The other parts of the parcel have arrived by then, or the next parcel would not know of them."""
    ours, theirs = population(SEED, 20, now_ms(), 0), population(SEED, 20, now_ms(), 0)
    there = [player for player in theirs if number_of(player.name, PARTITIONS) == 0]
    with streams_of(world) as others:
        other = Outboxes(others)
        other.open()
        outboxes.open()
        other.retake(0)
        other.send(pack(play(there, 10), there))
    parcel = pack(play(ours, 60), ours)
    with line.imposed(Toxic.RESET), pytest.raises(redis.ConnectionError):
        outboxes.send(parcel)
    for _ in range(2):
        with pytest.raises(Overtaken):
            outboxes.send(parcel)
    left = outboxes.open().players
    outboxes.send(pack(play([left[player.name] for player in ours], 60), left.values()))
    require_whole(events(world))
    assert {e["player"] for e in events(world)} == {player.name for player in ours}


def test_a_flushed_redis_gets_everything_again(outboxes: Outboxes, world: World) -> None:
    """The states of all who play in a partition, and into how many partitions events are divided."""
    players = population(SEED, 20, now_ms(), 0)
    outboxes.send(pack(play(players, 40), players))
    world.client.flushdb()
    with capture_logs():
        outboxes.send(pack(play(players, 20), players))
    assert world.client.smembers(LAYOUTS) == {b"4"}
    with streams_of(world) as others:
        ledger = Outboxes(others).open()
    assert (ledger.players, ledger.sent) == ({player.name: player for player in players}, 60)


def test_a_state_that_is_none_is_told_by_its_key(world: World, streams: Streams) -> None:
    """Of so many keys the sentence names the one to look at, be it of another number of partitions."""
    for key in (streams.written[2].players_key, "{game-events}:players"):
        world.client.hset(key, "Zeke", "no state")
        with pytest.raises(BadState) as caught:
            Outboxes(streams).open()
        assert f"the hash {key} in Redis" in str(caught.value)
        world.client.delete(key)


# --- numbers of partitions that change


@pytest.mark.parametrize("rate", [5000.0, AS_FAST_AS_IT_GOES])
def test_no_chain_breaks_where_the_number_of_partitions_changes(world: World, rate: float) -> None:
    """There and back again: everybody goes on from where he last played, whatever an older place holds."""
    sent = 0
    for partitions in (1, 4, 2, 1, 4, 1):
        with streams_of(world, partitions) as streams:
            outboxes = Outboxes(streams)
            assert outboxes.open().sent == sent
            assert play_live(outboxes, count=700, rate=rate) == 700
        sent += 700
        found = events(world, 1, 4, 2)
        assert len(found) == sent
        require_whole(found)


def test_who_rests_is_remembered_from_where_he_last_played(world: World) -> None:
    """A Redis that is emptied after the change gets also those who have not played since."""
    players = population(SEED, 20, now_ms(), 0)
    with streams_of(world, 1) as streams:
        outboxes = Outboxes(streams)
        outboxes.open()
        outboxes.send(pack(play(players, 40), players))
    with streams_of(world) as streams:
        outboxes = Outboxes(streams)
        left = outboxes.open().players
        awake = [left[COLE]]
        world.client.flushdb()
        number = outboxes.number_of(COLE)
        with capture_logs():
            outboxes.send(pack(play(awake, 1), awake))
        stored: Any = world.client.hgetall(streams.written[number].players_key)
    here = {p.name: p for p in players if number_of(p.name, PARTITIONS) == number}
    here[COLE] = awake[0]
    assert {name.decode(): load_player(state) for name, state in stored.items()} == here


@pytest.mark.parametrize("rate", [3000.0, AS_FAST_AS_IT_GOES])
@pytest.mark.parametrize("numbers", [(4, 4), (1, 4), (2, 4, 1)])
def test_producers_of_any_number_of_partitions_take_turns(
    world: World, numbers: tuple[int, ...], rate: float
) -> None:
    """Restarted one after the other they play the same players at the same time: no chain forks."""
    failed: list[BaseException] = []
    counts: list[int] = []

    def produce(partitions: int) -> None:
        try:
            with streams_of(world, partitions) as streams:
                counts.append(play_live(Outboxes(streams), count=900, rate=rate))
        except BaseException as error:  # told below
            failed.append(error)

    with capture_logs():
        threads = [threading.Thread(target=produce, args=(number,)) for number in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert failed == []
    assert counts == [900] * len(numbers)
    found = events(world, *numbers)
    assert len(found) == 900 * len(numbers)
    require_whole(found)


def test_an_outbox_that_has_not_sent_yet_is_overtaken_too(world: World) -> None:
    """It knows nothing of partitions, was opened before there were any, and sends after that."""
    ours, theirs = population(SEED, 20, now_ms(), 0), population(SEED, 20, now_ms(), 0)
    with streams_of(world, 1) as late, streams_of(world) as streams:
        old, new = Outboxes(late), Outboxes(streams)
        old.open()
        new.open()
        new.send(pack(play(theirs, 20), theirs))
        with pytest.raises(Overtaken):
            old.send(pack(play(ours, 20), ours))
        assert old.players_anew() == {player.name: player for player in theirs}
        with pytest.raises(Overtaken):
            new.send(pack(play(theirs, 20), theirs))
    assert world.payloads() == []


# --- history


def play_history(outboxes: Outboxes, plan: History, stop: threading.Event, parcels: int) -> None:
    """What a producer that was asked for history does when it starts; it is stopped after some parcels."""
    ledger = outboxes.open()
    rest = history.planned(ledger, 6, plan.until_ms, 90) or plan
    seen = iter(range(parcels))

    def progress(_at_ms: int, _sent: int) -> None:
        if next(seen, None) is None:
            stop.set()

    history.play(outboxes, ledger, rest, seed=SEED, size=60, stop=stop, progress=progress)


def test_a_history_is_the_same_in_any_number_of_partitions(world: World) -> None:
    """Begun in one number, gone on with in others: each player's events are the same, byte for byte."""
    until_ms = NOW_MS
    plan = History(until_ms // DAY_MS * DAY_MS - 6 * DAY_MS, until_ms, is_done=False)
    with streams_of(world, 1) as streams:
        play_history(Outboxes(streams), plan, threading.Event(), 10**6)
    whole = sorted(world.payloads())
    world.client.flushdb()
    for partitions in (1, 4, 2):
        with streams_of(world, partitions) as streams, pytest.raises(Stopped):
            play_history(Outboxes(streams), plan, threading.Event(), 1)
    with streams_of(world) as streams:
        play_history(Outboxes(streams), plan, threading.Event(), 10**6)
        ledger = Outboxes(streams).open()
    assert sorted(raw for key in {*keys(1), *keys(4)} for raw in payloads(world, key)) == whole
    assert ledger.history == History(plan.start_ms, plan.until_ms, is_done=True)
    assert len(ledger.players) == 60


# --- one partition that is away


@pytest.mark.parametrize("toxic", [Toxic.RESET, Toxic.BLACK_HOLE])
@pytest.mark.parametrize("rate", [500.0, AS_FAST_AS_IT_GOES])
def test_one_partition_that_is_away_stops_its_players_alone(
    outboxes: Outboxes, world: World, line: Proxy, toxic: Toxic, rate: float
) -> None:
    """The others play on; when it is back all do, and nothing is lost and nothing doubled."""
    with capture_logs() as logs:
        with game(outboxes, rate=rate) as playing:
            until(lambda: playing.of(1) > 20, "all to play")
            with line.imposed(toxic):
                until(lambda: any("is away" in each["event"] for each in logs), "the outage")
                before = [playing.of(number) for number in range(PARTITIONS)]
                until(
                    lambda: all(playing.of(n) > before[n] + 50 for n in (0, 2, 3)),
                    "the others to play on",
                )
                assert playing.of(1) == before[1]
            until(lambda: playing.of(1) > before[1] + 50, "the players who sat out")
        assert playing.failed is None
    found = events(world)
    assert sorted(event["id"] for event in found) == sorted(
        json.loads(raw)["id"] for raw in playing.told
    )
    require_whole(found)
    said = [each["event"] for each in logs if each["event"].startswith("Redis is")]
    assert len(said) == 2
    assert said[0] == ("Redis is away for a part of the players; they wait, and the others play on")
    assert said[1] == "Redis is back; all players play"


def test_all_partitions_that_are_away_stop_the_game(world: World) -> None:
    """It waits for them, says so once, and plays every event of it when they are back."""
    with (
        capture_logs() as logs,
        proxies(redis_socket(world.redis_url)) as (line,),
        closing(Streams(redis_through(line, world.redis_url), PARTITIONS)) as streams,
        game(Outboxes(streams), count=1500) as playing,
    ):
        until(lambda: len(playing.told) > 200, "the game")
        with line.imposed(Toxic.RESET):
            until(lambda: any("trying again" in each["event"] for each in logs), "a wait")
            before = len(playing.told)
        until(lambda: len(playing.told) == 1500, "the rest")
    assert playing.failed is None
    assert before < 1500
    assert len({event["id"] for event in events(world)}) == len(events(world)) == 1500
    require_whole(events(world))
    said = [each["event"] for each in logs if each["event"].startswith("Redis is")]
    assert said[-1] == "Redis is back; all players play"


@pytest.mark.parametrize("toxic", [Toxic.RESET, Toxic.BLACK_HOLE])
def test_a_game_is_stopped_in_an_outage_of_a_part(
    outboxes: Outboxes, streams: Streams, world: World, line: Proxy, toxic: Toxic
) -> None:
    """It ends soon, says that something was not sent, and the next one plays that anew."""
    with capture_logs() as logs, game(outboxes) as playing:
        until(lambda: playing.of(1) > 5, "all to play")
        with line.imposed(toxic):
            until(lambda: any("is away" in each["event"] for each in logs), "the outage")
            began_s = time.monotonic()
            playing.end()
            assert time.monotonic() - began_s < 4
    assert isinstance(playing.failed, Stopped)
    assert isinstance(playing.failed.__cause__, redis.RedisError)
    streams.close()
    with streams_of(world) as others:
        play_live(Outboxes(others), count=300)
    require_whole(events(world))


def test_a_game_that_is_stopped_sends_what_can_be_sent(
    outboxes: Outboxes, world: World, line: Proxy
) -> None:
    """A part that was held up and goes through in the time that is left is not played anew."""
    with capture_logs() as logs, game(outboxes) as playing:
        until(lambda: playing.of(1) > 5, "all to play")
        with line.imposed(Toxic.RESET):
            until(lambda: any("is away" in each["event"] for each in logs), "the outage")
        playing.end()
    assert playing.failed is None
    assert len(events(world)) == len(playing.told)
    require_whole(events(world))


@pytest.mark.parametrize("drop", DROPS)
@pytest.mark.parametrize("rate", [5000.0, AS_FAST_AS_IT_GOES])
def test_a_live_game_on_a_bad_line_to_one_partition(
    outboxes: Outboxes, world: World, line: Proxy, drop: Toxic, rate: float
) -> None:
    """Drops all along: every event once, told once, and in one chain a player."""
    told: list[bytes] = []
    line.impose(drop, share=0.2, dice=random.Random(1))
    with capture_logs():
        assert play_live(outboxes, count=4000, rate=rate, told=told.extend) == 4000
    line.lift()
    assert line.hits[drop] > 0
    found = events(world)
    assert sorted(event["id"] for event in found) == sorted(json.loads(raw)["id"] for raw in told)
    assert len(found) == 4000
    require_whole(found)


def test_two_producers_take_turns_while_a_partition_is_away(
    outboxes: Outboxes, world: World, line: Proxy
) -> None:
    """Each takes up what the other played in the partitions that are there, without the one that is not."""
    with capture_logs() as logs, ExitStack() as held:
        first = held.enter_context(game(outboxes))
        second = held.enter_context(game(Outboxes(held.enter_context(streams_of(world)))))
        until(lambda: first.of(1) > 5 and second.of(1) > 5, "both to play")
        with line.imposed(Toxic.RESET):
            until(lambda: any("is away" in each["event"] for each in logs), "the outage")
            before = first.of(0), second.of(0)
            until(
                lambda: first.of(0) > before[0] + 20 and second.of(0) > before[1] + 20,
                "both to play on",
            )
        until(lambda: not first.stop.is_set() and first.of(1) > 30, "the players who sat out")
    assert (first.failed, second.failed) == (None, None)
    assert len(events(world)) == len(first.told) + len(second.told)
    require_whole(events(world))


def test_the_count_is_exact_in_partitions(outboxes: Outboxes, world: World) -> None:
    """So many events, no more, each told once when Redis has it."""
    told: list[bytes] = []
    assert play_live(outboxes, count=137, told=told.extend) == 137
    assert len(told) == len(events(world)) == 137
    assert play_live(outboxes, count=0) == 0
