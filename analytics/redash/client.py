"""Redash's HTTP API: a path and JSON flow in, JSON flows out, or a RedashError that says what to do.

It answers a bad key with 404, a bad body with 500, a path that it does not know with a page of HTML and 200.
Only reading is tried again by itself: whether a write whose answer was lost took place, the next plan sees.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlencode, urlsplit

import msgspec

from analytics.redash import shape

if TYPE_CHECKING:
    import urllib3

_CONNECT_S: Final = 5
# Redash itself ends a request after a minute.
_READ_S: Final = 75
_TRIES: Final = 5
_PAGE: Final = 250
# Of what is told of an error.
_LONGEST: Final = 300
# What came before had other dashboards.
OLDEST: Final = (10, 0)


class RedashError(Exception):
    """Redash cannot be used, or does not do what it is asked to; a sentence that says what to do."""


class Conflict(RedashError):
    """Somebody else changed it at the same time."""


class Refused(RedashError):
    """It answered with an error to what it was asked."""

    def __init__(self, what: str, status: int, said: str) -> None:
        super().__init__(f"Redash refused to {what}: {status} {said}".rstrip())
        self.status = status


class Redash:
    """A Redash, asked as the user whose key this is. The key is in no error and no log."""

    def __init__(self, url: str, key: str, public_url: str | None = None) -> None:
        parts = _parts(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            # Not what it is: somebody may have put the key there.
            raise RedashError("REDASH_URL must be an address such as http://localhost:5000")
        if parts.username or parts.password or parts.query:
            raise RedashError(
                "REDASH_URL must be an address alone: a name and a password in it, or anything behind a ?,"
                " would be shown with it"
            )
        self._address = url.rstrip("/")
        # Where people find it.
        self.url = (public_url or url).rstrip("/")
        self._headers = {"Authorization": f"Key {key}", "Accept": "application/json"}
        import urllib3  # noqa: PLC0415  # being imported, it opens a socket to learn about IPv6

        self._lost = urllib3.exceptions.HTTPError
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(_CONNECT_S, _READ_S))
        self._reading = urllib3.Retry(
            _TRIES - 1, backoff_factor=0.3, status_forcelist=(502, 503, 504), raise_on_status=False
        )

    def get(self, path: str, like: Any = Any, **query: Any) -> Any:
        """What is at a path of the API, which has the shape of ``like``, a type."""
        answer = self._ask("GET", f"{path}?{urlencode(query)}" if query else path, None)
        return self._checked(f"GET {path}", answer, like)

    def post(self, path: str, body: Any, like: Any = Any) -> Any:
        """Make something, or change it, and see what became of it."""
        return self._checked(f"POST {path}", self._ask("POST", path, body), like)

    def delete(self, path: str) -> Any:
        """Remove something; Redash archives a query or a dashboard."""
        return self._ask("DELETE", path, None)

    def all(self, path: str) -> Iterator[dict[str, Any]]:
        """All of a list that comes in pages, from the oldest to the newest."""
        page, seen = 1, 0
        while True:
            answer = self.get(path, shape.Page, page=page, page_size=_PAGE, order="created_at")
            yield from answer["results"]
            seen += len(answer["results"])
            if seen >= answer["count"] or not answer["results"]:
                return
            page += 1

    def version(self) -> str:
        """Its version, once it answers as it should and the key is an administrator's."""
        session = self.get("/api/session", shape.Session)
        if "admin" not in session["user"]["permissions"]:
            raise RedashError(
                "REDASH_API_KEY is not an administrator's: take the key of one from its page in Redash"
            )
        version = str(session["client_config"]["version"])
        if (number := _number(version)) is not None and number < OLDEST:
            raise RedashError(
                f"this Redash is of version {version}, which is too old: take 25.8 or newer"
            )
        return version

    def groups(self) -> set[int]:
        """The groups of the user whose key this is."""
        return set(self.get("/api/session", shape.Session)["user"].get("groups") or ())

    def _checked(self, what: str, answer: Any, like: Any) -> Any:
        try:
            msgspec.convert(answer, like)
        except msgspec.ValidationError as error:
            raise RedashError(
                f"{self._address} answers {what} with what Redash does not ({error}): is REDASH_URL right?"
            ) from None
        return answer

    def _ask(self, method: str, path: str, body: Any) -> Any:
        try:
            answer = self._pool.request(
                method,
                self._address + path,
                headers=self._headers,
                redirect=False,
                retries=self._reading if method == "GET" else False,
                **({} if body is None else {"json": body}),
            )
        except self._lost as error:
            raise RedashError(
                f"Redash at {self._address} does not answer ({_reason(error)}): is it running, and is"
                " REDASH_URL its address? Run this again then: what was done is not done twice"
            ) from None
        return self._read(method, path, answer)

    def _read(self, method: str, path: str, answer: urllib3.BaseHTTPResponse) -> Any:
        path, status = path.split("?", maxsplit=1)[0], answer.status
        what = f"{method} {path}"
        is_json = "json" in answer.headers.get("Content-Type", "")
        if status == 204 or (status == 200 and is_json):
            try:
                return json.loads(answer.data) if answer.data else None
            except (ValueError, RecursionError):
                raise RedashError(
                    f"{self._address} answers {what} with what is no JSON: is REDASH_URL right?"
                ) from None
        said = _message(answer.data) if is_json else ""
        if status == 404 and "login" in said:
            raise RedashError(
                f"Redash at {self._address} does not know REDASH_API_KEY: take the key from your page there"
            )
        if status == 409:
            raise Conflict(
                f"somebody else changes Redash at the same time ({what}): run this again"
            )
        if status == 429:
            raise RedashError(f"Redash lets nobody ask so often ({said or what}): wait an hour")
        if 300 <= status < 400 or (status == 200 and not is_json):
            raise RedashError(
                f"{self._address}{path} answers with a page, which Redash's API does not: is REDASH_URL"
                " right, with the organization's name behind it where it has several?"
            )
        raise Refused(what, status, said)


def _parts(url: str) -> SplitResult:
    """An address's parts; none where it is no address."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _message(data: bytes) -> str:
    """What an error says."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(found, dict):
        return ""
    job = found.get("job")
    said = found.get("message") or (job.get("error") if isinstance(job, dict) else "") or ""
    return " ".join(str(said).split())[:_LONGEST]


def _reason(error: Exception) -> str:
    """Why there was no answer, in a word or two: the whole of it may hold the address and more."""
    cause: Any = error
    while getattr(cause, "reason", None) is not None:
        cause = cause.reason
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(cause).__name__).lower().removesuffix(" error")


def _number(version: str) -> tuple[int, int] | None:
    """A version's first two numbers; None where it has none."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None
