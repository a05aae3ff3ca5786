"""Notebook: what the first cell of each does, and how a cell shows what it found.

A report runs the notebooks on days of its choosing: it says so in DAYS and UNTIL.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from datetime import date
from typing import Final

import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sqlalchemy import Engine

from analytics import data, period
from analytics.known import known_period
from analytics.period import DAYS, UNTIL, Period
from analytics.plots import style

# What is shown goes by these types: a plot with its title as text, and a sentence.
SVG: Final = "image/svg+xml"
TEXT: Final = "text/plain"
MARKDOWN: Final = "text/markdown"
# What begins a tag, an entity, a link or a picture in Markdown, as what is only read. JupyterLab trusts what
# a cell has just shown, and would run a script out of a mission's name.
_READ: Final = str.maketrans({begin: f"&#{ord(begin)};" for begin in "&<["})
# What may stand in a name, and in no XML: a browser shows nothing of a picture that has one.
_NO_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True)
class Notebook:
    """What a notebook asks: a database, and the days that it is about."""

    engine: Engine
    period: Period

    def _repr_markdown_(self) -> str:
        """What a cell that ends in it shows."""
        return f"About **{self.period}**, UTC days."


def start(days: int = 30) -> Notebook:
    """Connect, choose so many days up to yesterday, and draw in our style.

    Where a report runs the notebook, the days are those of the report. Raises SettingsError without a
    database.
    """
    style.use()
    engine = data.connect()
    return Notebook(engine, _chosen(engine, days))


def _chosen(engine: Engine, days: int) -> Period:
    until = os.environ.get(UNTIL)
    days = int(os.environ.get(DAYS, days))
    return period.ending(date.fromisoformat(until), days) if until else known_period(engine, days)


def show(drawn: Axes | Figure) -> None:
    """Show a plot, sharp at every size, with its title for those who cannot see it; and be done with it."""
    figure = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    if figure is None:
        raise ValueError("These axes are on no figure.")
    title = style.title_of(figure)
    if UNTIL in os.environ:
        # A report says it above the plot, as text that fits every screen.
        figure.suptitle("").set_in_layout(False)
    picture = io.StringIO()
    # Without the date, the same plot is the same file.
    figure.savefig(picture, format="svg", metadata={"Date": None})
    plt.close(figure)
    _display({SVG: _NO_XML.sub("\ufffd", picture.getvalue()), TEXT: title})


def say(sentence: str) -> None:
    """Show a sentence, in Markdown without HTML, links and pictures: names in it are a sender's choice."""
    # Not as a Markdown object: that takes what begins with "http" for an address, and loads it.
    _display({MARKDOWN: sentence.translate(_READ), TEXT: sentence})


def _display(shown: dict[str, str]) -> None:
    display(shown, raw=True)
