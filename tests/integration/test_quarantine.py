"""The quarantine on real servers: looked at, fixed, released, killed in the middle, and never a loop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy import Engine, create_engine, make_url, pool, text

from infamous import schema
from jobs import quarantine as quarantines
from jobs.backpressure import NobodyReads
from jobs.fix import THREW, fix, rehearse
from jobs.quarantine import BadKey, Choice, NoSuchKey
from jobs.release import Foreseen, Released, foresee, release
from jobs.remedy import BadExpression, Remedy, Threw, python, sql
from jobs.replay import replay
from pipeline import failpoint
from pipeline.entry import Form
from pipeline.event import Reason, Window, encode
from tests import commands
from tests.commands import Command
from tests.conftest import World
from tests.integration.consuming import added, is_drained, now_ms, until, working
from tests.unit.samples import RETENTION_DAYS, chains, payload

GUARDIAN = '{**event, "rank": "Guardian"}'


@pytest.fixture
def infamous(world: World, tmp_path: Path) -> Command:
    """``infamous quarantine`` with these arguments, and with more or other variables."""
    return commands.beginning(
        "infamous", "quarantine", cwd=tmp_path, environment=world.environment | {"COLUMNS": "100"}
    )


def rows(world: World) -> list[dict[str, Any]]:
    """The quarantine, by key."""
    query = "select * from quarantined_events order by sha256"
    with world.engine.connect() as connection:
        found = connection.execute(text(query)).mappings()
        return [{**row, "sha256": bytes(row["sha256"])} for row in found]


def refuse(world: World, *payloads: bytes) -> None:
    """Let a worker refuse these."""
    world.source.append(payloads)
    settle(world)


def settle(world: World) -> None:
    """Let a worker store all that is on the stream."""
    with working(world):
        until(lambda: is_drained(world), "the stream to be read")


def bad_ranks(count: int) -> list[bytes]:
    """Events whose rank does not follow their karma, and nothing else is wrong with."""
    return [payload(now_ms() - 60_000, number, rank="Hero") for number in range(count)]


def window() -> Window:
    """What a consumer takes now."""
    return Window.at(now_ms(), RETENTION_DAYS)


def key_of(world: World, raw: bytes) -> str:
    """The key of these bytes."""
    (row,) = [row for row in rows(world) if bytes(row["raw"]) == raw]
    return str(row["sha256"].hex())


def attempts(world: World) -> list[int]:
    """How often each was tried."""
    return sorted(row["attempts"] for row in rows(world))


def in_sql(engine: Engine, expression: str) -> tuple[Remedy, Any]:
    """A remedy in SQL, and the connection to be closed."""
    connection = engine.connect().execution_options(postgresql_readonly=True)
    return sql(connection, expression), connection


# --- release


def test_what_is_still_bad_comes_back_once_and_is_counted(world: World) -> None:
    """A release is one try a row: what is refused again waits for a person, with the try noted."""
    refuse(world, *[b"bad %d" % number for number in range(60)])
    with working(world):
        for tries in (1, 2):
            assert release(world.engine, world.streams).entries == 60
            until(lambda: is_drained(world), "them to come back")
            assert attempts(world) == [tries] * 60
            assert [row["released_at"] for row in rows(world)] == [None] * 60
    assert added(world) == 180
    with world.engine.connect() as connection:
        (summary,) = quarantines.by_reason(connection)
    assert (summary["waiting"], summary["tried"], summary["released"]) == (60, 60, 0)


def test_a_release_chooses_by_key_by_time_and_by_what_the_bytes_say(world: World) -> None:
    """All that is asked for must hold; bytes that are no JSON are of no player."""
    good = [
        payload(now_ms() - 60_000, number, v=9, player=f"P{number % 2}") for number in range(120)
    ]
    refuse(world, *good, b"bad", b"[1]")
    with world.engine.begin() as connection:
        connection.execute(
            text(
                "update quarantined_events set last_seen_at = now() - interval '1 day' where sha256 < :half"
            ),
            {"half": b"\x80"},
        )
    old = [row for row in rows(world) if row["sha256"] < b"\x80"]
    hour_ago = datetime.now(UTC) - timedelta(hours=1)

    def chosen(**choice: Any) -> int:
        """How many a release sends; it is taken back."""
        done = release(world.engine, world.streams, **choice)
        with world.engine.begin() as connection:
            connection.execute(text("update quarantined_events set released_at = null"))
        assert done.is_complete
        return done.entries

    assert chosen(player="P1") == chosen(player="P0", action="kill_enemy") == 60
    assert chosen(player="P1", action="recharge") == chosen(player="Nix") == 0
    assert chosen(player="P1", limit=7) == 7
    assert chosen(seen_to=hour_ago) == len(old)
    assert chosen(seen_from=hour_ago) == 122 - len(old)
    assert chosen(seen_from=hour_ago, seen_to=hour_ago) == 0
    keys = [row["sha256"] for row in old[:2]]
    assert chosen(keys=keys) == 2
    assert chosen(keys=keys, reason=Reason.NOT_JSON) == 0


def test_a_release_tells_how_far_it_is(world: World) -> None:
    """After each chunk, of how many there are."""
    refuse(world, *[b"bad %d" % number for number in range(70)])
    told: list[tuple[int, int | None]] = []
    release(world.engine, world.streams, limit=60, tell=lambda *far: told.append(far))
    assert told == [(50, 60), (60, 60)]


def test_a_dry_run_of_a_release_says_what_would_come_back(world: World) -> None:
    """By today's rules, without a change: an operator knows before what a release is worth."""
    refuse(world, b"bad", b"x" * (1024 * 1024 + 1), payload(now_ms() + 400_000), *bad_ranks(2))
    world.source.client.xadd(world.source.key, {"a": "b"})
    settle(world)
    before = rows(world)
    later = Window.at(now_ms() + 400_000, RETENTION_DAYS)
    would = foresee(world.engine, Choice(), later)
    assert would == Foreseen(1, {"bad_rank": 2, "not_json": 1}, 1, 1, is_complete=True)
    assert foresee(world.engine, Choice(), later, limit=2).is_complete
    assert rows(world) == before
    assert added(world) == 6


