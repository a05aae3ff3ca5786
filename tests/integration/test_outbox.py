"""The producer's way to the stream: events and states together, sent once, taken up where they were left."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from structlog.testing import capture_logs

from infamous.audit import audit
from pipeline import stream
from pipeline.event import Event, Window, decode
from pipeline.patience import Stopped, wait_for
from pipeline.stream import Stream
from producer import history, live
from producer.history import DAY_MS
from producer.journal import Ack, Journal, JournalError, Try, read
from producer.outbox import (
    PARCEL_EVENTS,
    BadState,
    History,
    Ledger,
    Outbox,
    Overtaken,
    Parcel,
    pack,
)
from producer.pace import AS_FAST_AS_IT_GOES
from producer.simulate import COLE, Player, dump_player, load_player, population, step
from tests.conftest import PLAYERS, PRODUCER, World
from tests.integration.consuming import is_drained, now_ms, until, working
from tests.unit.samples import NOW_MS

SEED = 7
STAY = threading.Event()  # never set


def states(world: World) -> dict[str, Player]:
    """The players as Redis holds them."""
    stored: Any = world.client.hgetall(PLAYERS)
    return {name.decode(): load_player(state) for name, state in stored.items()}


def sent(world: World) -> int:
    """Events that the producers say they sent."""
    return int(world.client.hget(PRODUCER, "sent") or 0)


@pytest.fixture
def outbox(world: World) -> Outbox:
    """An outbox that was opened on an empty Redis."""
    made = Outbox(world.source)
    made.open()
    return made


def read_event(payload: bytes) -> Event:
    """What a consumer makes of it."""
    return decode(payload, Window(0, 2**48))


def play(players: list[Player], events: int) -> list[Event]:
    """Some live events of these players in turn."""
    return [step(players[n % len(players)], now_ms() + n) for n in range(events)]


# --- one parcel


def test_an_empty_redis_has_an_empty_ledger(world: World) -> None:
    """The first producer ever finds nothing, and no error."""
    assert Outbox(world.source).open() == Ledger({}, 0, None)


def test_events_states_and_notes_arrive_together(outbox: Outbox, world: World) -> None:
    """What the next producer finds is the state after the last event on the stream."""
    players = population(SEED, 3, now_ms(), 0)
    events = play(players, 10)
    plan = History(5, 10, is_done=True)
    parcel = pack(events, players, plan)
    outbox.send(parcel)
    assert world.payloads() == parcel.payloads
    ledger = Outbox(world.source).open()
    assert ledger == Ledger({player.name: player for player in players}, 10, plan)
    assert states(world)[COLE].seq == 4


def test_a_parcel_that_is_refused_changes_nothing(outbox: Outbox, world: World) -> None:
    """An event that does not get onto the stream leaves no state behind: the chain is not forked."""
    players = population(SEED, 1, now_ms(), 0)
    outbox.send(pack(play(players, 2), players))
    before = (world.payloads(), states(world), world.client.hgetall(PRODUCER))
    limit = world.client.config_get("maxmemory")["maxmemory"]
    world.client.config_set("maxmemory", "1")
    parcel = pack(play(players, 3), players)
    try:
        with pytest.raises(redis.RedisError) as caught:
            outbox.send(parcel)
    finally:
        world.client.config_set("maxmemory", str(limit))
    assert stream.is_temporary(caught.value)
    assert (world.payloads(), states(world), world.client.hgetall(PRODUCER)) == before
    outbox.send(parcel)
    assert (len(world.payloads()), sent(world), states(world)[COLE].seq) == (5, 5, 5)


def test_a_parcel_sent_again_arrives_once(outbox: Outbox, world: World) -> None:
    """Whoever is not sure whether EXEC arrived sends the same parcel again."""
    players = population(SEED, 2, now_ms(), 0)
    parcel = pack(play(players, 4), players)
    for _ in range(3):
        outbox.send(parcel)
    assert world.payloads() == parcel.payloads
    assert sent(world) == 4
    after = pack(play(players, 2), players)
    outbox.send(after)
    assert world.payloads() == parcel.payloads + after.payloads


def test_another_producers_parcel_is_noticed(outbox: Outbox, world: World) -> None:
    """The one that lags sends nothing until it has taken up what the other left."""
    other = Outbox(world.source)
    other.open()
    ours, theirs = population(SEED, 2, now_ms(), 0), population(SEED, 2, now_ms(), 0)
    parcel = pack(play(theirs, 4), theirs)
    other.send(parcel)
    for _ in range(2):
        with pytest.raises(Overtaken):
            outbox.send(pack(play(ours, 4), ours))
    assert world.payloads() == parcel.payloads
    taken_up = [outbox.open().players[player.name] for player in ours]
    outbox.send(pack(play(taken_up, 4), taken_up))
    seqs = Counter((e["player"], e["seq"]) for e in map(json.loads, world.payloads()))
    assert set(seqs.values()) == {1}
    assert len(seqs) == 8


def test_a_flushed_redis_gets_everything_again(outbox: Outbox, world: World) -> None:
    """Also the players who did not move since, the history's end and the count: no chain starts anew."""
    players = population(SEED, 5, now_ms(), 0)
    outbox.send(pack(play(players, 10), players, History(1, 2, is_done=True)))
    resting = {player.name: dump_player(player) for player in players[1:]}
    world.client.flushdb()
    with capture_logs() as logs:
        outbox.send(pack(play(players[:1], 3), players[:1]))
    assert [line["log_level"] for line in logs] == ["warning"]
    assert "Redis has lost the players" in logs[0]["event"]
    ledger = Outbox(world.source).open()
    assert {n: dump_player(p) for n, p in ledger.players.items() if n != COLE} == resting
    assert ledger.players[COLE].seq == 5
    assert (ledger.sent, ledger.history) == (13, History(1, 2, is_done=True))
    assert len(world.payloads()) == 3


