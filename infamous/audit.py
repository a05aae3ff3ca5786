"""The audit: the whole table flows in, the rules it breaks and the first rows that do flow out.

The rules are those of pipeline/rules.py. One pass in the database.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Engine, text

from pipeline.rules import BROKEN

# How many of the rows that break a rule are shown.
SAMPLES: Final = 5

AUDIT: Final = text(f"""
with chained as (
    select player, seq, id, ts, karma_delta, karma_total, rank,
           -- Before its first row, a player's count stands at 0.
           coalesce(lag(seq) over in_order, 0) as previous_seq,
           lag(karma_total) over in_order as previous_karma,
           sum(xp_delta) over (in_order rows unbounded preceding) as xp
    from game_events
    window in_order as (partition by player order by seq, ts, id)
), broken as (
    select {BROKEN} as rule, player, seq, id, ts
    from chained
), numbered as (
    select *, count(*) over (partition by rule) as broken_rows,
           row_number() over (partition by rule order by player, seq, ts, id) as number
    from broken
)
select rule, broken_rows, player, seq, id, ts from numbered where number <= :samples
order by rule, number
""")  # noqa: S608  # the rules are ours
SEARCH_FIRST: Final = text("select set_config('search_path', :schema || ', public', true)")
TOTALS: Final = text("""
select count(*) as rows, count(distinct player) as players, count(*) filter (where seq is null) as unsequenced
from game_events
""")


@dataclass(frozen=True)
class Broken:
    """A rule that does not hold."""

    rule: str
    rows: int
    # player, seq, id and ts of the first rows that break it
    samples: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Audit:
    """What the audit saw."""

    rows: int
    players: int
    # Rows whose sender does not count them: their order is not known, so seq, karma and XP are not checked.
    unsequenced: int
    broken: list[Broken]

    @property
    def passed(self) -> bool:
        """Whether every rule holds."""
        return not self.broken


def audit(engine: Engine, *, within: str | None = None) -> Audit:
    """Check every row. Reads one snapshot, so it may run while events flow in.

    ``within`` is a schema whose ``game_events`` is checked in the place of the pipeline's.
    """
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        if within is not None:
            connection.execute(SEARCH_FIRST, {"schema": within})
        # A sort of a million rows in memory instead of on disk; this session's alone.
        connection.execute(text("set local work_mem = '256MB'"))
        totals = connection.execute(TOTALS).one()
        found = connection.execute(AUDIT, {"samples": SAMPLES}).mappings().all()
    broken: dict[str, Broken] = {}
    for row in found:
        entry = broken.setdefault(row["rule"], Broken(row["rule"], row["broken_rows"]))
        entry.samples.append({key: row[key] for key in ("player", "seq", "id", "ts")})
    return Audit(totals.rows, totals.players, totals.unsequenced, list(broken.values()))
