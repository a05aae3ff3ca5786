"""Load, on a real database: each event once, each refusal kept, whatever stands in the way."""

from __future__ import annotations

import hashlib
import json
import math
import random
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from consumer import load
from consumer.batch import Batch
from consumer.load import Loader, SchemaError, Stored
from pipeline import failpoint
from pipeline.entry import Entry, Form
from pipeline.event import Event, Reason, Window, datetime_of, encode
from pipeline.settings import libpq_url
from pipeline.tombstone import sha256_of
from tests.conftest import World
from tests.integration.consuming import LIMITS, batch_of, now_ms
from tests.unit.samples import NOW_MS, RETENTION_DAYS, chains, payload
from tests.unit.wire_events import wire_fields

DAY_MS = 86_400_000


@pytest.fixture
def loader(world: World) -> Iterator[Loader]:
    """A loader for the world's database."""
    made = Loader(world.database_url, "test")
    yield made
    made.close()


def rows(world: World, query: str, **values: Any) -> list[dict[str, Any]]:
    """What a query answers."""
    with world.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query), values).mappings()]


def run(world: World, statement: str) -> None:
    """Change something in the database."""
    with world.engine.begin() as connection:
        connection.execute(text(statement))


def counts(stored: Stored) -> tuple[int, int, int]:
    """New rows, duplicates, entries in quarantine."""
    return stored.rows, stored.duplicates, stored.quarantined


def recent(events: int, *, days_ago: int = 0, seed: int = 1) -> list[Event]:
    """Healthy events of a while ago."""
    return chains(events, seed=seed, start_ms=now_ms() - days_ago * DAY_MS - 60_000)


def batch(events: list[Event]) -> Batch:
    """A batch of events."""
    return batch_of([encode(event) for event in events])


def test_every_field_is_stored_as_it_was_sent(loader: Loader, world: World) -> None:
    """A row says what its event said, and when it came."""
    ms = now_ms()
    raw = payload(ms, action="recharge", energy_source="car", seq=None, weather="rain")
    assert counts(loader.store(batch_of([raw]))) == (1, 0, 0)
    (row,) = rows(world, "select * from game_events")
    sent = json.loads(raw)
    assert str(row.pop("id")) == sent["id"]
    assert row.pop("ts") == datetime_of(ms)
    assert abs(row.pop("ingested_at") - datetime.now(UTC)) < timedelta(minutes=1)
    assert row.pop("details") == {**sent["details"], "weather": "rain"}
    assert row == {key: sent[key] for key in row}


def test_storing_again_changes_nothing(loader: Loader, world: World) -> None:
    """Whoever is not sure whether a COMMIT arrived stores again: the same rows, told as duplicates."""
    events = recent(300)
    assert counts(loader.store(batch(events))) == (300, 0, 0)
    before = rows(world, "select * from game_events order by id")
    assert counts(loader.store(batch(events))) == (0, 300, 0)
    other = Loader(world.database_url, "other")
    assert counts(other.store(batch(events[:10] + recent(5, seed=2)))) == (5, 10, 0)
    other.close()
    stored = {row["id"]: row for row in rows(world, "select * from game_events")}
    assert [stored[row["id"]] for row in before] == before


def test_an_empty_batch_stores_nothing(loader: Loader, world: World) -> None:
    """Nothing is no error."""
    assert counts(loader.store(batch_of([]))) == (0, 0, 0)
    assert world.count("game_events") == 0


def test_duplicates_within_a_batch_are_one_row(loader: Loader, world: World) -> None:
    """A producer whose reply was lost may have sent the same event several times in a row."""
    events = recent(3)
    assert counts(loader.store(batch(events * 4))) == (3, 9, 0)
    assert world.count("game_events") == 3


