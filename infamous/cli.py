"""The command line: arguments flow in, one call to the part that does it, its answer and exit code flow out.

Exit codes: 0 done, 1 a check failed or a server cannot be used, 2 bad arguments or settings.
"""

from __future__ import annotations

import sys

import redis
import typer
from sqlalchemy.exc import DBAPIError, ProgrammingError

from analytics.period import BadPeriod
from analytics.redash.client import RedashError
from analytics.redash.marked import Malformed
from analytics.replica import Cancelled
from analytics.report.shelf import CannotWrite
from infamous import schema
from infamous import up as ups
from infamous.children import ChildFailed
from infamous.commands import (
    again,
    archive,
    forget,
    imports,
    lab,
    look,
    plan,
    proof,
    quarantine,
    redash,
    report,
    retention,
    rollup,
    run,
    shadow,
)
from infamous.embedded import servers
from infamous.house import end
from infamous.lab import LabError
from infamous.plan import BadPlan
from infamous.prove import run as proofs
from infamous.shadow import ShadowError
from jobs import backpressure, mapping, records, refusals, remedy
from jobs import imports as importing
from jobs import quarantine as quarantines
from jobs import replay as replays
from jobs.manifest import Damaged
from jobs.owner import NotTheOwner
from jobs.storage import StorageError
from jobs.tombstones import StillWriting
from pipeline import stream
from pipeline.patience import first_line
from pipeline.pooled import NeedsSession
from pipeline.settings import SettingsError
from producer import history
from producer.outbox import BadState

# What the server ends one of two with that wait for each other.
_DEADLOCK = "40P01"

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Infamous Game Analytics: game events from a Redis stream into Postgres.",
)
for group in (run, look, lab, again, imports):
    app.add_typer(group.app)
app.add_typer(
    quarantine.app, name="quarantine", help="What was refused: look at it, fix it, release it."
)
app.add_typer(archive.app, name="archive", help="What passed on the stream, kept as Parquet.")
app.add_typer(
    redash.app, name="redash", help="Dashboards as files: plan, apply, drift, export, open."
)
for group in (report, rollup, shadow, retention, forget, plan, proof):
    app.add_typer(group.app)


def main() -> None:
    """Run the command; whatever is wrong is told in a sentence."""
    _require_text(sys.argv[1:])
    try:
        app()
    except (
        SettingsError,
        history.BadDays,
        quarantines.BadKey,
        remedy.BadExpression,
        mapping.BadMapping,
        refusals.NotAList,
        Malformed,
        BadPeriod,
        BadPlan,
    ) as error:
        end(str(error), code=2)
    except (
        servers.ServerError,
        schema.NewerSchema,
        schema.Locked,
        ups.AlreadyUp,
        ChildFailed,
        stream.Evicts,
        BadState,
        proofs.Interrupted,
        NotTheOwner,
        NeedsSession,
        ShadowError,
        replays.BrokenOff,
        Damaged,
        StorageError,
        StillWriting,
        backpressure.NobodyReads,
        quarantines.NoSuchKey,
        records.Unreadable,
        importing.BeingImported,
        RedashError,
        LabError,
        CannotWrite,
        Cancelled,
    ) as error:
        end(str(error))
    except ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) is None:  # libpq does not understand the URL
            end(f"DATABASE_URL cannot be used: {first_line(error.orig)}.", code=2)
        end(f"The tables cannot be used ({first_line(error.orig)}): run `infamous migrate`.")
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) == _DEADLOCK:
            end("Another session was changing the same tables: run it again.")
        end(f"Postgres cannot be used: {first_line(error.orig)}.")
    except redis.exceptions.OutOfMemoryError:
        end("Redis is full: start consumers, or more of them, let them drain it, and run it again.")
    except redis.RedisError as error:
        end(f"Redis cannot be used: {first_line(error)}.")
    except BrokenPipeError:  # `infamous status | head`; what a shell reports of a killed writer
        sys.stderr.close()
        raise SystemExit(141) from None
    except OSError as error:
        end(f"{error.filename or 'A file'} cannot be used: {error.strerror}.")


def _require_text(arguments: list[str]) -> None:
    """Bytes that are no UTF-8 come as halves of surrogate pairs, which no server and no file format takes."""
    for argument in arguments:
        if any("\ud800" <= char <= "\udfff" for char in argument):
            end(f"{argument!a:.80} is no UTF-8 text: write it in that encoding.", code=2)
