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

from analytics.redash import mark, shape
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
    ours = [
        one for one in redash.get("/api/data_sources", list[shape.Source]) if one["name"] == NAME
    ]
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
    known = redash.get(f"/api/data_sources/{ours[0]['id']}", shape.Source)
    if known["type"] != "pg":
        raise RedashError(
            f"Redash has a data source {NAME} that is no PostgreSQL: give it another name"
        )
    if not redash.groups() & {int(group) for group in known.get("groups") or () if group.isdigit()}:
        raise RedashError(
            f"the user of REDASH_API_KEY is in no group that may use the data source {NAME}, and Redash lists"
            " its queries to nobody else: give one of the user's groups the data source"
        )
    options = known.get("options") or {}
    if wanted is None or _is_same(wanted, options):
        return Source(known["id"], None)
    # What somebody set beside it stays; a secret comes hidden, and goes back so.
    return Source(known["id"], {**options, **wanted})


def put(redash: Redash, source: Source) -> int:
    """Make it, or change it, and say its id; where another apply made one at the same time, the older's."""
    body = {"name": NAME, "type": "pg", "options": source.options}
    if source.id is not None:
        redash.post(f"/api/data_sources/{source.id}", body)
        return source.id
    made = int(redash.post("/api/data_sources", body, shape.Made)["id"])
    oldest = min(one["id"] for one in redash.get("/api/data_sources") if one["name"] == NAME)
    if oldest != made:
        redash.delete(f"/api/data_sources/{made}")  # no query asks it yet
    return int(oldest)


def _options(database_url: str) -> Options:
    try:
        url = urlsplit(database_url)
        port = url.port or 5432
    except ValueError:  # its words hold parts of the password
        url, port = urlsplit(""), 0
    if not url.scheme.startswith("postgres") or not url.path.strip("/"):
        raise RedashError(
            "REDASH_SOURCE_URL must be an address such as postgresql://infamous_bi:password@host:5432/name;"
            " of the password, anything but letters and digits is written as %2F is for /"
        )
    password = unquote(url.password or "")
    options: Options = {
        "host": unquote(url.hostname or ""),
        "port": port,
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