def test_a_release_does_not_pile_up_what_nobody_reads(world: World) -> None:
    """Live events come first, and where nobody reads, the sentence says what to do."""
    refuse(world, b"bad")
    world.source.append([b"x"] * 6)
    patient = patch("jobs.release.PATIENCE_S", 0.2), patch("jobs.release.MOST_UNREAD", 5)
    with patient[0], patient[1], pytest.raises(NobodyReads, match="start consumers"):
        release(world.engine, world.streams)
    assert attempts(world) == [0]


# --- fix


@pytest.mark.parametrize("is_sql", [False, True])
def test_a_fix_makes_rows_of_what_it_mends(world: World, is_sql: bool) -> None:
    """The new bytes go through the stream; what is no event yet stays where it is, with the try noted."""
    hopeless = payload(now_ms() - 60_000, 99, rank="Hero", karma_total=80)
    refuse(world, *bad_ranks(120), payload(now_ms(), v=9))
    change_of_rules = hopeless.replace(b'"rank": "Hero"', b'"rank": "Thug"')
    refuse(world, change_of_rules)
    connection = None
    if is_sql:
        remedy, connection = in_sql(world.engine, 'event || \'{"rank": "Guardian"}\'')
    else:
        remedy = python(GUARDIAN)
    told: list[tuple[int, int | None]] = []
    done = fix(
        world.engine, world.streams, Choice(Reason.BAD_RANK), remedy, window(),
        tell=lambda *far: told.append(far),
    )  # fmt: skip
    if connection is not None:
        connection.close()
    assert (done.entries, done.left, done.is_complete) == (120, {"bad_rank": 1}, True)
    ((key, detail),) = done.samples["bad_rank"]
    assert key.hex() == key_of(world, change_of_rules)
    assert detail == "rank is 'Guardian', karma 80 is Hero"
    assert told[:3] == [(50, 121), (100, 121), (121, 121)]
    settle(world)
    assert world.count("game_events") == 120
    assert attempts(world) == [0, *[1] * 121]
    waiting = [row["reason"] for row in rows(world) if row["released_at"] is None]
    assert sorted(waiting) == ["bad_rank", "unknown_version"]


