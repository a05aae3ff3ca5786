"""What the tables say about themselves: the audit, the status, the trace of one event, the live view."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import date, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from sqlalchemy import text

from consumer.load import Loader
from infamous import report, schema, view
from infamous.audit import SAMPLES, audit
from infamous.status import as_json, status
from infamous.trace import Trace, trace
from infamous.watch import Watcher
from pipeline.event import Event, datetime_of, encode, uuid7
from pipeline.rules import RULES
from pipeline.streams import Streams
from producer.history import DAY_MS, play
from producer.outbox import History, Outbox, pack
from producer.simulate import COLE
from tests.conftest import World
from tests.integration.consuming import batch_of, is_drained, now_ms, until, working
from tests.unit.samples import chains, payload


def run(world: World, statement: str, **values: Any) -> None:
    """Change something in the database."""
    with world.engine.begin() as connection:
        connection.execute(text(statement), values)


def store(world: World, payloads: list[bytes]) -> None:
    """Store through the real door."""
    loader = Loader(world.database_url, "test")
    loader.store(batch_of(payloads))
    loader.close()


@pytest.fixture
def events(world: World) -> list[Event]:
    """Stored events of three healthy players, a hundred each."""
    made = chains(300, start_ms=now_ms() - 60_000)
    store(world, [encode(event) for event in made])
    return made


# --- the audit


def test_an_empty_table_passes(world: World) -> None:
    """Before the first event nothing is broken."""
    result = audit(world.engine)
    assert (result.passed, result.rows, result.players, result.unsequenced) == (True, 0, 0, 0)


def test_a_simulated_population_passes(world: World) -> None:
    """Days of players, through the stream, the consumer and the table: every rule holds."""
    at_ms = now_ms()
    plan = History(at_ms // DAY_MS * DAY_MS - 5 * DAY_MS, at_ms, is_done=False)
    outbox = Outbox(world.source)
    stop = threading.Event()
    sent = play(outbox, outbox.open(), plan, seed=3, size=60, stop=stop, progress=lambda *_: None)
    assert sent > 2000
    with working(world):
        until(lambda: is_drained(world), "the stream to drain")
    result = audit(world.engine)
    assert result.broken == []
    assert (result.rows, result.unsequenced) == (sent, 0)
    assert 20 < result.players <= 60
    assert report.audit(result).endswith(f"audit passed: {sent:,} rows of {result.players} players")


def one(events: list[Event], seq: int, player: str = COLE) -> Event:
    """The event of that player and number."""
    return next(event for event in events if event.player == player and event.seq == seq)


DAMAGE: dict[str, tuple[str, set[str], int]] = {
    # what is done to Cole's event 50, the rules it breaks, the event that is named
    "a row is missing": ("delete from game_events where id = :id", {"seq"}, 51),
    "the first row is missing": ("delete from game_events where id = :first", {"seq"}, 2),
    "a seq is repeated": ("update game_events set seq = 49 where id = :id", {"seq"}, 49),
    "karma does not follow": (
        "update game_events set karma_delta = karma_delta + 1 where id = :id", {"karma"}, 50,
    ),
    "the first karma does not start at zero": (
        "update game_events set karma_delta = karma_delta - 1 where id = :first", {"karma"}, 1,
    ),
    "XP below zero": (
        "update game_events set action = 'ability_upgrade', energy_source = null,"
        " xp_delta = -1000000 where id = :id", {"xp"}, 50,
    ),
    "a rank that does not follow": (
        "update game_events set rank = 'Hero' where id = :id", {"rank"}, 50,
    ),
    "a time that is not the id's": (
        "update game_events set ts = ts + interval '1 ms' where id = :id", {"time"}, 50,
    ),
    "a time that is not the id's by a microsecond": (
        "update game_events set ts = ts - interval '1 us' where id = :id", {"time"}, 50,
    ),
    "an id that is no UUIDv7": (
        "update game_events set id = cast(overlay(id::text placing '4' from 15 for 1) as uuid)"
        " where id = :id", {"time"}, 50,
    ),
    "an id of another variant": (
        "update game_events set id = cast(overlay(id::text placing 'c' from 20 for 1) as uuid)"
        " where id = :id", {"time"}, 50,
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_damage_is_found_and_named(world: World, events: list[Event], damage: str) -> None:
    """The rule that is broken is told, and the first row that breaks it, by player, seq and id."""
    statement, rules, seq = DAMAGE[damage]
    run(world, "alter table game_events drop constraint game_events_rank_check")
    assert audit(world.engine).passed
    hit, first = one(events, 50), one(events, 1)
    with world.engine.begin() as connection:
        known = {"id": hit.id, "first": first.id}
        used = {key: value for key, value in known.items() if f":{key}" in statement}
        assert connection.execute(text(statement), used).rowcount == 1
    result = audit(world.engine)
    assert not result.passed
    found = {broken.rule for broken in result.broken}
    # The XP of a row that is missing may be missed where all there was is spent.
    assert rules <= found <= rules | {"xp"}
    for broken in result.broken:
        if broken.rule not in rules:
            continue
        assert broken.rows >= 1
        sample = broken.samples[0]
        assert (sample["player"], sample["seq"]) == (COLE, seq)
    told = report.audit(result)
    assert told.splitlines()[-1].startswith("audit FAILED")
    assert f"{COLE!r} seq {seq} at" in told
    script = json.loads(json.dumps(report.audit_json(result), default=str))
    assert script["passed"] is False
    assert {broken["rule"] for broken in script["broken"]} == found


def test_a_swap_of_two_events_is_found(world: World, events: list[Event]) -> None:
    """Seqs without a gap are not enough: the karma of rows in the wrong order does not follow."""
    moved = [e for e in events if e.player == COLE and e.karma_delta and 1 < (e.seq or 0) < 100]
    assert moved
    seq = moved[0].seq
    assert seq is not None
    run(
        world,
        "update game_events set seq = :a + :b - seq where player = :player and seq in (:a, :b)",
        a=seq, b=seq + 1, player=COLE,
    )  # fmt: skip
    assert "karma" in {broken.rule for broken in audit(world.engine).broken}


def test_many_offenders_are_counted_and_the_first_named(world: World, events: list[Event]) -> None:
    """The report stays short however much is broken."""
    run(world, "alter table game_events drop constraint game_events_rank_check")
    run(world, "update game_events set rank = 'King'")
    (broken,) = audit(world.engine).broken
    assert (broken.rule, broken.rows, len(broken.samples)) == ("rank", len(events), SAMPLES)
    names = [(sample["player"], sample["seq"]) for sample in broken.samples]
    assert names == sorted(names)
    assert names[0][1] == 1


def test_every_rule_is_damaged_above() -> None:
    """A rule that nothing breaks in these tests would be one that may not work."""
    assert set.union(*(rules for _, rules, _ in DAMAGE.values())) == set(RULES)


def test_events_without_a_seq_are_noted_not_judged(world: World, events: list[Event]) -> None:
    """Senders that do not count their events have no chain to check; their number is told."""
    store(world, [payload(now_ms(), n, player=COLE, seq=None) for n in range(3)])
    result = audit(world.engine)
    assert (result.passed, result.unsequenced, result.rows) == (True, 3, len(events) + 3)
    assert "3 rows have no seq" in report.audit(result)


# --- the status

KEYS = {
    "at", "entries", "undelivered", "undelivered_is_estimate", "pending", "consumers",
    "oldest_waiting_s", "produced", "rows", "quarantined", "newest_ts", "newest_ingested_at",
    "freshness_s", "complete_to", "flooded", "lost", "partitions", "last_partition", "servers",
    "schema", "memory", "held_by", "partition_days_ahead", "streams",
}  # fmt: skip


def test_the_status_of_a_running_pipeline(world: World) -> None:
    """Each figure is the true one, under the name that scripts look for."""
    outbox = Outbox(world.source)
    outbox.open()
    made = chains(20, start_ms=now_ms() - 5_000)
    outbox.send(pack(made, []))
    world.source.append([b"bad", b"[]", b"worse"])
    with working(world):
        until(lambda: is_drained(world), "the stream to drain")
    world.source.append([b"1", b"2", b"3"])
    world.source.read("slow", 2)
    now = as_json(status(world.streams, world.engine))
    assert set(now) == KEYS
    assert (now["entries"], now["undelivered"], now["pending"], now["produced"]) == (26, 1, 2, 20)
    assert now["rows"] == 20
    assert now["quarantined"] == {"total": 3, "by_reason": {"not_json": 2, "not_an_object": 1}}
    assert now["consumers"]["slow"]["pending"] == 2
    assert 0 <= now["consumers"]["slow"]["idle_s"] < 60
    assert 0 <= now["oldest_waiting_s"] < 60
    waited_s = (now["at"] - now["complete_to"]).total_seconds()
    assert waited_s == pytest.approx(now["oldest_waiting_s"], abs=1.0)
    assert (now["flooded"], now["lost"]) == ([], 0)
    assert now["newest_ts"] == datetime_of(made[-1].ts_ms)
    assert 4 < now["freshness_s"] < 60
    assert isinstance(now["newest_ingested_at"], datetime)
    assert isinstance(now["last_partition"], date)
    assert now["partitions"] >= 9
    assert now["schema"] == {"revision": schema.head(), "head": schema.head()}
    assert now["servers"]["postgres"].startswith("Postgres ")
    assert now["servers"]["redis"].split(" ")[0] in {"Valkey", "Redis"}
    json.dumps(now, default=str)


def test_the_status_before_anything_happened(bare_world: World) -> None:
    """No stream, no tables: the facts are told, with nothing where there is nothing."""
    now = as_json(status(bare_world.streams, bare_world.engine))
    assert set(now) == KEYS
    assert (now["entries"], now["undelivered"], now["pending"], now["produced"]) == (0, 0, 0, 0)
    assert (now["rows"], now["partitions"], now["newest_ts"]) == (None, None, None)
    assert (now["complete_to"], now["flooded"], now["lost"]) == (None, [], None)
    assert now["quarantined"] == {"total": None, "by_reason": {}}
    assert now["schema"] == {"revision": None, "head": schema.head()}


def test_the_status_of_empty_tables(world: World) -> None:
    """Migrated and not used yet: no rows is 0, not unknown."""
    now = as_json(status(world.streams, world.engine))
    assert (now["rows"], now["quarantined"]["total"], now["freshness_s"]) == (0, 0, None)


# --- the trace


def test_the_trace_of_a_stored_event(world: World, events: list[Event]) -> None:
    """Its row is found by the id alone, also when it is long gone from the stream."""
    found = trace(world.streams, world.engine, events[7].id)
    assert found.is_found
    assert found.row is not None
    assert (found.row["player"], found.row["seq"]) == (events[7].player, events[7].seq)
    assert (found.quarantined, found.entry) == (None, None)
    assert found.at == datetime_of(events[7].ts_ms)
    assert report.trace(found).startswith("stored in game_events at ")
    script = json.loads(json.dumps(report.trace_json(found), default=str))
    assert (script["found"], script["stream"]) == (True, None)


@pytest.mark.parametrize(
    "raw",
    [
        lambda event_id: payload(id=str(event_id), ts=None, rank="King"),
        lambda event_id: b'\xff\0 {"id":"%s' % str(event_id).encode(),
    ],
    ids=["a bad rank", "broken bytes"],
)
def test_the_trace_of_a_quarantined_event(world: World, raw: Callable[[UUID], bytes]) -> None:
    """It is found by the id in its raw bytes, and why it was refused is told."""
    event_id = uuid7(now_ms(), 77)
    store(world, [raw(event_id)] * 3)
    found = trace(world.streams, world.engine, event_id)
    assert (found.row, found.entry, found.is_found) == (None, None, True)
    assert found.quarantined is not None
    assert found.quarantined["times_seen"] == 3
    assert f"as {found.quarantined['reason']}: {found.quarantined['detail']}" in report.trace(found)
    script = json.loads(json.dumps(report.trace_json(found), default=str))
    assert str(event_id) in script["quarantined"]["raw"]
    assert len(script["quarantined"]["sha256"]) == 64


def test_the_trace_follows_an_event_down_the_stream(world: World) -> None:
    """Waiting, read by a consumer, stored and acknowledged: each state has its words."""
    (event,) = chains(1, start_ms=now_ms() - 1000)

    def told() -> str:
        return report.trace(trace(world.streams, world.engine, event.id))

    assert told() == f"{event.id} is not in the table, the quarantine or the stream"
    (entry_id,) = world.source.append([encode(event)])
    assert told() == f"on the stream as entry {entry_id.decode()}, waiting to be read"
    world.source.ensure_group()
    assert told() == f"on the stream as entry {entry_id.decode()}, waiting to be read"
    world.source.read("reader", 1)
    assert told().endswith("read by reader and not acknowledged yet")
    store(world, [encode(event)])
    world.source.ack([entry_id])
    assert told().splitlines()[0].startswith("stored in game_events")
    assert told().endswith(f"on the stream as entry {entry_id.decode()}, acknowledged")


@pytest.mark.parametrize(
    "event_id",
    [uuid4(), UUID(int=0), UUID(int=2**128 - 1), uuid7(0, 1), uuid7(2**48 - 1, 1)],
    ids=["version 4", "nil", "max", "1970", "past the calendar's end"],
)
def test_the_trace_of_an_unknown_id(world: World, events: list[Event], event_id: UUID) -> None:
    """Any UUID can be asked for; one that is nowhere is told to be nowhere."""
    world.source.append([encode(event) for event in events[:3]])
    found = trace(world.streams, world.engine, event_id)
    assert not found.is_found
    assert "is not in the table, the quarantine or the stream" in report.trace(found)
    assert report.trace_json(found)["found"] is False
    assert found == Trace(event_id, found.at, None, None, None)


def test_the_trace_of_an_event_whose_id_is_no_version_7(world: World) -> None:
    """It can only be in the quarantine or on the stream, and is found there."""
    event_id = uuid4()
    raw = payload(id=str(event_id), ts=None)
    store(world, [raw])
    world.source.append([raw])
    found = trace(world.streams, world.engine, event_id)
    assert found.quarantined is not None
    assert found.quarantined["reason"] == "not_uuid7"
    assert found.entry is not None


# --- the live view's eyes


def test_the_watcher_sees_what_the_view_shows(world: World) -> None:
    """Rows, the last events with their details, and Cole's own state come out of the real tables."""
    made = chains(30, start_ms=now_ms() - 5_000)
    watcher = Watcher(world.streams, world.engine, COLE, events=5)
    assert watcher.look().rows == 0
    outbox = Outbox(world.source)
    outbox.open()
    outbox.send(pack(made, []))
    world.source.append([b"bad"])
    with working(world):
        until(lambda: is_drained(world), "the stream to drain")
    until(lambda: watcher.look().rows == 30, "the count to be taken anew")
    glimpse = watcher.look()
    assert [event["ts"] for event in glimpse.events] == [
        datetime_of(event.ts_ms) for event in reversed(made[-5:])
    ]
    assert glimpse.hero is not None
    last = [event for event in made if event.player == COLE][-1]
    assert (glimpse.hero["seq"], glimpse.hero["karma_total"]) == (last.seq, last.karma_total)
    assert glimpse.hero["details"] == json.loads(bytes(last.details))
    assert (glimpse.quarantined, glimpse.trouble) == (1, None)
    assert glimpse.in_rate > 0
    assert glimpse.out_rate > 0
    assert "rows 30" in view.line(glimpse)


def test_a_server_that_is_away_is_part_of_the_picture(world: World) -> None:
    """The view keeps the last figures and says what is wrong, instead of ending."""
    away = Streams("redis://127.0.0.1:1/0")
    glimpse = Watcher(away, world.engine, COLE, events=5).look()
    assert glimpse.trouble is not None
    assert glimpse.trouble.startswith("Redis: ")
    run(world, "drop table quarantined_events")
    glimpse = Watcher(world.streams, world.engine, COLE, events=5).look()
    assert glimpse.trouble is not None
    assert glimpse.trouble.startswith("Postgres: ")
    assert "\n" not in glimpse.trouble


def test_a_stream_that_is_no_stream_is_told(world: World) -> None:
    """A key of another kind is a fault, not an empty stream with nothing waiting."""
    world.client.set(world.source.key, "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        status(world.streams, world.engine)
