"""The checker on a real database: a sound world passes, and every single thing that is wrong is named."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from consumer.load import Loader
from infamous.prove.check import SAMPLES, Account, CheckError, check
from infamous.prove.remains import Part, Remains
from pipeline.event import encode, uuid7
from pipeline.rules import RULES
from producer.journal import STORED, Journal, JournalError, Try, read
from tests.conftest import World
from tests.integration.consuming import batch_of, now_ms
from tests.unit.samples import chains, fields, payload, without

MIB = 1024 * 1024
# What the health table and the rollups should hold, made anew from the tables after a damage to those.
SETTLE = (
    "delete from pipeline_health",
    """
    insert into pipeline_health (minute, process, stored, quarantined, quarantined_by_reason)
    select now(), 'test', (select count(*) from game_events), seen, jsonb_build_object('any', seen)
    from (select coalesce(sum(times_seen), 0) as seen from quarantined_events) as entries
    """,
    "delete from hourly_rollups",
    """
    insert into hourly_rollups
    select date_trunc('hour', ts, 'UTC'), player, action, count(*), sum(xp_delta), sum(karma_delta)
    from game_events group by 1, 2, 3
    """,
)
INSERT_ROW = """
insert into game_events (id, ts, player, action, xp_delta, karma_delta, karma_total, rank)
select cast(:id as uuid), to_timestamp(('x' || translate(left(:id, 13), '-', ''))::bit(48)::bigint / 1000.0),
       'Zeke', 'kill_enemy', 5, 1, 16, 'Guardian'
"""
QUARANTINE = """
insert into quarantined_events (sha256, raw, size_bytes, reason, detail, entry_id)
values (:sha256, :raw, :size, :reason, '', '1-1')
"""


def changed_text(raw: bytes, old: str, new: str) -> bytes:
    """An event whose text is written otherwise."""
    assert raw.count(old.encode()) == 1
    return raw.replace(old.encode(), new.encode())


@dataclass(frozen=True)
class Scene:
    """A world in which everything went well, and the journals of those who sent."""

    world: World
    journals: Path
    # Acknowledged, and no part of a chain.
    event: bytes
    # Never acknowledged, stored all the same.
    unacknowledged: bytes
    # Acknowledged, refused for bad_rank, and with an id.
    poison: bytes
    # Acknowledged, refused for too_large, and kept in part.
    large: bytes = field(repr=False)

    @property
    def event_id(self) -> str:
        """The event's id."""
        return str(json.loads(self.event)["id"])

    @property
    def poison_id(self) -> str:
        """The poison's id."""
        return str(json.loads(self.poison)["id"])

    def run(self, statement: str, **values: Any) -> None:
        """Change something in the database; it must hit something."""
        with self.world.engine.begin() as connection:
            done = connection.execute(text(statement), values)
            assert done.rowcount != 0

    def settle(self) -> None:
        """Bring health and rollups into agreement with the tables: the damage then stands alone."""
        with self.world.engine.begin() as connection:
            for statement in SETTLE:
                connection.execute(text(statement))

    def store(self, *payloads: bytes) -> None:
        """Store through the real door."""
        loader = Loader(self.world.database_url, "test")
        loader.store(batch_of(list(payloads)))
        loader.close()

    def quarantine(self, raw: bytes, reason: str = "bad_rank") -> None:
        """Put bytes into the quarantine."""
        key = hashlib.sha256(raw).digest()
        self.run(QUARANTINE, sha256=key, raw=raw, size=len(raw), reason=reason)

    def journal(
        self, name: str, *payloads: bytes, expected: str = STORED, is_acknowledged: bool = True
    ) -> None:
        """A parcel under a token of that name, in a journal that may be there already."""
        book = Journal(self.journals / f"{name.partition('.')[0]}.journal")
        book.tried(name.encode(), payloads, expected)
        if is_acknowledged:
            book.acknowledged(name.encode())
        book.close()

    def check(self) -> Account:
        """What the checker finds."""
        return check(self.world.engine, self.world.source, self.journals)


