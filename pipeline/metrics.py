"""Metrics: a process's numbers flow in, what Prometheus scrapes flows out.

The numbers are kept as plain attributes by whoever counts (consumer/tally.py, producer/teller.py) and are
read when somebody scrapes: the loop never waits for a metric. One port a process; off where none is named.
"""

from __future__ import annotations

import bisect
import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pipeline import log
from pipeline.settings import SettingsError

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

PREFIX: Final = "infamous_"
# A fifth more each: a percentile read off them is right to a tenth.
SECONDS_BOUNDS: Final = tuple(round(0.001 * 1.2**n, 6) for n in range(100))
EVENTS_BOUNDS: Final = (1.0, 10.0, 100.0, 300.0, 1000.0, 2000.0, 5000.0, 10_000.0, 50_000.0)
# Every fifth of the bounds is told to Prometheus: 2.5 times more each, from a millisecond to a day.
SECONDS_SHOWN: Final = 5


class Histogram:
    """How often values fell between bounds. ``bounds`` are upper ends; the last bucket has none."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, several times where it stands for others."""
        self.counts[bisect.bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def quantile(self, share: float) -> float | None:
        """The value that this share of the values does not exceed, to a bucket's width; None of none."""
        total = sum(self.counts)
        if total == 0:
            return None
        wanted, below = share * total, 0
        for number, count in enumerate(self.counts):
            if count and below + count >= wanted:
                if number == len(self.bounds):
                    break
                low = self.bounds[number - 1] if number else 0.0
                return low + (self.bounds[number] - low) * (wanted - below) / count
            below += count
        return self.bounds[-1]


@dataclass(frozen=True)
class Metric:
    """One metric at the moment of a scrape. A mapping has one value for each value of ``label``."""

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    value: float | Mapping[str, float]
    label: str = ""


@dataclass(frozen=True)
class Distribution:
    """A histogram at the moment of a scrape."""

    name: str
    help: str
    histogram: Histogram
    # Every how manieth of its bounds is told.
    shown: int = 1


Source = Callable[[], Iterable[Metric | Distribution]]


@contextmanager
def served(host: str, port: int | None, source: Source) -> Iterator[int | None]:
    """Answer scrapes while this lasts; yields the port. ``port`` 0 takes a free one, None serves nothing.

    Raises SettingsError when the port cannot be had.
    """
    if port is None:
        yield None
        return
    # Not at the top: it costs a start a tenth of a second that most do not need.
    from prometheus_client import (  # noqa: PLC0415
        CollectorRegistry,
        PlatformCollector,
        ProcessCollector,
        start_http_server,
    )

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(_Collector(source))
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        reason = "it is taken" if error.errno == errno.EADDRINUSE else error.strerror
        raise SettingsError(
            f"METRICS_PORT={port} cannot be listened on at {host} ({reason}):"
            " name another port, or 0 for any that is free."
        ) from None
    bound = int(server.server_address[1])
    log.get("metrics").info("Serving metrics", url=f"http://{host}:{bound}/metrics")
    try:
        yield bound
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Collector:
    """What prometheus_client asks at every scrape."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def collect(self) -> Iterator[Family]:
        """The present numbers."""
        from prometheus_client.metrics_core import (  # noqa: PLC0415
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        for metric in self._source():
            name = PREFIX + metric.name
            if isinstance(metric, Distribution):
                yield HistogramMetricFamily(
                    name, metric.help, buckets=_cumulative(metric), sum_value=metric.histogram.sum
                )
                continue
            make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            if isinstance(metric.value, Mapping):
                family = make(name, metric.help, labels=[metric.label])
                for label, value in sorted(metric.value.items()):
                    family.add_metric([label], value)
                yield family
            else:
                yield make(name, metric.help, value=metric.value)


def _cumulative(metric: Distribution) -> list[tuple[str, float]]:
    histogram, below = metric.histogram, 0
    buckets: list[tuple[str, float]] = []
    for number, count in enumerate(list(histogram.counts)):
        below += count
        if number == len(histogram.bounds):
            buckets.append(("+Inf", below))
        elif number % metric.shown == 0:
            buckets.append((f"{histogram.bounds[number]:g}", below))
    return buckets
