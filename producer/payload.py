"""What goes onto the stream for a deed of the game: its facts flow in, the bytes of JSON flow out. Pure.

The same bytes as ``pipeline.event.encode`` makes of the Event, several times as fast: all texts are the
game's own and need no escaping (game.py), so they are written and not encoded.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from pipeline.event import Action, Rank, datetime_of

_RAND_B: Final = 2**62 - 1
_VARIANT: Final = 0b10 << 62

# The third group of an id: version 7, and twelve bits of chance.
_THIRDS: Final = tuple(f"7{rand_a:03x}" for rand_a in range(2**12))
_TWO_DIGITS: Final = tuple(f"{number:02}" for number in range(60))
# Milliseconds as the encoder writes them: to the microsecond, or not at all.
_FRACTIONS: Final = ("", *(f".{millis:03}000" for millis in range(1, 1000)))


def payload(
    ts_ms: int,
    chance: int,
    player: str,
    action: Action,
    xp_delta: int,
    karma_delta: int,
    karma_total: int,
    rank: Rank,
    energy_source: str | None,
    seq: int,
    details: str,
) -> bytes:
    """The event as it goes onto the stream. ``chance`` is the 74 random bits of its id."""
    head, ts = _moment(ts_ms)
    # Groups of two and six bytes, with a dash between them.
    tail = (_VARIANT | chance & _RAND_B).to_bytes(8, "big").hex("-", 6)
    source = "null" if energy_source is None else f'"{energy_source}"'
    return (
        f'{{"id":"{head}-{_THIRDS[chance >> 62]}-{tail}","player":"{player}",'
        f'"action":"{action}","xp_delta":{xp_delta},"karma_delta":{karma_delta},'
        f'"karma_total":{karma_total},"rank":"{rank}","energy_source":{source},'
        f'"ts":"{ts}","seq":{seq},"details":{details}}}'
    ).encode()


@lru_cache(maxsize=1)
def _moment(ts_ms: int) -> tuple[str, str]:
    """What the time fixes: the first 48 bits of an id, and the text of ``ts``."""
    head = ts_ms.to_bytes(6, "big").hex("-", -4)
    return head, f"{_second(ts_ms // 1000)}{_FRACTIONS[ts_ms % 1000]}Z"


@lru_cache(maxsize=1)
def _second(number: int) -> str:
    """The second of that number since 1970, in RFC 3339."""
    hour, seconds = divmod(number, 3600)
    return f"{_hour(hour)}:{_TWO_DIGITS[seconds // 60]}:{_TWO_DIGITS[seconds % 60]}"


@lru_cache(maxsize=1)
def _hour(number: int) -> str:
    """The hour of that number since 1970, as RFC 3339 begins."""
    return datetime_of(number * 3_600_000).strftime("%Y-%m-%dT%H")
