"""The shadow: entries of the stream or an archive flow in, a table of the same days beside the live one flows
out.

It is built in a schema of its own by the same migrations and the same loader as the live table, so an event
means the same in it. difference.py compares the two, and swap.py puts its days in place of the live ones.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from typing import Final

import psycopg2
from sqlalchemy import Connection, Engine, create_engine, pool, text
from sqlalchemy.exc import OperationalError

from consumer import load
from consumer.batch import Batch, Limits, handfuls
from consumer.load import Loader
from infamous import schema
from jobs.owner import owner_of_tables
from jobs.progress import Progress, untold
from jobs.retention import oldest_kept
from jobs.sift import packed
from jobs.storage import Storage
from pipeline import failpoint, lock, pooled
from pipeline.entry import Entry
from pipeline.event import MAX_AHEAD_MS, Reason, Window
from pipeline.patience import Stopped, first_line, wait_for
from pipeline.streams import Streams
from pipeline.tables import SHADOW_SCHEMA

SCHEMA: Final = SHADOW_SCHEMA
# What may have been on its way into the live table when the build began: longer than any transaction.
MARGIN: Final = timedelta(minutes=10)

_LIMITS: Final = Limits(rows=5000, bytes=8 * 1024 * 1024, age_s=math.inf)
# How long a server that went away in the middle is waited for.
_PATIENCE_S: Final = 60.0
# Any number, the same for whoever works on the shadow; and how long one waits for another.
_LOCK: Final = 4_815_162_348
_TURN_S: Final = 10
# Events of other days: none of the shadow's business.
_OUTSIDE: Final = frozenset({Reason.TOO_OLD, Reason.IN_FUTURE})

TAKE_TURN: Final = text("select pg_advisory_lock(:lock)")
EXISTS: Final = text("select to_regclass(:table) is not null")
LIVE_SCHEMA: Final = text("""
select quote_ident(nspname) from pg_class join pg_namespace on pg_namespace.oid = relnamespace
where pg_class.oid = 'game_events'::regclass
""")
MAKE_DAYS: Final = f"""
create table if not exists {SCHEMA}.shadow_days (
    day date primary key,
    began_at timestamptz not null default now(),
    finished_at timestamptz,
    swapped_at timestamptz
)
"""
ADD_DAY: Final = text(
    f"insert into {SCHEMA}.shadow_days (day) values (:day) on conflict do nothing"  # noqa: S608
)
FINISH: Final = text(f"update {SCHEMA}.shadow_days set finished_at = now()")  # noqa: S608
DAYS: Final = text(
    f"select day, began_at, finished_at, swapped_at from {SCHEMA}.shadow_days order by day"  # noqa: S608
)
IS_TABLE: Final = text(
    f"select relkind = 'r' from pg_class where oid = '{SCHEMA}.forgotten_players'::regclass"  # noqa: S608
)
# The parts of a day, as they hang on a table.
PARTS: Final = text("""
select child.relname as name, pg_get_expr(child.relpartbound, child.oid) as bounds
from pg_inherits join pg_class child on child.oid = inhrelid
where inhparent = to_regclass(:table)
  and child.relname between :stem and :stem || '_99'
order by child.relname
""")


class ShadowError(Exception):
    """The shadow is not there, or is none that this can be done with."""


@dataclass(frozen=True)
class Shadow:
    """The shadow that is there."""

    # The schema of the live tables, as it is written in a statement.
    live: str
    days: tuple[date, ...]
    # Those that are in place of the live ones already.
    swapped: frozenset[date]
    began_at: datetime
    # Whether all there was to be read went into it.
    is_complete: bool

    @property
    def waiting(self) -> tuple[date, ...]:
        """The days that were not swapped yet."""
        return tuple(day for day in self.days if day not in self.swapped)

    @property
    def newer_than(self) -> datetime:
        """Rows that were stored in the live table since then may be missing in the shadow."""
        return self.began_at - MARGIN


@dataclass(frozen=True)
class Built:
    """What a build did. Entries are those of all days that were looked through."""

    first_day: date
    last_day: date
    entries: int
    rows: int
    # Events that were in the shadow already.
    duplicates: int
    # What is no event, by reason: it stays out, as it stayed out of the live table.
    refused: Mapping[str, int] = field(default_factory=dict)
    # Of players who are forgotten.
    forgotten: int = 0
    is_complete: bool = True


def stem(day: date) -> str:
    """What the names of the day's partitions begin with."""
    return f"game_events_{day:%Y%m%d}"


