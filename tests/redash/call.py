"""One request as a handler sees it: who calls, with what. Refusals for bad bodies and bad ids flow out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, parse_qsl

from tests.redash.answer import BAD_REQUEST, FORBIDDEN, Answer, broken, not_found, refused
from tests.redash.state import Dashboard, Query, Record, State, Table, User, Widget

if TYPE_CHECKING:
    from tests.redash.worker import Worker

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Caller:
    """A user, or nobody but the holder of a query's key or of a board's share token."""

    user: User | None = None
    query: Query | None = None
    dashboard: Dashboard | None = None

    @property
    def is_public(self) -> bool:
        """No user stands behind it."""
        return self.user is None


@dataclass
class Call:
    """A request that found its handler. `base` is the server's own address."""

    state: State
    worker: Worker
    caller: Caller
    path: str
    base: str
    version: str
    search: str = ""
    raw: bytes = b""
    args: dict[str, str] = field(default_factory=dict)

    @cached_property
    def params(self) -> dict[str, list[str]]:
        """The query string, values by name."""
        return parse_qs(self.search, keep_blank_values=True)

    def param(self, name: str, default: str = "") -> str:
        """The first value of that name."""
        return self.params.get(name, [default])[0]

    @property
    def given(self) -> bool:
        """There is a body."""
        return bool(self.raw)

    @cached_property
    def body(self) -> dict[str, Any]:
        """The JSON object sent, whatever its Content-Type; 400 for what is none."""
        try:
            value = json.loads(self.raw)
        except ValueError:
            raise refused(400, BAD_REQUEST) from None
        if not isinstance(value, dict):
            raise broken()
        return value

    @cached_property
    def form(self) -> dict[str, str]:
        """The form sent."""
        return dict(parse_qsl(self.raw.decode(errors="replace")))

    def required(self, *names: str) -> None:
        """400 where one of them is not in the body."""
        if any(name not in self.body for name in names):
            raise refused(400, BAD_REQUEST)

    def need(self, *names: str) -> None:
        """500 where one of them is not in the body: Redash does not look before it takes."""
        if any(name not in self.body for name in names):
            raise broken()

    def only(self, *names: str) -> None:
        """500 where the body has any other key: Redash hands them on to a model that has no such field."""
        if set(self.body) - set(names):
            raise broken()

    def number(self, name: str = "id") -> int:
        """A number from the path; 500 for anything else."""
        try:
            return int(self.args[name])
        except ValueError:
            raise broken() from None

    def find(
        self, table: Table[R], name: str = "id", otherwise: Callable[[], Exception] = not_found
    ) -> R:
        """The record the path names, or the refusal that is usual there."""
        record = table.get(self.number(name))
        if record is None:
            raise otherwise()
        return record

    @property
    def me(self) -> User:
        """The user who calls; 403 for a key that is nobody's."""
        if self.caller.user is None:
            raise refused(403, FORBIDDEN)
        return self.caller.user

    # -- who may -----------------------------------------------------------------------------------

    @property
    def rights(self) -> list[str]:
        """The caller's rights, by group."""
        if self.caller.user is None:
            return ["view_query"]
        found: list[str] = []
        for one in self.caller.user.groups:
            group = self.state.groups.get(one)
            found += [right for right in (group.permissions if group else ()) if right not in found]
        return found

    @property
    def is_admin(self) -> bool:
        """The caller is an admin."""
        return "admin" in self.rights

    def allow(self, right: str) -> None:
        """403 without that right; an admin has all."""
        if not self.is_admin and right not in self.rights:
            raise refused(403, FORBIDDEN)

    def admin_only(self) -> None:
        """403 for everybody else."""
        if not self.is_admin:
            raise refused(403, FORBIDDEN)

    def view_only(self, source: int | None) -> bool:
        """What lists say of a source: no group of the caller's gives more, not even an admin's."""
        mine = self.caller.user.groups if self.caller.user else []
        return all(
            grant.view_only
            for grant in self.state.grants
            if grant.source == source and grant.group in mine
        )

    def listed(self, source: int | None) -> bool:
        """A source is in one of the caller's groups. For lists an admin is no exception."""
        mine = self.caller.user.groups if self.caller.user else []
        return any(grant.source == source and grant.group in mine for grant in self.state.grants)

    def may_use(self, source: int | None, only_look: bool) -> bool:
        """The caller may read the source, or run any SQL on it."""
        if self.is_admin:
            return True
        return self.listed(source) and (only_look or not self.view_only(source))

    def may_see(self, query: Query) -> bool:
        """The caller may read a query and its results."""
        if self.caller.query:
            return self.caller.query.id == query.id
        if self.caller.dashboard:
            board = self.caller.dashboard
            shown = [self.state.query_of(one) for one in self.state.widgets_of(board)]
            return any(one is not None and one.id == query.id for one in shown)
        return self.may_use(query.source, only_look=True)

    def may_see_widget(self, widget: Widget) -> bool:
        """A text, or a query the caller may read."""
        query = self.state.query_of(widget)
        return query is None or self.may_see(query)

    def may_change(self, kind: str, record: Query | Dashboard) -> bool:
        """An admin, the owner, or who was permitted to."""
        if self.is_admin or (self.caller.user and self.caller.user.id == record.user):
            return True
        return any(
            (one.kind, one.of, one.user, one.access) == (kind, record.id, self.me.id, "modify")
            for one in self.state.permits
        )

    def change(self, kind: str, record: Query | Dashboard) -> None:
        """403 for who may not change it."""
        if not self.may_change(kind, record):
            raise refused(403, FORBIDDEN)

    def likes(self, kind: str, record: Record) -> bool:
        """It is one of the caller's favourites."""
        return (kind, record.id, self.caller.user.id if self.caller.user else 0) in (
            self.state.favorites
        )


Handler = Callable[[Call], Answer]
