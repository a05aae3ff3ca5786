"""Growth: more rows, more consumers, more players flow in; whether the rate stays flows out.

A table that holds more rows is compared with what raw COPY does on that same table, in the same round.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bench import ingest
from bench.case import Case, Group
from bench.house import House
from bench.scale import Scale
from bench.workload import PLAYERS
from producer.outbox import ARRAY_EVENTS

SECTION: Final = "growth"
_RATE: Final = "events/s"


def groups(house: House, scale: Scale) -> Iterator[Group]:
    """One dimension after the other."""
    events = scale.events
    yield Group(_by_consumers(house, events), scale.slow_rounds)
    yield Group(_by_players(house, events), scale.slow_rounds)
    yield Group(_by_form(house, events), 1)
    for rows in scale.growth_rows:
        house.keep(rows)
        yield Group(_at(house, events, rows), scale.slow_rounds)
    house.keep(0)
    house.forget_workloads()


def _by_consumers(house: House, events: int) -> tuple[Case, ...]:
    one = "1 consumer"
    return (
        Case(one, lambda: ingest.load_rate(house, events, 1), _RATE),
        Case("2 consumers", lambda: ingest.load_rate(house, events, 2), _RATE, one),
        Case("4 consumers", lambda: ingest.load_rate(house, events, 4), _RATE, one),
    )


def _by_players(house: House, events: int) -> tuple[Case, ...]:
    usual = f"{PLAYERS:,} players"
    return (
        Case(usual, lambda: ingest.load_rate(house, events, 1), _RATE),
        Case("1 player", lambda: ingest.load_rate(house, events, 1, 1), _RATE, usual),
        Case("100,000 players", lambda: ingest.load_rate(house, events, 1, 100_000), _RATE, usual),
    )


def _by_form(house: House, events: int) -> tuple[Case, ...]:
    alone, shared = "Redis holds, an event an entry", f"Redis holds, {ARRAY_EVENTS} events an entry"
    return (
        Case(alone, lambda: event_bytes(house, events, 1), "bytes/event"),
        Case(shared, lambda: event_bytes(house, events, ARRAY_EVENTS), "bytes/event", alone),
    )


def _at(house: House, events: int, rows: int) -> tuple[Case, ...]:
    limit = f"raw COPY, {rows:,} rows before"
    ours = f"one consumer, {rows:,} rows before"
    return (
        Case(limit, lambda: ingest.copy_rate(house, events), _RATE),
        Case(ours, lambda: ingest.load_rate(house, events, 1), _RATE, limit),
    )


def event_bytes(house: House, events: int, share: int) -> float:
    """What an event takes in Redis' memory where so many share an entry."""
    workload = house.clean(events, players=PLAYERS, share=share)
    taken_bytes = house.client.memory_usage(workload.name, samples=0) or 0
    return taken_bytes / workload.carried
