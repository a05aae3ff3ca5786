"""The proof on the screen: a scene of the run, or its outcome, flows in, lines flow out. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from infamous.prove.check import Account
from infamous.prove.faults import ONE_REDIS, SHAPES, Kind
from infamous.prove.stage import Done

_LAST_FAULTS: Final = 8
_COLUMNS: Final = 3


@dataclass(frozen=True)
class Scene:
    """The run at a moment."""

    phase: str
    elapsed_s: float
    seconds: float
    seed: int
    in_rate: float = 0.0
    out_rate: float = 0.0
    stored: int = 0
    quarantined: int = 0
    waiting: int = 0
    # How many of each role live, and how many of those are frozen.
    living: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    # What may go wrong in this run.
    kinds: Sequence[Kind] = ONE_REDIS
    acting: Sequence[Kind] = ()
    log: Sequence[Done] = ()
    # A server that the harness itself cannot reach just now.
    away: str | None = None


def picture(scene: Scene) -> RenderableType:
    """The whole screen."""
    head = Text("INFAMOUS PROVE", style="bold")
    head.append(
        f"   {scene.phase}   {scene.elapsed_s:.0f} of {scene.seconds:.0f} s   seed {scene.seed}",
        style="dim",
    )
    flow = Text(
        f"in {scene.in_rate:,.0f} entries/s   out {scene.out_rate:,.0f} events/s   stored {scene.stored:,}"
        f"   quarantined {scene.quarantined:,}   "
    )
    flow.append(f"waiting {scene.waiting:,}", style="yellow" if scene.waiting > 10_000 else "")
    crew = Text("   ".join(_crew(scene)))
    wrong = Text("now: " + (", ".join(scene.acting) or "nothing is wrong"), style="red")
    if scene.away:
        wrong.append(f"   {scene.away} is away", style="bold yellow")
    return Group(head, flow, crew, wrong, Text(), _classes(scene), Text(), _last(scene.log))


def line(scene: Scene) -> str:
    """The same on one line, for logs and pipes."""
    parts = [
        f"{scene.elapsed_s:4.0f} s",
        scene.phase,
        f"in {scene.in_rate:,.0f} entries/s",
        f"out {scene.out_rate:,.0f} events/s",
        f"stored {scene.stored:,}",
        f"waiting {scene.waiting:,}",
        *_crew(scene),
        f"faults {len(scene.log)}",
    ]
    if scene.acting:
        parts.append("now " + ", ".join(scene.acting))
    return "  ".join(parts)


def fault_log(log: Sequence[Done]) -> list[str]:
    """A line for each class: how often it took effect, and what it did last."""
    lines = []
    for kind in Kind:
        done = [one for one in log if one.kind is kind]
        effects = [one.effect for one in done if one.effect is not None]
        if done:
            last = effects[-1] if effects else done[-1].problem or "hit nobody"
            lines.append(f"{kind:<26} {len(effects):>2}  {last}")
    return lines


def account_line(account: Account, drained_s: float | None) -> str:
    """The account in the one line that everything comes down to."""
    drained = "not drained" if drained_s is None else f"drained in {drained_s:.1f} s"
    return (
        f"attempted {account.attempted:,}  acknowledged {account.acknowledged:,}"
        f"  stored {account.stored:,}  quarantined {account.quarantined:,}"
        f"  missing {account.missing:,}  duplicated {account.duplicated:,}"
        f"  unexpected {account.unexpected:,}"
        f"  karma chain {'ok' if account.chain_ok else 'broken'}  {drained}"
    )


def cluster_lines(
    log: Sequence[Done], account: Account, partitions: int, replicas: int
) -> list[str]:
    """What was done to a cluster, and whose the losses are."""
    counts = Counter(one.kind for one in log if one.effect is not None)
    killed = counts[Kind.MASTER_KILLED] + counts[Kind.REPLICA_CUT_OFF]
    lost = account.lost_by_redis or 0
    why = ""
    if lost:
        why = "  (their master had said yes, and died before its replica had them)"
    return [
        f"{partitions} streams on a Redis Cluster  masters killed {killed}"
        f"  failovers {killed + counts[Kind.FAILED_OVER]}  slots moved {counts[Kind.SLOT_MOVED]}"
        f"  replicas waited for {replicas}",
        f"lost by Redis {lost:,}  lost by us {account.missing:,}{why}",
    ]


def _crew(scene: Scene) -> list[str]:
    return [
        f"{living} {role}{'' if living == 1 else 's'}" + (f" ({paused} frozen)" if paused else "")
        for role, (living, paused) in scene.living.items()
    ]


def _classes(scene: Scene) -> Table:
    counts = Counter(one.kind for one in scene.log if one.effect is not None)
    table = Table.grid(padding=(0, 3))
    kinds = [kind for kind in SHAPES if kind in scene.kinds]
    rows = -(-len(kinds) // _COLUMNS)
    for row in range(rows):
        table.add_row(
            *(
                Text(f"{counts[kind]:>2} {kind}", style="green" if counts[kind] else "dim")
                for kind in kinds[row::rows]
            )
        )
    return table


def _last(log: Sequence[Done]) -> Text:
    lines = [
        f"{one.at_s:5.1f} s  {one.kind}: {one.effect or one.problem or 'hit nobody'}"
        for one in log[-_LAST_FAULTS:]
    ]
    return Text("\n".join(lines), style="dim")
