"""What people see: every sender's text is shown as text, whatever it holds."""

from __future__ import annotations

import io
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from rich.console import Console, RenderableType

from analytics.replica import Replica
from infamous import report, view
from infamous.audit import Audit, Broken
from infamous.caught_up import Behind
from infamous.status import Status, Tables
from infamous.trace import Trace
from infamous.view import Frame
from infamous.watch import Glimpse
from pipeline.event import ACTIONS, KARMA_MAX, KARMA_MIN, uuid7
from pipeline.rules import RULES
from pipeline.stream import Found, Holder, Memory, Pending, StreamState
from tests.unit.samples import NOW_MS
from tests.unit.wire_events import VALUES

AT = datetime(2025, 11, 24, 16, 0, tzinfo=UTC)
FRAME = Frame(
    servers="Valkey, Postgres", connect=("SQL: psql -h /tmp",), rate=1.0, player="Cole MacGrath"
)
# What a sender can put where a name is expected.
FOREIGN: list[Any] = [
    "[red]boo[/red]", "[/]", "[/bold", "[link=http://x]", ":smile:", "\x1b[2J\x1b[31mred", "\a\b\r",
    "two\nlines\ttabs", "\N{RIGHT-TO-LEFT OVERRIDE}evil", "e\u0301" * 50, "\U0001f5f2" * 70, "x" * 5000,
    "\u200b", "", 0, -1, True, False, None, 1e300, 10**4000, ["[red]"], {"[/]": ["\x1b"]}, "%s {0} \\",
]  # fmt: skip


def event(**changes: Any) -> dict[str, Any]:
    """A row as the watcher reads it."""
    row = {
        "ts": AT, "player": "Cole MacGrath", "action": "kill_enemy", "xp_delta": 5, "karma_delta": 1,
        "karma_total": 16, "rank": "Guardian", "energy_source": None, "seq": 7,
        "details": {"enemy": "Reaper", "ability": "Lightning Bolt", "xp": 1200, "energy": 80},
    }  # fmt: skip
    return row | changes


def seen(renderable: RenderableType, width: int = 100) -> str:
    """What a terminal of that width is sent, its colours left out."""
    out = io.StringIO()
    Console(file=out, width=width, height=60, color_system=None, force_terminal=False).print(
        renderable
    )
    return out.getvalue()


def assert_harmless(text: str) -> None:
    """No character moves the cursor, changes the colour or turns the line around."""
    odd = {char for char in text if unicodedata.category(char) in {"Cc", "Cf", "Cs"}} - {"\n"}
    assert not odd


@pytest.mark.parametrize("value", FOREIGN, ids=lambda value: repr(value)[:20])
def test_foreign_values_are_short_harmless_text(value: object) -> None:
    """Whatever a sender wrote fits a line of the screen and does nothing to the terminal."""
    text = view.shown(value)
    assert_harmless(text)
    assert len(text) <= 60
    assert "\n" not in text


@given(VALUES)
def test_any_json_value_can_be_shown(value: object) -> None:
    """No value of details breaks the view."""
    text = view.shown(value)
    assert_harmless(text)
    assert len(text) <= 60


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("value", FOREIGN, ids=lambda value: repr(value)[:20])
def test_sentences_for_foreign_events(action: str, value: object) -> None:
    """An event of any sender gets a sentence, its words taken from whatever stands there."""
    keys = ("enemy", "civilian", "choice", "mission", "ability")
    source = value if isinstance(value, str) and action == "recharge" else None
    row = event(action=action, details=dict.fromkeys(keys, value), energy_source=source)
    text = view.sentence(row)
    assert_harmless(text)
    assert text
    assert len(text) < 160


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("details", [None, {}, {"other": 1}])
def test_sentences_without_details(action: str, details: dict[str, Any] | None) -> None:
    """A sender that gives no details still has its action told in words."""
    assert view.sentence(event(action=action, details=details)) == action.replace("_", " ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "kills Reaper with Lightning Bolt"),
        ({"action": "recharge", "energy_source": "car"}, "recharges from car"),
        ({"action": "ability_upgrade"}, "learns Lightning Bolt"),
        ({"action": "mission_complete", "details": {"mission": "Nemesis"}}, "completes Nemesis"),
    ],
)
def test_sentences_of_our_own_events(changes: dict[str, Any], words: str) -> None:
    """Our simulator's events read like English."""
    assert view.sentence(event(**changes)) == words


@pytest.mark.parametrize("karma", range(KARMA_MIN, KARMA_MAX + 1, 5))
def test_the_meter_points_at_the_karma(karma: int) -> None:
    """The bar is as wide at any karma, and its mark stands where the karma does."""
    bar = view.meter(karma).plain
    cells = bar.removeprefix("evil ").removesuffix(" good")
    assert len(cells) == 41
    assert cells.index("◆") == round((karma + 100) / 5)
    assert cells.count("━") == abs(cells.index("◆") - 20)


