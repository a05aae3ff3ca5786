"""What Redash keeps: plain records flow in and out by id. No rule of the API is here, only the tables."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from tests.redash.rendering import query_hash

ADMIN_GROUP: Final = 1
DEFAULT_GROUP: Final = 2
ADMIN_RIGHTS: Final = ("admin", "super_admin")
USUAL_RIGHTS: Final = (
    "create_dashboard",
    "create_query",
    "edit_dashboard",
    "edit_query",
    "view_query",
    "view_source",
    "execute_query",
    "list_users",
    "schedule_query",
    "list_dashboards",
    "list_alerts",
    "list_data_sources",
)
SETTINGS: Final[dict[str, Any]] = {
    "auth_password_login_enabled": True,
    "auth_saml_enabled": False,
    "auth_saml_type": "",
    "auth_saml_entity_id": "",
    "auth_saml_metadata_url": "",
    "auth_saml_nameid_format": "",
    "auth_saml_sso_url": "",
    "auth_saml_x509_cert": "",
    "auth_saml_sp_settings": "",
    "date_format": "DD/MM/YY",
    "time_format": "HH:mm",
    "integer_format": "0,0",
    "float_format": "0,0.00",
    "null_value": "null",
    "multi_byte_search_enabled": False,
    "auth_jwt_login_enabled": False,
    "auth_jwt_auth_issuer": "",
    "auth_jwt_auth_public_certs_url": "",
    "auth_jwt_auth_audience": "",
    "auth_jwt_auth_algorithms": ["HS256", "RS256", "ES256"],
    "auth_jwt_auth_cookie_name": "",
    "auth_jwt_auth_header_name": "",
    "feature_show_permissions_control": False,
    "send_email_on_failed_scheduled_queries": False,
    "hide_plotly_mode_bar": False,
    "disable_public_urls": False,
    "auth_google_apps_domains": [],
}

T = TypeVar("T")


def now() -> str:
    """UTC to the millisecond, as Redash writes it."""
    moment = datetime.datetime.now(datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_key() -> str:
    """40 characters nobody guesses."""
    return secrets.token_hex(20)


@dataclass
class Record:
    """What every record has; `id` is set by its table."""

    id: int = 0
    created_at: str = field(default_factory=now)
    updated_at: str = ""

    def __post_init__(self) -> None:
        self.updated_at = self.updated_at or self.created_at

    def touch(self) -> None:
        """It was changed just now."""
        self.updated_at = now()


@dataclass
class User(Record):
    """Without a password it was invited and never came."""

    name: str = ""
    email: str = ""
    api_key: str = field(default_factory=new_key)
    groups: list[int] = field(default_factory=list)
    password: str | None = None
    disabled_at: str | None = None
    invitation: str = field(default_factory=new_key)


@dataclass
class Group(Record):
    """A name and rights."""

    name: str = ""
    permissions: tuple[str, ...] = USUAL_RIGHTS
    builtin: bool = False


@dataclass
class Source(Record):
    """A data source; `options` hold the secrets in clear."""

    name: str = ""
    type: str = "pg"
    options: dict[str, Any] = field(default_factory=dict)
    paused: int = 0
    pause_reason: str | None = None
    schema: list[dict[str, Any]] | None = None


@dataclass
class Grant:
    """A group may use a source. The same one twice is possible, and breaks the group's list."""

    group: int
    source: int
    view_only: bool = False


@dataclass
class Query(Record):
    """A saved query. Its version never changes."""

    name: str = ""
    description: str | None = None
    text: str = ""
    schedule: Any = None
    schedule_failures: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    source: int | None = None
    user: int = 0
    modified_by: int = 0
    api_key: str = field(default_factory=new_key)
    is_archived: bool = False
    is_draft: bool = True
    result: int | None = None

    @property
    def parameters(self) -> list[dict[str, Any]]:
        """The definitions of its parameters."""
        found = (self.options or {}).get("parameters") or []
        return [one for one in found if isinstance(one, dict)]

    @property
    def hash(self) -> str:
        """Of the text with the default values in it."""
        return query_hash(self.text, self.parameters, bool(self.options.get("apply_auto_limit")))


@dataclass
class Visualization(Record):
    """How a query's result is drawn."""

    query: int = 0
    type: str = "TABLE"
    name: str = ""
    description: str | None = None
    options: Any = None


@dataclass
class Dashboard(Record):
    """A board; the live share tokens pile up, newest last."""

    name: str = ""
    slug: str = ""
    user: int = 0
    filters: bool = False
    options: Any = field(default_factory=dict)
    layout: Any = field(default_factory=list)
    is_archived: bool = False
    is_draft: bool = True
    tags: list[str] = field(default_factory=list)
    version: int = 1
    tokens: list[str] = field(default_factory=list)


@dataclass
class Widget(Record):
    """A place on a board: a visualization or a text."""

    dashboard: int = 0
    visualization: int | None = None
    text: str | None = None
    width: Any = 1
    options: Any = None


@dataclass
class Destination(Record):
    """Where alerts go."""

    name: str = ""
    type: str = ""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Alert(Record):
    """A condition on a query's newest result."""

    name: str = ""
    query: int = 0
    options: Any = field(default_factory=dict)
    state: str = "unknown"
    last_triggered_at: str | None = None
    rearm: Any = None
    user: int = 0


