"""What the quarantine's commands print: results flow in, text for people, or plain values for scripts, flow
out. Pure. Whatever a sender wrote is shown as text that no terminal obeys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from infamous.excerpt import difference, lines, plain
from jobs.__main__ import ending
from jobs.fix import THREW, Fixed, Trial
from jobs.pinpoint import place
from jobs.quarantine import Held
from jobs.release import Foreseen
from jobs.verdict import Verdict, parsed
from pipeline.entry import Form
from pipeline.event import Reason

_KEY_DIGITS: Final = 12
_DETAIL_CELLS: Final = 90
_START_CELLS: Final = 74
_SHORT: Final = 200


def key_shown(key: bytes) -> str:
    """As much of a key as tells it from others."""
    return key.hex()[:_KEY_DIGITS]


# --- list


def listed(reasons: Sequence[Mapping[str, Any]], samples: Sequence[Mapping[str, Any]]) -> Any:
    """A row a reason, and under it the samples of each."""
    if not reasons:
        return Text("The quarantine is empty.")
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("reason", no_wrap=True)
    for name in ("waiting", "tried", "tries", "released"):
        table.add_column(name, justify="right")
    table.add_column("first (UTC)", no_wrap=True)
    table.add_column("last (UTC)", no_wrap=True)
    for row in reasons:
        table.add_row(
            Text(row["reason"]),
            *(f"{row[name]:,}" for name in ("waiting", "tried", "attempts", "released")),
            *(
                f"{row[name].astimezone(UTC):%m-%d %H:%M}"
                for name in ("first_seen_at", "last_seen_at")
            ),
        )
    parts: list[RenderableType] = [table]
    for row in reasons:
        its = [sample for sample in samples if sample["reason"] == row["reason"]]
        if its:
            parts.append(Text(row["reason"], style="bold"))
        for sample in its:
            tries = f", tried {sample['attempts']:,} times" if sample["attempts"] else ""
            head = f"  {key_shown(sample['sha256'])}  {plain(sample['detail'], _DETAIL_CELLS)}"
            parts.append(Text(f"{head} ({sample['size_bytes']:,} bytes{tries})"))
            parts.append(Text(f"    {plain(sample['start'], _START_CELLS)}", style="dim"))
    return Group(*parts)


def listed_json(
    reasons: Sequence[Mapping[str, Any]], samples: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The same for scripts; the start of the bytes as text, what is none escaped."""
    return [
        {
            **row,
            "samples": [
                {
                    "key": sample["sha256"].hex(),
                    "detail": sample["detail"],
                    "size_bytes": sample["size_bytes"],
                    "attempts": sample["attempts"],
                    "start": _as_text(sample["start"]),
                }
                for sample in samples
                if sample["reason"] == row["reason"]
            ],
        }
        for row in reasons
    ]


# --- show


@dataclass(frozen=True)
class Exhibit:
    """An entry, what today's rules say of it, and where it breaks."""

    row: Mapping[str, Any]
    now: Verdict

    @property
    def is_cut(self) -> bool:
        """Whether only the beginning of the bytes was kept."""
        return bool(self.row["size_bytes"] != len(self.row["raw"]))

    @property
    def form(self) -> Form:
        """What the bytes were."""
        return Held(self.row["sha256"], self.row["raw"], self.row["reason"]).form

    @property
    def breaks_at(self) -> int | None:
        """Where it breaks by today's rules; where those find nothing, or it is whole, nowhere."""
        if self.now.reason is None or self.form is Form.FOREIGN:
            return None
        return place(self.row["raw"], self.now.reason, self.now.detail or "")

    @property
    def verdict(self) -> str:
        """What today's rules say, in words."""
        if self.form is Form.FOREIGN:
            return "another program's entry: it cannot be released, only fixed"
        if self.is_cut:
            return "too large: what is kept is only the beginning, and cannot be sent again"
        if self.now.reason is not None:
            return f"still refused: {self.now.reason}: {self.now.detail}"
        if self.row["reason"] == Reason.DATABASE:
            return "would be taken now, unless the database refuses the row once more"
        return "would be taken now"


def shown(exhibit: Exhibit, columns: int) -> Any:
    """Two columns: what, and how it is; under them the bytes, with a caret where they break."""
    row = exhibit.row
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    released = row["released_at"]
    at = exhibit.breaks_at
    for name, words in (
        ("key", row["sha256"].hex()),
        ("refused for", f"{row['reason']}: {plain(row['detail'])}"),
        ("size", f"{row['size_bytes']:,} bytes"),
        ("stream entry", plain(row["entry_id"])),
        ("seen", f"{row['times_seen']:,} times, first {_when(row['first_seen_at'])}"),
        ("last seen", _when(row["last_seen_at"])),
        ("tries", f"{row['attempts']:,}"),
        ("released", "no" if released is None else _when(released)),
        *([] if row["fixed_at"] is None else [("fixed", _when(row["fixed_at"]))]),
        ("by today's rules", plain(exhibit.verdict)),
        ("breaks", "at no one place" if at is None else _place(row["raw"], at)),
    ):
        table.add_row(name, Text(words))
    return Group(table, *(Text(line) for line in lines(row["raw"], at, columns)))


