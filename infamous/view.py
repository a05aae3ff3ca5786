"""The live view: a glimpse of the pipeline flows in, a picture or a line for the terminal flows out. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from infamous.watch import Glimpse
from pipeline.event import KARMA_MAX, KARMA_MIN

GOOD: Final = "bright_blue"
EVIL: Final = "red"
_METER_CELLS: Final = 41
# Head, flow, Cole, the table's head and the first line of the foot.
_LINES_AROUND_EVENTS: Final = 16
_ACTIONS: Final = {
    "kill_enemy": "kills",
    "kill_civilian": "kills a civilian:",
    "moral_choice": "chooses",
    "recharge": "recharges from",
    "mission_complete": "completes",
    "ability_upgrade": "learns",
}


@dataclass(frozen=True)
class Frame:
    """What the view says around the glimpse, the same for a whole run."""

    servers: str
    # Lines that say how to connect; none where the servers are the user's own, who knows.
    connect: tuple[str, ...]
    rate: float
    player: str


def picture(
    glimpse: Glimpse, frame: Frame, *, alive: tuple[int, int], uptime_s: float, height: int = 50
) -> RenderableType:
    """The whole screen, in as many lines. ``alive`` is how many consumers live, of how many."""
    parts: list[RenderableType] = [_head(frame, uptime_s), _flow(glimpse, frame, alive)]
    if glimpse.trouble:
        parts.append(Text(f"  {glimpse.trouble}; waiting for it", style="bold yellow"))
    foot = Text("Ctrl-C drains and stops.  In another terminal: infamous status", style="dim")
    for connect in frame.connect:
        foot.append(f"\n{connect}")
    room = height - _LINES_AROUND_EVENTS - len(frame.connect) - bool(glimpse.trouble)
    parts += [_hero(glimpse, frame), _events(glimpse, max(room, 0)), foot]
    return Group(*parts)


def line(glimpse: Glimpse) -> str:
    """The same on one line, for logs and pipes."""
    parts = [
        f"in {glimpse.in_rate:,.1f}/s",
        f"out {glimpse.out_rate:,.1f}/s",
        f"rows {glimpse.rows:,}",
        f"undelivered {_undelivered(glimpse)}",
        f"pending {glimpse.state.pending:,}",
        f"oldest {glimpse.oldest_s:.1f} s",
        f"quarantined {glimpse.quarantined:,}",
    ]
    if glimpse.hero:
        details = glimpse.hero["details"] or {}
        parts.append(
            f"Cole: karma {glimpse.hero['karma_total']:+d} {glimpse.hero['rank']},"
            f" {shown(details.get('xp', 0))} XP"
        )
    if glimpse.trouble:
        parts.append(glimpse.trouble)
    return "  ".join(parts)


def _head(frame: Frame, uptime_s: float) -> Text:
    minutes, seconds = divmod(int(uptime_s), 60)
    hours, minutes = divmod(minutes, 60)
    head = Text("INFAMOUS GAME ANALYTICS", style="bold")
    head.append(f"   up {hours:02d}:{minutes:02d}:{seconds:02d}   {frame.servers}", style="dim")
    return head


def _flow(glimpse: Glimpse, frame: Frame, alive: tuple[int, int]) -> Panel:
    """producer -> stream -> consumers -> Postgres, with what each has to say."""
    table = Table.grid(padding=(0, 2), expand=True)
    for _ in range(4):
        table.add_column(ratio=1)
    living, wanted = alive
    waits = glimpse.state.undelivered + glimpse.state.pending
    table.add_row(
        Text("producer", style="bold"),
        Text("→ Redis stream", style="bold"),
        Text("→ consumers", style="bold"),
        Text("→ Postgres", style="bold"),
    )
    table.add_row(
        f"{glimpse.in_rate:,.1f} events/s",
        f"{glimpse.state.entries:,} entries",
        Text(f"{living} of {wanted} alive", style="" if living == wanted else "yellow"),
        f"{glimpse.rows:,} rows",
    )
    table.add_row(
        Text(
            "as fast as it goes" if math.isinf(frame.rate) else f"set to {frame.rate:g}/s",
            style="dim",
        ),
        Text(f"{waits:,} waiting", style="yellow" if waits > 1000 else "green"),
        f"{glimpse.out_rate:,.1f} stored/s",
        Text(f"{glimpse.quarantined:,} quarantined", style="red" if glimpse.quarantined else "dim"),
    )
    table.add_row(
        Text(f"{glimpse.produced:,} sent", style="dim"),
        Text(f"oldest {glimpse.oldest_s:.1f} s", style="yellow" if glimpse.oldest_s > 5 else "dim"),
        Text(f"{glimpse.state.pending:,} pending", style="dim"),
        "",
    )
    return Panel(table, box=box.ROUNDED, border_style="dim")


def _hero(glimpse: Glimpse, frame: Frame) -> Panel:
    if glimpse.hero is None:
        body: RenderableType = Text("has not played yet", style="dim")
        return Panel(body, title=frame.player, title_align="left", border_style="dim")
    karma, rank = glimpse.hero["karma_total"], glimpse.hero["rank"]
    details = glimpse.hero["details"] or {}
    style = GOOD if karma > 0 else EVIL if karma < 0 else "white"
    body = Group(
        meter(karma).append(f"   {karma:+d} ", style=f"bold {style}").append(rank, style="bold"),
        Text(
            f"{shown(details.get('xp', 0))} XP   energy {shown(details.get('energy', 0))} of 100   "
            f"{shown(details.get('district', ''))}: {shown(details.get('mission', ''))}   "
            f"event {glimpse.hero['seq'] or 0:,}"
        ),
    )
    return Panel(body, title=frame.player, title_align="left", border_style=style)


def meter(karma: int) -> Text:
    """A bar from evil to good whose middle is neutral."""
    middle = _METER_CELLS // 2
    place = round((karma - KARMA_MIN) / (KARMA_MAX - KARMA_MIN) * (_METER_CELLS - 1))
    bar = Text("evil ", style=EVIL)
    for cell in range(_METER_CELLS):
        if cell == place:
            bar.append("◆", style="bold white")
        elif min(place, middle) <= cell <= max(place, middle):
            bar.append("━", style=GOOD if place > middle else EVIL)
        else:
            bar.append("┼" if cell == middle else "─", style="dim")
    return bar.append(" good", style=GOOD)


def _events(glimpse: Glimpse, room: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
    table.add_column("time", no_wrap=True, width=8)
    table.add_column("player", no_wrap=True, max_width=20)
    table.add_column("last events", no_wrap=True, ratio=1)
    table.add_column("XP", justify="right")
    table.add_column("karma", justify="right")
    table.add_column("rank")
    for event in glimpse.events[:room]:
        delta = event["karma_delta"]
        table.add_row(
            event["ts"].astimezone().strftime("%H:%M:%S"),
            Text(shown(event["player"])),
            Text(sentence(event)),
            f"{event['xp_delta']:+,d}" if event["xp_delta"] else "",
            Text(
                f"{event['karma_total']:d}" + (f" ({delta:+d})" if delta else ""),
                style=GOOD if delta > 0 else EVIL if delta < 0 else "",
            ),
            event["rank"],
        )
    return table


def sentence(event: dict[str, Any]) -> str:
    """What happened in a few words, for events of any sender."""
    details = event["details"] or {}
    kind = event["action"]
    objects = {
        "kill_enemy": details.get("enemy"),
        "kill_civilian": details.get("civilian"),
        "moral_choice": details.get("choice"),
        "recharge": (event["energy_source"] or "").replace("_", " "),
        "mission_complete": details.get("mission"),
        "ability_upgrade": details.get("ability"),
    }
    what = objects.get(kind)
    if not what:
        return str(kind).replace("_", " ")
    ability = details.get("ability") if kind.startswith("kill_") else None
    return f"{_ACTIONS[kind]} {shown(what)}" + (f" with {shown(ability)}" if ability else "")


def shown(value: object) -> str:
    """A sender's value, safe for a terminal: short, on one line, without control characters."""
    if isinstance(value, int):
        value = f"{value:,}"
    text = "".join(char if char.isprintable() else "?" for char in str(value))
    return text if len(text) <= 60 else text[:59] + "…"


def _undelivered(glimpse: Glimpse) -> str:
    about = "about " if glimpse.state.undelivered_is_estimate else ""
    return f"{about}{glimpse.state.undelivered:,}"