def test_a_second_producers_states_survive_a_flush(outbox: Outbox, world: World) -> None:
    """What was read at the opening counts as known, too: a restarted producer remembers for the first."""
    players = population(SEED, 3, now_ms(), 0)
    outbox.send(pack(play(players, 6), players))
    restarted = Outbox(world.source)
    cast = list(restarted.open().players.values())
    world.client.flushdb()
    with capture_logs():
        restarted.send(pack(play(cast[:1], 1), cast[:1]))
    assert {name: player.seq for name, player in states(world).items()} == {
        player.name: player.seq for player in cast
    }


def test_a_parcel_that_was_started_arrives_once(outbox: Outbox, world: World) -> None:
    """Sending it sees it through; sending it again finds it there."""
    players = population(SEED, 2, now_ms(), 0)
    for _ in range(3):
        before = world.payloads()
        parcel = pack(play(players, PARCEL_EVENTS), players)
        outbox.start(parcel)
        for _ in range(2):
            outbox.send(parcel)
            assert world.payloads() == before + parcel.payloads
    assert {player.name: player for player in players} == states(world)
    assert sent(world) == 3 * PARCEL_EVENTS


def test_a_started_parcel_whose_line_breaks_arrives_once(world: World) -> None:
    """Whether Redis had it by then or not: it is sent again on a new line, and found or repeated whole."""
    client = stream.connect(world.redis_url)
    with closing(client):
        outbox = Outbox(Stream(client, key=world.source.key))
        outbox.open()
        players = population(SEED, 2, now_ms(), 0)
        for _ in range(5):
            before = world.payloads()
            parcel = pack(play(players, PARCEL_EVENTS), players)
            outbox.start(parcel)
            world.client.client_kill_filter(_type="normal", skipme=True)
            send(outbox, parcel)
            assert world.payloads() == before + parcel.payloads
    assert sent(world) == 5 * PARCEL_EVENTS