def midnight(day: date) -> datetime:
    """When a UTC day begins."""
    return datetime.combine(day, time(), UTC)


def midnight_ms(day: date) -> int:
    """The same in Unix milliseconds."""
    return int(midnight(day).timestamp()) * 1000


def pages(streams: Streams, first_day: date) -> Iterator[Sequence[Entry]]:
    """What the streams hold that may be of this day or a later one. Raises what redis-py raises."""
    # A clock may have been ahead when it was sent; and it may have been sent at any time since.
    streams.look()
    yield from streams.walk(from_ms=midnight_ms(first_day) - MAX_AHEAD_MS, to_ms=2**63)


def archived_pages(storage: Storage, first_day: date, last_day: date) -> Iterator[Sequence[Entry]]:
    """What the archive holds of these UTC days, both ends included."""
    from jobs import archive  # noqa: PLC0415  # it takes 60 MB

    first_ms, end_ms = midnight_ms(first_day), midnight_ms(last_day + timedelta(days=1))
    for events in archive.read(storage, first_ms, end_ms - 1):
        entries = packed(events, Window(0, end_ms)).entries
        yield [Entry(b"0-0", payload, form) for form, payload in entries]


def build(
    engine: Engine,
    entries: Iterable[Sequence[Entry]],
    first_day: date,
    last_day: date,
    *,
    retention_days: int,
    is_fresh: bool = False,
    tell: Progress = untold,
    stop: threading.Event | None = None,
) -> Built:
    """Store what these pages of entries hold of whole UTC days, both ends included, in the shadow.

    Broken off, or repeated on the shadow that is there, it adds what is missing; ``is_fresh`` drops that one
    first. Nothing is made or dropped before the first page is in hand, since an archive that is damaged gives
    none: what ``entries`` raises leaves all as it was. Raises ShadowError, NotTheOwner.
    """
    _require_days(first_day, last_day, retention_days)
    with engine.connect() as connection:
        owner = owner_of_tables(connection)
    days = [first_day + timedelta(days=n) for n in range((last_day - first_day).days + 1)]
    url = _url(engine, owner)
    with alone(engine), _opened(url) as inside:
        pages = iter(entries)
        first_page = next(pages, ())
        if is_fresh:
            with inside.connect() as connection:
                drop_schema(connection, SCHEMA)
        _make(engine, inside, days)
        with closing(Loader(url, "shadow")) as loader:
            done = _fill(
                loader, chain([first_page], pages), Built(first_day, last_day, 0, 0, 0), tell, stop
            )
        if done.is_complete:
            with inside.begin() as connection:
                connection.execute(FINISH)
    return done


def find(connection: Connection) -> Shadow:
    """The shadow that is there. Raises ShadowError where there is none, or one of another version."""
    if not connection.execute(EXISTS, {"table": f"{SCHEMA}.shadow_days"}).scalar_one():
        raise ShadowError("There is no shadow: `infamous shadow build` makes one.")
    rows = connection.execute(DAYS).all()
    live = connection.execute(LIVE_SCHEMA).scalar_one()
    _require_same_version(connection, live)
    if not rows:
        raise ShadowError("The shadow has no days yet: `infamous shadow build` goes on with it.")
    return Shadow(
        live=live,
        days=tuple(row.day for row in rows),
        swapped=frozenset(row.day for row in rows if row.swapped_at is not None),
        began_at=min(row.began_at for row in rows),
        is_complete=all(row.finished_at is not None for row in rows),
    )


