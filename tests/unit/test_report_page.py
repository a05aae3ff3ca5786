"""The report's page: what it says of numbers and of their age, and that nothing in it is alive. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.period import Period
from analytics.replica import Replica
from analytics.report.extract import Plot, Section, Sentence, section
from analytics.report.freshness import Freshness
from analytics.report.headline import Headline, Number, comparable, numbers
from analytics.report.page import page

PERIOD: Final = Period(date(2026, 11, 21), date(2026, 11, 27))
AT: Final = datetime(2026, 11, 28, 4, 30, tzinfo=UTC)
FRESH: Final = Freshness(
    at=AT,
    oldest_event=AT - timedelta(days=45),
    newest_event=AT - timedelta(minutes=2),
    rolled_up_to=AT.replace(hour=5, minute=0),
    complete_to=AT - timedelta(seconds=3),
    first_day=PERIOD.first,
)
REPLICA: Final = Replica(AT, AT - timedelta(seconds=2), 7, has_all=False)
NOTHING: Final = Headline(numbers({}, None), None)
SVG: Final = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="5"/>'
PLAYED: Final = Section(
    "02_players", "Who comes back?", "Why *this* matters.", ("38% do.",), (Plot(SVG, "38% do"),)
)
# What a sender may call a player, a mission or a district.
HOSTILE: Final = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></head><body onload=alert(1)>",
    "[here](javascript:alert(1))",
    "![here](https://evil.example/x.png)",
    "<https://evil.example>",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "' onmouseover='alert(1)",
    "&lt;b&gt;",
    "https://evil.example/x",
    "/etc/hostname",
)
# What a browser may find in it, and do.
ELEMENTS: Final = frozenset({
    "html", "head", "meta", "title", "link", "style", "body", "header", "main", "footer",
    "nav", "section", "div", "figure", "figcaption", "img", "h1", "h2", "p", "a", "dl", "dt",
    "dd", "ol", "ul", "li", "em", "strong", "code", "br",
})  # fmt: skip
ATTRIBUTES: Final = frozenset({
    "alt", "aria-hidden", "aria-label", "aria-labelledby", "charset", "class", "content",
    "href", "http-equiv", "id", "lang", "name", "rel", "role", "src",
})  # fmt: skip


class Looked(HTMLParser):
    """Every element of a page, with its attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note it."""
        self.text += data

    def of(self, tag: str) -> Iterator[dict[str, str | None]]:
        """The attributes of the elements of this kind."""
        return (attributes for name, attributes in self.elements if name == tag)


def looked(
    *sections: Section, headline: Headline = NOTHING, freshness: Freshness = FRESH
) -> Looked:
    """The page of these, read as a browser reads it."""
    return Looked(page(PERIOD, freshness, headline, sections))


def assert_lifeless(found: Looked) -> None:
    """Nothing in it runs, loads or leads anywhere else."""
    for tag, attributes in found.elements:
        assert tag in ELEMENTS
        assert set(attributes) <= ATTRIBUTES, tag
    assert all(
        (one["src"] or "").startswith("data:image/svg+xml;base64,") for one in found.of("img")
    )
    assert all((one["href"] or "").startswith("#part-") for one in found.of("a"))
    assert [one["href"] for one in found.of("link")] == ["data:,"]


# --- safe


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_somebody_is_called_is_text(name: str) -> None:
    """In a title, a finding, a sentence, a reason, the name of a plot or a file: it is read, not obeyed."""
    found = looked(
        Section(name, name, name, (name,), (Plot(SVG, name), Sentence(name)), name),
        Section(name, name, "", (), ()),
    )
    assert_lifeless(found)
    assert [one["alt"] for one in found.of("img")] == [name]
    assert "alert(1)" in found.text or "alert" not in name
    assert "49" not in found.text


@given(st.text(max_size=200), st.text(max_size=50))
def test_no_text_breaks_out(text: str, alt: str) -> None:
    """Whatever a notebook says."""
    assert_lifeless(looked(Section("n", text, text, (text,), (Plot(SVG, alt), Sentence(text)))))


def test_no_address_but_its_own() -> None:
    """The page is all there is: no script, no font, no picture of anywhere, in the markup or the style."""
    html = page(PERIOD, FRESH, NOTHING, [PLAYED])
    bare = re.sub(r"data:image/svg\+xml;base64,[A-Za-z0-9+/=]+", "", html)
    for word in ("http:", "https:", "//", "url(", "@import", "<script", "javascript:", " style="):
        assert word not in bare
    policies = [one["content"] for one in Looked(html).of("meta") if one.get("http-equiv")]
    assert len(policies) == 1
    assert (policies[0] or "").startswith(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    )


def test_a_picture_is_the_one_of_the_notebook() -> None:
    """Byte for byte, as an image, in which a browser runs no script; named by its title, or the question."""
    wild = SVG.replace("/>", "><script>alert(1)</script></svg>")
    found = looked(replace(PLAYED, shown=(Plot(wild, "A title"), Plot(SVG, ""))))
    assert_lifeless(found)
    first, second = found.of("img")
    assert base64.b64decode((first["src"] or "").split(",")[1]).decode() == wild
    assert (first["alt"], second["alt"]) == ("A title", "Who comes back?")


def test_a_page_has_an_order() -> None:
    """A language, a title, one first heading, then one a section, to each of which the contents lead."""
    found = looked(PLAYED, replace(PLAYED, name="03"))
    assert next(found.of("html"))["lang"] == "en"
    headings = [tag for tag, _ in found.elements if re.fullmatch(r"h\d", tag)]
    assert headings == ["h1", "h2", "h2", "h2"]
    parts = [f"#{one['id']}" for one in found.of("section")]
    assert parts == [one["href"] for one in found.of("a")] == ["#part-1", "#part-2"]
    assert "Game report, 21 to 27 Nov 2026" in found.text


# --- what a notebook gives


def cell(kind: str, source: str, *outputs: dict[str, Any], tags: tuple[str, ...] = ()) -> Any:
    """A cell as nbformat keeps it."""
    shown = [{"output_type": "display_data", "data": data} for data in outputs]
    return {"cell_type": kind, "source": source, "metadata": {"tags": list(tags)}, "outputs": shown}


def test_a_section_is_what_is_tagged() -> None:
    """The question from the first heading, findings and plots from their cells, and nothing else."""
    picture = {"image/svg+xml": SVG, "text/plain": "38% do"}
    cells = [
        cell("markdown", "# Who comes *back*? #\n\nIt matters.\n\nMuch."),
        cell("code", "", picture),
        cell("code", "", picture, {"text/html": "<b>1</b>", "text/plain": "1"}, tags=("report",)),
        cell("code", "", {"text/markdown": ["Of 10, ", "4 do."]}, tags=("report", "x")),
        cell("code", "", {"text/markdown": "Most do not."}, {"image/png": "x"}, tags=("finding",)),
        cell("markdown", "# Another"),
    ]
    assert section("02_players", {"cells": cells}) == Section(
        "02_players",
        "Who comes *back*?",
        "It matters.\n\nMuch.",
        ("Most do not.",),
        (Plot(SVG, "38% do"), Sentence("Of 10, 4 do.")),
    )


@pytest.mark.parametrize(
    ("cells", "title", "why"),
    [
        ([], "Own question", ""),
        ([cell("code", "1")], "Own question", ""),
        ([cell("markdown", "No heading.")], "Own question", "No heading."),
        ([cell("markdown", "#NotOne")], "Own question", "#NotOne"),
        ([cell("markdown", "\n# One")], "One", ""),
        ([cell("markdown", "## Second")], "Own question", "## Second"),
    ],
)
def test_a_notebook_without_a_question_goes_by_its_name(
    cells: list[Any], title: str, why: str
) -> None:
    """Somebody's own notebook need not look like ours."""
    made = section("07_own-question", {"cells": cells})
    assert (made.title, made.why) == (title, why)


