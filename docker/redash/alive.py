"""alive.py worker|scheduler: whether Redash's worker or scheduler in this container works.

Redash's own check counts all workers of its Redis, dead ones too, and passes while Redis is away.
"""

import os
import socket
import sys
from pathlib import Path

import redis
from rq import Worker


def is_working(connection: redis.Redis) -> bool:
    """A worker of this container that is in RQ's books, and whose process exists."""
    own = [one for one in Worker.all(connection=connection) if one.hostname == socket.gethostname()]
    return any(one.pid and Path(f"/proc/{one.pid}").exists() for one in own)


def is_scheduling(connection: redis.Redis) -> bool:
    """A scheduler that has not left; it keeps its entry in Redis from running out."""
    names = connection.scan_iter("rq:scheduler_instance:*")
    return any(not connection.hexists(name, "death") for name in names)


if __name__ == "__main__":
    server = redis.from_url(os.environ["REDASH_REDIS_URL"])
    sys.exit(0 if {"worker": is_working, "scheduler": is_scheduling}[sys.argv[1]](server) else 1)