def drop(engine: Engine, name: str, *, is_dry_run: bool = False) -> bool:
    """Remove the shadow, or what a swap set aside; says whether it was there. Raises NotTheOwner."""
    if is_dry_run:
        with engine.connect() as connection:
            return _is_there(connection, name)
    with alone(engine), engine.connect() as connection:
        owner_of_tables(connection)
        return drop_schema(connection, name)


def drop_schema(connection: Connection, name: str) -> bool:
    """Drop a schema of ours and all that is in it; says whether it was there."""
    found = _is_there(connection, name)
    connection.exec_driver_sql(f"drop schema if exists {name} cascade")
    connection.commit()
    return found


def _is_there(connection: Connection, name: str) -> bool:
    is_there = text("select exists (select from pg_namespace where nspname = :name)")
    return bool(connection.execute(is_there, {"name": name}).scalar_one())


@contextmanager
def alone(engine: Engine) -> Iterator[None]:
    """Be the only one that builds, swaps or drops a shadow. Raises ShadowError where another goes on, and
    NeedsSession.
    """
    pooled.require_session(engine, "A shadow")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as guard:
        # Whoever was killed may take a moment to be gone.
        guard.exec_driver_sql(f"set lock_timeout = '{_TURN_S}s'")
        try:
            guard.execute(TAKE_TURN, {"lock": _LOCK})  # until the connection is closed
        except OperationalError as error:
            if not lock.is_locked_out(error):
                raise
            raise ShadowError(
                "Another build or swap of a shadow is under way: wait until it is done, and run it again."
            ) from error
        yield


def _require_days(first_day: date, last_day: date, retention_days: int) -> None:
    today = datetime.now(UTC).date()
    if first_day > last_day:
        raise ShadowError(f"{first_day} is later than {last_day}: give the earlier day first.")
    if last_day > today:
        raise ShadowError(f"{last_day} has not begun: give a day up to {today}.")
    oldest = oldest_kept(today, retention_days)
    if first_day < oldest:
        raise ShadowError(
            f"{first_day} is out of retention, so what is built would be dropped again: begin with"
            f" {oldest}, or raise RETENTION_DAYS ({retention_days})."
        )


def _require_same_version(connection: Connection, live: str) -> None:
    versions = text(
        f"select (select version_num from {SCHEMA}.alembic_version)"  # noqa: S608  # the names are ours
        f" = (select version_num from {live}.alembic_version)"
    )
    if not connection.execute(versions).scalar_one():
        raise ShadowError(
            "The shadow was built by another version than the tables are at: build it anew, with --fresh."
        )


def _url(engine: Engine, owner: str) -> str:
    """The database with the shadow's schema as the only one that is looked into, as the tables' owner."""
    role = owner.replace("\\", "\\\\").replace(" ", "\\ ")
    had = engine.url.query.get("options", "")
    options = " ".join(filter(None, [str(had), f"-csearch_path={SCHEMA}", f"-crole={role}"]))
    url = engine.url.update_query_dict({"options": options}).render_as_string(hide_password=False)
    # A plus is a space to SQLAlchemy and a plus to libpq.
    address, _, query = url.partition("?")
    return f"{address}?{query.replace('+', '%20')}"


@contextmanager
def _opened(url: str) -> Iterator[Engine]:
    engine = create_engine(url, poolclass=pool.NullPool, connect_args={"connect_timeout": 5})
    try:
        yield engine
    finally:
        engine.dispose()


