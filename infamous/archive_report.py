"""The archive on the screen: what it holds, and how far it is, flow in; a table or values flow out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from infamous.report import span as spoken
from jobs.manifest import order
from jobs.position import NOWHERE, Gap
from pipeline.event import datetime_of
from pipeline.stream import StreamState

if TYPE_CHECKING:  # it takes 60 MB
    from jobs.archive import Day


@dataclass(frozen=True)
class Kept:
    """The archive at a moment."""

    place: str
    days: Sequence[Day]
    # The times of the first and the last event.
    span: tuple[datetime, datetime] | None
    newest_entry: str | None
    # The stream as the archive's bookmark stands on it.
    state: StreamState
    # Manifests that are gone.
    missing: Sequence[str] = ()
    # What left a stream before it came here.
    gaps: Sequence[Gap] = ()
    # Streams that are away, and why: how far behind they are, nobody can say.
    away: Mapping[str, str] = field(default_factory=dict)

    @property
    def behind_s(self) -> float:
        """How old the oldest entry is that is not archived."""
        oldest_ms = self.state.oldest_waiting_ms
        return 0.0 if oldest_ms is None else (self.state.at_ms - oldest_ms) / 1000


def kept_table(kept: Kept) -> Group:
    """A row a day, and where it stands."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("day", no_wrap=True)
    for name in ("files", "events", "refused", "bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    for day in kept.days:
        figures = (day.files, day.events, day.refused, day.bytes)
        table.add_row(day.day.isoformat(), *(f"{figure:,}" for figure in figures))
    sums = [
        sum(getattr(day, name) for day in kept.days)
        for name in ("files", "events", "refused", "bytes")
    ]
    table.add_section()
    table.add_row("all", *(f"{figure:,}" for figure in sums))
    lines = [behind(kept), *_away(kept), *map(_gap, kept.gaps), *map(_missing, kept.missing)]
    return Group(Text(f"The archive in {kept.place}"), table, *map(Text, lines))


def _away(kept: Kept) -> list[str]:
    return [
        f"The stream {key} is away ({reason}): how much of it is not archived, nobody can say."
        for key, reason in kept.away.items()
    ]


def _gap(gap: Gap) -> str:
    return (
        f"What was added to the stream after {_moment(gap.after)} and before {_moment(gap.before)} is not all"
        " here: another place archived it, so name that one in ARCHIVE_URL to replay it."
    )


def _missing(path: str) -> str:
    return (
        f"The manifest {path} is gone: bring it back from a backup, or make it anew with"
        " `infamous archive mend`."
    )


def _moment(entry_id: str) -> str:
    """When an entry was added; its id where no calendar reaches that."""
    try:
        moment = datetime_of(order(entry_id)[0])
    except (ValueError, OverflowError, OSError):
        return entry_id
    return "the beginning" if entry_id == NOWHERE else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def behind(kept: Kept) -> str:
    """How far behind the stream it is, in a sentence."""
    if not kept.state.group_exists:
        return "No bookmark stands on the stream: nothing waits for the archive, and a trim does not either."
    if not kept.state.undelivered:
        return f"All that is on the stream is archived; the newest entry is {kept.newest_entry or 'none'}."
    about = "About " if kept.state.undelivered_is_estimate else ""
    return (
        f"{about}{kept.state.undelivered:,} entries of the stream are not archived yet, the oldest since"
        f" {spoken(kept.behind_s)}; the newest that is archived is {kept.newest_entry or 'none'}."
    )


def kept_json(kept: Kept) -> dict[str, Any]:
    """The same for scripts."""
    first, last = kept.span or (None, None)
    return {
        "place": kept.place,
        "days": [asdict(day) for day in kept.days],
        "files": sum(day.files for day in kept.days),
        "events": sum(day.events for day in kept.days),
        "refused": sum(day.refused for day in kept.days),
        "bytes": sum(day.bytes for day in kept.days),
        "first_ts": first,
        "last_ts": last,
        "newest_entry": kept.newest_entry,
        "has_bookmark": kept.state.group_exists,
        "behind_entries": kept.state.undelivered if kept.state.group_exists else None,
        "behind_s": kept.behind_s,
        "away": dict(kept.away),
        "missing": list(kept.missing),
        "gaps": [{"after": gap.after, "before": gap.before} for gap in kept.gaps],
    }