def test_a_notebook_that_marks_nothing_is_named_at_the_foot() -> None:
    """No empty section; and whoever wrote it can see why it is not there."""
    found = looked(PLAYED, section("08_own", {}))
    assert len(list(found.of("section"))) == 1
    assert "Nothing in 08_own.ipynb is marked for a report." in found.text


def test_a_notebook_that_failed_says_so_where_it_would_be() -> None:
    """In its section and in the summary; the others are as they were."""
    failed = section("03_x", {}, "It failed: KeyError: 'a'.")
    found = looked(failed, PLAYED)
    assert len(list(found.of("section"))) == 2
    assert found.text.count("It failed: KeyError: 'a'.") == 2
    assert "38% do." in found.text


# --- numbers and their change


@pytest.mark.parametrize(
    ("before", "value", "said"),
    [
        (120, 144, "up 20% from 120"),
        (120, 96, "down 20% from 120"),
        (120, 120, "as before"),
        (0, 0, "as before"),
        (0.21, 0.23, "as before"),
        (3.9, 3.2, "down 18% from 3.9"),
        (3.9, 12.4, "up 218% from 3.9"),
        (0, 12, "up from 0"),
        (12, 0, "down from 12"),
        (12, 0.3, "down 98% from 12"),
        (12, 0.04, "down over 99% from 12"),
        (1_000_000, 1_000_001, "hardly changed from 1,000,000"),
        (12_345, 3, "down over 99% from 12,345"),
        (1, 9, "up 800% from 1"),
        (1, 10, "10 times the 1 before"),
        (3, 10**9, "333,333,333 times the 3 before"),
        (None, 7, "not known before"),
        (7, None, ""),
        (None, None, ""),
    ],
)
def test_a_change_says_from_what(before: float | None, value: float | None, said: str) -> None:
    """From nothing, to nothing, hardly at all, or out of all proportion: no percentage is a lie."""
    assert Number("n", "", value, before).change == said