@pytest.fixture
def scene(world: World, tmp_path: Path) -> Scene:
    """Sixty events of healthy players, some of odd senders, and poison: all where they belong."""
    ms = now_ms() - 60_000
    journals = tmp_path / "journals"
    journals.mkdir()
    healthy = [encode(event) for event in chains(60, start_ms=ms)]
    plain = payload(ms, 1, action="recharge", energy_source="car", seq=None)
    unacknowledged = payload(ms, 2, seq=None)
    odd = [
        payload(
            ms, 3, player='Zo\\e\t"⚡', seq=None, details={"path": 'C:\\new\r\n"'}, wet=[1, None]
        ),
        without("ts", "details", "seq", ms=ms, number=4),
        payload(ms, 5, ts=None, details=None, seq=None, combo=1.50),
        payload(ms, 6, details={}, seq=None),
        json.dumps(fields(ms, 7, id=str(uuid7(ms, 7)).upper(), seq=None), indent="\t")
        .encode()
        .replace(b"\n", b"\r\n"),
        # Rounded, the last digits would be a millisecond more.
        changed_text(payload(ms, 8, seq=None), "+00:00", "9996Z"),
        payload(ms, 9, seq=None, v=1, xp_delta=-(2**31), action="ability_upgrade"),
    ]
    bad_rank = payload(ms, 10, rank="King")
    large = b"\\." * (MIB // 2 + 50)
    not_json = [b"", b"\xff\0\r\n\t\\"]
    scene = Scene(world, journals, plain, unacknowledged, bad_rank, large)
    scene.journal("game.1", *healthy[:40])
    scene.journal("game.2", *healthy[40:], is_acknowledged=False)
    # A producer that came after a kill sends what was never acknowledged once more.
    scene.journal("again.1", *healthy[40:])
    scene.journal("again.2", plain, *odd)
    scene.journal("again.3", unacknowledged, is_acknowledged=False)
    scene.journal(
        "again.4", payload(ms, 11, seq=None), b"never sent", expected="x", is_acknowledged=False
    )
    scene.journal("stranger.1", bad_rank, expected="bad_rank")
    scene.journal("stranger.2", large, expected="too_large")
    scene.journal("stranger.3", *not_json, expected="not_json")
    with (journals / "game.journal").open("ab") as torn:
        torn.write(b"try game.3 AAAA")
    scene.store(*healthy, plain, *odd, unacknowledged, bad_rank, large, *not_json)
    scene.store(*healthy, bad_rank)
    world.source.ensure_group()
    world.source.append([b"read"])
    world.source.ack([entry.id for entry in world.source.read("reader", 10).entries])
    scene.run(SETTLE[3])
    return scene


# 60 of the game, 1 + 7 of odd senders, 1 + 1 that are not acknowledged, and poison: 4 + 1 never sent.
SOUND = Account(
    attempted=75,
    acknowledged=72,
    stored=69,
    quarantined=4,
    missing=0,
    duplicated=0,
    unexpected=0,
    chain_ok=True,
    rollups_ok=True,
    pending=0,
    health_ok=True,
    problems=[],
)


def assert_found(scene: Scene, *words: str, **changes: Any) -> None:
    """The account is the sound one but for that, does not pass, and names each thing in its words."""
    found = scene.check()
    assert found == replace(SOUND, problems=found.problems, **changes)
    assert not found.passed
    assert len(found.problems) == len(words)
    for word, problem in zip(words, found.problems, strict=True):
        assert word in problem


def test_a_sound_world_passes(scene: Scene) -> None:
    """Odd but good senders, repetitions and a torn journal are no violation; nor is a second check."""
    assert scene.check() == SOUND
    told: list[str] = []
    found = check(scene.world.engine, scene.world.source, scene.journals, say=told.append)
    assert found == SOUND
    assert found.passed
    assert "reading the journals" in told


@pytest.mark.parametrize(
    "change",
    [
        {"missing": 1}, {"duplicated": 1}, {"unexpected": 1}, {"chain_ok": False}, {"rollups_ok": False},
        {"pending": 1}, {"health_ok": False}, {"problems": ["a journal is odd"]},
    ],
    ids=str,
)  # fmt: skip
def test_each_figure_alone_is_enough_to_fail(change: dict[str, Any]) -> None:
    """The verdict leaves nothing out, whatever is or is not among the problems."""
    assert SOUND.passed
    assert replace(SOUND, rollups_ok=None).passed
    assert not replace(SOUND, **change).passed


# --- missing


def test_a_missing_event_is_found(scene: Scene) -> None:
    """What Redis confirmed must be in one of the two places."""
    scene.run("delete from game_events where id = cast(:id as uuid)", id=scene.event_id)
    scene.settle()
    words = f"acknowledged events neither stored nor quarantined: 1, such as {scene.event_id}"
    assert_found(scene, words, missing=1, stored=SOUND.stored - 1)


def test_missing_poison_is_found(scene: Scene) -> None:
    """Whoever sent it is owed an answer why it is not in the table."""
    scene.run("delete from quarantined_events where reason = 'bad_rank'")
    scene.settle()
    words = f"acknowledged poison not quarantined: 1, such as {hashlib.sha256(scene.poison).hexdigest()}"
    assert_found(scene, words, missing=1, quarantined=SOUND.quarantined - 1)


def test_what_was_never_acknowledged_may_be_missing(scene: Scene) -> None:
    """Without Redis' word nothing is promised."""
    event_id = json.loads(scene.unacknowledged)["id"]
    scene.run("delete from game_events where id = cast(:id as uuid)", id=event_id)
    scene.settle()
    found = scene.check()
    assert found == replace(SOUND, stored=SOUND.stored - 1)
    assert found.passed


def test_an_acknowledgement_in_another_journal_counts(scene: Scene) -> None:
    """A token is a parcel's name everywhere: an ack that were overlooked would hide a loss."""
    book = Journal(scene.journals / "late.journal")
    book.acknowledged(b"again.4")
    book.close()
    found = scene.check()
    assert (found.acknowledged, found.missing) == (SOUND.acknowledged + 2, 2)


# --- lost by Redis


def died(scene: Scene, *payloads: bytes, end: str = "0-0", then: tuple[bytes, ...] = ()) -> Account:
    """What is found where a master died whose file has these payloads, from 1-0 on, and then a command."""
    history = [
        (b"XADD", b"game-events", b"%d-0" % number, b"event", payload)
        for number, payload in enumerate(payloads, start=1)
    ]
    raw = b"".join(
        b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        for words in (*history, *((then,) if then else ()))
    )
    path = scene.journals / "dead.aof"
    path.write_bytes(raw)
    remains = Remains([Part(path, len(raw))], {"game-events": end.encode()})
    scene.settle()
    return check(scene.world.engine, scene.world.source, scene.journals, remains=[remains])


def test_what_a_dead_master_alone_had_is_lost_by_redis(scene: Scene) -> None:
    """An event and poison that Redis lost are counted by themselves: nothing of ours is missing."""
    scene.run("delete from game_events where id = cast(:id as uuid)", id=scene.event_id)
    scene.run("delete from quarantined_events where reason = 'bad_rank'")
    found = died(scene, scene.event, scene.poison)
    stored, quarantined = SOUND.stored - 1, SOUND.quarantined - 1
    assert found == replace(SOUND, stored=stored, quarantined=quarantined, lost_by_redis=2)
    assert found.passed


def test_what_is_stored_is_not_lost(scene: Scene) -> None:
    """A consumer was faster than the death: that Redis lost the entry harms nobody."""
    assert died(scene, scene.event, scene.poison) == replace(SOUND, lost_by_redis=0)


@pytest.mark.parametrize(
    "excuse", ["replicated", "in_hand", "acknowledged", "never_taken", "sent_again"]
)
def test_no_loss_of_ours_is_booked_as_redis(scene: Scene, excuse: str) -> None:
    """The replica had it, a consumer had it or was done with it, no master had it, or it is there still."""
    scene.run("delete from game_events where id = cast(:id as uuid)", id=scene.event_id)
    match excuse:
        case "replicated":
            found = died(scene, scene.event, end="1-0")
        case "in_hand":
            given = (b"XCLAIM", b"game-events", b"postgres", b"reader", b"0", b"1-0", b"JUSTID")
            found = died(scene, scene.event, then=given)
        case "acknowledged":
            ack = (b"XACK", b"game-events", b"postgres", b"1-0")
            found = died(scene, scene.event, then=ack)
        case "never_taken":
            found = died(scene, scene.unacknowledged)
        case _:
            scene.world.source.append([scene.event])
            source = scene.world.source
            source.ack([entry.id for entry in source.read("reader", 10).entries])
            found = died(scene, scene.event)
    assert (found.missing, found.lost_by_redis, found.passed) == (1, 0, False)


def of_one_player(scene: Scene) -> tuple[list[bytes], list[str]]:
    """The game's events of the player who has most of them, and their ids, in order."""
    by_player: dict[str, list[bytes]] = {}
    for line in read(scene.journals / "game.journal"):
        if isinstance(line, Try):
            by_player.setdefault(json.loads(line.payload)["player"], []).append(line.payload)
    payloads = max(by_player.values(), key=len)
    return payloads, [json.loads(payload)["id"] for payload in payloads]


def test_a_gap_is_excused_by_the_events_that_fill_it(scene: Scene) -> None:
    """A chain from whose middle Redis lost two events holds with them; with another missing it is broken."""
    payloads, ids = of_one_player(scene)
    drop = "delete from game_events where id = any(cast(:ids as uuid[]))"
    scene.run(drop, ids=ids[1:3])
    found = died(scene, *payloads[1:3])
    assert (found.lost_by_redis, found.missing, found.chain_ok, found.passed) == (2, 0, True, True)
    found = died(scene, payloads[1])
    assert (found.lost_by_redis, found.missing, found.chain_ok) == (1, 1, False)


def test_a_lost_end_is_no_gap(scene: Scene) -> None:
    """Where the sender went on from before the loss, or ended there, nothing is put back into the chain."""
    payloads, ids = of_one_player(scene)
    scene.run("delete from game_events where id = cast(:id as uuid)", id=ids[-1])
    found = died(scene, payloads[-1])
    assert (found.lost_by_redis, found.missing, found.passed) == (1, 0, True)


def test_a_fork_is_excused_where_redis_lost_the_state(scene: Scene) -> None:
    """The sender went on from before the loss: what a consumer had stored by then stands beside the chain."""
    payloads, ids = of_one_player(scene)
    twin = json.loads(payloads[1]) | {"id": str(uuid7(now_ms(), 77)), "ts": None}
    twin_payload = json.dumps(twin).encode()
    scene.journal("fork.1", twin_payload)
    scene.store(twin_payload)
    given = (b"XCLAIM", b"game-events", b"postgres", b"reader", b"0", b"1-0", b"JUSTID")
    found = died(scene, payloads[1], then=given)
    assert (found.lost_by_redis, found.missing, found.chain_ok, found.passed) == (0, 0, True, True)
    assert not died(scene, payloads[0]).chain_ok
    assert ids[1] != twin["id"]


# --- twice


def test_a_repeated_row_is_found(scene: Scene) -> None:
    """Without its primary key the table would take anything."""
    scene.run("alter table game_events drop constraint game_events_pkey")
    repeat = "insert into game_events select * from game_events where id = cast(:id as uuid)"
    scene.run(repeat, id=scene.event_id)
    scene.run(repeat, id=scene.event_id)
    scene.settle()
    assert_found(scene, f"such as {scene.event_id} of 'Zeke' in 4 rows", duplicated=3)


def test_an_event_in_both_places_is_found(scene: Scene) -> None:
    """It is stored or it is refused, and a good one is not refused."""
    scene.quarantine(scene.event)
    scene.settle()
    both = f"events both stored and quarantined: 1, such as {scene.event_id}"
    good = f"good events in the quarantine: 1, such as {scene.event_id} as bad_rank"
    quarantined = SOUND.quarantined + 1
    assert_found(scene, both, good, duplicated=1, unexpected=1, quarantined=quarantined)


def test_poison_in_both_places_is_found(scene: Scene) -> None:
    """A row must not stand for what was refused."""
    scene.run(INSERT_ROW, id=scene.poison_id)
    scene.settle()
    assert_found(
        scene,
        f"poison both stored and quarantined: 1, such as {hashlib.sha256(scene.poison).hexdigest()}",
        f"rows that should be in the quarantine: 1, such as {scene.poison_id}",
        duplicated=1,
        unexpected=1,
        stored=SOUND.stored + 1,
    )


# --- nobody sent it, or not so


def test_a_row_that_nobody_sent_is_found(scene: Scene) -> None:
    """The table holds what was sent and nothing else."""
    event_id = str(uuid7(now_ms(), 99))
    scene.run(INSERT_ROW, id=event_id)
    scene.settle()
    words = f"rows that nobody sent: 1, such as {event_id} of 'Zeke'"
    assert_found(scene, words, unexpected=1, stored=SOUND.stored + 1)


def test_an_entry_that_nobody_sent_is_found(scene: Scene) -> None:
    """The quarantine holds what was sent and nothing else."""
    scene.quarantine(b"who was that?", "not_json")
    scene.settle()
    words = f"entries that nobody sent: 1, such as {hashlib.sha256(b'who was that?').hexdigest()}"
    assert_found(scene, words, unexpected=1, quarantined=SOUND.quarantined + 1)


def test_a_good_event_in_the_quarantine_is_found(scene: Scene) -> None:
    """It is not lost, and it is in the wrong place."""
    scene.run("delete from game_events where id = cast(:id as uuid)", id=scene.event_id)
    scene.quarantine(scene.event, "database")
    scene.settle()
    assert_found(
        scene,
        f"good events in the quarantine: 1, such as {scene.event_id} as database",
        unexpected=1,
        stored=SOUND.stored - 1,
        quarantined=SOUND.quarantined + 1,
    )


def test_poison_in_the_table_is_found(scene: Scene) -> None:
    """It is not lost, and it is in the wrong place."""
    scene.run("delete from quarantined_events where reason = 'bad_rank'")
    scene.run(INSERT_ROW, id=scene.poison_id)
    scene.settle()
    assert_found(
        scene,
        f"such as {scene.poison_id} of 'Zeke', which is poison: bad_rank",
        unexpected=1,
        stored=SOUND.stored + 1,
        quarantined=SOUND.quarantined - 1,
    )


def test_poison_under_the_id_of_an_event_is_not_taken_for_it(scene: Scene) -> None:
    """The event's own row is no excuse for poison that is missing, and no poison in the table."""
    poison = changed_text(scene.event, '"Guardian"', '"King"')
    scene.journal("copy.1", poison, expected="bad_rank")
    scene.store(poison)
    assert scene.check().passed
    scene.run("delete from quarantined_events where sha256 = sha256(:raw)", raw=poison)
    scene.settle()
    more = {name: getattr(SOUND, name) + 1 for name in ("attempted", "acknowledged")}
    assert_found(scene, "acknowledged poison not quarantined: 1", missing=1, **more)


# The stored event is "Zeke" recharging from a car: what is set, what is told, and rules broken with it.
CHANGES: dict[str, tuple[str, str, list[str]]] = {
    "ts": ("ts = ts + interval '1 ms'", "ts in ms by the id is ", ["time"]),
    "ts by a microsecond": ("ts = ts - interval '1 us'", "ts in ms is ", ["time"]),
    "player": ("player = 'Zeke '", 'player is "Zeke " and "Zeke" was sent', []),
    "action": (
        "action = 'kill_enemy', energy_source = null",
        'action is "kill_enemy" and "recharge" was sent, energy_source is null and "car" was sent', [],
    ),
    "xp_delta": ("xp_delta = 6", "xp_delta is 6 and 5 was sent", []),
    "karma_delta": ("karma_delta = -1", "karma_delta is -1 and 1 was sent", []),
    "karma_total": ("karma_total = 17", "karma_total is 17 and 16 was sent", []),
    "rank": ("rank = 'Hero'", 'rank is "Hero" and "Guardian" was sent', ["rank"]),
    "energy_source": ("energy_source = ''", 'energy_source is "" and "car" was sent', []),
    "energy_source to null": ("energy_source = null", 'energy_source is null and "car" was sent', []),
    "seq": ("seq = 1, player = 'New', karma_delta = 16", "seq is 1 and null was sent", []),
    "details": ("details = details || '{\"a\": 1}'", "details is {", []),
    "details to null": ("details = null", "details is null and {", []),
    "details to a JSON null": ("details = 'null'", "details is null and {", []),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_value_is_found(scene: Scene, change: str) -> None:
    """Each column holds what was sent, and the first that does not is shown beside it."""
    assignment, words, rules = CHANGES[change]
    scene.run("alter table game_events drop constraint game_events_rank_check")
    scene.run(
        f"update game_events set {assignment} where id = cast(:id as uuid)", id=scene.event_id
    )
    scene.settle()
    broken = [RULES[rule] for rule in rules]
    assert_found(scene, words, *broken, unexpected=1, chain_ok=not rules)
    assert scene.event_id in scene.check().problems[0]


def test_every_column_is_changed_above(scene: Scene) -> None:
    """A column that nothing changes in these tests would be one that may not be compared."""
    with scene.world.engine.connect() as connection:
        columns = connection.execute(text("select * from game_events limit 0")).keys()
    # An id that is changed is another event: the next test. The last is the table's own.
    assert set(columns) - {"id", "ingested_at"} == {change.split(" ")[0] for change in CHANGES}


def test_a_changed_id_is_found(scene: Scene) -> None:
    """Under another id it is an event that nobody sent, and the one that was sent is missing."""
    other = str(uuid7(int(scene.event_id.replace("-", "")[:12], 16), 98))
    scene.run(
        "update game_events set id = cast(:other as uuid) where id = cast(:id as uuid)",
        id=scene.event_id, other=other,
    )  # fmt: skip
    scene.settle()
    assert_found(scene, f"such as {scene.event_id}", f"such as {other}", missing=1, unexpected=1)


@pytest.mark.parametrize(
    ("event", "assignment"),
    [
        (lambda ms: payload(ms, 50, seq=None, combo=2), "details = details - 'combo'"),
        (lambda ms: payload(ms, 50, seq=None, details=None, combo=2), "details = null"),
        (lambda ms: payload(ms, 50, seq=None, details=None), "details = '{}'"),
        (lambda ms: payload(ms, 50, seq=None, details={}), "details = null"),
        (lambda ms: payload(ms, 50, seq=None, details={"a": 1}), """details = '{"a": "1"}'"""),
        (
            lambda ms: payload(ms, 50, seq=None, details={"a": [1, 2]}),
            """details = '{"a": [2, 1]}'""",
        ),
    ],
    ids=["unknown key", "only unknown keys", "none", "empty", "type", "order"],
)
def test_details_that_differ_a_little_are_found(scene: Scene, event: Any, assignment: str) -> None:
    """Unknown keys belong to the details, and none is not the same as empty."""
    raw = event(now_ms())
    scene.store(raw)
    scene.journal("details.1", raw)
    scene.settle()
    assert scene.check().passed
    event_id = json.loads(raw)["id"]
    scene.run(f"update game_events set {assignment} where id = cast(:id as uuid)", id=event_id)
    found = scene.check()
    assert (found.unexpected, len(found.problems)) == (1, 1)
    assert f"such as {event_id}: details is " in found.problems[0]


def test_another_reason_is_found(scene: Scene) -> None:
    """The sender must be told the right one."""
    scene.run("update quarantined_events set reason = 'bad_xp' where reason = 'bad_rank'")
    assert_found(scene, "as bad_xp instead of bad_rank", unexpected=1)


@pytest.mark.parametrize(
    "damage",
    [
        "raw = 'x' where reason = 'bad_rank'",
        "raw = set_byte(raw, 1048575, 1) where reason = 'too_large'",
        "raw = substr(raw, 1, 1048575) where reason = 'too_large'",
        "size_bytes = 1048576 where reason = 'too_large'",
        "size_bytes = size_bytes + 1 where reason = 'bad_rank'",
    ],
)
def test_other_bytes_are_found(scene: Scene, damage: str) -> None:
    """The quarantine keeps the bytes that were sent, and how many there were."""
    scene.run(f"update quarantined_events set {damage}")
    assert_found(scene, "poison whose quarantined bytes are not those sent: 1", unexpected=1)


def test_another_key_is_found(scene: Scene) -> None:
    """An entry under a hash that is not its own is one that nobody sent."""
    scene.run(
        "update quarantined_events set sha256 = sha256('x') where reason = 'bad_rank'",
    )
    assert_found(scene, "poison not quarantined: 1", "nobody sent: 1", missing=1, unexpected=1)


def test_many_offenders_are_counted_and_the_first_named(scene: Scene) -> None:
    """The account stays short however much is wrong."""
    scene.run("update game_events set xp_delta = xp_delta + 1")
    scene.settle()
    found = scene.check()
    assert (found.unexpected, len(found.problems)) == (SOUND.stored, 1)
    assert f"than were sent: {SOUND.stored}, such as " in found.problems[0]
    assert found.problems[0].count("xp_delta is") == SAMPLES


# --- chains, health, rollups, the stream


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("seq", {"seq": 2, "karma_delta": 16}),
        ("karma", {"seq": 1, "karma_delta": 15}),
        ("xp", {"seq": 1, "karma_delta": 16, "xp_delta": -1, "action": "ability_upgrade"}),
    ],
)
def test_a_broken_chain_is_found(scene: Scene, rule: str, changes: dict[str, Any]) -> None:
    """Events may be stored just as they were sent, and yet show that one between them was lost."""
    raw = payload(now_ms(), 60, player="Gap", **changes)
    scene.store(raw)
    scene.journal("chain.1", raw)
    scene.settle()
    more = {name: getattr(SOUND, name) + 1 for name in ("attempted", "acknowledged", "stored")}
    assert_found(scene, f"{RULES[rule]}: 1, such as 'Gap' seq", chain_ok=False, **more)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("stored = stored + 1", ["counts 70 stored events, game_events has 69"]),
        ("stored = 0", ["counts 0 stored events"]),
        (
            "quarantined = quarantined - 1",
            ["counts 4 quarantined entries, quarantined_events has seen 5", "by reason 5"],
        ),
        ("quarantined_by_reason = '{}'", ["counts 5 quarantined entries, by reason 0"]),
        ("""quarantined_by_reason = '{"bad_xp": 3, "bad_ts": 3}'""", ["by reason 6"]),
    ],
)
def test_health_that_is_off_is_found(scene: Scene, damage: str, words: list[str]) -> None:
    """The table that alerts are made from says what happened, to the last event."""
    scene.settle()
    scene.run(f"update pipeline_health set {damage}")
    assert_found(scene, *words, health_ok=False)


