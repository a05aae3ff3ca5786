"""How far a replica is behind, and in which words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from psycopg2 import errors
from sqlalchemy.exc import OperationalError

from analytics.replica import Replica, is_conflict

AT: Final = datetime(2026, 11, 28, 4, 30, tzinfo=UTC)
BEHIND: Final = Replica(AT, AT - timedelta(seconds=40), 1000, has_all=False)


@pytest.mark.parametrize(
    ("replica", "delay_s", "is_late", "said"),
    [
        (BEHIND, 40.0, False, "is 40 s behind"),
        (replace(BEHIND, has_all=True), 0.0, False, "has all there is"),
        (replace(BEHIND, replayed_at=AT - timedelta(hours=9)), 32_400.0, True, "is 9 h behind"),
        (replace(BEHIND, replayed_at=AT - timedelta(hours=9), has_all=True), 0.0, False, "has all there is"),
        (replace(BEHIND, replayed_at=None), None, True, "is behind, nobody knows how far"),
        (replace(BEHIND, replayed_at=None, has_all=True), 0.0, False, "has all there is"),
        (replace(BEHIND, replayed_at=AT + timedelta(seconds=2)), 0.0, False, "is 0 s behind"),
    ],
    ids=["behind", "up to date", "late", "quiet", "just started", "nothing came yet", "another clock"],
)  # fmt: skip
def test_a_replica_says_how_far_it_is_behind(
    replica: Replica, delay_s: float | None, is_late: bool, said: str
) -> None:
    """By what it replayed last, unless it has all: a quiet night is no delay."""
    assert (replica.delay_s, replica.is_late, replica.told()) == (delay_s, is_late, said)


@pytest.mark.parametrize(
    ("kind", "code", "words", "is_so"),
    [
        (errors.SerializationFailure, "40001", "canceling statement due to conflict with recovery", True),
        (errors.SerializationFailure, "40001", "Anweisung wird storniert", True),
        (errors.OperationalError, None, "terminating connection due to conflict with recovery", True),
        (errors.QueryCanceled, "57014", "canceling statement due to user request", False),
        (errors.AdminShutdown, "57P01", "terminating connection due to administrator command", False),
    ],
    ids=["the question", "in another language", "the session", "a timeout", "a shutdown"],
)  # fmt: skip
def test_a_conflict_is_told_from_other_ends(
    kind: Any, code: str | None, words: str, is_so: bool
) -> None:
    """The advice is given where it helps, and nowhere else."""

    class Coded(kind):  # type: ignore[misc]
        pgcode = code

    assert is_conflict(OperationalError("select 1", {}, Coded(words))) is is_so
