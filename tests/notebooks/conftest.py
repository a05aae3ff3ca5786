"""One large planted history a run: it takes longer to make than to ask."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from sqlalchemy import Engine

from analytics import data
from infamous.embedded.servers import Servers
from tests.conftest import World
from tests.integration import dashboards
from tests.notebooks import planted


@pytest.fixture(scope="session")
def planted_world(servers: Servers, template: str) -> Iterator[World]:
    """A database with the planted history, rolled up; nobody changes it."""
    yield from dashboards.rolled_up(servers, template, planted.events())


@pytest.fixture(scope="session")
def engine(planted_world: World) -> Engine:
    """The same, as notebooks reach it."""
    return data.reader(planted_world.database_url)


@pytest.fixture(autouse=True)
def _no_window() -> Iterator[None]:
    """Plots are drawn into memory, and are gone afterwards."""
    mpl.use("Agg")
    yield
    plt.close("all")
