"""The drain: a workload flows in; how long consumers took to store and acknowledge it flows out.

The consumers wait on an empty stream when the clock starts: at that moment a stream with all entries is
renamed to the key they read. It stops when the group has read the last entry and nothing is pending.
"""

from __future__ import annotations

import time
from typing import Final

from bench import crew
from bench.crew import Process
from bench.house import House
from bench.workload import Workload
from pipeline.stream import GROUP, STREAM

_READY: Final = "bench:ready"
_AT_MOST_S: Final = 300.0


def rate(house: House, workload: Workload, consumers: int) -> float:
    """Events a second, from the first read to the last acknowledgement."""
    stage(house, workload)
    with crew.consumers(house, consumers) as processes:
        return workload.carried / seconds(house, processes)


def stage(house: House, workload: Workload) -> None:
    """Have all entries, and their group, on a stream that nobody reads yet."""
    house.client.copy(workload.name, _READY, replace=True)


def seconds(house: House, processes: list[Process]) -> float:
    """How long these consumers, who wait, take for what is staged."""
    client = house.client
    last_id = _text(client.xinfo_stream(_READY)["last-generated-id"])

    def is_done() -> bool:
        group = next(
            group for group in client.xinfo_groups(STREAM) if _text(group["name"]) == GROUP
        )
        return _text(group["last-delivered-id"]) == last_id and group["pending"] == 0

    begun_s = time.perf_counter()
    client.rename(_READY, STREAM)
    crew.wait_until(is_done, "Everything is stored", processes, within_s=_AT_MOST_S)
    return time.perf_counter() - begun_s


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
