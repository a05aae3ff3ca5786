"""``python -m producer``: wires the simulator to the stream, the clock and the signals."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

import redis
import typer

from pipeline import log, metrics, settings, stream
from pipeline.patience import Stopped, first_line, wait_for
from pipeline.pulse import Pulse
from pipeline.settings import Settings, SettingsError
from pipeline.stop import on_signals
from pipeline.streams import Streams
from producer import history, live
from producer.journal import Journal, JournalError
from producer.outbox import BadState, Ledger
from producer.outboxes import Outboxes
from producer.pace import AS_FAST_AS_IT_GOES
from producer.simulate import Player
from producer.teller import Teller
from producer.truth import truth

DEFAULT_SEED = 1
_RATES = 0.001, 1_000_000.0
DEFAULT_PLAYERS = 200
# Up to this rate every event gets a line of its own in the log, above it every second does.
_LINE_AN_EVENT_RATE = 2.0


def _days(text: str | int) -> int:
    try:
        return history.parse_days(str(text))  # the default, a number, passes here too
    except history.BadDays as error:
        raise typer.BadParameter(str(error)) from None


def _rate(text: str | float) -> float:
    if text == "max":
        return AS_FAST_AS_IT_GOES
    try:
        rate = float(text)  # the default, a number, passes here too
    except ValueError:
        rate = math.nan
    low, high = _RATES
    # A number that stands for max is how one process of ours tells it another.
    if low <= rate <= high or rate == AS_FAST_AS_IT_GOES:
        return rate
    raise typer.BadParameter(
        f"{text} is no rate: give events a second, from {low:g} to {high:,.0f}, or max."
    )


Rate = Annotated[
    float,
    typer.Option(
        parser=_rate,
        metavar="RATE",
        help="Events a second, the first of them Cole's; max: as many as Redis takes.",
    ),
]
Players = Annotated[
    int, typer.Option(min=1, max=1_000_000, help="The population, Cole MacGrath included.")
]
History = Annotated[
    int,
    typer.Option(
        "--history",
        parser=_days,
        metavar="DAYS",
        help="First play so many past days, once: 30d; 0 for none.",
    ),
]
Seed = Annotated[int, typer.Option(help="The same seed plays the same game.")]

MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Serve Prometheus metrics there, 0: on any free port; else as METRICS_PORT says.",
    ),
]

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def produce(
    *,
    rate: Rate = 1.0,
    count: Annotated[
        int | None, typer.Option(min=0, help="End after so many live events; without it, never.")
    ] = None,
    players: Players = DEFAULT_PLAYERS,
    days: History = 0,
    seed: Seed = DEFAULT_SEED,
    show_truth: Annotated[
        bool,
        typer.Option("--truth", help="Print what the simulator plants, as JSON, and send nothing."),
    ] = False,
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write each event to this file before it is sent, and when Redis has it.",
        ),
    ] = None,
    metrics_port: MetricsPort = None,
) -> None:
    """Play Infamous and push its events onto the Redis stream."""
    try:
        config = settings.load()
        history.check_days(days, config.retention_days)
    except (SettingsError, history.BadDays) as error:
        raise SystemExit(_fail(str(error), code=2)) from None
    if show_truth:
        now_ms = time.time_ns() // 1_000_000
        start_ms = now_ms - now_ms % history.DAY_MS - days * history.DAY_MS
        print(json.dumps(truth(seed, players, start_ms, days), indent=2))  # noqa: T201
        return
    if config.redis_url is None:
        message = (
            "REDIS_URL must name a server; `infamous produce` runs an embedded one without it."
        )
        raise SystemExit(_fail(message, code=2))
    log.configure(config.log_format, config.log_level)
    port = config.metrics_port if metrics_port is None else metrics_port
    pulse = Pulse(config.liveness_file)
    teller = Teller(by_event=rate <= _LINE_AN_EVENT_RATE, pulse=pulse)
    with on_signals(at_the_end=pulse.close) as stop, ExitStack() as held:
        try:
            pulse.begin()
            held.enter_context(closing(pulse))
            held.enter_context(metrics.served(config.metrics_host, port, teller.metrics))
            book = None if journal is None else held.enter_context(closing(Journal(journal)))
            code = _play(config, stop, teller, book, rate, count, players, days, seed)
        except SettingsError as error:
            code = _fail(str(error), code=2)
        except JournalError as error:
            code = _fail(str(error))
    raise SystemExit(code)


def _play(
    config: Settings,
    stop: threading.Event,
    teller: Teller,
    journal: Journal | None,
    rate: float,
    count: int | None,
    size: int,
    past_days: int,
    seed: int,
) -> int:
    logger = log.get("producer")
    redis_url = config.redis_url or ""
    streams = Streams(redis_url, config.stream_partitions, replicas=config.redis_replicas)
    outbox = Outboxes(streams, journal)

    def greet() -> Ledger:
        streams.refuse_eviction()
        return outbox.open()

    def cast_of(read: Callable[[], Mapping[str, Player]]) -> list[Player]:
        players = wait_for(
            "Redis", read, is_temporary=stream.is_temporary, stop=stop, observer=teller
        )
        return live.cast_of(players, seed, size, time.time_ns() // 1_000_000)

    def overtaken() -> list[Player]:
        teller.tell_of_another()
        return cast_of(outbox.players_anew)

    try:
        ledger = wait_for(
            "Redis",
            greet,
            is_temporary=stream.is_temporary,
            stop=stop,
            at_most_s=config.connect_timeout_s,
            observer=teller,
        )
        plan = history.planned(
            ledger, past_days, time.time_ns() // 1_000_000, config.retention_days
        )
        if plan is not None:
            logger.info("Playing the past first", days=past_days, players=size, seed=seed)
            sent = history.play(
                outbox,
                ledger,
                plan,
                seed=seed,
                size=size,
                stop=stop,
                progress=lambda *_: None,
                observer=teller,
            )
            logger.info("The past is played", events=sent)
        elif past_days and ledger.history is None:
            logger.warning(
                "No past is played: events were sent before it was asked for", days=past_days
            )
        logger.info(
            "Playing",
            rate="max" if rate == AS_FAST_AS_IT_GOES else rate,
            players=size,
            redis=settings.shown_url(redis_url),
        )
        live.play(
            outbox,
            cast_of(lambda: outbox.open().players),
            rate,
            count=count,
            stop=stop,
            reload=overtaken,
            told=teller.tell,
            observer=teller,
        )
    except Stopped as stopped:
        logger.warning(
            "Stopped while Redis was away; what was not sent will be played anew",
            error=first_line(stopped.__cause__),
        )
    except (stream.Evicts, BadState) as error:
        return _fail(str(error))
    except redis.RedisError as error:
        at = settings.shown_url(redis_url)
        return _fail(f"Redis at {at} cannot be used: {first_line(error)}.")
    finally:
        streams.close()
    teller.close()
    return 0


def main() -> None:
    """Run the command; ends the process with its exit code."""
    app(prog_name="python -m producer")


def _fail(message: str, code: int = 1) -> int:
    log.complain(message)
    return code


if __name__ == "__main__":
    main()
