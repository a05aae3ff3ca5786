"""redis-py and a SQLAlchemy session: a page of the stream flows in, one add_all and commit flows out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import redis
from sqlalchemy.orm import Session

from bench.peers.row import GameEvent, engine, row_of

_STREAM, _GROUP, _PAGE = "peer-events", "peers", 1000


def fill(path: Path) -> None:
    """Put each line of the file onto the stream."""
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    pipeline: Any = client.pipeline(transaction=False)
    for line in path.read_text(encoding="utf-8").splitlines():
        pipeline.xadd(_STREAM, {"event": line})
    pipeline.execute()
    client.xgroup_create(_STREAM, _GROUP, id="0")


def work() -> None:
    """Store pages until killed."""
    client: Any = redis.Redis.from_url(os.environ["REDIS_URL"], protocol=2)
    database = engine()
    while True:
        reply = client.xreadgroup(_GROUP, "one", {_STREAM: ">"}, count=_PAGE, block=1000)
        for _, entries in reply:
            with Session(database) as session:
                session.add_all([GameEvent(**row_of(fields[b"event"])) for _, fields in entries])
                session.commit()
            client.xack(_STREAM, _GROUP, *(entry_id for entry_id, _ in entries))


if __name__ == "__main__":
    work() if sys.argv[1] == "work" else fill(Path(sys.argv[2]))
