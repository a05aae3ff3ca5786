"""Anything at all on the stream: the good is stored, the bad is quarantined, the consumer lives."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import text

from pipeline.event import Reason, Refused, Window, decode, encode
from producer.simulate import population, step
from tests.acceptance.processes import Launcher, wait_until
from tests.conftest import World

GOOD = 5_000
RANDOM = 25_000
MUTATED = 25_000
RETENTION_DAYS = 90
# What a mutation may put in the place of a value: what breaks other parsers, or databases.
ODD_JSON = (
    b"null", b"true", b"[]", b"{}", b'""', b"0", b"-1", b"1e400", b"1e5", b"NaN", b"-Infinity",
    b"2147483648", b"-2147483649", b"9223372036854775808", b"1.5", b'"\\u0000"', b'"\\ud800"',
    b'"0001-01-01T00:00:00Z"', b'"2026-02-30T00:00:00Z"', b"9" * 5000, b"[" * 200, b'"\xff"',
)  # fmt: skip
SNIPPETS = (b"\0", b"\\u0000", b"\\", b'"', b"{", b"}", b",", b"\xf0\x9f", b"999", b"-", b"e9")


def good_events(rng: random.Random, count: int) -> list[bytes]:
    """Real events of a small population, as the producer would send them."""
    now_ms = time.time_ns() // 1_000_000
    players = population(rng.randrange(2**31), 50, now_ms - 86_400_000, 1)
    start_ms = now_ms - 3_600_000
    return [encode(step(players[n % len(players)], start_ms + n)) for n in range(count)]


def mutated(rng: random.Random, payload: bytes) -> bytes:
    """A real event with one to three things wrong with it, or perhaps nothing."""
    for _ in range(rng.randint(1, 3)):
        payload = rng.choice(MUTATIONS)(rng, payload)
    return payload


def _flip(rng: random.Random, payload: bytes) -> bytes:
    at = rng.randrange(len(payload) or 1)
    return payload[:at] + rng.randbytes(1) + payload[at + 1 :]


def _cut(rng: random.Random, payload: bytes) -> bytes:
    return payload[: rng.randrange(len(payload) + 1)]


def _insert(rng: random.Random, payload: bytes) -> bytes:
    at = rng.randrange(len(payload) + 1)
    return payload[:at] + rng.choice(SNIPPETS) + payload[at:]


def _fields(payload: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        return msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _written(fields: dict[str, bytes]) -> bytes:
    return b"{" + b",".join(b'"%s":%s' % (k.encode(), v) for k, v in fields.items()) + b"}"


def _replace(rng: random.Random, payload: bytes) -> bytes:
    fields = _fields(payload)
    if not fields:
        return payload
    raw = {key: bytes(value) for key, value in fields.items()}
    raw[rng.choice(list(raw))] = rng.choice(ODD_JSON)
    return _written(raw)


def _drop(rng: random.Random, payload: bytes) -> bytes:
    fields = _fields(payload)
    if not fields:
        return payload
    raw = {key: bytes(value) for key, value in fields.items()}
    del raw[rng.choice(list(raw))]
    return _written(raw)


def _add(rng: random.Random, payload: bytes) -> bytes:
    fields = _fields(payload)
    if fields is None:
        return payload
    raw = {key: bytes(value) for key, value in fields.items()}
    raw[f"extra_{rng.randrange(20)}"] = rng.choice((*ODD_JSON, b'"kept"', b"7", b'{"a":[1,2]}'))
    return _written(raw)


MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flip, _cut, _insert, _replace, _replace, _drop, _add,
)  # fmt: skip


def verdict(payload: bytes, window: Window) -> UUID | Reason:
    """The id of an event, or the reason for refusing it."""
    try:
        return decode(payload, window).id
    except Refused as refused:
        return refused.reason


def send(world: World, payloads: list[bytes]) -> None:
    """XADD them in this order."""
    for start in range(0, len(payloads), 5000):
        world.source.append(payloads[start : start + 5000])


@pytest.mark.parametrize("seed", [20261124])
def test_fifty_thousand_odd_entries_among_good_ones(
    world: World, launch: Launcher, seed: int
) -> None:
    """Good events become rows, all else is quarantined under its hash with its reason, exactly."""
    rng = random.Random(seed)
    good = good_events(rng, GOOD)
    odd = [rng.randbytes(rng.randint(0, 300)) for _ in range(RANDOM)]
    odd += [mutated(rng, payload) for payload in good_events(rng, MUTATED)]
    payloads = good + odd
    rng.shuffle(payloads)

    consumers = [launch.fork("consumer", environment=world.environment) for _ in range(2)]
    send(world, payloads)
    window = Window.at(time.time_ns() // 1_000_000, RETENTION_DAYS)
    ids: set[UUID] = set()
    reasons: dict[bytes, set[str]] = {}
    times: dict[bytes, int] = {}
    for payload in payloads:
        found = verdict(payload, window)
        if isinstance(found, UUID):
            ids.add(found)
        else:
            key = hashlib.sha256(payload).digest()
            reasons.setdefault(key, set()).add(found.value)
            times[key] = times.get(key, 0) + 1
    good_ids = {found for payload in good if isinstance(found := verdict(payload, window), UUID)}
    assert len(good_ids) == GOOD
    assert len(ids) > GOOD, "no mutation left an event whole: the fuzz is too coarse"

    wait_until(lambda: _is_quiet(world, len(payloads)), "everything is dealt with", 60)
    for consumer in consumers:
        assert consumer.lives, consumer.shown()
        ended = consumer.end()
        assert ended.code == 0, ended.text
        assert "Traceback" not in ended.err

    with world.engine.connect() as connection:
        rows = {row[0] for row in connection.execute(text("select id from game_events"))}
        quarantined = {
            bytes(row.sha256): row
            for row in connection.execute(text("select * from quarantined_events"))
        }
    assert rows == ids
    assert world.count("game_events") == len(ids)
    assert quarantined.keys() == reasons.keys()
    wrong = {
        key.hex(): (row.reason, reasons[key])
        for key, row in quarantined.items()
        if row.reason not in reasons[key]
    }
    assert not wrong
    assert {key: row.times_seen for key, row in quarantined.items()} == times
    assert all(hashlib.sha256(row.raw).digest() == key for key, row in quarantined.items())


def _is_quiet(world: World, entries: int) -> bool:
    state = world.source.state()
    return state.entries == entries and state.undelivered == 0 and state.pending == 0


def test_foreign_entries_and_giants_are_quarantined(world: World, launch: Launcher) -> None:
    """Entries with other fields, binary names, or of megabytes harm neither batch nor consumer."""
    consumer = launch.fork(
        "consumer", environment=world.environment | {"BATCH_BYTES": str(1024 * 1024)}
    )
    good = good_events(random.Random(7), 500)
    client, key = world.client, world.source.key
    foreign: list[dict[bytes, bytes]] = [
        {b"event": good[0], b"more": b"1"},
        {b"Event": good[1]},
        {b"\xff\0": b"\x80"},
        {b"event": b"", b"": b""},
    ]
    send(world, good[:250])
    for fields in foreign:
        client.xadd(key, fields)  # type: ignore[arg-type]
    giants = [b"x" * size for size in (64 * 1024 + 1, 1024 * 1024 + 1, 20 * 1024 * 1024)]
    giants.append(b"[" * (2 * 1024 * 1024))
    send(world, giants + good[250:])
    wait_until(lambda: _is_quiet(world, 508), "everything is dealt with", 30)
    assert consumer.lives, consumer.shown()
    assert world.count("game_events") == 500
    with world.engine.connect() as connection:
        found = connection.execute(
            text("select reason, size_bytes, sha256, length(raw) as kept from quarantined_events")
        ).all()
    sizes = sorted(row.size_bytes for row in found if row.reason == "too_large")
    assert sizes == sorted(len(giant) for giant in giants)
    assert max(row.kept for row in found) == 1024 * 1024
    assert {bytes(row.sha256) for row in found} >= {hashlib.sha256(g).digest() for g in giants}
    assert sum(row.reason == "not_an_event_entry" for row in found) == len(foreign)
    assert consumer.end().code == 0
