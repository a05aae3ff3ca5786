"""``infamous prove``: a seed and a length flow in; the pipeline is ill-treated; an outcome flows out.

Everything is the run's own: a folder, servers, processes. The processes reach the servers through proxies
that can be told to misbehave; the harness itself goes past them, by the sockets.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    contextmanager,
    nullcontext,
)
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import redis
from rich.console import Console
from rich.live import Live
from sqlalchemy import Engine, create_engine, pool, text
from sqlalchemy.exc import DBAPIError

from infamous import schema
from infamous.embedded.folder import ServerError
from infamous.prove import cluster, servers, soak, view
from infamous.prove.actors import Actors
from infamous.prove.check import Account, check
from infamous.prove.crew import STOP_S, Crew, Fate, Member, Role
from infamous.prove.faults import ONE_REDIS, SINGLE_FAILURES, WHOLE_S, Kind, plan
from infamous.prove.poison import REASONS, REFUSED_BY_DATABASE
from infamous.prove.proxy import proxies
from infamous.prove.remains import Remains
from infamous.prove.stage import Done, Stage
from infamous.prove.upheaval import Upheaval
from pipeline import failpoint
from pipeline.settings import Settings
from pipeline.stop import on_signals
from pipeline.stream import StreamState
from pipeline.streams import Streams, together
from producer import journal

DEFAULT_RATE: Final = 8000.0
# Six nodes more share the machine.
CLUSTER_RATE: Final = 2000.0
PARTITIONS: Final = 6
CLAIM_AFTER_S: Final = 2.0
PLAYERS: Final = 200
# Each of its events costs the producer a parcel that is made in vain.
RIVAL_RATE: Final = 5.0
STRANGER_RATE: Final = 300.0
POISON_SHARE: Final = 0.02
DRAIN_S: Final = 60.0
# Twice what the servers' tests take: a node that gets no turn on a busy machine is not dead.
NODE_TIMEOUT_MS: Final = 2000

_PRODUCERS: Final = (Role.PRODUCER, Role.RIVAL)
_POLL_S: Final = 0.02
_START_S: Final = 30.0
# Acts that began late may go on for so long after the time is up.
_OVERTIME_S: Final = 120.0
# Killing a dozen processes and stopping two servers.
_GRACE_S: Final = 20.0
_LOOK_EVERY_S: Final = 0.5
_LINE_EVERY_S: Final = 5.0
_RATE_WINDOW_S: Final = 5.0

# What one kind of poison is refused for: no rule of the consumers' knows it.
REFUSE_PLAYERS: Final = f"""
alter table game_events add constraint refused_by_proof
check (not starts_with(player, '{REFUSED_BY_DATABASE}'))
"""
DROP_UNIQUE_KEY: Final = "alter table game_events drop constraint game_events_pkey"
COUNT: Final = text("""
select coalesce(sum(stored), 0)::bigint, coalesce(sum(quarantined), 0)::bigint from pipeline_health
""")
LIMIT_LOOK: Final = text("set local statement_timeout = '500ms'; set local lock_timeout = '100ms'")


class Control(StrEnum):
    """A promise broken on purpose, to see that a run then fails."""

    ACKNOWLEDGE_FIRST = "acknowledge-first"
    NO_UNIQUE_KEY = "no-unique-key"


# What brings each to light within seconds.
_EXPOSING: Final = {
    Control.ACKNOWLEDGE_FIRST: (Kind.WORKER_KILLED, Kind.TABLE_LOCKED),
    Control.NO_UNIQUE_KEY: (
        Kind.POSTGRES_REPLIES_DROPPED,
        Kind.BACKENDS_TERMINATED,
        Kind.WORKER_PAUSED,
    ),
}


@dataclass(frozen=True)
class Layout:
    """How events are laid out on a Redis Cluster."""

    partitions: int = PARTITIONS
    # So many must have an event before it counts as sent.
    replicas: int = 0


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    seconds: float
    seed: int
    workers: int
    rate: float
    control: Control | None = None
    # None: every class, each of which must then take effect if there is time for all.
    faults: tuple[Kind, ...] | None = None
    keep: bool = False
    # Steady, with one long outage, and memory watched.
    soak: bool = False
    # None: one Redis.
    cluster: Layout | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The classes of fault that this run has."""
        if self.soak:
            return (Kind.POSTGRES_AWAY,)
        if self.faults is not None:
            return self.faults
        if self.control is None:
            return ONE_REDIS if self.cluster is None else SINGLE_FAILURES
        # That masters die beside it must hide nothing.
        more = () if self.cluster is None else (Kind.MASTER_KILLED,)
        return _EXPOSING[self.control] + more

    @property
    def usual_rate(self) -> float:
        """Events a second where nothing else is said."""
        if self.soak:
            return soak.RATE
        return DEFAULT_RATE if self.cluster is None else CLUSTER_RATE

    @property
    def command(self) -> str:
        """What runs the same again."""
        words = (
            f"infamous prove --seconds {self.seconds:g} --seed {self.seed} --workers {self.workers}"
        )
        if self.soak:
            words += " --soak"
        if self.cluster is not None:
            words += f" --cluster --partitions {self.cluster.partitions}"
            words += f" --replicas {self.cluster.replicas}"
        if self.rate != self.usual_rate:
            words += f" --rate {self.rate:g}"
        if self.control is not None:
            words += f" --control {self.control}"
        if self.faults is not None:
            words += f" --faults {','.join(self.faults)}"
        return words

    @property
    def is_whole(self) -> bool:
        """Whether every class has to take effect."""
        is_chaos = self.faults is None and self.control is None and not self.soak
        return is_chaos and self.seconds >= WHOLE_S


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    options: Options
    log: list[Done]
    account: Account
    # None: not within DRAIN_S.
    drained_s: float | None
    # Everything that is wrong, in sentences; the account's own problems among it.
    problems: list[str]
    # How long each phase took.
    durations_s: dict[str, float]
    # Where everything still is, if it was kept.
    folder: Path | None
    # What memory did, in a soak.
    memory: soak.Memory | None = None

    @property
    def is_proven(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def lines(self) -> list[str]:
        """The faults by class, the account, and the verdict."""
        lines = [*view.fault_log(self.log), ""]
        if self.memory is not None:
            lines += [*self.memory.lines(), ""]
        lines.append(view.account_line(self.account, self.drained_s))
        if (layout := self.options.cluster) is not None:
            lines += view.cluster_lines(self.log, self.account, layout.partitions, layout.replicas)
        if self.is_proven:
            lines.append("PROVEN")
        else:
            lines += [f"- {problem}" for problem in self.problems]
            lines.append(f"NOT PROVEN: run it again with {self.options.command}")
        if self.folder is not None:
            lines.append(f"Data, journals and logs are in {self.folder}.")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        effects = [one.kind for one in self.log if one.effect is not None]
        ran_s = self.durations_s["ran"]
        return {
            "proven": self.is_proven,
            "seed": self.options.seed,
            "options": _said(asdict(self.options), "cluster"),
            "account": _said(asdict(self.account), "lost_by_redis")
            | {"passed": self.account.passed},
            "drained_s": None if self.drained_s is None else round(self.drained_s, 3),
            "problems": self.problems,
            "faults": {kind: effects.count(kind) for kind in self.options.kinds},
            "fault_log": [asdict(one) for one in self.log],
            "stored_per_s": round(self.account.stored / ran_s, 1),
            "durations_s": self.durations_s,
            "memory": None if self.memory is None else asdict(self.memory),
            "folder": None if self.folder is None else str(self.folder),
        }


class Interrupted(Exception):
    """The run was asked to end before its time; prove() says what is left of it."""


def prove(options: Options, console: Console) -> Outcome:
    """Run it, with a view of it on the console; nothing is left running, however it ends.

    The folder stays where the outcome is bad, or an error came. Raises Interrupted and ServerError.
    """

    home: Path | None = None

    def cut_short() -> None:
        """The stop itself takes too long: the servers and processes die with this one."""
        if console.is_terminal:
            console.set_alt_screen(False)
            console.show_cursor(True)
        if home is not None and not options.keep:
            shutil.rmtree(home, ignore_errors=True)
        os._exit(1)

    with on_signals(_GRACE_S, cut_short) as stop:
        home = Path(tempfile.mkdtemp(prefix="infamous-prove-"))
        is_wanted = True
        try:
            with ExitStack() as stack:
                outcome = Run(options, console, stop, home, stack).run()
            is_wanted = options.keep or not outcome.is_proven
        except Interrupted:
            is_wanted = options.keep
            left = f"everything is in {home}" if options.keep else "nothing was left behind"
            raise Interrupted(f"Stopped before the end: nothing is proven, and {left}.") from None
        finally:
            if not is_wanted:
                shutil.rmtree(home, ignore_errors=True)
    return outcome


@dataclass
class _Figures:
    """What is shown of the stream and the tables; the last that was seen."""

    added: int = 0
    stored: int = 0
    quarantined: int = 0
    waiting: int = 0
    away: str | None = None
    seen: deque[tuple[float, int, int]] = field(default_factory=deque)

    def rate(self, place: int) -> float:
        """Events a second over the last seconds: 1 is into the stream, 2 is out of it."""
        if len(self.seen) < 2:
            return 0.0
        first, last = self.seen[0], self.seen[-1]
        return (last[place] - first[place]) / (last[0] - first[0])


class Run:
    """One run."""

    def __init__(
        self,
        options: Options,
        console: Console,
        stop: threading.Event,
        home: Path,
        stack: ExitStack,
    ) -> None:
        """What is entered on the stack is what the run leaves behind when it is over: nothing."""
        self.options, self.console, self.stop, self.home = options, console, stop, home
        self.journals = home / "journals"
        self.durations_s: dict[str, float] = {}
        self.figures = _Figures()
        self.phase = "starting"
        self._began_s = time.monotonic()
        self._show_due_s = 0.0
        self._look_due_s = 0.0
        self._live: Live | None = None

        layout = options.cluster
        owned = stack.enter_context(servers.running(home, has_redis=layout is None))
        sockets = {"postgres": owned.postgres_socket}
        if layout is None:
            sockets["redis"] = owned.redis_socket
        proxied = stack.enter_context(proxies(*sockets.values()))
        lines = dict(zip(sockets, proxied, strict=True))
        nodes: cluster.Cluster | None = None
        if layout is None:
            redis_url = f"redis://127.0.0.1:{lines['redis'].port}/0"
            self.source = Streams(owned.redis.url)
        else:
            nodes = stack.enter_context(_cluster(home))
            redis_url = nodes.joint_url
            self.source = Streams(redis_url, layout.partitions, replicas=layout.replicas)
        stack.enter_context(closing(self.source))
        self.journals.mkdir()
        self.engine = _engine(owned.postgres.url)
        self.crew = Crew(_environment(redis_url, lines["postgres"].port, layout), home / "log")
        stack.callback(self.crew.close)
        actors = Actors(
            self.crew,
            owned,
            lines,
            self.engine,
            self.source.written[0].client,
            self._start_one,
            options.workers,
        )
        acts = actors.acts
        self.upheaval: Upheaval | None = None
        if nodes is not None:
            self.upheaval = Upheaval(nodes, self.source, self.crew, home / "remains")
            acts = {**acts, **self.upheaval.acts}
        faults = plan(options.seed, options.seconds, options.kinds)
        self.stage = Stage(
            soak.plan(options.seconds) if options.soak else faults,
            lambda fault: acts[fault.kind](fault),
        )
        self.watch = soak.Watch(options.seconds)
        stack.callback(self.stage.close)

    def run(self) -> Outcome:
        """From the empty servers to the account. Raises Interrupted."""
        self.console.print(f"Seed {self.options.seed}, {self.options.seconds:g} s.")
        with self._timed("started"):
            self._prepare()
            self._start()
        problems: list[str] = []
        with self._shown():
            with self._timed("ran"):
                problems += self._ill_treat()
            with self._timed("stopped senders"):
                self._stop(Role.STRANGER, *_PRODUCERS)
            drained_s = self._drain()
            with self._timed("rolled up"):
                problems += self._roll_up()
            with self._timed("stopped workers"):
                self._stop(Role.WORKER)
        memory = self._soaked() if self.options.soak else None
        with self._timed("checked"):
            account = check(
                self.engine, self.source, self.journals, remains=self._remains(), say=self._say
            )
        problems += self._judged(account, drained_s)
        problems += [] if memory is None else memory.problems()
        is_kept = self.options.keep or bool(problems)
        return Outcome(
            options=self.options,
            log=self.stage.log,
            account=account,
            drained_s=drained_s,
            problems=problems,
            durations_s=self.durations_s,
            folder=self.home if is_kept else None,
            memory=memory,
        )

    # --- before

    def _prepare(self) -> None:
        schema.migrate(self.engine)
        with self.engine.begin() as connection:
            connection.execute(text(REFUSE_PLAYERS))
            if self.options.control is Control.NO_UNIQUE_KEY:
                connection.execute(text(DROP_UNIQUE_KEY))

    def _start(self) -> None:
        """Everybody to work; the workers first, so that nothing waits when the clock begins to run.

        In a soak they come last: full batches from the first are the quickest warm-up.
        """
        if self.options.soak:
            self.watch.redis_before_bytes = self._redis_bytes()
        else:
            self._start_workers()
        for role in _PRODUCERS:
            self._start_one(role)
        if self.options.soak:
            while self.source.state(exact=False).entries < soak.BACKLOG_ENTRIES:
                self._turn()
            self._start_workers()
        if Kind.POISON in self.options.kinds:
            self._start_one(Role.STRANGER)
        self._wait_for_work(*_PRODUCERS)

    def _start_workers(self) -> None:
        for _ in range(self.options.workers):
            self._start_one(Role.WORKER)
        self._wait_for_work(Role.WORKER)

    def _start_one(self, role: Role) -> Member:
        journal_file = str(self.journals / f"{self.crew.next_name(role)}.journal")
        seed, options = str(self.options.seed), self.options
        players = ("--players", str(PLAYERS), "--seed", seed, "--journal", journal_file)
        match role:
            case Role.WORKER if options.control is Control.ACKNOWLEDGE_FIRST:
                return self.crew.start(role, "infamous.prove.saboteur")
            case Role.WORKER:
                return self.crew.start(role, "consumer")
            case Role.PRODUCER:
                return self.crew.start(role, "producer", "--rate", str(options.rate), *players)
            case Role.RIVAL:
                return self.crew.start(role, "producer", "--rate", str(RIVAL_RATE), *players)
            case Role.STRANGER:
                return self.crew.start(
                    role,
                    *("infamous.prove.stranger", "--redis-url", self.crew.environment["REDIS_URL"]),
                    *("--partitions", str(len(self.source.written))),
                    *("--replicas", str(self.source.written[0].replicas)),
                    *("--rate", str(STRANGER_RATE), "--poison-share", str(POISON_SHARE)),
                    *("--seed", seed, "--journal", journal_file),
                )
            case Role.JOB:
                return self.crew.start(role, "jobs", "rollup", fate=Fate.ENDS)

    def _wait_for_work(self, *roles: Role) -> None:
        deadline_s = time.monotonic() + _START_S
        while any(not member.is_at_work for member in self.crew.living(*roles)):
            if time.monotonic() > deadline_s:
                raise ServerError(
                    f"The {roles[0]}s did not start within {_START_S:.0f} s: see {self.crew.logs}."
                )
            self._turn()

    # --- the time in between

    def _ill_treat(self) -> list[str]:
        """Act the plan out; returns what is wrong with that."""
        self.phase, self._began_s = "ill-treated", time.monotonic()
        while (elapsed_s := self._elapsed_s()) < self.options.seconds or not self.stage.is_empty:
            if elapsed_s > self.options.seconds + _OVERTIME_S:
                late = ", ".join(self.stage.acting)
                return [f"{late} did not come to an end within {_OVERTIME_S:.0f} s"]
            self.stage.turn(elapsed_s)
            self._turn()
        return []

    def _stop(self, *roles: Role) -> None:
        """Ask everybody of these roles to stop, and wait for it; the crew notes who does not."""
        self.phase = "stopping"
        for member in self.crew.living(*roles):
            self.crew.ask(member)
        deadline_s = time.monotonic() + STOP_S + _GRACE_S
        while self.crew.living(*roles) and time.monotonic() < deadline_s:
            self._turn()

    def _drain(self) -> float | None:
        """Wait until nothing waits in the stream; how long it took, None if it took too long."""
        self.phase = "draining"
        with self._timed("drained"):
            began_s = time.monotonic()
            while (passed_s := time.monotonic() - began_s) < DRAIN_S:
                state = self._state()
                if state is not None and state.undelivered == state.pending == 0:
                    return passed_s
                self._turn()
        return None

    def _state(self) -> StreamState | None:
        """All streams as one; None where one of a cluster's is away."""
        answers = self.source.ask(lambda one: one.state(exact=False))
        if self.options.cluster is not None and answers.away:
            return None
        return together(answers.whole().values())

    def _roll_up(self) -> list[str]:
        self.phase = "rolling up"
        job = self._start_one(Role.JOB)
        deadline_s = time.monotonic() + _START_S
        while job.exit_code is None and time.monotonic() < deadline_s:
            self._turn()
        if job.exit_code == 0:
            return []
        return [f"the last rollup ended with {job.exit_code} ({job.last_line()})"]

    def _turn(self) -> None:
        """Look after everybody, show how it goes, and wait a little. Raises Interrupted."""
        self.crew.look()
        now_s = time.monotonic()
        if now_s >= self._look_due_s:
            self._look_due_s = now_s + _LOOK_EVERY_S
            self._look()
            self._show(now_s)
        if self.stop.wait(_POLL_S):
            raise Interrupted

    # --- after

    def _soaked(self) -> soak.Memory:
        """Trim what all have acknowledged, and see what is left."""
        self.source.written[0].trim(keep_s=0)
        return self.watch.memory(self._redis_bytes())

    def _redis_bytes(self) -> int:
        return self.source.written[0].memory().used_bytes

    def _remains(self) -> list[Remains] | None:
        """What the masters of a cluster left that died."""
        if self.upheaval is None:
            return None
        self.upheaval.look()
        return self.upheaval.remains

    def _judged(self, account: Account, drained_s: float | None) -> list[str]:
        """Everything that is wrong, besides what was noticed on the way."""
        problems = [f"{one.kind}: {one.problem}" for one in self.stage.log if one.problem]
        problems += self.crew.problems
        if Kind.POISON in self.options.kinds:
            self.stage.log.append(self._poisoned())
        if self.options.is_whole:
            done = {one.kind for one in self.stage.log if one.effect is not None}
            problems += [
                f"{kind} never took effect" for kind in self.options.kinds if kind not in done
            ]
        if drained_s is None:
            problems.append(f"not drained within {DRAIN_S:.0f} s")
        problems += account.problems
        if account.rollups_ok is None:
            problems.append("there are no rollups")
        problems += [] if self.upheaval is None else self.upheaval.surprises
        layout = self.options.cluster
        if layout is not None and layout.replicas and account.lost_by_redis:
            problems.append(
                f"events that Redis lost although {layout.replicas} of its replicas had said that they have"
                f" them: {account.lost_by_redis:,}"
            )
        if not account.passed and not account.problems:
            problems.append("the account does not balance")
        return problems

    def _poisoned(self) -> Done:
        """What the stranger's journals tell of poison; it took effect if every reason was sent."""
        reasons = [
            line.expected
            for path in sorted(self.journals.glob(f"{Role.STRANGER}-*.journal"))
            for line in journal.read(path)
            if isinstance(line, journal.Try) and line.expected != journal.STORED
        ]
        sent = f"{len(reasons):,} entries of {len(set(reasons))} kinds"
        return Done(0.0, Kind.POISON, sent if len(set(reasons)) == len(REASONS) else None)

    # --- what is shown

    @contextmanager
    def _shown(self) -> Iterator[None]:
        is_live = self.console.is_terminal and not self.console.is_dumb_terminal
        # No thread of its own: processes are started while this is on the screen.
        live = Live(console=self.console, screen=True, auto_refresh=False) if is_live else None
        with live or nullcontext():
            self._live = live
            yield
        self._live = None

    def _look(self) -> None:
        """Take the figures, from those servers that are there."""
        figures = self.figures
        figures.away = None
        try:
            state = self._state()
            if state is None:
                figures.away = "a shard of Redis"
            else:
                figures.added = state.added or 0
                figures.waiting = state.undelivered + state.pending
            if self.options.soak:
                self._watch_memory()
        except redis.RedisError:
            figures.away = "Redis"
        try:
            with self.engine.connect() as connection:
                connection.execute(LIMIT_LOOK)
                figures.stored, figures.quarantined = connection.execute(COUNT).one()
        except DBAPIError:
            figures.away = "Postgres"
        now_s = time.monotonic()
        figures.seen.append((now_s, figures.added, figures.stored + figures.quarantined))
        while now_s - figures.seen[0][0] > _RATE_WINDOW_S:
            figures.seen.popleft()

    def _watch_memory(self) -> None:
        """Nobody is started again in a soak: a name stands for one process."""
        if self.phase == "ill-treated":
            living = self.crew.living(*_PRODUCERS, Role.WORKER)
            pids = {one.name: one.process.pid for one in living}
            self.watch.look(self._elapsed_s(), pids, self._redis_bytes())

    def _show(self, now_s: float) -> None:
        if self._live is not None:
            self._live.update(view.picture(self._scene()), refresh=True)
        elif now_s >= self._show_due_s:
            self._show_due_s = now_s + _LINE_EVERY_S
            self.console.print(view.line(self._scene()))

    def _say(self, what: str) -> None:
        """A line for what takes a while after the run."""
        self.console.print(f"{self._elapsed_s():4.0f} s  {what}")
        if self.stop.is_set():
            raise Interrupted

    def _scene(self) -> view.Scene:
        figures = self.figures
        living = {}
        for role in (*_PRODUCERS, Role.STRANGER, Role.WORKER):
            members = self.crew.living(role)
            living[role.value] = (len(members), sum(one.fate is Fate.PAUSED for one in members))
        return view.Scene(
            phase=self.phase,
            elapsed_s=self._elapsed_s(),
            seconds=self.options.seconds,
            seed=self.options.seed,
            kinds=self.options.kinds if self.options.cluster else ONE_REDIS,
            in_rate=figures.rate(1),
            out_rate=figures.rate(2),
            stored=figures.stored,
            quarantined=figures.quarantined,
            waiting=figures.waiting,
            living=living,
            acting=self.stage.acting,
            log=self.stage.log,
            away=figures.away,
        )

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.durations_s[phase] = round(time.monotonic() - began_s, 2)


def _engine(url: str) -> Engine:
    return create_engine(url, poolclass=pool.NullPool, connect_args={"connect_timeout": 5})


def _cluster(home: Path) -> AbstractContextManager[cluster.Cluster]:
    """Six nodes whose files tell, when one is killed, all that it had said yes to."""
    return cluster.running(
        home / "cluster",
        password=secrets.token_hex(8),
        node_timeout_ms=NODE_TIMEOUT_MS,
        settings={"appendfsync": "no", "auto-aof-rewrite-percentage": "0"},
    )


def _said(told: dict[str, Any], name: str) -> dict[str, Any]:
    """The same without what is about clusters, where there is none."""
    return {key: value for key, value in told.items() if key != name or value is not None}


def _environment(redis_url: str, postgres_port: int, layout: Layout | None) -> dict[str, str]:
    """What the processes are told; what the user has set for other runs is none of theirs."""
    said = {
        f"{name.upper()}{suffix}": ""
        for name in Settings.__struct_fields__
        for suffix in ("", "_FILE")
    }
    return said | {
        failpoint.VARIABLE: "",
        "REDIS_URL": redis_url,
        "STREAM_PARTITIONS": "" if layout is None else str(layout.partitions),
        "REDIS_REPLICAS": "" if layout is None else str(layout.replicas),
        "DATABASE_URL": (
            f"postgresql+psycopg2://infamous@127.0.0.1:{postgres_port}/infamous"
            "?sslmode=disable&gssencmode=disable"
        ),
        "CLAIM_AFTER_S": f"{CLAIM_AFTER_S:g}",
        "LOG_FORMAT": "json",
    }