def shown_json(exhibit: Exhibit) -> dict[str, Any]:
    """The same for scripts; raw bytes as text, what is none escaped. ``--raw`` gives them as they are."""
    row = exhibit.row
    return {
        **{name: value for name, value in row.items() if name != "sha256"},
        "key": row["sha256"].hex(),
        "raw": _as_text(row["raw"]),
        "is_taken_now": exhibit.now.is_taken and not exhibit.is_cut,
        "reason_now": exhibit.now.reason,
        "detail_now": exhibit.now.detail,
        "breaks_at": exhibit.breaks_at,
    }


def _place(raw: bytes, at: int) -> str:
    before = raw[:at].split(b"\n")
    if len(before) == 1:
        return f"at byte {at:,}"
    column = len(before[-1].decode("utf-8", "replace")) + 1
    return f"at byte {at:,}, line {len(before):,}, column {column:,}"


# --- fix


def rehearsed(trials: Sequence[Trial], chosen: int) -> Any:
    """Before, after and the verdict of each, and how many there are of each."""
    parts: list[RenderableType] = []
    for trial in trials:
        head = Text(f"{key_shown(trial.held.key)}  ", style="bold")
        parts.append(head.append(trial.held.reason))
        before, after = _change(trial)
        parts.append(Text(f"  before  {before}"))
        if after is not None:
            parts.append(Text(f"  after   {after}"))
        style = "green" if trial.reason is None else "yellow"
        parts.append(Text(f"  now     {plain(_verdict(trial), 200)}", style=style))
        old, new = trial.ids
        if old is not None and new is not None and old != new:
            words = f"  id      changes from {plain(old)} to {plain(new)}: it is another event then"
            parts.append(Text(words, style="yellow"))
    good = sum(trial.reason is None for trial in trials)
    parts.append(
        Text(
            f"Of {chosen:,} that are chosen, {len(trials):,} were tried: {good:,} would be taken,"
            f" {len(trials) - good:,} would stay. Nothing was changed."
        )
    )
    return Group(*parts)


def rehearsed_json(trials: Sequence[Trial], chosen: int) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "chosen": chosen,
        "trials": [
            {
                "key": trial.held.key.hex(),
                "before": _as_text(trial.held.raw),
                "after": None if trial.made is None else _as_text(trial.made),
                "is_taken": trial.reason is None,
                "reason": trial.reason,
                "detail": trial.detail,
                "id_before": trial.ids[0],
                "id_after": trial.ids[1],
            }
            for trial in trials
        ],
    }


def fixed(done: Fixed) -> str:
    """A sentence, and under it samples of what stayed."""
    return "\n".join(_fixed(done))


def _fixed(done: Fixed) -> Iterator[str]:
    stayed = sum(done.left.values())
    cut = f"; {done.cut:,} cut ones cannot be fixed" if done.cut else ""
    yield (
        f"Fixed and sent {done.entries:,} entries; {stayed:,} stayed{_by_reason(done.left)}{cut}"
        f"{ending(is_complete=done.is_complete)}"
    )
    for reason, its in done.samples.items():
        for key, detail in its:
            yield f"  {reason:20} {key_shown(key)}  {plain(detail, 200)}"


def fixed_json(done: Fixed) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "entries": done.entries,
        "left": done.left,
        "samples": {
            reason: [{"key": key.hex(), "detail": detail} for key, detail in its]
            for reason, its in done.samples.items()
        },
        "cut": done.cut,
        "is_complete": done.is_complete,
    }


def _change(trial: Trial) -> tuple[str, str | None]:
    """Before and after: of two objects the keys that differ, of other bytes the place."""
    raw, made = trial.held.raw, trial.made
    if made is None:
        return plain(raw, _SHORT), None
    old, new = parsed(raw), parsed(made)
    if not isinstance(old, dict) or not isinstance(new, dict):
        return difference(raw, made, _SHORT)
    changed = [key for key in {**old, **new} if old.get(key, ...) != new.get(key, ...)]
    before, after = (
        json.dumps({key: value[key] for key in changed if key in value}, ensure_ascii=False)
        for value in (old, new)
    )
    return plain(before, _SHORT), plain(after, _SHORT)


def _verdict(trial: Trial) -> str:
    if trial.reason is None:
        return "would be taken"
    if trial.reason == THREW:
        return f"the expression failed: {trial.detail}"
    return f"still refused: {trial.reason}: {trial.detail}"


# --- release


def foreseen(would: Foreseen) -> str:
    """What a release would do, in a sentence."""
    back = sum(would.refused.values())
    return (
        f"Of {would.taken + back:,} entries {would.taken:,} would be taken now and {back:,} would come back"
        f"{_by_reason(would.refused)}; {would.foreign:,} foreign and {would.cut:,} cut ones cannot be"
        f" released{ending(is_complete=would.is_complete)} Nothing was changed."
    )


# --- what they share


def _by_reason(counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return f" ({', '.join(f'{number:,} {reason}' for reason, number in most_first)})"


def _when(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds")


def _as_text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
