"""``python -m consumer``: wires the loop to Redis, Postgres and the signals."""

from __future__ import annotations

import gc
import socket
import sys
import threading
import uuid
from contextlib import closing
from datetime import UTC, datetime
from typing import Final

import psycopg2
import redis

from consumer import load
from consumer.batch import Limits
from consumer.reader import Reader
from consumer.tally import Tally
from consumer.worker import Flooded, Worker
from pipeline import log, metrics, settings, stream
from pipeline.patience import Stopped, first_line, wait_for
from pipeline.pulse import Pulse
from pipeline.settings import Settings, SettingsError
from pipeline.stop import on_signals
from pipeline.streams import Streams

# A Postgres that has not answered for so long is taken for one that is away; a slow one is not.
_SILENT_S: Final = 60.0
# The thread that stores needs the interpreter for an instant now and then, and must not queue for it.
_SWITCH_S: Final = 0.0005
# A batch is tens of thousands of small objects without a cycle: to look for cycles among them is idle work.
_GC_OBJECTS: Final = 100_000


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
    _tune()
    name = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    try:
        streams = Streams(config.redis_url, config.stream_partitions)
    except SettingsError as error:
        return _fail(str(error), code=2)
    loader = load.Loader(
        config.database_url,
        name,
        frozen_s=config.claim_after_s,
        silent_s=max(_SILENT_S, 4 * config.claim_after_s),
    )
    pulse = Pulse(config.liveness_file)
    tally = Tally(name, pulse)
    source = Reader(streams, name)
    with (
        closing(loader),
        closing(streams),
        closing(source),
        on_signals(at_the_end=pulse.close) as stop,
    ):
        try:
            pulse.begin()
            with (
                closing(pulse),
                metrics.served(config.metrics_host, config.metrics_port, tally.metrics),
            ):
                return _consume(config, name, source, loader, tally, stop)
        except SettingsError as error:
            return _fail(str(error), code=2)


def _consume(
    config: Settings,
    name: str,
    source: Reader,
    loader: load.Loader,
    tally: Tally,
    stop: threading.Event,
) -> int:
    redis_at, postgres_at = (
        settings.shown_url(url or "") for url in (config.redis_url, config.database_url)
    )
    try:
        wait_for(
            "Redis",
            lambda: _greet(source),
            is_temporary=stream.is_temporary,
            stop=stop,
            at_most_s=config.connect_timeout_s,
            observer=tally,
        )
        wait_for(
            "Postgres",
            lambda: loader.prepare(datetime.now(UTC)),
            is_temporary=load.is_temporary,
            stop=stop,
            at_most_s=config.connect_timeout_s,
            observer=tally,
        )
        worker = Worker(
            source,
            loader,
            tally,
            name,
            Limits(config.batch_rows, config.batch_bytes, config.batch_age_s),
            claim_after_s=config.claim_after_s,
            retention_days=config.retention_days,
            stop=stop,
            quarantine_limit=config.quarantine_limit,
        )
        log.get("consumer").info("Consuming", consumer=name, redis=redis_at, postgres=postgres_at)
        worker.run()
        # A read that went astray may still arrive: whoever buries the dead removes the name then.
        if not tally.has_lost_connections:
            _leave(source)
    except Stopped:
        pass
    except stream.Evicts as error:
        return _fail(str(error))
    except Flooded as flooded:
        return _fail(
            f"More than {config.quarantine_limit} of the last {tally.flood.window:,} entries were refused"
            f" ({flooded}), so nothing of the last batch was stored or acknowledged: mend the sender, or"
            " raise QUARANTINE_LIMIT, and start again."
        )
    except load.SchemaError as error:
        return _fail(f"The tables cannot be used ({error}): run `infamous migrate`.")
    except redis.RedisError as error:
        return _fail(f"Redis at {redis_at} cannot be used: {first_line(error)}.")
    except psycopg2.Error as error:
        return _fail(f"Postgres at {postgres_at} cannot be used: {first_line(error)}.")
    return 0


def _tune() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_OBJECTS)
    sys.setswitchinterval(_SWITCH_S)


def _greet(source: Reader) -> None:
    source.refuse_eviction()
    source.ensure_groups()


def _leave(source: Reader) -> None:
    """Take the name off the groups; where Redis is away it stays, which harms nobody."""
    try:
        source.leave()
    except redis.RedisError as error:
        if not stream.is_temporary(error):
            raise


def _fail(message: str, code: int = 1) -> int:
    log.complain(message)
    return code


if __name__ == "__main__":
    sys.exit(main())
