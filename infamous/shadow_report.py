"""The shadow on the screen: what a build, a comparison or a swap found flows in, lines for people flow out.
Pure."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from infamous.difference import Difference
from infamous.shadow import Built
from infamous.swap import Swapped


def built(done: Built) -> str:
    """What a build did, and what comes next."""
    lines = [
        f"Built the shadow of {done.first_day} to {done.last_day}: {done.rows:,} rows of {done.entries:,}"
        f" entries, {done.duplicates:,} were there already"
    ]
    if done.is_complete:
        lines[0] += "."
    else:
        lines[0] += "; it was stopped before the end: build it again, and it goes on."
    if done.forgotten:
        lines.append(f"{done.forgotten:,} events of forgotten players were left out.")
    lines += [f"{count:,} left out as {reason}" for reason, count in sorted(done.refused.items())]
    return "\n".join(lines)


def difference(found: Difference) -> RenderableType:
    """A table of the days, one of the figures, and the verdict."""
    days = _table("day", "live", "shadow", "to copy", "only live", "only shadow", "differing")
    for day in found.days:
        counts = (day.live, day.shadow, day.to_copy, day.only_live, day.only_shadow, day.differing)
        _row(days, str(day.day), counts, is_red=bool(day.only_live))
    figures = _table("figure", "live", "shadow", "difference")
    for label, field in (
        ("events", "events"),
        ("players", "players"),
        ("XP gained", "xp_gained"),
        ("karma change", "karma_change"),
        ("missions completed", "missions_completed"),
        ("daily actives, mean", "daily_actives"),
    ):
        live, shadow = getattr(found.live, field), getattr(found.shadow, field)
        figures.add_row(label, _number(live), _number(shadow), _signed(shadow - live))
    lacking = sum(day.only_live for day in found.days)
    if found.is_same:
        verdict = Text("Both hold the same; a swap would change nothing.")
    elif lacking:
        verdict = Text(
            f"The shadow lacks {lacking:,} rows: a swap refuses, or with --set-aside takes them out of the"
            " table."
        )
    else:
        verdict = Text(
            "The shadow holds all that is stored; `infamous shadow swap` puts it in place."
        )
    return Group(days, figures, verdict)


def swapped(done: Swapped, *, is_dry_run: bool) -> str:
    """A line a day, and how it ended."""
    verb = "would swap" if is_dry_run else "swapped"
    lines = [
        f"{day.day}  {verb}: {day.rows:,} rows, {day.copied:,} of them taken along,"
        f" {day.set_aside:,} set aside"
        for day in done.days
    ]
    if is_dry_run:
        return "\n".join(lines) or "All days of the shadow are in place."
    if not done.is_complete:
        lines.append("It was stopped before the end: swap again, and it goes on.")
    else:
        lines.append(
            "All days are in place. What stood there is in the schema infamous_before_swap until"
            " `infamous shadow drop --before`; the rollups follow."
        )
    return "\n".join(lines)


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _row(table: Table, first: str, counts: Iterable[int], *, is_red: bool) -> None:
    style = "bold red" if is_red else ""
    table.add_row(*(Text(words, style=style) for words in (first, *(f"{n:,}" for n in counts))))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _signed(value: float) -> str:
    return "0" if not value else f"+{_number(value)}" if value > 0 else _number(value)
