"""Imports on real servers: whole, twice, killed in the middle, refused in part, and never twice a row."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, make_url, pool, text

from infamous import schema
from jobs.backpressure import NobodyReads
from jobs.imports import BeingImported, Imported, import_file, rehearse
from jobs.mapping import BadMapping, Plan
from jobs.records import Unreadable
from pipeline.entry import MAX_ARRAY_BYTES, Form, packed_up, split
from pipeline.event import datetime_of, encode
from tests import commands
from tests.commands import Command
from tests.conftest import World
from tests.integration.consuming import is_drained, now_ms, until, working
from tests.unit.samples import RETENTION_DAYS, chains

# What another system calls things.
PLAN = Plan(
    columns={"ts": "when", "player": "who", "action": "what", "id": "row"},
    renames={"action": {"kill": "kill_enemy"}},
)
OPTIONS = (
    *("--map", "ts=when", "--map", "player=who", "--map", "action=what", "--map", "id=row"),
    *("--rename", "action:kill=kill_enemy"),
)


@pytest.fixture
def infamous(world: World, tmp_path: Path) -> Command:
    """``infamous import`` with these arguments, and with more or other variables."""
    return commands.beginning(
        "infamous", "import", cwd=tmp_path, environment=world.environment | {"RETENTION_DAYS": "90"}
    )


def foreign(count: int, **changes: Any) -> list[dict[str, Any]]:
    """Records of another system, of the last hour."""
    start = now_ms() - 3_600_000
    return [
        {
            "row": number,
            "when": datetime_of(start + number).isoformat(timespec="milliseconds"),
            "who": f"P{number % 7}",
            "what": "kill",
            "score": number % 100,
        }
        | changes
        for number in range(count)
    ]


def json_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def run(world: World, path: Path, plan: Plan = PLAN, **options: Any) -> Imported:
    """Import a file."""
    return import_file(world.engine, world.streams, path, plan, RETENTION_DAYS, **options)


def settle(world: World) -> None:
    """Let a worker store all that is on the stream."""
    with working(world):
        until(lambda: is_drained(world), "the stream to be read")


def stored(world: World) -> list[tuple[Any, ...]]:
    """What is in the table."""
    query = "select player, action, details, ts from game_events order by ts, id"
    with world.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def noted(world: World) -> dict[str, Any]:
    """What is written down of the one import there is."""
    with world.engine.connect() as connection:
        return dict(connection.execute(text("select * from imports")).mappings().one())


# --- what comes in


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.parquet"])
def test_each_kind_of_file_becomes_rows(world: World, tmp_path: Path, name: str) -> None:
    """The same records in three kinds of file: the same events, a hundred an entry; twice adds nothing."""
    records, path = foreign(2500), tmp_path / name
    if name.endswith(".jsonl"):
        json_lines(path, records)
    elif name.endswith(".csv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(records[0]))
            writer.writeheader()
            writer.writerows(records)
    else:
        pq.write_table(pa.Table.from_pylist(records), path)
    told: list[tuple[int, int | None]] = []
    done = run(world, path, tell=lambda *far: told.append(far))
    assert (done.records, done.sent, done.refused, done.forgotten) == (2500, 2500, {}, 0)
    assert told == [(1000, 2500), (2000, 2500), (2500, 2500)]
    assert world.source.state().entries == 25
    settle(world)
    found = stored(world)
    assert len(found) == 2500
    player, action, details, at = found[5]
    assert (player, action, at.isoformat(timespec="milliseconds")) == (
        "P5",
        "kill_enemy",
        records[5]["when"],
    )
    wanted = {"row": 5, "score": 5}
    assert details == (
        {key: str(value) for key, value in wanted.items()} if ".csv" in name else wanted
    )
    assert run(world, path, is_again=True).sent == 2500
    settle(world)
    assert stored(world) == found
    assert world.count("quarantined_events") == 0


def test_events_of_ours_come_back_as_they_were(world: World, tmp_path: Path) -> None:
    """An export of the wire bytes is imported without a word, beside the same events live."""
    events = chains(300, start_ms=now_ms() - 60_000)
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"".join(encode(event) + b"\n" for event in events))
    world.source.append([encode(event) for event in events[:100]])
    assert run(world, path, Plan()).sent == 300
    settle(world)
    with world.engine.connect() as connection:
        query = "select id, karma_total, seq from game_events order by id"
        found = [tuple(row) for row in connection.execute(text(query))]
    assert found == sorted((event.id, event.karma_total, event.seq) for event in events)


def test_what_is_refused_is_not_sent_and_is_listed(world: World, tmp_path: Path) -> None:
    """Each with its line, why, and what it is; the good ones around it are stored."""
    old = datetime_of(now_ms() - 91 * 86_400_000).isoformat()
    records = foreign(1200)
    for place, changes in {
        3: {"what": "dance"},
        500: {"when": "2026-01-01 00:00:00"},
        1100: {"when": old},
        1101: {"xp_delta": "much"},
    }.items():
        records[place] |= changes
    path, bad = json_lines(tmp_path / "x.jsonl", records), tmp_path / "bad.jsonl"
    with path.open("a") as file:
        file.write('{"who": ')
    done = run(world, path, refused_to=bad)
    assert (done.records, done.sent) == (1201, 1196)
    assert done.refused == {
        "unknown_action": 1,
        "bad_ts": 1,
        "too_old": 1,
        "bad_type": 1,
        "not_json": 1,
    }
    assert done.samples["unknown_action"] == [(4, "action is 'dance'")]
    listed = [json.loads(line) for line in bad.read_text().splitlines()]
    assert [one["line"] for one in listed] == [4, 501, 1101, 1102, 1201]
    assert [one["reason"] for one in listed] == [
        "unknown_action", "bad_ts", "too_old", "bad_type", "not_json",
    ]  # fmt: skip
    assert listed[0]["record"] == records[3]
    assert listed[4]["record"] == '{"who": '
    settle(world)
    assert (world.count("game_events"), world.count("quarantined_events")) == (1196, 0)
    assert noted(world)["refused_by_reason"] == done.refused


def test_a_rehearsal_sends_nothing(world: World, tmp_path: Path) -> None:
    """The same numbers, an example, and no trace of it in either server."""
    path = json_lines(tmp_path / "x.jsonl", [*foreign(1500), {"who": "x"}])
    would = rehearse(world.engine, path, PLAN, RETENTION_DAYS, refused_to=tmp_path / "bad.jsonl")
    assert (would.records, would.sent, would.refused) == (1501, 1500, {"missing_key": 1})
    assert json.loads(would.example or b"")["details"] == {"row": 0, "score": 0}
    assert not world.source.state().exists
    assert world.count("imports") == 0
    done = run(world, path, refused_to=tmp_path / "bad.jsonl")
    assert (done.records, done.sent, done.refused) == (would.records, would.sent, would.refused)


def test_players_who_are_forgotten_stay_forgotten(world: World, tmp_path: Path) -> None:
    """Their events are counted and not sent, and what is refused of them is not written into a list."""
    with world.engine.begin() as connection:
        connection.execute(
            text("insert into forgotten_players (player_sha256) values (:hash)"),
            {"hash": hashlib.sha256(b"P3").digest()},
        )
    records = foreign(70)
    records[3] |= {"what": "dance"}
    records[4] |= {"what": "dance"}
    bad = tmp_path / "bad.jsonl"
    done = run(world, json_lines(tmp_path / "x.jsonl", records), refused_to=bad)
    assert (done.sent, done.refused, done.forgotten) == (59, {"unknown_action": 1}, 10)
    assert "P3" not in bad.read_text()
    assert all(b"P3" not in one for one in world.payloads())


def test_large_events_go_in_arrays_that_a_consumer_takes(world: World, tmp_path: Path) -> None:
    """A hundred large ones are more than an entry may hold."""
    entries = packed_up([b"x" * 60_000] * 10 + [b"y"] * 250, 100)
    assert [len(split(value)) if form is Form.EVENTS else 1 for form, value in _as_json(entries)] == [
        4, 4, 100, 100, 52,
    ]  # fmt: skip
    assert max(len(value) for _, value in entries) <= MAX_ARRAY_BYTES
    assert packed_up([b"x"], 100) == [(Form.EVENT, b"x")]
    assert packed_up([], 100) == []
    path = json_lines(tmp_path / "x.jsonl", foreign(300, mood="m" * 4000))
    run(world, path)
    settle(world)
    assert (world.count("game_events"), world.count("quarantined_events")) == (300, 0)


def _as_json(entries: list[tuple[Form, bytes]]) -> list[tuple[Form, bytes]]:
    return [(form, value.replace(b"x", b"1").replace(b"y", b"1")) for form, value in entries]


# --- broken off, and gone on with


def test_an_import_that_was_killed_goes_on(world: World, tmp_path: Path, infamous: Command) -> None:
    """Sent and not yet written down: that chunk is sent twice and stored once, and listed once."""
    records = foreign(3500)
    for place in (500, 1500, 2500):
        records[place] |= {"what": "dance"}
    path = json_lines(tmp_path / "x.jsonl", records)
    arguments = (path.name, *OPTIONS, "--refused", "bad.jsonl", "--json")
    killed = infamous(*arguments, FAILPOINT="in_import:2")
    assert killed.returncode == -signal.SIGKILL
    row = noted(world)
    assert (row["records"], row["sent"], row["refused"], row["finished_at"]) == (1000, 999, 1, None)
    assert len(world.payloads()) == 1998
    again = infamous(*arguments)
    assert again.returncode == 0, again.stderr
    done = json.loads(again.stdout)
    assert (done["began_at"], done["records"], done["sent"]) == (1000, 3500, 3497)
    assert done["refused"] == {"unknown_action": 3}
    listed = [
        json.loads(line)["line"] for line in (tmp_path / "bad.jsonl").read_text().splitlines()
    ]
    assert listed == [501, 1501, 2501]
    assert len(world.payloads()) == 1998 + 2498
    settle(world)
    assert (world.count("game_events"), world.count("quarantined_events")) == (3497, 0)
    assert noted(world)["finished_at"] is not None


def test_a_finished_file_is_done(world: World, tmp_path: Path, infamous: Command) -> None:
    """Whoever starts it again is told when it was done; another mapping is another import."""
    path = json_lines(tmp_path / "x.jsonl", foreign(10))
    first = infamous(path.name, *OPTIONS)
    assert first.stdout == "x.jsonl: 10 records, 10 sent, 0 refused.\n"
    again = infamous(path.name, *OPTIONS)
    assert again.returncode == 0
    assert again.stdout.startswith("x.jsonl was imported already on 20")
    assert "There is nothing to do; --again" in again.stdout
    assert len(world.payloads()) == 10
    renamed = json_lines(tmp_path / "y.jsonl", foreign(0))
    renamed.write_bytes(path.read_bytes())
    assert run(world, renamed).finished_at is not None
    assert infamous(path.name, *OPTIONS, "--again").stdout == first.stdout
    assert (
        run(world, path, Plan(PLAN.columns, {"rank": "Neutral"}, PLAN.renames)).finished_at is None
    )


def test_an_import_stops_when_asked(world: World, tmp_path: Path) -> None:
    """After the chunk in hand, with what was done kept; the next run does the rest."""
    path = json_lines(tmp_path / "x.jsonl", foreign(2500))
    stop = threading.Event()
    done = run(world, path, stop=stop, tell=lambda *_: stop.set())
    assert (done.records, done.sent, done.is_complete) == (1000, 1000, False)
    rest = run(world, path)
    assert (rest.began_at, rest.sent, rest.is_complete) == (1000, 2500, True)
    assert len(world.payloads()) == 2500


def test_a_signal_ends_an_import_cleanly(world: World, tmp_path: Path) -> None:
    """Ctrl-C while it waits for room: exit 0, a sentence, and how far it came written down."""
    path = json_lines(tmp_path / "x.jsonl", foreign(60_000))
    world.source.ensure_group()
    popen = subprocess.Popen(
        [sys.executable, "-m", "infamous", "import", path.name, *OPTIONS],
        cwd=tmp_path,
        env={**os.environ, **world.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: world.source.state().entries > 300, "the room there is to be filled")
    popen.send_signal(signal.SIGINT)
    out, err = popen.communicate(timeout=20)
    assert popen.returncode == 0, err
    assert "It was stopped before the end: run it again to go on." in out
    records = noted(world)["records"]
    assert 30_000 < records < 60_000
    assert len(world.payloads()) == records


def test_an_import_does_not_pile_up_what_nobody_reads(world: World, tmp_path: Path) -> None:
    """Live events come first; what was sent is written down, so the next run goes on."""
    path = json_lines(tmp_path / "x.jsonl", foreign(3000))
    world.source.ensure_group()
    with pytest.raises(NobodyReads, match=r"^20 entries .*start consumers.*run it again\.$"):
        run(world, path, most_unread=15, patience_s=0.2)
    assert noted(world)["records"] == 2000
    with working(world):
        assert run(world, path, most_unread=15).sent == 3000
        until(lambda: is_drained(world), "the stream to drain")
    assert world.count("game_events") == 3000


def test_a_full_redis_leaves_no_chunk_in_half(
    world: World, tmp_path: Path, infamous: Command
) -> None:
    """A sentence that says what to do; once there is room, the same command completes it."""
    path = json_lines(tmp_path / "x.jsonl", foreign(1500))
    limit = world.client.config_get("maxmemory")["maxmemory"]
    world.client.config_set("maxmemory", "1")
    try:
        full = infamous(path.name, *OPTIONS)
    finally:
        world.client.config_set("maxmemory", str(limit))
    assert (full.returncode, full.stdout) == (1, "")
    assert full.stderr == (
        "Redis is full: start consumers, or more of them, let them drain it, and run it again.\n"
    )
    assert not world.source.state().exists
    assert noted(world)["records"] == 0
    assert (
        infamous(path.name, *OPTIONS).stdout == "x.jsonl: 1,500 records, 1,500 sent, 0 refused.\n"
    )


def test_two_at_once_do_not_do_the_work_twice(world: World, tmp_path: Path) -> None:
    """The second is told of the first; another file is none of its business."""
    path = json_lines(tmp_path / "x.jsonl", foreign(1500))
    other = json_lines(tmp_path / "y.jsonl", foreign(3))
    seen: list[int] = []

    def second(*_: object) -> None:
        with pytest.raises(BeingImported, match="imported by another process: wait"):
            run(world, path)
        seen.append(run(world, other).records)

    assert run(world, path, tell=second).sent == 1500
    assert seen == [3, 3]
    assert len(world.payloads()) == 1503


# --- what cannot be imported


def test_a_file_that_is_damaged_in_the_middle_keeps_what_was_done(
    world: World, tmp_path: Path
) -> None:
    """What stood before the damage is sent and written down; the whole file, later, adds the rest only."""
    records = foreign(30_000)
    whole = json_lines(tmp_path / "x.jsonl", records)
    packed_file = tmp_path / "x.jsonl.gz"
    subprocess.run(["gzip", "--keep", whole], check=True)
    data = packed_file.read_bytes()
    packed_file.write_bytes(data[: len(data) // 2])
    with pytest.raises(Unreadable, match="cut or damaged"):
        run(world, packed_file, most_unread=10_000)
    assert noted(world)["records"] > 10_000
    packed_file.write_bytes(data)
    assert run(world, packed_file, most_unread=10_000).sent == 30_000
    settle(world)
    assert world.count("game_events") == 30_000


def test_a_column_that_is_not_there_is_told_before_anything_is_sent(
    world: World, tmp_path: Path
) -> None:
    """A typing error in the options costs nothing."""
    path = json_lines(tmp_path / "x.jsonl", foreign(3))
    with pytest.raises(
        BadMapping, match="There is no column whom: there are row, when, who, what, score"
    ):
        run(world, path, Plan(columns={"player": "whom"}))
    assert world.count("imports") == 0
    assert not world.source.state().exists


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("gone.csv",), 1, "gone.csv cannot be used: No such file"),
        (("empty.csv",), 1, "empty.csv is empty"),
        (("x.txt",), 1, "does not say what it is"),
        (("x.jsonl", "--map", "playr=who"), 2, "'playr' is no key of an event"),
        (("x.jsonl", "--map", "player=whom"), 2, "There is no column whom"),
        (("x.jsonl", "--map", "player"), 2, "give KEY=VALUE"),
        (("x.jsonl", "--set", "=5"), 2, "give KEY=VALUE"),
        (("x.jsonl", "--rename", "action=kill"), 2, "give KEY:OLD=NEW"),
        (("x.jsonl", "--refused", "x.jsonl"), 2, "is no list of refused records"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(
    infamous: Command, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """No traceback; an exit code that says whose fault it is; nothing on stdout."""
    (tmp_path / "empty.csv").touch()
    (tmp_path / "x.txt").touch()
    json_lines(tmp_path / "x.jsonl", foreign(3))
    ended = infamous(*arguments)
    assert ended.returncode == code, ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_the_report_says_what_was_refused_and_what_helps(
    world: World, tmp_path: Path, infamous: Command
) -> None:
    """The most first, with lines; a person knows what to do next, and nothing obeys what a file holds."""
    old = datetime_of(now_ms() - 100 * 86_400_000).isoformat()
    records = [
        *foreign(3),
        *foreign(5, when=old),
        *foreign(1, what="\x1b[2Jdance"),
        *foreign(2, when=datetime_of(now_ms() - 1000).isoformat().removesuffix("+00:00")),
    ]
    path = json_lines(tmp_path / "x.jsonl", records)
    would = infamous(path.name, *OPTIONS, "--dry-run")
    assert "11 records, 3 would be sent, 8 refused. Nothing was changed." in would.stdout
    assert 'the first event: {"' in would.stdout
    said = infamous(path.name, *OPTIONS).stdout
    lines = said.splitlines()
    assert lines[0] == "x.jsonl: 11 records, 3 sent, 8 refused."
    assert lines[1].strip().startswith("5 too_old: raise RETENTION_DAYS")
    assert [line.split(":")[0].strip() for line in lines[2:5]] == ["line 4", "line 5", "line 6"]
    assert "2 bad_ts: where times without an offset are UTC, say --utc" in said
    assert all(line.isprintable() for line in lines)
    done = json.loads(infamous(path.name, *OPTIONS, "--utc", "--json").stdout)
    assert (done["sent"], done["refused"]) == (5, {"too_old": 5, "unknown_action": 1})
    assert world.count("quarantined_events") == 0


def test_the_jobs_role_may_import(bare_world: World, tmp_path: Path) -> None:
    """No more rights than it has: it writes down how far it came, and stores no event itself."""
    world = bare_world
    schema.migrate(world.engine)
    with world.engine.begin() as connection:
        connection.execute(text("alter role infamous_jobs login password 'for this test'"))
    url = make_url(world.database_url).set(username="infamous_jobs", password="for this test")  # noqa: S106
    engine = create_engine(url, poolclass=pool.NullPool)
    path = json_lines(tmp_path / "x.jsonl", foreign(1500))
    assert import_file(engine, world.streams, path, PLAN, RETENTION_DAYS).sent == 1500
    assert rehearse(engine, path, PLAN, RETENTION_DAYS).sent == 1500
    assert noted(world)["records"] == 1500
    engine.dispose()
