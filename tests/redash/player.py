"""Plays recorded requests to the fake: names of recordings flow in, what differs in the answers flows out."""

from __future__ import annotations

import difflib
import http.client
import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from tests.redash.fake import Fake
from tests.redash.recorded import Pair, comparable, pairs
from tests.redash.sql import Canned

ADMIN_MARK: Final = "TESTKEY001"
# Headers that Redash's answers are compared by; the others are the HTTP server's.
_HEADERS: Final = ("Content-Type", "Content-Disposition", "Cache-Control", "Location")


@dataclass(frozen=True)
class Got:
    """What the fake answered."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.text)


class Player:
    """Talks to a fake as the recorder talked to Redash. It knows which key a recorded mark stands for."""

    def __init__(self, fake: Fake) -> None:
        self.fake = fake
        self.keys = {ADMIN_MARK: fake.admin_key}
        self.jobs: dict[str, str] = {}
        self.cookies: dict[str, str] = {}
        self.played: set[str] = set()
        self.last = Got(0, {}, "null")

    # -- by hand -----------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        form: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Got:
        """A request with that key, by default the admin's; an empty one is no key but the cookies."""
        headers = {}
        if raw is None and form is not None:
            raw = urlencode(form).encode()
        if raw is None and body is not None:
            raw = json.dumps(body).encode()
        key = self.fake.admin_key if key is None else key
        if key:
            headers["Authorization"] = f"Key {key}"
        elif self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={text}" for name, text in self.cookies.items())
        host = urlsplit(self.fake.url).netloc
        connection = http.client.HTTPConnection(host, timeout=30)
        try:
            connection.request(method, path, raw, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        self._eat(answer.headers.get("Set-Cookie") or "")
        return Got(answer.status, dict(answer.headers.items()), text)

    def _eat(self, cookie: str) -> None:
        name, _, rest = cookie.partition("=")
        if rest:
            self.cookies[name] = rest.partition(";")[0]

    def done(self, method: str, path: str, body: Any = None, **how: Any) -> Any:
        """The same, and it went well: the JSON of the answer."""
        got = self.ask(method, path, body, **how)
        assert got.status == 200, f"{method} {path}: {got.status} {got.text}"
        return got.json

    def run(self, path: str, body: Any = None) -> Any:
        """A run asked for there, and polled to its end: the job."""
        job = self.done("POST", path, {"max_age": 0} if body is None else body)["job"]
        return self.done("GET", f"/api/jobs/{job['id']}")["job"]

    def skip(self, **next_ids: int) -> None:
        """Use ids up, so that the next record of a table has the recorded one: `skip(queries=31)`."""
        for table, next_id in next_ids.items():
            getattr(self.fake.state, table).burn(next_id - 1)

    def give(self, part_of_text: str, name: str) -> None:
        """SQL with that part in it answers what was recorded there."""
        answer = pairs()[name].json
        data = answer["query_result"]["data"]
        columns = {column["name"]: column["type"] for column in data["columns"]}
        self.fake.give(part_of_text, Canned(columns, data["rows"]))

    # -- as recorded -------------------------------------------------------------------------------

    def play(self, *names: str) -> None:
        """Send what was recorded, and compare what comes back."""
        for name in names:
            pair = pairs()[name]
            self.last = self._sent(pair)
            self._learn(pair, self.last)
            self._compare(pair, self.last)
            self.played.add(name)

    def _sent(self, pair: Pair) -> Got:
        sign = (pair.authorization or "").removeprefix("Key ")
        key = self.keys.get(sign.rstrip("x"), sign)
        body = pair.body
        # The recorder sent half an object there, and kept only that it did.
        raw = b'{"name": ' if pair.name == "malformed_body" else None
        return self.ask(
            pair.method, self._here(pair.path), body, key=key, form=self._form(pair), raw=raw
        )

    def _form(self, pair: Pair) -> dict[str, str] | None:
        if pair.form is None:
            return None
        token = self.cookies.get("csrf_token", "")
        return {name: text.replace("CSRF_TOKEN", token) for name, text in pair.form.items()}

    def _here(self, text: str) -> str:
        """Recorded jobs and keys by their names here."""
        for there, here in self.jobs.items():
            text = text.replace(there, here)
        for mark, key in self.keys.items():
            text = text.replace(mark.ljust(40, "x"), key)
        return text

    def _learn(self, pair: Pair, got: Got) -> None:
        """Which job and which key a recorded one is here."""
        if got.status == 200 and isinstance(pair.json, dict) and got.text[:1] == "{":
            job = (pair.json.get("job") or {}).get("id")
            if job:
                self.jobs[job] = got.json["job"]["id"]
            key = pair.json.get("api_key")
            if isinstance(key, str) and pair.authorization != f"Key {key}":
                self.keys[key.rstrip("x")] = got.json["api_key"]

    def _compare(self, pair: Pair, got: Got) -> None:
        where = f"{pair.name}: {pair.method} {pair.path}"
        assert got.status == pair.status, f"{where}: {got.status} {got.text[:500]}"
        for name in _HEADERS:
            if name in pair.headers:
                here = self._there(got.headers.get(name, ""))
                assert comparable(here) == comparable(pair.headers[name]), f"{where}: {name}"
        if pair.text is not None:
            self._compare_text(pair.text, got.text, where)
        else:
            expected = _lines(pair.json)
            answered = _lines(json.loads(self._there(got.text)))
            differing = "\n".join(difflib.unified_diff(expected, answered, "Redash", "fake", n=2))
            assert not differing, f"{where}\n{differing}"

    def _compare_text(self, recorded: str, text: str, where: str) -> None:
        """Whole, but of a page cut short at its title, the title."""
        if recorded.endswith("</title>"):
            title = recorded[recorded.index("<title>") :]
            assert title in text, where
            assert text[:15].lower() == recorded[:15].lower(), where
        else:
            assert self._there(text) == recorded, where

    def _there(self, text: str) -> str:
        """The fake's own address and jobs as the recording has them."""
        text = text.replace(self.fake.url, "http://redash.test")
        for there, here in self.jobs.items():
            text = text.replace(here, there)
        return text


def _lines(value: Any) -> list[str]:
    return json.dumps(comparable(value), indent=1).splitlines()
