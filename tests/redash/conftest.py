"""A running fake Redash for a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redash.fake import Fake
from tests.redash.sql import Canned


@pytest.fixture
def redash() -> Iterator[Fake]:
    """Set up, with an admin whose key is `redash.admin_key`; SQL runs where a data source says."""
    with Fake() as running:
        yield running


@pytest.fixture
def canned_redash() -> Iterator[Fake]:
    """The same without any database: every query gives one row."""
    with Fake(canned=Canned()) as running:
        yield running