def test_health_of_nothing_at_all_is_found(scene: Scene) -> None:
    """A table that nobody wrote to, or that is not there, does not agree with the others."""
    scene.run("delete from pipeline_health")
    assert_found(scene, "counts 0 stored", "counts 0 quarantined", health_ok=False)
    scene.run("drop table pipeline_health")
    assert_found(scene, "no table pipeline_health: run `infamous migrate`", health_ok=False)


@pytest.mark.parametrize(
    "damage",
    [
        "update hourly_rollups set events = events + 1 where player = 'Zeke' and action = 'recharge'",
        "update hourly_rollups set xp_delta = xp_delta - 1 where player = 'Zeke' and action = 'recharge'",
        "update hourly_rollups set karma_delta = 0 where player = 'Zeke' and action = 'recharge'",
        "delete from hourly_rollups where player = 'Zeke' and action = 'recharge'",
        "insert into hourly_rollups values ('2026-01-01 00:00Z', 'Zeke', 'recharge', 1, 1, 1)",
    ],
)
def test_a_rollup_that_is_off_is_found(scene: Scene, damage: str) -> None:
    """Each hour is the sum of its events, none is left out and none is made up."""
    scene.run(damage)
    words = "hours whose rollup is not the sum of the events: 1, such as recharge of 'Zeke' at "
    assert_found(scene, words, rollups_ok=False)


