"""What is as it is now, asked of others when somebody looks, as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from trioproxy.fanout import Hub
from trioproxy.telemetry.histogram import Histogram

BREAKER_STATES = ("closed", "open", "half-open")


@dataclass(frozen=True, slots=True)
class UpstreamFigures:
    """How an upstream fares. ``results`` are its calls so far, by what came of them; ``passed_on``
    those of them after whose failure another call was made."""

    name: str
    calls: int
    is_up: bool
    breaker: str
    results: Mapping[str, int]
    passed_on: int


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is asked of others when somebody looks. ``kept_answers`` tells how many were read again,
    how many are kept, and how many bytes they take."""

    connections: Callable[[], int]
    upstream_calls: Callable[[], int]
    upstreams: Callable[[], Sequence[UpstreamFigures]]
    kept_answers: Callable[[], tuple[int, int, int]]


class State(Collector):
    """What is as it is now."""

    def __init__(
        self, hub: Hub, gauges: Gauges, delivery_delay: Histogram, loop_lag: Histogram
    ) -> None:
        self._hub = hub
        self._gauges = gauges
        self._delivery_delay = delivery_delay
        self._loop_lag = loop_lag

    def collect(self) -> Iterator[Metric]:
        hub = self._hub
        here = [*hub.running, *hub.retained]
        calls = [generation for generation in here if not generation.is_replica]
        running = sum(generation.outcome is None for generation in calls)
        readers = sum(generation.readers for generation in here)
        for name, text, value in (
            ("generations_running", "Generations that have no outcome yet.", running),
            (
                "generations_retained",
                "Generations that ended and can be read.",
                len(calls) - running,
            ),
            ("subscribers", "Readers of all generations.", readers),
            ("transcript_bytes", "What all transcripts hold.", hub.held_bytes),
            ("open_connections", "Connections of clients.", self._gauges.connections()),
            ("upstream_calls", "Calls that are open.", self._gauges.upstream_calls()),
        ):
            yield GaugeMetricFamily(f"trioproxy_{name}", text, value)
        yield from _describe_upstreams(self._gauges.upstreams())
        hits, kept, kept_bytes = self._gauges.kept_answers()
        yield CounterMetricFamily(
            "trioproxy_cache_hits", "Calls that were not made, as their answer was kept.", hits
        )
        yield GaugeMetricFamily("trioproxy_cache_answers", "Answers that are kept.", kept)
        yield GaugeMetricFamily("trioproxy_cache_bytes", "What they take.", kept_bytes)
        for name, text, histogram in (
            (
                "delivery_delay_seconds",
                "From an event's coming to its being written, for each reader it was written to.",
                self._delivery_delay,
            ),
            (
                "event_loop_lag_seconds",
                "How much later than it wanted a task woke that woke ten times a second.",
                self._loop_lag,
            ),
        ):
            yield HistogramMetricFamily(
                f"trioproxy_{name}", text, buckets=histogram.cumulative, sum_value=histogram.sum
            )


def _describe_upstreams(upstreams: Sequence[UpstreamFigures]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "trioproxy_upstream_requests",
        "Calls of an upstream, by what came of them until the first event.",
        labels=["upstream", "result"],
    )
    fallbacks = CounterMetricFamily(
        "trioproxy_upstream_fallbacks",
        "Calls after whose failure another was made for the same request.",
        labels=["upstream"],
    )
    running = GaugeMetricFamily(
        "trioproxy_upstream_running", "Calls of an upstream that are open.", labels=["upstream"]
    )
    is_up = GaugeMetricFamily(
        "trioproxy_upstream_up",
        "Whether an upstream is well, where that is asked.",
        labels=["upstream"],
    )
    breaker = GaugeMetricFamily(
        "trioproxy_upstream_breaker",
        "1 for the state in which an upstream's breaker is.",
        labels=["upstream", "state"],
    )
    for each in upstreams:
        for result, number in each.results.items():
            requests.add_metric([each.name, result], number)
        fallbacks.add_metric([each.name], each.passed_on)
        running.add_metric([each.name], each.calls)
        is_up.add_metric([each.name], each.is_up)
        for state in BREAKER_STATES:
            breaker.add_metric([each.name, state], state == each.breaker)
    yield from (requests, fallbacks, running, is_up, breaker)