def test_what_was_fixed_stays_fixed_when_its_old_bytes_come_again(
    world: World, infamous: Command
) -> None:
    """They are on the stream still: a replay, or a group that begins anew, brings them to the quarantine."""
    refuse(world, *bad_ranks(3))
    fix(world.engine, world.streams, Choice(Reason.BAD_RANK), python(GUARDIAN), window(), limit=2)
    settle(world)
    assert world.count("game_events") == 2
    assert replay(world.streams, 0, now_ms()).repeated == 0
    settle(world)
    world.client.xgroup_destroy(world.source.key, world.source.group)
    settle(world)
    found = rows(world)
    assert [row["times_seen"] for row in found] == [4, 4, 4]
    assert [row["released_at"] is not None for row in found] == [True, True, False]
    (summary,) = json.loads(infamous("list", "--json").stdout)
    assert (summary["waiting"], summary["released"], summary["fixed"]) == (1, 2, 2)
    shown = infamous("show", found[0]["sha256"].hex())
    assert any(line.split()[0] == "fixed" for line in shown.stdout.splitlines() if line.strip())
    assert release(world.engine, world.streams).entries == 1


def test_what_was_sent_as_it_was_comes_back(world: World) -> None:
    """A remedy that changes nothing is a release: refused once more, it waits again."""
    good = encode(chains(1, start_ms=now_ms() - 60_000)[0])
    refuse(world, b"x")
    with world.engine.begin() as connection:
        connection.execute(
            text(
                "update quarantined_events set raw = :raw, sha256 = sha256(:raw), size_bytes = length(:raw)"
            ),
            {"raw": good},
        )
    assert fix(world.engine, world.streams, Choice(), python("raw"), window()).entries == 1
    (row,) = rows(world)
    assert row["released_at"] is not None
    assert row["fixed_at"] is None


def test_an_expression_that_throws_leaves_the_row(world: World) -> None:
    """Each failure is counted with the first of what was raised; the run goes on with the others."""
    refuse(world, b"no json", *bad_ranks(3))
    done = fix(
        world.engine, world.streams, Choice(), python('{**event, "rank": "Guardian"}'), window()
    )
    assert (done.entries, done.left) == (3, {THREW: 1})
    assert done.samples[THREW][0][1] == "TypeError: 'NoneType' object is not a mapping"
    assert attempts(world) == [1] * 4
    settle(world)
    assert (world.count("game_events"), world.count("quarantined_events")) == (3, 4)


def test_a_rehearsal_changes_nothing(world: World) -> None:
    """Of what is chosen some is tried, and shown before and after, with the verdict."""
    refuse(world, *bad_ranks(60))
    before = rows(world)
    trials, chosen = rehearse(world.engine, Choice(), python(GUARDIAN), window(), 55)
    assert (len(trials), chosen) == (55, 60)
    assert all(trial.reason is None and trial.ids[0] == trial.ids[1] for trial in trials)
    assert rows(world) == before
    assert added(world) == 60


def test_arrays_and_foreign_entries_can_be_fixed_as_well(world: World) -> None:
    """An array that was refused whole becomes one again, and another program's entry an event."""
    array = b"[%b, %b" % (payload(now_ms() - 60_000, 1), payload(now_ms() - 60_000, 2))
    world.source.append_entries([(Form.EVENTS, array)])
    world.source.client.xadd(world.source.key, {"data": payload(now_ms() - 60_000, 3), "b": "c"})
    settle(world)
    done = fix(
        world.engine, world.streams, Choice(Reason.BAD_ARRAY), python('raw + b"]"'), window()
    )
    assert done.entries == 1
    only = Choice(Reason.NOT_AN_EVENT_ENTRY)
    done = fix(world.engine, world.streams, only, python("event[1]"), window())
    assert done.entries == 1
    settle(world)
    assert world.count("game_events") == 3


def test_what_was_cut_is_not_tried(world: World) -> None:
    """The rest of the bytes is gone: what is made of a part is not what was sent."""
    refuse(world, b"x" * (1024 * 1024 + 1))
    done = fix(world.engine, world.streams, Choice(), python("raw[:5]"), window())
    assert (done.entries, done.left, done.cut) == (0, {}, 1)
    assert attempts(world) == [0]


