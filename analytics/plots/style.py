"""Style: how every plot looks. A theme, colours that mean the same everywhere, and a heading.

The colours are Okabe and Ito's, told apart by people who are colour-blind, and on paper by how dark they are:
what is of heroes is blue, of villains vermilion, wherever it stands.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter

from analytics.frames import HERO, NEUTRAL, VILLAIN

BLUE: Final = "#0072b2"
VERMILION: Final = "#d55e00"
GREEN: Final = "#009e73"
AMBER: Final = "#e69f00"
PURPLE: Final = "#a6618b"
SKY: Final = "#56b4e9"
GREY: Final = "#8a8a8a"
PALE: Final = "#d0d0d0"
INK: Final = "#262626"
SOFT: Final = "#5f5f5f"

# One thing of many; another beside it that is not about sides.
MAIN: Final = BLUE
OTHER: Final = AMBER
OF_SIDE: Final[Mapping[str, str]] = {HERO: BLUE, NEUTRAL: GREY, VILLAIN: VERMILION}
OF_RANK: Final[Mapping[str, str]] = {
    "Infamous": "#8c2d04",
    "Outlaw": VERMILION,
    "Thug": "#f5a26b",
    "Neutral": "#b5b5b5",
    "Guardian": "#8cc3e3",
    "Champion": BLUE,
    "Hero": "#083d63",
}
OF_ACTION: Final[Mapping[str, str]] = {
    "kill_enemy": BLUE,
    "kill_civilian": VERMILION,
    "moral_choice": PURPLE,
    "recharge": AMBER,
    "mission_complete": GREEN,
    "ability_upgrade": SKY,
}
# From none to much, and from evil over neither to good.
AMOUNT: Final = LinearSegmentedColormap.from_list("amount", ["#f7fbff", "#9ecae1", BLUE, "#083d63"])
KARMA: Final = LinearSegmentedColormap.from_list(
    "karma", ["#8c2d04", VERMILION, "#f7f7f7", BLUE, "#083d63"]
)

_POINTS_AN_INCH: Final = 72
# Beside a subtitle, the axis' labels take their room.
_LABELS_INCH: Final = 1.0
# Nothing takes no room.
_NOTHING_INCH: Final = 1.8

_THEME: Final[dict[str, Any]] = {
    "axes.edgecolor": "#b0b0b0",
    "axes.labelcolor": SOFT,
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "figure.figsize": (9.0, 4.6),
    "font.sans-serif": ["DejaVu Sans"],
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "lines.linewidth": 2.2,
    "svg.fonttype": "path",
    # The same plot is the same file.
    "svg.hashsalt": "infamous",
    "text.color": INK,
    # A name is what its sender wrote, dollars and all.
    "text.parse_math": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
}


def use() -> None:
    """Draw everything from here on in this style: large enough to be read from the back of a room.

    Of a style of the user's own, as their `matplotlibrc` gives it, nothing is left.
    """
    plt.rcdefaults()
    sns.set_theme(style="whitegrid", context="notebook", font_scale=1.05, rc=_THEME)
    # A name in a script that the font lacks is drawn as boxes: there is nothing to be done about it here.
    warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)


def canvas(height: float = 4.6, width: float = 9.0) -> Axes:
    """An empty plot of this size in inches."""
    return plt.subplots(figsize=(width, height))[1]


def headed(axes: Axes, title: str, subtitle: str = "") -> Axes:
    """Say above a plot what was found, and below that, smaller, what is drawn and in what unit."""
    figure = axes.get_figure(root=True)
    # Sizes are those of the theme, once it is chosen.
    large, medium = FontProperties(size="x-large", weight="bold"), FontProperties(size="medium")
    if figure is not None:
        width = figure.get_figwidth()
        subtitle = _wrapped(subtitle, medium, width - _LABELS_INCH)
        title = _wrapped(title, large, width)
        figure.suptitle(title, x=0.01, ha="left", fontproperties=large, color=INK)
    axes.set_title(subtitle, loc="left", fontproperties=medium, color=SOFT, pad=10)
    sns.despine(ax=axes, left=True)
    return axes


def _wrapped(text: str, font: FontProperties, inches: float) -> str:
    """The same in lines that are no wider. By hand: what matplotlib wraps has no height while a plot is laid
    out, and is taken for mathematics whatever it is told.
    """
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _inches(longer, font) <= 0.96 * inches:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > 1 and " " not in lines[-1] and " " in lines[-2]:
        # No word is left alone, least of all a unit.
        lines[-2], _, last = lines[-2].rpartition(" ")
        lines[-1] = f"{last} {lines[-1]}"
    return "\n".join(lines)


def cut(text: str, inches: float) -> str:
    """A label cut to so much room: letters differ in width, and a sender's may all be wide."""
    font = FontProperties(size="medium")
    while text and _inches(text, font) > inches:
        text = f"{text.removesuffix('…')[:-1].rstrip()}…" if len(text) > 2 else ""
    return text


def _inches(text: str, font: FontProperties) -> float:
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / _POINTS_AN_INCH


def title_of(figure: Figure) -> str:
    """What a figure's heading says."""
    return figure.get_suptitle().replace("\n", " ")


def nothing(axes: Axes, title: str, why: str) -> Axes:
    """A plot of nothing: it says so, and what there would have to be; in no more room than that takes."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=SOFT)
    figure = axes.get_figure(root=True)
    if figure is not None:
        figure.set_figheight(_NOTHING_INCH)
    return headed(axes, title)


def percent_axis(axis: Axis, digits: int = 0) -> None:
    """Label an axis of shares, 0 to 1, in percent."""
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.{digits}f}%"))


def thousands_axis(axis: Axis) -> None:
    """Label an axis of counts: 12,000."""
    axis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))


def day_axis(axis: Axis, days: int) -> None:
    """Label an axis of UTC days, so many, as short as can be: with days, never with hours."""
    if days <= 10:
        axis.set_major_locator(dates.DayLocator())
        axis.set_major_formatter(dates.DateFormatter("%-d %b"))
        return
    locator = dates.AutoDateLocator()
    axis.set_major_locator(locator)
    axis.set_major_formatter(dates.ConciseDateFormatter(locator))
