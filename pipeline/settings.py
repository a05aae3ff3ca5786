"""Settings: environment variables and ``.env`` flow in, one frozen, typed Settings flows out.

Flags win over the environment, the environment over ``.env``. ``NAME_FILE`` names a file that holds the
value, for secrets. Each variable is the field's name in capitals.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints
from urllib.parse import urlsplit

import msgspec
from dotenv import dotenv_values
from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Partitions = Annotated[int, Meta(ge=1, le=256)]
Replicas = Annotated[int, Meta(ge=0, le=16)]
# A year is for ever; infinity is no number of milliseconds for Redis.
Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]
# What each kind is called where a value is none of it.
_KINDS: Final[dict[Any, str]] = {
    Positive: "a whole number of 1 or more",
    Count: "a whole number of 0 or more",
    Port: "a whole number from 0 to 65535",
    Partitions: "a whole number from 1 to 256",
    Replicas: "a whole number from 0 to 16",
    Seconds: "a number of seconds above 0, up to 31536000 (a year)",
}

# The role of dashboards and notebooks.
READER: Final = "infamous_bi"
_SQLALCHEMY_SCHEME: Final = "postgresql+psycopg2"
_POSTGRES_SCHEMES: Final = frozenset({"postgres", "postgresql", _SQLALCHEMY_SCHEME})
# libpq and redis-py take a password after the question mark, too.
_PASSWORD: Final = re.compile(r"(?<=[?&])password=[^&]*")
_BARE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_REDIS_SCHEMES: Final = frozenset({"redis", "rediss", "unix"})


class SettingsError(Exception):
    """A setting has a value that cannot be used."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every process needs to know, from wherever it was said."""

    # None means: an embedded server in the data folder.
    database_url: str | None = None
    redis_url: str | None = None
    # Where reports, notebooks and dashboards read, as a replica; None: at database_url.
    read_database_url: str | None = None
    # The role that changes the schema, drops old partitions, swaps tables and erases players, at Postgres
    # itself where database_url leads to a pooler; None: that of database_url.
    migrator_database_url: str | None = None
    # Into how many streams events are divided by player; more than one are for a Redis Cluster.
    stream_partitions: Partitions = 1
    # Replicas of Redis that must have an event before it counts as sent; 0: the master alone.
    redis_replicas: Replicas = 0
    # Where RQ keeps its jobs; None: in the stream's Redis.
    rq_redis_url: str | None = None
    infamous_home: str = ".infamous"
    # Events older than this are refused; partitions reach this far back.
    retention_days: Positive = 90
    # A folder, or an address that fsspec knows, where all events are kept as Parquet; None: nowhere.
    archive_url: str | None = None
    # A Redash to be given dashboards, and the key of its administrator; the database as Redash reaches it,
    # with the role that reads; None: Redash knows it already.
    redash_url: str | None = None
    redash_api_key: str | None = None
    # Its address for people's browsers; None: the same.
    redash_public_url: str | None = None
    redash_source_url: str | None = None
    # A folder for reports, and how many of them stay there; None: reports/ in the data folder.
    report_dir: str | None = None
    reports_kept: Positive = 14
    # How long backups of Postgres and Redis are kept, which no job reaches; None: nobody said.
    backup_days: Positive | None = None
    # A batch is stored when it holds this many entries or bytes, or its first entry waited this long,
    # or the stream has nothing more to give: a lone event never waits for company.
    batch_rows: Positive = 5000
    batch_bytes: Positive = 8 * 1024 * 1024
    batch_age_s: Seconds = 0.5
    # What a consumer read and did not acknowledge for this long is taken over by another. It must be
    # longer than storing a batch takes; when it is not, the work is done twice and stored once.
    claim_after_s: Seconds = 15.0
    # How long a process that starts waits for a server before it gives up. A running one never does.
    connect_timeout_s: Seconds = 30.0
    # Refused entries among a consumer's last ten thousand at which it stops, before it acknowledges
    # the batch that brought them; None: it only raises the alarm.
    quarantine_limit: Count | None = None
    # One port a process; 0 takes a free one, None serves no metrics.
    metrics_port: Port | None = None
    metrics_host: str = "127.0.0.1"
    # Touched once a second for as long as the process's loop turns.
    liveness_file: str | None = None
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def reading_url(self) -> str | None:
        """The database, for whoever reads and does nothing else."""
        return self.read_database_url or self.database_url

    @property
    def source_url(self) -> str | None:
        """The database for Redash: where it was said, else where we read, as who reads and does no more."""
        reads = self.read_database_url
        is_reader = reads is not None and urlsplit(reads).username == READER
        return self.redash_source_url or (reads if is_reader else None)

    @property
    def queue_url(self) -> str | None:
        """The Redis that RQ uses."""
        return self.rq_redis_url or self.redis_url

    @property
    def schema_url(self) -> str | None:
        """The database, as whoever may change its schema."""
        return self.migrator_database_url or self.database_url

    @property
    def archive(self) -> str | None:
        """Where the archive is kept: where it was said, else beside an embedded Redis, else nowhere."""
        if self.archive_url is None and self.redis_url is None:
            return str(self.home / "archive")
        return self.archive_url

    @property
    def reports(self) -> Path:
        """Where reports are kept, absolute."""
        if self.report_dir is None:
            return self.home / "reports"
        return Path(self.report_dir).expanduser().resolve()

    @property
    def home(self) -> Path:
        """The data folder of the embedded servers, absolute."""
        return Path(self.infamous_home).expanduser().resolve()


