"""RQ: a job an event flows in, a session and a commit each, in a forked process, flow out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import redis
from rq import Queue, Worker
from sqlalchemy.orm import Session

from bench.peers.row import GameEvent, engine, row_of


def store(payload: str) -> None:
    """One transaction an event."""
    with Session(engine()) as session:
        session.add(GameEvent(**row_of(payload)))
        session.commit()


def main() -> None:
    """Queue each line of the file, or store until killed."""
    queue = Queue("peers", connection=redis.Redis.from_url(os.environ["REDIS_URL"]))
    if sys.argv[1] == "work":
        Worker([queue], connection=queue.connection).work(logging_level="WARNING")
        return
    lines = Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()
    jobs = [
        Queue.prepare_data("bench.peers.rq_jobs.store", (line,), result_ttl=0) for line in lines
    ]
    queue.enqueue_many(jobs)


if __name__ == "__main__":
    main()
