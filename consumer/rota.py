"""The rota: what is known of each stream flows in, whose turn it is to be read from flows out. Pure.

Consumers of one group may all read from every stream, and nothing is handed out twice. So a share of the
streams is a preference: each reads its own first, a page from each in turn, so that a flood on one keeps none
of the others waiting. Who finds its own at rest glances at those of others, one at a time, and helps where
there is more than its owner takes; so nothing waits for a consumer that is gone, either. Who has much to do
glances too, seldom: nothing waits for one that is there and cannot reach what is its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

# At rest because it is another's: nobody looked.
_UNSEEN: Final = b""


def share(keys: Sequence[str], members: Iterable[str], me: str) -> tuple[str, ...]:
    """One's own of the streams, as every member works it out for itself: none has two more than another.

    Where there are more members than streams, several share one.
    """
    names = sorted({*members, me})
    place = names.index(me)
    if len(names) <= len(keys):
        return tuple(keys[place :: len(names)])
    return (keys[place % len(keys)],)


class Rota:
    """Whose turn it is."""

    def __init__(self, keys: Sequence[str]) -> None:
        """All are one's own until ``share_out`` says another thing."""
        self.keys = tuple(keys)
        self.own = self.keys
        # Nothing more waits behind these entries, as far as is known.
        self.resting: dict[str, bytes] = {}
        self._away: set[str] = set()
        # When each was read from last, by a clock that counts turns.
        self._turns = dict.fromkeys(self.keys, 0)
        self._turn = 0
        # Another's, that is to be looked at before one's own.
        self._glanced_at: str | None = None

    def add(self, keys: Iterable[str]) -> None:
        """Streams that were not known before; one's own for now."""
        new = tuple(key for key in keys if key not in self._turns)
        # First their turns: the thread that reads may come upon them at once.
        self._turns |= dict.fromkeys(new, 0)
        self.keys, self.own = self.keys + new, self.own + new

    def share_out(self, own: Collection[str]) -> None:
        """Which are one's own from now on."""
        self.own = tuple(key for key in self.keys if key in own)
        for key in self._others():
            self.resting[key] = _UNSEEN
        for key in self.own:
            if self.resting.get(key) == _UNSEEN:
                self.wake(key)

    def _others(self) -> tuple[str, ...]:
        return tuple(key for key in self.keys if key not in self.own)

    def next(self) -> str | None:
        """The stream to read from: of one's own, then of others, that which was not for the longest time."""
        key, self._glanced_at = self._glanced_at, None
        if key is not None and key not in self._away:
            return self._take([key])
        for keys in (self.own, self._others()):
            ready = [key for key in keys if key not in self.resting and key not in self._away]
            if ready:
                return self._take(ready)
        return None

    def has_more(self) -> bool:
        """Whether any is to be read from."""
        return any(key not in self.resting and key not in self._away for key in self.keys)

    def glance(self) -> None:
        """Let one that is not one's own have the next turn: its owner may leave something lying."""
        others = [key for key in self._others() if key not in self._away]
        if others:
            self._glanced_at = self._take(others)
            self.wake(self._glanced_at)

    def _take(self, keys: Iterable[str]) -> str:
        key = min(keys, key=self._turns.__getitem__)
        self._turn += 1
        self._turns[key] = self._turn
        return key

    def rest(self, key: str, last_id: bytes) -> None:
        """Nothing more waits there."""
        self.resting[key] = last_id

    def wake(self, key: str) -> None:
        """Something may wait there."""
        self.resting.pop(key, None)

    def lose(self, keys: Iterable[str]) -> None:
        """They cannot be reached; of those that are away they are the last to be tried again."""
        lost = [key for key in keys if key in self._turns]
        self._away.update(lost)
        self._turn += 1
        self._turns |= dict.fromkeys(lost, self._turn)

    def regain(self, key: str) -> None:
        """It answers."""
        self._away.discard(key)

    @property
    def away(self) -> tuple[str, ...]:
        """Those that cannot be reached, first those that were not tried for the longest time."""
        return tuple(
            sorted((key for key in self.keys if key in self._away), key=self._turns.__getitem__)
        )

    @property
    def is_all_away(self) -> bool:
        """Whether none can be reached."""
        return len(self._away) == len(self.keys)

    def own_at_rest(self) -> dict[str, bytes]:
        """One's own at which nothing waits, and behind which entry."""
        # Looked up once: another thread may wake one, or share out anew, in between.
        return {
            key: after
            for key in self.own
            if (after := self.resting.get(key, _UNSEEN)) != _UNSEEN and key not in self._away
        }
