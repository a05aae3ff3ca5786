"""Servers flow in, of which version; a test that is about what a version lacks is skipped on it."""

from __future__ import annotations

import pytest

from tests.conftest import World


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