def test_the_first_of_two_events_with_one_id_stays(loader: Loader, world: World) -> None:
    """An id is an event's identity: what comes later under it never overwrites what is stored."""
    ms = now_ms()
    loader.store(batch_of([payload(ms, xp_delta=5)]))
    assert counts(loader.store(batch_of([payload(ms, xp_delta=99)]))) == (0, 1, 0)
    assert rows(world, "select xp_delta from game_events") == [{"xp_delta": 5}]


def test_overlapping_batches_at_the_same_time(world: World) -> None:
    """Consumers that hold the same events in any order wait for each other: no deadlock, no row twice."""
    rounds = [
        [*recent(1500, seed=seed), *recent(1000, days_ago=20, seed=seed)] for seed in range(6)
    ]
    start, failed = threading.Barrier(4), list[BaseException]()
    stored: list[Stored] = []

    def work(seed: int) -> None:
        rng, loader = random.Random(seed), Loader(world.database_url, f"test-{seed}")
        try:
            # Making partitions is one consumer's at a time: here they are known beforehand.
            loader.store(batch(rounds[0]))
            for events in rounds[1:]:
                mine = batch(rng.sample(events, 2000))
                start.wait(30)
                stored.append(loader.store(mine))
        except BaseException as error:  # told below
            failed.append(error)
            start.abort()
        finally:
            loader.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert all(one.rows + one.duplicates == 2000 for one in stored)
    new = world.count("game_events") - len(rounds[0])
    assert sum(one.rows for one in stored) == new
    assert 0.99 * 5 * 2500 < new <= 5 * 2500


# --- what the database refuses


@pytest.fixture
def picky(world: World) -> World:
    """A database with a rule that decode does not know: no event of Moya's."""
    run(world, "alter table game_events add constraint no_moya check (player <> 'Moya')")
    return world


@pytest.mark.parametrize("places", [(0,), (9,), (4, 5), (0, 3, 9), tuple(range(10))])
def test_a_row_the_database_refuses_is_quarantined_alone(
    loader: Loader, picky: World, places: tuple[int, ...]
) -> None:
    """The others are stored, the one is kept whole; its values stand in the raw bytes alone."""
    ms = now_ms()
    raws = [
        payload(ms, number, player="Moya" if number in places else "Zeke", seq=None)
        for number in range(10)
    ]
    good = 10 - len(places)
    assert counts(loader.store(batch_of([*raws, b"bad"]))) == (good, 0, len(places) + 1)
    assert picky.count("game_events") == good
    kept = rows(picky, "select * from quarantined_events where reason = 'database'")
    assert sorted(bytes(row["raw"]) for row in kept) == sorted(raws[n] for n in places)
    for row in kept:
        assert row["detail"] == "Postgres refused the row with SQLSTATE 23514"
        assert bytes(row["sha256"]) == hashlib.sha256(bytes(row["raw"])).digest()
        assert raws[int(row["entry_id"].split("-")[0]) - 1] == bytes(row["raw"])
    assert counts(loader.store(batch_of([*raws, b"bad"]))) == (0, good, len(places) + 1)
    assert {row["times_seen"] for row in rows(picky, "select * from quarantined_events")} == {2}


def test_a_refused_row_among_duplicates_is_counted_once(loader: Loader, picky: World) -> None:
    """Rows, duplicates and refusals add up to what the batch held."""
    events = recent(20)
    loader.store(batch(events[:10]))
    raws = [encode(event) for event in events] + [payload(now_ms(), player="Moya")]
    assert counts(loader.store(batch_of(raws))) == (10, 10, 1)
    assert picky.count("game_events") == 20


def test_a_duplicate_that_is_found_before_a_refused_row(loader: Loader, picky: World) -> None:
    """Each thing that spoils a COPY hides the next: all of them are dealt with, one after the other."""
    events, moya = recent(2500), payload(now_ms(), player="Moya")
    (other_day,) = recent(1, days_ago=9)
    loader.store(batch([other_day]))
    run(picky, f"drop table game_events_{datetime_of(other_day.ts_ms):%Y%m%d}")
    loader.store(batch(events[:1]))
    raws = [encode(event) for event in [other_day, *events]] + [moya]
    assert counts(loader.store(batch_of(raws))) == (2500, 1, 1)
    assert picky.count("game_events") == 2501


