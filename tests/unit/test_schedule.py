"""The schedule: a turn comes every so often, at the moment of the day that was meant. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobs import tasks
from jobs.schedule import SCHEDULE, Entry, next_s, turn

DAILY = Entry(tasks.check_rollups, 86_400, offset_s=3 * 3600)


def at(text: str) -> float:
    """A moment in UTC as Unix seconds."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "due"),
    [
        ("2026-11-24 03:00:00", "2026-11-24 03:00:00"),
        ("2026-11-24 23:59:59", "2026-11-24 03:00:00"),
        ("2026-11-25 02:59:59", "2026-11-24 03:00:00"),
        ("2026-11-25 03:00:01", "2026-11-25 03:00:00"),
    ],
)
def test_a_daily_turn_is_due_at_its_hour(now: str, due: str) -> None:
    """At three in UTC, and until three of the next day it is the same turn."""
    assert turn(DAILY, at(now)) == at(due)


def test_without_an_offset_turns_are_at_whole_multiples() -> None:
    """As it was: the names of turns are on the queue of running pipelines."""
    assert turn(Entry(tasks.make_partitions, 3600), at("2026-11-24 05:59:59")) == at(
        "2026-11-24 05:00"
    )


def test_the_next_moment_is_that_of_the_first_to_be_due() -> None:
    """An offset counts: at two minutes to three, the daily turn comes before the hourly one at ten past."""
    hourly = Entry(tasks.make_partitions, 3600, offset_s=600)
    assert next_s(at("2026-11-24 02:58"), (DAILY, hourly)) == at("2026-11-24 03:00")
    assert next_s(at("2026-11-24 03:00"), (DAILY, hourly)) == at("2026-11-24 03:10")


def test_the_check_comes_at_night_and_every_task_is_one_that_may_run() -> None:
    """What is scheduled is on the list of what workers run."""
    (check,) = [entry for entry in SCHEDULE if entry.task is tasks.check_rollups]
    assert turn(check, at("2026-11-24 12:00")) == at("2026-11-24 03:00")
    assert {entry.task for entry in SCHEDULE} <= set(tasks.ALL)


def test_the_report_comes_when_the_checks_are_over() -> None:
    """At half past four, of a week; a turn that nobody took is gone before the next one comes."""
    (report,) = [entry for entry in SCHEDULE if entry.task is tasks.make_report]
    assert turn(report, at("2026-11-24 12:00")) == at("2026-11-24 04:30")
    assert report.arguments == {"days": 7}
    assert report.waits_s is not None
    assert report.waits_s < report.every_s
