"""Failpoints: a name in the environment flows in, a process killed at that point of the code flows out.

``FAILPOINT=after_commit:3`` makes a process kill itself, as kill -9 would, when it passes that point for
the third time. The crash matrix of the tests kills at every point; nothing else sets the variable.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Final, Literal, get_args

Point = Literal[
    "after_read",
    "mid_copy",
    "before_commit",
    "after_commit",
    "after_ack",
    "in_claim",
    "in_quarantine",
    "in_trim",
    "in_replay",
    "in_release",
    "in_rollup",
    "in_forget",
    "in_retention",
    "in_shadow",
    "in_swap",
    "in_archive",
    "in_rewrite",
    "in_fix",
    "in_import",
]
POINTS: Final[tuple[Point, ...]] = get_args(Point)

VARIABLE: Final = "FAILPOINT"
_passed: Final[Counter[str]] = Counter()


def reached(point: Point) -> None:
    """Die here if the environment says so; costs a look into a dictionary otherwise."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    name, _, times = wanted.partition(":")
    if name == point:
        _passed[point] += 1
        if _passed[point] >= int(times or 1):
            os.kill(os.getpid(), signal.SIGKILL)
