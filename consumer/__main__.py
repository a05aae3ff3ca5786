"""``python -m consumer``: wires the loop to Redis, Postgres and the signals."""

from __future__ import annotations

import socket
import sys
import threading
import uuid
from contextlib import closing
from datetime import UTC, datetime

import psycopg2
import redis

from consumer import load
from consumer.batch import Limits
from consumer.worker import Worker
from pipeline import log, settings, stream
from pipeline.patience import Stopped, first_line, wait_for
from pipeline.settings import Settings, SettingsError
from pipeline.stop import on_signals
from pipeline.stream import Stream


def main() -> int:
    """Consume until SIGTERM or SIGINT; returns the exit code."""
    try:
        config = settings.load()
    except SettingsError as error:
        return _fail(str(error), code=2)
    if config.redis_url is None or config.database_url is None:
        return _fail(
            "REDIS_URL and DATABASE_URL must name servers; "
            "`infamous consume` runs embedded ones where they do not.",
            code=2,
        )
    log.configure(config.log_format, config.log_level)
    name = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    try:
        source = Stream(stream.connect(config.redis_url))
    except SettingsError as error:
        return _fail(str(error), code=2)
    loader = load.Loader(config.database_url, name, frozen_s=config.claim_after_s)
    with closing(loader), closing(source.client), on_signals() as stop:
        return _consume(config, name, source, loader, stop)


def _consume(
    config: Settings, name: str, source: Stream, loader: load.Loader, stop: threading.Event
) -> int:
    redis_at, postgres_at = (
        settings.shown_url(url or "") for url in (config.redis_url, config.database_url)
    )
    try:
        wait_for(
            "Redis",
            source.ensure_group,
            is_temporary=stream.is_temporary,
            stop=stop,
            at_most_s=config.connect_timeout_s,
        )
        wait_for(
            "Postgres",
            lambda: loader.prepare(datetime.now(UTC)),
            is_temporary=load.is_temporary,
            stop=stop,
            at_most_s=config.connect_timeout_s,
        )
        worker = Worker(
            source,
            loader,
            name,
            Limits(config.batch_rows, config.batch_bytes, config.batch_age_s),
            claim_after_s=config.claim_after_s,
            retention_days=config.retention_days,
            stop=stop,
        )
        log.get("consumer").info("Consuming", consumer=name, redis=redis_at, postgres=postgres_at)
        worker.run()
        _leave(source, name)
    except Stopped:
        pass
    except load.SchemaError as error:
        return _fail(f"The tables cannot be used ({error}): run `infamous migrate`.")
    except redis.RedisError as error:
        return _fail(f"Redis at {redis_at} cannot be used: {first_line(error)}.")
    except psycopg2.Error as error:
        return _fail(f"Postgres at {postgres_at} cannot be used: {first_line(error)}.")
    return 0


def _leave(source: Stream, name: str) -> None:
    """Take the name off the group; where Redis is away it stays, which harms nobody."""
    try:
        source.leave(name)
    except redis.RedisError as error:
        if not stream.is_temporary(error):
            raise


def _fail(message: str, code: int = 1) -> int:
    log.complain(message)
    return code


if __name__ == "__main__":
    sys.exit(main())
