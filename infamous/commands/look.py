"""What looks and changes nothing: status, audit, trace."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from infamous import audit as audits
from infamous import house, report
from infamous import status as statuses
from infamous import trace as traces
from infamous import up as ups
from infamous.house import AsJson, end, joined, print_json

app = house.commands()


@app.command()
def status(*, as_json: AsJson = False) -> None:
    """Show what is on the streams, what waits, and what is stored."""
    with joined(must_exist=True) as house, house.reader() as reader:
        now = statuses.status(house.streams, house.engine, reader)
    if as_json:
        print_json(statuses.as_json(now))
    else:
        ups.console().print(report.status(now))
    if now.away:
        away = ", ".join(part.key for part in now.away)
        end(f"Not all of the streams can be reached; away: {away}.")


@app.command()
def audit(*, as_json: AsJson = False) -> None:
    """Check that the stored events prove themselves: seq, karma, rank, XP and time, over the whole table."""
    with joined(must_exist=True) as house:
        result = audits.audit(house.engine)
    if as_json:
        print_json(report.audit_json(result))
    else:
        print(report.audit(result))
    raise SystemExit(0 if result.passed else 1)


@app.command()
def trace(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The event's id, a UUID.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Tell where an event is and when it came, or why it was refused."""
    try:
        parsed = UUID(event_id)
    except ValueError:
        end(f"{event_id} is not an event id: give a UUID, as in the column id.", code=2)
    with joined(must_exist=True) as house:
        found = traces.trace(house.streams, house.engine, parsed)
    if as_json:
        print_json(report.trace_json(found))
    else:
        print(report.trace(found))
    raise SystemExit(0 if found.is_found else 1)
