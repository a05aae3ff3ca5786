"""``python -m bench.sender``: a pace flows in; events flow onto the stream, and when each was sent to a file.

The moment is taken before XADD, on the clock that all processes of a machine share.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from bench.workload import PLAYERS
from pipeline import stream
from pipeline.event import encode
from pipeline.stream import Stream
from producer.simulate import population, step


def send(
    *,
    rate: Annotated[float, typer.Option(min=0.01)],
    count: Annotated[int, typer.Option(min=1)],
    moments: Annotated[Path, typer.Option(help="Lines of an id and nanoseconds.")],
) -> None:
    """Send, one at a time, and write the moments down at the end."""
    source = Stream(stream.connect(os.environ["REDIS_URL"]))
    cast = population(3, PLAYERS, time.time_ns() // 1_000_000, 0)
    source.client.ping()
    sent: list[tuple[str, int]] = []
    begun_s = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begun_s + number / rate - time.monotonic()))
        event = step(cast[number % PLAYERS], time.time_ns() // 1_000_000)
        payload = encode(event)
        sent.append((str(event.id), time.monotonic_ns()))
        source.append([payload])
    source.client.close()
    lines = "".join(f"{event_id} {moment}\n" for event_id, moment in sent)
    draft = moments.with_suffix(".new")
    draft.write_text(lines, encoding="ascii")
    draft.replace(moments)


if __name__ == "__main__":
    typer.run(send)