@pytest.mark.parametrize("known", [1, 1200, 2500])
def test_batches_of_new_rows_after_duplicates(loader: Loader, world: World, known: int) -> None:
    """Whether the way to the table is the straight one or the one past duplicates, all rows arrive once."""
    events = recent(2500)
    loader.store(batch(events[:known]))
    assert counts(loader.store(batch(events))) == (2500 - known, known, 0)
    for more in (recent(300, seed=11), recent(300, seed=12)):
        assert counts(loader.store(batch(more))) == (300, 0, 0)
        assert counts(loader.store(batch(more))) == (0, 300, 0)
    assert world.count("game_events") == 3100


def test_refusing_many_takes_many_transactions(loader: Loader, world: World) -> None:
    """Each ends long before the server would be taken for dead, and together they count what one would."""
    run(world, "alter table game_events add constraint picky check (seq > 20)")
    events = recent(250)
    bad = [b"bad %d" % number for number in range(5)]
    with patch.object(load, "_PARTS_EVENTS", 100):
        stored = loader.store(batch_of([*[encode(event) for event in events], *bad]))
    (counted,) = rows(world, "select batches, stored, quarantined from pipeline_health")
    assert counts(stored) == (190, 0, 65)
    assert stored.refused == {"database": 60, "not_json": 5}
    assert counted == {"batches": 3, "stored": 190, "quarantined": 65}
    assert (world.count("game_events"), world.count("quarantined_events")) == (190, 65)


def test_attempts_leave_nothing_behind_in_their_transaction(world: World) -> None:
    """Neither savepoints, of which the server has room for some thousands, nor rows that nobody sees."""
    run(world, "alter table game_events add constraint picky check (seq < 0)")
    held = (
        "select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'transactionid'"
    )
    whole = batch(recent(100))
    with closing(psycopg2.connect(libpq_url(world.database_url))) as connection:
        with connection.cursor() as cursor:
            cursor.execute(load.CREATE_INCOMING)
            stored, refusals = load._insert_in_parts(cursor, whole.events, whole.sources)
            assert (stored, len(refusals)) == (0, 100)
            cursor.execute(f"{held} union all select pg_relation_size('incoming')")
            locks, left_bytes = (count for (count,) in cursor.fetchall())
        connection.rollback()
    assert locks < 10
    assert left_bytes == 0


def test_a_value_of_the_wrong_kind_is_the_rows_fault(loader: Loader, world: World) -> None:
    """A column that someone has narrowed refuses its rows, and the consumer lives on."""
    run(world, "alter table game_events alter column xp_delta type smallint")
    raws = [payload(now_ms(), 1, xp_delta=5), payload(now_ms(), 2, xp_delta=40_000)]
    assert counts(loader.store(batch_of(raws))) == (1, 0, 1)
    (row,) = rows(world, "select reason, detail from quarantined_events")
    assert row == {
        "reason": "database", "detail": "Postgres refused the row with SQLSTATE 22003",
    }  # fmt: skip


# --- partitions


def test_partitions_are_made_as_events_need_them(loader: Loader, world: World) -> None:
    """Any day within retention has its partition by the time its event is stored."""
    events = [event for days in (0, 3, 40, 89) for event in recent(2, days_ago=days, seed=days)]
    assert loader.store(batch(events)).rows == 8
    (row,) = rows(world, "select count(distinct tableoid) as used from game_events")
    assert row["used"] == 4


