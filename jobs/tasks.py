"""The tasks: plain arguments flow in, what was done flows out as plain values; what RQ runs, nothing else.

Each may be run twice, or broken off and run again, without harm: a worker that is killed leaves its job to
be started anew.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Engine, create_engine, pool, text

from analytics.period import LONGEST_DAYS
from jobs import check as checks
from jobs import retention as retentions
from jobs import rollup as rollups
from jobs import tombstones
from jobs import trim as trims
from jobs.progress import in_meta
from jobs.storage import Storage
from jobs.tombstones import StillWriting
from pipeline import partitions, settings
from pipeline.patience import Stopped
from pipeline.settings import Settings, SettingsError
from pipeline.stop import on_signals
from pipeline.stream import ARCHIVE_GROUP, GROUP
from pipeline.streams import Streams

MOST_HOURS: Final = 24 * 400
SHORTEST_KEEP_S: Final = 3600.0
SHORTEST_QUESTION_S: Final = 60.0
# Of Redis' memory. From here to where it refuses events, a trim a minute has time to come.
MOST_MEMORY: Final = 0.5
LONGEST_WAIT_S: Final = 86_400.0
MOST_ARCHIVING_S: Final = 120.0
# Well before the queue's own time limit, which would end it in the middle of a day: then nothing of the day
# counts as done, and the next turn would come no further.
MOST_ROLLING_S: Final = 600.0
# Together well within it, too. Where rollups do not come, a report that says so is better than none.
MOST_AWAITING_S: Final = 180.0
MOST_REPORTING_S: Final = 600.0
_LOOK_S: Final = 2.0
PRUNE_HEALTH: Final = text("""
delete from pipeline_health where minute < now() - make_interval(days => :days)
""")
PRUNE_CHECKS: Final = text("""
delete from rollup_checks where checked_at < now() - make_interval(days => :days)
""")
END_QUESTIONS: Final = text("""
select count(*) filter (where pg_terminate_backend(pid))
from pg_stat_activity
where usename = 'infamous_bi' and xact_start < now() - make_interval(secs => :at_most_s)
""")


def make_partitions() -> dict[str, int]:
    """The days around today, so that no consumer has to make one at midnight."""
    today = datetime.now(UTC).date()
    first_day, last_day = partitions.around(today)
    with _engine().begin() as connection:
        span = {"first_day": first_day, "last_day": last_day}
        made = connection.execute(text(partitions.ENSURE), span).scalar_one()
        days = set(connection.execute(text(partitions.DAYS)).scalars())
    return {"made": made, "ahead_days": partitions.ahead(days, today)}


def _require(is_within: bool, sentence: str) -> None:
    """What is on the queue may be somebody else's idea."""
    if not is_within:
        raise ValueError(sentence)


def roll_up(hours: int) -> dict[str, Any]:
    """The hours that changed and the last ones anew, and the days they are in; what was missed, if more.

    What takes longer than ten minutes is left to the next turn.
    """
    _require(1 <= hours <= MOST_HOURS, f"hours must be 1 to {MOST_HOURS}, not {hours}.")
    engine = _engine()
    also = rollups.lately(engine, hours)
    with _stop_after(MOST_ROLLING_S) as stop:
        return asdict(rollups.roll_up_touched(engine, also, stop=stop, tell=in_meta()))


@contextmanager
def _stop_after(seconds: float) -> Iterator[threading.Event]:
    """A wish to stop that comes by itself."""
    stop = threading.Event()
    timer = threading.Timer(seconds, stop.set)
    timer.daemon = True
    timer.start()
    try:
        yield stop
    finally:
        timer.cancel()


def check_rollups() -> dict[str, Any]:
    """Compare all rollups with the raw events, and make anew what is wrong."""
    engine = _engine()
    with _stop_after(MOST_ROLLING_S) as stop:
        checked = checks.check(engine, stop=stop, tell=in_meta())
        checks.mend(engine, checked, stop=stop)
    return {
        "hours": checked.hours,
        "left_out": checked.left_out,
        "wrong": len(checked.wrong),
        "tables": list(checked.tables),
    }


def prune_health() -> dict[str, int]:
    """What consumers and checks said of themselves goes when the raw events of that time go."""
    span = {"days": settings.load().retention_days}
    with _engine().begin() as connection:
        return {
            "minutes": connection.execute(PRUNE_HEALTH, span).rowcount,
            "checks": connection.execute(PRUNE_CHECKS, span).rowcount,
        }


def trim_stream(keep_s: float) -> dict[str, Any]:
    """Entries that everybody has stored and that are older than this; and more where memory runs short."""
    _require(
        keep_s >= SHORTEST_KEEP_S, f"keep_s must be {SHORTEST_KEEP_S:g} or more, not {keep_s}."
    )
    with closing(_streams(settings.load())) as streams:
        return asdict(trims.trim_to_fit(streams, keep_s, MOST_MEMORY))


