"""What a notebook is saved without."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from analytics.clean import without_outputs

_MODEL: dict[str, Any] = {
    "type": "notebook",
    "content": {
        "metadata": {"language_info": {"name": "python", "version": "3.11.7"}},
        "cells": [
            {
                "cell_type": "code",
                "source": "1",
                "outputs": [{"output_type": "stream"}],
                "execution_count": 3,
                "metadata": {"execution": {}, "tags": ["report"]},
            },
            {"cell_type": "markdown", "source": "# Why?", "metadata": {}},
        ],
    },
}


@pytest.mark.parametrize("path", ["notebooks/01_tour.ipynb", "/notebooks/01_tour.ipynb"])
def test_ours_is_saved_without_what_it_showed(path: str) -> None:
    """Neither outputs nor numbers of runs nor this machine's Python; the code and its tags stay."""
    model = copy.deepcopy(_MODEL)
    without_outputs(model, path)
    code, words = model["content"]["cells"]
    assert (code["outputs"], code["execution_count"]) == ([], None)
    assert (code["metadata"], code["source"]) == ({"tags": ["report"]}, "1")
    assert words == _MODEL["content"]["cells"][1]
    assert model["content"]["metadata"]["language_info"] == {"name": "python"}


@pytest.mark.parametrize(
    "path", ["work/01_tour.ipynb", "notebooks.ipynb", "mine/notebooks/x.ipynb"]
)
def test_others_are_saved_as_they_are(path: str) -> None:
    """A user's notebook keeps what it showed."""
    model = copy.deepcopy(_MODEL)
    without_outputs(model, path)
    assert model == _MODEL


def test_what_is_no_notebook_is_left_alone() -> None:
    """A file or folder in the same place has no cells."""
    without_outputs({"type": "file", "content": "x"}, "notebooks/x.csv")
