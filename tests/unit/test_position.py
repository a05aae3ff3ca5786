"""The position: where a place goes on, and which gap it has."""

from __future__ import annotations

import pytest

from jobs import position as positions
from jobs.manifest import Damaged, missing
from jobs.position import NOWHERE, Gap, Position

HERE = Position("50-0", batches=3)


@pytest.mark.parametrize(
    ("here", "bookmark", "first", "is_trimmed", "goes_on_at", "gaps"),
    [
        pytest.param(HERE, "50-0", "90-0", True, "50-0", (), id="the bookmark is this place's"),
        pytest.param(HERE, "0-0", "10-0", True, "0-0", (), id="the group was destroyed"),
        pytest.param(HERE, "80-0", "50-0", True, "50-0", (), id="all of it is on the stream"),
        pytest.param(HERE, "80-0", "60-0", True, "50-0", (Gap("50-0", "60-0"),), id="some left it"),
        pytest.param(HERE, "80-0", None, True, "50-0", (Gap("50-0", "80-0"),), id="all left it"),
        pytest.param(Position(), "80-0", "10-0", False, NOWHERE, (), id="nothing ever left it"),
        pytest.param(
            Position(), "80-0", "10-0", True, NOWHERE, (Gap("0-0", "10-0"),), id="an empty place"
        ),
        pytest.param(Position(), "0-0", "10-0", True, NOWHERE, (), id="the first archive"),
        pytest.param(Position("9-0"), "10-0", "9-0", True, "9-0", (), id="ids are no texts"),
    ],
)
def test_a_place_goes_on_where_it_was(
    here: Position,
    bookmark: str,
    first: str | None,
    is_trimmed: bool,
    goes_on_at: str,
    gaps: tuple[Gap, ...],
) -> None:
    """Never past the bookmark; and what neither it nor the stream has is a gap, unless nothing is missing."""
    after = here.goes_on(bookmark, first, is_trimmed=is_trimmed)
    assert (after.entry, after.gaps, after.batches) == (goes_on_at, gaps, here.batches)


def test_it_is_kept_as_text() -> None:
    """What is written is read again; what is none is told."""
    there = Position("5-1", 7, (Gap("1-0", "2-0"),))
    assert positions.decoded(positions.encoded(there), "p") == there
    for text in (b"", b"{", b'{"version": 2}', b"\xff"):
        with pytest.raises(Damaged, match="The file p of the archive"):
            positions.decoded(text, "p")


def test_numbers_that_are_missing_are_known() -> None:
    """Those in between, and the last ones where it is known how many there were."""
    there = [f"manifests/partition=0/{number:08d}.json" for number in (1, 2, 4)]
    assert missing([], 0) == []
    assert missing(there, 0) == missing(there, 4) == [3]
    assert missing(there, 6) == [3, 5, 6]
    assert missing([*there, "manifests/partition=0/notes.json"], 0) == [3]