@dataclass
class Subscription(Record):
    """Who hears of an alert, and where; no destination is an e-mail."""

    alert: int = 0
    user: int = 0
    destination: int | None = None


@dataclass
class Snippet(Record):
    """A text for the editor."""

    trigger: str = ""
    description: str = ""
    snippet: str = ""
    user: int = 0


@dataclass
class Result(Record):
    """What a run gave; `data` has columns and rows."""

    hash: str = ""
    text: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    source: int = 0
    runtime: float = 0.0
    retrieved_at: str = field(default_factory=now)


@dataclass
class Job:
    """A run that was asked for. Status 1 waits, 2 runs, 3 is done, 4 failed; `rid` is its result."""

    id: str
    source: int
    hash: str = ""
    text: str = ""
    asked_by: str = ""
    query: int | None = None
    status: int = 1
    error: str = ""
    rid: int | None = None
    schema: list[dict[str, Any]] | None = None
    wants_schema: bool = False
    polls: int = 0
    started_at: str = ""

    @property
    def over(self) -> bool:
        """It will not change any more."""
        return self.status > 2


@dataclass
class Permit(Record):
    """A user may change a query or dashboard of another's."""

    kind: str = ""
    of: int = 0
    access: str = "modify"
    user: int = 0
    given_by: int = 0


R = TypeVar("R", bound=Record)


class Table(Generic[R]):
    """Records by id, in the order they came. An id is never given twice."""

    def __init__(self) -> None:
        self._rows: dict[int, R] = {}
        self._last = 0

    def add(self, record: R) -> R:
        """Keep it under the next id."""
        self._last += 1
        record.id = self._last
        self._rows[record.id] = record
        return record

    def burn(self, up_to: int | None = None) -> None:
        """Use ids up, as inserts do that the database refuses: the next one, or all up to that one."""
        self._last = self._last + 1 if up_to is None else max(self._last, up_to)

    def get(self, record_id: object) -> R | None:
        """The one of that id, if any."""
        return self._rows.get(record_id) if isinstance(record_id, int) else None

    def drop(self, record: R) -> None:
        """Forget it."""
        del self._rows[record.id]

    def where(self, holds: Callable[[R], bool]) -> list[R]:
        """Those for which it holds."""
        return [row for row in self._rows.values() if holds(row)]

    def __iter__(self) -> Iterator[R]:
        return iter(list(self._rows.values()))

    def __len__(self) -> int:
        return len(self._rows)


class State:
    """All tables of one Redash. Before set-up there is nobody."""

    def __init__(self) -> None:
        self.users: Table[User] = Table()
        self.groups: Table[Group] = Table()
        self.sources: Table[Source] = Table()
        self.grants: list[Grant] = []
        self.queries: Table[Query] = Table()
        self.visualizations: Table[Visualization] = Table()
        self.dashboards: Table[Dashboard] = Table()
        self.widgets: Table[Widget] = Table()
        self.alerts: Table[Alert] = Table()
        self.subscriptions: Table[Subscription] = Table()
        self.destinations: Table[Destination] = Table()
        self.snippets: Table[Snippet] = Table()
        self.results: Table[Result] = Table()
        self.permits: Table[Permit] = Table()
        self.jobs: dict[str, Job] = {}
        self.favorites: set[tuple[str, int, int]] = set()
        self.settings: dict[str, Any] = dict(SETTINGS)
        self.sessions: dict[str, int] = {}
        self.secrets: set[str] = set()
        self.users_asked_for = 0

    def set_up(self, name: str, email: str, password: str, api_key: str | None = None) -> User:
        """The first user, an admin, and the two groups that Redash is born with."""
        self.groups.add(Group(name="admin", permissions=ADMIN_RIGHTS, builtin=True))
        self.groups.add(Group(name="default", builtin=True))
        user = User(name=name, email=email, groups=[ADMIN_GROUP, DEFAULT_GROUP], password=password)
        user.api_key = api_key or user.api_key
        self.users.add(user)
        self.remember(user.api_key, password)
        return user

    def remember(self, *secret: str) -> None:
        """Keep what no log may hold."""
        self.secrets.update(one for one in secret if one)

    def widgets_of(self, dashboard: Dashboard) -> list[Widget]:
        """A board's widgets by id."""
        return self.widgets.where(lambda one: one.dashboard == dashboard.id)

    def visualizations_of(self, query: Query) -> list[Visualization]:
        """A query's visualizations by id."""
        return self.visualizations.where(lambda one: one.query == query.id)

    def query_of(self, widget: Widget) -> Query | None:
        """The query a widget shows; None for a text."""
        visualization = self.visualizations.get(widget.visualization)
        return self.queries.get(visualization.query) if visualization else None

    def drop_visualization(self, visualization: Visualization) -> None:
        """Its widgets go with it."""
        for widget in self.widgets.where(lambda one: one.visualization == visualization.id):
            self.widgets.drop(widget)
        self.visualizations.drop(visualization)

    def newest_result(self, source: int | None, text_hash: str) -> Result | None:
        """The newest result of that text on that source."""
        found = self.results.where(lambda one: one.source == source and one.hash == text_hash)
        return found[-1] if found else None
