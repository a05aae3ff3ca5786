"""Notebooks: each runs from its first cell to its last as who can only read, on full tables and empty."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InternalError

from analytics.data import connect, query
from infamous import schema
from pipeline.event import encode
from pipeline.settings import SettingsError
from tests.conftest import World
from tests.integration.consuming import is_drained, now_ms, until, working
from tests.integration.test_roles import url_of
from tests.unit.samples import chains

NOTEBOOKS = Path(__file__).resolve().parents[2] / "analytics" / "notebooks"


@pytest.fixture
def world(bare_world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A migrated database that the notebooks reach as infamous_bi."""
    schema.migrate(bare_world.engine)
    monkeypatch.setenv("DATABASE_URL", url_of(bare_world, "infamous_bi"))
    mpl.use("Agg")
    yield bare_world
    plt.close("all")


def run(notebook: Path) -> None:
    """Its code cells, one after the other, in one namespace."""
    namespace: dict[str, object] = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), namespace)  # noqa: S102  # that is what a notebook is


@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
@pytest.mark.parametrize("events", [0, 300])
def test_a_notebook_runs(world: World, notebook: Path, events: int) -> None:
    """From a clean start, with the rights of a reader, whether or not there is anything to see."""
    world.source.append([encode(e) for e in chains(events, start_ms=now_ms() - 3_600_000)])
    with working(world):
        until(lambda: is_drained(world), "the stream to drain")
    with warnings.catch_warnings():
        # A plot of nothing makes seaborn and matplotlib wonder; nothing is what there is.
        warnings.simplefilter("ignore")
        run(notebook)


@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_what_it_showed(notebook: Path) -> None:
    """Outputs hold data, and change with every run: they are not part of the code."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_a_query_cannot_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the URL is the owner's: the transaction is a reader's."""
    monkeypatch.setenv("DATABASE_URL", world.database_url)
    engine = connect()
    assert query(engine, "select 7 as seven, :word as word", word="x").values.tolist() == [[7, "x"]]
    with pytest.raises((InternalError, DBAPIError)), engine.begin() as connection:
        connection.execute(text("delete from game_events"))


def test_without_an_address_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence, before any query."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(SettingsError, match="DATABASE_URL must name a database"):
        connect()
