"""The pulse: a file that is touched while the loop turns, and gone when it ended in order."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs

from pipeline import pulse
from pipeline.pulse import BEAT_EVERY_S, Pulse
from pipeline.settings import SettingsError


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
    beating.begin()
    assert path.exists()
    beating.close()
    beating.close()
    assert not path.exists()
    beating.beat()  # of a loop that turned once more while another thread ended the process
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "reason"), [("none/alive", "No such file or directory"), (".", "Is a directory")]
)
def test_a_file_that_cannot_be_touched_is_refused_at_the_start(
    tmp_path: Path, name: str, reason: str
) -> None:
    """A supervisor that waits for a file nobody can write would kill a healthy process for ever."""
    path = tmp_path / name
    with pytest.raises(SettingsError) as caught:
        Pulse(str(path)).begin()
    assert str(caught.value) == (
        f"LIVENESS_FILE={path} cannot be written ({reason}):"
        " name a file in a folder that is there and may be written to."
    )


def test_a_file_that_is_lost_later_is_a_warning_and_no_end(tmp_path: Path) -> None:
    """Events are not held up for a file; it is said once, and again only after it was possible."""
    folder = tmp_path / "run"
    with patch.object(pulse, "time") as clock, capture_logs() as logs:
        clock.monotonic.return_value = 0.0
        beating = Pulse(str(folder / "alive"))

        def beats(times: int) -> int:
            for _ in range(times):
                clock.monotonic.return_value += BEAT_EVERY_S
                clock.time.return_value = clock.monotonic.return_value
                beating.beat()
                assert beating.last_s == clock.time.return_value
            return len(logs)

        assert beats(3) == 1
        folder.mkdir()
        assert beats(2) == 1
        assert (folder / "alive").exists()
        shutil.rmtree(folder)
        assert beats(3) == 2
    assert {(line["log_level"], line["file"], line["error"]) for line in logs} == {
        ("warning", str(folder / "alive"), "No such file or directory")
    }


# --- in the processes

# A server that takes a connection and says nothing: the stop is cut short after the grace period.
HURRIED = """
import functools, importlib
main = importlib.import_module("{process}.__main__")
main.on_signals = functools.partial(main.on_signals, 0.2)
main.main()
"""


def started(liveness_file: Path, *arguments: str, port: int = 1) -> subprocess.Popen[str]:
    """A Python process whose servers are at this port."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={
            "REDIS_URL": f"redis://127.0.0.1:{port}",
            "DATABASE_URL": f"postgresql://127.0.0.1:{port}/none",
            "LIVENESS_FILE": str(liveness_file),
        },
        cwd=liveness_file.parent if liveness_file.parent.exists() else None,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_both_processes_refuse_a_file_that_cannot_be_touched(tmp_path: Path) -> None:
    """Exit 2 and a sentence, before they so much as look for a server."""
    path = tmp_path / "none" / "alive"
    processes = [started(path, "-m", name) for name in ("consumer", "producer")]
    for process in processes:
        _, said = process.communicate(timeout=20)
        assert process.returncode == 2, said
        assert said.startswith(
            f"LIVENESS_FILE={path} cannot be written (No such file or directory)"
        )
        assert said.count("\n") == 1


def test_a_stop_that_is_cut_short_leaves_no_file(tmp_path: Path) -> None:
    """A process that ended in the middle of a call to a server is not taken for one that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as silent, ExitStack() as lines:
        silent.settimeout(20)
        files = [tmp_path / "consumer", tmp_path / "producer"]
        processes = [
            started(path, "-c", HURRIED.format(process=path.name), port=silent.getsockname()[1])
            for path in files
        ]
        for _ in processes:
            lines.enter_context(silent.accept()[0])
        for process, path in zip(processes, files, strict=True):
            assert path.exists()
            process.terminate()
            _, said = process.communicate(timeout=20)
            assert process.returncode == 0, said
            assert "stopped in the middle of a call" in said
            assert not path.exists()


def test_without_a_file_it_only_keeps_the_time() -> None:
    """The metrics tell the last turn of the loop whether or not somebody looks at a file."""
    beating = Pulse()
    beating.beat()
    assert beating.last_s > 0
    beating.close()