def test_without_rollups_there_is_nothing_to_check(scene: Scene) -> None:
    """A database without that table is judged by the rest."""
    scene.run("drop table hourly_rollups")
    found = scene.check()
    assert found == replace(SOUND, rollups_ok=None)
    assert found.passed


def test_what_waits_on_the_stream_is_found(scene: Scene) -> None:
    """Not read, or read and not acknowledged: the consumers were not done."""
    scene.world.source.append([b"1", b"2", b"3"])
    assert_found(scene, "3 not read, 0 read and not acknowledged", pending=3)
    scene.world.source.read("slow", 1)
    assert_found(scene, "2 not read, 1 read and not acknowledged", pending=3)
    scene.world.source.read("slow", 5)
    assert_found(scene, "0 not read, 3 read and not acknowledged", pending=3)


# --- the journals


def test_differing_payloads_under_one_id_are_found(scene: Scene) -> None:
    """Which of them is the event? Neither proves anything. Other bytes of the same meaning are no matter."""
    scene.journal("twice.1", json.dumps(json.loads(scene.event), indent=2).encode())
    assert scene.check() == SOUND
    scene.journal("twice.2", changed_text(scene.event, '"car"', '"bus"'))
    found = scene.check()
    assert found.problems[-1] == (
        f"events journaled with differing payloads under one id: 1, such as {scene.event_id}"
    )
    # The stored one is compared with each.
    assert (found.attempted, found.unexpected) == (SOUND.attempted, 1)


