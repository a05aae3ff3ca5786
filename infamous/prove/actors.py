"""The actors: a fault of the plan flows in, the harm is done and undone, what came of it flows out.

Each fault is acted out by a generator that yields for how many seconds it has nothing to do, so that all of
them run in one thread, the main one, and processes are started from there. It returns what it did in a few
words, or None when nobody was hurt: a fault that hit nothing proves nothing (stage.py).
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import redis
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from infamous.prove.crew import Crew, Fate, Member, Role
from infamous.prove.faults import Fault, Kind
from infamous.prove.proxy import Proxy, Toxic
from infamous.prove.servers import Server, Servers

T = TypeVar("T")
Act = Generator[float, None, T]

POLL_S: Final = 0.05
# What is insisted on for so long and does not come is given up. Jobs wait, too: a replay lets live events
# go first.
_PATIENCE_S: Final = 15.0
_JOB_S: Final = 70.0
# One that gives up in an outage is run again for so long: the run may be over by then, and all outages.
_JOBS_S: Final = 90.0
_WORKERS: Final = (Role.WORKER,)
_PRODUCERS: Final = (Role.PRODUCER, Role.RIVAL)
_DELAY_S: Final = 0.05
# Some get through, so that what was begun before is hurt in the middle.
_SHARE: Final = 0.5
# So much of the stream stays when it is trimmed: more than what is replayed reaches back.
_KEEP_S: Final = 5
_REPLAY_SINCE_S: Final = 4
_REPLAY_UNTIL_S: Final = 1
_MOST_WORKERS: Final = 5
_FAR_DAY: Final = "2099-01-01"

TERMINATE: Final = text("""
select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
where pid <> pg_backend_pid() and application_name like 'infamous consumer%'
""")
# Asked for again and again instead: who waits for a lock makes everybody wait behind them.
LIMIT_LOCK: Final = text("set local lock_timeout = '200ms'")
LOCK_TABLE: Final = text("lock table game_events in access exclusive mode")
EXPAND: Final = "alter table game_events add column proof_note text default 'none'"
CONTRACT: Final = "alter table game_events drop column proof_note"
# The one that rows flow into at this moment.
NEWEST_PARTITION: Final = text("""
select oid::regclass::text, pg_get_expr(relpartbound, oid) from pg_class
where oid = (select tableoid from game_events order by ts desc limit 1)
""")
MAKE_FAR: Final = f"select ensure_game_events_partitions('{_FAR_DAY}', '{_FAR_DAY}')"
DROP_FAR: Final = f"drop table game_events_{_FAR_DAY.replace('-', '')}"


class GaveUp(Exception):
    """What a fault insisted on did not come about."""


class Actors:
    """Everybody who does harm."""

    def __init__(
        self,
        crew: Crew,
        servers: Servers,
        lines: Mapping[str, Proxy],
        engine: Engine,
        client: redis.Redis,
        start: Callable[[Role], Member],
        workers: int,
    ) -> None:
        """``lines``: the proxies before "postgres" and perhaps "redis". ``engine`` and ``client`` go
        past them.
        """
        self._crew, self._servers, self._lines = crew, servers, lines
        self._engine, self._client = engine, client
        self._start, self._workers = start, workers
        # Each acts a fault out. Close it to break it off: what it did is undone. Raises GaveUp.
        self.acts: Mapping[Kind, Callable[[Fault], Act[str | None]]] = {
            Kind.WORKER_KILLED: self._worker_killed,
            Kind.WORKER_STOPPED: self._worker_stopped,
            Kind.WORKER_PAUSED: partial(self._paused, _WORKERS),
            Kind.WORKERS_SCALED: self._workers_scaled,
            Kind.PRODUCER_KILLED: partial(self._producer_ended, crew.kill, "killed"),
            Kind.PRODUCER_STOPPED: partial(self._producer_ended, crew.ask, "stopped"),
            Kind.PRODUCER_PAUSED: partial(self._paused, _PRODUCERS),
            Kind.POSTGRES_RESTARTED: self._postgres_restarted,
            Kind.POSTGRES_AWAY: self._postgres_away,
            Kind.BACKENDS_TERMINATED: self._backends_terminated,
            Kind.TABLE_LOCKED: self._table_locked,
            Kind.MIGRATION: self._migration,
            Kind.PARTITION_CHANGED: self._partition_changed,
            Kind.REDIS_KILLED: self._redis_killed,
            Kind.REDIS_FULL: self._redis_full,
            Kind.TRIMMED: self._trimmed,
            Kind.REPLAYED: self._replayed,
            Kind.ROLLED_UP: self._rolled_up,
            Kind.POSTGRES_REQUESTS_DROPPED: partial(self._line, "postgres", Toxic.DROP_REQUEST),
            Kind.POSTGRES_REPLIES_DROPPED: partial(self._line, "postgres", Toxic.DROP_REPLY),
            Kind.POSTGRES_DELAYED: partial(self._line, "postgres", Toxic.DELAY),
            Kind.POSTGRES_BLACK_HOLED: partial(self._line, "postgres", Toxic.BLACK_HOLE),
            Kind.POSTGRES_RESET: partial(self._line, "postgres", Toxic.RESET),
            Kind.REDIS_REQUESTS_DROPPED: partial(self._line, "redis", Toxic.DROP_REQUEST),
            Kind.REDIS_REPLIES_DROPPED: partial(self._line, "redis", Toxic.DROP_REPLY),
            Kind.REDIS_DELAYED: partial(self._line, "redis", Toxic.DELAY),
            Kind.REDIS_BLACK_HOLED: partial(self._line, "redis", Toxic.BLACK_HOLE),
            Kind.REDIS_RESET: partial(self._line, "redis", Toxic.RESET),
        }

    # --- workers and producers

    def _worker_killed(self, fault: Fault) -> Act[str | None]:
        victim = yield from self._victim(_WORKERS, fault)
        self._crew.kill(victim)
        yield fault.lasts_s
        heir = self._start(Role.WORKER)
        return f"{victim.name} killed, {heir.name} started"

    def _worker_stopped(self, fault: Fault) -> Act[str | None]:
        victim = yield from self._victim(_WORKERS, fault)
        self._crew.ask(victim)
        yield from self._gone(victim)
        heir = self._start(Role.WORKER)
        return f"{victim.name} stopped in {_since(victim.asked_s)}, {heir.name} started"

    def _paused(self, roles: tuple[Role, ...], fault: Fault) -> Act[str | None]:
        victim = yield from self._victim(roles, fault)
        self._crew.pause(victim)
        try:
            yield fault.lasts_s
        finally:
            self._crew.resume(victim)
        return f"{victim.name} frozen for {fault.lasts_s:.1f} s"

    def _workers_scaled(self, fault: Fault) -> Act[str | None]:
        steps = (1, _MOST_WORKERS, 2, self._workers)
        for wanted in steps:
            living = self._crew.living(Role.WORKER)
            for _ in range(wanted - len(living)):
                self._start(Role.WORKER)
            spare = living[wanted:]
            # Who is not past the start yet would be hit where SIGTERM has no meaning yet.
            yield from until(lambda spare=spare: all(one.is_at_work for one in spare))  # type: ignore[misc]
            for member in spare:
                self._crew.ask(member)
            for member in spare:
                yield from self._gone(member)
            yield fault.lasts_s / len(steps)
        return " then ".join(map(str, steps)) + " workers"

    def _producer_ended(
        self, end: Callable[[Member], None], word: str, fault: Fault
    ) -> Act[str | None]:
        victim = yield from self._victim(_PRODUCERS, fault)
        end(victim)
        yield from self._gone(victim)
        yield fault.lasts_s
        heir = self._start(victim.role)
        return f"{victim.name} {word}, {heir.name} started"

    def _victim(self, roles: tuple[Role, ...], fault: Fault) -> Act[Member]:
        """Somebody of these roles; waits for one who is past the start."""
        yield from until(lambda: self._crew.at_work(*roles) != [])
        members = self._crew.at_work(*roles)
        return members[fault.choice % len(members)]

    def _gone(self, member: Member) -> Act[None]:
        # A bound of its own is kept by the crew, which kills who does not stop.
        return until(lambda: member.exit_code is not None)

    # --- Postgres

    def _postgres_restarted(self, fault: Fault) -> Act[str | None]:
        return self._down(self._servers.postgres, signal.SIGQUIT, fault)

    def _postgres_away(self, fault: Fault) -> Act[str | None]:
        return self._down(self._servers.postgres, signal.SIGINT, fault)

    def _redis_killed(self, fault: Fault) -> Act[str | None]:
        return self._down(self._servers.redis, signal.SIGKILL, fault)

    def _down(self, server: Server, number: signal.Signals, fault: Fault) -> Act[str | None]:
        """End a server, leave it down, bring it back."""
        began_s = time.monotonic()
        if not server.send(number):
            return None
        yield from until(server.is_gone)
        yield fault.lasts_s
        # Not at once: processes of its own may still be leaving.
        yield from until(server.start)
        yield from until(server.is_ready)
        return f"{number.name}, back after {_since(began_s)}"

    def _backends_terminated(self, fault: Fault) -> Act[str | None]:  # noqa: ARG002
        ended = 0
        # Between two batches nobody may be there for a moment.
        deadline_s = time.monotonic() + _PATIENCE_S
        while not ended and time.monotonic() < deadline_s:
            with self._engine.connect() as connection:
                ended = connection.execute(TERMINATE).scalar_one()
            yield POLL_S
        return f"{ended} sessions ended" if ended else None

    def _table_locked(self, fault: Fault) -> Act[str | None]:
        with self._engine.connect() as connection:
            yield from _insisting(lambda: _lock(connection))
            yield fault.lasts_s
        return f"locked for {fault.lasts_s:.1f} s"

    def _migration(self, fault: Fault) -> Act[str | None]:
        yield from self._change(EXPAND)
        code, words = yield from self._process("infamous", "migrate")
        yield fault.lasts_s / 2
        yield from self._change(CONTRACT)
        return f"a column came and went; {words}" if code == 0 else None

    def _partition_changed(self, fault: Fault) -> Act[str | None]:
        with self._engine.connect() as connection:
            newest = connection.execute(NEWEST_PARTITION).one_or_none()
        if newest is None:
            return None
        name, bound = newest
        yield from self._change(MAKE_FAR)
        yield from self._change(f"alter table game_events detach partition {name}")
        yield fault.lasts_s
        yield from self._change(f"alter table game_events attach partition {name} {bound}")
        yield from self._change(DROP_FAR)
        return f"{name} was detached for {fault.lasts_s:.1f} s"

    def _change(self, statement: str) -> Act[None]:
        """DDL, tried until it gets its lock."""

        def change() -> None:
            with self._engine.begin() as connection:
                connection.execute(LIMIT_LOCK)
                connection.exec_driver_sql(statement)

        return _insisting(change)

    # --- Redis

    def _redis_full(self, fault: Fault) -> Act[str | None]:
        used = int(self._client.info("memory")["used_memory"])
        limit = str(self._client.config_get("maxmemory")["maxmemory"])
        self._client.config_set("maxmemory", used - 1)
        try:
            yield fault.lasts_s
        finally:
            self._client.config_set("maxmemory", limit)
        return f"refused writes for {fault.lasts_s:.1f} s"

    # --- the lines to both

    def _line(self, server: str, toxic: Toxic, fault: Fault) -> Act[str | None]:
        line = self._lines[server]
        before = line.hits[toxic]
        dice = random.Random(fault.choice)  # noqa: S311  # nothing secret
        more: dict[str, Any] = {}
        if toxic is Toxic.DELAY:
            more = {"delay_s": _DELAY_S}
        elif toxic in (Toxic.DROP_REQUEST, Toxic.DROP_REPLY):
            more = {"share": _SHARE, "dice": dice}
        if toxic is Toxic.DROP_REPLY and server == "postgres":
            # The worst reply to lose: everything is stored, and nobody was told.
            more["when"] = _is_commit
        with line.imposed(toxic, **more):
            yield fault.lasts_s
            # Whoever is waiting out an outage says nothing that could be lost.
            yield from until(lambda: line.hits[toxic] > before)
        return f"{line.hits[toxic] - before} times"

    # --- jobs, and what else runs to its end

    def _trimmed(self, fault: Fault) -> Act[str | None]:  # noqa: ARG002
        trimmed = yield from self._job("entries", "trim", "--keep", str(_KEEP_S))
        return f"{trimmed:,} entries trimmed"

    def _replayed(self, fault: Fault) -> Act[str | None]:  # noqa: ARG002
        span = ("--since", str(_REPLAY_SINCE_S), "--until", str(_REPLAY_UNTIL_S))
        sent = yield from self._job("entries", "replay", *span)
        return f"{sent:,} entries sent again"

    def _rolled_up(self, fault: Fault) -> Act[str | None]:  # noqa: ARG002
        rows = yield from self._job("rows", "rollup")
        return f"{rows:,} rows made"

    def _job(self, what: str, *command: str) -> Act[int]:
        """Run a job until it did something; says how much.

        Early in a run there may be nothing to do yet. One that gives up in an outage is run again, as its
        message asks.
        """
        deadline_s = time.monotonic() + _JOBS_S
        while True:
            code, words = yield from self._process("jobs", *command, "--json")
            amount = int(json.loads(words)[what]) if code == 0 else 0
            if amount:
                return amount
            if code not in (0, 1) or time.monotonic() > deadline_s:
                raise GaveUp(f"`python -m jobs {' '.join(command)}` ended with {code} ({words})")

    def _process(self, *command: str) -> Act[tuple[int, str]]:
        """Run a command to its end; its exit code and its last line."""
        member = self._crew.start(Role.JOB, *command, fate=Fate.ENDS)
        yield from until(lambda: member.exit_code is not None, _JOB_S)
        return member.exit_code or 0, member.last_line()


def until(is_so: Callable[[], bool], within_s: float = _PATIENCE_S) -> Act[None]:
    """Wait for a condition; raises GaveUp when it does not come."""
    deadline_s = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline_s:
            raise GaveUp(f"what it waits for did not come within {within_s:.0f} s")
        yield POLL_S


def _insisting(change: Callable[[], None]) -> Act[None]:
    """Try a change until it gets its lock; raises GaveUp when it never does."""

    def is_made() -> bool:
        try:
            change()
        except OperationalError:
            return False
        return True

    return until(is_made)


def _lock(connection: Connection) -> None:
    try:
        connection.execute(LIMIT_LOCK)
        connection.execute(LOCK_TABLE)
    except OperationalError:
        connection.rollback()
        raise


def _since(began_s: float) -> str:
    return f"{time.monotonic() - began_s:.1f} s"


def _is_commit(chunk: bytes) -> bool:
    # As psycopg2 says it, and as consumers do; the zero is the end of a query.
    return b"commit\0" in chunk.lower()
