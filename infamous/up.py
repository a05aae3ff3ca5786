"""``infamous up``: servers, schema, history, then the live pipeline until it is told to stop.

The order of starting is the order of the arrows; the order of stopping too: first the producer, so that
nothing new comes, then, once the stream is empty, the consumers, and at last the servers.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import redis
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine

from analytics.report import needs
from infamous import schema, status, view
from infamous.children import Child, ChildFailed
from infamous.embedded import locks
from infamous.embedded.folder import Folder
from infamous.embedded.servers import Servers
from infamous.watch import Glimpse, Watcher
from jobs.queue import NEEDS_PLAIN
from pipeline import stream
from pipeline.event import datetime_of
from pipeline.patience import Stopped, wait_for
from pipeline.settings import Settings, SettingsError
from pipeline.stop import on_signals
from pipeline.streams import Streams
from producer import history
from producer.outboxes import Outboxes
from producer.simulate import COLE

LOOK_EVERY_S: Final = 1.0
LINE_EVERY_S: Final = 5.0
LOOK_AFTER_S: Final = 0.5
# A stop takes at most END_S, of which the last part is for the consumers' own; what is not stored by
# then is stored by the next start. Where a server hangs, the stop itself is cut short after GRACE_S.
END_S: Final = 7.0
CONSUMERS_END_S: Final = 3.0
GRACE_S: Final = 9.0
_EVENTS_SHOWN: Final = 20


class AlreadyUp(Exception):
    """Another ``infamous up`` runs on the same data folder."""


@dataclass(frozen=True)
class Plan:
    """What was asked for."""

    rate: float
    players: int
    consumers: int
    history_days: int
    seed: int
    # How long to play live; None: until stopped.
    for_s: float | None


def up(
    config: Settings, plan: Plan, servers: Servers, engine: Engine, owner: Engine, console: Console
) -> None:
    """Run everything; returns when asked to stop, with nothing left running.

    ``owner`` connects as whoever may change the schema. Raises AlreadyUp, and what the parts raise:
    NewerSchema, NeedsSession, ChildFailed, Evicts, SettingsError, redis and SQLAlchemy errors.
    """

    def restore_terminal() -> None:
        if console.is_terminal:
            console.set_alt_screen(False)
            console.show_cursor(True)

    with _alone(config), on_signals(GRACE_S, restore_terminal) as stop:
        Run(config, plan, servers, engine, owner, console, stop).run()


@contextmanager
def _alone(config: Settings) -> Iterator[None]:
    Folder(config.home).prepare()
    lock = locks.attempt(config.home / "up.lock")
    if lock is None:
        raise AlreadyUp(
            f"The pipeline of {config.home} is up already: look at it with `infamous status`,"
            " or choose another folder with INFAMOUS_HOME."
        )
    try:
        yield
    finally:
        os.close(lock)


class Run:
    """One run of the pipeline."""

    def __init__(
        self,
        config: Settings,
        plan: Plan,
        servers: Servers,
        engine: Engine,
        owner: Engine,
        console: Console,
        stop: threading.Event,
    ) -> None:
        self.config, self.plan, self.servers = config, plan, servers
        self.engine, self.owner = engine, owner
        self.console, self.stop = console, stop
        self.streams = Streams(
            servers.redis_url, config.stream_partitions, replicas=config.redis_replicas
        )
        self.watcher = Watcher(self.streams, engine, COLE, _EVENTS_SHOWN)
        self.producer = self._child(
            "producer",
            0,
            "producer",
            *("--rate", str(plan.rate), "--players", str(plan.players), "--seed", str(plan.seed)),
        )
        self.consumers = [
            self._child(f"consumer-{number}", number, "consumer")
            for number in range(1, plan.consumers + 1)
        ]
        # No process that outlives its parent: a job that is broken off is done anew at its next turn.
        self.jobs = [
            self._child("scheduler", plan.consumers + 1, "jobs", "schedule"),
            self._child("worker", plan.consumers + 2, "jobs", "work", "--no-fork"),
        ]
        if not needs.missing():
            self.jobs.append(
                self._child(
                    "reporter", plan.consumers + 3, "jobs", "work", "--no-fork", "--reports"
                )
            )

    def run(self) -> None:
        """From the empty database to the last acknowledgement."""
        if self.config.rq_redis_url is None and self.streams.is_cluster():
            raise SettingsError(NEEDS_PLAIN)
        self.streams.refuse_eviction()
        self._migrate()
        before = self.streams.produced()
        try:
            for consumer in self.consumers:
                consumer.start()
            self._play_history()
            if not self.stop.is_set():
                self.producer.start()
                for job in self.jobs:
                    job.start()
                self._show_until_stopped()
        except Stopped:
            pass
        finally:
            self._end()
        self._account(before)

    def _child(self, name: str, number: int, *command: str) -> Child:
        """``number`` tells the children apart that share a setting: ports follow one another."""
        environment = {
            "DATABASE_URL": self.servers.database_url,
            "REDIS_URL": self.servers.redis_url,
        }
        if self.config.rq_redis_url:
            environment["RQ_REDIS_URL"] = self.config.rq_redis_url
        if self.config.archive:
            environment["ARCHIVE_URL"] = self.config.archive
        environment["REPORT_DIR"] = str(self.config.reports)
        port, alive = self.config.metrics_port, self.config.liveness_file
        if port:
            environment["METRICS_PORT"] = str(port + number)
        if alive:
            environment["LIVENESS_FILE"] = f"{alive}.{name}"
        return Child(
            name=name,
            command=command,
            environment=environment,
            log=self.config.home / "log" / f"{name}.log",
            lock_fds=self.servers.lock_fds,
        )

    def _migrate(self) -> None:
        done = schema.migrate(self.owner)
        if done.before != done.after:
            self.console.print(f"Schema migrated to revision {done.after}.")

    # --- the past

    def _play_history(self) -> None:
        outbox = Outboxes(self.streams)
        ledger = outbox.open()
        now_ms = time.time_ns() // 1_000_000
        plan = history.planned(ledger, self.plan.history_days, now_ms, self.config.retention_days)
        if plan is None:
            return
        with Steps(self.console).shown() as steps:
            label = f"Playing {self.plan.history_days} days of {self.plan.players} players"
            span_ms = plan.until_ms - plan.start_ms

            def progress(at_ms: int, sent: int) -> None:
                note = f"{datetime_of(at_ms):%d %b}, {sent:,} events sent"
                steps.show(label, (at_ms - plan.start_ms) / span_ms, note)
                self._look_after()

            sent = history.play(
                outbox,
                ledger,
                plan,
                seed=self.plan.seed,
                size=self.plan.players,
                stop=self.stop,
                progress=progress,
            )
            steps.show(label, 1.0, f"{sent:,} events sent")
            self._drain(lambda waits: steps.show("Storing them", 1 - (waits + 1) / (sent + 1), ""))
            rows = self.watcher.look(count=True).rows
            steps.show("Storing them", 1.0, f"{rows:,} rows in Postgres")

    def _drain(self, waiting: Callable[[int], None], end_s: float | None = None) -> None:
        """Wait until nothing waits in the stream, or ``end_s`` is over; raises Stopped without one."""
        while end_s is None or time.monotonic() < end_s:
            state = wait_for(
                "Redis",
                lambda: self.streams.state(exact=False),
                is_temporary=stream.is_temporary,
                stop=self.stop,
            )
            waits = state.undelivered + state.pending
            waiting(waits)
            if not waits:
                return
            if end_s is None and self.stop.is_set():
                raise Stopped
            self._look_after()
            time.sleep(0.1)

    # --- the present

    def _show_until_stopped(self) -> None:
        began_s = time.monotonic()
        end_s = None if self.plan.for_s is None else began_s + self.plan.for_s
        frame = view.Frame(
            servers=self._servers(),
            connect=self._connect(),
            rate=self.plan.rate,
            player=COLE,
        )
        if is_live(self.console):
            with Live(console=self.console, screen=True, auto_refresh=False) as live:

                def show(glimpse: Glimpse) -> None:
                    uptime_s = time.monotonic() - began_s
                    picture = view.picture(
                        glimpse,
                        frame,
                        alive=self._alive(),
                        uptime_s=uptime_s,
                        height=self.console.height,
                    )
                    live.update(picture, refresh=True)

                self._loop(show, LOOK_EVERY_S, end_s)
        else:
            self.console.print(f"Live on {frame.servers}.")
            for connect in frame.connect:
                self.console.print(connect)
            self._loop(lambda glimpse: self.console.print(view.line(glimpse)), LINE_EVERY_S, end_s)

    def _loop(self, show: Callable[[Glimpse], None], every_s: float, end_s: float | None) -> None:
        show_due_s = 0.0
        while not self.stop.is_set():
            self._look_after()
            now_s = time.monotonic()
            is_over = end_s is not None and now_s >= end_s
            if is_over or now_s >= show_due_s:
                show(self.watcher.look())
                show_due_s = now_s + every_s
            if is_over:
                return
            # Children are looked after more often than the picture changes.
            left_s = LOOK_AFTER_S if end_s is None else min(LOOK_AFTER_S, end_s - now_s)
            self.stop.wait(max(0.0, left_s))

    def _look_after(self) -> None:
        for child in (self.producer, *self.consumers, *self.jobs):
            child.look_after()

    def _alive(self) -> tuple[int, int]:
        return sum(consumer.is_alive for consumer in self.consumers), len(self.consumers)

    def _connect(self) -> tuple[str, ...]:
        lines = {"SQL": self.servers.psql, "Stream": self.servers.redis_cli}
        return tuple(f"{name}: {line}" for name, line in lines.items() if line)

    def _servers(self) -> str:
        with self.engine.connect() as connection:
            info = connection.dialect.server_version_info or ()
        postgres = ".".join(str(part) for part in info)
        return f"{status.redis_version(self.streams)} and Postgres {postgres}"

    # --- the end

    def _end(self) -> None:
        end_s = time.monotonic() + END_S
        for job in self.jobs:
            job.terminate()
        self.producer.end(at_most_s=2.0)
        # Where a server is away, what waits in the stream is stored by the next start.
        if not self.watcher.is_troubled:
            with suppress(redis.RedisError, Stopped, ChildFailed):
                self._drain(lambda _: None, end_s=end_s - CONSUMERS_END_S)
        for consumer in self.consumers:
            consumer.terminate()
        for child in (*self.consumers, *self.jobs):
            child.end(at_most_s=max(0.1, end_s - time.monotonic()))

    def _account(self, before: int) -> None:
        glimpse = self.watcher.look(count=True)
        waits = glimpse.state.undelivered + glimpse.state.pending
        if glimpse.trouble:
            self.console.print(f"Stopped while a server was away ({glimpse.trouble}).")
            return
        left = "nothing waits" if not waits else f"{waits:,} wait in the stream for the next start"
        self.console.print(
            f"Stopped. Sent {glimpse.produced - before:,} events in this run,"
            f" {glimpse.produced:,} ever; {glimpse.rows:,} rows stored,"
            f" {glimpse.quarantined:,} quarantined, {left}."
        )


class Steps:
    """Progress of long steps: bars on a terminal, a line every few seconds elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not is_live(console),
            # No thread of its own: children are started while this is on the screen.
            auto_refresh=False,
        )
        self._tasks: dict[str, int] = {}
        self._line_due_s = 0.0

    @contextmanager
    def shown(self) -> Iterator[Steps]:
        """On the screen for as long as this lasts."""
        with self._progress:
            yield self

    def show(self, label: str, share: float, note: str) -> None:
        """Where the step stands, 0 to 1."""
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label, total=1.0, note="")
        self._progress.update(self._tasks[label], completed=share, note=note, refresh=True)  # type: ignore[arg-type]
        now_s = time.monotonic()
        if not is_live(self._console) and (share >= 1.0 or now_s >= self._line_due_s):
            self._console.print(f"{label}: {share:.0%}  {note}".rstrip())
            self._line_due_s = now_s + LINE_EVERY_S


def console() -> Console:
    """The user's terminal, or whatever stands in its place; lines are then not folded."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="replace"
        )  # arrows and bars on a terminal that knows ASCII alone
    is_terminal = sys.stdout.isatty()
    return Console(highlight=False, markup=False, soft_wrap=not is_terminal)


def is_live(console: Console) -> bool:
    """Whether pictures can be drawn over one another."""
    return console.is_terminal and not console.is_dumb_terminal