@pytest.mark.parametrize(
    ("before", "value", "said"),
    [
        (0.35, 0.38, "up 3 points from 35%"),
        (0.38, 0.37, "down 1 point from 38%"),
        (0.381, 0.379, "as before"),
        (0.0, 1.0, "up 100 points from 0%"),
        (1.0, 0.0, "down 100 points from 100%"),
        (None, 0.5, "not known before"),
        (0.5, None, ""),
    ],
)
def test_a_share_changes_by_points(before: float | None, value: float | None, said: str) -> None:
    """Of two percentages the difference is told, as the two are shown."""
    assert Number("n", "", value, before, is_share=True).change == said


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_change_goes_the_way_the_numbers_do(before: int, value: int) -> None:
    """Up is never down, and what is said to be the same is the same."""
    said = Number("n", "", value, before).change
    if value > before:
        assert said.startswith(("up", "hardly")) or "times" in said
    elif value < before:
        assert said.startswith(("down", "hardly"))
    else:
        assert said == "as before"


def test_half_a_period_is_no_comparison() -> None:
    """A pipeline that began in the middle of the days before cannot have lost players since."""
    assert comparable(PERIOD, date(2026, 11, 14)) == Period(date(2026, 11, 14), date(2026, 11, 20))
    assert comparable(PERIOD, date(2026, 11, 15)) is None
    assert comparable(PERIOD, None) is None


def test_the_numbers_stand_on_the_page_with_their_change() -> None:
    """Each with what it was before; where that is not known the page says it once, and no number does."""
    values = {"active": 144.0, "day_1": 0.38, "heroes": None}
    compared = looked(headline=Headline(numbers(values, {"active": 120.0}), PERIOD.before))
    assert "beside the 7 days before, 14 to 20 Nov 2026" in compared.text
    assert "up 20% from 120" in compared.text
    assert "38%" in compared.text
    alone = looked(headline=Headline(numbers(values, None), None))
    assert "there is nothing to compare with" in alone.text
    assert "not known before" not in alone.text


# --- how far the data reach


def test_fresh_data_are_told_without_a_warning() -> None:
    """All is as it should be: four sentences, and nothing in the way of the numbers."""
    assert FRESH.warnings(PERIOD) == []
    assert FRESH.facts() == [
        "The newest event is of 28 Nov 2026, 04:28 UTC.",
        "The newest rollup is of the hour from 28 Nov 2026, 04:00 UTC.",
        "All that was sent before 28 Nov 2026, 04:29 UTC is stored.",
        "Raw events are kept since 14 Oct 2026.",
    ]


def test_a_replica_is_told_of() -> None:
    """Whoever reads the numbers knows where they were read, and how far that was behind."""
    told = replace(FRESH, replica=REPLICA)
    sentence = "All of it is read from a replica, which is 2 s behind."
    assert (told.warnings(PERIOD), told.facts()) == ([], [*FRESH.facts(), sentence])
    assert sentence in looked(freshness=told).text


@pytest.mark.parametrize(
    ("freshness", "warning"),
    [
        (Freshness(AT), "There is no event yet"),
        (replace(FRESH, newest_event=None, oldest_event=None), "No raw event is kept any more"),
        (replace(FRESH, newest_event=AT - timedelta(days=9)), "The newest event is 9 days old"),
        (replace(FRESH, complete_to=AT - timedelta(minutes=6)), "Nobody has said since 28 Nov 2026, 04:24"),
        (replace(FRESH, first_day=date(2026, 11, 25)), "Nothing is known of the days before 25 Nov 2026"),
        (replace(FRESH, rolled_up_to=None), "1,081 hours of events are not rolled up yet"),
        (replace(FRESH, rolled_up_to=AT - timedelta(hours=30)), "31 hours of events are not rolled"),
        (
            replace(FRESH, replica=replace(REPLICA, replayed_at=AT - timedelta(minutes=7))),
            "All of it is read from a replica, which is 7 min behind",
        ),
    ],
)  # fmt: skip
def test_what_is_missing_is_told_before_any_number(freshness: Freshness, warning: str) -> None:
    """Old data, none, late ones, or such as no rollup has seen: the reader knows first."""
    told = freshness.warnings(PERIOD)
    assert len(told) == 1
    assert told[0].startswith(warning)
    assert told[0].endswith(".")
    assert warning in looked(freshness=freshness).text


@pytest.mark.parametrize(
    ("hours_ago", "reaches", "is_whole"),
    [
        (0, None, False),
        (0, AT - timedelta(hours=4.5), False),
        (0, AT - timedelta(hours=3.5), True),
        (100, AT - timedelta(hours=99.5), True),
        (100, AT - timedelta(hours=100.5), False),
    ],
)
def test_a_report_waits_until_the_days_before_today_are_rolled_up(
    hours_ago: float, reaches: datetime | None, is_whole: bool
) -> None:
    """Today's rollup, or that of the newest event, comes after those of all days before."""
    newest = AT - timedelta(hours=hours_ago)
    assert replace(FRESH, newest_event=newest, rolled_up_to=reaches).has_whole_days is is_whole
    assert Freshness(AT).has_whole_days
