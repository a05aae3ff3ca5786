"""Erasure in the archive: a player's name flows in, files without them, or with another name, flow out.

Of what was refused, what is theirs goes in either case: nobody could tell what else it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobs import archive, parquet
from jobs.mentions import Kept, Name
from jobs.progress import Progress, untold
from jobs.storage import Storage
from pipeline.entry import Entry, Form

_FORMS: Final = {form.name.lower(): form for form in Form}


@dataclass(frozen=True)
class _Erasure:
    """What is to be done to every table of the archive."""

    names: Sequence[str]
    pseudonym: str | None

    def __call__(self, table: Any) -> Any:
        if parquet.is_of_events(table):
            if not parquet.players(table) & {*self.names}:
                return table
            if self.pseudonym is None:
                return parquet.without_players(table, self.names)
            return parquet.renamed(table, self.names[0], self.pseudonym)
        stays = [not one for one in _are_theirs(table, self.names)]
        return table if all(stays) else parquet.only(table, stays)


def erase(
    storage: Storage, names: Sequence[str], pseudonym: str | None, tell: Progress = untold
) -> int:
    """Remove what is of a player, whose name is the first of ``names``, or have it go by the pseudonym;
    returns how many rows that were. Nobody else may write the archive meanwhile. Raises Damaged,
    StorageError; run again, it goes on.
    """
    rows = count(storage, names if pseudonym is None else names[:1])
    if rows:
        archive.rewrite(storage, _Erasure(names, pseudonym), tell)
    # What was left by a run that was killed, of the archiver or of this, may be theirs as well.
    archive.remove_unnamed(storage)
    return rows


def count(storage: Storage, names: Sequence[str]) -> int:
    """Rows of the archive that are of a player. Raises Damaged, StorageError."""
    archive.require_manifests(storage)  # what one that is gone named would be looked into by nobody
    found = 0
    for file in (file for batch in archive.manifests(storage) for file in batch.files):
        if file.kind == "events":
            table = archive.table_of(storage, file, ["player"])
            found += table.num_rows - parquet.without_players(table, names).num_rows
        else:
            found += sum(_are_theirs(archive.table_of(storage, file), names))
    return found


def unsure(storage: Storage, name: Name) -> Iterator[bytes]:
    """Of what was refused, the bytes that stay and may be theirs all the same. Raises as ``count`` does."""
    for file in (file for batch in archive.manifests(storage) for file in batch.files):
        if file.kind == "refused":
            for form, payload in parquet.refused_rows(archive.table_of(storage, file)):
                yield from name.look_at(_entry(form, payload)).unsure


def _entry(form: str, payload: bytes) -> Entry:
    return Entry(b"", payload, _FORMS.get(form, Form.FOREIGN))


def _are_theirs(table: Any, names: Sequence[str]) -> list[bool]:
    wanted = [Name(name) for name in names]
    return [
        any(name.without(_entry(form, payload)) is not Kept.ALL for name in wanted)
        for form, payload in parquet.refused_rows(table)
    ]
