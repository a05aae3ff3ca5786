"""Parquet: events and refused bytes flow in, tables and the bytes of files flow out, and back again. Pure.

The columns of an event are those of game_events, and the entry that brought it. What an event means is kept
whole; how its sender had spelled it out is not. What is no event is kept to the byte.

pyarrow takes 60 MB: whoever may not need it imports this where it is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple, cast
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Raw

from pipeline.event import Event, details_of

_TS: Final = pa.timestamp("ms", tz="UTC")
EVENTS: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("ts", _TS, nullable=False),
        pa.field("player", pa.string(), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("xp_delta", pa.int32(), nullable=False),
        pa.field("karma_delta", pa.int32(), nullable=False),
        pa.field("karma_total", pa.int32(), nullable=False),
        pa.field("rank", pa.string(), nullable=False),
        pa.field("energy_source", pa.string()),
        pa.field("seq", pa.int64()),
        pa.field("details", pa.string()),
        pa.field("entry_id", pa.string(), nullable=False),
    ]
)
REFUSED: Final = pa.schema(
    [
        pa.field("entry_id", pa.string(), nullable=False),
        # When the entry was added to the stream.
        pa.field("ts", _TS, nullable=False),
        pa.field("form", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("payload", pa.large_binary(), nullable=False),
    ]
)
# A reader who wants a few minutes of a day skips the rest.
_ROW_GROUP: Final = 50_000
_DAY_MS: Final = 86_400_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The highest time that a date can be made of.
_LAST_MS: Final = (date.max - date(1970, 1, 1)).days * _DAY_MS


class RefusedRow(NamedTuple):
    """What is no event, and why."""

    entry_id: str
    # Unix milliseconds.
    added_ms: int
    form: str
    reason: str
    detail: str
    payload: bytes


def of_events(events: Sequence[Event], entry_ids: Sequence[str]) -> pa.Table:
    """A row an event, in their order; ``entry_ids`` says which entry brought each."""
    details = [None if text == b"null" else text for text in details_of(events)]
    columns = [
        pa.array([str(event.id) for event in events], pa.string()),
        pa.array([event.ts_ms for event in events], pa.int64()).cast(_TS),
        pa.array([event.player for event in events], pa.string()),
        pa.array([event.action for event in events], pa.string()),
        pa.array([event.xp_delta for event in events], pa.int32()),
        pa.array([event.karma_delta for event in events], pa.int32()),
        pa.array([event.karma_total for event in events], pa.int32()),
        pa.array([event.rank for event in events], pa.string()),
        pa.array([event.energy_source for event in events], pa.string()),
        pa.array([event.seq for event in events], pa.int64()),
        pa.array(details, pa.binary()).cast(pa.string()),
        pa.array(entry_ids, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=EVENTS)


def of_refused(rows: Sequence[RefusedRow]) -> pa.Table:
    """A row each, in their order."""
    entry_ids, added_ms, forms, reasons, details, payloads = (
        zip(*rows, strict=True) if rows else ((),) * 6
    )
    columns = [
        pa.array(entry_ids, pa.string()),
        # A sender may choose an id that no calendar reaches.
        pa.array([min(ms, _LAST_MS) for ms in cast("tuple[int, ...]", added_ms)], pa.int64()).cast(
            _TS
        ),
        pa.array(forms, pa.string()),
        pa.array(reasons, pa.string()),
        pa.array(details, pa.string()),
        pa.array(payloads, pa.large_binary()),
    ]
    return pa.Table.from_arrays(columns, schema=REFUSED)


def events_of(table: pa.Table) -> list[Event]:
    """The events again. Each id says the event's time, so none is given a ``ts`` besides."""
    values = [
        table.column(name).to_pylist() for name in EVENTS.names if name not in {"ts", "entry_id"}
    ]
    return [
        Event(
            id=UUID(id_),
            player=player,
            action=action,
            xp_delta=xp_delta,
            karma_delta=karma_delta,
            karma_total=karma_total,
            rank=rank,
            energy_source=energy_source,
            seq=seq,
            details=Raw(b"null" if details is None else details.encode()),
        )
        for (
            id_, player, action, xp_delta, karma_delta, karma_total, rank, energy_source, seq, details,
        ) in zip(*values, strict=True)
    ]  # fmt: skip


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """The events of all tables."""
    return pa.concat_tables([EVENTS.empty_table(), *tables]).combine_chunks()


