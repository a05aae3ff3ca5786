"""Health: what a consumer takes note of, and what of it goes into which column."""

from __future__ import annotations

import time
from dataclasses import fields
from types import SimpleNamespace
from unittest.mock import patch

from structlog.testing import capture_logs

from consumer import health
from consumer import tally as tally_module
from consumer.batch import Batch, Limits
from consumer.health import Notes, Seen
from consumer.load import Stored
from consumer.tally import Tally
from pipeline.entry import Entry
from pipeline.event import datetime_of
from pipeline.stream import Claimed, StreamState
from pipeline.tables import pipeline_health
from tests.unit.samples import NOW_MS, WINDOW, payload

# Written from what the transaction itself counted, or by the database.
COUNTED = {"process", "batches", "stored", "duplicates", "quarantined", "forgotten",
           "quarantined_by_reason", "updated_at"}  # fmt: skip


GOOD = payload()


def batch_of_age(entries: int, age_s: float) -> Batch:
    """Entries that were added so long ago."""
    batch = Batch(Limits(10**6, 10**9, 60.0))
    added_ms = int((time.time() - age_s) * 1000)
    entry_ids = [b"%d-%d" % (added_ms, number) for number in range(entries)]
    batch.take([Entry(id_, GOOD) for id_ in entry_ids], WINDOW, 0.0)
    return batch


def add(tally: Tally, entries: int = 10, age_s: float = 2.0, took_s: float = 0.1) -> None:
    """Count a batch of good entries."""
    tally.add(Stored(entries, 0, {}), batch_of_age(entries, age_s), took_s)


# --- columns


def test_each_note_has_a_column_and_each_column_a_note() -> None:
    """Nothing is noted that the table cannot hold, and nothing in the table stays at its default."""
    names = set(Notes().columns())
    assert names | COUNTED == {column.name for column in pipeline_health.columns}
    assert not names & COUNTED


def test_what_was_not_looked_at_is_unknown() -> None:
    """Without a look at the stream its columns are null: zero would say that nothing waits."""
    columns = Notes().columns()
    assert [columns[field.name] for field in fields(Seen)] == [None] * len(fields(Seen))


def test_complete_to_is_the_oldest_that_waits() -> None:
    """What was added before the first entry that waits is in the tables; what came later may be."""
    state = StreamState(
        exists=True,
        added=9,
        undelivered=2,
        pending=1,
        oldest_waiting_ms=NOW_MS - 5000,
        at_ms=NOW_MS,
    )
    seen = Seen.of(state)
    assert (seen.added, seen.undelivered, seen.pending) == (9, 2, 1)
    assert seen.seen_at == datetime_of(NOW_MS)
    assert seen.oldest_waiting_at == seen.complete_to == datetime_of(NOW_MS - 5000)


def test_with_nothing_waiting_all_is_complete_to_this_moment() -> None:
    """A drained stream, or none, is complete up to the look at it."""
    seen = Seen.of(StreamState(at_ms=NOW_MS))
    assert (seen.oldest_waiting_at, seen.complete_to) == (None, datetime_of(NOW_MS))


# --- what the tally takes note of


def test_batches_are_summed_up_for_a_minute() -> None:
    """A row holds the sum and the worst of its batches; the first note after it is its last."""
    tally = Tally("test")
    add(tally, entries=10, took_s=0.5)
    add(tally, entries=30, took_s=0.25)
    notes = tally.notes()
    assert (notes.batch_rows_max, notes.batch_s_sum, notes.batch_s_max) == (30, 0.75, 0.5)
    assert tally.notes().batch_s_sum == 0.75
    with patch.object(health, "time", SimpleNamespace(time=lambda: notes.minute_s + 61.0)):
        add(tally, entries=1, took_s=0.25)
        assert (tally.notes().minute_s, tally.notes().minute_s) == (
            notes.minute_s,
            notes.minute_s + 60,
        )
        assert tally.notes().batch_s_sum == 0.0


def test_ages_are_percentiles_of_what_was_stored() -> None:
    """Most entries were two seconds old, a few a minute: the median says the one, the 99th the other."""
    tally = Tally("test")
    add(tally, entries=970, age_s=2.0)
    add(tally, entries=30, age_s=60.0)
    notes = tally.notes()
    assert notes.age_p50_s is not None
    assert notes.age_p95_s is not None
    assert notes.age_p99_s is not None
    assert 1.6 < notes.age_p50_s <= notes.age_p95_s < 2.5
    assert 48 < notes.age_p99_s < 75


def test_an_entry_from_the_future_is_of_no_age() -> None:
    """Clocks differ: Redis' may be ahead of ours, and an age below zero would be nonsense."""
    tally = Tally("test")
    add(tally, age_s=-30.0)
    assert 0.0 <= (tally.notes().age_p50_s or 0.0) <= 0.001


