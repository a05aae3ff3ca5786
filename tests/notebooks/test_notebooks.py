"""Notebooks: each runs from its first cell to its last, as who can only read, whatever is in the tables."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from nbmake.nb_run import NotebookRun

from analytics import notebook as shown_by
from analytics.notebook import HTML, MARKDOWN, SVG, TEXT
from infamous.embedded.servers import Servers
from pipeline.event import Event
from producer.simulate import DAY_MS, history, population
from tests.conftest import World, world_of
from tests.integration import dashboards
from tests.integration.consuming import now_ms
from tests.integration.test_roles import url_of
from tests.unit.samples import chains

NOTEBOOKS: Final = sorted(
    (Path(__file__).resolve().parents[2] / "analytics" / "notebooks").glob("*.ipynb")
)
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

# What Python and pandas call what is not there: no reader should meet it.
_MISSING: Final = re.compile(r"\b(nan|NaT|inf|None\b(?! of))\b|<NA>|&lt;NA&gt;")
# The first, whose the most events are, stands in titles: HTML, mathematics, and what the font lacks. Then
# HTML, Markdown, SQL, formats and a template, another script, what cannot be seen, a long word, none.
_HOSTILE: Final = (
    "<script>$\\frac{x$_^名",
    "<script>alert(1)</script>",
    "*a* [b](javascript:c) `d`",
    "x'; drop table game_events; --",
    "%(x)s %s {0} :name {{ days }}",
    "名無しの英雄",
    "a\nb\tc\u202ed\u200b",
    "W" * 64,
    " ",
)


def _played(players: int, days: int) -> list[Event]:
    """What so many simulated players did on so many days up to yesterday."""
    start_ms = (now_ms() // DAY_MS - days) * DAY_MS
    cast = population(3, players, start_ms, days)
    return [event for _, event in history(cast, start_ms + days * DAY_MS)]


def _nothing() -> Iterable[Event]:
    return ()


def _one_event() -> Iterable[Event]:
    return chains(1, start_ms=now_ms() - DAY_MS)


def _of_today() -> Iterable[Event]:
    return chains(50, start_ms=now_ms() - 60_000)


def _one_player() -> Iterable[Event]:
    return _played(1, 20)


def _week_without() -> Iterable[Event]:
    first_ms = (now_ms() // DAY_MS - 16) * DAY_MS
    return [e for e in _played(40, 40) if not first_ms <= e.ts_ms < first_ms + 7 * DAY_MS]


def _foreign() -> Iterable[Event]:
    """As other games may send it: no details or strange ones, no seq, names to break whatever shows them."""
    rng = random.Random(5)
    names: dict[str, str] = {}
    for event in _played(30, 20):
        player = names.setdefault(event.player, _HOSTILE[len(names) % len(_HOSTILE)])
        recharged = event.energy_source and rng.choice(_HOSTILE)
        yield msgspec.structs.replace(
            event, player=player, seq=None, energy_source=recharged, details=_details(rng)
        )


def _details(rng: random.Random) -> msgspec.Raw:
    strange: list[Any] = [*_HOSTILE, "", 5, -1e308, None, True, [], {"deep": [1]}]
    keys = (
        "mission",
        "district",
        "ability",
        "enemy",
        "playthrough",
        "kills",
        "level",
        "side",
        "<script>$",
    )
    if rng.random() < 0.5:
        return msgspec.Raw(b"null")
    return msgspec.Raw(json.dumps({key: rng.choice(strange) for key in keys}).encode())


def _without_details() -> Iterable[Event]:
    return [
        msgspec.structs.replace(event, details=msgspec.Raw(b"null")) for event in _played(30, 20)
    ]


HISTORIES: Final[tuple[Callable[[], Iterable[Event]], ...]] = (
    *(_nothing, _one_event, _of_today, _one_player, _week_without, _without_details, _foreign),
)


@pytest.fixture(scope="module", params=HISTORIES, ids=lambda made: made.__name__.strip("_"))
def past(
    request: pytest.FixtureRequest, servers: Servers, template: str
) -> Iterator[tuple[World, bool]]:
    """A world with such a past, and whether its names are hostile."""
    made = request.param
    for world in dashboards.rolled_up(servers, template, made()):
        yield world, made is _foreign


def run(path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> dict[str, list[dict[str, str]]]:
    """Run its code cells, one after the other, in one namespace: what they showed, by tag."""
    bundles: dict[str, list[dict[str, str]]] = {"": [], "report": [], "finding": []}
    tag = ""

    def keep(what: dict[str, str]) -> None:
        bundles[tag].append(what)

    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setattr(shown_by, "_display", keep)
    namespace: dict[str, object] = {}
    for cell in cells(path):
        if cell["cell_type"] == "code":
            (tag,) = cell["metadata"].get("tags") or [""]
            exec("".join(cell["source"]), namespace)  # noqa: S102  # that is what a notebook is
    return bundles


def cells(path: Path) -> list[dict[str, Any]]:
    """As they are kept."""
    return json.loads(path.read_text(encoding="utf-8"))["cells"]  # type: ignore[no-any-return]


def texts(bundles: dict[str, list[dict[str, str]]]) -> list[str]:
    """What is there to be read in what was shown: titles, sentences and tables."""
    return [
        text
        for bundle in itertools.chain(*bundles.values())
        for kind, text in bundle.items()
        if kind != SVG
    ]


@each_notebook
def test_a_notebook_runs_on_any_past(
    past: tuple[World, bool], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing, hardly anything or something odd in the tables gives a sensible page, without a warning.

    Each plot of the report is there with its title, the conclusion is a sentence, and no number is missing in
    what is to be read; and a name is a name, whatever it tries.
    """
    world, is_hostile = past
    bundles = run(path, monkeypatch, world.database_url)
    _check(bundles)
    if is_hostile:
        for bundle in itertools.chain(*bundles.values()):
            for kind in (SVG, HTML, MARKDOWN):
                assert "<script" not in bundle.get(kind, "")
            assert "](javascript:" not in bundle.get(MARKDOWN, "")


