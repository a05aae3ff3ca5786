"""Touched: an hour is told when it changes, and again for as long as it does; and forgotten players."""

from __future__ import annotations

from consumer.batch import Batch, Limits
from consumer.forgotten import without
from consumer.touched import Touched
from pipeline.entry import Entry
from pipeline.tombstone import sha256_of
from tests.unit.samples import WINDOW, payload


def test_an_hour_is_told_once_in_a_while() -> None:
    """With every batch it would be a row each; never again, and the rollups would miss what comes later."""
    touched = Touched(every_s=60)
    assert touched.due({7, 3}, 0.0) == [3, 7]
    touched.told([3, 7], 0.0)
    assert touched.due({3, 7, 8}, 59.0) == [8]
    assert touched.due({3, 7}, 60.0) == [3, 7]


def test_what_was_not_told_is_due_again() -> None:
    """A transaction that was rolled back has told nothing."""
    touched = Touched(every_s=60)
    assert touched.due({3}, 0.0) == [3]
    assert touched.due({3}, 0.1) == [3]


def test_every_batch_may_tell() -> None:
    """Where a transaction may take longer than the rollups look back, nothing is left out."""
    touched = Touched(every_s=0)
    touched.told([3], 5.0)
    assert touched.due({3}, 5.0) == [3]


def _batch(*payloads: bytes) -> Batch:
    batch = Batch(Limits(rows=100, bytes=1_000_000, age_s=1))
    batch.take([Entry(b"%d-0" % n, raw) for n, raw in enumerate(payloads)], WINDOW, 0.0)
    return batch


def test_what_is_of_the_forgotten_is_taken_out() -> None:
    """Events and what was refused alike; the rest stays, in its order, and all of it is acknowledged."""
    batch = _batch(
        payload(number=1, player="Zeke"),
        payload(number=2, player="Moya"),
        payload(number=3, player="Zeke", rank="Boss"),
        payload(number=4, player="Moya", rank="Boss"),
        b'{"player": "Zeke", "cut',
        payload(number=5, player="Moya"),
    )
    kept = without(batch, {sha256_of("Zeke")})
    assert [event.player for event in kept.events] == ["Moya", "Moya"]
    assert [source.id for source in kept.sources] == [b"1-0", b"5-0"]
    assert [one.entry.id for one in kept.refusals] == [b"3-0", b"4-0"]
    assert kept.forgotten == 2
    assert kept.ids == batch.ids


def test_a_batch_without_them_stays_as_it_is() -> None:
    """Nearly every batch has nothing of theirs: it is not copied."""
    batch = _batch(payload(number=1), payload(number=2, rank="Boss"))
    assert without(batch, {sha256_of("Moya")}) is batch


def test_a_name_that_is_no_utf8_has_a_hash_too() -> None:
    """Half a pair of surrogates is refused as a name, and must not end the consumer here."""
    assert without(_batch(b'{"player": "\\ud800"}'), {sha256_of("Zeke")}).forgotten == 0
