"""Servers flow in, of which version; a test that is about what a version lacks is skipped on it.

And a Redis Cluster, started by the first test that asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infamous.prove.cluster import Cluster, running
from tests.conftest import World

# Not as it stands in a URL.
_PASSWORD = "open/sesame @ the mountain"  # noqa: S105  # of servers that live as long as the tests


def _require_redis(world: World, *oldest: int) -> None:
    version = str(world.client.info("server")["redis_version"])
    if tuple(map(int, version.split(".")[:2])) < oldest:
        pytest.skip(f"Redis {version} is older than {'.'.join(map(str, oldest))}")


@pytest.fixture
def redis_7(world: World) -> None:
    """Before, nobody counts what was added and read, nor what was lost; and a full one moves no bookmark."""
    _require_redis(world, 7, 0)


@pytest.fixture
def redis_7_2(world: World) -> None:
    """Before, a reader who finds nothing seems to be silent, and not all commands of our rules are known."""
    _require_redis(world, 7, 2)


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
