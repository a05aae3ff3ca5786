"""The position: how far a place has come along the stream flows in, the JSON text kept there flows out. Pure.

The bookmark on the stream says how far the archive has come, wherever that was. The position, written into
the place itself before the bookmark moves, says how far this place has. Another that ARCHIVE_URL names one
day, or one that was brought back from a backup, is behind the bookmark: it is given what it lacks and the
stream still has, and what the stream has not is remembered as a gap.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from jobs.manifest import Damaged, order

# Where all positions are.
FOLDER: Final = "position"
# The entry before the first.
NOWHERE: Final = "0-0"


class Gap(msgspec.Struct, frozen=True):
    """Entries that left the stream before they came here: all between these two, which are not among them."""

    after: str
    before: str


class Position(msgspec.Struct, frozen=True):
    """How far a place has come."""

    # The last entry that was archived here.
    entry: str = NOWHERE
    # Manifests that were made here: no higher number was given, and none of these is to be missing.
    batches: int = 0
    gaps: tuple[Gap, ...] = ()
    version: Literal[1] = 1

    def goes_on(self, bookmark: str, first: str | None, *, is_trimmed: bool) -> Position:
        """Where to go on, with a gap more where the stream lacks what only another place was given.

        ``first`` is the first entry that the stream has, if any; ``is_trimmed``: whether any has left it.
        """
        if order(bookmark) <= order(self.entry):
            return msgspec.structs.replace(self, entry=bookmark)
        first = first or bookmark
        # Where the last entry from here is there still, so is all that came behind it.
        is_whole = order(first) <= order(self.entry) or (self.entry == NOWHERE and not is_trimmed)
        gaps = self.gaps if is_whole else (*self.gaps, Gap(self.entry, first))
        return msgspec.structs.replace(self, gaps=gaps)


_decode: Final = msgspec.json.Decoder(Position).decode


def path(partition: int) -> str:
    """Where the position on a partition's stream is kept."""
    return f"{FOLDER}/partition={partition}.json"


def encoded(position: Position) -> bytes:
    """The text, for people too."""
    return msgspec.json.format(msgspec.json.encode(position), indent=2) + b"\n"


def decoded(text: bytes, path: str) -> Position:
    """What stands in it. Raises Damaged."""
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Damaged(
            f"The file {path} of the archive was cut or altered: remove it, and the next run writes it anew."
        ) from None
