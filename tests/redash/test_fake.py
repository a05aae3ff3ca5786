"""The fake answers as the recorded Redash did: the proof that what is tested against it is tested at all."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest

from tests.redash.fake import Fake
from tests.redash.player import Player
from tests.redash.recorded import pairs
from tests.redash.sql import Canned
from tests.redash.story import CHAPTERS, ON_POSTGRES, Chapter, opening

# What is not played, and why.
UNPLAYED: Final = {
    "query_format": "Redash lays SQL out with a library that nobody here uses or wants",
}


def _told(chapter: Chapter) -> Player:
    """A chapter played to the end against a fake of its own; it has no database but canned answers."""
    tables = pairs()["data_source_schema_cached"].json["schema"]
    with Fake(canned=Canned(tables=tables), set_up=chapter is not opening) as fake:
        player = Player(fake)
        chapter(player)
    return player


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda one: one.__name__)
def test_the_fake_answers_as_redash_did(chapter: Chapter) -> None:
    """Status, headers, messages, ids, types and the order of keys of every recorded answer."""
    _told(chapter)


def test_every_recording_is_played() -> None:
    """No pair is kept that nobody plays, here or in test_sql; what is not played has a reason."""
    played = set(ON_POSTGRES).union(*(_told(chapter).played for chapter in CHAPTERS))
    assert set(pairs()) - played == set(UNPLAYED)


def test_recordings_hold_no_keys() -> None:
    """Whatever looks like a key in a recording is a mark of the recorder's."""
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            found.update(str(inner) for name, inner in value.items() if name == "api_key" and inner)
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    for pair in pairs().values():
        walk([pair.json, pair.body])
        found.update(re.findall(r"Key (\S+)", pair.authorization or ""))
    assert {one for one in found if not one.startswith("TEST")} == {"nope"}