def test_a_fix_keeps_to_its_limit_and_stops_when_asked(world: World) -> None:
    """A few first; and nothing of a chunk is done once somebody wants it to stop."""
    refuse(world, *bad_ranks(60))
    done = fix(world.engine, world.streams, Choice(), python(GUARDIAN), window(), limit=55)
    assert (done.entries, done.is_complete) == (55, True)
    stop = threading.Event()

    def stopping(raw: bytes) -> bytes:
        stop.set()
        return raw

    done = fix(world.engine, world.streams, Choice(), stopping, window(), stop=stop)
    assert (done.entries, done.left, done.is_complete) == (0, {}, False)
    assert attempts(world) == [*[0] * 5, *[1] * 55]


def test_a_slow_expression_holds_no_row(world: World) -> None:
    """A consumer that brings the same bytes again must not wait for a person's code; between the look and
    the mark another may take a row, which is then left to it."""
    refuse(world, *bad_ranks(2))
    taken = rows(world)[0]["sha256"]

    def slow(raw: bytes) -> bytes:
        with world.engine.begin() as connection:
            free = "select from quarantined_events for update nowait"
            assert len(connection.execute(text(free)).all()) == 2
            connection.execute(
                text("update quarantined_events set released_at = now() where sha256 = :key"),
                {"key": taken},
            )
        return python(GUARDIAN)(raw)

    done = fix(world.engine, world.streams, Choice(), slow, window())
    assert done.entries == 1
    assert attempts(world) == [0, 1]
    assert added(world) == 3


def test_the_mark_of_a_fix_never_covers_a_newer_verdict(world: World) -> None:
    """From the append to the mark a row is locked, as it is by a release."""
    refuse(world, *bad_ranks(1))
    seen: list[int] = []
    free = text("select sha256 from quarantined_events for update skip locked")

    def look(_: str) -> None:
        with world.engine.connect() as connection:
            seen.append(len(connection.execute(free).all()))

    with patch.object(failpoint, "reached", look):
        fix(world.engine, world.streams, Choice(), python(GUARDIAN), window())
    assert seen == [0]


def test_a_full_redis_leaves_the_fix_undone(world: World, infamous: Command) -> None:
    """A sentence that says what to do, no row marked or counted; run again, it completes."""
    refuse(world, *bad_ranks(3))
    limit = world.client.config_get("maxmemory")["maxmemory"]
    world.client.config_set("maxmemory", "1")
    try:
        full = infamous("fix", "--reason", "bad_rank", "--python", GUARDIAN)
        full_release = infamous("release")
    finally:
        world.client.config_set("maxmemory", str(limit))
    for ended in (full, full_release):
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.startswith("Redis is full: start consumers")
    assert attempts(world) == [0] * 3
    again = infamous("fix", "--reason", "bad_rank", "--python", GUARDIAN)
    assert (again.returncode, again.stdout) == (0, "Fixed and sent 3 entries; 0 stayed.\n")


def test_a_fix_killed_before_the_mark_is_run_again(world: World, infamous: Command) -> None:
    """Sent twice, marked once, stored once: the id stays, so the second copy is dropped."""
    refuse(world, *bad_ranks(60))
    arguments = ("fix", "--reason", "bad_rank", "--python", GUARDIAN)
    killed = infamous(*arguments, FAILPOINT="in_fix")
    assert killed.returncode == -signal.SIGKILL
    assert added(world) == 110
    assert attempts(world) == [0] * 60
    again = infamous(*arguments, "--json")
    assert json.loads(again.stdout)["entries"] == 60
    settle(world)
    assert attempts(world) == [1] * 60
    assert (world.count("game_events"), added(world)) == (60, 170)


# --- SQL


