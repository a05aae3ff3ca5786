"""The manifest: what was written of a batch flows in, the JSON text that makes it so flows out. Pure.

A file belongs to the archive once a manifest names it. Manifests are numbered from 1, each partition's by
themselves, and a number is given once: whoever makes one has seen all of its partition before it. The names
of both are made here.

A partition is what came by one stream. That of the undivided stream is 0, that of ``game-events:{k}`` is
k + 1: a label that never means two streams, whatever the number of streams was when it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime
from typing import Final, Literal

import msgspec

Kind = Literal["events", "refused"]
# Where all manifests are.
FOLDER: Final = "manifests"

_FILE: Final = re.compile(
    r"(events|refused)/day=\d{4}-\d\d-\d\d/partition=\d+/\d+-[0-9a-f]{8}\.parquet"
)

_PARTITION: Final = re.compile(r"/partition=(\d+)")


class Damaged(Exception):
    """Something of the archive is not as it was written; the message is a sentence for people."""


class Changed(Damaged):
    """A file was written anew, without a player who is forgotten, while it was to be read."""


class File(msgspec.Struct, frozen=True):
    """A Parquet file. Events have their own time and id, what was refused its entry's."""

    path: str
    kind: Kind
    rows: int
    bytes: int
    sha256: str
    first_ts: datetime
    last_ts: datetime
    first_id: str
    last_id: str

    @property
    def day(self) -> date:
        """The UTC day whose folder it is in."""
        return day_of(self.path)

    def touches(self, from_ms: int, to_ms: int) -> bool:
        """Whether it may hold something of a span of Unix milliseconds, both ends included."""
        return ms_of(self.first_ts) <= to_ms and ms_of(self.last_ts) >= from_ms


class Manifest(msgspec.Struct, frozen=True):
    """What a run of entries of the stream became.

    ``entries`` were read from ``first_entry`` to ``last_entry``, both included. What was archived before has
    left no row.
    """

    partition: int
    first_entry: str
    last_entry: str
    entries: int
    made_at: datetime
    files: tuple[File, ...]
    version: Literal[1] = 1


_decode: Final = msgspec.json.Decoder(Manifest).decode


def encoded(manifest: Manifest) -> bytes:
    """The text, for people too."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decoded(text: bytes, path: str) -> Manifest:
    """What stands in a manifest. Raises Damaged."""
    try:
        manifest = _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _altered(path) from None
    # A file that is not in its place is none of ours, and may be anything.
    if any(_FILE.fullmatch(file.path) is None for file in manifest.files):
        raise _altered(path)
    return manifest


def _altered(path: str) -> Damaged:
    return Damaged(
        f"The manifest {path} of the archive was cut or altered: bring it back as it was, from a backup."
    )


def ms_of(moment: datetime) -> int:
    """Unix milliseconds."""
    return round(moment.timestamp() * 1000)


def order(entry_id: str) -> tuple[int, int]:
    """Where an entry stands on the stream; the first part is Unix milliseconds, where nobody chose it."""
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number or 0)


# --- names


def partition_of(key: str) -> int:
    """The partition of what came by the stream of that name."""
    _, brace, number = key.rpartition("{")
    return int(number.rstrip("}")) + 1 if brace else 0


def folder(partition: int) -> str:
    """Where the manifests of a partition are."""
    return f"{FOLDER}/partition={partition}"


def path(partition: int, batch: str) -> str:
    """The manifest of a batch."""
    return f"{folder(partition)}/{batch}.json"


def path_of(path: str) -> str:
    """The manifest that a file belongs to, whether it is there or not; of a manifest, itself."""
    return f"{folder(partition_in(path))}/{batch_of(path)}.json"


def in_folder(paths: Iterable[str]) -> list[str]:
    """Of these, the manifests; whatever else somebody put beside their folders is none."""
    return [path for path in paths if path.startswith(f"{FOLDER}/partition=")]


def batch_name(number: int) -> str:
    """What the batch of that number is called; in their order, however a store lists them."""
    return f"{number:08d}"


def newest(paths: Iterable[str]) -> int:
    """The highest number of these manifests; 0 where there are none."""
    numbers = [int(name) for path in paths if (name := batch_of(path)).isdecimal()]
    return max(numbers, default=0)


def missing(paths: Iterable[str], made: int) -> list[int]:
    """The numbers that were given to manifests, ``made`` of them or more, and are not among these."""
    there = {int(name) for path in paths if (name := batch_of(path)).isdecimal()}
    return [number for number in range(1, max(made, *there, 0) + 1) if number not in there]


def file_folder(kind: Kind, day: date, partition: int) -> str:
    """Where the files of a day are, for readers that know folders named so."""
    return f"{kind}/day={day.isoformat()}/partition={partition}"


def file_path(kind: Kind, day: date, partition: int, batch: str, sha256: str) -> str:
    """A file's name says what is in it: two that differ never have the same."""
    return f"{file_folder(kind, day, partition)}/{batch}-{sha256[:8]}.parquet"


def is_named_for(path: str, sha256: str) -> bool:
    """Whether a file's name says that this is in it."""
    return path.endswith(f"-{sha256[:8]}.parquet")


def kind_of(path: str) -> Kind:
    """What the rows of a file are."""
    return "events" if path.startswith("events/") else "refused"


def day_of(path: str) -> date:
    """The UTC day whose folder a file is in."""
    return date.fromisoformat(path.split("/")[1].removeprefix("day="))


def partition_in(path: str) -> int:
    """The partition that a file, a manifest or a position belongs to."""
    found = _PARTITION.search(path)
    return int(found[1]) if found else 0


def batch_of(path: str) -> str:
    """The batch that a file, or a manifest, belongs to."""
    name = path.rpartition("/")[2]
    return name.removesuffix(".json") if name.endswith(".json") else name.rpartition("-")[0]
