"""Needs: which of a report's packages are missing here flows out; none of them is loaded."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

_PACKAGES: Final = (
    "ipykernel",
    "jinja2",
    "markdown_it",
    "matplotlib",
    "nbclient",
    "pandas",
    "scipy",
    "seaborn",
    "sklearn",
)


def missing() -> list[str]:
    """The names of those that are not installed."""
    return [name for name in _PACKAGES if find_spec(name) is None]