def load(environment: Mapping[str, str] | None = None, *, dotenv: Path | None = None) -> Settings:
    """The settings of this process; SettingsError says in a sentence which one is unusable."""
    if environment is None:
        environment = os.environ
    # python-dotenv yields None for a bare name without "=".
    file_values = dotenv_values(dotenv or Path(".env"))
    from_file = {k: v for k, v in file_values.items() if v is not None}
    values: dict[str, str] = {}
    for field in Settings.__struct_fields__:
        name = field.upper()
        is_said = name in environment or f"{name}_FILE" in environment
        value = _lookup(environment if is_said else from_file, name)
        if value:
            values[field] = value
    for field in ("database_url", "read_database_url", "migrator_database_url"):
        if field in values:
            values[field] = _sqlalchemy_url(field.upper(), values[field])
    for field in ("redis_url", "rq_redis_url"):
        for url in each_host(values[field]) if field in values else ():
            _require_scheme(field.upper(), url, _REDIS_SCHEMES)
    if values.get("archive_url", "").startswith("memory:"):
        raise SettingsError(
            "ARCHIVE_URL names the memory of a process, which ends with it: name a folder, or a store that"
            " lasts."
        )
    for choice in ("log_format", "log_level"):
        if choice in values:
            values[choice] = values[choice].lower()
    for field in ("infamous_home", "report_dir"):
        try:
            Path(values.get(field, "")).expanduser()
        except RuntimeError:
            raise SettingsError(
                f"{field.upper()}={values[field]} names the home of no user of this machine."
            ) from None
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        # "Expected `int`, got `str` - at `$.batch_rows`"
        field = str(error).rpartition(" - at `$.")[2].rstrip("`")
        raise SettingsError(
            f"{field.upper()}={values[field]} cannot be used: {_expected(field)} is expected."
        ) from None


def _expected(field: str) -> str:
    """What a setting takes, in the words of whoever sets it."""
    hint = get_type_hints(Settings, include_extras=True)[field]
    kinds = [_KINDS[kind] for kind in (hint, *get_args(hint)) if kind in _KINDS]
    if kinds:
        return kinds[0]
    *words, last = get_args(hint)
    return f"{', '.join(words)} or {last}"


def _lookup(values: Mapping[str, str], name: str) -> str | None:
    path = values.get(f"{name}_FILE")
    if path and not values.get(name):
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(
                f"{name}_FILE names {path}, which cannot be read: {error.strerror}."
            ) from None
        except UnicodeDecodeError:
            raise SettingsError(f"{name}_FILE names {path}, which is not UTF-8 text.") from None
    return values.get(name)


def _sqlalchemy_url(name: str, url: str) -> str:
    """SQLAlchemy 2.1 reads ``postgresql://`` as psycopg 3; every URL names psycopg2 from here on."""
    _require_scheme(name, url, _POSTGRES_SCHEMES)
    if _BARE_PERCENT.search(url):  # libpq would repeat what stands around it, perhaps the password
        raise SettingsError(f"{name} holds a % that begins no escape: write it as %25.")
    return _SQLALCHEMY_SCHEME + url[url.index("://") :]


def _require_scheme(name: str, url: str, schemes: frozenset[str]) -> None:
    if "://" not in url or url.split("://", 1)[0] not in schemes:
        shown = " or ".join(f"{scheme}://" for scheme in sorted(schemes))
        raise SettingsError(f"{name} does not start with {shown}: give a URL of that kind.")
    # The messages repeat nothing of the URL: what looks wrong may be the password.
    advice = "write / ? # @ : in a password as %2F %3F %23 %40 %3A"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise SettingsError(f"{name} is no URL with a host and a port: {advice}.") from None
    # libpq and SQLAlchemy would not agree where the host begins.
    if parts.netloc.count("@") > 1 or (parts.netloc and "@" in parts.path + parts.fragment):
        raise SettingsError(f"{name} has more than one @: {advice}.")


def each_host(url: str) -> list[str]:
    """A URL for each of the nodes that one names: ``redis://user:password@one:7000,two:7000/0``."""
    scheme, slashes, rest = url.partition("://")
    netloc, slash, path = rest.partition("/")
    user, at, hosts = netloc.rpartition("@")
    return [f"{scheme}{slashes}{user}{at}{host}{slash}{path}" for host in hosts.split(",")]


def libpq_url(database_url: str) -> str:
    """The same address in the form libpq, and so psycopg2 and psql, reads."""
    return "postgresql" + database_url[database_url.index("://") :]


def shown_url(url: str) -> str:
    """The URL without its password, for people and logs."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    # Put together by hand: urlunsplit drops the slashes where there is no host, as in unix:///path.
    shown = f"{parts.scheme}://{user.split(':', 1)[0]}{at}{host}{parts.path}"
    return _PASSWORD.sub("password=...", f"{shown}?{parts.query}") if parts.query else shown
