"""The page: sections, numbers and how far the data reach flow in, one page of HTML flows out. Pure.

It is a file to be sent on: everything is in it, it loads nothing and runs nothing. Names that players gave
themselves stand in it as text, in plots and out of them: a plot is an image of which a browser runs no
script, and a rule at the top of the page forbids all else.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from analytics import words
from analytics.period import Period
from analytics.report.extract import Plot, Section
from analytics.report.freshness import Freshness
from analytics.report.headline import Headline

# Emphasis, code and lists. No links, no pictures and no HTML: what they lead to is somebody else's to say.
_MARKDOWN: Final = MarkdownIt("zero").enable(
    ["list", "emphasis", "backticks", "escape", "newline", "entity"]
)
_TEMPLATES: Final = Environment(
    loader=PackageLoader("analytics.report", ""),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(
    period: Period,
    freshness: Freshness,
    headline: Headline,
    sections: Sequence[Section],
) -> str:
    """The whole page, in the order of the sections."""
    return _TEMPLATES.get_template("page.html").render(
        period=period,
        days=words.counted(period.days, "day"),
        made_at=_moment(freshness.at),
        facts=freshness.facts(),
        warnings=freshness.warnings(period),
        headline=headline,
        sections=[_Told(section) for section in sections if not section.is_silent],
        silent=[f"{section.name}.ipynb" for section in sections if section.is_silent],
    )


class _Told:
    """A section, as the template shows it."""

    def __init__(self, section: Section) -> None:
        self.name, self.title, self.failure = section.name, section.title, section.failure
        self.inline_title = _inline(section.title)
        self.why = _blocks(section.why)
        self.findings = [_inline(finding) for finding in section.findings]
        self.shown = [
            (_data_of(one), one.title, None)
            if isinstance(one, Plot)
            else (None, None, _blocks(one.text))
            for one in section.shown
        ]


def _inline(text: str) -> Markup:
    return Markup(_MARKDOWN.renderInline(text.replace("\n", " ")))  # noqa: S704  # escaped by it


def _blocks(text: str) -> Markup:
    return Markup(_MARKDOWN.render(text))  # noqa: S704  # escaped by it


def _data_of(plot: Plot) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(plot.svg.encode()).decode()}"


def _moment(moment: datetime) -> str:
    return f"{moment:%-d %b %Y, %H:%M} UTC"
