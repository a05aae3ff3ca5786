"""How every plot looks."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
import seaborn as sns

from analytics.plots import style


@pytest.mark.filterwarnings("error")
def test_a_long_subtitle_leaves_room_for_a_heat_map() -> None:
    """It takes two lines, not one a word: a heat map is drawn once before anything stands above it."""
    style.use()
    axes = style.canvas()
    sns.heatmap(np.eye(7), ax=axes)
    style.headed(axes, "A title", "A subtitle of very many words, " * 5)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    assert axes.get_position().height > 0.5


def test_a_style_of_the_users_own_is_left_out() -> None:
    """Text that TeX sets, or colours for the dark, would be on the page, or no page would come."""
    with mpl.rc_context({"text.usetex": True, "savefig.facecolor": "black"}):
        style.use()
        assert not mpl.rcParams["text.usetex"]
        assert mpl.rcParams["savefig.facecolor"] == "auto"