def test_a_started_parcel_is_not_taken_for_another(outbox: Outbox, world: World) -> None:
    """What became of one says nothing about the next: that one is sent itself."""
    players = population(SEED, 2, now_ms(), 0)
    outbox.start(pack(play(players, 4), players))
    parcel = pack(play(players, 4), players)
    send(outbox, parcel)
    assert world.payloads()[-4:] == parcel.payloads


def test_starting_is_no_more_than_a_hint(outbox: Outbox, world: World) -> None:
    """Where another producer was faster, or Redis refuses, ``start`` keeps still and ``send`` tells."""
    other = Outbox(world.source)
    other.open()
    theirs, ours = population(SEED, 2, now_ms(), 0), population(SEED, 2, now_ms(), 0)
    parcel, late = pack(play(theirs, 4), theirs), pack(play(ours, 4), ours)
    other.send(parcel)
    outbox.start(late)
    with pytest.raises(Overtaken):
        outbox.send(late)
    outbox.open()
    limit = world.client.config_get("maxmemory")["maxmemory"]
    world.client.config_set("maxmemory", "1")
    try:
        outbox.start(late)
        with pytest.raises(redis.RedisError) as caught:
            outbox.send(late)
    finally:
        world.client.config_set("maxmemory", str(limit))
    assert stream.is_temporary(caught.value)
    assert world.payloads() == parcel.payloads


@pytest.mark.parametrize("is_other_there", [False, True])
def test_a_redis_set_back_forks_no_chain(
    outbox: Outbox, world: World, is_other_there: bool
) -> None:
    """A restart that lost the last seconds shows an older parcel of ours: what we remember is newer."""
    players = population(SEED, 3, now_ms(), 0)
    if is_other_there:
        other = Outbox(world.source)
        other.open()
        other.send(pack(play(players, 3), players))
        outbox.open()
    outbox.send(pack(play(players, 3), players))
    kept = {key: world.client.dump(key) for key in (PLAYERS, PRODUCER, world.source.key)}
    outbox.send(pack(play(players, 30), players))
    for key, value in kept.items():
        assert value is not None
        world.client.restore(key, 0, value, replace=True)
    with capture_logs() as logs:
        outbox.send(pack(play(players[:1], 1), players[:1]))
    assert [line["log_level"] for line in logs] == ["warning"]
    ledger = Outbox(world.source).open()
    assert ledger.players == {player.name: player for player in players}
    assert ledger.sent == 34 + 3 * is_other_there


# --- a network that drops replies and requests


class Proxy:
    """Stands between a client and Redis; drops the connection around an EXEC when told to."""

    def __init__(self, path: Path, redis_url: str) -> None:
        self.upstream = urlsplit(redis_url).path
        self.drops: list[str] = []  # what befalls the next EXECs: "request" or "reply"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self.upstream)
            loses_reply = False
            while True:
                readable, _, _ = select.select([client, server], [], [])
                if server in readable:
                    reply = server.recv(1 << 20)
                    if loses_reply or not reply:
                        return
                    client.sendall(reply)
                if client in readable:
                    request = client.recv(1 << 20)
                    fate = self.drops.pop(0) if b"EXEC\r\n" in request and self.drops else None
                    if fate == "request" or not request:
                        return
                    loses_reply = fate == "reply"
                    server.sendall(request)

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def proxy(world: World, tmp_path: Path) -> Iterator[Proxy]:
    """A proxy in front of the world's Redis."""
    made = Proxy(tmp_path / "s", world.redis_url)
    yield made
    made.close()


@pytest.fixture
def far(world: World, proxy: Proxy, tmp_path: Path) -> Iterator[Stream]:
    """The stream as seen through the proxy."""
    assert proxy.upstream
    client = stream.connect(f"unix://{tmp_path / 's'}?{urlsplit(world.redis_url).query}")
    yield Stream(client, key=world.source.key)
    client.close()