def test_sql_is_read_only_and_bounded(world: World) -> None:
    """It cannot change a table, nor run for ever, nor take the run down with it."""
    refuse(world, b"bad", *bad_ranks(1))
    with world.engine.begin() as connection:
        connection.execute(
            text(
                "create function vandal() returns jsonb language plpgsql as"
                " 'begin delete from quarantined_events; return null; end'"
            )
        )
    with pytest.raises(BadExpression, match="read-only transaction"):
        in_sql(world.engine, "vandal()")
    with patch("jobs.remedy.LIMIT", text("set local statement_timeout = '50ms'")):
        remedy, connection = in_sql(world.engine, "(select event from pg_sleep(60))")
        with connection, pytest.raises(Threw, match="statement timeout"):
            remedy(b"{}")
    assert world.count("quarantined_events") == 2


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("event ||", "syntax error"),
        ("event -> 'a') from (select 1", "syntax error|subquery|does not exist"),
        ("evnt", 'column "evnt" does not exist'),
        ("nothing(event)", "function nothing"),
        ("1; select 2", "syntax error"),
    ],
)
def test_sql_that_can_never_work_is_told_first(world: World, expression: str, words: str) -> None:
    """Before anything is tried, in the database's own words."""
    with pytest.raises(BadExpression, match=words):
        in_sql(world.engine, expression)


@pytest.mark.parametrize(
    ("expression", "raw", "made"),
    [
        ("event || jsonb_build_object('a', 1.50)", b'{"b": 1e2}', b'{"a":1.50,"b":100}'),
        (
            "convert_to(replace(convert_from(raw, 'UTF8'), 'NaN', '0'), 'UTF8')",
            b'{"a": NaN}',
            b'{"a": 0}',
        ),
        ("convert_from(raw, 'UTF8') || '%s' -- a comment", b"a", b"a%s"),
        ("case when event is null then '{}'::jsonb end", b'{"a": "\\u0000"}', b"{}"),
        ("case when event is null then '{}'::jsonb end", b"\xff", b"{}"),
        ("event -> 'at' || '\"12:30 :x\"'", b'{"at": [1]}', b'[1,"12:30 :x"]'),
    ],
)
def test_sql_makes_new_bytes(world: World, expression: str, raw: bytes, made: bytes) -> None:
    """As jsonb, text or bytea; what Postgres takes for no JSON is null, and can be mended as bytes."""
    remedy, connection = in_sql(world.engine, expression)
    with connection:
        assert remedy(raw) == made


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("event -> 'gone'", "it gave null; jsonb, text or bytea is expected"),
        ("5", "it gave integer"),
        ("to_jsonb((event ->> 'a')::int)", "invalid input syntax for type integer"),
        ("to_jsonb(1 / (event ->> 'n')::int)", "division by zero"),
    ],
)
def test_sql_that_fails_on_some_bytes_is_told_in_a_line(
    world: World, expression: str, words: str
) -> None:
    """It stays usable for the next."""
    remedy, connection = in_sql(world.engine, expression)
    with connection:
        for _ in range(2):
            with pytest.raises(Threw, match=words):
                remedy(b'{"a": "x", "n": 0}')


# --- keys


def test_a_key_is_named_by_its_first_digits(world: World) -> None:
    """In either case; what names none, or two, is told."""
    refuse(world, *[b"bad %d" % number for number in range(40)])
    with world.engine.begin() as connection:
        connection.execute(
            text(
                "update quarantined_events set sha256 = decode('abcdef' || encode(sha256, 'hex'), 'hex')"
                " where sha256 in (select sha256 from quarantined_events order by 1 limit 2)"
            )
        )
    whole = next(row["sha256"] for row in rows(world) if len(row["sha256"]) == 32)
    with world.engine.connect() as connection:
        for digits in (whole.hex(), whole.hex()[:7], whole.hex()[:8].upper()):
            assert quarantines.find(connection, digits) == whole
        with pytest.raises(NoSuchKey, match="Nothing in the quarantine"):
            quarantines.find(connection, "0" * 64)
        with pytest.raises(NoSuchKey, match="More than one key begins with abcdef: give more"):
            quarantines.find(connection, "abcdef")
        for wrong in ("abcde", "xyzxyz", "a" * 65, "", "abcdeé"):
            with pytest.raises(BadKey, match="give 6 to 64 digits"):
                quarantines.find(connection, wrong)


# --- the command line