def test_prepare_makes_the_days_around_now(world: World) -> None:
    """A consumer that starts finds partitions from yesterday to a week ahead, or makes them."""
    run(world, "drop table " + ", ".join(_partitions(world)))
    loader = Loader(world.database_url, "test")
    loader.prepare(datetime(2025, 3, 1, 0, 30, tzinfo=UTC))
    loader.prepare(datetime(2025, 3, 1, 23, 30, tzinfo=UTC))
    loader.close()
    assert _partitions(world) == [
        f"game_events_2025{day}"
        for day in ("0228", "0301", "0302", "0303", "0304", "0305", "0306", "0307", "0308")
    ]


def _partitions(world: World) -> list[str]:
    found = rows(
        world,
        "select inhrelid::regclass::text as name from pg_inherits"
        " where inhparent = 'game_events'::regclass order by 1",
    )
    return [row["name"] for row in found]


def test_a_partition_dropped_while_the_loader_runs_is_made_again(
    loader: Loader, world: World
) -> None:
    """Retention may drop a day that a loader remembers: its next event is stored, not quarantined."""
    loader.store(batch(recent(3, days_ago=5)))
    run(world, f"drop table {_partitions(world)[0]}")
    assert counts(loader.store(batch(recent(4, days_ago=5)))) == (4, 0, 0)
    assert world.count("quarantined_events") == 0


def test_a_detached_partition_is_no_events_fault(loader: Loader, world: World) -> None:
    """While someone has taken a day off the table, its events wait; they are never quarantined."""
    events = recent(3, days_ago=5)
    loader.store(batch(events[:1]))
    (name,) = [name for name in _partitions(world) if name.endswith(f"{_day(events[0])}")]
    run(world, f"alter table game_events detach partition {name}")
    other = Loader(world.database_url, "other")  # it never saw the day, the first one remembers it
    for each in (loader, other):
        with pytest.raises(psycopg2.Error, match=f"{name} is detached") as caught:
            each.store(batch(events))
        assert load.is_temporary(caught.value)
    other.close()
    assert world.count("quarantined_events") == 0
    run(world, f"drop table {name}")
    assert counts(loader.store(batch(events))) == (3, 0, 0)


def test_a_partition_detached_in_the_middle_of_a_store(loader: Loader, picky: World) -> None:
    """Between the look for a day and the insert into it it may go: that is waited for, like an outage."""
    ms = now_ms() - 5 * DAY_MS
    raws = [payload(ms, number, player="Moya" if number == 2 else "Zeke") for number in range(4)]
    name = f"game_events_{datetime_of(ms):%Y%m%d}"
    loader.store(batch_of([payload(ms, 9)]))
    insert = load._insert_in_parts

    def detach_first(*arguments: Any) -> Any:
        run(picky, f"alter table game_events detach partition {name}")
        return insert(*arguments)

    with (
        patch.object(load, "_insert_in_parts", detach_first),
        pytest.raises(psycopg2.Error) as caught,
    ):
        loader.store(batch_of(raws))
    assert load.is_temporary(caught.value)
    with pytest.raises(psycopg2.Error, match=f"{name} is detached"):
        loader.store(batch_of(raws))
    day = datetime_of(ms - ms % DAY_MS)
    run(
        picky,
        f"alter table game_events attach partition {name}"
        f" for values from ('{day}') to ('{day + timedelta(days=1)}')",
    )
    assert counts(loader.store(batch_of(raws))) == (3, 0, 1)


def _day(event: Event) -> str:
    return datetime_of(event.ts_ms).strftime("%Y%m%d")


def test_the_sessions_time_zone_moves_no_partition(world: World) -> None:
    """Days are UTC days wherever the server thinks it stands."""
    database = world.database_url.rsplit("/", 1)[-1].split("?")[0]
    run(world, f"alter database {database} set timezone = 'Pacific/Kiritimati'")
    midnight = now_ms() // DAY_MS * DAY_MS - 10 * DAY_MS
    loader = Loader(world.database_url, "test")
    raws = [payload(midnight + offset_ms, offset_ms + 2) for offset_ms in (-1, 0, DAY_MS - 1)]
    assert loader.store(batch_of(raws)).rows == 3
    loader.close()
    found = rows(world, "select tableoid::regclass::text as day, ts from game_events order by ts")
    assert [row["day"][-8:] for row in found] == [
        row["ts"].astimezone(UTC).strftime("%Y%m%d") for row in found
    ]