def by_day(table: pa.Table) -> list[tuple[date, pa.Table]]:
    """The rows of each UTC day, in the order in which they stand."""
    days = pc.divide(pc.cast(table["ts"], pa.int64()), _DAY_MS)
    return [
        ((_EPOCH + timedelta(days=day)).date(), table.filter(pc.equal(days, day)))
        for day in sorted(pc.unique(days).to_pylist())
    ]


def sorted_by_id(table: pa.Table) -> pa.Table:
    """Events in the order of their times: that makes the smallest files, and the fewest to look into."""
    return table.sort_by("id")


def chosen(
    table: pa.Table, from_ms: int, to_ms: int, player: str | None, action: str | None
) -> pa.Table:
    """The rows of a span of Unix milliseconds, both ends included, and of a player or an action."""
    ms = pc.cast(table["ts"], pa.int64())
    wanted = pc.and_(pc.greater_equal(ms, from_ms), pc.less_equal(ms, min(to_ms, _LAST_MS)))
    if player is not None:
        wanted = pc.and_(wanted, pc.equal(table["player"], player))
    if action is not None:
        wanted = pc.and_(wanted, pc.equal(table["action"], action))
    return table.filter(wanted)


def without_known(table: pa.Table, known: pa.Table) -> pa.Table:
    """The rows that are not among the known ones: by the id of an event, else by entry and bytes."""
    if "id" in known.column_names:
        return table.filter(pc.invert(pc.is_in(table["id"], value_set=known["id"])))
    pairs = {*_entries_and_bytes(known)}
    return table.filter(
        pa.array([pair not in pairs for pair in _entries_and_bytes(table)], pa.bool_())
    )


def is_of_events(table: pa.Table) -> bool:
    """Whether the rows are events, else what was refused."""
    return "player" in table.column_names


def players(table: pa.Table) -> set[str]:
    """Whose events the rows are."""
    return {*cast("list[str]", pc.unique(table["player"]).to_pylist())}


def without_players(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The events of all others."""
    return table.filter(pc.invert(pc.is_in(table["player"], value_set=pa.array(names))))


def renamed(table: pa.Table, player: str, new: str) -> pa.Table:
    """The same events, those of a player under another name."""
    column = table["player"]
    names = pc.if_else(pc.equal(column, player), new, column)
    return table.set_column(table.schema.get_field_index("player"), EVENTS.field("player"), names)


def refused_rows(table: pa.Table) -> Iterator[tuple[str, bytes]]:
    """What was refused: what it stood for, as it is called in the rows, and its bytes."""
    return zip(table["form"].to_pylist(), table["payload"].to_pylist(), strict=True)


def only(table: pa.Table, wanted: Sequence[bool]) -> pa.Table:
    """The rows that are wanted."""
    return table.filter(pa.array(wanted, pa.bool_()))


def _entries_and_bytes(table: pa.Table) -> Iterator[tuple[str, bytes]]:
    return zip(table["entry_id"].to_pylist(), table["payload"].to_pylist(), strict=True)


def ends(table: pa.Table, column: str) -> tuple[str, str]:
    """The first and the last of a column as the rows stand."""
    values = table[column]
    return str(values[0].as_py()), str(values[-1].as_py())


def times(table: pa.Table) -> tuple[datetime, datetime]:
    """The earliest and the latest time of the rows."""
    found = pc.min_max(table["ts"]).as_py()
    return found["min"], found["max"]


def written(table: pa.Table) -> bytes:
    """The bytes of a file; the same for the same rows."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROW_GROUP)
    return cast("bytes", sink.getvalue().to_pybytes())


def read(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a file, or some columns of them. Raises ValueError when it is none."""
    try:
        return pq.ParquetFile(pa.BufferReader(data)).read(columns)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(str(error)) from None


def sha256(data: bytes) -> str:
    """What a manifest says of a file's bytes."""
    return hashlib.sha256(data).hexdigest()
