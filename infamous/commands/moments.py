"""Moments: what a person writes for a time flows in, seconds or Unix milliseconds flow out."""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime
from typing import Final

import typer

from pipeline.event import datetime_of


def seconds(text: str) -> float:
    """A length of time: 20, 20s, 5m, 1h, 2d."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([smhd]?)", text.strip(), re.ASCII)
    if match is None:
        raise typer.BadParameter(f"{text} is not understood: give a time, as in 20s, 5m or 1h.")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


# Later than any moment.
FOR_EVER_MS: Final = 2**63


def moment_ms(text: str) -> int:
    """A time as Unix milliseconds: RFC 3339, or so long ago."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        try:
            ago_s = seconds(text)
        except typer.BadParameter:
            raise typer.BadParameter(
                f"{text} is not understood: give 2026-11-24T18:00:00Z, or 2h for two hours ago."
            ) from None
        return time.time_ns() // 1_000_000 - int(ago_s * 1000)
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text} has no offset: end it with Z for UTC, or with +01:00.")
    return int(moment.timestamp() * 1000)


def utc_day(text: str) -> date:
    """A UTC day: 2026-11-24."""
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(f"{text} is no day: give one as in 2026-11-24.") from None


def clipped(ms: int) -> datetime:
    """The moment as a time; the calendar's last one where it is later."""
    try:
        return datetime_of(ms)
    except (ValueError, OverflowError):
        return datetime.max.replace(tzinfo=UTC)