# --- the quarantine


def test_the_same_bytes_are_one_row_seen_often(loader: Loader, world: World) -> None:
    """A sender that repeats itself does not fill the disk; the latest entry is named."""
    bad = b"not an event"
    assert counts(loader.store(batch_of([bad] * 1000))) == (0, 0, 1000)
    loader.store(batch_of([b"other", bad]))
    found = rows(world, "select * from quarantined_events order by times_seen desc")
    assert [(row["times_seen"], bytes(row["raw"])) for row in found] == [
        (1001, bad),
        (1, b"other"),
    ]
    assert found[0]["entry_id"] == "2-0"
    assert found[0]["first_seen_at"] < found[0]["last_seen_at"]
    assert found[0]["released_at"] is None


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\0" * 10, id="NULs"),
        pytest.param(bytes(range(256)), id="every byte"),
        pytest.param(b"\\x00\\000'\"%s", id="escapes"),
        pytest.param(b"x" * load.QUARANTINE_BYTES, id="1 MiB"),
        pytest.param(b"\0x" * load.QUARANTINE_BYTES, id="2 MiB"),
    ],
)
def test_raw_bytes_are_kept(loader: Loader, world: World, raw: bytes) -> None:
    """Byte for byte up to a MiB; beyond it the start, with the size and the hash of all of it."""
    assert counts(loader.store(batch_of([raw]))) == (0, 0, 1)
    (row,) = rows(world, "select * from quarantined_events")
    assert bytes(row["raw"]) == raw[: load.QUARANTINE_BYTES]
    assert row["size_bytes"] == len(raw)
    assert bytes(row["sha256"]) == hashlib.sha256(raw).digest()


def test_every_reason_fits_the_table(loader: Loader, world: World) -> None:
    """Refused entries of all kinds go in with one batch, each with its code and its words."""
    full = batch_of([payload(now_ms())])
    window = Window.at(now_ms(), RETENTION_DAYS)
    texts = [b"[]", b"{}", payload(now_ms(), player="\0"), payload(0), payload(now_ms(), v=2)]
    for number, raw in enumerate(texts):
        full.take([Entry(b"9-%d" % number, raw)], window, 0.0)
    full.take([Entry(b"9-9", b'["a","b"]', Form.FOREIGN)], window, 0.0)
    assert counts(loader.store(full)) == (1, 0, 6)
    found = {
        row["reason"]: row["detail"] for row in rows(world, "select * from quarantined_events")
    }
    assert set(found) == {
        Reason.NOT_AN_OBJECT, Reason.MISSING_KEY, Reason.BAD_TEXT, Reason.TOO_OLD,
        Reason.UNKNOWN_VERSION, Reason.NOT_AN_EVENT_ENTRY,
    }  # fmt: skip
    assert all(found.values())


def test_refusals_at_the_same_time(world: World) -> None:
    """Consumers that quarantine the same bytes at once neither deadlock nor lose a count."""
    bad = [b"bad %d" % number for number in range(300)]
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        rng, loader = random.Random(seed), Loader(world.database_url, f"test-{seed}")
        try:
            for _ in range(5):
                loader.store(batch_of(rng.sample(bad, len(bad))))
        except BaseException as error:  # told below
            failed.append(error)
        finally:
            loader.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    found = rows(world, "select times_seen, count(*) as n from quarantined_events group by 1")
    assert found == [{"times_seen": 20, "n": 300}]


# --- the connection


