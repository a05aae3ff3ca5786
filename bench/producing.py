"""Producing: a game to play flows in; how fast it is simulated, and sent, flows out.

The limit of sending is what Redis takes of the same events, an XADD each, from its own benchmark program,
over several connections so that it never waits, with hundreds of commands in the pipeline. Where the program
is missing, packed commands are written to sockets instead, and the case's name says so. The producer's events
share entries, as those of any sender may that has many.
Rates are those of the stream: from its first entry's time to its last one's.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from typing import Final

from bench import crew
from bench.case import Case, Group
from bench.flood import flood
from bench.house import BenchError, House
from bench.scale import Scale
from bench.workload import HOUR_MS, PLAYERS, simulated
from pipeline.event import encode
from pipeline.stream import STREAM, Stream
from producer.outbox import ARRAY_EVENTS, PARCEL_EVENTS
from producer.simulate import population, write

SECTION: Final = "producing"

_RATE: Final = "events/s"
_CONNECTIONS: Final = 4
_AT_MOST_S: Final = 120.0


def groups(house: House, scale: Scale) -> Iterator[Group]:
    """The game alone, then sending."""
    events = scale.sent_events
    game = Case("simulated and written down", lambda: played(events), _RATE, goal=300_000)
    yield Group((game,), scale.rounds)
    program = benchmark_program(house)
    limit = "redis-benchmark" if program else "packed XADD"
    yield Group(
        (
            Case(limit, lambda: limit_rate(house, events, program), _RATE),
            Case("producer --rate max", lambda: produced(house, events), _RATE, limit, 0.5),
        ),
        scale.rounds,
    )
    _empty(Stream(house.client))


def played(events: int) -> float:
    """Events a second that the game yields as the bytes of the stream, on one core."""
    now_ms = time.time_ns() // 1_000_000
    cast = population(1, PLAYERS, now_ms, 0)
    begun_s = time.perf_counter()
    for number in range(events):
        write(cast[number % PLAYERS], now_ms + number // 300)
    return events / (time.perf_counter() - begun_s)


def benchmark_program(house: House) -> str | None:
    """The server's own benchmark, beside it or on PATH."""
    return house.servers.redis.binary.beside("valkey-benchmark", "redis-benchmark")


def _empty(source: Stream) -> None:
    source.client.delete(source.key, source.players_key, source.producer_key)


def limit_rate(house: House, events: int, program: str | None) -> float:
    """Entries a second that Redis takes when nobody has to make them."""
    house.client.delete(STREAM)
    payload = median_payload()
    if program is None:
        flood(house.servers.redis_socket, payload, events, PARCEL_EVENTS, _CONNECTIONS)
        return stream_rate(house, events)
    command = [program, "-s", str(house.servers.redis_socket), "-q", "-n", str(events)]
    command += ["-c", str(_CONNECTIONS), "-P", str(PARCEL_EVENTS)]
    command += ["XADD", STREAM, "*", "event", payload.decode()]
    done = subprocess.run(command, capture_output=True, timeout=_AT_MOST_S, check=False)
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise BenchError(f"{program} failed ({words}): mend it or take it off PATH.")
    return stream_rate(house, events)


def produced(house: House, events: int) -> float:
    """Events a second that a producer sends."""
    _empty(Stream(house.client))
    process = crew.start(
        house, "producer", "--rate", "max", "--count", str(events), "--history", "0"
    )
    crew.finished(process, _AT_MOST_S)
    sent = Stream(house.client).produced()
    if sent != events:
        raise BenchError(f"The producer has sent {sent:,} of {events:,} events.")
    return stream_rate(house, events, share=ARRAY_EVENTS)


def stream_rate(house: House, events: int, share: int = 1) -> float:
    """Events a second between the first entry and the last, by Redis' clock, up to ``share`` in each."""
    found = house.client.xinfo_stream(STREAM)
    if found["length"] * share < events:
        raise BenchError(f"{found['length']:,} entries for {events:,} events are on the stream.")
    first, last = (_ms(found[end][0]) for end in ("first-entry", "last-entry"))
    return 1000 * events / max(1, last - first)


def median_payload() -> bytes:
    """An event of middling length."""
    now_ms = time.time_ns() // 1_000_000
    payloads = sorted(map(encode, simulated(1001, now_ms - HOUR_MS, now_ms)), key=len)
    return payloads[500]


def _ms(entry_id: bytes | str) -> int:
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    return int(text.partition("-")[0])
