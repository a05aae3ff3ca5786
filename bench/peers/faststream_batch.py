"""FastStream: batches of a Redis stream flow in, one INSERT by SQLAlchemy on asyncpg flows out."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from faststream import FastStream  # type: ignore[import-not-found]
from faststream.redis import RedisBroker, StreamSub  # type: ignore[import-not-found]
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import create_async_engine

from bench.peers.row import GameEvent, values_of

_STREAM, _PAGE, _AT_ONCE = "peer-events", 1000, 50

broker = RedisBroker(os.environ["REDIS_URL"])
database = create_async_engine(os.environ["DATABASE_URL"].replace("psycopg2", "asyncpg"))


@broker.subscriber(  # type: ignore[untyped-decorator]
    stream=StreamSub(_STREAM, group="peers", consumer="one", batch=True, max_records=_PAGE)
)
async def store(events: list[dict[str, Any]]) -> None:
    """One transaction a batch."""
    async with database.begin() as connection:
        await connection.execute(insert(GameEvent), [values_of(event) for event in events])


async def fill(path: Path) -> None:
    """Publish each line of the file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    async with broker:
        for place in range(0, len(lines), _AT_ONCE):
            pending: list[Any] = [
                broker.publish(line, stream=_STREAM) for line in lines[place : place + _AT_ONCE]
            ]
            await asyncio.gather(*pending)
        client: Any = broker.config.broker_config.connection.client
        await client.xgroup_create(_STREAM, "peers", id="0")


if __name__ == "__main__":
    asyncio.run(FastStream(broker).run() if sys.argv[1] == "work" else fill(Path(sys.argv[2])))
