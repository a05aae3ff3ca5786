"""A Redash on loopback for contract tests: HTTP flows in, the recorded Redash 26.3's answers flow out.

It really keeps what it is told, really runs SQL, and can be told to fail. A journal says what it was asked.
It knows nothing of the product: whoever is tested reaches it by its address and a key, as the real one.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self
from urllib.parse import parse_qs

from tests.redash.answer import (
    NO_CSRF,
    NO_LOGIN,
    Answer,
    Refusal,
    broken,
    forged,
    gave_up,
    moved,
    refused,
)
from tests.redash.call import Call, Caller, Handler
from tests.redash.faults import Faults
from tests.redash.handlers import accounts, pages
from tests.redash.routes import for_callers, is_known, open_to_all
from tests.redash.server import Request, Server
from tests.redash.sql import Canned
from tests.redash.state import State, User, new_key
from tests.redash.worker import Worker

ADMIN: Final = ("Root Admin", "admin@example.com", "admin-pw-123")
ADMIN_KEY: Final = "fakekey0admin0000000000000000000000admin"
VERSION: Final = "26.3.0"

# They run or look at something, and change no object.
_RUNS: Final = re.compile(
    r"/api/(query_results|queries/format|queries/[^/]+/(results|refresh)|data_sources/[^/]+/test"
    r"|jobs/[^/]+|alerts/[^/]+/eval)|/login"
)


@dataclass(frozen=True)
class Asked:
    """A line of the journal. `status` is None where nothing was answered; no key is kept in it."""

    method: str
    path: str
    search: str
    body: Any
    status: int | None

    @property
    def is_write(self) -> bool:
        """It was meant to change an object."""
        return self.method != "GET" and not _RUNS.fullmatch(self.path)


class Fake:
    """One Redash. Use it as a context manager, or `start` and `stop` it.

    With `canned` it never goes to a database; without, SQL runs where the data source says. `set_up=False` is
    a Redash that nobody opened yet.
    """

    def __init__(
        self, *, canned: Canned | None = None, admin_key: str = ADMIN_KEY, set_up: bool = True
    ) -> None:
        self.state = State()
        self.worker = Worker(self.state, canned)
        self.version = VERSION
        self.requests: list[Asked] = []
        self._faults = Faults()
        self._bugs: list[BaseException] = []
        self._lock = threading.RLock()
        self._server: Server | None = None
        self.admin_key = admin_key
        if set_up:
            self.state.set_up(*ADMIN, api_key=admin_key)

    # -- the server --------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen on a free port of loopback."""
        self._server = Server(self._answered)

    def stop(self) -> None:
        """Stop listening and close what is open. Raises what a handler of the fake's own broke on."""
        if self._server:
            self._server.close()
        if self._bugs:
            raise self._bugs[0]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:port`, without a slash at the end."""
        assert self._server is not None, "the fake is not started"
        return self._server.url

    # -- what was asked ----------------------------------------------------------------------------

    @property
    def writes(self) -> list[Asked]:
        """Every request meant to change an object, refused and cut ones too. Runs of SQL are none."""
        with self._lock:
            return [one for one in self.requests if one.is_write]

    def forget(self) -> None:
        """An empty journal."""
        with self._lock:
            self.requests.clear()

    @property
    def secrets(self) -> set[str]:
        """Every key, share token and password it ever held: none of it belongs in a log."""
        with self._lock:
            return set(self.state.secrets)

    @property
    def ran(self) -> list[str]:
        """The SQL that was run, in order; what is still due is run first."""
        with self._lock:
            self.worker.work()
            return list(self.worker.ran)

    # -- what is there -----------------------------------------------------------------------------

    def add_user(self, name: str, *groups: int) -> User:
        """Somebody with a password, in these groups; the key is on the user."""
        with self._lock:
            password = new_key()
            made = User(
                name=name,
                email=f"{name.lower()}@example.com",
                groups=list(groups),
                password=password,
            )
            self.state.remember(made.api_key, password)
            return self.state.users.add(made)

    def give(self, part_of_text: str, answer: Canned | str | None) -> None:
        """What SQL with that part in it answers, without a database; a text is its error, None as before."""
        with self._lock:
            self.worker.answers.pop(part_of_text, None)
            if answer is not None:
                self.worker.answers[part_of_text] = answer

    def tick(self) -> None:
        """Let the scheduler look once, and the worker do what it finds."""
        with self._lock:
            self.worker.tick()

    # -- what goes wrong ---------------------------------------------------------------------------

    def refuse(
        self,
        method: str,
        path: str,
        status: int,
        body: str = '{"message": "refused"}',
        times: int | None = 1,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer requests of that method (`*`: any) whose path matches so, that often; None: for ever."""
        with self._lock:
            self._faults.refuse(method, path, status, body, times, headers or {})

    def cut(self, after_writes: int = 0, *, done: bool = True, for_good: bool = False) -> None:
        """Close the connection on the write after so many: done or not, but never answered.

        `for_good`: nothing is answered any more until `mend`.
        """
        with self._lock:
            self._faults.cut(after_writes, done, for_good)

    def html_everywhere(self) -> None:
        """Something else answers at this address: 200 and a page, whatever is asked."""
        with self._lock:
            self._faults.html_everywhere = True

    def slow_worker(self, polls: int) -> None:
        """A job asked for from now on is done at the poll after so many: first it waits, then it runs."""
        with self._lock:
            self.worker.polls = polls

    def no_worker(self) -> None:
        """Nobody takes a job: they wait for ever."""
        with self._lock:
            self.worker.absent = True

    def mend(self) -> None:
        """All faults off; the version stays."""
        with self._lock:
            self._faults.mend()
            self.worker.polls, self.worker.absent = 0, False

    # -- answering ---------------------------------------------------------------------------------

    def _answered(self, request: Request) -> Answer:
        """The answer, written into the journal; Cut where none is given."""
        with self._lock:
            asked = Asked(request.method, request.path, request.search, _body(request.raw), None)
            self.requests.append(asked)
            place = len(self.requests) - 1
            answer = self._faults.before(asked.method, asked.path, asked.is_write)
            if answer is None:
                answer = self._handled(request)
                self._faults.after(asked.is_write)
            self.requests[place] = replace(asked, status=answer.status)
            return answer

    def _handled(self, request: Request) -> Answer:
        if not (request.method == "POST" and _RUNS.fullmatch(request.path)):
            self.worker.work()
        try:
            return self._routed(request)
        except Refusal as refusal:
            return refusal.answer
        except Exception as error:
            # A fault of the fake's own: the caller sees a 500, and stop() tells the test.
            self._bugs.append(error)
            return broken().answer

    def _routed(self, request: Request) -> Answer:
        is_api = request.path.startswith("/api/")
        found = open_to_all(request.method, request.path)
        if found:
            if not len(self.state.users) and found[0] is accounts.config:
                return gave_up()
            return self._called(request, Caller(), *found)
        caller = self._caller(request)
        if caller is None:
            if is_api:
                raise refused(404, NO_LOGIN)
            return moved(f"/login?next={self.url}{request.path}")
        found = for_callers(request.method, request.path)
        if found:
            return self._called(request, caller, *found)
        if request.method == "GET":
            return pages.front_end()
        if is_known(request.path):
            raise refused(400, NO_CSRF)
        return forged()

    def _called(
        self, request: Request, caller: Caller, handler: Handler, args: dict[str, str]
    ) -> Answer:
        return handler(
            Call(
                state=self.state,
                worker=self.worker,
                caller=caller,
                path=request.path,
                base=self.url,
                version=self.version,
                search=request.search,
                raw=request.raw,
                args=args,
            )
        )

    def _caller(self, request: Request) -> Caller | None:
        """By key in the header or the address, else by session. `Bearer` is not understood."""
        in_address = parse_qs(request.search).get("api_key", [""])[0]
        key = request.authorization.removeprefix("Key ").strip() or in_address
        if not key:
            user = self.state.users.get(self.state.sessions.get(request.cookies.get("session", "")))
            return Caller(user) if user and not user.disabled_at else None
        for user in self.state.users.where(lambda one: one.api_key == key):
            return None if user.disabled_at else Caller(user)
        for query in self.state.queries.where(lambda one: one.api_key == key):
            return Caller(query=query)
        for dashboard in self.state.dashboards.where(lambda one: key in one.tokens):
            return Caller(dashboard=dashboard)
        return None


def _body(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return raw.decode(errors="replace")