def test_ages_of_an_hour_ago_are_forgotten() -> None:
    """A consumer that stores nothing has no ages to tell: those of its last minute at work are past."""
    tally = Tally("test")
    with patch.object(tally_module, "_AGES_OVER_S", 0.0):
        add(tally, age_s=60.0)
        assert tally.notes().age_p99_s is None
    add(tally, age_s=2.0)
    assert (tally.notes().age_p99_s or 0.0) < 3


def test_each_kind_of_trouble_is_noted_and_told() -> None:
    """Takeovers, losses and a group that was gone are counted, and each is a line in the log."""
    tally = Tally("test")
    with capture_logs() as logs:
        tally.claimed(Claimed([Entry(b"1-0", b"x")] * 3, 2, b"0-0"))
        tally.found_lost(5)
        tally.found_lost(0)
        tally.group_made_again()
    notes = tally.notes()
    assert (notes.claimed, notes.lost, notes.groups_made, tally.lost) == (3, 7, 1, 7)
    assert [line["log_level"] for line in logs] == ["info", "error", "error", "warning"]


def test_waits_are_counted_by_server() -> None:
    """How long it waited for which server is known after the wait, and told to Prometheus during it."""
    tally = Tally("test")
    with patch.object(tally_module, "time") as clock:
        clock.monotonic.return_value, clock.time.return_value = 100.0, 1e9
        tally.waits("Postgres")
        clock.monotonic.return_value = 101.0
        tally.waits("Postgres")
        clock.monotonic.return_value = 103.0
        by_name = {metric.name: metric for metric in tally.metrics()}
        assert by_name["waiting"].value == {"Redis": 0.0, "Postgres": 1.0}  # type: ignore[union-attr]
        assert by_name["waited_seconds"].value == {"Redis": 0.0, "Postgres": 3.0}  # type: ignore[union-attr]
        tally.is_back("Postgres")
        tally.waits("Redis")
        clock.monotonic.return_value = 104.0
        tally.is_back("Redis")
        notes = tally.notes()
        by_name = {metric.name: metric for metric in tally.metrics()}
    assert (notes.waited_postgres_s, notes.waited_redis_s) == (3.0, 1.0)
    assert by_name["waiting"].value == {"Redis": 0.0, "Postgres": 0.0}  # type: ignore[union-attr]
    assert by_name["waited_seconds"].value == {"Redis": 1.0, "Postgres": 3.0}  # type: ignore[union-attr]


# --- the flood


def refusing(entries: int, refused: int) -> Batch:
    """A batch of which the first so many were refused."""
    batch = batch_of_age(entries, 0.0)
    batch.refused_at = list(range(refused))
    return batch


def test_a_flood_is_one_line_when_it_begins_and_one_when_it_ends() -> None:
    """A million bad entries are not a million lines; that it is over is said as well."""
    tally = Tally("test")
    with capture_logs() as logs:
        tally.refused(refusing(1000, 100))
        assert (logs, tally.notes().is_flooded) == ([], False)
        for _ in range(5):
            tally.refused(refusing(1000, 1000))
            assert tally.notes().is_flooded
        tally.refused(refusing(9000, 0))
        assert tally.notes().is_flooded
        tally.refused(refusing(5000, 0))
    assert [line["log_level"] for line in logs] == ["error", "info"]
    assert (logs[0]["refused"], logs[0]["of_the_last"]) == (1100, 10_000)
    assert not tally.notes().is_flooded


def test_the_names_of_unknown_keys_are_bounded() -> None:
    """Senders choose them: a sender that makes up a new one an event fills neither memory nor log."""
    tally = Tally("test")
    with capture_logs() as logs:
        for number in range(300):
            batch = batch_of_age(1, 0.0)
            batch.drift = type(batch.drift)({f"key{number}": 1, "key0": 1})
            tally.add(Stored(1, 0, {}), batch, 0.1)
    assert len([line for line in logs if "key" in line]) == 100
    (unknown,) = [metric for metric in tally.metrics() if metric.name == "unknown_keys"]
    assert unknown.value == 300 + 99  # type: ignore[union-attr]


def test_the_beat_is_told() -> None:
    """Each try, also one of many while a server is away, is a beat."""
    tally = Tally("test")
    (before,) = [metric for metric in tally.metrics() if metric.name == "beat_timestamp_seconds"]
    tally.tries()
    (after,) = [metric for metric in tally.metrics() if metric.name == "beat_timestamp_seconds"]
    assert before.value == 0.0  # type: ignore[union-attr]
    assert after.value > 0.0  # type: ignore[union-attr,operator]
