"""taskiq: a task an event flows in, an INSERT on asyncpg each flows out."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import create_async_engine
from taskiq_redis import RedisStreamBroker  # type: ignore[import-not-found]

from bench.peers.row import GameEvent, row_of

_AT_ONCE = 50

broker = RedisStreamBroker(url=os.environ["REDIS_URL"])
database = create_async_engine(os.environ["DATABASE_URL"].replace("psycopg2", "asyncpg"))


@broker.task(task_name="store")  # type: ignore[untyped-decorator]
async def store(payload: str) -> None:
    """One transaction an event."""
    async with database.begin() as connection:
        await connection.execute(insert(GameEvent), [row_of(payload)])


async def fill(path: Path) -> None:
    """Queue each line of the file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    await broker.startup()
    for place in range(0, len(lines), _AT_ONCE):
        await asyncio.gather(*(store.kiq(line) for line in lines[place : place + _AT_ONCE]))
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(fill(Path(sys.argv[2])))