def test_a_connection_that_was_killed_is_opened_again(loader: Loader, world: World) -> None:
    """The error is one that is waited for, and the same batch is stored whole after it."""
    loader.store(batch(recent(5)))
    killed = rows(
        world,
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where application_name = 'infamous consumer test' and datname = current_database()",
    )
    assert len(killed) == 1
    again = batch([*recent(7, seed=2)])
    with pytest.raises(psycopg2.Error) as caught:
        loader.store(again)
    assert load.is_temporary(caught.value)
    assert counts(loader.store(again)) == (7, 0, 0)
    assert world.count("game_events") == 12


def test_a_closed_loader_opens_again(loader: Loader) -> None:
    """Closing is for good manners, not for ever."""
    loader.close()
    loader.close()
    assert loader.store(batch(recent(2))).rows == 2


def test_nothing_of_a_failed_transaction_stays(loader: Loader, world: World) -> None:
    """Events and refusals of a batch are stored together or not at all."""
    run(world, "alter table quarantined_events rename to hidden")
    with pytest.raises(SchemaError):
        loader.store(batch_of([payload(now_ms()), b"bad"]))
    assert world.count("game_events") == 0
    run(world, "alter table hidden rename to quarantined_events")
    assert counts(loader.store(batch_of([payload(now_ms()), b"bad"]))) == (1, 0, 1)


def test_without_tables_there_is_a_schema_error(bare_world: World) -> None:
    """A database that was never migrated is not waited for, nor are events quarantined for it."""
    loader = Loader(bare_world.database_url, "test")
    with pytest.raises(SchemaError, match="ensure_game_events_partitions"):
        loader.prepare(datetime.now(UTC))
    with pytest.raises(SchemaError):
        loader.store(batch(recent(1)))
    loader.close()


def test_a_read_only_database_is_waited_for(loader: Loader, world: World) -> None:
    """A standby in the middle of a failover, or a role set read-only, ends no consumer."""
    database = world.database_url.rsplit("/", 1)[-1].split("?")[0]
    run(world, f"alter database {database} set default_transaction_read_only = on")
    with pytest.raises(psycopg2.Error) as caught:
        loader.store(batch(recent(1)))
    assert load.is_temporary(caught.value)
    with psycopg2.connect(libpq_url(world.database_url)) as connection:
        connection.cursor().execute("set transaction read write")
        connection.cursor().execute(
            f"alter database {database} reset default_transaction_read_only"
        )
    connection.close()
    assert loader.store(batch(recent(1))).rows == 1


@pytest.mark.parametrize(
    "url",
    ["postgresql+psycopg2://nobody@127.0.0.1:1/none", "postgresql+psycopg2:///none?host=/nowhere"],
)
def test_a_server_that_is_away_is_waited_for(url: str) -> None:
    """A refused connection is an outage, never a reason to quarantine."""
    loader = Loader(url, "test")
    with pytest.raises(psycopg2.Error) as caught:
        loader.store(batch(recent(1)))
    assert load.is_temporary(caught.value)


# --- what decode accepts, Postgres accepts


