"""Extract: an executed notebook flows in, the section that a report makes of it flows out. Pure.

A notebook says by tags what belongs on the page: of the cells tagged ``report`` its plots and sentences, and
as what was found the sentences of the cell tagged ``finding``. Both are what `analytics.notebook` shows.
Tables, prints and other pictures stay in the notebook.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

REPORT: Final = "report"
FINDING: Final = "finding"
SVG: Final = "image/svg+xml"
_ALT: Final = "text/plain"
_MARKDOWN: Final = "text/markdown"
_HEADING: Final = re.compile(r"#\s+(.+?)\s*#*\s*(?:\n|\Z)")


@dataclass(frozen=True)
class Plot:
    """A picture, as SVG, and its title, which is not in it."""

    svg: str
    title: str


@dataclass(frozen=True)
class Sentence:
    """Text, in Markdown."""

    text: str


@dataclass(frozen=True)
class Section:
    """What a notebook has to say."""

    # The notebook's file, without its ending.
    name: str
    # Its question.
    title: str
    # Why it is asked, in Markdown.
    why: str
    # What was found, in Markdown.
    findings: tuple[str, ...]
    shown: tuple[Plot | Sentence, ...]
    # Why there is nothing, or not all of it.
    failure: str | None = None

    @property
    def is_silent(self) -> bool:
        """Whether nothing in the notebook is marked for a report, though it came to its end."""
        return not (self.findings or self.shown or self.failure)


def section(name: str, notebook: Mapping[str, Any], failure: str | None = None) -> Section:
    """What the notebook of this name has to say; ``failure`` is what kept it from its end, in a sentence.

    The title is the first heading of its first Markdown cell, and the rest of that cell says why it is
    asked; without a heading the title is the name.
    """
    cells: Sequence[Mapping[str, Any]] = notebook.get("cells", ())
    title, why = _question(cells)
    return Section(
        name=name,
        title=title or re.sub(r"^\d+[_-]*|[_-]+", " ", name).strip().capitalize() or name,
        why=why,
        findings=tuple(
            output.text for output in _shown(cells, FINDING) if isinstance(output, Sentence)
        ),
        shown=tuple(_shown(cells, REPORT)),
        failure=failure,
    )


def _question(cells: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    for cell in cells:
        if cell.get("cell_type") == "markdown":
            source = _text(cell.get("source"))
            heading = _HEADING.match(source.lstrip())
            if heading is None:
                return "", source.strip()
            return heading[1], source.lstrip()[heading.end() :].strip()
    return "", ""


def _shown(cells: Sequence[Mapping[str, Any]], tag: str) -> Iterator[Plot | Sentence]:
    for cell in cells:
        if tag not in cell.get("metadata", {}).get("tags", ()):
            continue
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if SVG in data:
                yield Plot(_text(data[SVG]), _text(data.get(_ALT)).strip())
            elif text := _text(data.get(_MARKDOWN)).strip():
                yield Sentence(text)


def _text(value: Any) -> str:
    """A notebook keeps text as it is, or as its lines."""
    return "".join(value) if isinstance(value, list | tuple) else str(value or "")
