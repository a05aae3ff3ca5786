"""How a cell shows what it found: a plot with its title, a table to be read, a sentence."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes

from analytics import notebook
from analytics.frames import typed
from analytics.notebook import HTML, MARKDOWN, SVG, TEXT
from analytics.plots import style


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What was handed to the page."""
    kept: list[dict[str, str]] = []
    monkeypatch.setattr(notebook, "_display", kept.append)
    style.use()
    return kept


def _drawn(title: str = "Half of all stay", subtitle: str = "Players by day") -> Axes:
    axes = style.canvas()
    axes.plot([1, 2], [3, 4])
    return style.headed(axes, title, subtitle)


def test_a_plot_is_shown_with_its_title_and_put_away(shown: list[dict[str, str]]) -> None:
    """Who cannot see it is read what it says, and a long notebook does not fill the memory."""
    notebook.show(_drawn())
    (bundle,) = shown
    assert bundle[TEXT] == "Half of all stay"
    assert "<svg" in bundle[SVG]
    assert plt.get_fignums() == []


def test_the_same_plot_is_the_same_picture(shown: list[dict[str, str]]) -> None:
    """A report that says the same is the same file."""
    notebook.show(_drawn())
    notebook.show(_drawn())
    assert shown[0] == shown[1]


_word = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=12)


@given(st.lists(_word, min_size=1, max_size=25).map(" ".join))
def test_a_title_is_on_the_page_whatever_it_says(title: str) -> None:
    """No line is wider than the figure, no word is lost, and none stands alone on the last line."""
    style.use()
    axes = _drawn(title, title)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    assert style.title_of(figure) == title
    (drawn,) = figure.texts
    for text in (drawn, axes._left_title):  # type: ignore[attr-defined]
        assert text.get_window_extent().x1 <= figure.bbox.x1
    plt.close(figure)


def test_a_long_title_leaves_no_word_alone() -> None:
    """A unit least of all."""
    style.use()
    axes = _drawn("Half of the events are stored within 4 ms, 99 of 100 of them within 3 s", "x")
    figure = axes.get_figure(root=True)
    assert figure is not None
    assert figure.get_suptitle().endswith("3 s")
    assert len(figure.get_suptitle().rpartition("\n")[2].split()) > 1


def test_a_name_is_no_mathematics() -> None:
    """A dollar is a dollar, in a title as on an axis."""
    style.use()
    axes = _drawn("$\\frac{x$ is Hero", "$^$")
    axes.set(xlabel="$_{$", ylabel="$\\nothing$")
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()


def test_a_table_is_to_be_read(shown: list[dict[str, str]]) -> None:
    """Words on the left, numbers with thousands, days as days, a dash for nothing, and no index."""
    notebook.table(
        typed(
            [
                ("a", 12345, 1.25, date(2026, 11, 1), datetime(2026, 11, 1, 7, 5, tzinfo=UTC)),
                (None, 7, None, None, None),
            ],
            [("name", 25), ("events", 20), ("share", 701), ("day", 1082), ("at", 1184)],
        )
    )
    (bundle,) = shown
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", bundle[HTML])
    assert cells == ["a", "12,345", "1.2", "1 Nov 2026", "1 Nov 2026, 07:05:00", *"–7–––"]
    assert bundle[HTML].count("<th ") == 5
    left = re.findall(r"#T_\w+ th\.col(\d)", bundle[HTML])
    assert left == ["0", "3", "4"]
    assert "12345" in bundle[TEXT]


def test_nothing_in_a_table_is_markup(shown: list[dict[str, str]]) -> None:
    """Neither a cell nor, as it may come from a pivot, a heading."""
    notebook.table(pd.DataFrame({"<b>x</b>": ["<script>alert(1)</script>"]}))
    assert "<script" not in shown[0][HTML]
    assert "&lt;script&gt;" in shown[0][HTML]
    assert "<b>" not in shown[0][HTML]


def test_the_same_table_is_the_same_text(shown: list[dict[str, str]]) -> None:
    """Pandas would name each by chance."""
    for _ in range(2):
        notebook.table(pd.DataFrame({"a": ["x"], "b": [1]}))
    assert shown[0] == shown[1]


def test_an_empty_table_says_so(shown: list[dict[str, str]]) -> None:
    """A heading without a row looks like something that failed."""
    notebook.table(pd.DataFrame({"a": []}))
    (said,) = shown
    assert said[MARKDOWN] == "There are none."
