"""What is said back: a status, a body and headers flow out. The words are Redash's own, as recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"

BAD_REQUEST: Final = "The browser (or proxy) sent a request that this server could not understand."
FORBIDDEN: Final = (
    "You don't have the permission to access the requested resource. "
    "It is either read-protected or not readable by the server."
)
NOT_FOUND: Final = (
    "The requested URL was not found on the server. "
    "If you entered the URL manually please check your spelling and try again."
)
CONFLICT: Final = (
    "A conflict happened while processing the request. "
    "The resource might have been modified while the request was being processed."
)
BROKEN: Final = "Internal Server Error"
NO_LOGIN: Final = "Couldn't find resource. Please login and try again."
NO_CSRF: Final = "The CSRF token is missing."
_OVERLOADED: Final = (
    "The server encountered an internal error and was unable to complete your request. "
    "Either the server is overloaded or there is an error in the application."
)
NO_RESULT: Final = "No cached result found for this query."


@dataclass(frozen=True)
class Answer:
    """A whole answer; `body` is sent as it is."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def shown(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """A value as JSON."""
    return Answer(status, json.dumps(value).encode(), {"Content-Type": JSON, **(headers or {})})


def page(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """A page for a browser."""
    return Answer(status, text.encode(), {"Content-Type": HTML, **(headers or {})})


def error_page(status: int, title: str, words: str) -> Answer:
    """An error as a browser sees it."""
    text = (
        f"<!doctype html>\n<html lang=en>\n<title>{status} {title}</title>\n"
        f"<h1>{title}</h1>\n<p>{words}</p>\n"
    )
    return page(text, status)


def forged() -> Answer:
    """A form without its CSRF token, or a POST to nowhere."""
    return error_page(400, "Bad Request", NO_CSRF)


def gave_up() -> Answer:
    """What stands before Redash answers for it."""
    return error_page(500, "Internal Server Error", _OVERLOADED)


def moved(to: str) -> Answer:
    """A 302 to another page."""
    text = (
        "<!doctype html>\n<html lang=en>\n<title>Redirecting...</title>\n<h1>Redirecting...</h1>\n"
        "<p>You should be redirected automatically to the target URL: "
        f'<a href="{to}">{to}</a>. If not, click the link.\n'
    )
    return page(text, 302, {"Location": to})


class Refusal(Exception):
    """A request that Redash refuses, with the answer it gives."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def refused(status: int, message: str) -> Refusal:
    """The usual refusal: `{"message": ...}`."""
    return Refusal(shown({"message": message}, status))


def no_run(status: int, error: str) -> Refusal:
    """A query that is not run: it has the shape of a failed job."""
    return Refusal(shown({"job": {"status": 4, "error": error}}, status))


def broken() -> Refusal:
    """What Redash makes of most bad input."""
    return refused(500, BROKEN)


def not_found() -> Refusal:
    """An id that is not there, where Redash looks before it leaps."""
    return refused(404, NOT_FOUND)
