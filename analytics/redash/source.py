"""The data source: the tables' address flows in, what Redash knows it by flows out.

Redash never shows a password again, so a digest of it stays in the source's options: that of another
password is another one.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from analytics.redash import mark
from analytics.redash.client import Redash, RedashError
from analytics.redash.mark import Mark
from analytics.redash.model import Options

NAME: Final = "Infamous"
_HIDDEN: Final = "--------"


@dataclass(frozen=True)
class Source:
    """What Redash has of it, and what it lacks. Without an id, it is to be made."""

    id: int | None
    # What is to be written; None where it is as it should be, or nobody said what it should be.
    options: Options | None


def find(redash: Redash, database_url: str | None) -> Source:
    """The source of our name, held against an address where one is given. Raises RedashError."""
    ours = [one for one in redash.get("/api/data_sources") if one["name"] == NAME]
    if len(ours) > 1:
        raise RedashError(
            f"Redash has {len(ours)} data sources with the name {NAME}: give all but one of them another name"
        )
    if not ours and database_url is None:
        raise RedashError(
            f"Redash has no data source {NAME}: REDASH_SOURCE_URL must name the database, as Redash"
            " reaches it, with the role infamous_bi"
        )
    wanted = None if database_url is None else _options(database_url)
    if not ours:
        return Source(None, wanted)
    known = redash.get(f"/api/data_sources/{ours[0]['id']}")
    if known["type"] != "pg":
        raise RedashError(
            f"Redash has a data source {NAME} that is no PostgreSQL: give it another name"
        )
    if wanted is None or _is_same(wanted, known["options"]):
        return Source(known["id"], None)
    return Source(known["id"], wanted)


def put(redash: Redash, source: Source) -> int:
    """Make it, or change it, and say its id; where another apply made one at the same time, the older's."""
    body = {"name": NAME, "type": "pg", "options": source.options}
    if source.id is not None:
        return int(redash.post(f"/api/data_sources/{source.id}", body)["id"])
    made = int(redash.post("/api/data_sources", body)["id"])
    oldest = min(one["id"] for one in redash.get("/api/data_sources") if one["name"] == NAME)
    if oldest != made:
        redash.delete(f"/api/data_sources/{made}")  # no query asks it yet
    return int(oldest)


def _options(database_url: str) -> Options:
    url = urlsplit(database_url)
    password = unquote(url.password or "")
    options: Options = {
        "host": unquote(url.hostname or ""),
        "port": url.port or 5432,
        "dbname": unquote(url.path.lstrip("/")),
        "user": unquote(url.username or ""),
        "password": password,
    }
    for name, value in parse_qsl(url.query):
        if name in {"sslmode", "host"}:
            options[name] = value
    salt = f"{options['user']}@{options['host']}/{options['dbname']}"
    seen = hmac.new(password.encode(), salt.encode(), hashlib.sha256).hexdigest()[:12]
    return mark.put(options, Mark(NAME, fields={"password": seen}))


def _is_same(wanted: Options, known: dict[str, Any]) -> bool:
    """Whether all that can be compared is equal."""
    hidden = {**wanted, "password": _HIDDEN}
    return all(
        mark.of(known) == mark.of(wanted) if name == "infamous" else known.get(name) == value
        for name, value in hidden.items()
    )
