"""The manifest and what is told of an archive: names in order, texts that are whole or refused, sums."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from infamous.archive_report import Kept, behind, kept_json
from infamous.reach import Reach, note
from jobs import manifest as names
from jobs.archive import Day, days, span, wanted
from jobs.manifest import Damaged, File, Manifest
from pipeline.stream import StreamState
from pipeline.streams import keys

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ONE = datetime(2026, 11, 24, 13, tzinfo=UTC)


def file(day: int = 24, kind: names.Kind = "events", rows: int = 5) -> File:
    """A file of that day of November."""
    path = names.file_path(kind, date(2026, 11, day), 0, names.batch_name(2), "ab" * 32)
    first, last = NOON.replace(day=day), ONE.replace(day=day)
    return File(path, kind, rows, 100, "ab" * 32, first, last, "a", "b")


def batch(*files: File, first: str = "5-1", last: str = "9-0") -> Manifest:
    """A batch of these."""
    return Manifest(0, first, last, 7, NOON, files)


def test_a_manifest_comes_back_as_it_was() -> None:
    """With all that is in it, and as text that people can read."""
    made = batch(file(), file(kind="refused"))
    text = names.encoded(made)
    assert names.decoded(text, "m.json") == made
    assert b'\n  "first_entry": "5-1"' in text
    assert names.order(made.first_entry) == (5, 1)


def test_names_are_in_the_order_of_their_numbers() -> None:
    """However a store lists them; what somebody else put there has no number."""
    paths = [names.path(0, names.batch_name(number)) for number in (1, 2, 9, 10, 11)]
    assert paths == sorted(paths)
    assert names.newest([*reversed(paths), "manifests/partition=0/notes.json"]) == 11
    assert names.newest([]) == 0
    assert names.batch_of(file().path) == names.batch_of(paths[1]) == "00000002"


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../x.parquet", "events/day=2026-11-24/partition=0/../../a-abababab.parquet"],
)
def test_a_path_that_is_not_ours_is_refused(path: str) -> None:
    """A manifest that names another file was altered."""
    text = names.encoded(batch(file())).replace(file().path.encode(), path.encode())
    with pytest.raises(Damaged, match=r"^The manifest m\.json of the archive was cut or altered"):
        names.decoded(text, "m.json")


def test_what_is_there_is_summed_up_by_day() -> None:
    """Events by when they happened; the span is theirs alone."""
    found = [batch(file(24), file(25)), batch(file(24, "refused", 2), file(26, "refused", 1))]
    assert days(found) == [
        Day(date(2026, 11, 24), 2, 5, 2, 200),
        Day(date(2026, 11, 25), 1, 5, 0, 100),
        Day(date(2026, 11, 26), 1, 0, 1, 100),
    ]
    assert span(found) == (NOON, ONE.replace(day=25))
    assert span([]) is None


def test_only_the_files_of_a_span_are_wanted() -> None:
    """Both ends are included; what was refused is no event."""
    found = [batch(file(25)), batch(file(24), file(24, "refused"))]
    noon_ms = round(NOON.timestamp() * 1000)
    hour_ms, day_ms = 3_600_000, 86_400_000
    assert wanted(found, noon_ms + hour_ms, 2**63) == [file(24), file(25)]
    assert wanted(found, noon_ms + hour_ms + 1, 2**63) == [file(25)]
    assert wanted(found, 0, noon_ms) == [file(24)]
    assert wanted(found, 0, noon_ms - 1) == []
    assert wanted(found, noon_ms + 2 * day_ms, 2**63) == []


def kept(**state: object) -> Kept:
    """An archive of a day, on a stream in this state."""
    first = Day(date(2026, 11, 24), 1, 5, 0, 100)
    return Kept("/archive", [first], (NOON, ONE), "9-0", StreamState(**state))  # type: ignore[arg-type]


def test_how_far_behind_it_is() -> None:
    """In a sentence: nothing, so much, about so much, or that nobody waits for it."""
    assert behind(kept()).startswith("No bookmark stands on the stream")
    assert behind(kept(group_exists=True)) == (
        "All that is on the stream is archived; the newest entry is 9-0."
    )
    late = kept(group_exists=True, undelivered=5000, oldest_waiting_ms=1000, at_ms=61_000)
    assert behind(late) == (
        "5,000 entries of the stream are not archived yet, the oldest since 60.0 s;"
        " the newest that is archived is 9-0."
    )
    about = kept(group_exists=True, undelivered=9, undelivered_is_estimate=True)
    assert behind(about).startswith("About 9 entries")
    told = kept_json(late)
    assert (told["events"], told["behind_entries"], told["behind_s"]) == (5, 5000, 60.0)


def test_what_there_is_to_be_sent_again() -> None:
    """Who asked for more than is there is told how far back it goes."""
    reach = Reach(False, (1_764_000_000_123, 1_764_000_060_000), True, (NOON, ONE))
    assert note(reach, 0, is_empty=True) == (
        "There was nothing to send: the stream holds what was added from 2025-11-24T16:00:00Z to"
        " 2025-11-24T16:01:00Z; the archive holds events from 2026-11-24T12:00:00Z to"
        " 2026-11-24T13:00:00Z."
    )
    assert note(Reach(True, None, False, None), 0, is_empty=True) == (
        "There was nothing to send: the stream is empty; nothing is archived."
    )
    assert (note(reach, 0, is_empty=False) or "").startswith(
        "The stream reaches back to 2025-11-24T"
    )
    assert note(reach, 1_764_000_000_123, is_empty=False) is None
    untrimmed = Reach(False, (1_764_000_000_123, 1_764_000_060_000), False, None)
    assert note(untrimmed, 0, is_empty=False) is None
    assert note(Reach(True, (5, 2**62), True, None), 0, is_empty=False) is None
    assert "to 4611686018427387904 ms" in (
        note(Reach(True, (5, 2**62), True, None), 0, is_empty=True) or ""
    )


def test_a_partition_is_named_after_its_stream() -> None:
    """The label says one stream, however many there were when it was written; so does every name in it."""
    labels = [names.partition_of(key) for key in (*keys(1), *keys(12))]
    assert labels == [*range(13)]
    made = names.path(12, names.batch_name(7))
    path = names.file_path("events", date(2026, 11, 24), 12, names.batch_name(7), "ab" * 32)
    assert names.partition_in(path) == names.partition_in(made) == 12
    assert names.path_of(path) == names.path_of(made) == made
    assert names.in_folder([made, "manifests/notes.txt"]) == [made]
