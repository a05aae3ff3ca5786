"""Rows: events flow in, the bytes of a binary COPY flow out. Pure.

The format is Postgres' own (SQL COPY, "Binary Format"); text fields need no escaping and the server
parses no numbers. The columns are those of ``COLUMNS``, in that order.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, get_args

from pipeline.event import ACTIONS, Event, Rank, details_of

COLUMNS: Final = (
    "id", "ts", "player", "action", "xp_delta", "karma_delta", "karma_total", "rank",
    "energy_source", "seq", "details",
)  # fmt: skip

_COLUMNS: Final = len(COLUMNS)
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
_TRAILER: Final = struct.pack("!h", -1)
_NULL: Final = struct.pack("!i", -1)
# Postgres counts microseconds from 2000-01-01 UTC, which is this many milliseconds of Unix time.
_POSTGRES_EPOCH_MS: Final = 946_684_800_000

# Each carries the length of what comes next: a piece less to join.
_id_ts_and_length: Final = struct.Struct("!h i16s iq i").pack
_three_ints: Final = struct.Struct("!ii ii ii").pack
_length: Final = struct.Struct("!i").pack
_seq_and_length: Final = struct.Struct("!iq iB").pack
_no_seq_and_length: Final = struct.Struct("!i iB").pack
_int64: Final = struct.Struct("!iq").pack
# jsonb is sent as its format's version and the text.
_JSONB_VERSION: Final = 1


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _length(len(encoded)) + encoded


_ACTION: Final = {action: _text(action) for action in ACTIONS}
_RANK: Final = {rank: _text(rank) for rank in get_args(Rank)}


def copy_binary(events: Sequence[Event]) -> bytes:
    """One COPY's worth of rows."""
    chunks = [_HEADER]
    for event, details in zip(events, details_of(events), strict=True):
        id_int, player, source, seq = (
            event.id.int,
            event.player.encode(),
            event.energy_source,
            event.seq,
        )
        ts_us = ((id_int >> 80) - _POSTGRES_EPOCH_MS) * 1000
        chunks += (
            _id_ts_and_length(_COLUMNS, 16, id_int.to_bytes(16, "big"), 8, ts_us, len(player)),
            player,
            _ACTION[event.action],
            _three_ints(4, event.xp_delta, 4, event.karma_delta, 4, event.karma_total),
            _RANK[event.rank],
            _NULL if source is None else _text(source),
        )
        if details == b"null":
            chunks.append((_NULL if seq is None else _int64(8, seq)) + _NULL)
        elif seq is None:
            chunks += (_no_seq_and_length(-1, len(details) + 1, _JSONB_VERSION), details)
        else:
            chunks += (_seq_and_length(8, seq, len(details) + 1, _JSONB_VERSION), details)
    chunks.append(_TRAILER)
    return b"".join(chunks)
