"""What a dead master leaves: its append-only file and the ends of its heir's streams flow in, the bytes that
it alone had flow out.

It decides whose fault a missing event is. A master answers a write before its replica has it, unless the
sender waits for that; when it dies in between, the event is gone though the sender was told that it is there.
That is Redis' loss, and only this is, all of it at once:

- The dead master's own file has the entry. The file is written before the reply goes out, and with
  ``appendfsync no``, which a run sets for this, without exception; the kernel keeps what a killed process
  wrote. A sender that calls something sent which Redis never took does not find it here.
- The entry lies beyond the last one that the replica had when it lost its master. A replica obeys the same
  commands in the same order, so it had all before that and nothing after. It is asked before it can be
  elected; were it late, it would have newer entries and fewer losses would be Redis'. What is deleted after a
  failover was there at it, so no trim and no mistake of ours can look like this.
- The dead master had handed it to no consumer that lived, and none had acknowledged it. Whoever has an event
  in hand stores it, whatever becomes of Redis, and whoever acknowledges it says that it is stored. One who
  had been killed before left it to the pending list, which was Redis' to keep.
- Its bytes are on no stream at the end (check.py). What was sent again, or never left, was ours to store,
  and nothing is trimmed in such a run.

Whatever else is missing is our loss. An entry that was there when a node last took a whole copy is not in its
file any more; it is on the replica, which had it before, and is never excused.

With the events go the states of our producer's players: who plays on from what the replica had forks the
chain of what was read from the dead master and stored. In a chain, then, an event that it alone had counts
where it fills a gap, and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.entry import Entry, Form, split
from pipeline.event import Refused
from pipeline.stream import GROUP, is_after

# Before version 7 the file is one, and begins with a copy in another format.
_FOLDER: Final = "appendonlydir"
_MANIFEST: Final = "appendonly.aof.manifest"
_GROUP: Final = GROUP.encode()
_FORMS: Final = {form.value: form for form in (Form.EVENT, Form.EVENTS)}

Command = Sequence[bytes]


@dataclass(frozen=True)
class Part:
    """A piece of an append-only file, up to where it went when its server died."""

    path: Path
    size_bytes: int


@dataclass(frozen=True)
class Remains:
    """What is known of a master that died."""

    parts: Sequence[Part]
    # The last entry of each stream that its heir had; a stream that is not named is none of its own.
    ends: Mapping[str, bytes]
    # Consumers that had been killed by then.
    killed: Collection[str] = ()


def lay_by(data: Path, into: Path) -> list[Part]:
    """Keep the file of a server that is down: started again it goes on writing, and throws it away."""
    into.mkdir(parents=True)
    parts = []
    for name in _increments((data / _FOLDER / _MANIFEST).read_text(encoding="ascii")):
        kept = into / name
        os.link(data / _FOLDER / name, kept)
        parts.append(Part(kept, kept.stat().st_size))
    return parts


def _increments(manifest: str) -> list[str]:
    """The names of those parts that hold commands, in their order."""
    lines = [line.split(" ") for line in manifest.splitlines()]
    files = [dict(zip(words[::2], words[1::2], strict=True)) for words in lines]
    mine = [file for file in files if file["type"] == "i"]
    return [file["file"] for file in sorted(mine, key=lambda file: int(file["seq"]))]


def commands(parts: Iterable[Part]) -> Iterator[Command]:
    """What a server wrote down; a command that it died over is passed over."""
    for part in parts:
        with part.path.open("rb") as file:
            yield from parsed(file.read(part.size_bytes))


def parsed(raw: bytes) -> Iterator[Command]:
    """The commands in these bytes, up to the first that is torn. Pure."""
    at, size = 0, len(raw)
    while raw[at : at + 1] == b"*":
        end = raw.find(b"\r\n", at)
        if end < 0:
            return
        words = []
        count, at = int(raw[at + 1 : end]), end + 2
        for _ in range(count):
            end = raw.find(b"\r\n", at)
            if end < 0:
                return
            start = end + 2
            at = start + int(raw[at + 1 : end]) + 2
            if at > size:
                return
            words.append(raw[start : at - 2])
        yield words


@dataclass(frozen=True)
class Alone:
    """Entries that a dead master alone had."""

    # In nobody's hands: if they are missing, Redis lost them.
    free: list[Entry]
    # Given to a consumer that lived, or acknowledged: if they are missing, we lost them.
    in_hand: list[Entry]


def alone(
    history: Iterable[Command], ends: Mapping[str, bytes], killed: Collection[str] = ()
) -> Alone:
    """The entries that lie beyond the ends of the heir's streams. Pure."""
    found: dict[str, dict[bytes, Entry]] = {key: {} for key in ends}
    in_hand: dict[str, set[bytes]] = {key: set() for key in ends}
    for name, *words in history:
        match name.upper():
            case b"XADD":
                key, entry_id, *fields = words
                mine = found.get(key.decode())
                if mine is not None and is_after(entry_id, ends[key.decode()]):
                    mine[entry_id] = _entry(entry_id, fields)
            # How a server writes down that a consumer was given an entry, be it by XREADGROUP.
            case b"XCLAIM" if words[1] == _GROUP and words[2].decode() not in killed:
                in_hand.get(words[0].decode(), set()).add(words[4])
            case b"XACK" if words[1] == _GROUP:
                in_hand.get(words[0].decode(), set()).update(words[2:])
            case b"DEL" | b"UNLINK":  # a slot that moved away takes its keys along
                for key in words:
                    found.get(key.decode(), {}).clear()
            case b"FLUSHALL" | b"FLUSHDB":
                for entries in found.values():
                    entries.clear()
    free, held = list[Entry](), list[Entry]()
    for stream, entries in found.items():
        for entry_id, entry in entries.items():
            (held if entry_id in in_hand[stream] else free).append(entry)
    return Alone(free, held)


def _entry(entry_id: bytes, fields: Sequence[bytes]) -> Entry:
    if len(fields) == 2 and fields[0] in _FORMS:
        return Entry(entry_id, fields[1], _FORMS[fields[0]])
    # As the quarantine keeps it.
    kept = json.dumps([field.decode("latin-1") for field in fields]).encode()
    return Entry(entry_id, kept, Form.FOREIGN)


def hashes(entries: Iterable[Entry]) -> set[bytes]:
    """The SHA-256 of every payload in these entries. Pure."""
    found = set()
    for entry in entries:
        try:
            payloads = split(entry.payload) if entry.form is Form.EVENTS else [entry.payload]
        except Refused:
            payloads = [entry.payload]
        found |= {hashlib.sha256(payload).digest() for payload in payloads}
    return found
