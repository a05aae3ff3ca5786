"""Celery: a task an event flows in, a session and a commit each flow out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from celery import Celery  # type: ignore[import-not-found]
from sqlalchemy.orm import Session

from bench.peers.row import GameEvent, engine, row_of

_SOCKET = unquote(urlsplit(os.environ["REDIS_URL"]).path)

app = Celery("bench.peers.celery_jobs", broker=f"redis+socket://{_SOCKET}")
app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False)
# Opens nothing before the first task, which is after the worker forked.
database = engine()


# Named here: the program that queues knows this module by another name than the worker.
@app.task(name="store")  # type: ignore[untyped-decorator]
def store(payload: str) -> None:
    """One transaction an event."""
    with Session(database) as session:
        session.add(GameEvent(**row_of(payload)))
        session.commit()


def fill(path: Path) -> None:
    """Queue each line of the file."""
    with app.producer_pool.acquire(block=True) as producer:
        for line in path.read_text(encoding="utf-8").splitlines():
            store.apply_async((line,), producer=producer)


if __name__ == "__main__":
    fill(Path(sys.argv[2]))
