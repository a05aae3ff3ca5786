"""Make: a database and a number of days flow in, a page on the shelf flows out, and what it took."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from analytics import data
from analytics.known import known_period
from analytics.period import Period
from analytics.report import shelf
from analytics.report.freshness import freshness
from analytics.report.headline import headline
from analytics.report.page import page
from analytics.report.run import ALL_S, Ran, Tell, run
from pipeline.patience import Stopped

NOTEBOOKS: Final = Path(__file__).resolve().parents[1] / "notebooks"


@dataclass(frozen=True)
class Made:
    """A report."""

    path: Path
    period: Period
    notebooks: tuple[Ran, ...]

    @property
    def failed(self) -> tuple[Ran, ...]:
        """The notebooks that did not come to their end."""
        return tuple(ran for ran in self.notebooks if ran.section.failure)

    @property
    def peak_bytes(self) -> int | None:
        """The memory of the largest kernel; None where nobody knows."""
        return max((ran.peak_bytes for ran in self.notebooks if ran.peak_bytes), default=None)


def make(
    database_url: str,
    days: int,
    folder: Path,
    keep: int,
    *,
    stop: threading.Event,
    tell: Tell,
    notebooks: Path = NOTEBOOKS,
    all_s: float = ALL_S,
) -> Made:
    """Run the notebooks of a folder, in the order of their names, on so many days up to yesterday; up to
    today where nothing is known of a day before.

    Raises CannotWrite, Stopped, and the database's errors; then there is no page.
    """
    shelf.prepare(folder)
    if stop.is_set():
        raise Stopped
    engine = data.reader(database_url)
    period = known_period(engine, days)
    reached, numbers = freshness(engine), headline(engine, period)
    ran = run(
        sorted(notebooks.glob("*.ipynb")), database_url, period, stop=stop, tell=tell, all_s=all_s
    )
    made = page(period, reached, numbers, [one.section for one in ran])
    return Made(shelf.put(folder, made, reached.at, keep), period, tuple(ran))