def glimpse(**changes: Any) -> Glimpse:
    """A healthy pipeline at a moment."""
    state = StreamState(exists=True, entries=1000, undelivered=3, pending=2, group_exists=True)
    return Glimpse(
        **{
            "state": state, "produced": 1000, "rows": 995, "quarantined": 4, "in_rate": 1.0,
            "out_rate": 1.0, "oldest_s": 0.2, "events": [event()], "hero": event(), **changes,
        }
    )  # fmt: skip


@pytest.mark.parametrize("width", [20, 80, 200])
@pytest.mark.parametrize("value", FOREIGN, ids=lambda value: repr(value)[:20])
def test_the_picture_shows_foreign_events(value: object, width: int) -> None:
    """One sender's text never breaks the screen, be it in a name, in details or in the hero's own."""
    details = dict.fromkeys(("enemy", "ability", "xp", "energy", "district", "mission"), value)
    foreign = event(player=str(value)[:64] or " ", details=details, seq=None)
    now = glimpse(events=[foreign] * 3, hero=foreign)
    text = seen(view.picture(now, FRAME, alive=(1, 2), uptime_s=3661), width)
    assert_harmless(text)
    assert_harmless(view.line(now))
    assert "\n" not in view.line(now)


def test_markup_is_shown_not_obeyed() -> None:
    """A player called [red] is called [red] on the screen."""
    foreign = event(player="[red]Zeke[/red]", details={"enemy": "[bold]x[/bold]"})
    text = seen(view.picture(glimpse(events=[foreign]), FRAME, alive=(2, 2), uptime_s=0), 200)
    assert "[red]Zeke[/red]" in text
    assert "kills [bold]x[/bold]" in text


def test_the_picture_and_the_line_tell_the_figures() -> None:
    """What waits, what is stored and what is wrong are all there, in both forms."""
    now = glimpse(trouble="Redis: connection refused", rows=1_234_567)
    for text in (seen(view.picture(now, FRAME, alive=(1, 2), uptime_s=3661)), view.line(now)):
        for words in ("1.0", "1,234,567", "Redis: connection refused", "Guardian", "+16", "1,200"):
            assert words in text
    assert "up 01:01:01" in seen(view.picture(now, FRAME, alive=(1, 2), uptime_s=3661))
    assert "1 of 2 alive" in seen(view.picture(now, FRAME, alive=(1, 2), uptime_s=0))
    assert "undelivered 3  pending 2  oldest 0.2 s  quarantined 4" in view.line(now)


def test_an_empty_pipeline_has_a_picture() -> None:
    """Before the first event there is something to see, and nothing to stumble over."""
    text = seen(view.picture(Glimpse(), FRAME, alive=(0, 0), uptime_s=0))
    assert "has not played yet" in text
    assert "rows 0" in view.line(Glimpse())


# --- what the other commands print


def status_of(**changes: Any) -> Status:
    """A status, healthy but for the changes."""
    tables = Tables(10, AT, AT, {"not_json": 2}, 9, AT.date(), 7)
    return Status(
        **{
            "stream": StreamState(exists=True, entries=12, group_exists=True), "produced": 12,
            "tables": tables, "redis_version": "Valkey 9", "postgres_version": "17",
            "schema_revision": "0001", "schema_head": "0001", "at": AT + timedelta(seconds=3),
            "memory": Memory(319 * 2**20, 384 * 2**20 * 2), "holder": None, **changes,
        }
    )  # fmt: skip


@pytest.mark.parametrize("name", ["[red]boo[/red]", "[/]", "[/bold]", "host-1", "\x1b[2J"])
def test_the_status_shows_any_consumers_name(name: str) -> None:
    """Anybody who reads the stream chooses a name: markup in it neither breaks nor colours the table."""
    stream = StreamState(exists=True, group_exists=True, consumers={name: Pending(3, 1500)})
    text = seen(report.status(status_of(stream=stream)))
    assert f"{name.replace(chr(27), '?')}: 3 pending, last heard 1.5 s ago" in text
    assert_harmless(text)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stream": StreamState()}, "none has ever read the stream"),
        ({"tables": None, "schema_revision": None}, "run `infamous migrate`"),
        ({"schema_revision": "0000"}, "0000 (this version: 0001)"),
        ({"tables": Tables(0, None, None, {}, 0, None, 0)}, "newest event"),
        ({"stream": StreamState(undelivered=20_000, undelivered_is_estimate=True)}, "about 20,000"),
        ({}, "2025-11-24T16:00:00.000+00:00, 3.0 s ago"),
        ({}, "2 not_json"),
        ({"behind": Behind(None, "no route to host")}, "does not answer: no route to host"),
        ({"behind": Behind(None)}, "none: READ_DATABASE_URL names a database that is written to"),
        ({"behind": Behind(Replica(AT, AT, 0, has_all=True))}, "has all there is"),
        (
            {"behind": Behind(Replica(AT, None, 0, has_all=False))},
            "is behind, nobody knows how far",
        ),
    ],
)
def test_the_status_in_every_situation(changes: dict[str, Any], words: str) -> None:
    """Before the first migration, before the first consumer, before the first event: never a traceback."""
    assert words in seen(report.status(status_of(**changes)))


