"""The transaction: all or nothing, and a line that is fit for the next one."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from pipeline.entry import Form
from pipeline.transaction import Transaction
from tests.conftest import World

HASH = "{game-events}:notes"


def test_all_commands_run_and_answer(world: World) -> None:
    """Packed and plain commands are answered in their order, and all of them took effect."""
    with Transaction(world.client) as transaction:
        assert transaction.watch(HASH, "token", "other") == [None, None]
        packed = world.source.packed([(Form.EVENT, b"{}"), (Form.EVENTS, "[\N{BULLET}]".encode())])
        transaction.begin(packed, 2, ("HSET", HASH, "token", "1"), ("XLEN", world.source.key))
        first, second, added, length = transaction.finish()
    assert first < second
    assert (added, length) == (1, 2)
    entries: Any = world.client.execute_command("XRANGE", world.source.key, "-", "+")  # type: ignore[no-untyped-call]
    assert [fields for _, fields in entries] == [
        [b"event", b"{}"],
        [b"events", "[\N{BULLET}]".encode()],
    ]


def test_a_change_of_what_is_watched_undoes_it(world: World) -> None:
    """Whoever was faster is not overwritten."""
    with Transaction(world.client) as transaction:
        transaction.watch(HASH, "token")
        world.client.hset(HASH, "token", "theirs")
        transaction.begin(b"", 0, ("HSET", HASH, "token", "ours"))
        with pytest.raises(redis.WatchError):
            transaction.finish()
    assert world.client.hget(HASH, "token") == b"theirs"


def test_a_command_that_is_refused_is_told_by_its_own_error(world: World) -> None:
    """The reason, not the abortion that follows from it; and the line stays in step."""
    with Transaction(world.client) as transaction:
        transaction.begin(b"", 0, ("HSET", HASH), ("SET", "{game-events}:other", "1"))
        with pytest.raises(redis.ResponseError, match="wrong number of arguments") as caught:
            transaction.finish()
    assert not isinstance(caught.value, redis.exceptions.ExecAbortError)
    assert world.client.dbsize() == 0
    with Transaction(world.client) as transaction:
        transaction.begin(b"", 0, ("SET", HASH, "1"), ("HSET", HASH, "token", "1"))
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            transaction.finish()
    assert world.client.get(HASH) == b"1"


def test_a_watch_that_led_to_nothing_does_not_last(world: World) -> None:
    """The line goes back to the pool: what was watched on it must not undo the next transaction."""
    for _ in range(3):
        with Transaction(world.client) as transaction:
            transaction.watch(HASH, "token")
        world.client.hset(HASH, "token", "new")
        with Transaction(world.client) as transaction:
            transaction.begin(b"", 0, ("HGET", HASH, "token"))
            assert transaction.finish() == [b"new"]
