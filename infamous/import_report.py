"""What an import prints: what was done flows in, text for people or plain values flow out. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from infamous.excerpt import plain
from jobs.imports import Imported
from pipeline.event import Reason

# What helps against a reason, where something does.
_HINTS: Final = {
    Reason.TOO_OLD.value: "raise RETENTION_DAYS, for the consumers and here, and import it with --again",
    Reason.BAD_TS.value: "where times without an offset are UTC, say --utc",
}


def imported(name: str, done: Imported, *, is_rehearsal: bool = False) -> str:
    """A sentence, and under it the reasons, each with the first lines that it stands for."""
    if done.finished_at is not None:
        return (
            f"{plain(name)} was imported already on {done.finished_at.isoformat(timespec='seconds')}:"
            f" {done.sent:,} of {done.records:,} records were sent. There is nothing to do; --again sends"
            " them once more."
        )
    return "\n".join(_lines(plain(name), done, is_rehearsal=is_rehearsal))


def _lines(name: str, done: Imported, *, is_rehearsal: bool) -> Iterator[str]:
    refused = sum(done.refused.values())
    forgotten = f", {done.forgotten:,} of forgotten players" if done.forgotten else ""
    sent = "would be sent" if is_rehearsal else "sent"
    if done.is_complete:
        ending = " Nothing was changed." if is_rehearsal else ""
    else:
        ending = " It was stopped before the end: run it again to go on."
    yield f"{name}: {done.records:,} records, {done.sent:,} {sent}, {refused:,} refused{forgotten}.{ending}"
    if done.began_at:
        yield f"  went on where it was broken off, after {done.began_at:,} records"
    if is_rehearsal and done.example is not None:
        yield f"  the first event: {plain(done.example, 400)}"
    for reason, number in sorted(done.refused.items(), key=lambda item: (-item[1], item[0])):
        hint = f": {_HINTS[reason]}" if reason in _HINTS else ""
        yield f"  {number:,} {reason}{hint}"
        for line, detail in done.samples.get(reason, ()):
            yield f"      line {line:,}: {plain(detail, 160)}"


def imported_json(name: str, done: Imported) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "name": name,
        "records": done.records,
        "sent": done.sent,
        "refused": done.refused,
        "forgotten": done.forgotten,
        "samples": {
            reason: [{"line": line, "detail": detail} for line, detail in its]
            for reason, its in done.samples.items()
        },
        "example": None
        if done.example is None
        else done.example.decode("utf-8", "backslashreplace"),
        "began_at": done.began_at,
        "finished_at": done.finished_at,
        "is_complete": done.is_complete,
    }