def alike(sent: Any, stored: Any) -> bool:
    """Equal as jsonb keeps values: numbers are one kind, and have no negative zero."""
    if isinstance(sent, dict) and isinstance(stored, dict):
        return sent.keys() == stored.keys() and all(alike(sent[key], stored[key]) for key in sent)
    if isinstance(sent, list) and isinstance(stored, list):
        return len(sent) == len(stored) and all(map(alike, sent, stored))
    if isinstance(sent, bool) or isinstance(stored, bool):
        return sent is stored
    if isinstance(sent, float) or isinstance(stored, float):
        return math.isclose(float(sent), float(stored), rel_tol=0, abs_tol=0)
    return bool(sent == stored)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        wire_fields(oldest_ms=NOW_MS - 2 * DAY_MS),
        min_size=1,
        max_size=15,
        unique_by=lambda one: one["id"],
    )
)
def test_what_decode_accepts_postgres_accepts(
    loader: Loader, world: World, sent: list[dict[str, Any]]
) -> None:
    """No accepted event, be its text or its numbers ever so odd, spoils a COPY or is changed by it."""
    full = Batch(LIMITS)
    window = Window.at(NOW_MS, RETENTION_DAYS)
    for number, one in enumerate(sent):
        raw = json.dumps(one, ensure_ascii=number % 2 == 0).encode()
        full.take([Entry(b"%d-0" % number, raw)], window, 0.0)
    assert full.refusals == []
    stored = loader.store(full)
    assert stored.quarantined == 0
    by_id = {event.id: event for event in full.events}
    query = "select * from game_events where id = any(:ids)"
    found = rows(world, query, ids=list(by_id))
    run(world, "truncate game_events")
    assert len(found) == len(by_id) == stored.rows
    for row in found:
        event = by_id[row["id"]]
        assert row["ts"] == datetime_of(event.ts_ms)
        for key in ("player", "action", "xp_delta", "karma_delta", "karma_total", "rank",
                    "energy_source", "seq"):  # fmt: skip
            assert row[key] == getattr(event, key)
        assert alike(json.loads(bytes(event.details)), row["details"])


def forget(world: World, player: str) -> None:
    """Leave a tombstone."""
    with world.engine.begin() as connection:
        connection.execute(
            text("insert into forgotten_players (player_sha256) values (:sha256)"),
            {"sha256": sha256_of(player)},
        )


def test_a_forgotten_player_does_not_come_back(loader: Loader, world: World) -> None:
    """From the moment the tombstone stands, in a consumer that has long been running as well."""
    events = recent(300)
    gone = events[0].player
    assert counts(loader.store(batch(events[:100]))) == (100, 0, 0)
    forget(world, gone)
    stored = loader.store(batch(events))
    theirs = [event for event in events if event.player == gone]
    assert stored.forgotten == len(theirs)
    assert counts(stored) == (200 - len(theirs[34:]), 100 - 34, 0)
    (row,) = rows(world, "select count(*) from game_events where player = :gone", gone=gone)
    assert row["count"] == 34  # of before: to remove them is the affair of `infamous forget`
    (row,) = rows(world, "select sum(forgotten) as sum from pipeline_health")
    assert row["sum"] == len(theirs)


def test_what_is_refused_of_a_forgotten_player_is_not_kept(loader: Loader, world: World) -> None:
    """The quarantine keeps bytes, and in them would stand the name."""
    forget(world, "Zeke")
    ms = now_ms()
    bad = batch_of([payload(ms, 1, rank="Boss"), payload(ms, 2, player="Moya", rank="Boss")])
    stored = loader.store(bad)
    assert (counts(stored), stored.forgotten) == ((0, 0, 1), 1)
    assert world.count("quarantined_events") == 1


def test_the_rollups_are_told_which_hours_changed(loader: Loader, world: World) -> None:
    """With the rows or not at all; of what was stored already nothing is told."""
    events = recent(10) + recent(10, days_ago=3, seed=2)
    loader.store(batch(events))
    hours = {datetime_of(e.ts_ms).replace(minute=0, second=0, microsecond=0) for e in events}
    told = "select hour from touched_hours"
    assert {row["hour"] for row in rows(world, told)} == hours
    run(world, "delete from touched_hours")
    other = Loader(world.database_url, "other")
    other.store(batch(events))
    assert not rows(world, told)
    cut_off = psycopg2.OperationalError("gone")
    with (
        patch.object(failpoint, "reached", side_effect=cut_off),
        pytest.raises(psycopg2.OperationalError),
    ):
        other.store(batch(recent(5, seed=3)))
    assert not rows(world, told)
    other.store(batch(recent(5, seed=3)))
    assert {row["hour"] for row in rows(world, told)} <= hours
    assert rows(world, told)
    other.close()
