"""Rows: events flow in, the bytes of a binary COPY flow out. Pure.

The format is Postgres' own (SQL COPY, "Binary Format"); text fields need no escaping and the server
parses no numbers. The columns are those of ``COLUMNS``, in that order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, get_args

from pipeline.event import ACTIONS, Event, Rank

COLUMNS: Final = (
    "id", "ts", "player", "action", "xp_delta", "karma_delta", "karma_total", "rank",
    "energy_source", "seq", "details",
)  # fmt: skip

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
_TRAILER: Final = struct.pack("!h", -1)
_NULL: Final = struct.pack("!i", -1)
# Postgres counts microseconds from 2000-01-01 UTC, which is this many milliseconds of Unix time.
_POSTGRES_EPOCH_MS: Final = 946_684_800_000

_id_and_ts: Final = struct.Struct("!h i16s iq").pack
_length: Final = struct.Struct("!i").pack
_three_ints: Final = struct.Struct("!ii ii ii").pack
_int64: Final = struct.Struct("!iq").pack


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _length(len(encoded)) + encoded


_ACTION: Final = {action: _text(action) for action in ACTIONS}
_RANK: Final = {rank: _text(rank) for rank in get_args(Rank)}


def copy_binary(events: Iterable[Event]) -> bytes:
    """One COPY's worth of rows."""
    chunks = [_HEADER]
    for event in events:
        details = event.details_json
        chunks += (
            _id_and_ts(
                len(COLUMNS), 16, event.id.bytes, 8, (event.ts_ms - _POSTGRES_EPOCH_MS) * 1000
            ),
            _text(event.player),
            _ACTION[event.action],
            _three_ints(4, event.xp_delta, 4, event.karma_delta, 4, event.karma_total),
            _RANK[event.rank],
            _NULL if event.energy_source is None else _text(event.energy_source),
            _NULL if event.seq is None else _int64(8, event.seq),
            # jsonb is sent as its format's version, 1, and the text.
            _NULL if details is None else _length(len(details) + 1) + b"\x01" + details,
        )
    chunks.append(_TRAILER)
    return b"".join(chunks)