def send(outbox: Outbox, parcel: Parcel) -> None:
    """Send it as a producer does, however often that takes."""
    with capture_logs():
        wait_for("Redis", lambda: outbox.send(parcel), is_temporary=stream.is_temporary, stop=STAY)


@pytest.mark.parametrize(
    "drops", [["reply"], ["request"], ["reply", "reply"], ["request", "reply", "request"]]
)
def test_a_dropped_connection_neither_loses_nor_doubles(
    world: World, proxy: Proxy, far: Stream, drops: list[str]
) -> None:
    """Whether the request or the reply of EXEC was lost, the parcel is on the stream once."""
    outbox = Outbox(far)
    outbox.open()
    players = population(SEED, 2, now_ms(), 0)
    outbox.send(pack(play(players, 2), players))
    proxy.drops = list(drops)
    parcel = pack(play(players, 6), players)
    send(outbox, parcel)
    assert len(proxy.drops) < len(drops)
    assert len(world.payloads()) == sent(world) == 8
    send(outbox, pack(play(players, 2), players))
    seqs = [(event["player"], event["seq"]) for event in map(json.loads, world.payloads())]
    assert len(set(seqs)) == len(seqs) == 10


@pytest.mark.parametrize("rate", [5000.0, AS_FAST_AS_IT_GOES])
def test_a_live_game_on_a_bad_line(world: World, proxy: Proxy, far: Stream, rate: float) -> None:
    """Drops of both kinds all along: every event once, in one chain a player."""
    outbox = Outbox(far)
    outbox.open()
    proxy.drops = ["reply", "request", "reply", "reply", "request"]
    told: list[bytes] = []
    with capture_logs():
        count = play_live(outbox, count=4000, rate=rate, told=told.extend)
    assert count == 4000
    assert world.payloads() == told
    assert sent(world) == 4000
    assert proxy.drops == []
    consume_and_audit(world, rows=4000)


# --- the journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty one, which ``noted`` reads."""
    with closing(Journal(tmp_path / "a.journal")) as made:
        yield made


def noted(tmp_path: Path) -> list[Try | Ack]:
    """What the journal says so far."""
    return list(read(tmp_path / "a.journal"))


def tries(parcel: Parcel) -> list[Try | Ack]:
    """The lines of a parcel that was tried."""
    return [Try(parcel.token, payload, "-") for payload in parcel.payloads]


def test_a_parcel_is_noted_before_it_is_sent(
    world: World, journal: Journal, tmp_path: Path
) -> None:
    """While Redis refuses it it is tried, once however often; it is acknowledged when Redis has it."""
    outbox = Outbox(world.source, journal)
    outbox.open()
    players = population(SEED, 2, now_ms(), 0)
    parcel = pack(play(players, 4), players)
    limit = world.client.config_get("maxmemory")["maxmemory"]
    world.client.config_set("maxmemory", "1")
    try:
        for _ in range(2):
            with pytest.raises(redis.RedisError):
                outbox.send(parcel)
            assert noted(tmp_path) == tries(parcel)
    finally:
        world.client.config_set("maxmemory", str(limit))
    outbox.send(parcel)
    assert noted(tmp_path) == [*tries(parcel), Ack(parcel.token)]
    # The end of a history: states and no events.
    outbox.send(pack([], players, History(1, 2, is_done=True)))
    assert noted(tmp_path) == [*tries(parcel), Ack(parcel.token)]


def test_a_parcel_found_to_have_arrived_is_acknowledged(
    world: World, proxy: Proxy, far: Stream, journal: Journal, tmp_path: Path
) -> None:
    """The reply to EXEC is lost: the second attempt finds the parcel there, and the journal says so."""
    outbox = Outbox(far, journal)
    outbox.open()
    players = population(SEED, 2, now_ms(), 0)
    parcel = pack(play(players, 4), players)
    proxy.drops = ["reply"]
    send(outbox, parcel)
    assert proxy.drops == []
    assert world.payloads() == parcel.payloads
    assert noted(tmp_path) == [*tries(parcel), Ack(parcel.token)]