@pytest.mark.parametrize("expected", ["bad_xp", STORED])
def test_more_than_one_expectation_of_the_same_bytes_is_found(scene: Scene, expected: str) -> None:
    """What the quarantine should say about them is not known then."""
    scene.journal("twice.1", scene.poison, expected=expected)
    found = scene.check()
    assert not found.passed
    assert found.problems[-1] == (
        "payloads journaled with more than one expectation: 1,"
        f" such as {hashlib.sha256(scene.poison).hexdigest()}"
    )


def test_an_acknowledged_token_that_was_never_tried_is_found(scene: Scene) -> None:
    """A journal of which a part is lost cannot vouch for what is missing."""
    book = Journal(scene.journals / "late.journal")
    book.acknowledged(b"lost")
    book.close()
    assert_found(scene, "tokens journaled as acknowledged and never as tried: 1, such as lost")


def test_a_folder_without_journals_proves_nothing(world: World, tmp_path: Path) -> None:
    """An empty world agrees with an empty folder, and that is no proof."""
    found = check(world.engine, world.source, tmp_path)
    assert not found.passed
    assert found.problems == [f"no journal in {tmp_path}: nothing is known of what was sent"]


@pytest.mark.parametrize(
    "raw",
    [
        b"no JSON", b"\xff", b"\0", b"[]", payload(id="no id"), without("id"),
        payload(player="Zo\0e"), b"1", b"null",
    ],
)  # fmt: skip
def test_poison_journaled_as_an_event_ends_the_check(scene: Scene, raw: bytes) -> None:
    """There is nothing to compare a row with: the sender is at fault, and is told so in a sentence."""
    scene.journal("fault.1", raw)
    with pytest.raises(CheckError, match="journaled as a good event is none"):
        scene.check()


def test_a_ts_that_is_none_ends_the_check(scene: Scene) -> None:
    """The same, where it is only seen when it is compared with a row."""
    raw = payload(now_ms(), 70, ts="yesterday-ish", seq=None)
    scene.run(INSERT_ROW, id=json.loads(raw)["id"])
    scene.journal("fault.1", raw)
    with pytest.raises(CheckError, match="yesterday-ish"):
        scene.check()


def test_a_journal_that_was_tampered_with_ends_the_check(scene: Scene) -> None:
    """What it says cannot be trusted."""
    (scene.journals / "bad.journal").write_bytes(b"try\nack a\n")
    with pytest.raises(JournalError, match=r"bad\.journal"):
        scene.check()