def drop_old_partitions() -> dict[str, Any]:
    """Those of days that are out of retention; what somebody reads just now, an hour later."""
    config = settings.load()
    engine = _engine(config.schema_url, "MIGRATOR_DATABASE_URL or DATABASE_URL")
    today = datetime.now(UTC).date()
    done = retentions.drop_old(engine, today, config.retention_days, tell=in_meta())
    return {"dropped": done.partitions, "rows": done.rows, "postponed": done.postponed}


def archive_stream(wait_s: float = 0.0) -> dict[str, Any]:
    """What passed on the stream since the last time into the archive, where there is one.

    Less than a full batch is left until its first entry is ``wait_s`` old. What takes longer than some
    minutes is left to the next turn, and so is all of it while another writes the archive: other jobs wait.
    """
    _require(
        0 <= wait_s <= LONGEST_WAIT_S, f"wait_s must be 0 to {LONGEST_WAIT_S:g}, not {wait_s}."
    )
    config = settings.load()
    if config.archive is None:
        return {}
    # Here: it takes 60 MB, which a worker that keeps no archive does without.
    from jobs import archiver  # noqa: PLC0415

    try:
        with (
            closing(_streams(config, ARCHIVE_GROUP)) as streams,
            tombstones.known(_engine(), patience_s=0) as is_forgotten,
        ):
            done = archiver.archive_all(
                streams,
                Storage(config.archive),
                retention_days=config.retention_days,
                is_forgotten=is_forgotten,
                wait_s=wait_s,
                at_most_s=MOST_ARCHIVING_S,
                tell=in_meta(),
            )
    except StillWriting:
        return {"is_postponed": True}
    return asdict(done) if done.entries or done.away else {}


def end_long_questions(at_most_s: float) -> dict[str, int]:
    """Sessions of dashboards and notebooks whose transaction is older than this.

    Their own time limit is a default that they may change; and a transaction that is left open keeps
    every table from being cleaned up.
    """
    _require(
        at_most_s >= SHORTEST_QUESTION_S,
        f"at_most_s must be {SHORTEST_QUESTION_S:g} or more, not {at_most_s}.",
    )
    with _engine().begin() as connection:
        ended = connection.execute(END_QUESTIONS, {"at_most_s": at_most_s}).scalar_one()
        return {"ended": ended}


def make_report(days: int) -> dict[str, Any]:
    """A page of all notebooks, of so many days that are over, beside those before it.

    It waits a while for rollups of those days; what it takes longer for is missing from the page, which
    says so. A signal breaks it off, and is handed on to whoever runs it.
    """
    _require(1 <= days <= LONGEST_DAYS, f"days must be 1 to {LONGEST_DAYS}, not {days}.")
    config = settings.load()
    url = config.reading_url
    if url is None:
        raise SettingsError("DATABASE_URL must name a server: set it.")
    try:
        with on_signals() as stop:
            # Here: it takes packages that no other job needs.
            from analytics import data  # noqa: PLC0415
            from analytics.report.freshness import freshness  # noqa: PLC0415
            from analytics.report.make import make  # noqa: PLC0415

            engine, end_s = data.reader(url), time.monotonic() + MOST_AWAITING_S
            while not freshness(engine).has_whole_days and time.monotonic() < end_s:
                if stop.wait(_LOOK_S):
                    break
            made = make(
                url,
                days,
                config.reports,
                config.reports_kept,
                stop=stop,
                tell=in_meta(),
                all_s=MOST_REPORTING_S,
            )
    except Stopped:
        signal.raise_signal(signal.SIGTERM)
        raise Stopped("it was asked to stop; the report is made anew") from None
    if stop.is_set():  # too late to break it off, and still meant for the worker
        signal.raise_signal(signal.SIGTERM)
    return {
        "path": str(made.path),
        "notebooks": len(made.notebooks),
        "failed": [ran.section.name for ran in made.failed],
        "peak_bytes": made.peak_bytes,
    }


ALL: Final[tuple[Callable[..., Any], ...]] = (
    make_partitions,
    roll_up,
    trim_stream,
    archive_stream,
    end_long_questions,
    drop_old_partitions,
    check_rollups,
    prune_health,
    make_report,
)


def _streams(config: Settings, group: str = GROUP) -> Streams:
    if config.redis_url is None:
        raise SettingsError("REDIS_URL must name a server: set it.")
    return Streams(
        config.redis_url, config.stream_partitions, group=group, replicas=config.redis_replicas
    )


def _engine(url: str | None = None, names: str = "DATABASE_URL") -> Engine:
    """The database at ``url``, which ``names`` gives; where nothing is said, that of most tasks."""
    url = url or settings.load().database_url
    if url is None:
        raise SettingsError(f"{names} must name a server: set it.")
    # What goes wrong is kept with the job, where whoever may see jobs reads it: no values of rows.
    return create_engine(
        url, poolclass=pool.NullPool, connect_args={"connect_timeout": 5}, hide_parameters=True
    )