def _make(engine: Engine, inside: Engine, days: list[date]) -> None:
    """The schema with its tables, and the days' partitions; what is there already stays."""
    with inside.begin() as connection:
        connection.exec_driver_sql(f"create schema if not exists {SCHEMA}")
    with engine.connect() as connection:
        live: str = connection.execute(LIVE_SCHEMA).scalar_one()
        if connection.execute(EXISTS, {"table": f"{SCHEMA}.shadow_days"}).scalar_one():
            _require_same_version(connection, live)
            _require_these(connection, days)
        else:
            schema.upgrade(inside, has_roles=False)
    with inside.begin() as connection:
        connection.exec_driver_sql(MAKE_DAYS)
        # Whoever is forgotten is so here as well, from the same moment on.
        if connection.execute(IS_TABLE).scalar_one():
            connection.exec_driver_sql("drop table forgotten_players")
            connection.exec_driver_sql(
                f"create view forgotten_players as select * from {live}.forgotten_players"  # noqa: S608
            )
        for day in days:
            _make_parts(connection, live, day)
            connection.execute(ADD_DAY, {"day": day})


def _require_these(connection: Connection, days: list[date]) -> None:
    rows = connection.execute(DAYS).all()
    if any(row.swapped_at is not None for row in rows):
        raise ShadowError(
            "Some days of the shadow were swapped already: `infamous shadow swap` goes on with the others,"
            " and --fresh begins anew."
        )
    if rows and [row.day for row in rows] != days:
        raise ShadowError(
            f"The shadow holds {rows[0].day} to {rows[-1].day}: name these days, or remove it first with"
            " `infamous shadow drop`."
        )


def _make_parts(connection: Connection, live: str, day: date) -> None:
    """The day's partitions as the live table has them, whole or in parts; as usual where it has none."""
    if connection.execute(PARTS, {"table": f"{SCHEMA}.game_events", "stem": stem(day)}).first():
        return
    for part in connection.execute(
        PARTS, {"table": f"{live}.game_events", "stem": stem(day)}
    ).all():
        connection.exec_driver_sql(f"create table {part.name} (like game_events including all)")
        connection.exec_driver_sql(
            f"alter table game_events attach partition {part.name} {part.bounds}"
        )
    ensure = text("select ensure_game_events_partitions(:day, :day)")
    connection.execute(ensure, {"day": day})


def _fill(
    loader: Loader,
    entries: Iterable[Sequence[Entry]],
    done: Built,
    tell: Progress,
    stop: threading.Event | None,
) -> Built:
    stop = stop or threading.Event()
    window = Window(midnight_ms(done.first_day), midnight_ms(done.last_day + timedelta(days=1)) - 1)
    batch = Batch(_LIMITS)
    try:
        for page in entries:
            if stop.is_set():
                return replace(done, is_complete=False)
            for handful in handfuls(page):
                batch.take(handful, window, 0.0)
                if batch.is_due(0.0, is_drained=False):
                    done = _store(loader, batch, done, stop)
                    tell(done.entries, None)
                    batch = Batch(_LIMITS, batch.mean())
        done = _store(loader, batch, done, stop)
    except Stopped:  # in a wait for the server
        return replace(done, is_complete=False)
    tell(done.entries, done.entries)
    return done


def _store(loader: Loader, batch: Batch, done: Built, stop: threading.Event) -> Built:
    """Store what the batch holds of the days, and count it in."""
    refused = Counter(done.refused) + Counter(
        refusal.reason.value for refusal in batch.refusals if refusal.reason not in _OUTSIDE
    )
    kept = replace(batch, refusals=[], refused_at=[])
    done = replace(done, entries=done.entries + len(batch.ids), refused=dict(refused))
    if not kept.events:
        return done
    try:
        stored = wait_for(
            "Postgres",
            lambda: loader.store(kept),
            is_temporary=load.is_temporary,
            stop=stop,
            at_most_s=_PATIENCE_S,
        )
    except (psycopg2.Error, load.SchemaError) as error:
        raise ShadowError(
            f"The shadow cannot be written to ({first_line(error)}): build it again, and it goes on."
        ) from error
    failpoint.reached("in_shadow")
    return replace(
        done,
        rows=done.rows + stored.rows,
        duplicates=done.duplicates + stored.duplicates,
        refused=dict(refused + Counter(stored.refused)),
        forgotten=done.forgotten + stored.forgotten,
    )
