"""What the bench makes of its measurements: medians, ratios, verdicts, rows, JSON and bars."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from bench import picture, report, rounds, scaling
from bench.case import Case, Group, Result, Verdict, ratio
from bench.workload import clean, partly_refused
from pipeline.entry import Form, split
from pipeline.event import Reason, Refused, Window, decode

NOW_MS = 1_760_000_000_000


def result(
    *values: float,
    name: str = "one consumer",
    ratio: float | None = None,
    goal: float | None = None,
    higher_is_better: bool = True,
    section: str = "hot path",
) -> Result:
    """A result as a run of the bench would have it."""
    limit = None if ratio is None else "raw COPY"
    return Result(section, name, "events/s", values, limit, ratio, goal, higher_is_better)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    """A round in which the machine was busy slows both down and must not count against either."""
    assert ratio([50, 5, 60], [100, 10, 100]) == 0.5


def test_cases_take_turns_and_are_summed_up_in_their_order() -> None:
    """Interleaved: what makes the machine slower for a while falls on every case alike."""
    order: list[str] = []
    values = {"limit": iter([100.0, 200.0, 400.0]), "ours": iter([50.0, 80.0, 240.0])}

    def measured(name: str) -> float:
        order.append(name)
        return next(values[name])

    group = Group(
        (
            Case("limit", lambda: measured("limit"), "events/s"),
            Case("ours", lambda: measured("ours"), "events/s", "limit", 0.5),
        ),
        rounds=3,
    )
    said: list[str] = []
    limit, ours = rounds.run("hot path", group, said.append)
    assert order == ["limit", "ours"] * 3
    assert (limit.median, limit.lowest, limit.highest) == (200, 100, 400)
    assert (limit.ratio, limit.verdict) == (None, Verdict.NONE)
    assert (ours.values, ours.ratio, ours.verdict) == ((50, 80, 240), 0.5, Verdict.REACHED)
    assert said[-1] == "hot path, round 3 of 3: ours: 240 events/s"


def test_a_verdict_compares_the_ratio_where_there_is_one_and_else_the_median() -> None:
    """A goal that is missed must never read as reached, whichever way is the better."""
    assert result(10, ratio=0.45, goal=0.45).verdict is Verdict.REACHED
    assert result(10, ratio=0.44, goal=0.45).verdict is Verdict.NOT_REACHED
    assert result(9, 10, 11, goal=10, higher_is_better=False).verdict is Verdict.REACHED
    assert result(9, 11, 12, goal=10, higher_is_better=False).verdict is Verdict.NOT_REACHED
    assert result(9, 11, 12, goal=10).verdict is Verdict.REACHED
    assert result(9).verdict is Verdict.NONE


def test_a_row_says_the_median_the_range_and_what_it_is_a_ratio_of() -> None:
    """The table is read by people: thousands have commas, small numbers have three digits."""
    assert report.row(result(70_000, 81_234.5, 90_000, ratio=0.456, goal=0.45)) == (
        "one consumer",
        "81,234",
        "events/s",
        "70,000 to 90,000",
        "0.456 of raw COPY",
        ">= 0.45",
        "reached",
    )
    assert report.row(result(0.12345, goal=0.5, higher_is_better=False))[1:] == (
        "0.123",
        "events/s",
        "",
        "",
        "<= 0.5",
        "reached",
    )


def test_the_table_has_a_line_a_case(capsys: pytest.CaptureFixture[str]) -> None:
    """Every case is a line of its own, with its verdict."""
    console = Console(width=120, color_system=None)
    console.print(report.table("hot path", [result(70_000, ratio=0.3, goal=0.45), result(5)]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "hot path"
    assert lines[2].rstrip().endswith("not reached")
    assert len(lines) == 4


def test_the_json_holds_every_rounds_value(tmp_path: Path) -> None:
    """Whoever doubts a median can work it out again."""
    told = report.as_json({"cores": 2}, "2026-11-25T00:00:00+00:00", True, [result(3, 1, 2)])
    path = tmp_path / "results" / "latest.json"
    report.write(path, told)
    read = json.loads(path.read_text(encoding="utf-8"))
    assert (read["machine"], read["quick"]) == ({"cores": 2}, True)
    (case,) = read["cases"]
    assert (case["values"], case["median"], case["rounds"]) == ([3, 1, 2], 2, 3)
    assert (case["verdict"], case["section"]) == ("", "hot path")
    assert [entry.name for entry in path.parent.iterdir()] == ["latest.json"]


def test_the_bars_are_the_limit_ours_and_the_others() -> None:
    """The fastest is on top; cases that answer another question are not in the picture."""
    shown = picture.bars(
        [
            result(70_000),
            result(200_000, name="raw COPY"),
            result(60_000, name="1 % refused"),
            result(900, name="Celery", section="peers"),
        ]
    )
    assert [(label, rate) for label, _, rate in shown] == [
        ("Postgres alone: binary COPY", 200_000),
        ("Infamous, one consumer", 70_000),
        ("Celery", 900),
    ]


def test_one_entry_in_a_hundred_is_refused_and_each_reason_has_its_turn() -> None:
    """The case of bad entries must hold what its name says, and the clean one nothing of it."""
    sound = clean("clean", 2500, NOW_MS, players=10)
    mixed = partly_refused("mixed", sound, NOW_MS)
    window = Window.at(NOW_MS, 90)
    reasons = []
    for fields in mixed.entries:
        if len(fields) != 2 or fields[0] not in (Form.EVENT.value, Form.EVENTS.value):
            reasons.append(Reason.NOT_AN_EVENT_ENTRY)
            continue
        try:
            if fields[0] == Form.EVENTS.value:
                split(fields[1])
            decode(fields[1], window)
        except Refused as refused:
            reasons.append(refused.reason)
    assert len(sound.events) == len(mixed.entries) == 2500
    assert len(reasons) == len(mixed.entries) - len(mixed.events) == 25
    assert set(reasons) == set(Reason) - {Reason.DATABASE}
    for _, payload in sound.entries:
        decode(payload, window)


def test_rates_of_consumers_over_streams_are_drawn_where_they_were_measured(tmp_path: Path) -> None:
    """Each pair has a bar, and a run without them draws none."""
    measured = [
        result(100.0 * consumers, name=scaling.name(consumers, 4), section=scaling.SECTION)
        for consumers in (1, 2)
    ]
    assert picture.rates(measured) == [
        ("1 consumer", "4 streams", 100.0),
        ("2 consumers", "4 streams", 200.0),
    ]
    assert picture.rates([result(1.0)]) == []
    machine = {"cpu": "a", "cores": 2, "postgres": "p", "redis": "r", "python": "3", "commit": ""}
    drawn = picture.draw(measured, machine, tmp_path)
    assert [path.name for path in drawn] == ["streams.png", "streams.svg"]
    assert all(path.stat().st_size > 1000 for path in drawn)