def test_the_list_counts_and_shows_samples(world: World, infamous: Command) -> None:
    """By reason, the most first; what a sender wrote is shown and never obeyed."""
    nasty = b'\x1b]0;owned\x07\x1b[2J\xe2\x80\xae{"a'
    refuse(world, nasty, *bad_ranks(5))
    release(world.engine, world.streams, limit=1, reason=Reason.BAD_RANK)
    settle(world)
    release(world.engine, world.streams, limit=2, reason=Reason.BAD_RANK)
    shown = infamous("list", "--samples", "2")
    assert shown.returncode == 0, shown.stderr
    assert all(line.isprintable() for line in shown.stdout.splitlines())
    assert "\\x1b]0;owned\\x07" in shown.stdout
    assert shown.stdout.index("bad_rank") < shown.stdout.index("not_json")
    assert shown.stdout.count("rank is 'Hero', karma 16 is Guardian") == 2
    ranks, not_json = json.loads(infamous("list", "--json").stdout)
    assert (ranks["reason"], ranks["waiting"], ranks["released"]) == ("bad_rank", 3, 2)
    assert 1 <= ranks["attempts"] <= 2
    assert [not_json["waiting"], not_json["attempts"]] == [1, 0]
    assert not_json["samples"][0]["key"] == key_of(world, nasty)
    only = json.loads(infamous("list", "--reason", "not_json", "--json", "--samples", "0").stdout)
    assert [(one["reason"], one["samples"]) for one in only] == [("not_json", [])]


def test_an_empty_quarantine_is_told(infamous: Command) -> None:
    """Not an empty table."""
    assert infamous("list").stdout == "The quarantine is empty.\n"
    assert json.loads(infamous("list", "--json").stdout) == []


def test_an_entry_is_shown_with_the_place_where_it_breaks(world: World, infamous: Command) -> None:
    """All columns, the bytes, a caret under the wrong value, and what today's rules say."""
    raw = payload(now_ms() - 60_000, 5, rank="Hero", player="\x1b[31mNix")
    refuse(world, raw, b"\xff\x00\x1b[2J\r\n")
    key = key_of(world, raw)
    shown = infamous("show", key[:8])
    assert shown.returncode == 0, shown.stderr
    assert all(line.isprintable() for line in shown.stdout.splitlines())
    assert "still refused: bad_rank: rank is 'Hero'" in shown.stdout
    lines = shown.stdout.splitlines()
    (caret,) = [number for number, line in enumerate(lines) if line.strip() == "^"]
    assert lines[caret - 1][lines[caret].index("^") :].startswith('"Hero"')
    plain = json.loads(infamous("show", key, "--json").stdout)
    assert (plain["reason"], plain["is_taken_now"], plain["raw"]) == (
        "bad_rank",
        False,
        raw.decode(),
    )
    assert raw[plain["breaks_at"] :].startswith(b'"Hero"')
    bytes_key = key_of(world, b"\xff\x00\x1b[2J\r\n")
    assert "at byte 0" in infamous("show", bytes_key).stdout


