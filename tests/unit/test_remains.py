"""What a dead master alone had: nothing that a replica had, a consumer was given, or Redis never took."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from infamous.prove.remains import Alone, Command, Part, alone, commands, hashes, lay_by, parsed
from pipeline.entry import Entry, Form, array_of

KEY = "game-events:{0}"
ENDS = {KEY: b"5-0"}


def packed(*history: Command) -> bytes:
    """Commands as Redis writes them down."""
    return b"".join(
        b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        for words in history
    )


def added(entry_id: bytes, value: bytes = b"{}", key: str = KEY, name: bytes = b"event") -> Command:
    """An XADD as it stands in the file."""
    return (b"XADD", key.encode(), entry_id, name, value)


def given(key: bytes, group: bytes, entry_id: bytes, to: bytes = b"reader") -> Command:
    """What stands in the file where a consumer reads an entry."""
    words = b"0", entry_id, b"TIME", b"1795926382319", b"RETRYCOUNT", b"1", b"FORCE", b"JUSTID"
    return (b"XCLAIM", key, group, to, *words, b"LASTID", entry_id)


def ids(
    history: list[Command], ends: dict[str, bytes] | None = None, killed: Collection[str] = ()
) -> list[bytes]:
    """The entries that are found in nobody's hands."""
    found = alone(history, ENDS if ends is None else ends, killed)
    return [entry.id for entry in found.free]


def test_what_lies_beyond_the_end_is_found() -> None:
    """A replica has the same history up to a point, and nothing after it."""
    assert ids([added(b"4-9"), added(b"5-0"), added(b"5-1"), added(b"10-0")]) == [b"5-1", b"10-0"]
    assert ids([added(b"4-9")], {KEY: b"0-0"}) == [b"4-9"]


def test_a_stream_of_another_shard_is_not_looked_at() -> None:
    """Of a stream whose end nobody knows nothing is excused."""
    assert alone([added(b"9-0", key="game-events")], ENDS) == Alone([], [])
    assert ids([added(b"9-0")], {}) == []


def test_what_a_living_consumer_was_given_is_ours() -> None:
    """Whoever has an event in hand answers for it; what another group was given is none of ours."""
    key = KEY.encode()
    history = [added(b"6-0"), added(b"7-0"), added(b"8-0")]
    history += [given(key, b"postgres", b"6-0"), given(key, b"archive", b"7-0")]
    history += [given(b"game-events", b"postgres", b"8-0")]
    assert ids(history) == [b"7-0", b"8-0"]
    assert [entry.id for entry in alone(history, ENDS).in_hand] == [b"6-0"]


def test_what_a_killed_consumer_left_pending_was_redis_to_keep() -> None:
    """Unless it had acknowledged it, or somebody who lives had taken it over."""
    key = KEY.encode()
    history = [added(b"6-0"), added(b"7-0"), added(b"8-0")]
    history += [given(key, b"postgres", entry_id) for entry_id in (b"6-0", b"7-0", b"8-0")]
    history += [(b"XACK", key, b"postgres", b"6-0"), given(key, b"postgres", b"7-0", b"heir")]
    assert ids(history, killed=["reader"]) == [b"8-0"]
    assert ids(history, killed=["another"]) == []


@pytest.mark.parametrize("command", [(b"DEL", b"a", KEY.encode()), (b"FLUSHALL",)], ids=str)
def test_what_moved_away_died_with_nobody(command: Command) -> None:
    """A slot that went to another shard is that one's from then on."""
    assert ids([added(b"6-0"), command, added(b"7-0")]) == [b"7-0"]


def test_every_payload_is_known_by_its_hash() -> None:
    """An event is the same alone and in an array, and an entry of another program is what is kept of it."""
    one, other = b'{"a":1}', b'{"b":2}'
    found = alone(
        [
            added(b"6-0", array_of([one, other]), name=b"events"),
            (b"XADD", KEY.encode(), b"7-0", b"x", b"\xff", b"y", b""),
            added(b"8-0", b"[torn", name=b"events"),
        ],
        ENDS,
    ).free
    apart = [Entry(b"1-0", payload) for payload in (one, other, b"[torn")]
    kept = Entry(b"1-0", b'["x", "\\u00ff", "y", ""]', Form.FOREIGN)
    assert hashes(found) == hashes([*apart, kept])


def test_a_torn_command_is_passed_over() -> None:
    """A kill may hit the server while it writes: nobody was told yes for that one."""
    whole = packed(added(b"6-0", b"\r\n*1\r\n"), added(b"7-0"))
    assert list(parsed(whole)) == [[*added(b"6-0", b"\r\n*1\r\n")], [*added(b"7-0")]]
    first = packed(added(b"6-0", b"\r\n*1\r\n"))
    for size in range(len(first), len(whole)):
        assert len(list(parsed(whole[:size]))) == 1, whole[:size]


def test_the_file_is_kept_as_it_was_at_the_death(tmp_path: Path) -> None:
    """The server that is started again writes on, and throws its file away: what is read is older."""
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    (folder / "appendonly.aof.manifest").write_text(
        "file a.base.rdb seq 2 type b\nfile a.2.incr.aof seq 2 type i\nfile a.1.incr.aof seq 1 type i\n"
    )
    (folder / "a.1.incr.aof").write_bytes(packed(added(b"6-0")))
    (folder / "a.2.incr.aof").write_bytes(packed(added(b"7-0")))
    parts = lay_by(tmp_path, tmp_path / "kept")
    with (folder / "a.2.incr.aof").open("ab") as file:
        file.write(packed(added(b"8-0")))
    (folder / "a.1.incr.aof").unlink()
    assert [part.path.name for part in parts] == ["a.1.incr.aof", "a.2.incr.aof"]
    assert [words[2] for words in commands(parts)] == [b"6-0", b"7-0"]
    assert list(commands([Part(parts[1].path, 0)])) == []