def test_a_parcel_that_was_overtaken_is_never_acknowledged(
    outbox: Outbox, world: World, journal: Journal, tmp_path: Path
) -> None:
    """It is not on the stream, and nobody may expect it to be stored."""
    ours = Outbox(world.source, journal)
    ours.open()
    players = population(SEED, 2, now_ms(), 0)
    outbox.send(pack(play(players, 2), players))
    parcel = pack(play(players, 2), players)
    with pytest.raises(Overtaken):
        ours.send(parcel)
    ours.open()
    after = pack(play(players, 2), players)
    ours.send(after)
    assert noted(tmp_path) == [*tries(parcel), *tries(after), Ack(after.token)]


def test_what_cannot_be_noted_is_not_sent(world: World) -> None:
    """A journal on a full disk stops the producer: an event that nobody noted would prove nothing."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full here")
    with closing(Journal(full)) as journal:
        outbox = Outbox(world.source, journal)
        with pytest.raises(JournalError, match="No space left"):
            play_live(outbox, count=10)
    assert world.payloads() == []


def test_a_live_game_keeps_its_journal_on_a_bad_line(
    world: World, proxy: Proxy, far: Stream, journal: Journal, tmp_path: Path
) -> None:
    """Requests and replies are lost: what is acknowledged, what was tried and the stream are one."""
    outbox = Outbox(far, journal)
    outbox.open()
    proxy.drops = ["reply", "request", "reply"]
    with capture_logs():
        play_live(outbox, count=300)
    lines = noted(tmp_path)
    acknowledged = {line.token for line in lines if isinstance(line, Ack)}
    tried = [line for line in lines if isinstance(line, Try)]
    assert [line.payload for line in tried] == world.payloads()
    assert {line.token for line in tried} == acknowledged
    assert proxy.drops == []


# --- live


def play_live(
    outbox: Outbox,
    *,
    count: int,
    size: int = 5,
    rate: float = 5000.0,
    told: Callable[[list[bytes]], None] = lambda _: None,
) -> int:
    """A live game as ``python -m producer`` wires it."""

    def reload() -> list[Player]:
        ledger = wait_for("Redis", outbox.open, is_temporary=stream.is_temporary, stop=STAY)
        return live.cast_of(ledger.players, SEED, size, now_ms())

    return live.play(outbox, reload(), rate, count=count, stop=STAY, reload=reload, told=told)


def consume_and_audit(world: World, *, rows: int) -> None:
    """Store what is on the stream, and have the data prove itself."""
    with working(world):
        until(lambda: is_drained(world), "the stream to drain")
    assert world.count("quarantined_events") == 0
    result = audit(world.engine)
    assert result.broken == []
    assert result.rows == rows


def test_count_and_told_are_exact(world: World) -> None:
    """So many events, no more, each told once when Redis has it."""
    told: list[bytes] = []
    assert play_live(Outbox(world.source), count=137, told=told.extend) == 137
    assert len(world.payloads()) == sent(world) == len(told) == 137
    assert play_live(Outbox(world.source), count=0) == 0


@pytest.mark.parametrize("rate", [5000.0, AS_FAST_AS_IT_GOES])
def test_two_live_producers_never_fork_a_chain(world: World, rate: float) -> None:
    """Both play the same players at full speed; each takes up the other's states, no seq comes twice."""
    clients = [stream.connect(world.redis_url) for _ in range(2)]
    failed: list[BaseException] = []
    counts: list[int] = []

    def produce(client: redis.Redis) -> None:
        try:
            counts.append(play_live(Outbox(Stream(client)), count=1500, rate=rate))
        except BaseException as error:  # told below
            failed.append(error)

    threads = [threading.Thread(target=produce, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for client in clients:
        client.close()
    assert failed == []
    assert counts == [1500, 1500]
    assert sent(world) == len(world.payloads()) == 3000
    consume_and_audit(world, rows=3000)


def test_a_restart_goes_on_from_the_last_event(world: World) -> None:
    """Karma, XP, seq and energy are those of the last event on the stream, for every player."""
    play_live(Outbox(world.source), count=600)
    last = {event["player"]: event for event in map(json.loads, world.payloads())}
    left = Outbox(world.source).open().players
    assert last.keys() == left.keys()
    for name, event in last.items():
        player = left[name]
        assert (player.seq, player.karma) == (event["seq"], event["karma_total"])
        assert player.xp == event["details"]["xp"]
        assert player.energy == event["details"]["energy"]
    play_live(Outbox(world.source), count=600)
    first_again: dict[str, dict[str, Any]] = {}
    for raw in world.payloads()[600:]:
        event = json.loads(raw)
        first_again.setdefault(event["player"], event)
    for name, event in first_again.items():
        assert event["seq"] == last[name]["seq"] + 1
        assert event["details"]["xp"] == last[name]["details"]["xp"] + event["xp_delta"]
    consume_and_audit(world, rows=1200)


def test_a_flush_in_the_middle_forks_no_chain(world: World) -> None:
    """Redis loses everything twice while the game runs, and a producer restarts after it: one chain."""
    flushes = {200: True, 500: True}
    told: list[bytes] = []
    stored: list[int] = []

    def tell(payloads: list[bytes]) -> None:
        told.extend(payloads)
        for at in [at for at in flushes if len(told) >= at]:
            del flushes[at]
            until(lambda: world.count("game_events") == len(told), "what was sent so far")
            stored.append(len(told))
            world.client.flushdb()

    with capture_logs(), working(world):
        play_live(Outbox(world.source), count=800, told=tell, rate=500)
        play_live(Outbox(world.source), count=200)
        until(lambda: world.count("game_events") == 1000, "every event")
    assert len(stored) == 2
    assert audit(world.engine).broken == []


def test_cole_plays_and_those_who_quit_stay_away() -> None:
    """The cast is taken up as it was left, Cole first even if nobody else is there."""
    left = {player.name: player for player in population(SEED, 4, NOW_MS, 0)}
    names = list(left)
    left[names[2]].gone = True
    left[names[1]].seq = 99
    cast = live.cast_of(left, SEED, 5, NOW_MS)
    assert [player.name for player in cast[:2]] == [COLE, names[1]]
    assert cast[1].seq == 99
    assert names[2] not in {player.name for player in cast}
    assert len(cast) == 4


# --- history


DAYS, SIZE = 3, 30


def plan_of(days: int = DAYS) -> History:
    """A span of some days whose end is not a day's end."""
    until_ms = NOW_MS
    return History(until_ms // DAY_MS * DAY_MS - days * DAY_MS, until_ms, is_done=False)


def play_history(
    outbox: Outbox, plan: History, stop: threading.Event, progress: Callable[[int, int], None]
) -> int:
    """What a producer that was asked for history does when it starts."""
    ledger = outbox.open()
    rest = history.planned(ledger, DAYS, plan.until_ms, 90) or plan
    return history.play(outbox, ledger, rest, seed=SEED, size=SIZE, stop=stop, progress=progress)


def test_a_history_broken_off_and_resumed_is_the_same_history(world: World) -> None:
    """Wherever it is stopped, and by whomever it is taken up: the same events, byte for byte, in order."""
    plan, seen = plan_of(), list[tuple[int, int]]()
    whole_count = play_history(
        Outbox(world.source), plan, STAY, lambda at_ms, n: seen.append((at_ms, n))
    )
    whole, left = world.payloads(), states(world)
    assert len(whole) == whole_count == sent(world) == seen[-1][1]
    assert len(seen) >= 6, "too few parcels to break between"
    assert seen == sorted(seen)

    for parcels in (1, 2, 5):
        world.client.flushdb()
        pieces = 0
        while True:
            stop, done = threading.Event(), [0]

            def progress(_at_ms: int, _n: int, stop: threading.Event = stop, done: list[int] = done,
                         parcels: int = parcels) -> None:  # fmt: skip
                done[0] += 1
                if done[0] == parcels:
                    stop.set()

            pieces += 1
            assert pieces <= len(seen) + 1, "it does not get on"
            try:
                play_history(Outbox(world.source), plan, stop, progress)
            except Stopped:
                continue
            break
        assert pieces >= len(seen) // parcels
        assert world.payloads() == whole
        assert states(world) == left


def test_a_finished_history_is_followed_by_live_play(world: World) -> None:
    """Live events take up the chains where the past left them, also for those who never played in it."""
    at_ms = now_ms()
    plan = History(at_ms // DAY_MS * DAY_MS - DAY_MS, at_ms, is_done=False)
    outbox = Outbox(world.source)
    ledger = outbox.open()
    past = history.play(
        outbox, ledger, plan, seed=SEED, size=10, stop=STAY, progress=lambda *_: None
    )
    ledger = Outbox(world.source).open()
    assert len(ledger.players) == 10
    assert history.planned(ledger, 30, at_ms, 90) is None
    play_live(Outbox(world.source), count=300, size=12)
    consume_and_audit(world, rows=past + 300)


def test_two_producers_of_one_history_play_it_once(world: World) -> None:
    """Started at the same time they take turns: the events of one history, none twice."""
    plan = plan_of(2)
    play_history(Outbox(world.source), plan, STAY, lambda *_: None)
    whole = world.payloads()
    world.client.flushdb()
    clients = [stream.connect(world.redis_url) for _ in range(2)]
    failed: list[BaseException] = []
    start = threading.Barrier(2)

    def produce(client: redis.Redis) -> None:
        try:
            start.wait(10)
            play_history(Outbox(Stream(client)), plan, STAY, lambda *_: None)
        except BaseException as error:  # told below
            failed.append(error)

    with capture_logs():
        threads = [threading.Thread(target=produce, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    for client in clients:
        client.close()
    assert failed == []
    assert world.payloads() == whole
    assert sent(world) == len(whole)


def test_stopping_before_the_first_parcel_sends_nothing(world: World) -> None:
    """A producer told to stop at once leaves Redis as it was."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        play_history(Outbox(world.source), plan_of(), stop, lambda *_: None)
    assert world.client.dbsize() == 0


def test_a_slow_game_keeps_its_pace(world: World) -> None:
    """Live events bear the times at which they were due, the rate apart, whatever sending took."""
    began_s = time.time()
    told: list[bytes] = []
    play_live(Outbox(world.source), count=21, size=1, rate=40.0, told=told.extend)
    assert time.time() - began_s > 0.45
    gaps = [later.ts_ms - earlier.ts_ms for earlier, later in pairwise(map(read_event, told))]
    assert all(20 <= gap <= 30 for gap in gaps), gaps
    assert len(world.payloads()) == 21


@pytest.mark.parametrize(
    ("key", "field", "value"),
    [
        (PLAYERS, "Zeke", "no state"),
        (PLAYERS, b"\xff", "{}"),
        (PRODUCER, "sent", "many"),
        (PRODUCER, "history_start_ms", "yesterday"),
        (PRODUCER, "history_start_ms", "7"),
    ],
)
def test_what_another_wrote_there_is_told(
    world: World, key: str, field: str | bytes, value: str
) -> None:
    """A state that no producer wrote ends the start with a sentence that says what to remove."""
    world.client.hset(key, field, value)
    with pytest.raises(BadState, match="remove"):
        Outbox(world.source).open()
