"""Logs: sentences for the operator flow in with their facts as fields, lines on stderr flow out."""

from __future__ import annotations

import logging
import sys
from typing import Any, cast

import structlog


def configure(log_format: str = "console", log_level: str = "info") -> None:
    """Send every log line of this process to stderr, as text for people or as JSON for machines."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True)
            if log_format == "json"
            else structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry the name of the part that speaks."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(part=name))


class _Adopted(logging.Handler):
    """Lines of a library, as lines of ours: the first of each, for the rest may hold a row's values."""

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage().splitlines()[0][:300]
        facts = {}
        if record.exc_info and record.exc_info[1] is not None:
            kind, error, _ = record.exc_info
            facts["error"] = f"{kind.__name__}: {str(error).partition(chr(10))[0]}"[:200]
        get(record.name.partition(".")[0]).log(record.levelno, line, **facts)


def adopt(*names: str) -> None:
    """Send what a library says through ``logging`` under these names to where our own lines go."""
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers = [_Adopted()]
        logger.propagate = False


def complain(message: str) -> None:
    """Tell the person who started this process, in one sentence, what is wrong and what to do."""
    print(message, file=sys.stderr)  # noqa: T201  # the one place that speaks outside the log
