"""Metrics: what a scrape is answered, and what percentiles are worth."""

from __future__ import annotations

import bisect
import math
import socket
import threading
from collections.abc import Iterator
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from pipeline import metrics
from pipeline.metrics import (
    EVENTS_BOUNDS,
    SECONDS_BOUNDS,
    SECONDS_SHOWN,
    Distribution,
    Histogram,
    Metric,
)
from pipeline.settings import SettingsError

HOST = "127.0.0.1"


def scraped(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample that is served there, by name and labels."""
    with urlopen(f"http://{HOST}:{port}/metrics", timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def some() -> Iterator[Metric | Distribution]:
    """One metric of each kind."""
    histogram = Histogram(SECONDS_BOUNDS)
    for value in (0.0005, 0.5, 0.5, 1e9):
        histogram.observe(value)
    yield Metric("eaten_things", "What was eaten", "counter", 3)
    yield Metric("hunger", "How much is wanted", "gauge", 1.5)
    yield Metric("kinds", "By kind", "counter", {'a"b\\c\n': 1, "d": 2}, "kind")
    yield Distribution("chewed_seconds", "How long it took", histogram, SECONDS_SHOWN)


def nothing() -> Iterator[Metric]:
    """A process with nothing to tell."""
    yield from ()


# --- percentiles


@given(
    st.lists(st.floats(0, SECONDS_BOUNDS[-1] * 2), min_size=1, max_size=200),
    st.sampled_from([0.0, 0.01, 0.5, 0.95, 0.99, 1.0]),
)
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], share: float) -> None:
    """However the values fall, a percentile is off by no more than the width of one bucket."""
    histogram = Histogram(SECONDS_BOUNDS)
    for value in values:
        histogram.observe(value)
    true = sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
    bucket = bisect.bisect_left(SECONDS_BOUNDS, true)
    found = histogram.quantile(share)
    assert found is not None
    if bucket == len(SECONDS_BOUNDS):
        assert found == SECONDS_BOUNDS[-1]
    else:
        low = SECONDS_BOUNDS[bucket - 1] if bucket else 0.0
        assert low <= found <= SECONDS_BOUNDS[bucket] * (1 + 1e-12)


def test_quantiles_never_cross() -> None:
    """The 95th percentile is no less than the median, and no more than the 99th."""
    histogram = Histogram(SECONDS_BOUNDS)
    for number in range(1, 1001):
        histogram.observe(number / 1000)
    p50, p95, p99 = (histogram.quantile(share) or 0.0 for share in (0.5, 0.95, 0.99))
    assert 0.45 < p50 < 0.55
    assert 0.9 < p95 < p99 < 1.1


def test_nothing_has_no_quantile() -> None:
    """A process that stored nothing has no median age; zero would be a lie."""
    assert Histogram(SECONDS_BOUNDS).quantile(0.5) is None


@given(st.lists(st.tuples(st.floats(0, 60_000), st.integers(1, 50)), max_size=30))
def test_a_value_that_stands_for_others_counts_as_they_would(
    seen: list[tuple[float, int]],
) -> None:
    """One entry's age taken for ten is ten ages: the same counts, and the same sum."""
    once, often = Histogram(EVENTS_BOUNDS), Histogram(EVENTS_BOUNDS)
    for value, times in seen:
        once.observe(value, times)
        for _ in range(times):
            often.observe(value)
    assert once.counts == often.counts
    assert once.sum == pytest.approx(often.sum)


# --- serving


def test_what_is_served_is_what_prometheus_reads() -> None:
    """Its own parser finds every number under the project's prefix, odd labels included."""
    with capture_logs(), metrics.served(HOST, 0, some) as port:
        assert port
        found = scraped(port)
    assert found["infamous_eaten_things_total", ()] == 3
    assert found["infamous_hunger", ()] == 1.5
    assert found["infamous_kinds_total", (("kind", 'a"b\\c\n'),)] == 1
    assert found["infamous_kinds_total", (("kind", "d"),)] == 2
    assert found["infamous_chewed_seconds_count", ()] == 4
    assert found["infamous_chewed_seconds_sum", ()] == pytest.approx(1e9 + 1.0005)
    assert found["infamous_chewed_seconds_bucket", (("le", "+Inf"),)] == 4
    assert any(name.startswith("process_") for name, _ in found)


def test_buckets_are_cumulative_and_few() -> None:
    """Each bucket holds those below it, too, and a histogram is some twenty lines, not a hundred."""
    with capture_logs(), metrics.served(HOST, 0, some) as port:
        assert port
        found = scraped(port)
    buckets = {
        float(labels[0][1]): value
        for (name, labels), value in found.items()
        if name == "infamous_chewed_seconds_bucket"
    }
    assert len(buckets) == len(SECONDS_BOUNDS) // SECONDS_SHOWN + 1
    assert buckets[0.001] == 1
    in_order = [buckets[bound] for bound in sorted(buckets)]
    assert in_order == sorted(in_order)
    for bound, below in buckets.items():
        assert below == sum(value <= bound for value in (0.0005, 0.5, 0.5, 1e9))


def test_each_scrape_is_told_the_numbers_of_its_moment() -> None:
    """What the loop counts after the start is told, without a call from the loop."""
    eaten = [0]
    source = lambda: iter([Metric("eaten", "So far", "counter", eaten[0])])  # noqa: E731
    with capture_logs(), metrics.served(HOST, 0, source) as port:
        assert port
        for number in (1, 5):
            eaten[0] = number
            assert scraped(port)["infamous_eaten_total", ()] == number


def test_without_a_port_nothing_listens() -> None:
    """Who named no port gets no thread and no open door."""
    threads = threading.active_count()
    with capture_logs() as logs, metrics.served(HOST, None, nothing) as port:
        assert port is None
        assert threading.active_count() == threads
    assert logs == []


def test_the_port_is_told_and_given_back() -> None:
    """Whoever asked for any free port reads in the log which it was; afterwards nobody listens there."""
    threads = threading.active_count()
    with capture_logs() as logs, metrics.served(HOST, 0, nothing) as port:
        assert logs[0]["url"] == f"http://{HOST}:{port}/metrics"
        assert threading.active_count() > threads
    assert threading.active_count() == threads
    with pytest.raises(URLError):
        urlopen(f"http://{HOST}:{port}/metrics", timeout=5)
    with capture_logs(), metrics.served(HOST, port, nothing) as again:
        assert again == port


def test_it_closes_under_a_scrape_that_never_ends() -> None:
    """Somebody who connects and says nothing does not keep a process from stopping."""
    with socket.socket() as silent, capture_logs(), metrics.served(HOST, 0, nothing) as port:
        silent.connect((HOST, port))
        assert port
        scraped(port)


@pytest.mark.parametrize(
    ("host", "words"), [(HOST, "it is taken"), ("203.0.113.1", "annot assign")]
)
def test_a_port_that_cannot_be_had_gets_a_sentence(host: str, words: str) -> None:
    """It names the setting, says why, and what to do instead."""
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(SettingsError, match=words) as caught,
            metrics.served(host, port, nothing),
        ):
            pass
    sentence = str(caught.value)
    assert sentence.startswith(f"METRICS_PORT={port} ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
