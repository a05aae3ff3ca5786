"""The fake answers as the recorded Redash did."""

from __future__ import annotations

import pytest

from tests.redash.fake import Fake
from tests.redash.player import Player
from tests.redash.recorded import pairs
from tests.redash.sql import Canned
from tests.redash.story import CHAPTERS, opening


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda one: one.__name__)
def test_a_chapter(chapter) -> None:
    with Fake(
        canned=Canned(tables=(pairs()["data_source_schema_cached"].json["schema"])),
        set_up=chapter is not opening,
    ) as fake:
        chapter(Player(fake))