def coloured(renderable: RenderableType) -> str:
    """The same with the codes that colour a terminal."""
    console = Console(width=120, force_terminal=True, color_system="standard", legacy_windows=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"flooded": ("host-1",)}, "bad entries flood in"),
        ({"lost": 1234}, "1,234 entries were trimmed"),
        ({"days_ahead": 2}, "fewer than 3 days ahead; is the scheduler running?"),
    ],
)
def test_the_status_is_red_where_a_hand_is_needed(changes: dict[str, Any], words: str) -> None:
    """A flood, a loss and a want of partitions are red, and nothing else is."""
    red = "\x1b[1;31m"
    healthy = Tables(10, AT, AT, {"not_json": 2}, 9, AT.date(), 7)
    assert red not in coloured(report.status(status_of()))
    shown = coloured(report.status(status_of(tables=replace(healthy, **changes))))
    (line,) = (line for line in shown.splitlines() if words in line)
    assert line.count(red) == 2
    assert shown.count(red) == 2


def test_the_status_tells_of_memory_in_time() -> None:
    """From four fifths on it is red and says who holds entries back; before, only who does so for long."""
    red = "\x1b[1;31m"
    short, ample = Memory(319 * 2**20, 384 * 2**20), Memory(300 * 2**20, 384 * 2**20)
    now_ms = 1_764_000_000_000
    slow = Holder("archive", 12_345, True, now_ms - 7_200_000, now_ms)
    busy = Holder("postgres", 3, False, now_ms - 2000, now_ms)
    for memory, holder, is_red, words in (
        (short, slow, True, "held by group archive, about 12,345 entries behind since 2 h"),
        (short, busy, True, "held by group postgres, 3 entries behind since 2.0 s"),
        (ample, slow, False, "held by group archive"),
        (ample, busy, False, None),
        (ample, None, False, None),
    ):
        now = status_of(memory=memory, holder=holder)
        assert (red in coloured(report.status(now))) is is_red
        text = seen(report.status(now))
        assert (words or "held by") in text or words is None
        assert ("held by" in text) is (words is not None)
    assert "83 % of 384 MB; at 100 % Redis refuses events" in seen(
        report.status(status_of(memory=short))
    )
    assert "319 MB; Redis sets no limit" in seen(
        report.status(status_of(memory=Memory(319 * 2**20, None)))
    )


@pytest.mark.parametrize("name", ["[red]boo[/red]", "\x1b[2J", "\\xff\\xfe", "x" * 500])
def test_the_status_shows_any_groups_name(name: str) -> None:
    """Whoever makes a group chooses its name."""
    holder = Holder(name, 1, False, 0, 3_600_000)
    text = seen(report.status(status_of(holder=holder)), 200)
    assert f"held by group {view.shown(name)}, 1 entries behind since 60 min" in text
    assert_harmless(text)


def test_the_audit_names_first_offenders() -> None:
    """Rules that hold are ok, those that do not have their rows counted and the first ones named."""
    sample = {"player": "a\n\x1b", "seq": 3, "ts": AT, "id": uuid7(NOW_MS, 1)}
    text = report.audit(Audit(1000, 7, 2, [Broken("karma", 1234, [sample])]))
    assert text.splitlines()[-1] == "audit FAILED: 1,000 rows of 7 players"
    assert "BROKEN  karma" in text
    assert "1,234 rows do not" in text
    assert f"'a\\n\\x1b' seq 3 at 2025-11-24T16:00:00+00:00 {sample['id']}" in text
    assert text.count("ok ") == len(RULES) - 1
    assert "2 rows have no seq" in text
    assert_harmless(text)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "is not in the table, the quarantine or the stream"),
        ({"entry": Found("5-0", 5, None, is_undelivered=True)}, "5-0, waiting to be read"),
        ({"entry": Found("5-0", 5, "w1", is_undelivered=False)}, "read by w1 and not acknowledged"),
        ({"entry": Found("5-0", 5, None, is_undelivered=False)}, "5-0, acknowledged"),
        ({"row": event(ingested_at=AT, karma_delta=-2)}, "karma 16 (-2), Guardian, seq 7"),
    ],
)
def test_the_trace_says_where_an_event_is(found: dict[str, Any], words: str) -> None:
    """Each place has its sentence, and so has no place at all."""
    places: dict[str, Any] = {"row": None, "quarantined": None, "entry": None} | found
    assert words in report.trace(Trace(UUID(int=0), None, **places))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0.0 s"), (119.9, "119.9 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days")],
)
def test_spans_read_as_people_say_them(seconds: float, words: str) -> None:
    """A length of time has the unit one would choose."""
    assert report.span(seconds) == words
