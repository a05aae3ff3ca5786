"""``python -m infamous.prove.saboteur``: the consumer with one promise broken, to see that it is noticed.

It acknowledges before it stores, so whatever is in hand at a kill is lost. A proof that stays green with
it proves nothing. It lives here, so that no setting can make a real consumer do the same.
"""

from __future__ import annotations

import sys

import consumer.__main__
from consumer.batch import Batch
from consumer.worker import Worker


class Saboteur(Worker):
    """A consumer that promises too early."""

    def _begin(self, batch: Batch) -> None:
        if batch.ids:
            self.source.owe(batch.by_key)
            self._redis(self.source.ack)
        super()._begin(batch)


def main() -> int:
    """Run the consumer with this worker in the place of the real one."""
    setattr(consumer.__main__, "Worker", Saboteur)  # noqa: B010  # to mypy its import is not for others
    return consumer.__main__.main()


if __name__ == "__main__":
    sys.exit(main())