@each_notebook
def test_a_notebook_runs_on_the_planted_past(
    planted_world: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same on a healthy past of 400 players."""
    _check(run(path, monkeypatch, planted_world.database_url))


@each_notebook
def test_a_notebook_runs_before_the_first_rollup(
    servers: Servers, template: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only a consumer runs there are events and no rollups."""
    with world_of(servers, template) as world:
        dashboards.store(world, chains(50, start_ms=now_ms() - 60_000))
        _check(run(path, monkeypatch, world.database_url))


def _check(bundles: dict[str, list[dict[str, str]]]) -> None:
    assert bundles["report"]
    for bundle in bundles["report"]:
        assert bundle.get(TEXT)
    assert bundles["finding"]
    for text in texts({"finding": bundles["finding"]}):
        assert text.endswith(".")
    for text in texts(bundles):
        assert not _MISSING.search(text), text


@each_notebook
@pytest.mark.parametrize("is_empty", [True, False], ids=["empty", "planted"])
def test_a_notebook_runs_in_a_kernel(
    planted_world: World,
    world: World,
    path: Path,
    is_empty: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """As Jupyter runs it, logged in as infamous_bi: no cell fails, and none complains."""
    monkeypatch.setenv("DATABASE_URL", url_of(world if is_empty else planted_world, "infamous_bi"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    done = NotebookRun(path, default_timeout=120).execute()
    assert done.error is None, done.error.trace
    outputs = [output for cell in done.nb.cells for output in cell.get("outputs", ())]
    assert [output["text"] for output in outputs if output["output_type"] == "stream"] == []
    for cell in done.nb.cells:
        if "report" in cell["metadata"].get("tags", ()):
            assert any(SVG in output.get("data", ()) for output in cell["outputs"])


@each_notebook
def test_a_notebook_asks_and_answers(path: Path) -> None:
    """It begins with the question and why it matters, and ends with what was found."""
    first, *_, last = cells(path)
    question, *why = "".join(first["source"]).splitlines()
    assert first["cell_type"] == "markdown"
    assert re.fullmatch(r"# [A-Z].*\?", question)
    assert any(why)
    assert last["metadata"]["tags"] == ["finding"]
    tags = [cell["metadata"].get("tags", []) for cell in cells(path)]
    assert tags.count(["finding"]) == 1
    assert all(tag in ([], ["report"], ["finding"]) for tag in tags)


@each_notebook
def test_a_notebook_is_kept_without_what_it_showed(path: Path) -> None:
    """Outputs hold data, and change with every run: they are not part of the code."""
    for cell in cells(path):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_notebooks_are_in_the_order_of_reading() -> None:
    """Their numbers say in which."""
    numbers = [int(path.stem.partition("_")[0]) for path in NOTEBOOKS]
    assert numbers == sorted(set(numbers))
