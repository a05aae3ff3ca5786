"""Home: how much room is needed flows in; a folder for all data and logs, gone at the end, flows out."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import psycopg2
import redis
from sqlalchemy.exc import SQLAlchemyError

from bench.house import BenchError
from infamous.embedded.folder import ServerError
from pipeline import log
from pipeline.patience import first_line


class Interrupted(Exception):
    """Somebody asked the bench to end."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP end the bench in order: once, however often they come."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(*_: Any) -> NoReturn:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise Interrupted

    for number in numbers:
        signal.signal(number, end)
    yield


@contextmanager
def home(needed_bytes: int) -> Iterator[Path]:
    """A new folder; raises BenchError where the disk has less room than that."""
    folder = Path(tempfile.mkdtemp(prefix="infamous-bench-"))
    try:
        free_bytes = shutil.disk_usage(folder).free
        if free_bytes < needed_bytes:
            raise BenchError(
                f"{folder.parent} has {free_bytes / 1e9:.1f} GB free and the bench needs up to"
                f" {needed_bytes / 1e9:.1f} GB: make room, set TMPDIR to another folder, or try --quick."
            )
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def told(interrupted: str) -> Iterator[None]:
    """Whatever is wrong in the block ends the process, with a sentence; ``interrupted`` is one of them."""
    try:
        yield
    except Interrupted:
        _end(interrupted)
    except (BenchError, ServerError) as error:
        _end(str(error))
    except redis.RedisError as error:
        _end(f"Redis cannot be used: {first_line(error)}.")
    except (psycopg2.Error, SQLAlchemyError) as error:
        _end(f"Postgres cannot be used: {first_line(error)}.")
    except OSError as error:
        _end(f"{error.filename or 'A file'} cannot be used: {error.strerror}.")


def _end(message: str) -> NoReturn:
    log.complain(message)
    raise SystemExit(1)
