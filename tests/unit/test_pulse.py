"""The pulse: a file that is touched while the loop turns, and gone when it ended in order."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest

from pipeline import pulse
from pipeline.pulse import BEAT_EVERY_S, Pulse


def test_the_file_is_touched_once_a_second_at_most(tmp_path: Path) -> None:
    """A loop that turns a thousand times a second costs one call of the file system, not a thousand."""
    path = tmp_path / "alive"
    with patch.object(pulse, "time") as clock:
        clock.monotonic.return_value, clock.time.return_value = 100.0, 7.0
        beating = Pulse(str(path))
        beating.beat()
        assert (path.exists(), beating.last_s) == (True, 7.0)
        path.unlink()
        clock.monotonic.return_value, clock.time.return_value = 100.0 + BEAT_EVERY_S / 2, 8.0
        beating.beat()
        assert (path.exists(), beating.last_s) == (False, 7.0)
        clock.monotonic.return_value = 100.0 + BEAT_EVERY_S
        beating.beat()
        assert (path.exists(), beating.last_s) == (True, 8.0)


def test_an_old_file_becomes_a_new_one(tmp_path: Path) -> None:
    """What a killed process left behind does not stay old once its successor beats."""
    path = tmp_path / "alive"
    path.touch()
    before_ns = path.stat().st_mtime_ns
    Pulse(str(path)).beat()
    assert path.stat().st_mtime_ns > before_ns


def test_who_ended_in_order_leaves_no_file(tmp_path: Path) -> None:
    """A process that was asked to stop is not taken for one that hangs, however often it says so."""
    path = tmp_path / "alive"
    beating = Pulse(str(path))
    beating.close()
    beating.beat()
    assert path.exists()
    beating.close()
    beating.close()
    assert not path.exists()


def test_a_file_that_cannot_be_touched_is_told(tmp_path: Path) -> None:
    """A supervisor that waits for a file nobody can write would kill a healthy process for ever."""
    with pytest.raises(FileNotFoundError):
        Pulse(str(tmp_path / "no such folder" / "alive")).beat()


def test_without_a_file_it_only_keeps_the_time() -> None:
    """The metrics tell the last turn of the loop whether or not somebody looks at a file."""
    beating = Pulse()
    beating.beat()
    assert beating.last_s > 0
    beating.close()