def test_raw_bytes_come_out_untouched(world: World, tmp_path: Path) -> None:
    """For a file or another program: byte for byte."""
    raw = b"\xff\x00\x1b[2J\r\n"
    refuse(world, raw)
    done = subprocess.run(
        [sys.executable, "-m", "infamous", "quarantine", "show", "--raw", key_of(world, raw)[:6]],
        cwd=tmp_path,
        env={**os.environ, **world.environment},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == (raw, b"", 0)


def test_a_verdict_follows_the_rules_of_today(world: World, infamous: Command) -> None:
    """What was refused once would be taken after a change; cut and foreign entries never as they are."""
    good = encode(chains(1, start_ms=now_ms() - 60_000)[0])
    refuse(world, good[:-1], b"x" * (1024 * 1024 + 1))
    world.source.client.xadd(world.source.key, {"a": "b"})
    settle(world)
    with world.engine.begin() as connection:
        connection.execute(
            text(
                "update quarantined_events set raw = :raw, size_bytes = length(:raw) where size_bytes < 1000"
                " and reason = 'not_json'"
            ),
            {"raw": good},
        )
    said = [
        infamous("show", row["sha256"].hex()).stdout
        for row in sorted(rows(world), key=lambda row: row["reason"])
    ]
    foreign, taken, cut = said
    assert "it cannot be released, only fixed" in foreign
    assert "would be taken now" in taken
    assert "what is kept is only the beginning" in cut
    assert "bytes before" in cut


def test_a_rehearsal_shows_before_and_after(world: World, infamous: Command) -> None:
    """The keys that change, the verdict, a changed id; and how many would be taken."""
    refuse(world, *bad_ranks(3), b"\x1b[2Jno json")
    fixed = f'{{**event, "rank": "Guardian", "id": uuid7({now_ms() - 5000}, raw), "ts": None}}'
    shown = infamous("fix", "--reason", "bad_rank", "--python", fixed, "--dry-run", "--sample", "2")
    assert shown.returncode == 0, shown.stderr
    for words in (
        '"rank": "Hero"',
        '"rank": "Guardian"',
        "would be taken",
        "it is another event then",
    ):
        assert words in shown.stdout
    assert "Of 3 that are chosen, 2 were tried: 2 would be taken, 0 would stay." in shown.stdout
    failed = infamous("fix", "--reason", "not_json", "--python", "event['a']", "--dry-run")
    assert "the expression failed: TypeError" in failed.stdout
    assert "\x1b" not in failed.stdout
    plain = json.loads(
        infamous(
            "fix", key_of(world, b"\x1b[2Jno json")[:12], "--sql", "event", "--dry-run", "--json"
        ).stdout
    )
    assert plain["trials"][0]["detail"] == "it gave null; jsonb, text or bytea is expected"
    assert attempts(world) == [0] * 4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("fix", "--reason", "bad_rank"), 2, "Say how to fix it: with --python or with --sql"),
        (("fix", "--python", "raw"), 2, "Say what to fix: --reason, or keys"),
        (("fix", "--reason", "bad_rank", "--python", "raw", "--sql", "raw"), 2, "one of them"),
        (("fix", "--reason", "bad_rank", "--python", "evnt"), 2, "there is no evnt"),
        (("fix", "--reason", "bad_rank", "--sql", "evnt"), 2, "The SQL expression cannot be used"),
        (("fix", "abcdef", "--python", "raw"), 1, "Nothing in the quarantine has a key"),
        (("release", "nonsense"), 2, "'nonsense' is no key"),
        (("show", "123"), 2, "give 6 to 64 digits"),
        (("release", "--reason", "boredom"), 2, "boredom"),
        (("release", "--limit", "0"), 2, "--limit"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(
    infamous: Command, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """No traceback; an exit code that says whose fault it is; nothing on stdout."""
    ended = infamous(*arguments)
    assert ended.returncode == code, ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_release_is_told_in_a_sentence(world: World, infamous: Command) -> None:
    """Before and after."""
    refuse(world, b"bad", *bad_ranks(2))
    would = infamous("release", "--dry-run")
    assert would.stdout == (
        "Of 3 entries 0 would be taken now and 3 would come back (2 bad_rank, 1 not_json);"
        " 0 foreign and 0 cut ones cannot be released. Nothing was changed.\n"
    )
    done = infamous("release", key_of(world, b"bad")[:6])
    assert done.stdout == "Released 1 entries; 0 foreign and 0 cut ones cannot be released.\n"
    plain = json.loads(infamous("release", "--json", "--reason", "bad_rank").stdout)
    assert plain == {"entries": 2, "foreign": 0, "cut": 0, "is_complete": True}


# --- rights


def test_the_jobs_role_may_fix_and_release(bare_world: World) -> None:
    """No more rights than it has: the bytes are read, the marks are written."""
    world = bare_world
    schema.migrate(world.engine)
    with world.engine.begin() as connection:
        connection.execute(text("alter role infamous_jobs login password 'for this test'"))
    url = make_url(world.database_url).set(username="infamous_jobs", password="for this test")  # noqa: S106
    engine = create_engine(url, poolclass=pool.NullPool)
    refuse(world, b"bad", *bad_ranks(2))
    choice = Choice(Reason.BAD_RANK)
    remedy, connection_of_sql = in_sql(engine, 'event || \'{"rank": "Guardian"}\'')
    with connection_of_sql:
        assert fix(engine, world.streams, choice, remedy, window()).entries == 2
    assert release(engine, world.streams) == Released(1, 0, 0, is_complete=True)
    engine.dispose()
