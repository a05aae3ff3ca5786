"""The row: a payload flows in, what SQLAlchemy inserts flows out; the table is the pipeline's own."""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Engine, Integer, Text, Uuid, create_engine
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """What SQLAlchemy collects the mapped classes in."""


class GameEvent(Base):
    """An event as it is stored."""

    __tablename__ = "game_events"

    ts: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    player: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    xp_delta: Mapped[int] = mapped_column(Integer)
    karma_delta: Mapped[int] = mapped_column(Integer)
    karma_total: Mapped[int] = mapped_column(Integer)
    rank: Mapped[str] = mapped_column(Text)
    energy_source: Mapped[str | None] = mapped_column(Text)
    seq: Mapped[int | None] = mapped_column(BigInteger)
    details: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))


def row_of(payload: str | bytes) -> dict[str, Any]:
    """The columns' values; raises where the payload is no event."""
    return values_of(json.loads(payload))


def values_of(event: dict[str, Any]) -> dict[str, Any]:
    """The same of an event whose JSON was read already."""
    return event | {"id": UUID(event["id"]), "ts": datetime.fromisoformat(event["ts"])}


def engine() -> Engine:
    """To the database of the bench."""
    return create_engine(os.environ["DATABASE_URL"])
