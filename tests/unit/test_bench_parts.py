"""The bench's small parts: quantiles, readings of one measurement, the wire, the scale."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench import crew, proc
from bench.crew import Process
from bench.flood import packed
from bench.house import BenchError
from bench.latency import quantile
from bench.readings import Reading, cases
from bench.scale import FULL, QUICK, Scale, tiny
from bench.workload import played, simulated
from pipeline.entry import Form
from pipeline.stream import STREAM

NOW_MS = 1_760_000_000_000


def test_a_quantile_is_one_of_the_values() -> None:
    """The 99th percentile of few values is their greatest: it must not read better than it was."""
    assert quantile([7.0], 0.99) == 7
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 3
    assert quantile([float(number) for number in range(1, 101)], 0.99) == 100
    assert quantile([float(number) for number in range(1, 1001)], 0.99) == 991


def test_readings_of_one_measurement_are_measured_once_a_round() -> None:
    """The median and the 99th percentile of a round are those of the same events."""
    measured = iter([{"p50": 1.0, "p99": 9.0}, {"p50": 2.0, "p99": 8.0}])
    p50, p99 = cases(lambda: next(measured), [Reading("p50", "ms", 10.0), Reading("p99", "ms")])
    assert [(p50.run(), p99.run()) for _ in range(2)] == [(1, 9), (2, 8)]
    assert (p50.goal, p50.higher_is_better, p99.limit) == (10, False, None)


def test_the_packed_command_is_the_one_a_producer_sends() -> None:
    """Where there is no redis-benchmark the limit is measured with the very same bytes on the wire."""

    payload = b'{"player":"Cole \xe2\x9a\xa1"}'
    command = packed(payload)
    assert command.startswith(b"*5\r\n$4\r\nXADD\r\n")
    words = command.split(b"\r\n")[2::2]
    assert words == [b"XADD", STREAM.encode(), b"*", Form.EVENT.value, payload]
    lengths = [int(word[1:]) for word in command.split(b"\r\n")[1:-1:2]]
    assert lengths == [len(word) for word in words]


def test_own_cpu_and_memory_are_seen() -> None:
    """The numbers of /proc are in the right columns and units."""
    while min(os.times()[:2]) < 0.05:  # else one column could not be told from another
        proc.resident_bytes(os.getpid())
    user_s, system_s, *_ = os.times()
    assert abs(proc.cpu_s(os.getpid()) - user_s - system_s) < 0.015
    assert 10e6 < proc.resident_bytes(os.getpid()) < 4e9


@pytest.mark.parametrize("scale", [FULL, QUICK, tiny(QUICK, 500)])
def test_growth_is_measured_against_an_empty_table(scale: Scale) -> None:
    """Rows only grow from one measurement to the next, so that what is there is kept."""
    rows = scale.growth_rows
    assert rows[0] == 0
    assert list(rows) == sorted(set(rows))
    assert scale.disk_bytes > 300 * rows[-1]


def test_rows_that_are_there_already_are_others_than_those_that_come() -> None:
    """An id twice would turn the first load into one of duplicates."""
    ids = {event.id for event in simulated(500, NOW_MS, NOW_MS + 1000)}
    ids |= {event.id for event in simulated(500, NOW_MS, NOW_MS + 1000, seed=2)}
    assert len(ids) == 1000


def test_a_month_has_as_many_events_as_were_asked_for() -> None:
    """The questions are asked over so many rows as the case says."""
    events = list(played(3000, 30, NOW_MS))
    assert len(events) == 3000
    assert all(NOW_MS - 30 * 86_400_000 <= event.ts_ms <= NOW_MS for event in events)
    assert [event.ts_ms for event in events] == sorted(event.ts_ms for event in events)


def process(tmp_path: Path, program: str) -> Process:
    """A child that runs this program."""
    log = tmp_path / "log"
    with log.open("wb") as output:
        popen = subprocess.Popen([sys.executable, "-c", program], stdout=output, stderr=output)
    return Process("consumer", popen, log)


def test_a_consumer_that_dies_is_told_in_a_sentence_with_its_last_words(tmp_path: Path) -> None:
    """A measurement must never wait for a process that is gone, and its log goes with the folder."""
    dead = process(tmp_path, "print('one'); print('The tables are missing'); raise SystemExit(3)")
    dead.popen.wait()
    told = r"^consumer ended with code 3 in the middle .*\(The tables are missing\): .*again\.$"
    with pytest.raises(BenchError, match=told):
        crew.wait_until(lambda: False, "It is done", [dead], within_s=20)
    with pytest.raises(BenchError, match="ended with code 3"):
        crew.finished(dead, 20)


def test_what_never_comes_true_ends_by_itself(tmp_path: Path) -> None:
    """A bench in an unwatched run ends with an error, not never, and ends what it started."""
    idle = process(tmp_path, "import time; time.sleep(60)")
    with pytest.raises(BenchError, match=r"^It is done: this did not come true within 0 s\.$"):
        crew.wait_until(lambda: False, "It is done", [idle], within_s=0.01)
    with pytest.raises(BenchError, match=r"^consumer was not done within 0 s"):
        crew.finished(idle, 0.01)
    assert idle.popen.returncode == -signal.SIGTERM
