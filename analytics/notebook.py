"""Notebook: what the first cell of each does, and how a cell shows what it found.

A report runs the notebooks on days of its choosing: it says so in DAYS and UNTIL.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sqlalchemy import Engine

from analytics import data, period, words
from analytics.known import known_period
from analytics.period import DAYS, UNTIL, Period
from analytics.plots import style

# What is shown goes by these types: a plot with its title as text, and a sentence.
SVG: Final = "image/svg+xml"
TEXT: Final = "text/plain"
MARKDOWN: Final = "text/markdown"
HTML: Final = "text/html"
# What may stand in a name, and in no XML: a browser shows nothing of a picture that has one.
_NO_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True)
class Notebook:
    """What a notebook asks: a database, and the days that it is about."""

    engine: Engine
    period: Period

    @property
    def up_to_now(self) -> Period:
        """The same days, and today where they end yesterday: for what should be seen as it is now."""
        return period.up_to_now(self.period, datetime.now(UTC).date())


def start(days: int = 30) -> Notebook:
    """Connect, choose so many days up to yesterday, and draw in our style.

    Where a report runs the notebook, the days are those of the report. Raises SettingsError without a
    database.
    """
    style.use()
    _use_whole_tables()
    engine = data.connect()
    return Notebook(engine, _chosen(engine, days))


def _use_whole_tables() -> None:
    """Show a sentence in a table whole, and a dollar as a dollar."""
    pd.set_option("display.max_colwidth", 160)
    pd.set_option("display.html.use_mathjax", False)


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


def table(frame: pd.DataFrame) -> None:
    """Show a frame to be read: words on the left, numbers on the right, no index. Nothing in it is HTML."""
    if frame.empty:
        say("There are none.")
        return
    text = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    shown = frame.assign(**{str(name): _plain(frame[name]) for name in text})
    styled = shown.style.hide(axis="index")
    styled.format(escape="html", thousands=",", precision=1, na_rep=words.DASH)
    styled.format_index(escape="html", axis="columns")
    styled.set_properties(subset=text, **{"text-align": "left"})
    places = [list(frame).index(name) for name in text]
    styled.set_table_styles(
        [{"selector": f"th.col{place}", "props": "text-align: left"} for place in places]
    )
    # By what it looks like, and not by chance: the same table is the same text.
    styled.set_uuid(f"{zlib.crc32(repr((list(frame), text)).encode()):08x}")
    plain = shown.to_string(index=False, na_rep=words.DASH)
    _display({HTML: styled.to_html(), TEXT: plain})


def _plain(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column of words; moments are those of a UTC day where they all are, else to the second."""
    if not pd.api.types.is_datetime64_any_dtype(column):
        return column
    is_days = bool((column.dropna().dt.normalize() == column.dropna()).all())
    shown: pd.Series[Any] = column.dt.strftime("%-d %b %Y" if is_days else "%-d %b %Y, %H:%M:%S")
    return shown


def say(sentence: str) -> None:
    """Show a sentence as it is: names in it are their senders', and no markup. JupyterLab trusts what a cell
    has just shown, and would run a script out of a mission's name.
    """
    # Not as a Markdown object: that takes what begins with "http" for an address, and loads it.
    _display({MARKDOWN: words.literal(sentence), TEXT: sentence})


def _display(shown: dict[str, str]) -> None:
    display(shown, raw=True)
