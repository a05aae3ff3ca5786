"""A Redis Cluster, started by the first test that asks for it; and what other tests begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infamous.prove.cluster import Cluster, running
from tests.acceptance.conftest import home, launch, ready_home, template_home
from tests.integration.conftest import redis_7, redis_7_2

__all__ = ["home", "launch", "ready_home", "redis_7", "redis_7_2", "template_home"]

# Not as it stands in a URL.
_PASSWORD = "open/sesame @ the mountain"  # noqa: S105  # of servers that live as long as the tests


@pytest.fixture(scope="session")
def formed_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Six nodes, which take two seconds to become a cluster; with a password, so that nobody forgets it."""
    with running(tmp_path_factory.mktemp("cluster"), password=_PASSWORD) as formed:
        yield formed


@pytest.fixture
def cluster(formed_cluster: Cluster) -> Cluster:
    """A whole Redis Cluster without data, every slot where it was first: whatever the test before did."""
    formed_cluster.clean()
    return formed_cluster
